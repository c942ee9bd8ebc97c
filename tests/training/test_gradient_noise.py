"""Noise to signal of the gradient, against vectors of known mean and variance, and on a model."""

import jax
import jax.numpy as jnp
import numpy as np
import tiny
import toy

from vdm import parallel, weightings
from vdm.data import Arrays
from vdm.training.gradient_noise import gradient_noise, noise_to_signal
from vdm.training.objective import Objective


def test_noise_to_signal_is_unbiased_in_both_parts() -> None:
    """Vectors of mean (1, 2) and variance 3 in each of two dimensions: 6/5, within its error over replicates."""
    rng = np.random.default_rng(0)
    vectors = np.array([1.0, 2.0]) + np.sqrt(3) * rng.normal(size=(400, 500, 2))
    ratios = [noise_to_signal(np.sum(v.sum(axis=0) ** 2), np.sum(v**2), 500) for v in vectors]
    stderr = np.std(ratios) / np.sqrt(len(ratios))
    # The ratio of unbiased parts is off by O(1/500) of itself.
    assert abs(np.mean(ratios) - 6 / 5) < 4 * stderr + 6 / 5 * 5 / 500
    sample = vectors[0]
    mean = sample.mean(axis=0)
    var = sample.var(axis=0, ddof=1).sum()
    np.testing.assert_allclose(ratios[0], var / (np.sum(mean**2) - var / 500), rtol=1e-9)


def test_no_signal_above_the_noise_is_infinite() -> None:
    assert noise_to_signal(square_of_sum=1.0, sum_of_squares=10.0, num=10) == np.inf


def test_of_a_model_it_falls_with_the_batch_and_ignores_a_factor() -> None:
    """A batch four times as large has a quarter of the noise, and w and 10 w the same ratio."""
    model = tiny.model()
    variables, source = tiny.variables(model), Arrays({"image": tiny.images(64)})
    mesh, key = parallel.make_mesh(1), jax.random.key(0)

    def noise(weighting, batch_size: int) -> float:
        objective = Objective(weighting, stratified=False)
        return gradient_noise(model, objective, mesh, variables, {}, source, key, batch_size, 24)

    small, large = noise(weightings.elbo(), 4), noise(weightings.elbo(), 16)
    # Chi-square errors of 24 draws a batch size; exact would be 4.
    assert 2 < small / large < 8
    ten = weightings.Weighting("ten", lambda lam: 10 * weightings.elbo().weight(lam), monotone=True)
    # Reconstruction and prior have no gradient in the network.
    np.testing.assert_allclose(noise(ten, 16), large, rtol=1e-3)


def test_of_a_constant_it_is_one_over_the_numbers_that_a_batch_averages() -> None:
    """ε̂ = c = 1 has the gradient γ' (1 − mean of ε)/log 2: noise to signal is the variance of the mean, 1/(4 · 16).

    All images are the same: whatever differs between batches comes from their keys.
    """
    model = toy.model(toy.Constant())
    variables, source = model.init(jax.random.key(0)), Arrays({"image": jnp.zeros((8, *toy.SHAPE), jnp.uint8)})
    rest = (parallel.make_mesh(1), variables, {}, source, jax.random.key(1))
    noise = gradient_noise(model, Objective(), *rest, batch_size=4, num=300)
    # A variance of 300 normal numbers has a relative error of 8 %.
    np.testing.assert_allclose(noise, 1 / 64, rtol=4 * 0.08)
