"""Inverse problems y = A x + noise: denoisers of x given z and y, made of a model's denoiser without training.

By Bayes' rule E[x|z, y] = x̂ + (σ²/α) ∇_z log p(y|z). With r = y − A x̂ and J = ∂x̂/∂z, all methods here take p(y|z) for
a Gaussian around A x̂, so that the change of x̂ is (σ²/α) Jᵀ Aᵀ C⁻¹ r. They differ in its covariance C:

    moment_matching  σ_y² I + A V Aᵀ, V = (σ²/α) Jᵀ = Cov[x|z]   exact for Gaussian data
    pigdm            σ_y² I + v A Aᵀ, v a number                 exact for white Gaussian data
    dps              ‖r‖ times a number, by rule of thumb        exact for no data

`proximal` is `pigdm` with v I in place of (σ²/α) Jᵀ, too: no gradient. A network that sees z through fine Fourier
features, as VDM's does, has a J of their slopes, which is no covariance: what goes by gradients fails there.

Each calls the network once, and every product with Jᵀ is one gradient of that call. Results are `Guided`, for they lead
elsewhere than the model does. Examples of a batch do not see each other. Numbers may be traced.

As γ → ∞, J vanishes with α and the change has a limit. At γ = ∞ itself the denoiser is asked at `gamma_1`, the most
noise that it knows, which is off that limit by O(α₁); if that is ∞ too, x̂ is the denoiser's own. In float32 the change
that is made of a network of ε loses digits as 1/α² does: it has five at γ = 5 and none at γ = 16.
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
"""What is left of an eigenvalue of 0, relative to the largest, after the roundings of a network and its gradient."""


class Measurement(NamedTuple):
    """y = A x + std · N(0, I) of each example; 0 where an operator that picks values measures nothing."""

    operator: Operator
    y: Float[Array, "batch *measured"]
    std: ArrayLike = 0.0
    """In units of x in [−1, 1]: a scalar, 0 or more."""


class Linearised(NamedTuple):
    """What a method knows of one network call."""

    residual: Float[Array, "batch *measured"]
    """y − A x̂."""
    back: Callable[[Array], Array]
    """u -> (σ²/α) Jᵀ Aᵀ u: one gradient."""
    std: Array
    """σ_y."""
    gamma: Array
    """Scalar or (batch,)."""


def dps(denoise: Denoise, measurement: Measurement, scale: ArrayLike = 1.0, gamma_1: ArrayLike = jnp.inf) -> Guided:
    """Diffusion posterior sampling with a normalised residual (Chung et al. 2023, Alg. 1): 1 call and 1 gradient.

    ∇_z log p(y|z) ≈ s √(m/(σ_y² + σ²)) Jᵀ Aᵀ r/‖r‖, for m measured values and s = `scale`. The paper moves each of 1000
    steps by −ζ ∇_z ‖r‖, ζ about 1, whatever γ and the size of the image; divided by the length of a step, this is
    ζ/β ≈ 50 to 10 000 times −∇_z ‖r‖. The root takes the place of ζ/β, so that s means the same for all samplers,
    numbers of steps and images: for theirs of 256×256×3 and σ_y = 0.05 it goes from 440 to about 8900. At s = 1 it does
    what `pigdm` does where A Aᵀ = I and ‖r‖² has its expected value.

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

    v = σ² s/(σ² + α² s) is the variance of x given z for white data of variance s = `prior_var`, for which this is
    exact. The system is solved by up to `iterations` steps of conjugate gradients, which need A and no network. One
    step is enough where A Aᵀ is a multiple of I, as for masks and means of boxes. Of y without noise, what A all but
    loses stays as x̂ has it: steps end where only rounding is left, which the pseudoinverse would blow up.

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
    exactly E[x|z, y]; otherwise p(x|z) is taken for the Gaussian of its two moments. Conjugate gradients solve the
    system, a gradient a step, and each example on its own. A network's J is not quite symmetric: an example that would
    go uphill stops. In exact arithmetic as many steps as A V Aᵀ has distinct eigenvalues are enough.

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
    """x̂ moved to the x of least ‖y − A x‖²/σ_y² + ‖x − x̂‖²/v (DiffPIR, Zhu et al. 2023): 1 call, no gradient.

    x̂ + v Aᵀ (σ_y² I + v A Aᵀ)⁻¹ (y − A x̂), with v = σ² s/(σ² + α² s) as of `pigdm`, s = `prior_var`; theirs is σ²/α²
    over a number. Exact for white Gaussian data of variance s, and biased for others: what is measured says nothing of
    what is not. Where σ_y = 0 it puts what is measured into x̂ (Wang et al. 2023, DDNM). `iterations` as of `pigdm`.

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
    """v = σ² s/(σ² + α² s): the variance of x given z for white data of variance s, to broadcast against `like`."""
    s, var = scalar("prior_var", prior_var, like), jax.nn.sigmoid(gamma)
    return gaussian.expand(var * s / (var + jax.nn.sigmoid(-gamma) * s), like)


def _checked_std(measurement: Measurement) -> Array:
    """σ_y. Raises ValueError for one below 0, and for a y that the operator does not measure."""
    operator, y, std = measurement
    options.check_range("std", std, 0.0, 1e3)
    if y.shape[1:] != operator.measured:
        raise ValueError(f"y has shape {y.shape}: must be (batch, *{operator.measured}), what the operator measures")
    return scalar("std", std, y)


def _check_latents(z: Array, measurement: Measurement) -> None:
    """Raises ValueError unless z has the shape of what was measured: nothing is broadcast."""
    shape = len(measurement.y), *measurement.operator.shape
    if z.shape != shape:
        raise ValueError(f"z has shape {z.shape}: must be {shape}, as the measurement is")


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
        # At γ = ∞ z is all noise.
        return Prediction(x, jnp.where(jnp.isposinf(gaussian.expand(gamma, z)), z, eps))

    return Guided(led)


def _conjugate_gradients(
    product: Callable[[Array], tuple[Array, Array]], b: Float[Array, "batch *measured"], iterations: int, floor: Array
) -> Array:
    """Σ s_k d_k of the steps s_k p_k that solve K u = b in each example; `product` is p -> (K p, d).

    d is whatever is wanted of p. An example stops for good where what is left is rounding: its squared residual is at
    most `floor`, (batch,), or the curvature p·K p/p·p at most `SINGULAR` of the largest so far. When all have stopped,
    no more steps are made.
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
    """The square of what rounding leaves of a residual y − A x̂."""
    return jnp.square(2 * EPS) * _squares(y)


def _sums(values: Array) -> Float[Array, " batch"]:
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def _squares(values: Array) -> Float[Array, " batch"]:
    return _sums(jnp.square(values))
