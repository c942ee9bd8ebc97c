"""The least-cost evaluation: closed forms, simulations in numpy, and a model whose bound is a quadrature.

It is unbiased, as precise as asked, and says how precise it is, whatever the schedule and the number of images.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import pytest
import tiny
from test_bound import DIMS, NUM, _evaluator, exact_steps, exact_terms, fresh, images, source

from vdm import parallel
from vdm.data import Arrays, selected
from vdm.evaluation import planned
from vdm.evaluation.bound import Evaluator, Scheme, to_evaluation
from vdm.evaluation.planned import BINS, POINTS

Levels = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
UNIFORM = np.ones(POINTS + 1)
CROOKED = np.linspace(1.5, 0.5, POINTS + 1)
UNIT = DIMS * np.log(2)
IDENTITY = np.linspace(0, 1, POINTS + 1)


def cosine(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """γ(t) and its slope, float64."""
    theta_0, theta_1 = (np.arctan(np.exp(g / 2)) for g in (-7.0, 4.0))
    theta = theta_0 + (theta_1 - theta_0) * t
    return 2 * np.log(np.tan(theta)), 2 * (theta_1 - theta_0) / (np.sin(theta) * np.cos(theta))


def linear(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """γ(t) and its slope, float64."""
    return -7 + 11 * t, np.full(t.shape, 11.0)


def steep_cosine(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """γ(t) and its slope, which falls from 2400 to 40 within the first 32nd of the times."""
    theta_0, theta_1 = (np.arctan(np.exp(g / 2)) for g in (-13.3, 5.0))
    theta = theta_0 + (theta_1 - theta_0) * t
    return 2 * np.log(np.tan(theta)), 2 * (theta_1 - theta_0) / (np.sin(theta) * np.cos(theta))


def learned(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """γ(t) and its slope of a shape as learned ones have: flat ends, and most of it in the middle."""
    rise = 1 / (1 + np.exp(-30 * (t - 0.6)))
    return -10 + 5 * t + 8 * rise, 5 + 240 * rise * (1 - rise)


SCHEDULES = {"linear": linear, "cosine": cosine, "steep cosine": steep_cosine, "learned": learned}


class Toy(NamedTuple):
    """Images whose losses have closed forms: l_k(γ) (1 + s ε) in bits/dim by dγ."""

    schedule: Levels
    """γ(t) and its slope."""
    levels: np.ndarray
    """`levels_table` of it."""
    heights: np.ndarray
    """Of the images."""
    noise: float
    """s."""

    def mean(self, gamma: np.ndarray) -> np.ndarray:
        """(images, …) at γ of as many axes: bumps of other heights and places, on a slope."""
        heights = self.heights.reshape(-1, *[1] * (gamma.ndim - 1))
        return heights * np.exp(-np.square(gamma + 3 + heights) / 8) + 0.02 * (6 - gamma)

    def exact(self) -> float:
        """The mean bound."""
        ends = self.schedule(np.array([0.0, 1.0]))[0]
        gamma = np.linspace(*ends, 20_001)[None]
        return float(np.trapezoid(self.mean(gamma), gamma, axis=1).mean())

    def draw(self, rng: np.random.Generator, t: np.ndarray, measure: np.ndarray) -> np.ndarray:
        """Losses at times (images, …) of probability 1/measure, each with noise of its own."""
        gamma, slope = self.schedule(t)
        noise = 1 + self.noise * rng.standard_exponential(t.shape) - self.noise
        return self.mean(gamma) * slope * measure * noise

    def pilot(self, rng: np.random.Generator) -> planned.Pilot:
        """As `run_pilot` draws, without reconstruction and controls."""
        num = len(self.heights)
        chosen = rng.permutation(num)[: planned.PILOT_IMAGES]
        chosen = np.tile(chosen, -(-planned.MIN_CURVES // len(chosen)))
        offsets = rng.random(len(chosen))
        t, measure = by_quantiles((np.arange(BINS) + offsets[:, None]) / BINS, self.levels)
        some = self._replace(heights=self.heights[chosen])
        losses = np.stack([some.draw(rng, t, measure) for _ in range(2)])
        return planned.to_pilot(losses, np.zeros((*losses.shape, 2)), measure, np.zeros(losses.shape[:2]), offsets)

    def evaluate(self, rng: np.random.Generator, plan: planned.Plan) -> tuple[float, float]:
        """(the mean bound, its stated standard error), as `evaluate_to` draws."""
        num = len(self.heights)
        strata = np.arange(plan.num_pairs)[:, None]
        u = (strata + rng.random((num, plan.num_pairs, 2))) / plan.num_pairs
        assert plan.scheme.quantiles is not None
        values = self.draw(rng, *by_quantiles(u, np.asarray(plan.scheme.quantiles)))
        variance = np.square(values[..., 0] - values[..., 1]).sum() / (2 * plan.num_pairs * num) ** 2
        return float(values.mean()), float(np.sqrt(variance))


def by_quantiles(u: np.ndarray, quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(t, dt/du)."""
    k = np.minimum((u * POINTS).astype(int), POINTS - 1)
    width = quantiles[k + 1] - quantiles[k]
    return quantiles[k] + (u * POINTS - k) * width, width * POINTS


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_errors_are_as_asked_and_as_stated(schedule: str, noise: float) -> None:
    """In simulations of 5 pilots with 60 evaluations each: at 1, 3, 40 and 300 images, with draws a multiple of the
    bins or not, and of curves without noise too. Noise is skewed, as that of squares is.
    """
    rng, levels = np.random.default_rng(0), planned.levels_table(lambda t: SCHEDULES[schedule](t)[0])
    for num, pairs in ((1, 128), (3, 32), (3, 43), (40, 32), (300, 4)):
        of = Toy(SCHEDULES[schedule], levels, 0.5 + np.random.default_rng(1).random(num), noise)
        # What about so many pairs reach.
        target = planned.MARGIN * np.sqrt(of.pilot(rng).variance(UNIFORM)(pairs) / num)
        plans = [planned.make_plan(of.pilot(rng), levels, num, target) for _ in range(5)]
        found = np.array([[of.evaluate(rng, plan) for _ in range(60 if num < 300 else 15)] for plan in plans])
        errors, stated = found[..., 0].ravel() - of.exact(), found[..., 1]
        # Of each plan, the stated error.
        of_plans = np.sqrt(np.mean(stated**2, axis=1)) / target
        assert np.all((of_plans > 1 / 1.5) & (of_plans < 1.5)), (num, of_plans)
        few = 4 / np.sqrt(2 * len(errors))
        assert abs(np.sqrt(np.mean(errors**2)) / np.sqrt(np.mean(stated**2)) - 1) < few
        assert abs(errors.mean()) < 4 * np.sqrt(np.mean(stated**2) / len(errors))
        covered = np.mean(np.abs(errors) < 2 * stated.ravel())
        # 0.95 of a known normal error; less three errors of what so many evaluations tell.
        assert covered > (0.93 if num > 1 else 0.9) - 3 * np.sqrt(0.06 / len(errors)), (num, covered)


