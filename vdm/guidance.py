"""Functions from denoisers to a denoiser that lead sampling: towards a condition, and x̂ kept in the range of the data.

They change the model, so `vdm.bounds` refuses their result. Every denoiser may answer with ε̂ or with a `Prediction`;
the result answers with a `Prediction` for which z = α x̂ + σ ε̂, as it does for what it is made of. Numbers may be
traced.

A `Rule` says what is made of several predictions of one z, mostly two, and `Several` how these come about. With w =
`scale` and Δ the difference of the two x̂,

    linear      x̂_c + w Δ: Ho & Salimans 2022; Karras et al. 2024
    rescaled    that, with the standard deviation of x̂_c again: Lin et al. 2024
    projected   x̂_c + w (Δ⊥ + η Δ∥), Δ kept short: Sadat et al. 2024

Many papers write 1 + w for the scale. At w = 0 each is the first prediction.
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
"""(z, γ) -> the predictions of z by several denoisers; of two, of what is led to, and of what is led away from."""
Rule = Callable[..., Prediction]
"""(*predictions, γ) -> what is made of them."""


def combine(denoisers: Sequence[Denoise], weights: Sequence[ArrayLike]) -> Both:
    """Σ_k w_k of the predictions of each: x̂ and ε̂ alike. Weights are scalars, may be negative, and may be traced.

    A mixture is a model of its own, which has a bound as any other has: it is `Guided` only if a part is.
    With weights of sum 1, α x̂ + σ ε̂ = z holds as it does for each. Raises ValueError unless there is a scalar weight
    for each denoiser, and one or more of them.

    >>> import jax.numpy as jnp
    >>> guided = combine([lambda z, gamma: z, lambda z, gamma: 0 * z], [1.5, -0.5])
    >>> guided(jnp.ones((1, 2)), 0.0).eps.tolist()
    [[1.5, 1.5]]
    """
    if not denoisers or len(denoisers) != len(weights):
        raise ValueError(f"denoisers, weights: {len(denoisers)} and {len(weights)} of them; must be as many, 1 or more")
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
    """ε̂ = (1 + w) ε̂_c − w ε̂, and x̂ alike (Ho & Salimans 2022; Wang, Eq. 9): w = `scale`, two calls.

    w = 0 is the conditional denoiser, w = −1 the unconditional one, both exactly. ε̂ is −σ times the gradient of
    (1 + w) log p(z|c) − w log p(z), which at w > 0 is the log-density of no diffusion's z_t.

    >>> guided = classifier_free(lambda z, gamma: z, lambda z, gamma: 0.5 * z, scale=2.0)
    >>> guided(jnp.ones((1, 2)), 0.0).eps.tolist()
    [[2.0, 2.0]]
    """
    return guided(apart(conditional, unconditional), linear(scale))


def autoguidance(denoise: Denoise, weak: Denoise, scale: ArrayLike) -> Guided:
    """Away from a weaker denoiser of the same condition (Karras et al. 2024, whose w is 1 + `scale`): two calls.

    The weaker one is a smaller network, or one trained less. The same combination as `classifier_free`.

    >>> guided = autoguidance(lambda z, gamma: z, lambda z, gamma: 0.5 * z, scale=1.0)
    >>> guided(jnp.ones((1, 2)), 0.0).eps.tolist()
    [[1.5, 1.5]]
    """
    return guided(apart(denoise, weak), linear(scale))


def adaptive_projected(
    conditional: Denoise, unconditional: Denoise, scale: ArrayLike, eta: ArrayLike = 0.0, norm: ArrayLike = jnp.inf
) -> Guided:
    """x̂ = x̂_c + w (Δ⊥ + η Δ∥), Δ = x̂_c − x̂ (Sadat et al. 2024, Alg. 1, whose w is 1 + `scale`): two calls.

    See `projected`. `eta` = 1 and `norm` = ∞ is `classifier_free`. Without the paper's momentum.

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
    """ε̂ − s σ ∇_z log p(c|z) and x̂ + s σ²/α ∇_z log p(c|z) (Dhariwal & Nichol 2021, Alg. 2): s = `scale`.

    `log_prob` is (z, γ) -> log p(c|z_γ) in nats, (batch,), each of its own example. If it and the denoiser are exact,
    s = 1 is the exact denoiser of c. Towards γ = ∞ the gradient goes to 0 as α does, and the change of x̂ to a limit, s
    times that of x̂ by c. At γ = ∞ itself the gradient is asked at `gamma_1`, the most noise that `log_prob` knows,
    which is off that limit by O(α₁); if that is ∞ too, nothing changes.

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
    """`guided` where γ_low ≤ γ ≤ γ_high and `otherwise` elsewhere (Kynkäänniemi et al. 2024).

    For γ a scalar, as samplers have it, only the one that is needed is called; for γ of (batch,), both.

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
            # Closed over, so that a γ known when tracing stays so.
            result: Prediction = jax.lax.cond(where, lambda: inside(z, gamma), lambda: outside(z, gamma))
            return result
        where = where.reshape(where.shape + (1,) * (z.ndim - 1))
        return Prediction(*(jnp.where(where, *each) for each in zip(inside(z, gamma), outside(z, gamma), strict=True)))

    return Guided(led)


def guided(several: Several, rule: Rule) -> Guided:
    """The denoiser whose prediction `rule` makes of several.

    >>> rule = rescaled(linear(scale=2.0), share=0.7)
    >>> guided(apart(lambda z, gamma: 0.5 * z, lambda z, gamma: z), rule)(jnp.ones((1, 2)), 0.0).eps.shape
    (1, 2)
    """
    return Guided(lambda z, gamma: rule(*several(z, gamma), gamma))


