"""A hierarchy of latents z_T → … → z_1 → x, inferred from the top down or from the bottom up, and its bound.

It follows §2.2 to §2.4 of De Sousa Ribeiro & Glocker (2024). Layers are passed as callables, so that the same code
serves hierarchical VAEs and diffusion models, whose inference is fixed. Tuples hold layer t at index t − 1.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from vdm.predecessors.normal import Normal, kl

State = Any
"""What a layer receives from those above it: z_{t+1} in a Markov chain, or else also a deterministic path beside it."""


class Path(NamedTuple):
    """One draw of z_1 … z_T ~ q(z|x) and the terms of the bound, each in nats with shape (batch,)."""

    latents: tuple[Float[Array, "batch *dims"], ...]
    """z_1 … z_T."""
    posteriors: tuple[Normal, ...]
    """Distributions the latents were drawn from: q(z_t|z_{t+1}, x) top-down, q(z_t|z_{t−1}) bottom-up."""
    priors: tuple[Normal, ...]
    """p(z_t|z_{t+1}) along this path; the last one is p(z_T)."""
    reconstruction: Float[Array, " batch"]
    """−log p(x|z_1)."""
    rates: tuple[Float[Array, " batch"], ...]
    """KL divergence of each layer where it has a closed form given the path, otherwise log q/p at the draw."""
    log_ratios: tuple[Float[Array, " batch"], ...]
    """log q(z_t|…) − log p(z_t|z_{t+1}) at the draw."""

    @property
    def bound(self) -> Float[Array, " batch"]:
        """Single-draw estimate of −VLB(x) in nats, Eq. 2.20; with top-down inference as in Eq. 2.34."""
        return self.reconstruction + sum(self.rates)

    @property
    def log_weight(self) -> Float[Array, " batch"]:
        """log p(x, z)/q(z|x), the log weight in importance-weighted bounds (Burda et al. 2016, Eq. 8)."""
        return -self.reconstruction - sum(self.log_ratios)


def top_down(
    layer: Callable[[int, State], tuple[Normal, Normal]],
    descend: Callable[[int, State, Array], State],
    reconstruction: Callable[[State], Float[Array, " batch"]],
    state: State,
    eps: Sequence[Float[Array, "batch *dims"]],
) -> Path:
    """Draw a path from q(z_T|x) Π q(z_{t−1}|z_t, x), Eq. 2.28; every rate is a KL in closed form, Eq. 2.34.

    `layer(t, state)` returns the posterior and the prior of z_t, `descend(t, state, z_t)` returns the state for the
    layer below, and `reconstruction` maps the state below z_1 to −log p(x|·). `state` is the state above z_T, and
    eps[t − 1] is the noise of z_t.
    """
    of_layers = []
    for t in range(len(eps), 0, -1):
        q, p = layer(t, state)
        z = q.draw(eps[t - 1])
        of_layers.append((z, q, p, kl(q, p), q.log_prob(z) - p.log_prob(z)))
        state = descend(t, state, z)
    latents, posteriors, priors, rates, log_ratios = zip(*reversed(of_layers), strict=True)
    return Path(latents, posteriors, priors, reconstruction(state), rates, log_ratios)


def bottom_up(
    ascend: Callable[[int, Array | None], Normal],
    prior: Callable[[int, State], Normal],
    descend: Callable[[int, State, Array], State],
    reconstruction: Callable[[State], Float[Array, " batch"]],
    state: State,
    eps: Sequence[Float[Array, "batch *dims"]],
) -> Path:
    """Draw a path from q(z_1|x) Π q(z_t|z_{t−1}), Eq. 2.17: only the rate of z_T is a KL in closed form.

    `ascend(t, z_{t−1})` returns the posterior of z_t; for z_1, its second argument is None. The other arguments are
    those of `top_down`.
    """
    latents: list[Array] = []
    posteriors: list[Normal] = []
    for t in range(1, len(eps) + 1):
        posteriors.append(ascend(t, latents[-1] if latents else None))
        latents.append(posteriors[-1].draw(eps[t - 1]))
    of_layers = []
    for t in range(len(eps), 0, -1):
        q, p, z = posteriors[t - 1], prior(t, state), latents[t - 1]
        log_ratio = q.log_prob(z) - p.log_prob(z)
        of_layers.append((p, kl(q, p) if t == len(eps) else log_ratio, log_ratio))
        state = descend(t, state, z)
    priors, rates, log_ratios = zip(*reversed(of_layers), strict=True)
    return Path(tuple(latents), tuple(posteriors), priors, reconstruction(state), rates, log_ratios)


def ancestral(
    prior: Callable[[int, State], Normal],
    descend: Callable[[int, State, Array], State],
    state: State,
    eps: Sequence[Float[Array, "batch *dims"]],
    top: Float[Array, "batch *dims"] | None = None,
) -> State:
    """Return the state below z_1 for a draw z_T ~ p(z_T), …, z_1 ~ p(z_1|z_2), Eq. 2.14; `top` replaces z_T."""
    for t in range(len(eps), 0, -1):
        z = top if top is not None and t == len(eps) else prior(t, state).draw(eps[t - 1])
        state = descend(t, state, z)
    return state


def descended(
    descend: Callable[[int, State, Array], State], state: State, latents: Sequence[Float[Array, "batch *dims"]]
) -> State:
    """Return the state below z_1 for given latents z_1 … z_T."""
    for t in range(len(latents), 0, -1):
        state = descend(t, state, latents[t - 1])
    return state
