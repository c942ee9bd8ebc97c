"""Sampling on several devices at once.

`sample` is a pure function whose image k depends on the key and k alone, so the parts of a batch can be drawn anywhere:

    jax.jit(draw)                                               on one device
    jax.jit(draw, out_shardings=NamedSharding(mesh, P("data"))) in one program, with the batch spread over a mesh
    samplers.pmapped(make_denoise, sampler, shape)              on the local devices, by `jax.pmap`

The images agree up to float32 rounding. With several hosts, each calls `pmapped` with the shape of its own share and
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
    """Return `draw(key, gammas, *args, first=0)`, which samples `shape` with an equal share of images on each device.

    `make_denoise(*args)` returns the denoiser, e.g. `model.denoiser` called with `variables`, which are copied to every
    device. The result is spread over `devices`, by default all local ones. `draw` compiles once: key, γ, arguments and
    `first` are traced. There is nothing to donate: z₁ is made on the device, and the loop reuses its memory. Raises
    ValueError if shape[0] is not a multiple of the number of devices, or if `sampler` is not a `Sampler`.

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
