"""The least-cost evaluation on a model whose bound is a quadrature: unbiased, as precise as asked, cheaper than iid."""

import functools
from collections.abc import Callable

import jax
import numpy as np
import pytest
from test_bound import DIMS, NUM, _evaluator, exact_steps, exact_terms, fresh, images, source

from vdm import parallel
from vdm.evaluation import planned as cost
from vdm.evaluation.bound import TIME_BINS, Evaluator

UNIFORM = np.full(TIME_BINS, 1 / TIME_BINS)
Levels = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
CROOKED = np.linspace(3.0, 1.0, TIME_BINS) / np.linspace(3.0, 1.0, TIME_BINS).sum()


def pilot(seed: int = 0) -> cost.Pilot:
    return _pilot(seed, cost._regress)


@functools.cache
def _pilot(seed: int, regress: Callable) -> cost.Pilot:
    """By `regress`, which a fixture may have replaced."""
    return cost.run_pilot(_evaluator("linear"), fresh("linear")[1], source(), jax.random.key(seed), None)


def no_controls(losses: np.ndarray, variates: np.ndarray) -> np.ndarray:
    return np.zeros((TIME_BINS, 2))


@pytest.fixture
def uncontrolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No control variates: for ε̂ = z they would leave no noise at all."""
    monkeypatch.setattr(cost, "_regress", no_controls)


def cosine(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """γ(t) and its slope, float64."""
    theta_0, theta_1 = (np.arctan(np.exp(g / 2)) for g in (-7.0, 4.0))
    theta = theta_0 + (theta_1 - theta_0) * t
    return 2 * np.log(np.tan(theta)), 2 * (theta_1 - theta_0) / (np.sin(theta) * np.cos(theta))


def linear(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """γ(t) and its slope, float64."""
    return -7 + 11 * t, np.full(t.shape, 11.0)


def moments(t: np.ndarray, levels: Levels) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over ε of ½ γ'(t) ‖ε − z_t‖² in bits/dim, (images, times), for ε̂ = z.

    ε − z = (1 − σ) ε − α x: ‖·‖² has mean D(1−σ)² + α²‖x‖² and variance 2D(1−σ)⁴ + 4(1−σ)²α²‖x‖².
    """
    gamma, slope = levels(t)
    var = 1 / (1 + np.exp(-gamma))
    x = ((2.0 * images().reshape(NUM, DIMS) + 1) / 17) - 1
    signal, rest = (1 - var) * np.square(x).sum(1)[:, None], (1 - np.sqrt(var)) ** 2
    unit = 0.5 * slope / (DIMS * np.log(2))
    return unit * (DIMS * rest + signal), unit**2 * (2 * DIMS * rest**2 + 4 * rest * signal)


def exact_variance(probabilities: np.ndarray, num_draws: int) -> float:
    """Variance of the mean of stratified draws: noise within, and the common offset between; float64."""
    edges = np.concatenate([[0], np.cumsum(probabilities)])
    offsets = (np.arange(400) + 0.5) / 400
    u = (np.arange(num_draws)[:, None] + offsets) / num_draws
    k = np.minimum(np.searchsorted(edges[1:], u), TIME_BINS - 1)
    t = (k + (u - edges[k]) / probabilities[k]) / TIME_BINS
    density = probabilities[k] * TIME_BINS
    mean, variance = moments(t.reshape(-1), linear)
    mean, variance = (
        v.reshape(NUM, *t.shape) for v in (mean / density.reshape(-1), variance / density.reshape(-1) ** 2)
    )
    return float(np.mean(variance) / num_draws + np.mean(np.var(np.mean(mean, axis=1), axis=1)))


@pytest.mark.usefixtures("uncontrolled")
@pytest.mark.parametrize("probabilities", [UNIFORM, CROOKED])
@pytest.mark.parametrize("num_draws", [1, 2, 5, 40])
def test_the_pilot_foretells_the_variance(probabilities: np.ndarray, num_draws: int) -> None:
    """Against the closed form. Three times 13 images with 32 × 2 draws give variances to about √(2/(39·32)) = 4%."""
    pilots = [pilot(seed) for seed in range(3)]
    found = np.mean([p.variance(probabilities, num_draws) - p.reconstruction_variance / num_draws for p in pilots])
    np.testing.assert_allclose(found, exact_variance(probabilities, num_draws), rtol=0.2)


def test_the_pilot_foretells_what_independent_times_cost() -> None:
    t = (np.arange(4000) + 0.5) / 4000
    mean, variance = moments(t, linear)
    exact = np.mean(variance) + np.mean(np.var(mean, axis=1))
    pilots = [pilot(seed) for seed in range(3)]
    found = [p.one_draw_variance - p.reconstruction_variance for p in pilots]
    np.testing.assert_allclose(np.mean(found), exact, rtol=0.15)


def test_control_variates_are_those_of_the_loss() -> None:
    """‖ε − z‖² = (1−σ)² ‖ε‖² − 2 (1−σ) α ⟨ε, x⟩ + α² ‖x‖²: these factors, to the width of three bins; no noise left."""
    found = pilot()
    gamma, _ = linear((np.arange(TIME_BINS) + 0.5) / TIME_BINS)
    sigma, alpha = np.sqrt(1 / (1 + np.exp(-gamma))), np.sqrt(1 / (1 + np.exp(gamma)))
    exact = np.stack([(1 - sigma) ** 2, -(1 - sigma) * alpha], axis=1)
    # γ spans 1.03 over three bins: σ and α change by up to 13%. The factor of ⟨ε, x⟩ is fitted to 39 noisy pairs.
    np.testing.assert_allclose(found.controls[1:-1], exact[1:-1], rtol=0.3, atol=0.02)
    raw = np.mean(moments((np.arange(TIME_BINS) + 0.5) / TIME_BINS, linear)[1])
    assert np.mean(found.noise) < 0.05 * raw


