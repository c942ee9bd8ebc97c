"""Functions that turn denoisers into one that steers sampling: guidance towards a condition, and clipping of x̂.

They change the model, so `vdm.bounds` refuses their result. Their arguments may return ε̂ or a `Prediction`; the result
returns a `Prediction`, for which z = α x̂ + σ ε̂ holds as it does for the predictions it is made of. Numbers such as
scales may be traced.

A `Several` makes several predictions (mostly two) for the same z, and a `Rule` combines them. With w = `scale` and
Δ = x̂_c − x̂, the difference of the two x̂,

    linear      x̂_c + w Δ: Ho & Salimans 2022; Karras et al. 2024
    rescaled    the same, rescaled to the standard deviation of x̂_c: Lin et al. 2024
    projected   x̂_c + w (Δ⊥ + η Δ∥), with the length of Δ limited: Sadat et al. 2024

At w = 0 each gives the first prediction. Many papers write 1 + w for the scale.
"""

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vdm import gaussian, predictions
from vdm.predictions import Both, Denoise, Guided, Prediction

Guidance = Callable[[Denoise], Denoise]
Several = Callable[[Array, gaussian.Gamma], tuple[Prediction, ...]]
"""(z, γ) -> predictions for z by several denoisers: of two, first the one led towards, then the one led away from."""
Rule = Callable[..., Prediction]
"""(*predictions, γ) -> the combined prediction."""


def combine(denoisers: Sequence[Denoise], weights: Sequence[ArrayLike]) -> Both:
    """Return the denoiser with the weighted sum Σ_k w_k of the denoisers' predictions, for both x̂ and ε̂.

    Weights are scalars, which may be negative and may be traced. A mixture is a model of its own, with a bound like any
    other: the result is `Guided` only if one of `denoisers` is. If the weights sum to 1, z = α x̂ + σ ε̂ holds as it
    does for each of them. Raises ValueError unless there is at least one denoiser, and one scalar weight for each.

    >>> import jax.numpy as jnp
    >>> guided = combine([lambda z, gamma: z, lambda z, gamma: 0 * z], [1.5, -0.5])
    >>> guided(jnp.ones((1, 2)), 0.0).eps.tolist()
    [[1.5, 1.5]]
    """
    if not denoisers or len(denoisers) != len(weights):
        raise ValueError(
            f"denoisers, weights: {len(denoisers)} and {len(weights)} of them; must be equally many, 1 or more"
        )
    for k, weight in enumerate(weights):
        if jnp.ndim(weight) != 0:
            raise ValueError(f"weights[{k}] has shape {jnp.shape(weight)}: must be a scalar")
    answers = [predictions.both(denoise) for denoise in denoisers]

    def denoise(z: Float[Array, "batch *data"], gamma: gaussian.Gamma) -> Prediction:
        parts = [answer(z, gamma) for answer in answers]
        scales = [jnp.asarray(weight, z.dtype) for weight in weights]
        x, eps = (sum(w * part for w, part in zip(scales, each, strict=True)) for each in zip(*parts, strict=True))
        return Prediction(jnp.asarray(x), jnp.asarray(eps))

    return Guided(denoise) if any(isinstance(each, Guided) for each in denoisers) else denoise


def classifier_free(conditional: Denoise, unconditional: Denoise, scale: ArrayLike) -> Guided:
    """Classifier-free guidance (Ho & Salimans 2022; Wang, Eq. 9): ε̂ = (1 + w) ε̂_c − w ε̂, w = `scale`; two calls.

    x̂ is combined in the same way. w = 0 is the conditional denoiser and w = −1 the unconditional one, both exactly. ε̂
    is −σ times the gradient of (1 + w) log p(z|c) − w log p(z), which for w > 0 is not the log-density of any diffused
    data.

    >>> guided = classifier_free(lambda z, gamma: z, lambda z, gamma: 0.5 * z, scale=2.0)
    >>> guided(jnp.ones((1, 2)), 0.0).eps.tolist()
    [[2.0, 2.0]]
    """
    return guided(apart(conditional, unconditional), linear(scale))


