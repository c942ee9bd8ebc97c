"""Inverse problems y = A x + noise: denoisers of x given z and y, built from a model's denoiser without training.

By Bayes' rule E[x|z, y] = x̂ + (σ²/α) ∇_z log p(y|z). With r = y − A x̂ and J = ∂x̂/∂z, all methods here approximate
p(y|z) by a Gaussian with mean A x̂, so that x̂ changes by (σ²/α) Jᵀ Aᵀ C⁻¹ r. They differ in its covariance C:

    moment_matching  σ_y² I + A V Aᵀ, V = (σ²/α) Jᵀ = Cov[x|z]   exact for Gaussian data
    pigdm            σ_y² I + v A Aᵀ, v a number                 exact for white Gaussian data
    dps              a rule of thumb: a number times ‖r‖         exact for no data

`proximal` is `pigdm` with (σ²/α) Jᵀ replaced by v I as well, so it needs no gradient. A network that sees z through
high-frequency Fourier features, as VDM's does, has a J dominated by the slopes of these features, which is no
covariance: methods that use gradients fail there.

Each method calls the network once, and each product with Jᵀ is one gradient of that call. Results are `Guided`, for
they are not the model's own denoiser. Examples of a batch are treated independently. Numbers may be traced.

As γ → ∞, J vanishes with α and the change has a limit. At γ = ∞ itself the denoiser is evaluated at `gamma_1`, the
highest noise level that it knows, which is off that limit by O(α₁); if `gamma_1` is ∞ too, x̂ is the denoiser's own. In
float32, a change computed from a network that predicts ε loses digits as 1/α² does: it has five digits at γ = 5 and
none at γ = 16.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vdm import gaussian, operators, predictions
from vdm.guidance import scalar
from vdm.operators import Operator
from vdm.predictions import Denoise, Guided, Prediction
from vdm.samplers import options

EPS = float(np.finfo(np.float32).eps)
SINGULAR = 10 * EPS
"""Size of an eigenvalue of 0, relative to the largest one, after rounding errors of the network and its gradient."""


class Measurement(NamedTuple):
    """A measurement y = A x + std · N(0, I) of each example. If A only picks values, y is 0 where it picks none."""

    operator: Operator
    y: Float[Array, "batch *measured"]
    std: ArrayLike = 0.0
    """Standard deviation of the noise in units of x in [−1, 1]: a scalar, 0 or more."""


class Linearised(NamedTuple):
    """What a method is given of one network call."""

    residual: Float[Array, "batch *measured"]
    """y − A x̂."""
    back: Callable[[Array], Array]
    """u -> (σ²/α) Jᵀ Aᵀ u, at the cost of one gradient."""
    std: Array
    """σ_y."""
    gamma: Array
    """Scalar or (batch,)."""


def dps(denoise: Denoise, measurement: Measurement, scale: ArrayLike = 1.0, gamma_1: ArrayLike = jnp.inf) -> Guided:
    """Diffusion posterior sampling with a normalized residual (Chung et al. 2023, Alg. 1): 1 call and 1 gradient.

    ∇_z log p(y|z) ≈ s √(m/(σ_y² + σ²)) Jᵀ Aᵀ r/‖r‖, for m measured values and s = `scale`. The paper moves z in each of
    1000 steps by −ζ ∇_z ‖r‖, with ζ about 1 whatever γ and the size of the image. Divided by the length of a step, this
    is −∇_z ‖r‖ times ζ/β ≈ 50 to 10 000. Here the root replaces ζ/β, so that s means the same for all samplers, numbers
    of steps and image sizes: for the paper's images of 256×256×3 and σ_y = 0.05, the root goes from 440 to about 8900.
    At s = 1 this agrees with `pigdm` where A Aᵀ = I and ‖r‖² has its expected value.

    >>> known = Measurement(operators.mask(jnp.array([True, False])), jnp.array([[1.0, 0.0]]), std=0.1)
    >>> x_hat = dps(lambda z, gamma: 0.5 * z, known)(jnp.zeros((1, 2)), 0.0).x
    >>> x_hat[0, 0].item() > 0, x_hat[0, 1].item()
    (True, 0.0)
    """

    def change(at: Linearised) -> Array:
        known, square = measurement.operator.known, _squares(at.residual)
        m = at.residual[0].size if known is None else jnp.sum(known, dtype=at.residual.dtype)
        noise = jnp.square(at.std) + jax.nn.sigmoid(at.gamma)
        size = jnp.sqrt(m / (noise * jnp.where(square > 0, square, 1)))
        return at.back(gaussian.expand(scalar("scale", scale, size) * size, at.residual) * at.residual)

    return _guided(denoise, measurement, change, gamma_1)


def pigdm(
    denoise: Denoise,
    measurement: Measurement,
    prior_var: ArrayLike = 1.0,
    iterations: int = 50,
    gamma_1: ArrayLike = jnp.inf,
) -> Guided:
    """Pseudoinverse guidance, ΠGDM (Song et al. 2023): p(y|z) = N(A x̂, σ_y² I + v A Aᵀ); 1 call and 1 gradient.

    v = σ² s/(σ² + α² s) is the variance of x given z for white data of variance s = `prior_var`, for which the method
    is exact. The linear system is solved by up to `iterations` steps of conjugate gradients, which need A but not the
    network. One step is enough where A Aᵀ is a multiple of I, as for masks and box averages. For noiseless y,
    components that A nearly annihilates are left as in x̂: iterations stop where only rounding error remains, which the
    pseudoinverse would amplify. Raises ValueError unless iterations ≥ 1.

    >>> from vdm import oracles
    >>> known = Measurement(operators.mask(jnp.array([True, False])), jnp.array([[3.0, 0.0]]), std=1.0)
    >>> white = oracles.gaussian(mean=[0.0, 0.0], cov_diag=[1.0, 1.0])
    >>> pigdm(white.denoise, known)(jnp.zeros((1, 2)), 0.0).x.round(4).tolist()  # v = ½: y/3
    [[1.0, 0.0]]
    """
    options.check_count("iterations", iterations)
    operator = measurement.operator

    def change(at: Linearised) -> Array:
        var = _white_var(prior_var, at.gamma, at.residual)

        def product(u: Array) -> tuple[Array, Array]:
            return jnp.square(at.std) * u + var * operator.apply(operators.adjoint(operator, u)), u

        return at.back(_conjugate_gradients(product, at.residual, iterations, _floor(measurement.y)))

    return _guided(denoise, measurement, change, gamma_1)


def moment_matching(
    denoise: Denoise, measurement: Measurement, iterations: int = 3, gamma_1: ArrayLike = jnp.inf
) -> Guided:
    """MMPS (Rozet et al. 2024): p(y|z) = N(A x̂, σ_y² I + A V Aᵀ), V = (σ²/α) Jᵀ; 1 call and `iterations` gradients.

    V is the covariance of x given z wherever x̂ is E[x|z]. If it does not depend on z, as for Gaussian data, this is
    exactly E[x|z, y]; otherwise p(x|z) is approximated by the Gaussian with its mean and covariance. The system is
    solved by conjugate gradients, one gradient per step, separately for each example. The J of a network is not quite
    symmetric: an example stops before a step of non-positive curvature. In exact arithmetic, as many steps as A V Aᵀ
    has distinct eigenvalues are enough. Raises ValueError unless iterations ≥ 1.

    >>> from vdm import oracles
    >>> known = Measurement(operators.mask(jnp.array([True, False])), jnp.array([[2.25, 0.0]]), std=1.0)
    >>> data = oracles.gaussian(mean=[0.0, 0.0], cov_diag=[4.0, 1.0])
    >>> moment_matching(data.denoise, known)(jnp.zeros((1, 2)), 0.0).x.round(4).tolist()  # V = 4/5: y 0.8/1.8
    [[1.0, 0.0]]
    """
    options.check_count("iterations", iterations)
    apply = measurement.operator.apply

    def change(at: Linearised) -> Array:
        def product(u: Array) -> tuple[Array, Array]:
            back = at.back(u)
            return jnp.square(at.std) * u + apply(back), back

        return _conjugate_gradients(product, at.residual, iterations, _floor(measurement.y))

    return _guided(denoise, measurement, change, gamma_1)


def proximal(denoise: Denoise, measurement: Measurement, prior_var: ArrayLike = 1.0, iterations: int = 50) -> Guided:
    """Move x̂ to the x that minimizes ‖y − A x‖²/σ_y² + ‖x − x̂‖²/v (DiffPIR, Zhu et al. 2023): 1 call, no gradient.

    x̂ + v Aᵀ (σ_y² I + v A Aᵀ)⁻¹ (y − A x̂), with v = σ² s/(σ² + α² s) as in `pigdm`, s = `prior_var`; in the paper v
    is σ²/α² divided by a number. Exact for white Gaussian data of variance s and biased for other data, because what is
    measured does not inform what is not. With σ_y = 0 it substitutes the measured values into x̂ (Wang et al. 2023,
    DDNM). `iterations` is as in `pigdm`. Raises ValueError unless iterations ≥ 1.

    >>> from vdm import oracles
    >>> known = Measurement(operators.mask(jnp.array([True, False])), jnp.array([[3.0, 0.0]]), std=1.0)
    >>> white = oracles.gaussian(mean=[0.0, 0.0], cov_diag=[1.0, 1.0])
    >>> proximal(white.denoise, known)(jnp.zeros((1, 2)), 0.0).x.round(4).tolist()  # v = ½: y/3
    [[1.0, 0.0]]
    """
    options.check_count("iterations", iterations)
    answer, (operator, y, _) = predictions.both(denoise), measurement
    std = _checked_std(measurement)

    def led(z: Float[Array, "batch *data"], gamma: gaussian.Gamma) -> Prediction:
        _check_latents(z, measurement)
        gamma = jnp.asarray(gamma)
        found, var = answer(z, gamma), _white_var(prior_var, gamma, z)

        def product(u: Array) -> tuple[Array, Array]:
            back = var * operators.adjoint(operator, u)
            return jnp.square(std) * u + operator.apply(back), back

        moved = _conjugate_gradients(product, y - operator.apply(found.x), iterations, _floor(y))
        return predictions.moved(found, moved, gamma)

    return Guided(led)


def _white_var(prior_var: ArrayLike, gamma: Array, like: Array) -> Array:
    """v = σ² s/(σ² + α² s), the variance of x given z for white data of variance s, broadcastable against `like`."""
    s, var = scalar("prior_var", prior_var, like), jax.nn.sigmoid(gamma)
    return gaussian.expand(var * s / (var + jax.nn.sigmoid(-gamma) * s), like)


def _checked_std(measurement: Measurement) -> Array:
    """Return σ_y. Raises ValueError if it is out of range, or if y does not have the operator's `measured` shape."""
    operator, y, std = measurement
    options.check_range("std", std, 0.0, 1e3)
    if y.shape[1:] != operator.measured:
        raise ValueError(f"y has shape {y.shape}: must be (batch, *{operator.measured}), what the operator measures")
    return scalar("std", std, y)


