"""Proposals: whatever noise levels a batch sees, the integral is the same; and the densities are what they say."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vdm import parts, proposals, schedules

ENDS = (-13.3, 5.0)
GAMMA = partial(schedules.cosine(*ENDS).gamma, {})
LINEAR = partial(schedules.linear(*ENDS).gamma, {})
FINE = jnp.asarray((np.arange(200_000) + 0.5) / 200_000, jnp.float32)
ALL = [
    *parts.names("proposal"),
    "log_normal(-0.4, 1.0)",
    "logit_normal(3, 0.5)",
    "log_normal(-2.5, 0.01)",
]


def integrand(gamma):
    """A smooth function of γ with most of its integral in the middle."""
    return 1 / (1 + jnp.square(gamma + 3) / 4)


def integral() -> float:
    return 2 * (np.arctan((ENDS[1] + 3) / 2) - np.arctan((ENDS[0] + 3) / 2))


def state_of(name: str, gamma=GAMMA, batches: int = 200, size: int = 64, num_steps=None):
    """(proposal, its state after batches with the integrand as their losses)."""
    proposal = parts.make("proposal", name)

    def step(state, key):
        u = (jax.random.uniform(key) + jnp.arange(size) / size) % 1
        levels = proposal.draw(state, u, gamma, num_steps)
        return proposal.update(state, levels, levels.weight * integrand(levels.gamma)), None

    return proposal, jax.jit(lambda keys: jax.lax.scan(step, proposal.init(), keys)[0])(
        jax.random.split(jax.random.key(0), batches)
    )


@pytest.mark.parametrize("name", ALL)
def test_the_weighted_mean_is_the_integral_over_noise_levels(name):
    """Over even u, a Riemann sum of ∫ f dγ whatever the density."""
    proposal, state = state_of(name)
    levels = jax.jit(lambda state, u: proposal.draw(state, u, GAMMA, None))(state, FINE)
    gamma = np.asarray(levels.gamma, np.float64)
    assert gamma.min() >= np.float32(ENDS[0])
    assert gamma.max() <= np.float32(ENDS[1])
    values = np.asarray(levels.weight, np.float64) * np.asarray(integrand(levels.gamma), np.float64)
    # The steepest: σ = 0.02 in γ about −5, 180 000 points across it, each rounded to 5e-7.
    np.testing.assert_allclose(values.mean(), integral(), rtol=2e-3)


@pytest.mark.parametrize("name", ["uniform", "adaptive", "importance"])
def test_in_discrete_time_it_is_the_sum_over_steps(name):
    num_steps = 7
    proposal, state = state_of(name, LINEAR, num_steps=num_steps)
    levels = jax.jit(lambda state, u: proposal.draw(state, u, LINEAR, num_steps))(state, FINE)
    values = np.asarray(levels.weight, np.float64) * np.asarray(integrand(levels.gamma), np.float64)
    grid = np.linspace(*ENDS, num_steps + 1)
    exact = np.sum(np.expm1(np.diff(grid)) * np.asarray(integrand(jnp.asarray(grid[1:], jnp.float32))))
    # 200 000 points of up to 10 times the mean, some 10 of them on the wrong side of a bin's or step's edge.
    np.testing.assert_allclose(values.mean(), exact, rtol=1e-3)


@pytest.mark.parametrize("name", ["log_normal", "log_normal(-0.4, 1.0)", "logit_normal", "log_normal(-8, 1.5)"])
def test_normal_levels_have_the_mixtures_distribution(name):
    proposal = parts.make("proposal", name)
    mean, std = {"log_normal": (-1.2, 1.2), "logit_normal": (0, 1)}.get(name) or map(float, name[11:-1].split(","))
    levels = np.sort(np.asarray(proposal.draw({}, FINE, LINEAR, None).gamma, np.float64))
    a, b = ((end - 2 * mean) / (2 * std) for end in ENDS)
    normal = stats.truncnorm(a, b, 2 * mean, 2 * std)
    cdf = (1 - proposals.FLOOR) * normal.cdf(levels) + proposals.FLOOR * (levels - ENDS[0]) / (ENDS[1] - ENDS[0])
    np.testing.assert_allclose(cdf, (np.arange(FINE.size) + 0.5) / FINE.size, atol=1e-5)


@pytest.mark.parametrize(("mean", "std"), [(-2.4, 2.4), (-20.0, 2.0), (9.0, 1.5)])
def test_truncated_normal_is_accurate_in_both_tails(mean, std):
    """Also where the range lies wholly in one tail; against scipy in float64."""
    u = np.concatenate([np.geomspace(1e-7, 0.5, 50), 1 - np.geomspace(1e-6, 0.5, 50)]).astype(np.float32)
    ours = proposals.truncated_normal(jnp.asarray(u), mean, std, jnp.float32(ENDS[0]), jnp.float32(ENDS[1]))
    a, b = ((np.float64(np.float32(end)) - mean) / std for end in ENDS)
    exact = stats.truncnorm(a, b, mean, std).ppf(np.float64(u))
    # At 1 − u = 1e-6 one spacing of u, 6e-8, is a sixteenth of it, and dγ/d log(1 − u) at most std.
    np.testing.assert_allclose(ours, exact, atol=0.15)
    np.testing.assert_allclose(ours[u < 1 - 1e-4], exact[u < 1 - 1e-4], atol=5e-4)


@pytest.mark.parametrize("name", ["uniform", "adaptive", "log_normal", "logit_normal"])
def test_learned_end_points_get_the_gradient_of_the_integral(name):
    """d/dγ(1) ∫ f dγ = f(γ(1)) and d/dγ(0) = −f(γ(0)), through the draws, as the bound's end points need it."""
    proposal, state = state_of(name, LINEAR)

    def estimate(ends):
        levels = proposal.draw(state, FINE, lambda t: ends[0] + (ends[1] - ends[0]) * t, None)
        return jnp.mean(levels.weight * integrand(levels.gamma))

    ends = (jnp.float32(-6.0), jnp.float32(2.0))
    of_low, of_high = jax.jit(jax.grad(estimate))(ends)
    np.testing.assert_allclose(of_high, integrand(ends[1]), rtol=0.01)
    np.testing.assert_allclose(of_low, -integrand(ends[0]), rtol=0.01)


