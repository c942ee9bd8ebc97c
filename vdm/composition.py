"""Composition of several conditions, each with a weight, as a product of experts.

By Bayes' rule, p(z|c₁, …, c_n) ∝ p(z) Π_i p(z|c_i)/p(z) for conditions that are independent given z. So the score is
the unconditional score plus each condition's difference from it, and weights can strengthen a condition or negate it
(Liu et al. 2022: AND, NOT). Attributes that are determined by an image are independent given that image, at γ = −∞.
Given a noisy z, only some are, such as independent attributes of independent parts (Bradley et al. 2025). For all
others the result is, like that of `guidance.classifier_free`, a density at each noise level, but these densities do not
belong to one diffusion.
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
    """Compose conditional denoisers: ε̂ = ε̂_∅ + Σ_i w_i (ε̂_i − ε̂_∅), and x̂ likewise (Liu et al. 2022).

    Calls each denoiser once, and the unconditional one once. A single weight of 1 gives that denoiser exactly; a single
    weight of 1 + w is `guidance.classifier_free` with scale w; a negative weight leads away from a condition. Weights
    may be traced. Raises ValueError unless there is at least one denoiser and one weight for each.

    >>> both = composed([lambda z, gamma: z, lambda z, gamma: 3 * z], lambda z, gamma: 0 * z, weights=[1.0, -0.5])
    >>> both(jnp.ones((1, 2)), 0.0).eps.tolist()
    [[-0.5, -0.5]]
    """
    if not denoisers or len(denoisers) != len(weights):
        raise ValueError(
            f"denoisers, weights: {len(denoisers)} and {len(weights)} of them; must be equally many, 1 or more"
        )
    return guidance.guided(guidance.apart(*denoisers, unconditional), weighted(weights))


def weighted(weights: Sequence[ArrayLike] | Float[Array, " num"]) -> Rule:
    """Rule of `composed`: combine the conditional predictions and the unconditional one, which comes last."""

    def rule(*given: Any) -> Prediction:
        *several, _ = given
        scales = [jnp.asarray(weight, several[0].x.dtype) for weight in weights]
        scales.append(jnp.asarray(1 - sum(scales)))
        x, eps = (sum(w * part for w, part in zip(scales, each, strict=True)) for each in zip(*several, strict=True))
        return Prediction(jnp.asarray(x), jnp.asarray(eps))

    return rule