@pytest.mark.parametrize("num_pairs", [1, 2, 31, 32, 64, 300])
def test_the_variance_within_strata_is_known(num_pairs: int) -> None:
    """Of noiseless curves against quadrature: multiples of the bins are no exception."""
    of = Toy(steep_cosine, planned.levels_table(lambda t: steep_cosine(t)[0]), np.linspace(0.5, 1.5, 40), 0.0)
    found = of.pilot(np.random.default_rng(0)).variance(CROOKED)(num_pairs)
    u = (np.arange(num_pairs * 64) + 0.5) / (num_pairs * 64)
    # F(v) = 1.5 v − v²/2 and its inverse.
    v = 1.5 - np.sqrt(2.25 - 2 * u)
    gamma = -13.3 + 18.3 * v
    values = (of.mean(gamma[None]) * 18.3 / (1.5 - v)).reshape(40, num_pairs, 64)
    np.testing.assert_allclose(found, values.var(axis=2).mean() / (2 * num_pairs), rtol=0.2)


def pure_noise(num: int = 2000) -> planned.Pilot:
    """Losses of mean 0 and variance 0.09 without any curve, at uniform times."""
    rng = np.random.default_rng(0)
    losses = 0.3 * rng.normal(size=(2, num, BINS))
    return pilot_of(losses)


