"""The ODE's bound on a set of images: against closed forms for data of known probabilities, and image by image."""

import functools
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from scipy.special import logsumexp

from vdm import model as model_lib
from vdm import oracles, parallel, probability_flow
from vdm.config import Config, DataConfig, NetworkConfig, ScheduleConfig
from vdm.data import Arrays, selected
from vdm.errors import InputError
from vdm.evaluation.bound import Estimates, Evaluator, image_noise
from vdm.evaluation.ode import (
    DEFAULT_PROBES,
    EXACT_DIMS,
    OdeEstimates,
    OdeEvaluation,
    OdeEvaluator,
    UnsolvedError,
    _with_rows_of,
    evaluate_ode,
    to_ode_evaluation,
)
from vdm.model import Model

LEVELS, SHAPE, DIMS = 5, (2, 2, 1), 4
# At γ₁ = 16, α = 3e-4: the exact marginal and N(0, 1) differ by a few 1e-4 nats.
GAMMA_1 = 16.0
KINDS = np.array([[0, 1, 3, 4], [0, 2, 3, 4], [4, 4, 0, 1], [2, 2, 1, 3]])
PROBABILITIES = np.array([0.4, 0.3, 0.2, 0.1])
# 13 images, batches of 4 or 5: the last has padding.
WHICH = np.array([0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 3, 2, 1])
KEY = jax.random.key(7)


@dataclass(frozen=True)
class ExactModel(Model):
    """A model whose network is the exact denoiser of `KINDS`, times its one variable."""

    def denoiser(self, variables: Any, condition: Any = None, dropout_key: Any = None) -> Any:
        exact = oracles.mixture(PROBABILITIES, ((2 * KINDS + 1) / LEVELS - 1).reshape(-1, *SHAPE), np.zeros(4)).denoise
        return lambda z, gamma: variables["network"]["gain"] * exact(z, gamma)


@functools.cache
def exact_model(gamma_0: float) -> ExactModel:
    config = Config(
        data=DataConfig(shape=SHAPE, levels=LEVELS),
        network=NetworkConfig(channels=4, depth=1),
        schedule=ScheduleConfig(name="linear", gamma_min=gamma_0, gamma_max=GAMMA_1),
    )
    return ExactModel(**vars(model_lib.from_config(config)))


def variables(gain: float = 1.0) -> dict[str, Any]:
    return {"network": {"gain": jnp.float32(gain)}, "schedule": {}, "likelihood": {}}


def images(which: np.ndarray = WHICH) -> np.ndarray:
    return KINDS[which].reshape(-1, *SHAPE).astype(np.uint8)


def source(which: np.ndarray = WHICH) -> Arrays:
    return Arrays({"image": images(which)})


@functools.cache
def evaluator(gamma_0: float = -3.0, num_devices: int = 1, batch_size: int = 5, probes: int = 0) -> OdeEvaluator:
    mesh = parallel.make_mesh(num_devices)
    return OdeEvaluator(exact_model(gamma_0), mesh, batch_size * (probes or DIMS), probes)


@functools.cache
def estimates(num_devices: int = 1, batch_size: int = 5, probes: int = 0) -> OdeEstimates:
    return evaluator(-3.0, num_devices, batch_size, probes)(variables(), source(), KEY, 3)


