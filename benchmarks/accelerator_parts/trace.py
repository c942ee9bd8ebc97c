"""The time of a compiled program, kernel by kernel, as recorded by jax.profiler."""

import collections
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from accelerator_parts.hlo import Kernel, kernels

DEVICE_LINE = "Stream"
"""Prefix of the lines in a GPU's plane that hold kernels; other lines repeat them in other groupings."""


class Event(NamedTuple):
    """One launch."""

    name: str
    instruction: str
    """The HLO instruction that it computes."""
    seconds: float


def record(run: Callable[[], Any], folder: Path) -> list[Event]:
    """Return the launches during `run`, which must wait for its result."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(str(folder), profiler_options=options):
        run()
    (path,) = folder.rglob("*.xplane.pb")
    return list(events(jax.profiler.ProfileData.from_file(str(path))))


def events(profile: Any) -> Iterator[Event]:
    """Yield the launches in a profile: those of a GPU's streams, or of a CPU's thunks."""
    on_device = any(plane.name.startswith("/device:GPU") for plane in profile.planes)
    for plane in profile.planes:
        if plane.name.startswith("/device:GPU") != on_device:
            continue
        for line in plane.lines:
            if on_device and not line.name.startswith(DEVICE_LINE):
                continue
            for event in line.events:
                stats = dict(event.stats)
                if "hlo_op" in stats or on_device:
                    yield Event(event.name, str(stats.get("hlo_op", "")), event.duration_ns / 1e9)


def report(launches: list[Event], program_text: str, num_runs: int, longest: int = 10) -> dict[str, Any]:
    """Return the seconds of one of `num_runs` runs, by kind and by layer, and the `longest` kernels with descriptions.

    Kernels of the same name, kind and layer, which differ only in the block that they belong to, are added up.
    """
    known = {kernel.name: kernel for kernel in kernels(program_text)}
    kinds: dict[str, float] = collections.defaultdict(float)
    places: dict[str, float] = collections.defaultdict(float)
    same: dict[tuple[str, str, str], list[tuple[Event, Kernel]]] = collections.defaultdict(list)
    for launch in launches:
        kernel = known.get(launch.instruction) or Kernel(launch.name, "other", "", 0, 0)
        kinds[kernel.kind] += launch.seconds / num_runs
        places[f"{kernel.kind}: {kernel.place}"] += launch.seconds / num_runs
        same[_without_number(launch.name), kernel.kind, kernel.place].append((launch, kernel))
    total = sum(kinds.values())

    def row(name: str, kind: str, where: str) -> dict[str, Any]:
        group = same[name, kind, where]
        seconds = sum(launch.seconds for launch, _ in group)
        return {
            "kernel": name[:100],
            "what": f"{kind} {where}".strip(),
            "launches": len(group) / num_runs,
            "seconds": seconds / num_runs,
            "share": seconds / num_runs / total,
            "bytes_per_second": sum(kernel.num_bytes for _, kernel in group) / seconds,
            "flops_per_second": sum(kernel.flops for _, kernel in group) / seconds,
        }

    ordered = sorted(same, key=lambda key: -sum(launch.seconds for launch, _ in same[key]))
    return {
        "kernel_seconds": total,
        "launches": len(launches) / num_runs,
        "by_kind": _descending(kinds),
        "by_layer": dict(list(_descending(places).items())[:20]),
        "longest": [row(*key) for key in ordered[:longest] if total],
    }


def _descending(seconds: dict[str, float]) -> dict[str, float]:
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def _without_number(name: str) -> str:
    head, _, tail = name.rpartition(".")
    return head if tail.isdigit() and head else name.rstrip("0123456789").rstrip("_") or name
