"""Precisions of a network's computation: the three values of `precision`.

- `float32`: all products and convolutions in float32, with a relative rounding error of at most 2⁻²⁴.
- `tf32`: float32 arrays, but the factors of products and convolutions are rounded to TensorFloat-32, with an error of
    at most 2⁻¹¹, and products are accumulated in float32. This is what NVIDIA GPUs from Ampere on do. A CPU or an older
    GPU has no such format and computes in float32; a TPU replaces each product by three of bfloat16 numbers, which is
    more accurate.
- `bfloat16`: the blocks of the network in bfloat16, with an error of at most 2⁻⁸; the rest of it as with `tf32`.

Only the network is affected: γ, z, losses, likelihoods, samplers' steps and variables are always float32.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp

FLOAT32 = "float32"

PRECISIONS = (FLOAT32, "tf32", "bfloat16")

AS_FLOAT32 = ", as float32 on this device"
"""Said after a precision that is not float32 but makes no difference on this device: see `is_float32`."""

AMPERE, HOPPER = 8.0, 9.0
"""Compute capabilities of the first NVIDIA GPUs with TF32, and of the first with attention heads of up to 256."""


def products(precision: str) -> AbstractContextManager[None]:
    """Context that sets the precision of a network that is *traced* within: products, convolutions and their gradients.

    Around a call of a program that is already compiled, it has no effect. Raises ValueError unless the precision is one
    of `PRECISIONS`.

    >>> with products("float32"):
    ...     program = jax.make_jaxpr(jnp.matmul)(jnp.ones((2, 2)), jnp.ones((2, 2)))
    >>> "HIGHEST" in str(program)
    True
    """
    # JAX's default is TF32 on these GPUs too, but on a TPU it is a single bfloat16 product.
    context: Callable[[str], AbstractContextManager[None]] = jax.default_matmul_precision
    return context("float32" if _known(precision) == FLOAT32 else "tensorfloat32")


def dtype(precision: str) -> Any:
    """Return the dtype that a network's blocks compute in. Raises ValueError for an unknown precision."""
    return jnp.dtype(jnp.bfloat16 if _known(precision) == "bfloat16" else jnp.float32)


def is_float32(precision: str, device: Any) -> bool:
    """Return whether the precision is known to equal float32 on this device (a `jax.Device`).

    >>> is_float32("tf32", jax.devices("cpu")[0]), is_float32("bfloat16", jax.devices("cpu")[0])
    (True, False)
    """
    if _known(precision) != "tf32":
        return precision == FLOAT32
    if device.platform == "gpu":
        return 0 < compute_capability(device) < AMPERE
    return bool(device.platform == "cpu")


def compute_capability(device: Any) -> float:
    """Return the compute capability of an NVIDIA GPU (a `jax.Device`), e.g. 9.0 for Hopper; 0 for other devices."""
    return float(device.compute_capability) if "cuda" in device.client.platform_version else 0.0


def _known(precision: str) -> str:
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}: must be one of {', '.join(PRECISIONS)}")
    return precision