def autoguidance(denoise: Denoise, weak: Denoise, scale: ArrayLike) -> Guided:
    """Guidance away from a weaker denoiser (Karras et al. 2024, whose w is 1 + `scale`); two calls.

    The weaker denoiser has the same condition; it is a smaller network, or one that was trained for fewer steps. The
    predictions are combined as in `classifier_free`.

    >>> guided = autoguidance(lambda z, gamma: z, lambda z, gamma: 0.5 * z, scale=1.0)
    >>> guided(jnp.ones((1, 2)), 0.0).eps.tolist()
    [[1.5, 1.5]]
    """
    return guided(apart(denoise, weak), linear(scale))


def adaptive_projected(
    conditional: Denoise, unconditional: Denoise, scale: ArrayLike, eta: ArrayLike = 0.0, norm: ArrayLike = jnp.inf
) -> Guided:
    """Adaptive projected guidance (Sadat et al. 2024, Alg. 1, whose w is 1 + `scale`), without momentum; two calls.

    x̂ = x̂_c + w (Δ⊥ + η Δ∥) with Δ = x̂_c − x̂: see `projected`. With `eta` = 1 and `norm` = ∞ it is
    `classifier_free`.

    >>> guided = adaptive_projected(lambda z, gamma: 0 * z, lambda z, gamma: 0.5 * z, scale=1.0)
    >>> guided(jnp.ones((1, 2)), 0.0).eps.tolist()  # Δ is parallel to x̂
    [[0.0, 0.0]]
    """
    return guided(apart(conditional, unconditional), projected(scale, eta, norm))


def classifier(
    denoise: Denoise,
    log_prob: Callable[[Array, Array], Array],
    scale: ArrayLike,
    gamma_1: ArrayLike = jnp.inf,
) -> Guided:
    """Classifier guidance (Dhariwal & Nichol 2021, Alg. 2): ε̂ − s σ ∇_z log p(c|z), with s = `scale`.

    x̂ changes by s σ²/α ∇_z log p(c|z). `log_prob` is (z, γ) -> log p(c|z_γ) in nats, (batch,), each entry depending on
    its own example only. If it and the denoiser are exact, s = 1 gives the exact denoiser conditioned on c. As γ → ∞,
    the gradient vanishes with α, and the change of x̂ has a limit: s times the change of x̂ that conditioning on c
    makes. At γ = ∞ itself, the gradient is evaluated at `gamma_1`, the highest noise level that `log_prob` knows, which
    is off that limit by O(α₁). If `gamma_1` is ∞ too, nothing changes.

    >>> guided = classifier(lambda z, gamma: 0 * z, lambda z, gamma: jnp.sum(z, axis=1), scale=1.0)
    >>> bool(jnp.allclose(guided(jnp.zeros((1, 2)), 0.0).eps, -(0.5**0.5)))  # −σ
    True
    """
    answer = predictions.both(denoise)

    def led(z: Float[Array, "batch *data"], gamma: gaussian.Gamma) -> Prediction:
        gamma = jnp.asarray(gamma)
        known = jnp.where(jnp.isinf(gamma), jnp.asarray(gamma_1, gamma.dtype), gamma)
        slope = jax.grad(lambda z: jnp.sum(log_prob(z, known)))(z)
        at = gaussian.expand(known, z)
        change = scalar("scale", scale, z) * (jax.nn.sigmoid(at) / gaussian.alpha(at)) * slope
        return predictions.moved(answer(z, gamma), jnp.where(jnp.isfinite(at), change, 0), gamma)

    return Guided(led)


def interval(guided: Denoise, otherwise: Denoise, gamma_low: ArrayLike, gamma_high: ArrayLike) -> Guided:
    """Return `guided` where γ_low ≤ γ ≤ γ_high and `otherwise` elsewhere (Kynkäänniemi et al. 2024).

    For scalar γ, as in samplers, only the denoiser that is needed is called; for γ of shape (batch,), both are.

    >>> limited = interval(lambda z, gamma: z, lambda z, gamma: 0 * z, -1.0, 2.0)
    >>> [limited(jnp.ones((1, 1)), gamma).eps.item() for gamma in (-2.0, -1.0, 2.0, 3.0)]
    [0.0, 1.0, 1.0, 0.0]
    """
    inside, outside = predictions.both(guided), predictions.both(otherwise)

    def led(z: Float[Array, "batch *data"], gamma: gaussian.Gamma) -> Prediction:
        gamma = jnp.asarray(gamma)
        low, high = (jnp.asarray(end, gamma.dtype) for end in (gamma_low, gamma_high))
        where = (low <= gamma) & (gamma <= high)
        if not gamma.ndim:
            # γ is closed over and not an operand, so that a γ that is concrete while tracing stays concrete.
            result: Prediction = jax.lax.cond(where, lambda: inside(z, gamma), lambda: outside(z, gamma))
            return result
        where = where.reshape(where.shape + (1,) * (z.ndim - 1))
        return Prediction(*(jnp.where(where, *each) for each in zip(inside(z, gamma), outside(z, gamma), strict=True)))

    return Guided(led)


