"""Measures the hole problem: the aggregate posterior q(z) compared with the prior p(z) = N(0, I).

q(z) = (1/N) Σ_i q(z|x_i), Eq. 2.35 of De Sousa Ribeiro & Glocker (2024), is a mixture of N normals: the posteriors of a
VAE, of the top layer of a hierarchy, or a diffusion model's q(z_1|x_i), for which it is close to the prior by
construction. Holes are where p(z) is high and q(z) low: there a decoder is sampled where it was never trained (Rezende
& Viola 2018).

Everything refers to the N given points. A point's own component is part of q(z), so the information I_q(x; z) is at
most log N, however far apart the components are; and with fewer points, KL(q(z) ‖ p(z)) is larger on average.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, PRNGKeyArray

from vdm import gaussian
from vdm.evaluation.metrics.metric import Reference
from vdm.evaluation.metrics.mmd import Mmd
from vdm.evaluation.statistics import Share, wilson
from vdm.keys import image_keys
from vdm.model import Variables
from vdm.predecessors.latent import LatentModel
from vdm.predecessors.normal import LOG_2_PI, Normal

FACTORS = (0.01, 0.1)
"""A hole is where q(z) is below this fraction of p(z)."""
DRAWS = 10_000
LEAST_DRAWS = 80
MMD_PARTS = 8
"""Number of parts that the draws are split into; the scatter of MMD² between them gives its standard error."""
BLOCK = 2**21
"""Maximum number of float64 densities of single components in memory at once."""

Points = Float[np.ndarray, "num dims"]


class Below(NamedTuple):
    """How much of the prior lies in holes."""

    factor: float
    """A hole is where q(z) < factor · p(z)."""
    share: float
    """Share of the prior's mass."""
    low: float
    high: float
    """The 95% interval of the share (Wilson 1927)."""


