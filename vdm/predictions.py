"""What a denoiser returns, what a network may predict, and the adapter that turns a network into a denoiser.

Whatever a network predicts, its output determines an x and an ε with z = α x + σ ε:

    kind    value                                what it gives in float32
    x       x                                    x exactly; ε = (z − α x)/σ loses digits as γ → −∞
    eps     ε                                    ε exactly; x = (z − σ ε)/α loses digits as γ → +∞
    score   −ε/σ, ∇ log p(z)                     the same as eps
    v       α ε − σ x                            x and ε, at every γ
    u       ε − x, the velocity of the flow      x and ε, at every γ
    F       (σ x/s − α s ε)/r, s = `SIGMA_DATA`  x and ε, at every γ
    energy  E (batch,), with ∇E = −score         the same as eps

v is that of Salimans & Ho (2022). u is the velocity of flow matching, which has the same value in the flow's own
coordinates z/(α+σ). F is that of Karras et al. (2022), where r = √(σ² + α² s²) is the standard deviation of z for data
of standard deviation s. (z/r, −F) are the (z, v) of the data x/s, which have variance 1: like v, F is a rotation.

Conversions go through (x, ε), a `Prediction`. Equations cited by number alone are those of De Sousa Ribeiro & Glocker
(2024). (In their Tables 4.1 and 4.2 the entries with u assume α+σ = 1, which this process satisfies only in the limits
γ → ±∞, and some entries of Table 4.2 have wrong signs.) The coefficients of x and ε in a value never have the same
sign, so that neither term of

    |∂target/∂value| |value| + |∂target/∂z| |z|

is lost to cancellation, and the error of `convert` is at most 10 float32 spacings of this sum, little more than what
rounding of z and of the value already leaves undetermined. (Between v, u and F, ∂target/∂z is a difference of two
numbers of order 1, and the bound uses their sum in its place.) Where this sum is large, near the ends, the information
is truly lost, whatever the arithmetic: at γ = 20, where α = 5e-5, a float32 ε determines x to about 3e-3, and at
γ = −20 an x determines ε no better; at γ = ±13.3, to about 1e-4. A network that must be accurate at both ends should
predict v, u or F. At α = 0 (zero terminal SNR), eps, score and energy leave x undefined.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vdm import gaussian


class Prediction(NamedTuple):
    """The predicted x and ε, with z = α x + σ ε, each with the shape of z."""

    x: Array
    eps: Array


def moved(prediction: Prediction, change: Float[Array, "batch *data"], gamma: gaussian.Gamma) -> Prediction:
    """Add `change` to x̂ and adjust ε̂ so that z = α x̂ + σ ε̂ still holds.

    At γ = ∞, where z does not depend on x̂, ε̂ is left unchanged.

    >>> moved(Prediction(jnp.zeros((1, 1)), jnp.ones((1, 1))), jnp.ones((1, 1)), 0.0).eps.tolist()
    [[0.0]]
    """
    ratio = jnp.exp(-gaussian.expand(jnp.asarray(gamma), change) / 2)
    return Prediction(prediction.x + change, prediction.eps - ratio * change)


Denoise = Callable[[Array, gaussian.Gamma], Array | Prediction]
"""(z, γ) -> ε̂, or a `Prediction` where ε̂ alone would lose x̂ (α → 0). z is (batch, *data), γ a scalar or (batch,)."""

Both = Callable[[Array, gaussian.Gamma], Prediction]
"""A `Denoise` that always returns a `Prediction`: see `both`."""


@dataclass(frozen=True)
class Guided:
    """A denoiser that is not the model's own, such as a guided one: samplers accept it, `vdm.bounds` refuses it."""

    answer: Both

    def __call__(self, z: Array, gamma: gaussian.Gamma) -> Prediction:
        return self.answer(z, gamma)


SIGMA_DATA = 0.5
"""Standard deviation of the data for which F is scaled (Karras et al. 2022, Table 1)."""

KINDS = ("x", "eps", "score", "v", "u", "F")
"""Predictions that are linear in (x, ε): those that `convert` accepts."""

PREDICTIONS = (*KINDS, "energy")
"""All predictions: those that `denoiser` accepts."""

RESIDUAL = ("eps", "x", "energy")
"""Predictions whose network adds its input z to its output.

With these a network that outputs zero gives ε̂ = z (eps), x̂ = z (x) or ε̂ = σ z (energy). For v, u and F, an output of
zero is already the denoiser of data of the matching variance; for the score it is ε̂ = 0.
"""

