"""Evaluation against a model whose bound is known: a fresh network predicts ε̂ = z, so every term is a quadrature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from vdm import model as model_lib
from vdm import parallel, timesteps
from vdm.config import Config, DataConfig, NetworkConfig, ScheduleConfig
from vdm.data import Arrays, selected, selection
from vdm.evaluation.bound import (
    TIME_BINS,
    Estimates,
    Evaluation,
    Evaluator,
    Scheme,
    control_variates,
    image_bounds,
    image_noise,
    stratum,
    to_evaluation,
)
from vdm.model import Model, Variables

LEVELS, SHAPE, NUM = 17, (4, 4, 1), 13
DIMS = 16


@functools.cache
def fresh(name: str) -> tuple[Model, Variables]:
    config = Config(
        data=DataConfig(shape=SHAPE, levels=LEVELS),
        network=NetworkConfig(channels=4, depth=1),
        schedule=ScheduleConfig(name=name, gamma_min=-7.0, gamma_max=4.0),
    )
    model = model_lib.from_config(config)
    return model, model.init(jax.random.key(0))


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, LEVELS, (NUM, *SHAPE)).astype(np.uint8)


def source() -> Arrays:
    return Arrays({"image": images()})


def evaluate(name: str, draws: int, batch_size: int, num_devices: int = 1, max_images: int = 0) -> Evaluation:
    model, variables = fresh(name)
    mesh = parallel.make_mesh(num_devices)
    return Evaluator(model, mesh, batch_size)(variables, source(), jax.random.key(7), draws, max_images)


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
    draws = 500
    result = evaluate(name, draws, batch_size=NUM)
    exact = exact_terms().mean(axis=1) / (DIMS * np.log(2))
    # One draw's spread over (ε, t) is below 1 bit/dim in each term for these images; 13 images × 500 draws.
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
        for name in ("total", "reconstruction", "prior", "diffusion", "stderr", "variance", "time_mean"):
            # float32 sums in another order
            np.testing.assert_allclose(getattr(part, name), getattr(whole, name), rtol=1e-5)


def test_some_images_are_from_all_over_with_the_noise_they_always_have() -> None:
    """Those that `selected` chooses, each as in the evaluation of all; and the result says so."""
    variables, key, indices = fresh("linear")[1], jax.random.key(7), selected(NUM, 6)
    assert indices.max() > 6
    all_of_them, some = (_evaluator("linear").estimates(variables, source(), key, 3, max_images=num) for num in (0, 6))
    np.testing.assert_allclose(some.terms, all_of_them.terms[:, :, indices], rtol=1e-6)
    record = to_evaluation(some, DIMS).to_dict()
    assert record["images"] == {"num": 6, "of": NUM, "choice": selection.CHOICE}
    assert to_evaluation(all_of_them, DIMS).to_dict()["images"] == {"num": NUM, "of": NUM, "choice": "all"}


def test_reconstruction_and_diffusion_have_noise_of_their_own() -> None:
    """Over draws the two terms are uncorrelated; with one ε for both they move together: ‖ε‖² is in both."""
    found = _evaluator("linear").estimates(fresh("linear")[1], source(), jax.random.key(2), 1, rounds=200)
    # What a loss owes to its time is not of interest: residuals from the mean at times like its own.
    reconstruction, _, diffusion = np.moveaxis(found.terms, 1, 0)
    bins = found.by_time[..., 0].argmax(axis=-1)
    means = np.bincount(bins.ravel(), diffusion.ravel()) / np.bincount(bins.ravel())
    correlation = np.corrcoef((diffusion - means[bins]).ravel(), (reconstruction - reconstruction.mean(0)).ravel())
    # 2600 draws: 0 is known to 0.02.
    assert abs(correlation[0, 1]) < 0.08


def test_errors_over_images_are_by_group_where_the_data_know_groups() -> None:
    """In batches with padding, whose group is 0 and does not count; pairs of images are as good as their means."""
    groups = np.arange(NUM) // 2
    grouped = Arrays({"image": images(), "group": groups})
    found = Evaluator(fresh("linear")[0], parallel.make_mesh(1), 8).estimates(
        fresh("linear")[1], grouped, jax.random.key(1), 3, max_images=12
    )
    np.testing.assert_array_equal(found.groups, groups[selected(NUM, 12)])
    result = to_evaluation(found, DIMS)
    totals = found.terms.sum(axis=(0, 1)) / (DIMS * np.log(2))
    sums = [np.sum((totals - totals.mean())[found.groups == g]) for g in range(7)]
    np.testing.assert_allclose(result.stderr, np.sqrt(7 / 6 * np.sum(np.square(sums))) / 12)
    assert result.stderr_over == result.to_dict()["stderr_over"] == "groups (7)"
    assert _evaluator("linear")(fresh("linear")[1], source(), jax.random.key(1), 1).stderr_over == "images"


def estimates(terms: np.ndarray) -> Estimates:
    """Of (rounds, 3, images) in nats, every loss in the same bin of times."""
    rounds, _, num = terms.shape
    by_time = np.zeros((rounds, num, TIME_BINS, 5), np.float32)
    by_time[:, :, 0, :3] = np.stack([np.ones((rounds, num)), terms[:, 2], terms[:, 2] ** 2], axis=-1)
    return Estimates(terms, by_time, 1, None, False)


def test_standard_errors_are_those_of_independent_images() -> None:
    unit = DIMS * np.log(2)
    nats = np.random.default_rng(1).normal(size=(2, 3, 50)) * unit
    result = to_evaluation(estimates(nats), DIMS)
    totals = nats.sum(1) / unit
    means = totals.mean(0)
    np.testing.assert_allclose(result.stderr, np.sqrt(((means - means.mean()) ** 2).sum() / 49 / 50))
    # The mean of two rounds has the variance (a − b)²/4, that of 50 images the sum by 50².
    np.testing.assert_allclose(result.noise_stderr, np.sqrt((np.diff(totals, axis=0) ** 2 / 4).sum()) / 50)
    assert result.to_dict()["bits_per_dim"]["total"] == result.total
    assert to_evaluation(estimates(nats[:1]), DIMS).noise_stderr is None


def test_standard_error_covers_the_spread_of_estimates() -> None:
    """With one image repeated, the standard error is that of the noise: the z-scores of 40 estimates are about 1."""
    model, variables = fresh("linear")
    repeated = Arrays({"image": np.repeat(images()[:1], 64, axis=0)})
    evaluator = Evaluator(model, parallel.make_mesh(1), 64)
    results = [evaluator(variables, repeated, jax.random.key(seed), 1) for seed in range(40)]
    exact = exact_terms()[:, 0].sum() / (DIMS * np.log(2))
    scores = np.array([(r.total - exact) / r.stderr for r in results])
    # The mean square of 40 standard normal scores has a standard error of √(2/40) ≈ 0.22.
    assert 0.3 < np.mean(scores**2) < 2.0


def test_noise_differs_between_images_and_draws() -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    noise = np.stack([image_noise(keys, jnp.asarray(stream), SHAPE) for stream in range(1, 9)]).reshape(-1, DIMS)
    correlation = np.corrcoef(noise) - np.eye(len(noise))
    assert np.abs(correlation).max() < 0.9  # 24 vectors of 16 normals; equal ones would have 1


def exact_steps(num_steps: int) -> np.ndarray:
    """The T-step diffusion loss in nats of each image and step, (images, T), float64, for ε̂ = z and γ linear."""
    x = ((2.0 * images().reshape(NUM, DIMS) + 1) / LEVELS) - 1
    gamma = np.linspace(-7.0, 4.0, num_steps + 1)
    var = 1 / (1 + np.exp(-gamma[1:]))
    error = DIMS * (1 - np.sqrt(var)) ** 2 + (1 - var) * np.square(x).sum(1)[:, None]
    return 0.5 * np.expm1(np.diff(gamma)) * error


@pytest.mark.parametrize("num_steps", [1, 3, 7, 40])
def test_discrete_time_is_the_sum_over_the_steps(num_steps: int) -> None:
    """Sums of all terms and samples of steps, against the closed form; the noise's own standard error decides."""
    variables, evaluator = fresh("linear")[1], _evaluator("linear")
    exact = exact_steps(num_steps).sum(1).mean() / (DIMS * np.log(2))
    for draws in (num_steps, 6):
        rounds = 60
        found = evaluator.estimates(variables, source(), jax.random.key(3), draws, rounds=rounds, num_steps=num_steps)
        result = to_evaluation(found, DIMS)
        assert result.exact_sum == (draws % num_steps == 0)
        spread = found.terms[:, 2].mean(1).std(ddof=1) / (DIMS * np.log(2)) / np.sqrt(rounds)
        assert abs(result.diffusion - exact) < 4 * spread


