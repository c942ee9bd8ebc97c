"""What a network computes in: the three values of `precision`.

float32   all products and convolutions in float32: rounded by 2⁻²⁴ at most, relative to the number.
tf32      float32 arrays, but the factors of products and convolutions are rounded to TensorFloat-32, by 2⁻¹¹ at most,
          and the products added up in float32. So do NVIDIA's GPUs from Ampere on. A CPU, and an older GPU, has no such
          numbers and computes in float32; a TPU makes three products of bfloat16 numbers of each, which is closer.
bfloat16  the blocks of the network in bfloat16, rounded by 2⁻⁸ at most; the rest of it is as with tf32.

It is the network's alone: γ, z, losses, likelihoods and samplers' steps are float32 always, and so are variables.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp

FLOAT32 = "float32"

PRECISIONS = (FLOAT32, "tf32", "bfloat16")

AS_FLOAT32 = ", as float32 on this device"
"""What is said after one that is not float32 but changes nothing here: see `is_float32`."""

AMPERE, HOPPER = 8.0, 9.0
"""Compute capability of the first of NVIDIA's GPUs with TF32, and of those with attention heads up to 256."""


def products(precision: str) -> AbstractContextManager[None]:
    """The context in which a network is *traced*: its products and convolutions, and their gradients, carry the mark.

    Around a call of what was compiled before, it changes nothing. Raises ValueError for another name than `PRECISIONS`.

    >>> with products("float32"):
    ...     program = jax.make_jaxpr(jnp.matmul)(jnp.ones((2, 2)), jnp.ones((2, 2)))
    >>> "HIGHEST" in str(program)
    True
    """
    # JAX's own default is TF32 on these GPUs too, but a single bfloat16 product on a TPU.
    context: Callable[[str], AbstractContextManager[None]] = jax.default_matmul_precision
    return context("float32" if _known(precision) == FLOAT32 else "tensorfloat32")


def dtype(precision: str) -> Any:
    """The type that a network's blocks compute in. Raises ValueError for another name than `PRECISIONS`."""
    return jnp.dtype(jnp.bfloat16 if _known(precision) == "bfloat16" else jnp.float32)


def is_float32(precision: str, device: Any) -> bool:
    """Whether it is known to be float32 on this device (a `jax.Device`): there it changes nothing.

    >>> is_float32("tf32", jax.devices("cpu")[0]), is_float32("bfloat16", jax.devices("cpu")[0])
    (True, False)
    """
    if _known(precision) != "tf32":
        return precision == FLOAT32
    if device.platform == "gpu":
        return 0 < compute_capability(device) < AMPERE
    return bool(device.platform == "cpu")


def compute_capability(device: Any) -> float:
    """Of one of NVIDIA's GPUs (a `jax.Device`): 9.0 for Hopper; 0 of another maker's."""
    return float(device.compute_capability) if "cuda" in device.client.platform_version else 0.0


def _known(precision: str) -> str:
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}: must be one of {', '.join(PRECISIONS)}")
    return precision
