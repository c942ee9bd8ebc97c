"""Sampling on several devices at once.

`sample` is a pure function whose image k depends on the key and k alone, so one batch may be made anywhere in parts:

    jax.jit(draw)                                               one device
    jax.jit(draw, out_shardings=NamedSharding(mesh, P("data"))) one program over a mesh, the batch spread over it
    samplers.pmapped(make_denoise, sampler, shape)              the local devices by `jax.pmap`

The images are the same but for float32 roundings. On several hosts each calls `pmapped` with the shape of its share and
draws it on its local devices with `first=jax.process_index() * shape[0]`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from vdm.predictions import Denoise
from vdm.samplers.loop import Sampler, check_sampler, sample

Draw = Callable[..., Float[Array, "batch *data"]]


def pmapped(
    make_denoise: Callable[..., Denoise],
    sampler: Sampler,
    shape: Sequence[int],
    devices: Sequence[jax.Device] | None = None,
) -> Draw:
    """`draw(key, gammas, *args, first=0)`: `sample` of `shape`, an equal share of the images on each device.

    `make_denoise(*args)` is the denoiser: `model.denoiser` of `variables`, say, which go to every device. The result is
    spread over the devices, all local ones unless given. Compiles once; key, γ, arguments and `first` are traced. There
    is nothing to donate: z₁ is made on the device, and the loop reuses its memory. Raises ValueError unless the devices
    divide shape[0], and for a sampler that is none.

    >>> from vdm.samplers import ddim
    >>> draw = pmapped(lambda scale: lambda z, gamma: scale * z, ddim(), (8 * jax.local_device_count(), 2))
    >>> draw(jax.random.key(0), jnp.linspace(5.0, -5.0, 6), jnp.float32(0.5)).shape[1]
    2
    """
    check_sampler("sampler", sampler)
    devices = list(jax.local_devices() if devices is None else devices)
    if shape[0] < 1 or shape[0] % len(devices):
        raise ValueError(f"shape={tuple(shape)}: the batch must be a multiple of {len(devices)} devices")
    share = shape[0] // len(devices)

    def part(
        first: Array, key: PRNGKeyArray, gammas: Float[Array, " points"], args: tuple[Any, ...]
    ) -> Float[Array, "share *data"]:
        return sample(key, make_denoise(*args), sampler, gammas, (share, *shape[1:]), first)

    parts = jax.pmap(part, in_axes=(0, None, None, None), devices=devices)

    def draw(
        key: PRNGKeyArray, gammas: Float[Array, " points"], *args: Any, first: int | Array = 0
    ) -> Float[Array, "batch *data"]:
        firsts = first + share * jnp.arange(len(devices))
        return parts(firsts, key, gammas, args).reshape(tuple(shape))

    return draw