def guided(several: Several, rule: Rule) -> Guided:
    """Return the denoiser that combines the predictions of `several` by `rule`.

    >>> rule = rescaled(linear(scale=2.0), share=0.7)
    >>> guided(apart(lambda z, gamma: 0.5 * z, lambda z, gamma: z), rule)(jnp.ones((1, 2)), 0.0).eps.shape
    (1, 2)
    """
    return Guided(lambda z, gamma: rule(*several(z, gamma), gamma))


def apart(*denoisers: Denoise) -> Several:
    """Predictions of several denoisers, with one call of each."""
    answers = [predictions.both(denoise) for denoise in denoisers]
    return lambda z, gamma: tuple(answer(z, gamma) for answer in answers)


def together(denoise: Denoise, num: int = 2) -> Several:
    """Predictions for `num` conditions, with one call of `num` times the batch.

    The conditions of `denoise` must be `interleaved`.
    """
    answer = predictions.both(denoise)

    def several(z: Float[Array, "batch *data"], gamma: gaussian.Gamma) -> tuple[Prediction, ...]:
        repeated = jnp.repeat(jnp.asarray(gamma), num) if jnp.ndim(gamma) else gamma
        answers = answer(jnp.repeat(z, num, axis=0), repeated)
        x, eps = (part.reshape(z.shape[0], num, *z.shape[1:]) for part in answers)
        return tuple(Prediction(x[:, k], eps[:, k]) for k in range(num))

    return several


def interleaved(*several: Any) -> Any:
    """Interleave pytrees of arrays (batch, …) into one batch: for two, rows 2k and 2k + 1 are row k of each.

    This order keeps all rows of an image on the same device.

    >>> interleaved(jnp.array([1, 2]), jnp.array([-1, -2])).tolist()
    [1, -1, 2, -2]
    """
    num = len(several)
    return jax.tree.map(lambda *each: jnp.stack(each, axis=1).reshape(num * len(each[0]), *each[0].shape[1:]), *several)


def linear(scale: ArrayLike) -> Rule:
    """Rule of classifier-free guidance: (1 + w) times the first prediction minus w times the second, w = `scale`."""

    def rule(first: Prediction, second: Prediction, gamma: gaussian.Gamma) -> Prediction:
        w = scalar("scale", scale, first.x)
        # As a weighted sum and not first + w · difference, w = −1 gives the second to the bit.
        return Prediction(*((1 + w) * one - w * other for one, other in zip(first, second, strict=True)))

    return rule


def rescaled(rule: Rule, share: ArrayLike) -> Rule:
    """Rule that rescales the x̂ of `rule` by 1 + φ (std x̂_c/std x̂ − 1), φ = `share` (Lin et al. 2024, Eq. 15-16).

    ε̂ changes accordingly. `std` is over the data dimensions of each example, as in the paper. There the network's
    output is rescaled; here it is x̂, whatever the network predicts, so that z = α x̂ + σ ε̂ holds. φ = 0 gives `rule`.
    """

    def apply(first: Prediction, second: Prediction, gamma: gaussian.Gamma) -> Prediction:
        result = rule(first, second, gamma)
        wanted, found = (_std(each.x) for each in (first, result))
        ratio = jnp.where(found > 0, wanted / jnp.where(found > 0, found, 1), 1)
        return predictions.moved(result, scalar("share", share, result.x) * (ratio - 1) * result.x, gamma)

    return apply