@pytest.mark.parametrize(("name", "power"), [("adaptive", 1), ("importance", 2)])
def test_the_density_follows_the_loss(name, power):
    """After many batches p(t) is the loss (the root of its mean square), scaled, with a tenth of uniform times."""
    proposal = parts.make("proposal", name)

    def step(state, key):
        u_key, noise_key = jax.random.split(key)
        u = (jax.random.uniform(u_key) + jnp.arange(256) / 256) % 1
        levels = proposal.draw(state, u, LINEAR, None)
        # A loss of mean 1 + 4 t and standard deviation (1 + 4 t)/√3 · 2t.
        noise = 1 + 2 * levels.t * jnp.sqrt(1 / 3) * jax.random.rademacher(noise_key, (256,), jnp.float32)
        return proposal.update(state, levels, (1 + 4 * levels.t) * noise / levels.density), None

    keys = jax.random.split(jax.random.key(0), 500)
    state = jax.jit(lambda keys: jax.lax.scan(step, proposal.init(), keys)[0])(keys)
    t = (np.arange(proposals.BINS) + 0.5) / proposals.BINS
    target = (1 + 4 * t) * (1 if power == 1 else np.sqrt(1 + (2 * t) ** 2 / 3))
    expected = 0.9 * target / target.sum() + 0.1 / proposals.BINS
    # About 256 draws a bin are remembered, each off by up to 1.15 of its mean: 5 standard errors, rounded up.
    np.testing.assert_allclose(proposals.probabilities(state, power), expected, rtol=0.4)
    np.testing.assert_allclose(proposals.probabilities(state, power), expected, atol=0.05 / proposals.BINS * 5)


