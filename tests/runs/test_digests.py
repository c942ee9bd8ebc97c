"""Digests of arrays: the formula, the same wherever an array lies, another one for any bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vdm import parallel
from vdm.runs.digests import _digest, digests
from vdm.training.state import Trained


def mix(x: int) -> int:
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) % 2**32
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) % 2**32
    return x ^ (x >> 16)


def by_hand(bits: np.ndarray) -> str:
    """In whole numbers of Python."""
    return f"{sum(mix(int(b) ^ mix(i)) for i, b in enumerate(bits.ravel())) % 2**32:08x}"


def values(dtype: str) -> np.ndarray:
    random = np.random.default_rng(0).integers(0, 256, 6 * np.dtype(jnp.dtype(dtype)).itemsize, np.uint8)
    return random.view(jnp.dtype(dtype)).reshape(2, 3)


@pytest.mark.parametrize("dtype", ["float32", "int32", "bfloat16", "uint8"])
def test_it_is_the_sum_of_the_docstring_and_any_bit_changes_it(dtype: str) -> None:
    x = values(dtype)
    size = x.dtype.itemsize
    unsigned = {1: np.uint8, 2: np.uint16, 4: np.uint32}[size]
    whole = digests({"x": jnp.asarray(x)})["x"]
    assert whole == by_hand(x.view(unsigned))
    flipped = set()
    for element in range(x.size):
        for bit in range(8 * size):
            bits = x.view(unsigned).copy().ravel()
            bits[element] ^= unsigned(1 << bit)
            flipped.add(int(_digest(jnp.asarray(bits.view(x.dtype).reshape(x.shape)))))
    assert int(whole, 16) not in flipped
    assert len(flipped) == 8 * size * x.size


def test_what_disks_do_changes_it() -> None:
    """A block of zeros in place of ones, elements in another order, the sign of a zero."""
    ones = np.ones(4096, np.float32)
    holes = [np.where((np.arange(4096) >= k) & (np.arange(4096) < k + 1024), 0, 1) for k in (0, 1024, 3072)]
    ramp = np.arange(4096, dtype=np.float32)
    swapped = np.concatenate([ramp[2048:], ramp[:2048]])
    several = [ones, *(hole.astype(np.float32) for hole in holes), ramp, swapped, ramp[::-1], 0 * ramp, -0.0 * ramp]
    assert len({int(_digest(jnp.asarray(x))) for x in several}) == len(several)


def test_it_does_not_depend_on_devices_and_names_are_paths() -> None:
    tree = Trained(jnp.int32(7), {"network": {"kernel": jnp.arange(256.0).reshape(2, 8, 16)}}, (jnp.zeros(3),))
    found = digests({"state": tree})
    assert set(found) == {"state/step", "state/ema/network/kernel", "state/proposal/0"}
    mesh = parallel.make_mesh(8, fsdp=4)
    for axes in (PartitionSpec(), PartitionSpec(None, "fsdp"), PartitionSpec("data", None, "fsdp")):
        cut = jax.device_put(tree.ema, NamedSharding(mesh, axes))
        assert digests({"state": tree._replace(ema=cut)}) == found


def test_it_has_none_of_eight_bytes() -> None:
    with pytest.raises(TypeError, match="complex64"):
        digests({"x": jnp.zeros(2, jnp.complex64)})
