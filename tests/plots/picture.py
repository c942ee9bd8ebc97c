"""What a written figure has to be at the least, and figures as they are before they become pixels."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image


def assert_is_picture(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) > 300
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


@pytest.fixture
def drawn(monkeypatch):
    """(plot, folder, *arguments) -> the panels of the figure that it writes."""
    figures = []
    savefig = Figure.savefig

    def keep(figure, file, dpi):
        figures.append(figure)
        savefig(figure, file, dpi=dpi)

    monkeypatch.setattr(Figure, "savefig", keep)

    def draw(plot, folder, *arguments):
        plot(folder / "plot.png", *arguments)
        return figures[-1].axes

    return draw
