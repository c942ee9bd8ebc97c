"""One objective, however it is written: what the network predicts, whose error is squared, how noise levels are drawn.

The network is a small function with parameters of its own for each prediction; data are two-dimensional.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm import bounds, parts, predictions, schedules

NUM, DIMS = 64, 2
WEIGHTINGS = [parts.make("weighting", name) for name in parts.names("weighting")]
ENDS = (-8.0, 6.0)
SCHEDULES = {name: getattr(schedules, name)(*ENDS) for name in ("linear", "cosine", "beta_linear")}


def draws(seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (NUM, DIMS)), rng.normal(size=(NUM, DIMS)), np.linspace(*ENDS, NUM)


def parameters():
    rng = np.random.default_rng(1)
    return {"in": rng.normal(size=(DIMS, 5)), "gamma": rng.normal(size=5), "out": rng.normal(size=(5, DIMS))}


def denoiser(params, prediction: str) -> predictions.Both:
    def network(z, gamma):
        hidden = jnp.tanh(z @ params["in"] + jnp.asarray(gamma).reshape(-1, 1) / 8 * params["gamma"].reshape(1, -1))
        value = hidden @ params["out"]
        return 0.5 * jnp.sum(value**2, axis=1) if prediction == "energy" else value

    return predictions.denoiser(network, prediction)


@pytest.mark.parametrize("prediction", predictions.PREDICTIONS)
def test_every_loss_space_is_the_same_loss_with_the_same_gradient(prediction):
    """Draw by draw and for every weighting, in float64: Table 4.3's factors, with α² for noise from v.

    The value is ½ w ‖ε − ε̂‖² worked out here.
    """
    with jax.enable_x64(True):
        x, eps, gamma = (jnp.asarray(value) for value in draws())
        slope = 3.0
        weights = jnp.stack([slope * weighting.weight(-gamma) for weighting in WEIGHTINGS])

        def losses(params, weight, space):
            return bounds.diffusion_loss_at(denoiser(params, prediction), gamma, weight, x, eps, space)

        def plain(params, weight):
            alpha, sigma = jnp.sqrt(jax.nn.sigmoid(-gamma))[:, None], jnp.sqrt(jax.nn.sigmoid(gamma))[:, None]
            eps_hat = denoiser(params, prediction)(alpha * x + sigma * eps, gamma).eps
            return 0.5 * weight * jnp.sum((eps - eps_hat) ** 2, axis=1)

        def value_and_gradient(f):
            summed = lambda params, weight: (f(params, weight).sum(), f(params, weight))  # noqa: E731
            return jax.jit(jax.vmap(jax.value_and_grad(summed, has_aux=True), in_axes=(None, 0)))(params, weights)

        params = jax.tree.map(jnp.asarray, parameters())
        (_, expected), gradient = value_and_gradient(plain)
        for space in predictions.KINDS:
            (_, ours), gradient_ours = value_and_gradient(functools.partial(losses, space=space))
            # x and ε from one another lose up to e^{±γ/2} of the digits, 55 here, squared in the loss.
            np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12, err_msg=space)
            for left, right in zip(jax.tree.leaves(gradient_ours), jax.tree.leaves(gradient), strict=True):
                scale = np.abs(right).max(axis=tuple(range(1, right.ndim)), keepdims=True)
                np.testing.assert_allclose(left / scale, right / scale, atol=1e-9, err_msg=space)


@pytest.mark.parametrize("prediction", predictions.PREDICTIONS)
@pytest.mark.parametrize("space", ["eps", "x", "v"])
def test_every_schedule_has_the_same_weighted_integral(prediction, space):
    """With the same end points; loss and gradient, for every weighting, as midpoint sums over t of one x and ε."""
    points = 4000
    t = jnp.asarray((np.arange(points) + 0.5) / points, jnp.float32)
    x, eps = jnp.array([[0.4, -0.7]]), jnp.array([[0.3, 1.2]])
    x, eps = jnp.repeat(x, points, axis=0), jnp.repeat(eps, points, axis=0)
    params = jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), parameters())

    def objective(params, gamma, slope, w):
        loss = bounds.diffusion_loss_at(denoiser(params, prediction), gamma, w * slope, x, eps, space)
        return jnp.mean(loss)

    f = jax.jit(jax.vmap(jax.value_and_grad(objective), in_axes=(None, None, None, 0)))
    results = {}
    for name, schedule in SCHEDULES.items():
        gamma, slope = schedules.gamma_and_slope(schedule, {}, t)
        w = jnp.stack([weighting.weight(-gamma) for weighting in WEIGHTINGS])
        results[name] = f(params, gamma, slope, w)
    for name in ("cosine", "beta_linear"):
        for left, right in zip(jax.tree.leaves(results[name]), jax.tree.leaves(results["linear"]), strict=True):
            scale = np.abs(right).reshape(len(WEIGHTINGS), -1).max(axis=1).reshape(-1, *[1] * (right.ndim - 1))
            # Midpoint sums of steep schedules: β-linear rises by up to 700 a unit of t.
            np.testing.assert_allclose(left / scale, right / scale, atol=3e-3, err_msg=name)


def test_an_unknown_space_is_refused():
    x, eps, gamma = (jnp.asarray(value, jnp.float32) for value in draws())
    with pytest.raises(ValueError, match="kind='energy': must be one of x, eps, score, v, u, F"):
        bounds.diffusion_loss_at(lambda z, gamma: z, gamma, jnp.ones(NUM), x, eps, "energy")


def test_in_the_space_of_its_prediction_a_network_is_judged_by_what_it_said():
    """At γ = −19 the ε̂ of an x̂ is made of the last digits of z; the loss in x-space does not go through it."""
    gamma = jnp.float32(-19.0)
    x, eps, _ = (jnp.asarray(value, jnp.float32) for value in draws())
    x_hat = x + jnp.float32(1e-6)

    def loss(space: str) -> np.ndarray:
        denoise = predictions.denoiser(lambda z, gamma: x_hat, "x")
        return np.asarray(bounds.diffusion_loss_at(denoise, jnp.full(NUM, gamma), jnp.ones(NUM), x, eps, space))

    exact = 0.5 * np.sum((np.float64(x_hat) - np.float64(x)) ** 2, axis=1) * np.exp(19)
    # The difference of neighbours is exact in float32; the factor e^{19} is good to a few spacings of 19.
    np.testing.assert_allclose(loss("x"), exact, rtol=1e-5)
    assert np.abs(loss("eps") / exact - 1).max() > 0.02
