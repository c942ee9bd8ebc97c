"""Devices and processes: start-up, the mesh, where batches and states lie on it, and what processes agree on.

All processes run the same program: each reads its share of a batch, process 0 alone writes files and prints.
"""

import itertools
import os
import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import multihost

from vdm.errors import InputError, one_line

T = TypeVar("T")

SHARDED_SIZE = 1024
"""Arrays of fewer elements are whole on every device: to gather them costs more than to keep them."""

MESSAGE_BYTES = 4096

_calls = itertools.count(1)


def setup(
    num_cpu_devices: int = 0,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Call before anything touches a device: on a CPU, one XLA device a core (or `num_cpu_devices`).

    XLA's CPU backend runs element-wise work on one thread a device, so a device a core with the batch sharded is
    about twice as fast on two cores. Each device then keeps to its own thread: with a shared pool of threads, the
    devices' all-reduces can wait for each other forever. No effect on GPU and TPU.

    With a `coordinator`, this process becomes one of several: HOST:PORT of process 0 with the number of processes and
    this one's, or `auto` where Slurm, Open MPI, Kubernetes or a TPU pod tell them. Raises `InputError` for one without
    the other, and if the processes do not find each other.
    """
    flags = os.environ.get("XLA_FLAGS", "").strip()
    # Or it names a file of flags, to which none can be added here.
    if "xla_cpu_multi_thread_eigen" not in flags and (not flags or flags.startswith("-")):
        flags = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        os.environ["XLA_FLAGS"] = flags
    if "xla_force_host_platform_device_count" not in flags:
        jax.config.update("jax_num_cpu_devices", num_cpu_devices or num_cores())
    _connect(coordinator, num_processes, process_id)


def _connect(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    by_hand = coordinator not in (None, "auto")
    for flag, value in (("--num_processes", num_processes), ("--process_id", process_id)):
        if by_hand and value is None:
            raise InputError(f"--coordinator={coordinator}: must go with {flag}")
        if not by_hand and value is not None:
            raise InputError(f"{flag}={value}: must go with --coordinator=HOST:PORT")
    if process_id is not None and num_processes is not None and not 0 <= process_id < num_processes:
        raise InputError(f"--process_id={process_id}: must be from 0 to {num_processes - 1}, below --num_processes")
    if coordinator is None:
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator if by_hand else None, num_processes, process_id)
    except (RuntimeError, ValueError) as error:  # jax's own errors of a cluster that is not there
        raise InputError(f"--coordinator={coordinator}: {one_line(error)}") from error


def num_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_mesh(batch_size: int | None = None, fsdp: int = 1, accumulate: int = 1) -> Mesh:
    """A mesh ("data", "fsdp") over all devices, or over as many as divide `batch_size`.

    Each group of `fsdp` devices shares one copy of the state: `state_sharding`. Devices of one process are in jax's
    order for their network; of several, each process' are neighbours, so that its share of a batch is one run of rows.
    Raises `InputError` if no number of devices suits both, if of several processes not all devices would take part, and
    unless each of `accumulate` parts of a batch divides among them.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    fits = [n for n in range(1, len(devices) + 1) if n % fsdp == 0 and (batch_size is None or batch_size % n == 0)]
    if not fits:
        raise InputError(
            f"config.training.fsdp={fsdp}: must divide the {len(devices)} devices"
            + ("" if batch_size is None else f" and training.batch_size={batch_size}")
        )
    if jax.process_count() > 1 and fits[-1] < len(devices):
        raise InputError(
            f"training.batch_size={batch_size}, fsdp={fsdp}: do not divide over the {len(devices)} devices of "
            f"{jax.process_count()} processes"
        )
    num = fits[-1]
    if batch_size is not None and (batch_size // accumulate) % num:
        raise InputError(
            f"config.training.accumulate={accumulate}: makes parts of {batch_size // accumulate} images, which do not "
            f"divide among the {num} devices; training.batch_size={batch_size} must be a multiple of both together, "
            f"{accumulate * num}"
        )
    shape, names, types = (num // fsdp, fsdp), ("data", "fsdp"), (AxisType.Auto,) * 2
    if jax.process_count() == 1:
        return jax.make_mesh(shape, names, axis_types=types, devices=devices[:num])
    return Mesh(np.asarray(devices).reshape(shape), names, axis_types=types)


def round_up(batch_size: int, mesh: Mesh) -> int:
    """The least multiple of the mesh's devices that is not below `batch_size`."""
    return -(-batch_size // mesh.devices.size) * mesh.devices.size


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def parts_sharding(mesh: Mesh) -> NamedSharding:
    """Of the parts of a batch, (parts, part, …): the second axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(None, ("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same values on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(tree: T, mesh: Mesh) -> T:
    """A sharding for each array of a state: its longest axis that "fsdp" divides is cut, if it is not small.

    Parameters, their moments and their moving average have the same shapes, so they lie alike.
    """
    fsdp = mesh.shape["fsdp"]

    def sharding(x: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(x.shape) if size % fsdp == 0]
        if fsdp == 1 or not axes or x.size < SHARDED_SIZE:
            return replicated(mesh)
        longest = max(axes, key=lambda axis: x.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*(None,) * longest, "fsdp"))

    return jax.tree.map(sharding, tree)


def gathered(tree: T, mesh: Mesh) -> T:
    """Inside a program: the arrays whole on every device, to compute with; the batch stays where it is."""
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """A process's share of a batch as global arrays over the mesh."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, value) for name, value in batch.items()}


def abstract(make: Callable[[], T], mesh: Mesh) -> T:
    """Shapes, types and `state_sharding` of what `make` would return; nothing is computed."""
    shapes = jax.eval_shape(make)
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, state_sharding(shapes, mesh)
    )


def throttle(value: Any) -> None:
    """On CPU devices, waits for `value`: one program at a time, as their collectives have no queue. Else nothing."""
    if jax.default_backend() == "cpu":
        jax.block_until_ready(value)


def to_host(tree: Any) -> Any:
    """Arrays over the mesh as numpy arrays, whole in every process; all processes must call it."""

    def one(x: jax.Array) -> np.ndarray:
        return np.asarray(x if x.is_fully_addressable else multihost_utils.process_allgather(x, tiled=True))

    return jax.tree.map(one, tree)


def leave() -> None:
    """Before a process ends at once: tells the others, for ten seconds at most."""
    if jax.distributed.is_initialized():
        goodbye = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        goodbye.start()
        goodbye.join(10)


def is_main() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


def on_main(action: Callable[[], T]) -> T | None:
    """What `action` returns in process 0, None in the others, after it; its failure is an error of all processes."""
    if jax.process_count() == 1:
        return action()
    result, failure = None, None
    if is_main():
        try:
            result = action()
        except Exception as error:
            failure = error
    said = "" if failure is None else str(failure) or type(failure).__name__
    text = np.frombuffer(said.encode()[:MESSAGE_BYTES].ljust(MESSAGE_BYTES, b"\0"), np.uint8)
    said = bytes(multihost_utils.broadcast_one_to_all(text)).rstrip(b"\0").decode(errors="replace")
    if failure is not None:
        raise failure
    if said:
        raise InputError(said)
    return result


def meet(name: str) -> None:
    """Waits for all processes: a collective gives up on one that comes half a minute late, from compiling, say."""
    if jax.process_count() > 1:
        everyone = set(range(jax.process_count()))
        multihost.sync_global_processes(f"vdm_{name}", processes=everyone)


def all_true(value: bool) -> bool:
    """Whether `value` is true in every process; all must call it."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(jnp.asarray(value)).all())


def share_signals(received: list[int]) -> None:
    """Of several processes, puts a signal that any of them got into `received` of all, at the same call of it.

    All must call it at the same places. It happens once in the life of a process, as a preemption does.
    """
    if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(next(_calls)):
        received.append(signal.SIGTERM)


def describe(mesh: Mesh) -> dict[str, Any]:
    """What the run's record says of its devices."""
    device = mesh.devices.flat[0]
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "runtime": " ".join(device.client.platform_version.split()),
        "num_devices": int(mesh.devices.size),
        "num_processes": jax.process_count(),
        "fsdp": int(mesh.shape["fsdp"]),
    }