KNOW_X_OF_NOISE = ("x", "v", "u", "F")
"""Predictions that determine x at α = 0, i.e. at zero terminal SNR."""


def convert(
    value: Float[Array, "batch *data"], z: Float[Array, "batch *data"], gamma: gaussian.Gamma, source: str, target: str
) -> Float[Array, "batch *data"]:
    """Convert `value`, a prediction of kind `source` at z, to kind `target`; γ is a scalar or (batch,).

    Table 4.2 of De Sousa Ribeiro & Glocker (2024), corrected and with F added (Kingma et al. 2021, Eq. 29 and 30). The
    docstring of the module describes the accuracy and its limits. Raises ValueError for an unknown kind.
    """
    _known("source", source, KINDS)
    _known("target", target, KINDS)
    return value if source == target else compose(*decompose(value, z, gamma, source), gamma, target)


def decompose(
    value: Float[Array, "batch *data"], z: Float[Array, "batch *data"], gamma: gaussian.Gamma, kind: str
) -> Prediction:
    """Return the (x, ε) with α x + σ ε = z that `value`, a prediction of kind `kind`, stands for.

    γ is a scalar or (batch,). For kind x, ε is found by a division by σ; for eps and score, x by a division by α; v, u
    and F give both without loss. x and ε of v are Eq. 4.56 and 4.34; ε of u is Eq. 4.46, corrected for α + σ ≠ 1.
    Raises ValueError for an unknown kind.
    """
    _known("kind", kind, KINDS)
    alpha, sigma = _alpha_sigma(gamma, z)
    match kind:
        case "x":
            return Prediction(value, (z - alpha * value) / sigma)
        case "eps" | "score":
            eps = value if kind == "eps" else -sigma * value
            return Prediction(gaussian.x_from_eps(z, eps, gamma), eps)
        case "v":
            return Prediction(alpha * z - sigma * value, sigma * z + alpha * value)
        case "u":
            return Prediction((z - sigma * value) / (alpha + sigma), (z + alpha * value) / (alpha + sigma))
        case _:  # F
            r = _std(gamma, z)
            cos, sin = alpha * SIGMA_DATA / r, sigma / r
            return Prediction(SIGMA_DATA * (cos * (z / r) + sin * value), sin * (z / r) - cos * value)


def compose(
    x: Float[Array, "batch *data"], eps: Float[Array, "batch *data"], gamma: gaussian.Gamma, kind: str
) -> Float[Array, "batch *data"]:
    """Return the prediction of kind `kind` for given x and ε: for data x and noise ε, the network's training target.

    Score, v and u are Eq. 4.19, 4.29 and 4.41. γ is a scalar or (batch,). Only the score is divided by σ. Raises
    ValueError for an unknown kind.
    """
    _known("kind", kind, KINDS)
    alpha, sigma = _alpha_sigma(gamma, x)
    match kind:
        case "x":
            return x
        case "eps":
            return eps
        case "score":
            return -eps / sigma
        case "v":
            return alpha * eps - sigma * x
        case "u":
            return eps - x
        case _:  # F
            return (sigma * (x / SIGMA_DATA) - alpha * SIGMA_DATA * eps) / _std(gamma, x)


def error_factor(gamma: gaussian.Gamma, source: str, target: str) -> Array:
    """Return ∂target/∂source at fixed z, with the shape of γ: it maps an error of `source` to the error of `target`.

    Its square is Table 4.3, ‖target − its prediction‖² = factor² ‖source − its prediction‖², for all kinds: Eq. 4.52,
    4.59, 4.62, 4.70 and 4.74, and for the noise loss in terms of v Eq. 4.65, corrected to α² from the printed 1/α² (Eq.
    4.63 has x in place of its prediction x̂). Raises ValueError for an unknown kind.
    """
    gamma = jnp.asarray(gamma)
    one = jnp.ones_like(gamma).reshape(-1)
    return convert(one, jnp.zeros_like(one), gamma.reshape(-1), source, target).reshape(gamma.shape)