@pytest.mark.parametrize("name", ["adaptive", "importance"])
def test_a_batch_counts_a_hundredth_less_with_every_batch_after_it(name):
    """After 300 empty batches what is left of a loss is 0.99³⁰⁰, and of the number of its draws."""
    proposal = parts.make("proposal", name)
    levels = proposal.draw(proposal.init(), FINE[::2000], LINEAR, None)
    state = first = proposal.update(proposal.init(), levels, jnp.full(100, 2.0))
    nothing = jax.tree.map(lambda leaf: leaf[:0], levels)
    for _ in range(300):
        state = proposal.update(state, nothing, jnp.zeros(0))
    for left, right in zip(state, first, strict=True):
        np.testing.assert_allclose(left, 0.99**300 * right, rtol=1e-4)


def test_importance_has_the_least_variance():
    """E_p[(f/p)²] falls from uniform to adaptive to importance for a loss that is noisier where it is larger."""
    t = (np.arange(proposals.BINS) + 0.5) / proposals.BINS
    mean, square = 0.01 + t**6, (0.01 + t**6) ** 2 * (1 + 20 * t)
    state = {
        power: proposals.Histogram(jnp.asarray(1000 * m, jnp.float32), jnp.full(proposals.BINS, 1000.0))
        for power, m in ((1, mean), (2, square))
    }
    density = {p: np.asarray(proposals.probabilities(s, p), np.float64) * proposals.BINS for p, s in state.items()}
    second = {"uniform": square.mean(), 1: (square / density[1]).mean(), 2: (square / density[2]).mean()}
    assert second[2] < second[1] < second["uniform"]
    # The least possible is (∫ √E f²)²; the floor of a tenth costs at most a ninth of it.
    assert second[2] < np.sqrt(square).mean() ** 2 / 0.9


@pytest.mark.parametrize("name", ["adaptive", "importance"])
@pytest.mark.parametrize("loss", [None, 0.0])
def test_without_losses_all_noise_levels_are_alike(name, loss):
    proposal = parts.make("proposal", name)
    state = proposal.init()
    if loss is not None:
        levels = proposal.draw(state, FINE[::1000], LINEAR, None)
        state = proposal.update(state, levels, jnp.full(200, loss))
    levels = proposal.draw(state, FINE, LINEAR, None)
    np.testing.assert_allclose(levels.t, FINE, atol=1e-6)
    np.testing.assert_allclose(levels.density, 1, rtol=1e-5)


def test_weights_are_bounded_by_the_floor():
    """Even where the density is nothing, and for a loss in one bin only."""
    histogram = proposals.Histogram(jnp.zeros(100).at[3].set(1e6), jnp.full(100, 1e3))
    levels = proposals.adaptive().draw(histogram, FINE, LINEAR, None)
    assert levels.density.min() >= proposals.FLOOR * (1 - 1e-5)
    levels = proposals.log_normal(0.0, 0.01).draw({}, FINE, LINEAR, None)
    assert levels.weight.max() <= (ENDS[1] - ENDS[0]) / proposals.FLOOR * (1 + 1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "must be one of uniform, adaptive, importance, log_normal, logit_normal"),
        ("log_normal(0, 0)", "std=0.0: must be 0.01 or more and finite; usage: log_normal"),
        ("log_normal(nan)", "mean=nan: must be finite"),
        ("adaptive(3)", r"usage: adaptive\(\)"),
    ],
)
def test_bad_proposals_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parts.make("proposal", text)


@pytest.mark.parametrize(
    ("text", "num_steps", "message"),
    [
        ("log_normal", 10, "num_steps=10: a density over γ needs continuous time"),
        ("log_normal(-30, 1)", None, r"γ ~ N\(-60, 2²\) has 0 of its mass from gamma_min=-13.3 to gamma_max=5.0"),
        ("logit_normal(6, 1)", None, "has 0.0002 of its mass"),
    ],
)
def test_settings_that_a_proposal_cannot_have_are_refused(text, num_steps, message):
    with pytest.raises(ValueError, match=message):
        proposals.check(parts.make("proposal", text), *ENDS, num_steps)
    proposals.check(proposals.log_normal(), *ENDS, None)
    proposals.check(proposals.adaptive(), *ENDS, num_steps)


def test_densities_over_noise_levels_need_continuous_time():
    with pytest.raises(ValueError, match="num_steps=10: must be None"):
        proposals.log_normal().draw({}, FINE[:4], LINEAR, 10)
