"""Precision, recall, density and coverage: nested balls, their definitions, each image left out, rounding."""

import numpy as np
import pytest

from vdm import parts
from vdm.evaluation.metrics import Reference, distances
from vdm.evaluation.metrics.manifold import Manifold
from vdm.evaluation.statistics import jackknife

KINDS = ("precision", "recall", "density", "coverage")


def draws(num: int, seed: int, scale: float = 1.0, shift: float = 0.0, dims: int = 3) -> np.ndarray:
    return (shift + scale * np.random.default_rng(seed).normal(size=(num, dims))).astype(np.float32)


def value(kind: str, x: np.ndarray, real: np.ndarray, k: int) -> float:
    return Manifold(kind, k, Reference.of(real)).estimate(x).value


def directly(kind: str, x: np.ndarray, real: np.ndarray, k: int) -> float:
    """By all differences, in float64."""

    def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a[:, None].astype(np.float64) - b[None], axis=-1)

    if kind == "recall":
        return float(np.mean((apart(real, x) <= np.sort(apart(x, x))[:, k]).any(axis=1)))
    inside = apart(x, real) <= np.sort(apart(real, real))[:, k]
    if kind == "precision":
        return float(np.mean(inside.any(axis=1)))
    return float(inside.sum() / (k * len(x))) if kind == "density" else float(np.mean(inside.any(axis=0)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 3])
def test_they_are_their_definitions_without_each_image_too(kind: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "BLOCK", 16)
    x, real = draws(24, 1, 0.8, 1.0), draws(40, 0)
    estimate = Manifold(kind, k, Reference.of(real)).estimate(x)
    assert estimate.value == pytest.approx(directly(kind, x, real, k), abs=1e-12)
    assert estimate.value > 0.05
    left_out = [directly(kind, np.delete(x, i, axis=0), real, k) for i in range(len(x))]
    np.testing.assert_allclose(estimate.without, left_out, atol=1e-12)
    assert len(set(left_out)) > 1


def test_nested_intervals_exactly() -> None:
    """Real images at 0 … 99, samples at 10.5 … 19.5: with k = 1 all radii are 1: 10 … 20 of the real ones are near."""
    real = np.arange(100, dtype=np.float32)[:, None]
    samples = np.arange(10.5, 20, dtype=np.float32)[:, None]
    found = {kind: value(kind, samples, real, 1) for kind in KINDS}
    assert found == {"precision": 1.0, "recall": 0.11, "density": 2.0, "coverage": 0.11}
    # The other way about: of real images at 10.5 … 19.5 all are near samples, and 10 … 20 of the samples near them.
    assert value("precision", real, samples, 1) == 0.11
    assert value("recall", real, samples, 1) == 1


def test_nested_balls() -> None:
    """Samples uniform in a ball of half the radius: all are among the real images, and these an eighth among them."""
    rng = np.random.default_rng(0)

    def ball(num: int, radius: float) -> np.ndarray:
        directions = rng.normal(size=(num, 3))
        lengths = radius * rng.uniform(size=(num, 1)) ** (1 / 3)
        return (directions / np.linalg.norm(directions, axis=1, keepdims=True) * lengths).astype(np.float32)

    inner, outer = ball(800, 0.5), ball(800, 1.0)
    assert value("precision", inner, outer, 3) > 0.96
    # Balls at the edge reach over it, by a distance that is itself about 0.08 of the radius.
    assert 0.1 < value("recall", inner, outer, 3) < 0.125 * (1 + 0.08 / 0.5) ** 3 + 0.04
    assert value("precision", outer, inner, 3) < 0.25
    assert value("recall", outer, inner, 3) > 0.96
    # An eighth of the real images have eight times their share of samples, all others none.
    assert value("density", inner, outer, 5) == pytest.approx(1, abs=0.1)
    assert 0.1 < value("coverage", inner, outer, 5) < 0.35


@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_identical_sets_have_all(shift: float) -> None:
    x = draws(30, 0, shift=shift)
    for kind in ("precision", "recall", "coverage"):
        assert value(kind, x, x, 3) == 1
    # Each is in its own ball and, on average, in k others.
    assert value("density", x, x, 3) == pytest.approx(4 / 3)


def test_constant_features_and_copies_are_in_each_others_balls_of_radius_0() -> None:
    same = np.full((20, 5), 0.1, np.float32)
    for kind in ("precision", "recall", "coverage"):
        assert value(kind, same, same, 3) == 1
        assert value(kind, same + 1, same, 3) == 0
    assert value("density", same, same, 4) == 20 / 4
    # Each real image five times over: k = 3 neighbours are at distance 0, whatever is rounded.
    several = np.repeat(draws(8, 0, 10.0, dims=64), 5, axis=0)
    assert value("precision", several[::5], several, 3) == 1
    assert value("precision", several[::5] + np.float32(0.1), several, 3) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_standard_error_is_that_of_replicates_or_more(kind: str) -> None:
    """The jackknife is never too small on average (Efron & Stein 1981); of statistics of neighbours it is not exact."""
    repeats = 100
    measure = Manifold(kind, 3, Reference.of(draws(120, 0)))
    estimates = [measure.estimate(draws(100, seed, 0.9, 0.3)) for seed in range(1, repeats + 1)]
    spread = np.std([e.value for e in estimates], ddof=1)
    stated = np.sqrt(np.mean([jackknife(e.without) ** 2 for e in estimates]))
    assert 1 - 3 / np.sqrt(2 * repeats) < stated / spread < 1.6 + 3 / np.sqrt(2 * repeats)


def test_real_images_score_what_the_noise_floor_says() -> None:
    for kind in KINDS:
        measure = parts.make("metric", kind).prepare(Reference.of(draws(400, 0)))
        fresh = Manifold(kind, measure.k, Reference.of(draws(300, 2))).estimate(draws(100, 1))
        assert measure.noise_floor(100) == pytest.approx(fresh.value, abs=0.15)
        assert measure.cautions(400) == ()
        assert measure.cautions(100)[0].startswith("for 100 images and 400 real ones")


def test_too_few_images() -> None:
    with pytest.raises(ValueError, match="real images: 3 of them; must be 4 or more"):
        Manifold("recall", 3, Reference.of(draws(3, 0)))
    for kind, least in (("precision", 3), ("recall", 5)):
        measure = Manifold(kind, 3, Reference.of(draws(9, 0)))
        assert np.isfinite(measure.estimate(draws(least, 1)).stderr)
        with pytest.raises(ValueError, match=f"images: {least - 1} of them; must be {least} or more"):
            measure.estimate(draws(least - 1, 1))
    with pytest.raises(ValueError, match="neighbours=0: must be 1 or more"):
        parts.make("metric", "recall(0)")
