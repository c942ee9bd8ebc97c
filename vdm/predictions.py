"""What a denoiser answers, what a network may predict, and the adapter that makes a denoiser of it.

Whatever a network predicts, it says which x and ε it believes z = α x + σ ε to be made of:

    kind    value                                from it, in float32
    x       x                                    x exactly; ε = (z − α x)/σ loses digits as γ → −∞
    eps     ε                                    ε exactly; x = (z − σ ε)/α loses digits as γ → +∞
    score   −ε/σ, ∇ log p(z)                     as eps
    v       α ε − σ x                            x and ε, at every γ
    u       ε − x, the velocity of the flow      x and ε, at every γ
    F       (σ x/s − α s ε)/r, s = `SIGMA_DATA`  x and ε, at every γ
    energy  E (batch,), with ∇E = −score         as eps

v is that of Salimans & Ho (2022); u that of flow matching, the same number in the flow's own coordinates z/(α+σ); F
that of Karras et al. (2022), where r = √(σ² + α² s²) is the standard deviation of z for data of standard deviation s.
(z/r, −F) are (z, v) of the data x/s, whose variance is 1: F is a rotation, as v is.

Conversions go through (x, ε), a `Prediction`. Bare numbers of equations are those of De Sousa Ribeiro & Glocker (2024).
(In their Tables 4.1 and 4.2 the entries with u need α+σ = 1, which this process reaches at its ends only, and some of
Table 4.2 have wrong signs.) A value's coefficients of x and ε never have the same sign, so that no term of

    |∂target/∂value| |value| + |∂target/∂z| |z|

cancels on the way, and `convert` errs by at most 10 float32 spacings of this sum, not much more than the last digits
of z and value leave open. (Between v, u and F, ∂target/∂z is a difference of two numbers of order 1, and counts as
their sum.) What the sum allows at the ends is truly lost, whatever the arithmetic: at γ = 20, where α = 5e-5, an ε of
float32 tells x to about 3e-3, and at γ = −20 an x tells ε no better; at ±13.3 to about 1e-4. A network that must be
good at both ends predicts v, u or F. At α = 0 (zero terminal SNR) eps, score and energy leave x undefined.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vdm import gaussian


class Prediction(NamedTuple):
    """Which x and ε a noisy z = α x + σ ε is made of, each like z."""

    x: Array
    eps: Array


def moved(prediction: Prediction, change: Float[Array, "batch *data"], gamma: gaussian.Gamma) -> Prediction:
    """x̂ + `change`, and ε̂ changed with it: z = α x̂ + σ ε̂ holds as before. At γ = ∞ x̂ says nothing of ε̂, which stays.

    >>> moved(Prediction(jnp.zeros((1, 1)), jnp.ones((1, 1))), jnp.ones((1, 1)), 0.0).eps.tolist()
    [[0.0]]
    """
    ratio = jnp.exp(-gaussian.expand(jnp.asarray(gamma), change) / 2)
    return Prediction(prediction.x + change, prediction.eps - ratio * change)


Denoise = Callable[[Array, gaussian.Gamma], Array | Prediction]
"""(z, γ) -> ε̂, or a `Prediction` where ε̂ alone would lose x̂ (α → 0); z is (batch, *data), γ a scalar or (batch,)."""

Both = Callable[[Array, gaussian.Gamma], Prediction]
"""A `Denoise` that always answers with both: see `both`."""


@dataclass(frozen=True)
class Guided:
    """A denoiser that leads elsewhere than the model does: samplers and flows take it, `vdm.bounds` refuses it."""

    answer: Both

    def __call__(self, z: Array, gamma: gaussian.Gamma) -> Prediction:
        return self.answer(z, gamma)


SIGMA_DATA = 0.5
"""Standard deviation of the data that F is scaled for (Karras et al. 2022, Table 1)."""

KINDS = ("x", "eps", "score", "v", "u", "F")
"""The predictions that are linear in (x, ε): what `convert` takes."""

PREDICTIONS = (*KINDS, "energy")
"""All predictions: what `denoiser` takes."""

RESIDUAL = ("eps", "x", "energy")
"""The predictions whose network adds its input to its output: a zero network is then ε̂ = z, x̂ = z, ε̂ = σ z by energy.

