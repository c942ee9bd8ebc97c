"""The T-step model of a checkpoint as an image coder: `vdm.codec` with a network whose output is reproducible.

Encoder and decoder must see the same bits of x̂. So there is one program, with one batch shape, on one device, that
takes γ, z and labels as arguments. Its output for an image does not depend on the other images in the batch, nor on the
number of devices, since each device has its own program.
"""

import dataclasses
import functools
import hashlib
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from vdm import samplers
from vdm.codec.chain import Chain
from vdm.codec.normals import BINS
from vdm.evaluation.products import by_products
from vdm.model import Model, Variables

COMPILER: dict[str, str | bool] = {"xla_gpu_deterministic_ops": True, "xla_gpu_autotune_level": "0"}
"""A fixed order of sums on GPUs, and no choice of kernels by measured speed."""


def fingerprint(model: Model, variables: Variables) -> str:
    """Return 16 hexadecimal digits that two models share if they give the same x̂ and γ on a given platform.

    Depends on the weights, the network's fields, prediction type, conditions, shape, levels and T. The schedule is a
    function, so γ enters by its values at a few times, to two decimals.

    >>> from vdm import schedules
    >>> from vdm.networks import UNet
    >>> network = UNet(channels=8, depth=1, gamma_min=-10.0, gamma_max=5.0)
    >>> model = Model(schedules.linear(-10.0, 5.0), network, shape=(4, 4, 1), levels=256)
    >>> len(fingerprint(model, model.init(jax.random.key(0))))
    16
    """
    gammas = [round(float(model.gamma(variables, jnp.float32(t))), 2) for t in (0, 0.25, 0.5, 0.75, 1)]
    network = _described(model.network)
    conditions = sorted(model.condition)
    said = (network, model.prediction, model.precision, conditions, model.shape, model.levels, model.num_steps, gammas)
    found = hashlib.sha256(repr(said).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        found.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()[:16]


def _described(network: nn.Module) -> str:
    """Return the class and the fields that are not at their defaults, so that a field added later changes nothing."""
    fields = [f for f in dataclasses.fields(network) if f.name not in ("name", "parent")]
    own = [f"{f.name}={getattr(network, f.name)!r}" for f in fields if getattr(network, f.name) != f.default]
    return re.sub(r" at 0x[0-9a-f]+", "", f"{type(network).__name__}({', '.join(own)})")  # addresses of functions


def x_hat(model: Model, variables: Variables, z: Array, gamma: Array, labels: Array | None) -> Array:
    """Return the network's estimate x̂ of the data from a batch z at one γ; it has the shape of z."""
    return model.denoiser(variables, None if labels is None else {"label": labels})(z, gamma).x


def chain_of(
    model: Model, variables: Variables, num_steps: int, batch_size: int, bins: float = BINS, device: Any = None
) -> Chain:
    """Return the coder with `num_steps` network calls per batch of up to `batch_size` images, on one device.

    By default this is the first device. The coder takes labels if the model is conditioned on them. Raises ValueError
    for a model with other conditions, and for a T that the model was not trained for.
    """
    if set(model.condition) - {"label"}:
        raise ValueError(f"model: is conditioned on {', '.join(model.condition)}; must be on labels alone, or nothing")
    if model.num_steps not in (None, num_steps):
        raise ValueError(f"num_steps={num_steps}: must be {model.num_steps}, as the model was trained for")
    device = jax.devices()[0] if device is None else device

    def gamma(t: Array) -> Array:
        return model.gamma(variables, t)

    gammas = np.asarray(samplers.grid(gamma, num_steps))  # first: a wrong T is refused before anything is compiled
    here = jax.device_put(variables, device)
    shape = (batch_size, *model.shape)
    abstract = (
        jax.ShapeDtypeStruct(shape, jnp.float32),
        jax.ShapeDtypeStruct((), jnp.float32),
        jax.ShapeDtypeStruct((batch_size,), jnp.int32) if model.condition else None,
    )
    with jax.default_device(device):
        function = functools.partial(x_hat, model)
        lowered = jax.jit(by_products(function) if device.platform == "cpu" else function).lower(here, *abstract)
        program = lowered.compile(None if device.platform == "tpu" else COMPILER)

    def predict(z: np.ndarray, gamma: Any, labels: np.ndarray | None) -> Array:
        with jax.default_device(device):
            return program(here, z, gamma, labels)

    return Chain(predict, gammas, model.shape, model.levels, batch_size, bins)