def projected(scale: ArrayLike, eta: ArrayLike = 0.0, norm: ArrayLike = jnp.inf) -> Rule:
    """Rule of adaptive projected guidance: x̂_c + w (Δ⊥ + η Δ∥), where Δ = x̂_c − x̂ has length at most `norm`.

    Δ∥ is the projection of Δ on x̂_c, which causes saturated images, and Δ⊥ the rest (Sadat et al. 2024, Alg. 1). A Δ
    longer than `norm` is shortened to it, in each example. Lengths are √Σ over the data dimensions of x̂ in [−1, 1]. ε̂
    changes accordingly.
    """

    def rule(first: Prediction, second: Prediction, gamma: gaussian.Gamma) -> Prediction:
        w, kept, most = (
            scalar(name, value, first.x) for name, value in (("scale", scale), ("eta", eta), ("norm", norm))
        )
        difference = first.x - second.x
        length = _root(_sum(jnp.square(difference)))
        difference = difference * jnp.where(length > most, most / jnp.where(length > most, length, 1), 1)
        square = _sum(jnp.square(first.x))
        parallel = _sum(difference * first.x) / jnp.where(square > 0, square, 1) * first.x
        return predictions.moved(first, w * (difference + (kept - 1) * parallel), gamma)

    return rule


def scalar(name: str, value: ArrayLike, like: Array) -> Array:
    """Return a number, which may be traced, in the dtype of `like`. Raises ValueError unless it is a scalar.

    >>> import jax.numpy as jnp
    >>> scalar("scale", 2, jnp.ones(3)).dtype
    dtype('float32')
    """
    if jnp.ndim(value) != 0:
        raise ValueError(f"{name} has shape {jnp.shape(value)}: must be a scalar")
    return jnp.asarray(value, like.dtype)


def _sum(values: Array) -> Array:
    """Sum over the data dimensions of each example, with axes kept for broadcasting."""
    return jnp.sum(values, axis=tuple(range(1, values.ndim)), keepdims=True)


def _root(square: Array) -> Array:
    """√ with derivative 0 at 0: probability flows differentiate a denoiser."""
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _std(values: Array) -> Array:
    num = values[0].size
    return _root(_sum(jnp.square(values - _sum(values) / num)) / num)


def no_clipping() -> Guidance:
    """Leave x̂ unchanged.

    >>> no_clipping()(abs) is abs
    True
    """
    return lambda denoise: denoise


def static_clipping() -> Guidance:
    """Clip x̂ to [−1, 1], the range of encoded data, and adjust ε̂ accordingly.

    >>> import jax.numpy as jnp
    >>> denoise = static_clipping()(lambda z, gamma: 0 * z)
    >>> denoise(2 * jnp.ones((1, 2)), -10.0).x.tolist()
    [[1.0, 1.0]]
    """
    return _limiting(lambda x: jnp.clip(x, -1, 1))


def dynamic_clipping(percentile: float = 99.5) -> Guidance:
    """Dynamic thresholding (Saharia et al. 2022): clip x̂ to [−s, s] and divide it by s; ε̂ changes accordingly.

    s is the given percentile of |x̂| in each example, and at least 1. Raises ValueError unless 0 < percentile ≤ 100.

    >>> import jax.numpy as jnp
    >>> denoise = dynamic_clipping(percentile=100.0)(lambda z, gamma: 0 * z)
    >>> denoise(jnp.asarray([[1.0, 2.0]]), -20.0).x.round(3).tolist()
    [[0.5, 1.0]]
    """
    if isinstance(percentile, bool) or not isinstance(percentile, Real) or not 0 < percentile <= 100:
        raise ValueError(f"percentile={percentile!r}: must be above 0 and at most 100")

    def limit(x: Float[Array, "batch *data"]) -> Float[Array, "batch *data"]:
        axes = tuple(range(1, x.ndim))
        s = jnp.maximum(jnp.percentile(jnp.abs(x), percentile, axis=axes, keepdims=True), 1).astype(x.dtype)
        return jnp.clip(x, -s, s) / s

    return _limiting(limit)


def _limiting(limit: Callable[[Array], Array]) -> Guidance:
    def guide(denoise: Denoise) -> Guided:
        answer = predictions.both(denoise)

        def limited(z: Float[Array, "batch *data"], gamma: gaussian.Gamma) -> Prediction:
            x_hat, eps_hat = answer(z, gamma)
            kept = limit(x_hat)
            # Keeps z = α x̂ + σ ε̂. Where nothing is clipped, ε̂ is unchanged to the bit.
            ratio = jnp.exp(-gaussian.expand(gamma, z) / 2)

            return Prediction(kept, eps_hat + ratio * (x_hat - kept))

        return Guided(limited)

    return guide