def _check_latents(z: Array, measurement: Measurement) -> None:
    """Raise ValueError unless z has the shape of the data that were measured: nothing is broadcast."""
    shape = len(measurement.y), *measurement.operator.shape
    if z.shape != shape:
        raise ValueError(f"z has shape {z.shape}: must be {shape}, that of the measured data")


def _guided(
    denoise: Denoise, measurement: Measurement, change: Callable[[Linearised], Array], gamma_1: ArrayLike
) -> Guided:
    """The denoiser whose x̂ is moved by `change`. Raises ValueError for a measurement that does not fit."""
    answer, (operator, y, _) = predictions.both(denoise), measurement
    std = _checked_std(measurement)

    def led(z: Float[Array, "batch *data"], gamma: gaussian.Gamma) -> Prediction:
        _check_latents(z, measurement)
        gamma = jnp.asarray(gamma)
        known = jnp.where(jnp.isposinf(gamma), jnp.asarray(gamma_1, gamma.dtype), gamma)
        at = gaussian.expand(known, z)
        ratio = jnp.where(jnp.isfinite(at), jax.nn.sigmoid(at) / gaussian.alpha(at), 0)

        def guesses(z: Array) -> tuple[Array, Array]:
            x_hat, eps_hat = answer(z, known)
            return x_hat, eps_hat

        x_hat, pull, eps_hat = jax.vjp(guesses, z, has_aux=True)

        def back(u: Array) -> Array:
            (slope,) = pull(operators.adjoint(operator, u))
            return jnp.asarray(ratio * slope)

        moved = change(Linearised(y - operator.apply(x_hat), back, std, known))
        x, eps = predictions.moved(Prediction(x_hat, eps_hat), moved, known)
        # At γ = ∞, z is pure noise.
        return Prediction(x, jnp.where(jnp.isposinf(gaussian.expand(gamma, z)), z, eps))

    return Guided(led)


