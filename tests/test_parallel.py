"""Meshes, shardings and what devices exchange, over eight simulated devices."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import hlo
import jax
import numpy as np
import pytest
import tiny

from vdm import model as model_lib
from vdm import parallel
from vdm.config import Config, SamplingConfig
from vdm.errors import InputError
from vdm.evaluation.images import ImageSampler
from vdm.training.objective import Objective
from vdm.training.state import TrainState, init_state, make_optimizer
from vdm.training.step import Metrics, empty_metrics, jit_train_step

BATCH, STEPS = 16, 20
MESHES = [(1, 1), (8, 1), (1, 8), (4, 2)]


@pytest.mark.parametrize(("batch_size", "devices"), [(64, 8), (12, 6), (7, 7), (13, 1), (1, 1), (22, 2)])
def test_mesh_uses_as_many_devices_as_divide_the_batch(batch_size: int, devices: int) -> None:
    mesh = parallel.make_mesh(batch_size)
    assert dict(mesh.shape) == {"data": devices, "fsdp": 1}


@pytest.mark.parametrize(("batch_size", "fsdp", "shape"), [(64, 4, (2, 4)), (12, 2, (3, 2)), (None, 8, (1, 8))])
def test_mesh_with_shared_states(batch_size: int | None, fsdp: int, shape: tuple[int, int]) -> None:
    assert tuple(parallel.make_mesh(batch_size, fsdp).shape.values()) == shape


@pytest.mark.parametrize(("batch_size", "fsdp"), [(64, 16), (9, 2)])
def test_a_mesh_that_does_not_fit_is_refused(batch_size: int, fsdp: int) -> None:
    with pytest.raises(InputError, match=rf"config.training.fsdp={fsdp}: must divide the 8 devices and .*{batch_size}"):
        parallel.make_mesh(batch_size, fsdp)


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
    made = parallel.abstract(lambda: {"a": jax.numpy.zeros((10**6, 10**6))}, parallel.make_mesh(8))
    assert made["a"].shape == (10**6, 10**6)
    assert made["a"].sharding == parallel.replicated(parallel.make_mesh(8))


def test_states_are_cut_along_their_longest_axis_that_divides() -> None:
    mesh = parallel.make_mesh(fsdp=4)
    shapes = {"kernel": (3, 3, 64, 32), "odd": (129, 127), "dense": (30, 2000), "small": (4, 8), "step": ()}
    tree = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    specs = {name: tuple(sharding.spec) for name, sharding in parallel.state_sharding(tree, mesh).items()}
    assert specs == {"kernel": (None, None, "fsdp"), "odd": (), "dense": (None, "fsdp"), "small": (), "step": ()}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"coordinator": "here:1", "num_processes": 2}, "must go with --process_id"),
        ({"coordinator": "here:1", "process_id": 0}, "must go with --num_processes"),
        ({"coordinator": "here:1", "num_processes": 2, "process_id": 2}, "--process_id=2: must be from 0 to 1"),
        ({"num_processes": 2}, "--num_processes=2: must go with --coordinator"),
        ({"coordinator": "auto", "process_id": 0}, "--process_id=0: must go with --coordinator=HOST:PORT"),
    ],
)
def test_processes_without_the_rest_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parallel.setup(**given)


class Program(NamedTuple):
    """The train step over one mesh, compiled."""

    config: Config
    mesh: jax.sharding.Mesh
    abstract: TrainState
    step: jax.stages.Compiled


def tiny_config() -> Config:
    config = tiny.config()
    config.training.batch_size = BATCH
    config.optimizer.warmup_steps = 0
    return config


@pytest.fixture(scope="module")
def compiled() -> Callable[[tuple[int, int]], Program]:
    @functools.cache
    def make(shape: tuple[int, int]) -> Program:
        config = tiny_config()
        model, optimizer = model_lib.from_config(config), make_optimizer(config)
        devices = jax.devices()[: shape[0] * shape[1]]
        mesh = jax.make_mesh(shape, ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2, devices=devices)
        with jax.numpy_dtype_promotion("standard"):
            state = parallel.abstract(lambda: init_state(model, Objective(), optimizer, 0), mesh)
            metrics = parallel.abstract(empty_metrics, mesh)
            image = jax.ShapeDtypeStruct((BATCH, *model.shape), np.uint8, sharding=parallel.batch_sharding(mesh))
            step = (
                jit_train_step(model, Objective(), optimizer, config, mesh)
                .lower(state, metrics, {"image": image})
                .compile()
            )
        return Program(config, mesh, state, step)

    return make


@pytest.fixture(scope="module")
def trained(compiled: Callable) -> Callable[[tuple[int, int]], tuple[TrainState, Metrics]]:
    @functools.cache
    def run(shape: tuple[int, int]) -> tuple[TrainState, Metrics]:
        program = compiled(shape)
        config, mesh = program.config, program.mesh
        model, optimizer = model_lib.from_config(config), make_optimizer(config)
        with jax.numpy_dtype_promotion("standard"):
            start = jax.jit(lambda: init_state(model, Objective(), optimizer, 0))()
        shardings = jax.tree.map(lambda x: x.sharding, program.abstract)
        state = jax.device_put(start, shardings)
        metrics = jax.device_put(empty_metrics(), parallel.replicated(mesh))
        for step in range(STEPS):
            batch = parallel.shard_batch({"image": np.asarray(tiny.images(BATCH, seed=step))}, mesh)
            state, metrics = jax.block_until_ready(program.step(state, metrics, batch))
        return state, metrics

    return run


@pytest.mark.parametrize("shape", MESHES[1:])
def test_training_and_samples_are_the_same_on_every_mesh(
    trained: Callable, compiled: Callable, shape: tuple[int, int]
) -> None:
    """Devices add up a batch in another order: float32 roundings, which Adam passes on relative to the step size."""
    (state, metrics), (reference, by_one) = trained(shape), trained((1, 1))
    np.testing.assert_allclose(sum(metrics.bits_per_dim), sum(by_one.bits_per_dim), rtol=1e-5)
    # 20 steps of at most about 2e-4 each; a rounding of a gradient near 0 moves a step by a part of that.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=4e-5), state.variables, reference.variables
    )
    start = model_lib.from_config(compiled(shape).config).init
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), jax.jit(start)(jax.random.key(0)), reference.variables)
    assert max(jax.tree.leaves(moved)) > 20 * 4e-5

    images = [
        ImageSampler(model_lib.from_config(program.config), program.mesh, SamplingConfig(num=8, steps=3, batch_size=8))(
            variables, jax.random.key(1), 8
        )[0]
        for program, variables in ((compiled(shape), state.ema), (compiled((1, 1)), reference.ema))
    ]
    # A value within a rounding of two levels' border may fall to either side.
    assert np.mean(images[0] != images[1]) < 0.02
    assert np.abs(images[0].astype(int) - images[1]).max() <= 1


def test_the_state_is_cut_and_stays_so(trained: Callable, compiled: Callable) -> None:
    state, _ = trained((1, 8))
    jax.tree.map(lambda x, like: x.sharding == like.sharding or pytest.fail(str(x)), state, compiled((1, 8)).abstract)
    held = {name: sum(x.addressable_shards[0].data.size for x in jax.tree.leaves(part))
            for name, part in state._asdict().items()}  # fmt: skip
    whole = {name: sum(x.size for x in jax.tree.leaves(part)) for name, part in state._asdict().items()}
    small = sum(x.size for x in jax.tree.leaves(state.variables) if x.sharding.is_fully_replicated)
    for name in ("variables", "ema"):
        assert held[name] == small + (whole[name] - small) / 8
    assert held["opt_state"] < 2 * held["variables"] + 10


def test_data_parallel_devices_exchange_the_gradient_once(compiled: Callable) -> None:
    """One all-reduce of the gradients, the terms of the bound beside them; nothing else, and no host."""
    program = compiled((8, 1))
    text = program.step.as_text()
    parameters = sum(x.size for x in jax.tree.leaves(program.abstract.variables))
    found = hlo.traffic(text)
    assert dict(found.count) == {"all-reduce": 1}
    assert 4 * parameters <= found.bytes["all-reduce"] <= 4 * parameters + 256
    assert "callback" not in text
    assert "outfeed" not in text


@pytest.mark.parametrize("shape", MESHES[2:])
def test_with_a_cut_state_only_parameters_are_gathered_too(compiled: Callable, shape: tuple[int, int]) -> None:
    """XLA's CPU backend has no reduce-scatter: it reduces whole gradients and cuts them."""
    program = compiled(shape)
    found = hlo.traffic(program.step.as_text())
    parameters = jax.tree.leaves(program.abstract.variables)
    cut = sum(x.size for x in parameters if not x.sharding.is_fully_replicated)
    assert cut > 0
    assert found.bytes["all-gather"] == 4 * cut
    # Of a mixed mesh, what is cut is reduced twice: along "fsdp", and then the pieces along "data".
    pieces = cut / shape[1] if shape[0] > 1 else 0
    assert found.bytes["all-reduce"] <= 4 * (sum(x.size for x in parameters) + pieces) + 256
    assert set(found.count) == {"all-gather", "all-reduce"}