def test_control_variates_leave_the_mean() -> None:
    """The estimate stays that of the quadrature, and its stated error that of its spread."""
    controls = np.random.default_rng(0).normal(0.5, 0.2, (TIME_BINS, 2))
    found = _evaluator("linear").estimates(
        fresh("linear")[1], source(), jax.random.key(4), 4, rounds=100, controls=controls
    )
    means = found.terms[:, 2].mean(1) / (DIMS * np.log(2))
    exact = exact_terms()[2].mean() / (DIMS * np.log(2))
    assert abs(means.mean() - exact) < 4 * means.std(ddof=1) / np.sqrt(len(means))
    stated = cost.to_evaluation(found, DIMS).noise_stderr or 0.0
    # 100 rounds know their own spread to 7%.
    np.testing.assert_allclose(stated, means.std(ddof=1) / np.sqrt(len(means)), rtol=0.3)


@pytest.mark.usefixtures("uncontrolled")
def test_unbiased_and_as_precise_as_stated() -> None:
    """25 evaluations: their mean is the exact bound, their spread what each of them states, near what was asked."""
    target = 0.04
    results = [
        cost.evaluate_to(_evaluator("cosine"), fresh("cosine")[1], source(), jax.random.key(seed), target)
        for seed in range(25)
    ]
    errors = np.array([r.total for r, _ in results]) - exact_terms().sum(0).mean() / (DIMS * np.log(2))
    stated = np.sqrt(np.mean([r.noise_stderr**2 for r, _ in results if r.noise_stderr is not None]))
    assert abs(errors.mean()) < 4 * stated / np.sqrt(len(errors))
    # The root mean square of 25 errors is known to 1/√50 = 14%, the stated ones to 1/√(2·13·25) = 4%.
    assert 0.5 < np.sqrt(np.mean(errors**2)) / stated < 1.5
    assert 0.7 * target < stated < 1.1 * target
    for _, plan in results:
        assert plan.probabilities is not None
        assert plan.calls < plan.iid_calls / 2


@pytest.mark.usefixtures("uncontrolled")
@pytest.mark.parametrize("num_steps", [5, 50])
def test_discrete_time_too_is_unbiased_and_precise(num_steps: int) -> None:
    """Against the closed form of the sum over the steps."""
    target = 0.06 if num_steps == 5 else 0.03
    results = [
        cost.evaluate_to(_evaluator("linear"), fresh("linear")[1], source(), jax.random.key(seed), target, num_steps)
        for seed in range(12)
    ]
    errors = np.array([r.diffusion for r, _ in results]) - exact_steps(num_steps).sum(1).mean() / (DIMS * np.log(2))
    stated = np.sqrt(np.mean([r.noise_stderr**2 for r, _ in results if r.noise_stderr is not None]))
    assert abs(errors.mean()) < 4 * stated / np.sqrt(len(errors))
    assert 0.4 * target < stated < 1.1 * target
    assert all(result.num_steps == num_steps for result, _ in results)


def test_the_pilot_is_no_larger_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its network calls, counted with the rows that fill up its batches, are those of the plan."""
    evaluator = Evaluator(fresh("linear")[0], parallel.make_mesh(1), 100)
    calls = []
    estimates = Evaluator.estimates

    def counted(self, variables, source, key, num_draws, *, rounds, max_images=0, **rest):
        batches = -(-(max_images or len(source)) // self.batch_size)
        calls.append(num_draws * rounds * batches * self.batch_size)
        return estimates(self, variables, source, key, num_draws, rounds=rounds, max_images=max_images, **rest)

    monkeypatch.setattr(Evaluator, "estimates", counted)
    _, plan = cost.evaluate_to(evaluator, fresh("linear")[1], source(), jax.random.key(0), 0.1)
    assert calls[0] == plan.pilot_calls * NUM


def pilot_of(curves: np.ndarray) -> cost.Pilot:
    """Of made-up losses, without controls and with no noise of the reconstruction."""
    return cost.Pilot(*curves, np.zeros((TIME_BINS, 2)), float(curves.var()), 0.0)


def test_importance_does_not_pay_where_the_noise_is_even() -> None:
    rng = np.random.default_rng(0)
    even = pilot_of(1 + 0.3 * rng.normal(size=(2, 200, TIME_BINS)))
    plan = cost.make_plan(even, num_images=10, target=0.05)
    assert plan.probabilities is None
    # Noise 0.09 alone: 0.09 / (10 · 0.05²) draws with the margin of 1.1², in two rounds.
    assert abs(plan.calls - 0.09 * cost.MARGIN**2 / 0.025) <= 3


def test_all_of_a_few_steps_are_taken_where_that_costs_less() -> None:
    """Losses that differ much by step and have little noise: no sampling of steps comes near their sum."""
    rng = np.random.default_rng(0)
    by_step = np.repeat([1.0, 30.0, 2.0, 10.0], TIME_BINS // 4)
    steep = pilot_of(by_step + 0.3 * rng.normal(size=(2, 200, TIME_BINS)))
    for num_steps in (4, 5, 12):
        plan = cost.make_plan(steep, num_images=10, target=0.1, num_steps=num_steps)
        assert plan.probabilities is None
        assert plan.num_draws <= num_steps
    assert cost.make_plan(steep, num_images=10, target=0.1, num_steps=5).num_draws in (4, 5)


def test_a_target_out_of_reach_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "MAX_DRAWS", 1000)
    with pytest.raises(ValueError, match="target=1e-06: would take over 1000 draws"):
        cost.make_plan(pilot(), num_images=1, target=1e-6)
