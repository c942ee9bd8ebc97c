"""Several conditions at once, as a product of experts: each has a weight, and what it adds to the unconditional model.

By Bayes' rule, of conditions that are independent given z, p(z|c₁, …, c_n) ∝ p(z) Π_i p(z|c_i)/p(z). So its score is
the unconditional one, and of each condition the difference from it: a sum that weights may make stronger, or turn into
its opposite (Liu et al. 2022: AND, NOT). Attributes that an image decides are independent given it, at γ = −∞; given a
noisy z only some are, as independent attributes of independent parts (Bradley et al. 2025). Of others the result is, as
that of `guidance.classifier_free`, a density at each noise level, but over all of them no diffusion's.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vdm import guidance
from vdm.guidance import Rule
from vdm.predictions import Denoise, Guided, Prediction


def composed(denoisers: Sequence[Denoise], unconditional: Denoise, weights: Sequence[ArrayLike]) -> Guided:
    """ε̂ = ε̂_∅ + Σ_i w_i (ε̂_i − ε̂_∅), and x̂ alike (Liu et al. 2022): a call of each, and one without any.

    One weight of 1 is that denoiser exactly; one of 1 + w is `guidance.classifier_free` of scale w; a negative one
    leads away. Weights may be traced. Raises ValueError unless there is one for each denoiser.

    >>> both = composed([lambda z, gamma: z, lambda z, gamma: 3 * z], lambda z, gamma: 0 * z, weights=[1.0, -0.5])
    >>> both(jnp.ones((1, 2)), 0.0).eps.tolist()
    [[-0.5, -0.5]]
    """
    if not denoisers or len(denoisers) != len(weights):
        raise ValueError(f"denoisers, weights: {len(denoisers)} and {len(weights)} of them; must be as many, 1 or more")
    return guidance.guided(guidance.apart(*denoisers, unconditional), weighted(weights))


def weighted(weights: Sequence[ArrayLike] | Float[Array, " num"]) -> Rule:
    """What `composed` makes of the predictions of each, and of the unconditional one, which is the last."""

    def rule(*given: Any) -> Prediction:
        *several, _ = given
        scales = [jnp.asarray(weight, several[0].x.dtype) for weight in weights]
        scales.append(jnp.asarray(1 - sum(scales)))
        x, eps = (sum(w * part for w, part in zip(scales, each, strict=True)) for each in zip(*several, strict=True))
        return Prediction(jnp.asarray(x), jnp.asarray(eps))

    return rule
