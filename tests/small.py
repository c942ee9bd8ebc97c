"""A figure as a few pixels, which are others where what it shows is another."""

import hashlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image


def savefig(self: Figure, file: BinaryIO, **kwargs: Any) -> None:
    """In place of `Figure.savefig`."""
    digest = hashlib.sha256()
    for part in shown(self):
        digest.update(part)
    Image.fromarray(np.frombuffer(digest.digest(), np.uint8).reshape(4, 8)).save(file, format="PNG")


def shown(figure: Figure) -> Iterator[bytes]:
    """Words, numbers and colours."""
    for axes in figure.axes:
        legend = axes.get_legend()
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts, *(legend.texts if legend else ())):
            yield text.get_text().encode()
        for line in axes.lines:
            yield np.asarray(line.get_xydata(), np.float64).tobytes() + repr(line.get_color()).encode()
        for image in axes.images:
            yield np.ma.filled(image.get_array(), 0).tobytes()
        for collection in axes.collections:
            yield np.ma.filled(collection.get_offsets(), 0).tobytes() + collection.get_facecolor().tobytes()
            for path in collection.get_paths():
                yield path.vertices.tobytes()
