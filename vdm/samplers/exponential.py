"""Exponential integrators that approximate x̂ by a polynomial in the log-SNR: the steps of DPM-Solver++ and UniPC.

With ℓ = log α/σ = −γ/2 the probability-flow ODE is d(z/σ)/dℓ = e^ℓ x̂, so with h = ℓ_s − ℓ_t

    z_s = σ_s/σ_t z_t + α_s ∫₀ʰ e^{u−h} x̂(ℓ_t + u) du.

The reverse SDE has 2ℓ in place of ℓ in the integral, e^{−h} σ_s/σ_t as the factor of z_t, and adds noise of variance
σ_s² (1 − e^{−2h}). `rate` is 1 for the ODE and 2 for the SDE; the code writes functions of γ in terms of
u = rate (γ_t − γ)/2.
"""

from itertools import pairwise
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from vdm import gaussian


class History(NamedTuple):
    """Past predictions x̂ and the γ of each, newest first; γ = ∞ marks an empty place."""

    gammas: tuple[Float[Array, ""], ...]
    x_hats: tuple[Float[Array, "batch *data"], ...]

    def with_newest(self, gamma: Array, x_hat: Array) -> "History":
        """Return the history with one more prediction at its front."""
        return History((gamma, *self.gammas), (x_hat, *self.x_hats))

    def newest(self, length: int) -> "History":
        """Return the `length` newest entries."""
        return History(self.gammas[:length], self.x_hats[:length])


def no_history(z: Float[Array, "batch *data"], length: int) -> History:
    """Return a history of `length` empty places, for x̂ of the shape and dtype of z."""
    return History((jnp.asarray(jnp.inf, z.dtype),) * length, (jnp.zeros_like(z),) * length)


def advanced(
    z: Float[Array, "batch *data"],
    gamma_t: Array,
    gamma_s: Array,
    drift: Float[Array, "batch *data"],
    rate: int = 1,
) -> Float[Array, "batch *data"]:
    """Return z_s from z_t and the step's `drift`; for the SDE, the mean of z_s."""
    decay = jnp.exp((gamma_s - gamma_t) / 2) ** (rate - 1)
    return gaussian.sigma(gamma_s) / gaussian.sigma(gamma_t) * decay * z + drift


def predicted(gamma_t: Array, gamma_s: Array, history: History, rate: int = 1) -> Float[Array, "batch *data"]:
    """Return the drift from x̂ at γ_t and earlier, γ_t first; its order is the length of the history, 1 to 3.

    Order 2 evaluates the line through the two newest x̂ at the middle of the step instead of integrating it. The two
    differ by O(h³), and this is how DPM-Solver++(2M) is defined.
    """
    if len(history.gammas) == 2:
        (_, before), (x_hat, x_hat_before) = history
        ahead = jnp.where(_distinct(gamma_t, before), (gamma_t - gamma_s) / (2 * (before - gamma_t)), 0)
        history = History((gamma_t,), (x_hat + ahead * (x_hat - x_hat_before),))
    return integrated(gamma_t, gamma_s, history, rate)


def integrated(gamma_t: Array, gamma_s: Array, history: History, rate: int = 1) -> Float[Array, "batch *data"]:
    """Return the drift α_s ∫ … for the polynomial through all of `history`, which may include x̂ at γ_s.

    Counting from the newest entry, the polynomial stops before the first empty place (γ = ∞) or repeated γ.
    """
    h, *points = (rate * (gamma_t - gamma) / 2 for gamma in (gamma_s, *history.gammas))
    # Newton's form Σ_k table[0] Π_{j<k} (u − points[j]): `basis` holds the coefficients of the product in powers of u.
    table, basis, known = list(history.x_hats), [jnp.ones_like(h)], jnp.asarray(True)
    # The integrals ∫₀ʰ e^{u−h} uᵏ du.
    moments = [-jnp.expm1(-h)]
    integral = moments[0] * table[0]
    for k in range(1, len(points)):
        known &= _distinct(history.gammas[k - 1], history.gammas[k])
        moments.append(h**k - k * moments[-1])
        table = [(b - a) / (points[i + k] - points[i]) for i, (a, b) in enumerate(pairwise(table))]
        shifted, scaled = [jnp.zeros_like(h), *basis], [*basis, jnp.zeros_like(h)]
        basis = [a - points[k - 1] * b for a, b in zip(shifted, scaled, strict=True)]
        weight = sum(a * b for a, b in zip(basis, moments, strict=True))
        integral += jnp.where(known, weight * table[0], 0)
    return gaussian.alpha(gamma_s) * integral


def _distinct(gamma: Array, before: Array) -> Array:
    return jnp.isfinite(gamma) & jnp.isfinite(before) & (gamma != before)
