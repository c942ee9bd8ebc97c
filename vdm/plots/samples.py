"""Pictures of samples of any kind: a grid of images, or vectors as points beside those of the data."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vdm.data.dataset import Source, examples
from vdm.data.selection import selected
from vdm.plots import images, vectors
from vdm.plots.captioned import captioned

Data = Callable[[], Source]
"""Function that reads the test split; it is called only if the data are drawn."""


def is_image(shape: Sequence[int]) -> bool:
    """Tell whether data of this shape are drawn as images, i.e. have shape (height, width, channels)."""
    return len(shape) == 3


def samples(
    drawn: np.ndarray,
    path: Path,
    levels: int,
    data: Data,
    caption: str = "",
    rows: Sequence[str] = (),
    names: Sequence[str] = (),
) -> None:
    """Write one PNG of samples (n, *shape) by `grid` or `scatter`; sample k belongs to `rows[k % len(rows)]`.

    Images with individual `names` and no rows are drawn by `captioned`, unless all names are the same.
    """
    if is_image(drawn.shape[1:]) and len(set(names)) > 1 and not rows:
        captioned(drawn, path, levels, names, caption)
    elif is_image(drawn.shape[1:]):
        images.grid(drawn, path, levels, caption, rows)
    else:
        vectors.scatter(drawn, path, _points(data), caption, rows)


def trajectory(
    frames: np.ndarray, stem: Path, data: Data, caption: str = "", names: Sequence[str] = (), rows: int = 8
) -> list[Path]:
    """Write estimates x̂ (kept, n, *shape), noisiest first, to STEM.png and, for images, STEM.gif; return the files.

    STEM.png is a strip, which shows the first `rows` images only.
    """
    strip, animation = (stem.with_name(stem.name + suffix) for suffix in (".png", ".gif"))
    if not is_image(frames.shape[2:]):
        vectors.strip(frames, strip, _points(data), caption, names)
        return [strip]
    images.strip(frames[:, :rows], strip, caption, columns=names, arrow=images.TO_DATA)
    images.animation(frames, animation, caption, names, images.TO_DATA)
    return [strip, animation]


def _points(data: Data) -> np.ndarray:
    source = data()
    return examples(source, selected(len(source), vectors.MOST_POINTS))["image"]