def _conjugate_gradients(
    product: Callable[[Array], tuple[Array, Array]], b: Float[Array, "batch *measured"], iterations: int, floor: Array
) -> Array:
    """Solve K u = b by conjugate gradients in each example and return Σ s_k d_k; `product` is p -> (K p, d).

    s_k is the size of step k in direction p_k, and d_k any linear function of p_k, e.g. p_k itself to get u. An example
    stops for good when only rounding error remains: when its squared residual is at most `floor`, (batch,), or the
    curvature p·K p/p·p at most `SINGULAR` times the largest so far. The loop ends when all examples have stopped.
    """

    def goes_on(carry: tuple[Array, ...]) -> Array:
        n, _, _, _, square, _ = carry
        return (n < iterations) & jnp.any(square > floor)

    def step(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        n, total, residual, p, square, steepest = carry
        image, wanted = product(p)
        curvature, length = _sums(p * image), _squares(p)
        steepest = jnp.maximum(steepest, curvature / jnp.where(length > 0, length, 1))
        goes = (square > floor) & (curvature > SINGULAR * steepest * length)
        size = jnp.where(goes, square / jnp.where(goes, curvature, 1), 0)
        residual = residual - gaussian.expand(size, b) * image
        total = total + gaussian.expand(size, total) * wanted
        after = jnp.where(goes, _squares(residual), 0)
        turn = after / jnp.where(goes, square, 1)
        return n + 1, total, residual, residual + gaussian.expand(turn, b) * p, after, steepest

    like, square = jax.eval_shape(product, b)[1], _squares(b)
    total = jnp.zeros(like.shape, like.dtype)
    start: tuple[Array, ...] = (jnp.int32(0), total, b, b, square, jnp.zeros_like(square))
    return jax.lax.while_loop(goes_on, step, start)[1]


def _floor(y: Float[Array, "batch *measured"]) -> Float[Array, " batch"]:
    """Square of the rounding error of a residual y − A x̂."""
    return jnp.square(2 * EPS) * _squares(y)


def _sums(values: Array) -> Float[Array, " batch"]:
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def _squares(values: Array) -> Float[Array, " batch"]:
    return _sums(jnp.square(values))