@pytest.mark.parametrize("num_steps", [1, 5, 24, 1000])
def test_an_exact_sum_holds_every_step_once(num_steps: int) -> None:
    """Its times lie one in each step, whatever float32 does at their edges."""
    d = jnp.arange(num_steps)
    t = jax.vmap(lambda d: stratum(jnp.full(1, 0.5), d, num_steps))(d)[:, 0]
    np.testing.assert_array_equal(timesteps.to_steps(t, num_steps), d + 1)


def test_losses_by_time_are_those_of_the_times() -> None:
    """Each bin's mean against ½ γ' E‖ε − z‖² over the bin: the standard error comes from the bin's own spread."""
    model, variables = fresh("cosine")
    draws = 64
    result = _evaluator("cosine")(variables, source(), jax.random.key(5), draws)
    edges = np.linspace(0, 1, TIME_BINS + 1)
    gamma = np.asarray(model.gamma(variables, jnp.asarray(edges, jnp.float32)), np.float64)
    x = ((2.0 * images().reshape(NUM, DIMS) + 1) / LEVELS) - 1
    for k in range(TIME_BINS):
        grid = np.linspace(gamma[k], gamma[k + 1], 201)
        var = 1 / (1 + np.exp(-grid))
        integrand = DIMS * (1 - np.sqrt(var)) ** 2 + (1 - var) * np.square(x).sum(1).mean()
        exact = 0.5 * np.trapezoid(integrand, grid) * TIME_BINS / (DIMS * np.log(2))
        error = result.time_std[k] / np.sqrt(NUM * draws / TIME_BINS)
        assert abs(result.time_mean[k] - exact) < 4.5 * error + 1e-5
    np.testing.assert_allclose(np.mean(result.time_mean), result.diffusion, rtol=0.02)


