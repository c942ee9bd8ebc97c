"""Evaluation against a model whose bound is known: a fresh network predicts ε̂ = z, so every term is a quadrature."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm import model as model_lib
from vdm import parallel
from vdm.config import Config, DataConfig, NetworkConfig, ScheduleConfig
from vdm.evaluation.likelihood import Evaluation, Evaluator, summarize
from vdm.model import Model, Variables

LEVELS, SHAPE, NUM = 17, (4, 4, 1), 13
DIMS = 16


@functools.cache
def fresh(name: str) -> tuple[Model, Variables]:
    config = Config(
        data=DataConfig(shape=SHAPE, levels=LEVELS),
        network=NetworkConfig(channels=4, depth=1),
        schedule=ScheduleConfig(name=name, gamma_min=-7.0, gamma_max=4.0, hidden=8),
    )
    model = model_lib.from_config(config)
    return model, model.init(jax.random.key(0))


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, LEVELS, (NUM, *SHAPE)).astype(np.uint8)


def evaluate(name: str, draws: int, batch_size: int, num_devices: int = 1, max_images: int = 0) -> Evaluation:
    model, variables = fresh(name)
    mesh = parallel.make_mesh(num_devices)
    return Evaluator(model, mesh, batch_size)(variables, images(), jax.random.key(7), draws, max_images)


def exact_terms() -> np.ndarray:
    """(reconstruction, prior, diffusion) in nats of each image, float64, for ε̂ = z."""
    x = ((2.0 * images().reshape(NUM, DIMS) + 1) / LEVELS) - 1
    gamma_0, gamma_1 = -7.0, 4.0
    # ½ ∫ E‖ε − z_γ‖² dγ with z = αx + σε: E‖·‖² = D (1 − σ)² + α² ‖x‖².
    gamma = np.linspace(gamma_0, gamma_1, 20_001)
    var = 1 / (1 + np.exp(-gamma))
    integrand = DIMS * (1 - np.sqrt(var)) ** 2 + (1 - var) * np.square(x).sum(1)[:, None]
    diffusion = 0.5 * np.trapezoid(integrand, gamma, axis=1)
    var_1 = 1 / (1 + np.exp(-gamma_1))
    prior = 0.5 * ((1 - var_1) * x**2 + var_1 - 1 - np.log(var_1)).sum(1)
    # −E log p(x|z₀) over z₀/α₀ = x + (σ₀/α₀) ε, by quadrature over ε.
    eps = np.linspace(-8, 8, 2001)
    density = np.exp(-0.5 * eps**2) / np.sqrt(2 * np.pi)
    std = np.exp(gamma_0 / 2)
    values = (2.0 * np.arange(LEVELS) + 1) / LEVELS - 1
    logits = -0.5 * ((x[..., None, None] + std * eps[:, None] - values) / std) ** 2
    log_prob = -0.5 * eps**2 - np.log(np.exp(logits).sum(-1))
    reconstruction = -np.trapezoid(log_prob * density, eps, axis=-1).sum(1)
    return np.stack([reconstruction, prior, diffusion])


@pytest.mark.parametrize("name", ["linear", "cosine", "learned_monotone"])
def test_every_term_is_the_exact_one(name: str) -> None:
    """Mean over many draws against quadrature; the same bound for every schedule with these end points."""
    draws = 2000
    result = evaluate(name, draws, batch_size=NUM)
    exact = exact_terms().mean(axis=1) / (DIMS * np.log(2))
    # One draw's spread over (ε, t) is below 1 bit/dim in each term for these images; 13 images × 2000 draws.
    tolerance = 4 / np.sqrt(NUM * draws)
    measured = np.array([result.reconstruction, result.prior, result.diffusion])
    np.testing.assert_allclose(measured, exact, atol=tolerance)
    # The prior has no noise: float32 alone.
    np.testing.assert_allclose(result.prior, exact[1], rtol=1e-5)
    np.testing.assert_allclose(result.total, measured.sum(), rtol=1e-12)


def test_every_image_counts_once_whatever_the_batch() -> None:
    """13 images in batches of 13, of 4 (padded by 3), and of 5 rounded up to eight devices (padded by 3)."""
    whole = evaluate("linear", 3, batch_size=NUM)
    assert (whole.num_images, whole.num_draws) == (NUM, 3)
    for batch_size, devices in ((4, 1), (5, 8)):
        part = evaluate("linear", 3, batch_size, devices)
        assert part.num_images == NUM
        for a, b in zip(dataclasses.astuple(part), dataclasses.astuple(whole), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)  # float32 sums in another order


def test_first_images_only() -> None:
    assert evaluate("linear", 1, batch_size=4, max_images=6).num_images == 6


def test_standard_error_is_that_of_independent_images() -> None:
    nats = np.random.default_rng(1).normal(size=(3, 50)) * DIMS * np.log(2)
    result = summarize(nats, DIMS, 1)
    totals = nats.sum(0) / (DIMS * np.log(2))
    np.testing.assert_allclose(result.stderr, np.sqrt(((totals - totals.mean()) ** 2).sum() / 49 / 50))
    assert result.to_dict()["bits_per_dim"]["total"] == result.total


def test_standard_error_covers_the_spread_of_estimates() -> None:
    """With one image repeated, the standard error is that of the noise: the z-scores of 40 estimates are about 1."""
    model, variables = fresh("linear")
    source = np.repeat(images()[:1], 64, axis=0)
    evaluator = Evaluator(model, parallel.make_mesh(1), 64)
    results = [evaluator(variables, source, jax.random.key(seed), 1) for seed in range(40)]
    exact = exact_terms()[:, 0].sum() / (DIMS * np.log(2))
    scores = np.array([(r.total - exact) / r.stderr for r in results])
    # The mean square of 40 standard normal scores has a standard error of √(2/40) ≈ 0.22.
    assert 0.3 < np.mean(scores**2) < 2.0


def test_noise_differs_between_images_and_draws() -> None:
    from vdm.evaluation.likelihood import image_draws

    keys = jax.random.split(jax.random.key(0), 3)
    draws = [image_draws(keys, jnp.zeros(3), jnp.asarray(d), 4, SHAPE) for d in range(4)]
    noise = np.stack([np.stack([d.eps, d.eps_0]) for d in draws]).reshape(-1, DIMS)
    correlation = np.corrcoef(noise) - np.eye(len(noise))
    assert np.abs(correlation).max() < 0.9  # 24 vectors of 16 normals; equal ones would have 1
    np.testing.assert_allclose([d.t[0] for d in draws], [0, 0.25, 0.5, 0.75])