For v, u and F its zero is the denoiser that fits data of the right variance, and for the score ε̂ = 0.
"""

KNOW_X_OF_NOISE = ("x", "v", "u", "F")
"""The predictions that tell x at α = 0, zero terminal SNR."""


def convert(
    value: Float[Array, "batch *data"], z: Float[Array, "batch *data"], gamma: gaussian.Gamma, source: str, target: str
) -> Float[Array, "batch *data"]:
    """`value`, a prediction of kind `source` at z, as one of kind `target`; γ is a scalar or (batch,).

    Table 4.2 of De Sousa Ribeiro & Glocker (2024), corrected and with F (Kingma et al. 2021, Eq. 29 and 30). Accuracy,
    and where it ends: see the module. Raises ValueError for an unknown kind.
    """
    _known("source", source, KINDS)
    _known("target", target, KINDS)
    return value if source == target else compose(*decompose(value, z, gamma, source), gamma, target)


def decompose(
    value: Float[Array, "batch *data"], z: Float[Array, "batch *data"], gamma: gaussian.Gamma, kind: str
) -> Prediction:
    """The (x, ε) with α x + σ ε = z for which a prediction of kind `kind` is `value`; γ is a scalar or (batch,).

    From x, ε divides by σ; from eps and score, x divides by α; v, u and F give both without loss. x and ε of v are Eq.
    4.56 and 4.34; ε of u is Eq. 4.46, corrected for α + σ ≠ 1. Raises ValueError for an unknown kind.
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
    """The prediction of kind `kind` that says z = α x + σ ε: for data x and noise ε, what a network is to learn.

    Score, v and u are Eq. 4.19, 4.29 and 4.41. γ is a scalar or (batch,). Divides by σ for the score only. Raises
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
    """∂target/∂source at fixed z, with the shape of γ: an error e of a `source` is `error_factor` · e of the `target`.

    Its square is Table 4.3, ‖target − its prediction‖² = factor² ‖source − its prediction‖², for all kinds: Eq. 4.52,
    4.59, 4.62, 4.70 and 4.74, and for the noise loss in terms of v Eq. 4.65, corrected to α² from the printed 1/α²
    (Eq. 4.63 takes x for its prediction x̂). Raises ValueError for an unknown kind.
    """
    gamma = jnp.asarray(gamma)
    one = jnp.ones_like(gamma).reshape(-1)
    return convert(one, jnp.zeros_like(one), gamma.reshape(-1), source, target).reshape(gamma.shape)


def both(denoise: Denoise) -> Both:
    """`denoise` as one that answers with a `Prediction`: its own, or x̂ = (z − σ ε̂)/α of its ε̂.

    Of ε̂ alone x̂ is lost at α = 0. What is `Guided` stays so. Raises ValueError unless `denoise` is a function; its
    result does when the answer is neither an array of the shape of z nor a `Prediction` of two: nothing is broadcast.

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
    """The denoiser of a network function (z, γ) -> prediction of kind `kind`: it answers with a `Prediction`.

    x̂ and ε̂ have the shape and dtype of z. A network that predicts "F" is given z/r, of variance 1 for data of
    standard deviation `SIGMA_DATA`: with z = α y, that is Karras et al.'s c_in y. One that predicts "energy" returns
    one number an example, (batch,), and ε̂ = σ ∇_z E, Eq. 4.24, by reverse-mode differentiation: a forward and a
    backward pass a call, itself differentiable, so that a loss of ε̂ can be trained. An example's energy must depend on
    that example only.

    Raises ValueError for an unknown kind; its result does when the network's output has the wrong shape.

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
    """The network's output in the dtype of z. Raises ValueError unless it has shape `shape`."""
    value = jnp.asarray(network(z, jnp.asarray(gamma)), z.dtype)
    if value.shape != shape:
        per = "one number an example" if kind == "energy" else "the shape of z"
        raise ValueError(f"network output of kind {kind!r} has shape {value.shape}: must be {shape}, {per}")
    return value


def _alpha_sigma(gamma: gaussian.Gamma, like: Array) -> tuple[Array, Array]:
    """(α, σ), with axes to broadcast against `like`."""
    gamma = gaussian.expand(gamma, like)
    return gaussian.alpha(gamma), gaussian.sigma(gamma)


def _std(gamma: gaussian.Gamma, like: Array) -> Array:
    """r = √(σ² + α² s²), between s and 1, with axes to broadcast against `like`."""
    gamma = gaussian.expand(gamma, like)
    return jnp.sqrt(jax.nn.sigmoid(gamma) + SIGMA_DATA**2 * jax.nn.sigmoid(-gamma))


def _known(name: str, kind: str, kinds: tuple[str, ...]) -> None:
    if kind not in kinds:
        raise ValueError(f"{name}={kind!r}: must be one of {', '.join(kinds)}")
