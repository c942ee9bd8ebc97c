"""The training step: its time, its share of the device's peak, its compilation time and its kernels."""

import statistics
import time
from dataclasses import replace
from typing import Any

import jax
import train_step

from accelerator_parts import hlo, trace
from accelerator_parts.cases import config_of, room
from accelerator_parts.figures import Figures
from vdm.config import Config

NUM_STEPS = {"bfloat16": 20, "tf32": 20, "float32": 8}
TRACED_STEPS = 3


def measure(figures: Figures, case: str, precision: str, profile: bool = False) -> None:
    """Measure one config in one precision, optionally with a `profile` of some steps."""
    step = fitting(config_of(case, precision, figures.small))
    figures.add(case=case, **train_step.compiled_figures(step))
    figures.add(**of_kernels(step.program.as_text()))
    figures.add(**timed(step, 3 if figures.small else NUM_STEPS[precision]))
    if profile:
        figures.add(profile=profiled(step, figures))
    # Compile again, as a second start would with the persistent cache.
    config = step.config
    del step
    jax.clear_caches()
    again = train_step.compile_step(config)
    figures.add(cached_trace_seconds=again.trace_seconds, cached_compile_seconds=again.compile_seconds)


def fitting(config: Config) -> train_step.CompiledStep:
    """Compile the step with as many parts per batch as the device's memory requires."""
    step = train_step.compile_step(config)
    figures, limit = train_step.compiled_figures(step), room()
    training = config.training
    if limit is None or figures["compiled_program_bytes"] <= limit or training.accumulate == training.batch_size:
        return step
    return fitting(replace(config, training=replace(training, accumulate=2 * training.accumulate)))


def of_kernels(program_text: str) -> dict[str, Any]:
    """Return the number of kernels in the compiled program, with their bytes and FLOPs by kind."""
    by_kind: dict[str, dict[str, int]] = {}
    for kernel in hlo.kernels(program_text):
        kind = by_kind.setdefault(kernel.kind, {"kernels": 0, "bytes": 0, "flops": 0})
        kind["kernels"] += kernel.launches
        kind["bytes"] += kernel.launches * kernel.num_bytes
        kind["flops"] += kernel.launches * kernel.flops
    return {"kernels": by_kind}


def timed(step: train_step.CompiledStep, num_steps: int) -> dict[str, Any]:
    """Return the seconds of steps that are waited for, and of steps queued one after another, as in training."""
    times, batch_size = step.times(num_steps), step.config.training.batch_size
    (state, metrics), batch = step.start(), step.batch()
    state, metrics = jax.block_until_ready(step.call(state, metrics, batch))
    begin = time.perf_counter()
    for _ in range(num_steps):
        state, metrics = step.call(state, metrics, batch)
    jax.block_until_ready(state)
    queued = (time.perf_counter() - begin) / num_steps
    memory = jax.local_devices()[0].memory_stats() or {}
    return {
        "step_seconds": statistics.median(times),
        "step_seconds_range": [min(times), max(times)],
        "queued_step_seconds": queued,
        "images_per_second": batch_size / queued,
        "model_flops_per_second": step.model_flops / queued,
        "peak_bytes_in_use": memory.get("peak_bytes_in_use"),
    }


def profiled(step: train_step.CompiledStep, figures: Figures) -> dict[str, Any]:
    """Profile the kernels of some steps; see `trace.report`."""
    (state, metrics), batch = step.start(), step.batch()

    def run() -> None:
        nonlocal state, metrics
        for _ in range(TRACED_STEPS):
            state, metrics = jax.block_until_ready(step.call(state, metrics, batch))

    run()
    launches = trace.record(run, figures.folder / f"{figures.path.stem}_trace")
    return trace.report(launches, step.program.as_text(), TRACED_STEPS)