def both(denoise: Denoise) -> Both:
    """Wrap `denoise` so that it always returns a `Prediction`, with x̂ = (z − σ ε̂)/α if it returns ε̂ alone.

    In that case x̂ is undefined at α = 0. A `Guided` denoiser stays `Guided`. Raises ValueError if `denoise` is not
    callable. The wrapped denoiser raises ValueError unless `denoise` returns an array of the shape of z or a
    `Prediction` of two such arrays: nothing is broadcast.

    >>> import jax.numpy as jnp
    >>> denoise = lambda z, gamma: 0.5 * z
    >>> x_hat, eps_hat = both(denoise)(jnp.ones((2, 3)), 0.0)
    """

    if not callable(denoise):
        raise ValueError(f"denoise={type(denoise).__name__}: must be a function (z, gamma) -> ε̂ or a Prediction")

    def answer(z: Float[Array, "batch *data"], gamma: gaussian.Gamma) -> Prediction:
        value = denoise(z, jnp.asarray(gamma))
        if isinstance(value, tuple | list) and not isinstance(value, Prediction):
            raise ValueError(f"the denoiser answers with a {type(value).__name__}: must be ε̂ or a Prediction(x, eps)")
        shapes = {jnp.shape(part) for part in (value if isinstance(value, Prediction) else (value,))}
        if shapes != {z.shape}:
            found = " and ".join(map(str, sorted(shapes)))
            raise ValueError(f"the denoiser answers with shape {found}: must be {z.shape}, that of z")
        return value if isinstance(value, Prediction) else decompose(value, z, gamma, "eps")

    return Guided(answer) if isinstance(denoise, Guided) else answer


def denoiser(network: Callable[[Array, Array], Array], kind: str) -> Both:
    """Return the denoiser of a network function (z, γ) -> prediction of kind `kind`.

    The denoiser returns a `Prediction`, whose x̂ and ε̂ have the shape and dtype of z. A network that predicts "F" is
    given z/r, which has variance 1 for data of standard deviation `SIGMA_DATA`: with z = α y, this is c_in y of Karras
    et al. (2022). A network that predicts "energy" returns one number per example, (batch,), which must depend on that
    example only. Then ε̂ = σ ∇_z E, Eq. 4.24, by reverse-mode differentiation: a call costs one forward and one
    backward pass, and is itself differentiable, so that a loss on ε̂ can be used for training.

    Raises ValueError for an unknown kind. The denoiser raises ValueError if the network's output has the wrong shape.

    >>> import jax.numpy as jnp
    >>> denoise = denoiser(lambda z, gamma: 0.1 * z, "v")
    >>> denoise(jnp.ones((2, 3)), jnp.inf).x.shape
    (2, 3)
    """
    _known("kind", kind, PREDICTIONS)
    if not callable(network):
        raise ValueError(f"network={type(network).__name__}: must be a function (z, gamma) -> prediction")

    def linear(z: Array, gamma: gaussian.Gamma) -> Prediction:
        value = _output(network, z / _std(gamma, z) if kind == "F" else z, gamma, kind, z.shape)
        return decompose(value, z, gamma, kind)

    def energy(z: Array, gamma: gaussian.Gamma) -> Prediction:
        score = -jax.grad(lambda z: _output(network, z, gamma, kind, z.shape[:1]).sum())(z)
        return decompose(score, z, gamma, "score")

    return energy if kind == "energy" else linear


def _output(
    network: Callable[[Array, Array], Array], z: Array, gamma: gaussian.Gamma, kind: str, shape: tuple[int, ...]
) -> Array:
    """Return the network's output in the dtype of z. Raises ValueError unless it has shape `shape`."""
    value = jnp.asarray(network(z, jnp.asarray(gamma)), z.dtype)
    if value.shape != shape:
        per = "one number per example" if kind == "energy" else "the shape of z"
        raise ValueError(f"network output of kind {kind!r} has shape {value.shape}: must be {shape}, {per}")
    return value


def _alpha_sigma(gamma: gaussian.Gamma, like: Array) -> tuple[Array, Array]:
    """(α, σ), with axes that broadcast against `like`."""
    gamma = gaussian.expand(gamma, like)
    return gaussian.alpha(gamma), gaussian.sigma(gamma)


def _std(gamma: gaussian.Gamma, like: Array) -> Array:
    """r = √(σ² + α² s²), between s and 1, with axes that broadcast against `like`."""
    gamma = gaussian.expand(gamma, like)
    return jnp.sqrt(jax.nn.sigmoid(gamma) + SIGMA_DATA**2 * jax.nn.sigmoid(-gamma))


def _known(name: str, kind: str, kinds: tuple[str, ...]) -> None:
    if kind not in kinds:
        raise ValueError(f"{name}={kind!r}: must be one of {', '.join(kinds)}")
