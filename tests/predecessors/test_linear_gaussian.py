"""Linear-Gaussian VAE and HVAE, where all is known: log p(x), the optimal encoder, and the gap of any other."""

import jax
import jax.numpy as jnp
import linear_gaussian as lg
import numpy as np
import optax
import pytest

from vdm.keys import image_keys
from vdm.predecessors import importance
from vdm.predecessors.bound import LatentBound

KEY = jax.random.key(0)
KINDS = [(1, "top_down"), (2, "top_down"), (2, "bottom_up")]
TOLERANCE = {"rtol": 2e-6, "atol": 3e-6}
"""Of sums of some ten float32 numbers of size 1 to 10."""


@pytest.mark.parametrize(("layers", "inference"), KINDS)
def test_the_optimal_encoder_has_no_gap_at_any_draw(layers, inference):
    """log p(x, z)/q(z|x) = log p(x), whatever z."""
    model, x = lg.model(layers, inference), lg.images(50, layers)
    variables = lg.variables(model, **lg.exact(layers, inference))
    path = jax.jit(model.path)(variables, x, model.draw(KEY, len(x)))
    np.testing.assert_allclose(path.log_weight, lg.log_prob(x, layers), **TOLERANCE)
    np.testing.assert_allclose(lg.expected(model, variables, x), -lg.log_prob(x, layers), **TOLERANCE)


def other_posterior(layers):
    """(matrix, covariance) of another Gaussian q(z|x), which both factorisations can have."""
    rng = np.random.default_rng(3)
    first = rng.normal(size=(lg.LATENTS, lg.DIMS)) / 2
    if layers == 1:
        return first, np.diag([0.3, 1.7])
    slope, std_1, std_2 = np.diag([0.4, -1.1]), np.diag([0.3, 1.7]), np.diag([0.5, 0.8])
    up = slope @ std_1
    covariance = np.block([[std_1, up.T], [up, slope @ std_1 @ slope.T + std_2]])
    return np.vstack([first, slope @ first]), covariance


def of_other(layers, inference):
    matrix, covariance = other_posterior(layers)
    if layers == 1:
        return {"w_x": matrix, "log_std": 0.5 * np.log(np.diag(covariance))}
    return lg.factorised(matrix, covariance, inference)


def joint_kl(x, layers):
    """KL(q(z|x) ‖ p(z|x)) of Gaussians, in float64."""
    (a, c), (b, d) = other_posterior(layers), lg.posterior(layers)
    inverse, difference = np.linalg.inv(d), np.asarray(x, np.float64) @ (a - b).T
    logs = np.linalg.slogdet(d)[1] - np.linalg.slogdet(c)[1]
    return 0.5 * (np.trace(inverse @ c) - len(c) + logs + np.einsum("ni,ij,nj->n", difference, inverse, difference))


@pytest.mark.parametrize(("layers", "inference"), KINDS)
def test_any_other_encoders_gap_is_its_kl_to_the_posterior(layers, inference):
    """Eq. 2.6: VLB = log p(x) − KL(q(z|x) ‖ p(z|x)), of the joint of all layers."""
    model, x = lg.model(layers, inference), lg.images(20, layers)
    bound = lg.expected(model, lg.variables(model, **of_other(layers, inference)), x)
    np.testing.assert_allclose(bound, joint_kl(x, layers) - lg.log_prob(x, layers), rtol=1e-5)
    assert (bound + lg.log_prob(x, layers) > 0.1).all()