def test_variance_is_that_of_one_draw() -> None:
    """E[L²] − E[L]² over images, times and noise, in closed form; the same for uniform and importance-sampled times."""
    grid = np.linspace(-7, 4, 4001)
    var = 1 / (1 + np.exp(-grid))
    x = ((2.0 * images().reshape(NUM, DIMS) + 1) / LEVELS) - 1
    signal, rest = (1 - var) * np.square(x).sum(1)[:, None], (1 - np.sqrt(var)) ** 2
    unit = 0.5 * 11 / (DIMS * np.log(2))
    mean = unit * (DIMS * rest + signal)
    square = mean**2 + unit**2 * (2 * DIMS * rest**2 + 4 * rest * signal)
    exact = square.mean() - mean.mean() ** 2
    for scheme in (None, CROOKED):
        found = _evaluator("linear").estimates(
            fresh("linear")[1], source(), jax.random.key(8), 64, rounds=10, scheme=scheme
        )
        # 8320 draws: a variance of such skewed values is known to about 2%.
        np.testing.assert_allclose(to_evaluation(found, DIMS).variance, exact, rtol=0.08)


# Times of other density, and control variates with factors of no use.
CROOKED = Scheme(np.linspace(0, 1, 65) ** 1.5, np.linspace(0, 1, 5), np.full((4, 2), 0.3))


def test_importance_sampled_times_leave_the_mean() -> None:
    """It agrees with the quadrature, within the spread of its rounds."""
    exact = exact_terms()[2].mean() / (DIMS * np.log(2))
    found = _evaluator("linear").estimates(
        fresh("linear")[1], source(), jax.random.key(3), 4, rounds=100, scheme=CROOKED
    )
    means = found.terms[:, 2].mean(1) / (DIMS * np.log(2))
    assert abs(means.mean() - exact) < 4 * means.std(ddof=1) / np.sqrt(len(means))
    # Losses by time are those at uniform times all the same.
    result = to_evaluation(found, DIMS)
    np.testing.assert_allclose(np.mean(result.time_mean), exact, rtol=0.03)


def test_draws_in_pairs_come_in_even_numbers() -> None:
    with pytest.raises(ValueError, match="num_draws=3: must be even"):
        _evaluator("linear").estimates(fresh("linear")[1], source(), jax.random.key(3), 3, scheme=CROOKED)


@functools.cache
def _evaluator(name: str) -> Evaluator:
    return Evaluator(fresh(name)[0], parallel.make_mesh(1), NUM)


def test_control_variates_have_mean_zero() -> None:
    """Whatever x: over 20 000 draws of ε."""
    x = jnp.broadcast_to(jnp.linspace(-1, 0.5, DIMS).reshape(1, *SHAPE), (20_000, *SHAPE))
    variates = control_variates(x, jax.random.normal(jax.random.key(0), x.shape))
    oracle.assert_mean(variates, 0.0)
    # And they are what they say: half a χ²'s variance is D/2, that of ⟨ε, x⟩ is ‖x‖².
    expected = [DIMS / 2, float(np.square(np.linspace(-1, 0.5, DIMS)).sum())]
    np.testing.assert_allclose(np.var(variates, axis=0), expected, rtol=0.06)


def test_devices_exchange_nothing() -> None:
    """The compiled program of eight devices has no collective: each has its images."""
    model, variables = fresh("linear")
    mesh = parallel.make_mesh(8)
    index = np.arange(8, dtype=np.int32)
    batch = {"image": np.zeros((8, *SHAPE), np.uint8), "index": index, "offset": index.astype(np.float32) / 8}
    program = jax.jit(functools.partial(image_bounds, model))
    text = program.lower(variables, jax.random.key(0), parallel.shard_batch(batch, mesh), 3).compile().as_text()
    assert "while" in text
    for collective in ("all-reduce", "all-gather", "all-to-all", "collective-permute"):
        assert collective not in text