def test_memory_of_the_state_falls_with_the_devices_that_share_it(compiled: Callable) -> None:
    def held(shape: tuple[int, int]) -> int:
        return compiled(shape).step.memory_analysis().argument_size_in_bytes

    leaves = jax.tree.leaves(compiled((1, 8)).abstract)
    cut = sum(x.size * x.dtype.itemsize for x in leaves if not x.sharding.is_fully_replicated)
    for shape in MESHES[2:]:
        # Images, and the padding of each array.
        assert abs(held((8, 1)) - held(shape) - cut * (1 - 1 / shape[1])) < 0.02 * held((8, 1))


def test_stratified_times_are_those_of_the_whole_batch(compiled: Callable) -> None:
    """Each device holds some of the B times; together there is one in each interval of 1/B, whatever their offset."""
    mesh = compiled((4, 2)).mesh
    model = model_lib.from_config(tiny_config())
    draw = jax.jit(lambda key: model.draw(key, BATCH).t, out_shardings=parallel.batch_sharding(mesh))
    t = draw(jax.random.key(3))
    assert [shard.data.shape for shard in t.addressable_shards] == [(BATCH // 8,)] * 8
    pieces = np.concatenate([shard.data for shard in t.addressable_shards])
    np.testing.assert_allclose(np.diff(np.sort(pieces)), 1 / BATCH, atol=1e-6)
