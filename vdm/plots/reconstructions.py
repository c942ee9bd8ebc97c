"""Pictures of reconstructions and interpolations by a model with latents, for images or vectors."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from vdm.plots import images, vectors
from vdm.plots.samples import is_image

ROWS = ("test image", "reconstruction")


def reconstructions(
    given: Float[np.ndarray, "num *data"], again: Float[np.ndarray, "num *data"], path: Path, caption: str = ""
) -> None:
    """Write one PNG: images above their reconstructions, or vectors beside theirs.

    Image values are in [−1, 1]. Raises ValueError for empty arrays.
    """
    if is_image(given.shape[1:]):
        images.strip(np.stack([given, again], axis=1), path, caption, rows=ROWS)
    else:
        vectors.scatter(again, path, given, caption, titles=("test data", "reconstructions"))


def ways(frames: Float[np.ndarray, "frames pairs *data"], stem: Path, caption: str, test: np.ndarray) -> list[Path]:
    """Write interpolations between pairs, one column per frame, to STEM.png and, for images, STEM.gif; return them.

    `test` are data vectors, which are drawn beside `frames` if those are vectors rather than images.
    """
    strip, animation = (stem.with_name(stem.name + suffix) for suffix in (".png", ".gif"))
    weights = [f"{weight:.3g}" for weight in np.linspace(0, 1, len(frames))]
    if not is_image(frames.shape[2:]):
        vectors.strip(frames, strip, test, caption, weights)
        return [strip]
    arrow = images.Arrow("one draw", "another")
    images.strip(frames, strip, caption, columns=weights, arrow=arrow)
    images.animation(frames, animation, caption, [f"weight {weight}" for weight in weights], arrow)
    return [strip, animation]