@dataclass(frozen=True)
class Holes:
    """q(z) compared with p(z); divergences in nats, with standard errors over the draws of z."""

    rate: float
    """Mean of KL(q(z|x_i) ‖ p(z)), in closed form: `information` + `forward` (Hoffman & Johnson 2016)."""
    information: Share
    """I_q(x; z), the information that z has about which point it came from."""
    forward: Share
    """KL(q(z) ‖ p(z)): what the bound would gain if the prior were q(z)."""
    reverse: Share
    """KL(p(z) ‖ q(z)), which holes make large."""
    mmd: Share
    """MMD² between draws of both, by `vdm.evaluation.metrics.mmd`; unbiased, so it may be negative."""
    below: tuple[Below, ...]
    num_points: int
    num_dims: int
    num_draws: int

    def __str__(self) -> str:
        shares = ", ".join(f"{each.share:.1%} where q < {each.factor:g} p" for each in self.below)
        return (
            f"KL(q(z)‖p(z)) {self.forward} and KL(p(z)‖q(z)) {self.reverse} nats, of the rate {self.rate:.4f}; "
            f"of the prior {shares}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self) | {"below": [each._asdict() for each in self.below]}


def holes(posterior: Normal, key: PRNGKeyArray, num_draws: int = DRAWS, factors: Sequence[float] = FACTORS) -> Holes:
    """Compare q(z), the average of the N normals of `posterior`, with N(0, I), using `num_draws` draws of each.

    Costs 2 · N · draws · dims products. Raises ValueError for fewer than `LEAST_DRAWS` draws.

    >>> normals = Normal(jnp.zeros((5, 2)), jnp.zeros((5, 2)))  # five times the prior itself
    >>> found = holes(normals, jax.random.key(0), num_draws=100)
    >>> found.rate, round(abs(found.forward.value), 6), found.below[0].share
    (0.0, 0.0, 0.0)
    """
    if num_draws < LEAST_DRAWS:
        raise ValueError(f"num_draws={num_draws}: must be {LEAST_DRAWS} or more")
    key_q, key_p = jax.random.split(key)
    of_q = _flat(draws(posterior, key_q, num_draws))
    of_p = np.asarray(jax.random.normal(key_p, of_q.shape), np.float64)
    gain, loss = log_ratio(posterior, of_q), log_ratio(posterior, of_p)
    mean, log_std = _flat(posterior.mean), _flat(posterior.log_std)
    rate = float(0.5 * np.mean(np.sum(np.expm1(2 * log_std) - 2 * log_std + np.square(mean), axis=1)))
    forward = Share.mean(gain)
    return Holes(
        rate=rate,
        information=Share(rate - forward.value, forward.stderr),
        forward=forward,
        reverse=Share.mean(-loss),
        mmd=_mmd(of_q, of_p),
        below=tuple(_below(int(np.sum(loss < np.log(factor))), num_draws, factor) for factor in factors),
        num_points=len(mean),
        num_dims=mean.shape[1],
        num_draws=num_draws,
    )


def draws(posterior: Normal, key: PRNGKeyArray, num: int) -> Float[Array, "num *dims"]:
    """Draw from q(z), each time from a normal chosen at random."""
    key_of, key_eps = jax.random.split(key)
    of = jax.random.randint(key_of, (num,), 0, len(posterior.mean))
    chosen = Normal(jnp.asarray(posterior.mean)[of], jnp.asarray(posterior.log_std)[of])
    return chosen.draw(jax.random.normal(key_eps, chosen.mean.shape))


def log_aggregate(posterior: Normal, z: Points) -> Float[np.ndarray, " num"]:
    """Return log q(z) in nats for each z, in float64: a log-sum-exp over all normals, in blocks of z."""
    mean, log_std = _flat(posterior.mean), _flat(posterior.log_std)
    precision = np.exp(-2 * log_std)
    constant = np.sum(0.5 * np.square(mean) * precision + log_std, axis=1) + 0.5 * mean.shape[1] * LOG_2_PI
    found = []
    for block in _blocks(np.asarray(z, np.float64), len(mean)):
        exponent = block @ (mean * precision).T - 0.5 * np.square(block) @ precision.T - constant
        largest = exponent.max(axis=1, keepdims=True)
        found.append(largest[:, 0] + np.log(np.mean(np.exp(exponent - largest), axis=1)))
    return np.concatenate(found)


def log_ratio(posterior: Normal, z: Points) -> Float[np.ndarray, " num"]:
    """Return log q(z)/p(z) in nats for each z."""
    return log_aggregate(posterior, z) + 0.5 * np.sum(np.square(z) + LOG_2_PI, axis=1)


def on_grid(posterior: Normal, extent: float, cells: int) -> tuple[Points, Float[np.ndarray, " num"]]:
    """Return z and log q(z)/p(z) at the centers of cells × cells on [−extent, extent]², the second latent fastest.

    Raises ValueError unless there are two latents.
    """
    if _flat(posterior.mean).shape[1] != 2:
        raise ValueError(f"posterior has {_flat(posterior.mean).shape[1]} latents: must be 2")
    axis = extent * ((2 * np.arange(cells) + 1) / cells - 1)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return z, log_ratio(posterior, z)


def posteriors(
    model: LatentModel, variables: Variables, images: Num[np.ndarray, "num *data"], key: PRNGKeyArray, batch: int = 512
) -> Normal:
    """Return q(z_T|x_i) for each image.

    For a bottom-up hierarchy, it is q(z_T|z_{T−1}) at one draw, with the image's own noise.
    """

    @jax.jit
    def of_batch(variables: Variables, images: Array, first: Array) -> Normal:
        return model.posterior(variables, images, model.draw_each(image_keys(key, len(images), first)))

    found = []
    for first in range(0, len(images), batch):
        some = images[first : first + batch]
        # All batches have the same size, so that one program suffices.
        padded = np.concatenate([some, np.repeat(some[:1], min(batch, len(images)) - len(some), axis=0)])
        found.append(of_batch(variables, padded, jnp.int32(first)))
    return Normal(*(jnp.concatenate(each)[: len(images)] for each in zip(*found, strict=True)))


def diffused(x: Float[Array, "num *dims"], gamma: Float[Array, ""] | float) -> Normal:
    """Return q(z_t|x_i) = N(α_t x_i, σ_t²) for encoded data.

    At γ(1), their mixture is what a diffusion model's prior stands for.
    """
    log_std = -0.5 * jax.nn.softplus(-jnp.float32(gamma))  # log σ, accurate also for σ close to 1
    return Normal(gaussian.alpha(jnp.float32(gamma)) * x, jnp.broadcast_to(log_std, x.shape))


def _flat(values: Float[Array, "num *dims"]) -> Points:
    return np.asarray(values, np.float64).reshape(len(values), -1)


def _blocks(z: Points, num_components: int) -> Iterator[Points]:
    rows = max(1, BLOCK // num_components)
    return (z[start : start + rows] for start in range(0, len(z), rows))


def _below(count: int, num: int, factor: float) -> Below:
    return Below(factor, count / num, *wilson(count, num))


def _mmd(of_q: Points, of_p: Points) -> Share:
    parts = zip(*(np.array_split(each.astype(np.float32), MMD_PARTS) for each in (of_q, of_p)), strict=True)
    return Share.mean(np.array([Mmd(Reference.of(real)).estimate(drawn).value for drawn, real in parts]))