def pilot_of(losses: np.ndarray) -> planned.Pilot:
    """Of made-up losses, without controls and with no noise of the reconstruction."""
    _, num, _ = losses.shape
    offsets = np.random.default_rng(1).random(num)
    return planned.to_pilot(losses, np.zeros((*losses.shape, 2)), np.ones((num, BINS)), np.zeros((2, num)), offsets)


def test_what_independent_draws_cost_is_not_biased_by_noise() -> None:
    """Of pure noise, one draw's variance is all of it: a square of means would take 1/32 of it for signal."""
    # 128 000 draws: known to 0.4%.
    np.testing.assert_allclose(pure_noise().one_draw_variance, 0.09, rtol=0.015)


def test_importance_does_not_pay_where_the_noise_is_even() -> None:
    plan = planned.make_plan(pure_noise(), IDENTITY, num_images=10, target=0.01)
    # Noise 0.09 alone: 0.09/(10 · 0.01²) draws, with the margin.
    np.testing.assert_allclose(plan.calls, 0.09 * planned.MARGIN**2 / 0.001, rtol=0.05)
    assert plan.scheme.quantiles is not None
    np.testing.assert_allclose(plan.scheme.quantiles, IDENTITY, atol=0.01)


def test_importance_pays_where_it_is_not() -> None:
    """The least variance is (mean of the noise's deviation)² (Neyman 1934)."""
    rng, std = np.random.default_rng(0), np.linspace(0.01, 0.6, BINS)
    plan = planned.make_plan(pilot_of(std * rng.normal(size=(2, 2000, BINS))), IDENTITY, num_images=10, target=0.01)
    best = np.mean(std) ** 2 * planned.MARGIN**2 / 0.001
    assert best < plan.calls < 1.05 * best < 0.9 * np.mean(std**2) * planned.MARGIN**2 / 0.001