def noise(d: int, num: int) -> np.ndarray:
    """ε₀ of draw d of images 0 … num − 1."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.fold_in(KEY, 0), jnp.arange(num))
    return np.asarray(image_noise(keys, jnp.asarray(2 * d + 2), SHAPE))


def closed_form(d: int, which: np.ndarray, gamma_0: float) -> np.ndarray:
    """(reconstruction, latent, dequantization) of draw d in nats, (3, images), float64, for the exact denoiser."""
    eps = oracle.f64(noise(d, len(which))).reshape(-1, DIMS)
    codes, alpha, sigma = (2 * KINDS + 1) / LEVELS - 1, oracle.alpha(gamma_0), oracle.sigma(gamma_0)
    z_0 = alpha * codes[which] + sigma * eps
    constant = DIMS * np.log(sigma * np.sqrt(2 * np.pi))
    distance = np.square(z_0[:, None] - alpha * codes).sum(axis=2) / (2 * sigma**2)
    latent = constant - logsumexp(-distance, axis=1, b=PROBABILITIES)
    reconstruction = -oracle.decoder_log_prob(KINDS[which], z_0, gamma_0, LEVELS).sum(axis=1)
    return np.stack([reconstruction, latent, -0.5 * np.square(eps).sum(axis=1) - constant])


def test_every_draw_of_every_image_is_the_closed_form() -> None:
    """Terms of their own: each is that of the image in its place, with the noise of its index."""
    ours = estimates()
    assert ours.terms.shape == (3, 3, 13)
    assert ours.num_calls.shape == (3, 13)
    for d in range(3):
        # 4 dimensions at a few tolerances of 1e-4 each, and what is left of the data at γ₁.
        np.testing.assert_allclose(ours.terms[d], closed_form(d, WHICH, -3.0), rtol=0, atol=4e-3)
    assert np.abs(ours.terms[0] - ours.terms[1]).min() > 1e-6  # draws of their own


def test_it_is_gaussian_bound_image_by_image() -> None:
    """One call for all images of a draw, without batches, padding or a mesh."""
    model = exact_model(-3.0)
    denoise = model.denoiser(variables())
    bound = jax.jit(
        lambda eps: probability_flow.gaussian_bound(denoise, jnp.asarray(images()), eps, -3.0, GAMMA_1, LEVELS)
    )(jnp.asarray(noise(1, 13)))
    terms = np.stack([bound.reconstruction, bound.latent, bound.dequantization])
    # The same arithmetic, in another order at most; the steps may then differ a little.
    np.testing.assert_allclose(estimates().terms[1], terms, rtol=0, atol=1e-3)
    assert np.abs(estimates().num_calls[1] - bound.num_calls).max() <= 12


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 13), (8, 3)])
def test_every_image_counts_once_whatever_the_batch(devices: int, batch_size: int) -> None:
    """In one batch, and in batches of 3 rounded up to eight devices, of which the last holds 3 of padding."""
    part = estimates(devices, batch_size)
    np.testing.assert_allclose(part.terms, estimates().terms, rtol=0, atol=1e-3)
    assert np.abs(part.num_calls - estimates().num_calls).max() <= 12


def test_some_images_from_all_over() -> None:
    some = evaluator()(variables(), source(), KEY, 3, max_images=7)
    np.testing.assert_allclose(some.terms, estimates().terms[:, :, selected(13, 7)], rtol=0, atol=1e-5)


def test_probes_agree_with_the_exact_divergence() -> None:
    """Differences of many draws have mean 0; and each draw has probes of its own."""
    draws = 40
    exact, probed = (evaluator(probes=probes)(variables(), source(), KEY, draws).terms for probes in (0, 2))
    np.testing.assert_allclose(probed[:, [0, 2]], exact[:, [0, 2]], rtol=0, atol=1e-5)
    difference = (probed - exact)[:, 1]
    assert difference.std() > 0.05
    oracle.assert_mean(difference.ravel(), 0.0)
    # Were the probes those of the draw before, or of the image before, these would be near 1.
    for shifted in (np.roll(probed - exact, 1, axis=0), np.roll(probed - exact, 1, axis=2)):
        assert np.corrcoef(shifted[:, 1].ravel(), difference.ravel())[0, 1] < 0.5


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3])
def test_the_solvers_error_is_the_distance_to_the_closed_form(tolerance: float) -> None:
    """Of the images checked, and within a factor over all: of a distribution that no step of the solver fits."""
    rough = OdeEvaluator(exact_model(-8.0), parallel.make_mesh(1), 5 * DIMS, 0, tolerance)
    found = rough(variables(), source(), KEY, 1)
    exact = closed_form(0, WHICH, -8.0).sum(axis=0)
    errors = found.terms[0].sum(axis=0) - exact
    # Three batches, of which rows 0, 3; 1, 4; 2 are checked.
    checked = errors[[0, 6, 12, 3, 9]]
    # What is left at a tenth: up to half, roundings and the few 1e-4 nats of the data at γ₁.
    np.testing.assert_allclose(found.solver_errors, checked, rtol=0.5, atol=2e-3)
    rms = [np.sqrt(np.mean(np.square(each))) for each in (found.solver_errors, errors)]
    assert 1 / 3 < rms[0] / rms[1] < 3
    assert abs(errors.mean()) < 2 * rms[0]


@pytest.mark.parametrize(("num_batches", "indices"), [
    (1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 8, 16, 3, 11, 19, 6]), (16, [0, 15, 30, 45, 60, 75, 90])
])  # fmt: skip
def test_what_is_checked_are_rows_from_all_over(num_batches: int, indices: list[int]) -> None:
    """Seven rows a batch; a row stays in its place, with its entries and its index."""
    batches = [
        {"image": np.full((7, 2), n), "index": 7 * n + np.arange(7), "mask": np.ones(7, bool)}
        for n in range(num_batches)
    ]
    checked = batches[0]
    for n, batch in enumerate(batches):
        checked = _with_rows_of(checked, batch, n, num_batches)
    assert checked["index"].tolist() == indices
    np.testing.assert_array_equal(checked["image"], np.repeat(checked["index"][:, None] // 7, 2, axis=1))
    assert batches[0]["index"].tolist() == list(range(7))


def both(gamma_0: float, which: np.ndarray, num_draws: int) -> OdeEvaluation:
    return evaluate_ode(
        evaluator(gamma_0, 1, 5),
        variables(),
        source(which),
        KEY,
        num_draws=num_draws,
        variational_draws=400,
        batch_size=len(which),
    )


def test_the_mean_is_above_the_truth_and_close() -> None:
    """At σ₀ = 0.22, the decoder's bins of half-width 0.2: above −E log P by a gap; at σ₀ = 0.018 without one.

    The gap is E KL(q(x|z₀)‖p(x|z₀)), here by draws of z₀ in numpy. The variational bound has the same mean.
    """
    which = np.repeat(np.arange(4), [8, 6, 4, 2])
    unit = DIMS * np.log(2)
    truth = -np.sum(PROBABILITIES * np.log(PROBABILITIES)) / unit
    codes = (2 * KINDS + 1) / LEVELS - 1
    rng = np.random.default_rng(0)
    for gamma_0, num_draws in ((-3.0, 20), (-8.0, 2)):
        result = both(gamma_0, which, num_draws)
        alpha, sigma = oracle.alpha(gamma_0), oracle.sigma(gamma_0)
        k = rng.choice(4, 20_000, p=PROBABILITIES)
        z_0 = alpha * codes[k] + sigma * rng.normal(size=(len(k), DIMS))
        logs = np.log(PROBABILITIES) - np.square(z_0[:, None] - alpha * codes).sum(axis=2) / (2 * sigma**2)
        log_q = np.take_along_axis(logs, k[:, None], axis=1)[:, 0] - logsumexp(logs, axis=1)
        gap = (log_q - oracle.decoder_log_prob(KINDS[k], z_0, gamma_0, LEVELS).sum(axis=1)) / unit
        error = np.hypot(result.noise_stderr, gap.std() / np.sqrt(len(k)))
        # Solver: a few 1e-4 nats a dimension.
        assert abs(result.total - truth - gap.mean()) < 4 * error + 1e-3
        if gamma_0 == -3.0:
            assert gap.mean() > 0.05
            assert result.total > truth
            # All draws in one logarithm: above the truth as well, and below their mean.
            assert truth < result.importance_weighted < result.total
        else:
            np.testing.assert_allclose(result.total, truth, rtol=0, atol=1e-3)
        # Per image the two differ by noise of the variational bound's times, and by nothing else in the mean.
        assert abs(result.difference) < 4 * result.difference_stderr + 1e-3
        assert result.difference_stderr < 0.1


def test_for_another_denoiser_the_two_are_numbers_of_two_models() -> None:
    """ε̂ = 0.97 ε*: the variational bound can but rise in the mean; their difference is no longer noise."""
    evaluated = [
        evaluate_ode(evaluator(), variables(gain), source(), KEY, num_draws=2, variational_draws=40, batch_size=13)
        for gain in (1.0, 0.97)
    ]
    assert evaluated[1].variational.total > evaluated[0].variational.total
    assert abs(evaluated[1].difference - evaluated[0].difference) > 0.01


def test_both_bounds_share_the_noise_of_the_decoder() -> None:
    model = exact_model(-3.0)
    found = Evaluator(model, parallel.make_mesh(1), 13).estimates(variables(), source(), KEY, 3)
    np.testing.assert_allclose(found.terms[0, 0], estimates().terms[:, 0].mean(axis=0), rtol=1e-4, atol=1e-5)


def arrays() -> tuple[OdeEstimates, Estimates]:
    rng = np.random.default_rng(1)
    terms = rng.normal(size=(2, 3, 50)) * DIMS * np.log(2)
    variational = np.zeros((1, 3, 50))
    variational[0, 2] = rng.normal(size=50) * DIMS * np.log(2)
    by_time = np.zeros((1, 50, 32, 5), np.float32)
    by_time[:, :, 0, :3] = 1
    return OdeEstimates(terms, rng.integers(1, 100, (2, 50)), rng.normal(size=4)), Estimates(
        variational, by_time, 1, None, False
    )


def test_means_and_standard_errors() -> None:
    unit = DIMS * np.log(2)
    ode, variational = arrays()
    result = to_ode_evaluation(ode, variational, DIMS, 0, 1e-4)
    totals = ode.terms.sum(axis=1) / unit
    means = totals.mean(axis=0)
    np.testing.assert_allclose(result.total, totals.mean())
    np.testing.assert_allclose(
        [result.reconstruction, result.latent, result.dequantization], ode.terms.mean(axis=(0, 2)) / unit
    )
    np.testing.assert_allclose(result.stderr, np.sqrt(np.square(means - means.mean()).sum() / 49 / 50))
    # The mean of two draws has the variance (a − b)²/4, that of 50 images the sum by 50².
    np.testing.assert_allclose(result.noise_stderr, np.sqrt((np.diff(totals, axis=0) ** 2 / 4).sum()) / 50)
    differences = means - variational.terms[0, 2] / unit
    np.testing.assert_allclose(result.difference, differences.mean())
    np.testing.assert_allclose(result.difference_stderr, differences.std(ddof=1) / np.sqrt(50))
    weighted = -np.log(np.mean(np.exp(-ode.terms.sum(axis=1)), axis=0)).mean() / unit
    np.testing.assert_allclose(result.importance_weighted, weighted, rtol=1e-5)
    assert (result.mean_calls, result.max_calls) == (ode.num_calls.mean(), ode.num_calls.max())
    np.testing.assert_allclose(result.solver_error, np.sqrt(np.mean((ode.solver_errors / unit) ** 2)))
    record = result.to_dict()
    assert record["solver_error"] == {"bits_per_dim": result.solver_error, "num_images": 4}
    unknown = to_ode_evaluation(ode._replace(solver_errors=np.array([0.1, np.nan])), variational, DIMS, 0, 1e-4)
    assert unknown.solver_error is None
    assert record["bits_per_dim"]["total"] == result.total
    assert record["difference"] == {"mean": result.difference, "stderr": result.difference_stderr}
    assert record["variational"] == result.variational.to_dict()
    assert record["network_calls_per_draw"] == {"mean": result.mean_calls, "max": result.max_calls}
    assert record["stderr_over"] == "images"
    assert record["images"] == {"num": 50, "of": 50, "choice": "all"}
    grouped = to_ode_evaluation(ode, variational._replace(groups=np.arange(50) // 2), DIMS, 0, 1e-4)
    pairs = differences.reshape(25, 2).mean(axis=1)
    np.testing.assert_allclose(grouped.difference_stderr, pairs.std(ddof=1) / 5)
    assert grouped.to_dict()["stderr_over"] == "groups (25)"
    # exp of Hutchinson's estimate is biased: no such number.
    assert to_ode_evaluation(ode, variational, DIMS, 4, 1e-4).importance_weighted is None


def test_one_draw_of_one_image_has_no_errors() -> None:
    ode, variational = arrays()
    one = OdeEstimates(ode.terms[:1, :, :1], ode.num_calls[:1, :1], ode.solver_errors[:1])
    result = to_ode_evaluation(one, variational._replace(terms=variational.terms[:, :, :1]), DIMS, 0, 1e-4)
    assert result.stderr is result.noise_stderr is result.difference_stderr is result.importance_weighted is None
    assert str(result) == f"{result.total:.4f} bits/dim"


def test_what_is_not_solved_is_an_error_that_names_the_image() -> None:
    """A network that is NaN at one image, and too few steps for any."""

    @dataclass(frozen=True)
    class Broken(ExactModel):
        def denoiser(self, variables: Any, condition: Any = None, dropout_key: Any = None) -> Any:
            exact = super().denoiser(variables)
            # NaN where the third pixel is far up, as the odd image's alone is, before there is much noise.
            return lambda z, gamma: jnp.where(z[:, 1:, :1] > 0.6, jnp.nan, exact(z, gamma))

    model = Broken(**vars(exact_model(-8.0)))
    odd = source(np.array([2, 2, 2, 2, 2, 2, 2]))
    odd.arrays["image"][5, 1, 0, 0] = 4
    broken = OdeEvaluator(model, parallel.make_mesh(1), 16, 1)
    with pytest.raises(UnsolvedError, match=r"^image 5 \(draw 0\): .* 2000 steps .* tolerance 0.0001"):
        broken(variables(), odd, KEY, 1)
    short = OdeEvaluator(exact_model(-3.0), parallel.make_mesh(1), 16, 1, max_steps=5)
    with pytest.raises(UnsolvedError, match=r"^image 0 \(draw 0\): .* 5 steps"):
        short(variables(), source(), KEY, 1)


def test_settings() -> None:
    mesh, model = parallel.make_mesh(8), exact_model(-3.0)
    with pytest.raises(InputError, match=r"config.objective.num_steps=10: must be None"):
        OdeEvaluator(replace(model, num_steps=10), mesh, 8)
    assert DIMS <= EXACT_DIMS < 36
    large = replace(model, shape=(6, 6, 1))
    assert [OdeEvaluator(m, mesh, 80).num_probes for m in (model, large)] == [0, DEFAULT_PROBES]
    # 80 tangents a call are 20 images with 4 each, 10 with 8, and never less than one a device.
    assert [OdeEvaluator(m, mesh, 80, p).batch_size for m, p in ((model, 0), (model, 8), (large, 0))] == [24, 16, 8]
