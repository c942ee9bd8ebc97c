"""Meshes and batches over eight simulated devices."""

import jax
import numpy as np
import pytest

from vdm import parallel


@pytest.mark.parametrize(("batch_size", "devices"), [(64, 8), (12, 6), (7, 7), (13, 1), (1, 1), (22, 2)])
def test_mesh_uses_as_many_devices_as_divide_the_batch(batch_size: int, devices: int) -> None:
    mesh = parallel.make_mesh(batch_size)
    assert dict(mesh.shape) == {"data": devices, "fsdp": 1}


def test_rounding_up_to_the_devices() -> None:
    mesh = parallel.make_mesh()
    assert mesh.devices.size == 8
    assert [parallel.round_up(n, mesh) for n in (1, 8, 9, 300)] == [8, 8, 16, 304]


def test_batches_are_split_and_whole() -> None:
    image = np.arange(16 * 4, dtype=np.uint8).reshape(16, 2, 2, 1)
    batch = parallel.shard_batch({"image": image}, parallel.make_mesh(16))
    np.testing.assert_array_equal(np.asarray(batch["image"]), image)
    assert [shard.data.shape[0] for shard in batch["image"].addressable_shards] == [2] * 8


def test_abstract_computes_nothing() -> None:
    sharding = parallel.replicated(parallel.make_mesh(8))
    made = parallel.abstract(lambda: {"a": jax.numpy.zeros((10**6, 10**6))}, sharding)
    assert made["a"].shape == (10**6, 10**6)
    assert made["a"].sharding == sharding
