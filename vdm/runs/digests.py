"""Digests of arrays, which reveal bits flipped on disk when a checkpoint is read.

They are computed where the arrays are, and do not depend on how these are sharded over devices and processes: the sum
mod 2³² over all elements of hash(bits ⊕ hash(index)), where hash is MurmurHash3's 32-bit finalizer. The hash is a
bijection, so a change within a single element is always detected; any other change goes unnoticed once in 2³² cases.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32

from vdm import parallel

BITS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}
"""Unsigned integer types by element size in bytes."""


def digests(tree: Any) -> dict[str, str]:
    """Return the digest of every array in a tree, by names like `ema/network/conv_in/kernel`: eight hexadecimal digits.

    With several processes, all must call it. Raises `TypeError` for elements of more than four bytes.

    >>> digests({"a": jnp.zeros(3)}) == digests({"a": jnp.zeros(2)})
    False
    """
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        found[name_of(path)] = digest = _digest(leaf)
        parallel.throttle(digest)
    return {name: f"{int(value):08x}" for name, value in jax.device_get(found).items()}


def name_of(path: tuple[Any, ...]) -> str:
    """Join the keys that lead to a leaf of a tree by slashes."""
    return "/".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path)


@jax.jit
def _digest(x: Array) -> UInt32[Array, ""]:
    if x.dtype.itemsize not in BITS:
        raise TypeError(f"no digest of {x.dtype}")
    bits = (x if x.dtype == bool else jax.lax.bitcast_convert_type(x, BITS[x.dtype.itemsize])).astype(jnp.uint32)
    index = jnp.zeros(x.shape, jnp.uint32)
    for axis in range(x.ndim):
        stride = math.prod(x.shape[axis + 1 :]) % 2**32
        index += jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(stride)
    return jnp.sum(_mix(bits ^ _mix(index)), dtype=jnp.uint32)


def _mix(x: Array) -> Array:
    """Apply the 32-bit finalizer of MurmurHash3 (Appleby 2011)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    return x ^ (x >> 16)