def apart(*denoisers: Denoise) -> Several:
    """A call of each."""
    answers = [predictions.both(denoise) for denoise in denoisers]
    return lambda z, gamma: tuple(answer(z, gamma) for answer in answers)


def together(denoise: Denoise, num: int = 2) -> Several:
    """One call of `num` times the batch, by a denoiser that has so many conditions `interleaved`."""
    answer = predictions.both(denoise)

    def several(z: Float[Array, "batch *data"], gamma: gaussian.Gamma) -> tuple[Prediction, ...]:
        repeated = jnp.repeat(jnp.asarray(gamma), num) if jnp.ndim(gamma) else gamma
        answers = answer(jnp.repeat(z, num, axis=0), repeated)
        x, eps = (part.reshape(z.shape[0], num, *z.shape[1:]) for part in answers)
        return tuple(Prediction(x[:, k], eps[:, k]) for k in range(num))

    return several


def interleaved(*several: Any) -> Any:
    """Pytrees of arrays (batch, …) as one of as many times the batch: of two, rows 2k and 2k + 1 are row k of each.

    So the rows of an image stay on its device.

    >>> interleaved(jnp.array([1, 2]), jnp.array([-1, -2])).tolist()
    [1, -1, 2, -2]
    """
    num = len(several)
    return jax.tree.map(lambda *each: jnp.stack(each, axis=1).reshape(num * len(each[0]), *each[0].shape[1:]), *several)


def linear(scale: ArrayLike) -> Rule:
    """(1 + w) of the first prediction − w of the second."""

    def rule(first: Prediction, second: Prediction, gamma: gaussian.Gamma) -> Prediction:
        w = scalar("scale", scale, first.x)
        # With weights, and not by the difference, w = −1 is the second to the bit, too.
        return Prediction(*((1 + w) * one - w * other for one, other in zip(first, second, strict=True)))

    return rule


def rescaled(rule: Rule, share: ArrayLike) -> Rule:
    """x̂ of `rule` times 1 + φ (std x̂_c/std x̂ − 1), φ = `share` (Lin et al. 2024, Eq. 15-16), and ε̂ changed with it.

    `std` is over the data dimensions of an example, as in the paper; there the network's output is rescaled, here x̂,
    whatever the network predicts, so that z = α x̂ + σ ε̂. φ = 0 is `rule`.
    """

    def apply(first: Prediction, second: Prediction, gamma: gaussian.Gamma) -> Prediction:
        result = rule(first, second, gamma)
        wanted, found = (_std(each.x) for each in (first, result))
        ratio = jnp.where(found > 0, wanted / jnp.where(found > 0, found, 1), 1)
        return predictions.moved(result, scalar("share", share, result.x) * (ratio - 1) * result.x, gamma)

    return apply


def projected(scale: ArrayLike, eta: ArrayLike = 0.0, norm: ArrayLike = jnp.inf) -> Rule:
    """x̂_c + w (Δ⊥ + η Δ∥): Δ is x̂_c − x̂, shortened to the length `norm` if it is longer, in each example.

    Δ∥ is its projection on x̂_c, which saturates the image, and Δ⊥ the rest (Sadat et al. 2024, Alg. 1). ε̂ changes with
    x̂. Lengths are √Σ over the data dimensions of x̂ in [−1, 1].
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
    """A number of a guide, which may be traced, in the dtype of `like`. Raises ValueError for what is no scalar.

    >>> import jax.numpy as jnp
    >>> scalar("scale", 2, jnp.ones(3)).dtype
    dtype('float32')
    """
    if jnp.ndim(value) != 0:
        raise ValueError(f"{name} has shape {jnp.shape(value)}: must be a scalar")
    return jnp.asarray(value, like.dtype)


def _sum(values: Array) -> Array:
    """Over the data dimensions of each example, with axes to broadcast."""
    return jnp.sum(values, axis=tuple(range(1, values.ndim)), keepdims=True)


def _root(square: Array) -> Array:
    """√, with derivative 0 at 0: flows differentiate a denoiser."""
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _std(values: Array) -> Array:
    num = values[0].size
    return _root(_sum(jnp.square(values - _sum(values) / num)) / num)


def no_clipping() -> Guidance:
    """x̂ as it is.

    >>> no_clipping()(abs) is abs
    True
    """
    return lambda denoise: denoise


def static_clipping() -> Guidance:
    """x̂ clipped to [−1, 1], the range of encoded data, and ε̂ changed with it.

    >>> import jax.numpy as jnp
    >>> denoise = static_clipping()(lambda z, gamma: 0 * z)
    >>> denoise(2 * jnp.ones((1, 2)), -10.0).x.tolist()
    [[1.0, 1.0]]
    """
    return _limiting(lambda x: jnp.clip(x, -1, 1))


def dynamic_clipping(percentile: float = 99.5) -> Guidance:
    """x̂ clipped to [−s, s] and divided by s, where s ≥ 1 is each example's percentile of |x̂| (Saharia et al. 2022).

    Raises ValueError unless 0 < percentile ≤ 100.

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
            # z = α x + σ ε holds as before; where nothing is clipped ε̂ is as it was, to the bit.
            ratio = jnp.exp(-gaussian.expand(gamma, z) / 2)

            return Prediction(kept, eps_hat + ratio * (x_hat - kept))

        return Guided(limited)

    return guide
