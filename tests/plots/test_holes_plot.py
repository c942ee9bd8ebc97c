"""The hole problem as drawn: what the rows hold, where holes are shaded, and what the texts say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from plane import quadrature

from plots.picture import assert_is_picture
from vdm.evaluation.holes import holes
from vdm.plots import holes as figures
from vdm.plots.holes import Panel, aggregate, panel
from vdm.predecessors.normal import Normal
from vdm.predecessors.vae import vae

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(0, 0.4, (60, 2)).astype(np.float32)
MODEL = vae(latents=2, width=4, depth=1, shape=(2,), levels=0)


def made(posterior: Normal, name: str = "a model") -> Panel:
    return Panel(name, X, X + 0.1, X[::-1], posterior, holes(posterior, KEY, 200))


@pytest.fixture(scope="module")
def two():
    narrow = Normal(jnp.array([[1.0, 0.0], [-1.0, 0.5]]), jnp.full((2, 2), -1.0))
    return [made(narrow, "narrow"), made(Normal(jnp.zeros((1, 2)), jnp.zeros((1, 2))), "the prior")]


def test_a_row_has_data_density_and_holes(tmp_path, two, drawn):
    axes = drawn(aggregate, tmp_path, two)
    assert len(axes) == 6
    assert [axes[0].get_title(), axes[3].get_title()] == ["narrow", "the prior"]
    shown = [points.get_offsets() for points in axes[0].collections]
    for found, wanted in zip(shown, (two[0].data, two[0].reconstructions, two[0].samples), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    legend = axes[0].figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["data", "reconstructions", "samples"]
    assert_is_picture(tmp_path / "plot.png")


def test_density_and_holes_lie_where_they_are(tmp_path, two, drawn):
    """Bright pixels by place: the first latent goes across, the second up."""
    _, density, of_holes, _, flat, none = drawn(aggregate, tmp_path, two)
    shade = np.asarray(density.images[0].get_array())
    up, across = np.unravel_index(shade.argmax(), shade.shape)
    middles = figures.EXTENT * ((2 * np.arange(figures.CELLS) + 1) / figures.CELLS - 1)
    peak = np.array([middles[across], middles[up]])
    assert np.min(np.abs(peak - np.array([[1.0, 0.0], [-1.0, 0.5]])).max(axis=1)) < 0.05
    assert density.images[0].origin == "lower"
    # What is shaded has the prior's mass that is said to be in holes.
    depth = np.asarray(of_holes.images[0].get_array())
    p = np.exp(-0.5 * (middles[:, None] ** 2 + middles[None] ** 2))
    shares = quadrature(two[0].posterior).below
    for below, share in enumerate(shares):
        assert np.sum(p * (depth <= below)) / p.sum() == pytest.approx(share, abs=0.02)
    assert f"{two[0].measured.below[0].share:.1%}" in of_holes.get_title()
    assert np.all(np.asarray(none.images[0].get_array()) == 2)
    radii = sorted(circle.radius for circle in flat.patches)
    np.testing.assert_allclose(1 - np.exp(-0.5 * np.square(radii)), (0.5, 0.9, 0.99))


def test_a_panel_is_of_the_model(monkeypatch):
    monkeypatch.setattr(figures, "SHOWN", 20)
    monkeypatch.setattr(figures, "POINTS", 40)
    variables = tiny.perturbed(MODEL.init(KEY))
    found = panel("one", MODEL, variables, X, KEY)
    np.testing.assert_array_equal(found.data, X[:20])
    wanted = MODEL.posterior(variables, jnp.asarray(X[:40]))
    np.testing.assert_allclose(found.posterior.mean, wanted.mean, rtol=1e-4, atol=1e-6)
    assert found.reconstructions.shape == found.samples.shape == (20, 2)
    assert found.measured.num_points == 40


@pytest.mark.parametrize("model", [vae(latents=3, width=4, shape=(2,)), vae(latents=2, width=4, shape=(3,))])
def test_other_models_are_refused(model):
    with pytest.raises(ValueError, match=r"^data of shape .* latents; must be points, \(2,\), and 2 latents$"):
        panel("one", model, {}, X, KEY)
