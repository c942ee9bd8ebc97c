"""Networks of a line or two, whose losses and gradients are known in closed form."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vdm import schedules
from vdm.model import Model

SHAPE = (4, 4, 1)


class Tanh(nn.Module):
    """ε̂ = tanh(a z + b γ)."""

    @nn.compact
    def __call__(self, z, gamma, condition=None, train=False):
        a, b = (self.param(name, nn.initializers.constant(value), ()) for name, value in (("a", 0.3), ("b", 0.05)))
        return jnp.tanh(a * z + b * jnp.broadcast_to(gamma, z.shape[:1])[:, None, None, None])


class Constant(nn.Module):
    """ε̂ = c everywhere, c = 1 at first."""

    @nn.compact
    def __call__(self, z, gamma, condition=None, train=False):
        return jnp.broadcast_to(self.param("c", nn.initializers.ones, ()), z.shape)


class Random(nn.Module):
    """ε̂ = c[k] r with k the example's condition "part", r a number from the stream of dropout or 1; c = 0 at first."""

    parts: int
    drawn: bool

    @nn.compact
    def __call__(self, z, gamma, condition=None, train=False):
        c = self.param("c", nn.initializers.zeros, (self.parts,))
        r = jax.random.uniform(self.make_rng("dropout"), ()) if train and self.drawn else jnp.float32(1)
        return jnp.broadcast_to((c * r)[condition["part"]][:, None, None, None], z.shape)


def model(network: nn.Module, schedule: schedules.Schedule | None = None, **fields) -> Model:
    """A model of 4 × 4 images with 17 levels around it; γ is linear from −7 to 4 unless a schedule is given."""
    return Model(schedule or schedules.linear(-7.0, 4.0), network, SHAPE, 17, **fields)
