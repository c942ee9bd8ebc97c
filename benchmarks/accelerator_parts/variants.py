"""Changes of the training step in bfloat16, one at a time: what each saves, compared with the prediction.

They are measured at depth `DEPTH` instead of 32, because compiling each variant of the whole network would take too
long: 11 residual blocks instead of 67, with the same attention. Differences are per step of this smaller network.
"""

import contextlib
import hashlib
import importlib
import os
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import train_step

from accelerator_parts import steps
from accelerator_parts.cases import config_of
from accelerator_parts.figures import Figures
from vdm.config import Config

DEPTH = 4
NUM_STEPS = 20
REPEATED_STEPS = 5


@dataclass(frozen=True)
class Variant:
    """A change of the config, or a patch of the package during one measurement."""

    name: str
    config: Callable[[Config], Config] = lambda config: config
    patch: tuple[str, str, Callable[[Any], Any]] | None = None
    """(module, name, function from the original to its replacement)."""
    options: dict[str, Any] | None = None
    """Options of jax.config."""


def _network(**changes: Any) -> Callable[[Config], Config]:
    return lambda config: replace(config, network=replace(config.network, **changes))


def _training(**changes: Any) -> Callable[[Config], Config]:
    return lambda config: replace(config, training=replace(config.training, **changes))


VARIANTS = [
    Variant("no_dropout", _network(dropout=0.0)),
    Variant("rbg_keys", options={"jax_default_prng_impl": "unsafe_rbg"}),
    Variant("plain_attention", patch=("vdm.networks.attention", "largest_fused_head", lambda _: lambda: 0)),
    # With `jax.checkpoint`, as on CPUs: the backward pass recomputes everything from normalization to convolution.
    Variant("recomputed_swish", patch=("vdm.networks.normalization", "computed_anew", lambda _: lambda: True)),
    Variant("five_steps_a_call", _training(steps_per_call=5)),
    Variant("batch_256", _training(batch_size=256)),
    Variant("remat", _network(remat=True)),
]


def measure(figures: Figures) -> None:
    """Measure the step as configured and then each variant, one after another in this process."""
    baseline(figures)
    for variant in VARIANTS[:3] if figures.small else VARIANTS:
        jax.clear_caches()
        try:
            with applied(variant):
                config = variant.config(_config(figures))
                step = train_step.compile_step(config)
                figures.add(**{variant.name: _figures(step, figures)})
        except Exception as error:
            # The variant may not exist in this version of the package or on this device.
            figures.add(**{variant.name: {"error": " ".join(str(error).split())[:200]}})


def baseline(figures: Figures, own_cache: bool = False) -> None:
    """Measure the step as configured, under the flags of this process, and digest its state after some steps, twice.

    With `own_cache`, nothing that was compiled or autotuned before is used.
    """
    if own_cache:
        jax.config.update("jax_compilation_cache_dir", str(figures.folder / "own_cache"))
    step = train_step.compile_step(_config(figures))
    figures.add(baseline=_figures(step, figures), xla_flags=os.environ.get("XLA_FLAGS", ""))
    digests = [digest(step) for _ in range(2)]
    figures.add(same_bits_twice=digests[0] == digests[1], bits=digests[0])


def _config(figures: Figures) -> Config:
    return config_of("cifar10", "bfloat16", figures.small, depth=DEPTH)


def _figures(step: train_step.CompiledStep, figures: Figures) -> dict[str, Any]:
    times = step.times(3 if figures.small else NUM_STEPS)
    return {
        "step_seconds": statistics.median(times),
        "step_seconds_range": [min(times), max(times)],
        "batch_size": step.config.training.batch_size,
        "compile_seconds": step.compile_seconds,
        "temporary_bytes": step.program.memory_analysis().temp_size_in_bytes,
        **steps.of_kernels(step.program.as_text()),
    }


@contextlib.contextmanager
def applied(variant: Variant) -> Iterator[None]:
    """Apply a variant to the package and to JAX."""
    options = {name: jax.config.values[name] for name in variant.options or {}}
    with contextlib.ExitStack() as stack:
        if variant.patch is not None:
            module, name, changed = variant.patch
            package = importlib.import_module(module)
            before = getattr(package, name)
            stack.callback(setattr, package, name, before)
            setattr(package, name, changed(before))
        for name, value in (variant.options or {}).items():
            stack.callback(jax.config.update, name, options[name])
            jax.config.update(name, value)
        yield


def digest(step: train_step.CompiledStep) -> str:
    """Return a digest of all bits of the state after `REPEATED_STEPS` steps from the start."""
    (state, metrics), batch = step.start(), step.batch()
    for _ in range(REPEATED_STEPS):
        state, metrics = step.call(state, metrics, batch)
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(state)):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:16]
