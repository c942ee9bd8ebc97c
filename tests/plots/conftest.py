"""Figures as they are before they become pixels."""

import pytest
from matplotlib.figure import Figure


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
