"""The objective that a config describes, and its gradients on toys; those of a real network are in test_step.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import toy

from vdm import bounds, likelihoods, parts, schedules
from vdm.training import objective as objective_lib
from vdm.training.objective import Objective, loss_and_gradients


def test_the_config_names_its_parts():
    config = tiny.config()
    config.objective.weighting, config.objective.loss_space = "sigmoid(3)", "v"
    config.objective.proposal, config.objective.stratified = "log_normal(-1.0, 1.0)", False
    objective = objective_lib.from_config(config)
    np.testing.assert_allclose(objective.weighting.weight(3.0), 0.5)
    assert objective.loss_space == "v"
    assert not objective.stratified
    assert objective.proposal.normal == (-2.0, 2.0)


@pytest.mark.parametrize("stratified", [True, False])
def test_times_are_stratified_or_not(monkeypatch, stratified):
    """Those that reach the proposal: one in each interval of 1/B, or independent."""
    seen = []
    uniform = Objective().proposal

    def draw(state, u, *rest):
        seen.append(u)
        return uniform.draw(state, u, *rest)

    objective = Objective(proposal=uniform._replace(draw=draw), stratified=stratified)
    model = tiny.model()
    batch = {"image": tiny.images(32)}

    @jax.jit
    def times(variables):
        loss_and_gradients(model, objective, variables, {}, jax.random.key(0), batch)
        return seen.pop()

    t = np.sort(times(tiny.variables(model)))
    assert np.allclose(np.diff(t), 1 / 32, atol=1e-6) == stratified


# One more is so narrow that it underflows at both ends.
WEIGHTINGS = [*parts.PARTS["weighting"], "edm(-1.2, 0.3)"]


def slope_of_ends(model, variables, draws, x):
    """d/dγ(0), d/dγ(1) of the mean diffusion loss of a `toy.Tanh`, in bits/dim: central differences in float64."""
    a, b = (float(variables["network"][name]) for name in "ab")
    t, eps = (np.float64(v) for v in (draws.t, draws.eps))

    def loss(gamma_0, gamma_1):
        gamma = (gamma_0 + (gamma_1 - gamma_0) * t).reshape(-1, 1, 1, 1)
        alpha, sigma = 1 / np.sqrt(1 + np.exp(gamma)), 1 / np.sqrt(1 + np.exp(-gamma))
        error = eps - np.tanh(a * (alpha * x + sigma * eps) + b * gamma)
        return 0.5 * (gamma_1 - gamma_0) * np.mean(np.sum(error**2, axis=(1, 2, 3))) / (16 * np.log(2))

    ends, step = [float(model.gamma(variables, jnp.float32(t))) for t in (0, 1)], 1e-4
    plus_minus = [(step, 0.0), (-step, 0.0), (0.0, step), (0.0, -step)]
    up_0, down_0, up_1, down_1 = (loss(ends[0] + a, ends[1] + b) for a, b in plus_minus)
    return (up_0 - down_0) / (2 * step), (up_1 - down_1) / (2 * step)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_end_points_follow_the_bound_where_the_weight_vanishes(name):
    """γ(0) = −13.3, where narrow weightings are 0 in float32: the gradient is that of the bound, for all of them."""
    objective = Objective(parts.make("weighting", name))
    model = toy.model(toy.Tanh(), schedules.learned_linear(-13.3, 5.0))
    variables, batch, key = model.init(jax.random.key(0)), {"image": tiny.images(32)}, jax.random.key(1)
    _, gradients, _ = jax.jit(lambda v: loss_and_gradients(model, objective, v, {}, key, batch))(variables)

    draws = model.draw(jax.random.split(key)[0], 32)
    x = likelihoods.encode(batch["image"], 17)

    def others(variables):
        """Reconstruction and prior."""
        gamma = functools.partial(model.gamma, variables)
        prior = bounds.prior_loss(x, gamma(jnp.float32(1)))
        losses = bounds.reconstruction_loss(batch["image"], gamma(jnp.float32(0)), draws.eps_0, 17) + prior
        return bounds.bits_per_dim(jnp.mean(losses), 16)

    of_others = jax.grad(others)(variables)["schedule"]["ends"]
    of_ends = slope_of_ends(model, variables, draws, np.float64(x))
    # γ(0) = m − softplus(below), γ(1) = m + softplus(above), softplus 9.15 at first.
    chain = -np.expm1(-9.15)
    below = of_others["below"] - chain * of_ends[0]
    above = of_others["above"] + chain * of_ends[1]
    np.testing.assert_allclose(gradients["schedule"]["ends"]["below"], below, rtol=1e-4)
    np.testing.assert_allclose(gradients["schedule"]["ends"]["above"], above, rtol=1e-4)


def test_the_network_follows_the_weighted_loss_where_some_weights_vanish():
    """What examples of weight 0 add to its gradient is below rounding."""
    weighting = parts.make("weighting", "edm(-1.2, 0.3)")
    model = toy.model(toy.Tanh(), schedules.linear(-13.3, 5.0))
    variables, batch, key = model.init(jax.random.key(0)), {"image": tiny.images(32)}, jax.random.key(1)
    _, gradients, _ = jax.jit(lambda v: loss_and_gradients(model, Objective(weighting), v, {}, key, batch))(variables)
    draw_key, dropout_key = jax.random.split(key)
    draws = model.draw(draw_key, 32)

    def loss(variables):
        gamma_t, slope = schedules.gamma_and_slope(model.schedule, {}, draws.t)
        bound = model.bound_at(variables, batch, draws, gamma_t, slope, dropout_key)
        return bounds.bits_per_dim(jnp.mean(weighting.weight(-gamma_t) * bound.diffusion), 16)

    w = weighting.weight(-model.gamma(variables, draws.t))
    assert np.sum(w == 0) >= 4
    expected = jax.grad(loss)(variables)["network"]
    for name in "ab":
        np.testing.assert_allclose(gradients["network"][name], expected[name], rtol=1e-5)


def test_accumulated_parts_have_dropout_of_their_own():
    """∂L/∂c_k of a `toy.Random` is r times as large as with r = 1, with the r that part k drew: four numbers."""
    num_parts = 4
    batch = {"image": tiny.images(16), "part": jnp.arange(16, dtype=jnp.int32) % num_parts}
    condition = {"part": jax.ShapeDtypeStruct((), jnp.int32)}

    def gradient(drawn):
        model = toy.model(toy.Random(num_parts, drawn), condition=condition)
        _, gradients, _ = loss_and_gradients(
            model, Objective(), model.init(jax.random.key(0)), {}, jax.random.key(1), batch, num_parts
        )
        return gradients["network"]["c"]

    r = np.array(gradient(drawn=True) / gradient(drawn=False))
    assert np.all((r > 0) & (r < 1))
    assert np.min(np.diff(np.sort(r))) > 1e-3
