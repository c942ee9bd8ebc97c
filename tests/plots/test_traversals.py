"""Traversals: one latent moves and the others stay; the most active are found; rows by their names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from PIL import Image

from vdm.plots import images as pictures
from vdm.plots.traversals import REACH, along, most_active, traversals
from vdm.predecessors.vae import vae

KEY = jax.random.key(0)
SHAPE = (4, 4, 1)
MODEL = vae(latents=3, width=8, depth=1, shape=SHAPE, levels=17)
IMAGES = np.asarray(tiny.images(30, SHAPE))


@pytest.fixture(scope="module")
def variables():
    return tiny.perturbed(MODEL.init(KEY))


def test_one_latent_moves_in_each_row(variables):
    frames = along(MODEL, variables, IMAGES[:1], [2, 0], 5)
    assert frames.shape == (5, 2, *SHAPE)
    mean = np.asarray(MODEL.posterior(variables, jnp.asarray(IMAGES[:1])).mean)[0]
    for row, latent in enumerate([2, 0]):
        for frame, value in enumerate(np.linspace(-REACH, REACH, 5)):
            z = mean.copy()
            z[latent] = value
            wanted = MODEL.decode(variables, [jnp.asarray(z[None])]).center[0]
            np.testing.assert_allclose(frames[frame, row], wanted, rtol=1e-4, atol=1e-5)


def test_the_most_active_latents_come_first(variables):
    mean = np.asarray(MODEL.posterior(variables, jnp.asarray(IMAGES)).mean)
    wanted = sorted(range(3), key=lambda k: -mean[:, k].var())
    assert most_active(MODEL, variables, IMAGES, KEY, 2) == wanted[:2]
    assert most_active(MODEL, variables, IMAGES, KEY, 9) == wanted


def test_rows_are_drawn_one_below_the_other(tmp_path, monkeypatch):
    """Grey values tell frames apart; the pairs come last, with names of their own."""
    said = {}
    framed = pictures.framed

    def keep(picture, rows, columns, caption, names, row_names, arrow):
        said.update(shape=(rows, columns), caption=caption, rows=list(row_names))
        return framed(picture, rows, columns, caption, names, row_names, arrow)

    monkeypatch.setattr(pictures, "framed", keep)
    frames = np.zeros((3, 2, *SHAPE), np.float32)
    between = np.ones((3, 1, *SHAPE), np.float32)
    traversals(tmp_path / "plot.png", frames, ["latent 3", "latent 1"], between, "of one run")
    assert said == {"shape": (3, 3), "caption": "of one run", "rows": ["latent 3", "latent 1", "DDIM, pair 1"]}
    with Image.open(tmp_path / "plot.png") as picture:
        values = np.asarray(picture)
    # A third of the tiles is white, below the grey ones.
    grey = np.nonzero(np.any(values == 128, axis=1))[0]
    assert 2 * 96 < len(grey) < 2 * 96 + 8
    traversals(tmp_path / "alone.png", frames, ["a", "b"])
    assert said["rows"] == ["a", "b"]


def test_frames_of_other_images_are_refused(tmp_path, unannotated):
    frames = np.zeros((3, 2, *SHAPE), np.float32)
    for other in (np.zeros((4, 1, *SHAPE), np.float32), np.zeros((3, 1, 8, 8, 1), np.float32)):
        with pytest.raises(ValueError, match=r"^between has shape"):
            traversals(tmp_path / "plot.png", frames, ["a", "b"], other)
    assert not list(tmp_path.iterdir())