def test_top_down_and_bottom_up_agree_where_they_factorise_the_same():
    """One q(z₁, z₂|x) in both ways: log weights of the same latents, Eq. 2.20, and the bound."""
    x = lg.images(20, layers=2)
    up, down = lg.model(2, "bottom_up"), lg.model(2, "top_down")
    of_up, of_down = (lg.variables(m, **of_other(2, m.network.inference)) for m in (up, down))
    path = jax.jit(up.path)(of_up, x, up.draw(KEY, len(x)))
    z_1, z_2 = path.latents
    q_2 = down.posterior(of_down, x)
    of = of_down["network"]
    mean_1 = x @ of["w_x"].T + z_2 @ of["w_z"].T
    eps = (z_1 - mean_1) * jnp.exp(-of["log_std"])[None, :], (z_2 - q_2.mean) * jnp.exp(-q_2.log_std)
    other = jax.jit(down.path)(of_down, x, eps)
    np.testing.assert_allclose(other.latents[0], z_1, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(other.log_weight, path.log_weight, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(lg.expected(up, of_up, x), lg.expected(down, of_down, x), rtol=1e-5)
    # One by one they are not the same: the parts of the sum are others.
    assert np.abs(other.rates[0] - path.rates[0]).max() > 0.1


@pytest.mark.parametrize(("layers", "inference"), KINDS)
def test_importance_weighted_bounds_fall_to_log_p(layers, inference):
    """Monotonically in K (Burda et al. 2016, Theorem 1), within four standard errors over images."""
    model, x = lg.model(layers, inference), jnp.repeat(lg.images(4, layers), 200, axis=0)
    near = lg.exact(layers, inference)
    moved = {name: value + 0.3 if name.startswith("log") else 0.8 * value for name, value in near.items()}
    variables = lg.variables(model, **moved)
    log_weight = lambda keys: model.path(variables, x, model.draw_each(keys)).log_weight  # noqa: E731
    log_weights = jax.jit(lambda keys: importance.log_weights(log_weight, keys, 256))(image_keys(KEY, len(x)))
    gaps = np.array([importance.bound(log_weights[:k]) + lg.log_prob(x, layers) for k in (1, 4, 16, 64, 256)])
    error = lambda values: values.std() / np.sqrt(len(x))  # noqa: E731
    for more, fewer in zip(gaps[1:], gaps[:-1], strict=True):
        assert (fewer - more).mean() > -4 * error(fewer - more)
        assert more.mean() > -4 * error(more)
    elbo = lg.expected(model, variables, x[::200]) + lg.log_prob(x[::200], layers)
    assert abs(gaps[0].mean() - elbo.mean()) < 4 * error(gaps[0])
    assert gaps[0].mean() > 0.1
    assert gaps[-1].mean() < 0.1 * gaps[0].mean()


def trained(model, variables, x, names, steps=1500):
    """After steps of Adam on the parameters of these names, by the objective's own gradients."""
    objective = LatentBound(model.num_layers)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, steps))

    def step(carry, key):
        variables, state = carry
        _, gradients, _ = objective.loss_and_gradients(model, variables, objective.init(), key, {"image": x})
        network = {n: g if n in names else jnp.zeros_like(g) for n, g in gradients["network"].items()}
        updates, state = optimizer.update({"network": network}, state)
        return (optax.apply_updates(variables, updates), state), None

    with jax.numpy_dtype_promotion("standard"):
        run = jax.jit(lambda v: jax.lax.scan(step, (v, optimizer.init(v)), jax.random.split(KEY, steps))[0][0])
        return run(variables)


@pytest.mark.parametrize(("layers", "inference"), KINDS)
def test_training_reaches_the_optimal_encoder(layers, inference):
    model, x = lg.model(layers, inference), lg.images(256, layers)
    start, optimum = lg.variables(model), lg.exact(layers, inference)
    found = trained(model, start, x, set(optimum))
    gap = lambda variables: np.mean(lg.expected(model, variables, x) + lg.log_prob(x, layers))  # noqa: E731
    assert gap(start) > 0.5
    assert gap(found) < 1e-3
    for name, value in optimum.items():
        np.testing.assert_allclose(found["network"][name], value, atol=0.03, err_msg=name)


def test_training_all_of_it_is_probabilistic_pca():
    """The most likely W and s of Tipping & Bishop (1999): log p(x) of the eigenvalues of the covariance alone."""
    model, x = lg.model(), lg.images(256)
    x = x - jnp.mean(x, axis=0, keepdims=True)
    variables = lg.variables(model, w=lg.ROTATION, log_s=0.0)
    found = trained(model, variables, x, set(variables["network"]))
    values = np.linalg.eigvalsh(np.cov(np.asarray(x, np.float64).T, bias=True))[::-1]
    s = values[lg.LATENTS :].mean()
    logs = np.log(values[: lg.LATENTS]).sum() + (lg.DIMS - lg.LATENTS) * np.log(s)
    best = 0.5 * (lg.DIMS * np.log(2 * np.pi) + logs + lg.DIMS)
    bound = lg.expected(model, found, x).mean()
    assert best - 1e-4 < bound < best + 2e-3
    np.testing.assert_allclose(np.exp(2 * found["network"]["log_s"]), s, rtol=0.03)
