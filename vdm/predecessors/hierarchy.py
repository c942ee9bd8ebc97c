"""A hierarchy of latents z_T → … → z_1 → x, inferred from the top down or from the bottom up, and its bound.

§2.2 to §2.4 of De Sousa Ribeiro & Glocker (2024). Layers are callables, so that a hierarchical VAE is one, and a
diffusion model with its fixed inference too. Layer t is number t − 1 in a tuple.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from vdm.predecessors.normal import Normal, kl

State = Any
"""What the layers below see of those above: z_{t+1} alone of a Markov chain, else a deterministic path beside it."""


class Path(NamedTuple):
    """One draw of z_1 … z_T ~ q(z|x), and what the bound is made of; each term in nats, (batch,)."""

    latents: tuple[Float[Array, "batch *dims"], ...]
    """z_1 … z_T."""
    posteriors: tuple[Normal, ...]
    """What each was drawn from: q(z_t|z_{t+1}, x) from the top down, q(z_t|z_{t−1}) from the bottom up."""
    priors: tuple[Normal, ...]
    """p(z_t|z_{t+1}) on this path; the last is p(z_T)."""
    reconstruction: Float[Array, " batch"]
    """−log p(x|z_1)."""
    rates: tuple[Float[Array, " batch"], ...]
    """KL of each layer where it has a closed form given the path, else log q/p at the draw."""
    log_ratios: tuple[Float[Array, " batch"], ...]
    """log q(z_t|…) − log p(z_t|z_{t+1}) at the draw."""

    @property
    def bound(self) -> Float[Array, " batch"]:
        """One draw of −VLB(x) in nats, Eq. 2.20; from the top down as in Eq. 2.34."""
        return self.reconstruction + sum(self.rates)

    @property
    def log_weight(self) -> Float[Array, " batch"]:
        """log p(x, z)/q(z|x), of which importance-weighted bounds are made (Burda et al. 2016, Eq. 8)."""
        return -self.reconstruction - sum(self.log_ratios)


def top_down(
    layer: Callable[[int, State], tuple[Normal, Normal]],
    descend: Callable[[int, State, Array], State],
    reconstruction: Callable[[State], Float[Array, " batch"]],
    state: State,
    eps: Sequence[Float[Array, "batch *dims"]],
) -> Path:
    """A path by q(z_T|x) Π q(z_{t−1}|z_t, x), Eq. 2.28; every rate is a KL in closed form, Eq. 2.34.

    `layer(t, state)` gives posterior and prior of z_t, `descend(t, state, z_t)` what the layer below sees, and
    `reconstruction` −log p(x|·) of what is left below z_1. `state` is that above z_T. eps[t − 1] is the noise of z_t.
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
    """A path by q(z_1|x) Π q(z_t|z_{t−1}), Eq. 2.17: of the rates, only that of z_T is a KL in closed form.

    `ascend(t, z_{t−1})` gives the posterior of z_t, of z_1 from None; the rest is as in `top_down`.
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
    """What is left below z_1 of a draw z_T ~ p(z_T), …, z_1 ~ p(z_1|z_2), Eq. 2.14; `top` takes the place of z_T."""
    for t in range(len(eps), 0, -1):
        z = top if top is not None and t == len(eps) else prior(t, state).draw(eps[t - 1])
        state = descend(t, state, z)
    return state


def descended(
    descend: Callable[[int, State, Array], State], state: State, latents: Sequence[Float[Array, "batch *dims"]]
) -> State:
    """What is left below z_1 of these z_1 … z_T."""
    for t in range(len(latents), 0, -1):
        state = descend(t, state, latents[t - 1])
    return state