def test_no_noise_at_all_is_planned_for() -> None:
    """Losses that are all 0, or all equal: the fewest pairs, and nothing that is no number."""
    for curve in (np.zeros(BINS), np.full(BINS, 2.0)):
        plan = planned.make_plan(pilot_of(np.broadcast_to(curve, (2, 32, BINS))), IDENTITY, num_images=3, target=0.01)
        assert plan.num_pairs == -(-planned.MIN_PAIRS // 3)
        for values in plan.scheme:
            assert np.all(np.isfinite(np.asarray(values)))


def test_all_of_a_few_steps_are_taken_where_that_costs_less() -> None:
    """Losses that differ much by step and have little noise: no sampling of steps comes near their sum."""
    rng = np.random.default_rng(0)
    by_step = np.repeat([1.0, 30.0, 2.0, 10.0], BINS // 4)
    steep = pilot_of(by_step + 0.3 * rng.normal(size=(2, 200, BINS)))
    for num_steps in (4, 5, 12):
        plan = planned.make_plan(steep, IDENTITY, num_images=100, target=0.016, num_steps=num_steps)
        assert plan.scheme.quantiles is None
        assert plan.num_pairs == num_steps
    assert planned.make_plan(steep, IDENTITY, num_images=100, target=0.016).num_pairs > 12


def test_all_of_a_few_steps_are_taken_where_the_fewest_pairs_are_about_as_many() -> None:
    """Else a few strata with a jump between two steps are all that the error is known from."""
    for num_steps, num_pairs in ((5, 25), (20, 40), (44, 44)):
        plan = planned.make_plan(pure_noise(), IDENTITY, num_images=3, target=0.1, num_steps=num_steps)
        assert (plan.scheme.quantiles, plan.num_pairs) == (None, num_pairs)
    plan = planned.make_plan(pure_noise(), IDENTITY, num_images=3, target=0.1, num_steps=45)
    assert plan.scheme.quantiles is not None
    assert plan.num_pairs == 22


def test_a_target_out_of_reach_is_refused() -> None:
    with pytest.raises(ValueError, match="target=1e-06: would take over 20000 draws"):
        planned.make_plan(pure_noise(), IDENTITY, num_images=1, target=1e-6)


def pilot(seed: int = 0) -> planned.Pilot:
    return _pilot(seed, planned._regress)


@functools.cache
def _pilot(seed: int, regress: Callable) -> planned.Pilot:
    """By `regress`, which a fixture may have replaced."""
    return planned.run_pilot(_evaluator("linear"), fresh("linear")[1], source(), jax.random.key(seed), IDENTITY)


def no_controls(losses: np.ndarray, variates: np.ndarray) -> np.ndarray:
    return np.zeros((BINS, 2))


@pytest.fixture
def uncontrolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No control variates: for ε̂ = z they would leave no noise at all."""
    monkeypatch.setattr(planned, "_regress", no_controls)


def moments(t: np.ndarray, levels: Levels) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over ε of ½ γ'(t) ‖ε − z_t‖² in bits/dim, (images, times), for ε̂ = z.

    ε − z = (1 − σ) ε − α x: ‖·‖² has mean D(1−σ)² + α²‖x‖² and variance 2D(1−σ)⁴ + 4(1−σ)²α²‖x‖².
    """
    gamma, slope = levels(t)
    var = 1 / (1 + np.exp(-gamma))
    x = ((2.0 * images().reshape(NUM, DIMS) + 1) / 17) - 1
    signal, rest = (1 - var) * np.square(x).sum(1)[:, None], (1 - np.sqrt(var)) ** 2
    unit = 0.5 * slope / UNIT
    return unit * (DIMS * rest + signal), unit**2 * (2 * DIMS * rest**2 + 4 * rest * signal)


@pytest.mark.usefixtures("uncontrolled")
@pytest.mark.parametrize("num_pairs", [1, 5, 40])
def test_the_pilot_foretells_the_variance(num_pairs: int) -> None:
    """Against the closed form. Three times 13 images with 32 × 2 draws give variances to about √(2/(39·32)) = 4%."""
    pilots = [pilot(seed) for seed in range(3)]
    found = np.mean([p.variance(CROOKED)(num_pairs) - p.reconstruction_variance / (2 * num_pairs) for p in pilots])
    u = (np.arange(num_pairs * 50) + 0.5) / (num_pairs * 50)
    v = 1.5 - np.sqrt(2.25 - 2 * u)
    mean, noise = moments(v, linear)
    within = (mean / (1.5 - v)).reshape(NUM, num_pairs, 50).var(axis=2).mean()
    exact = (np.mean(noise / (1.5 - v) ** 2) + within) / (2 * num_pairs)
    # Of 39 fitted pairs each loses 2 to factors that it has not here: the noise is said to be 11% more.
    np.testing.assert_allclose(found, exact, rtol=0.25)


def test_the_pilot_foretells_what_independent_times_cost() -> None:
    t = (np.arange(4000) + 0.5) / 4000
    mean, variance = moments(t, linear)
    exact = np.mean(variance) + np.mean(np.var(mean, axis=1))
    pilots = [pilot(seed) for seed in range(3)]
    found = [p.one_draw_variance - p.reconstruction_variance for p in pilots]
    np.testing.assert_allclose(np.mean(found), exact, rtol=0.15)


def test_the_pilot_draws_twice_at_places_of_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both draws of a bin at the same time, which no other image shares; images are from all over the source."""
    many = Arrays({"image": np.repeat(images(), 10, axis=0)})
    seen: dict[str, np.ndarray] = {}
    estimates = Evaluator.estimates

    def spied(self, variables, source, key, num_draws, *, rounds, max_images, offsets, **rest):
        indices = selected(len(source), max_images)
        seen.update(places=np.stack([offsets(r, indices) for r in range(rounds)]))
        return estimates(self, variables, source, key, num_draws, rounds=rounds, max_images=max_images,
                         offsets=offsets, **rest)  # fmt: skip

    monkeypatch.setattr(Evaluator, "estimates", spied)
    found = planned.run_pilot(_evaluator("linear"), fresh("linear")[1], many, jax.random.key(0), IDENTITY)
    np.testing.assert_array_equal(seen["places"], [found.offsets, found.offsets])
    assert len(set(found.offsets)) == planned.PILOT_IMAGES
    # Control variates leave little noise here: each image's losses are the closed form's at its own places.
    mean, _ = moments(((np.arange(BINS)[:, None] + found.offsets) / BINS).ravel(), linear)
    chosen = selected(len(many), planned.PILOT_IMAGES) // 10
    exact = mean.reshape(NUM, BINS, -1)[chosen, :, np.arange(planned.PILOT_IMAGES)]
    np.testing.assert_allclose(found.first.mean(axis=1), exact.mean(axis=1), rtol=0.1)


def test_control_variates_are_those_of_the_loss() -> None:
    """‖ε − z‖² = (1−σ)² ‖ε‖² − 2 (1−σ) α ⟨ε, x⟩ + α² ‖x‖²: these factors, to the width of three bins; no noise left."""
    found = pilot()
    gamma, _ = linear((np.arange(BINS) + 0.5) / BINS)
    sigma, alpha = np.sqrt(1 / (1 + np.exp(-gamma))), np.sqrt(1 / (1 + np.exp(gamma)))
    exact = np.stack([(1 - sigma) ** 2, -(1 - sigma) * alpha], axis=1)
    # γ spans 1.03 over three bins: σ and α change by up to 13%. The factor of ⟨ε, x⟩ is fitted to 39 noisy pairs.
    np.testing.assert_allclose(found.controls[1:-1], exact[1:-1], rtol=0.3, atol=0.02)
    raw = np.mean(moments((np.arange(BINS) + 0.5) / BINS, linear)[1])
    assert np.mean(found.noise) < 0.05 * raw


def test_control_variates_leave_the_mean_and_the_losses_by_time() -> None:
    """The estimate stays that of the quadrature, its stated error that of its spread; `variance` is of plain draws."""
    controls = np.random.default_rng(0).normal(0.5, 0.2, (BINS, 2))
    scheme = Scheme(None, np.linspace(0, 1, BINS + 1), controls)
    found, plain = (
        _evaluator("linear").estimates(fresh("linear")[1], source(), jax.random.key(4), 4, rounds=100, scheme=scheme)
        for scheme in (scheme, scheme._replace(controls=0 * controls))
    )
    means = found.terms[:, 2].mean(1) / UNIT
    exact = exact_terms()[2].mean() / UNIT
    assert abs(means.mean() - exact) < 4 * means.std(ddof=1) / np.sqrt(len(means))
    stated = to_evaluation(found, DIMS).noise_stderr or 0.0
    # 100 rounds know their own spread to 7%.
    np.testing.assert_allclose(stated, means.std(ddof=1) / np.sqrt(len(means)), rtol=0.3)
    # The same draws, so the same to the bit.
    np.testing.assert_array_equal(found.by_time, plain.by_time)
    assert to_evaluation(found, DIMS).variance == to_evaluation(plain, DIMS).variance
    assert np.abs(found.terms[:, 2] - plain.terms[:, 2]).max() > 0


@pytest.mark.usefixtures("uncontrolled")
def test_unbiased_and_as_precise_as_stated() -> None:
    """16 evaluations: their mean is the exact bound, their spread what each of them states, near what was asked."""
    target = 0.04
    results = [
        planned.evaluate_to(_evaluator("cosine"), fresh("cosine")[1], source(), jax.random.key(seed), target)
        for seed in range(16)
    ]
    errors = np.array([r.total for r, _ in results]) - exact_terms().sum(0).mean() / UNIT
    stated = np.sqrt(np.mean([r.noise_stderr**2 for r, _ in results if r.noise_stderr is not None]))
    assert abs(errors.mean()) < 4 * stated / np.sqrt(len(errors))
    # The root mean square of 16 errors is known to 1/√32 = 18%.
    assert 0.45 < np.sqrt(np.mean(errors**2)) / stated < 1.5
    assert 0.7 * target < stated < 1.1 * target
    for result, plan in results:
        assert plan.calls < plan.iid_calls / 2
        # Losses by time stand for uniform times: their mean is the diffusion loss.
        np.testing.assert_allclose(np.nanmean(result.time_mean), result.diffusion, rtol=0.3)


@pytest.mark.parametrize("num_steps", [5, 50])
def test_discrete_time_too_is_unbiased_and_precise(num_steps: int) -> None:
    """Against the closed form of the sum over the steps."""
    target = 0.02
    results = [
        planned.evaluate_to(_evaluator("linear"), fresh("linear")[1], source(), jax.random.key(seed), target, num_steps)
        for seed in range(8)
    ]
    errors = np.array([r.diffusion for r, _ in results]) - exact_steps(num_steps).sum(1).mean() / UNIT
    stated = np.sqrt(np.mean([r.noise_stderr**2 for r, _ in results if r.noise_stderr is not None]))
    assert abs(errors.mean()) < 4 * stated / np.sqrt(len(errors))
    assert 0.4 * target < stated < 1.1 * target
    assert all(result.num_steps == num_steps for result, _ in results)


@pytest.mark.parametrize("num", [1, 3])
def test_a_network_with_a_learned_schedule_too(num: int) -> None:
    """12 evaluations of few images by a network off its start, against many plain draws of each."""
    model = tiny.model()
    variables = tiny.variables(model)
    some = Arrays({"image": np.asarray(tiny.images(num))})
    evaluator = Evaluator(model, parallel.make_mesh(1), num)
    long = to_evaluation(evaluator.estimates(variables, some, jax.random.key(99), 200, rounds=10), DIMS)
    assert long.noise_stderr is not None
    target = 3 * long.noise_stderr
    results = [planned.evaluate_to(evaluator, variables, some, jax.random.key(seed), target)[0] for seed in range(12)]
    stated = np.array([r.noise_stderr for r in results])
    assert np.all(stated < 1.5 * target)
    scores = np.array([r.total - long.total for r in results]) / np.hypot(stated, long.noise_stderr)
    # The mean square of 12 standard normal scores has a standard error of 0.41.
    assert np.mean(scores**2) < 2.6
    assert abs(scores.mean()) < 1


def test_the_pilot_is_no_larger_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its network calls, counted with the rows that fill up its batches, are those of the plan."""
    evaluator = Evaluator(fresh("linear")[0], parallel.make_mesh(1), 100)
    calls = []
    estimates = Evaluator.estimates

    def counted(self, variables, source, key, num_draws, *, rounds=1, max_images=0, **rest):
        batches = -(-(max_images or len(source)) // self.batch_size)
        calls.append(num_draws * rounds * batches * self.batch_size)
        return estimates(self, variables, source, key, num_draws, rounds=rounds, max_images=max_images, **rest)

    monkeypatch.setattr(Evaluator, "estimates", counted)
    _, plan = planned.evaluate_to(evaluator, fresh("linear")[1], source(), jax.random.key(0), 0.1)
    assert calls[0] == plan.pilot_calls * NUM
