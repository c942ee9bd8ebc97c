"""Speed of sampling, overhead of the loop over its network calls, and causes of recompilation, as one JSON object.

    python benchmarks/sampler.py --cases=digits --samplers='ancestral;heun;dpm_solver_pp(2)' --steps=50

`overhead` is the time of a compiled sampler over that of a scan of nothing but the same number of network calls, as the
median ratio of runs that alternate. Nothing is asserted; compare the figures of two versions on the same, otherwise
idle machine.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from train_step import CASES, chosen, machine

from vdm import model as model_lib
from vdm import parallel, parts, predictions, samplers
from vdm.config import Config
from vdm.evaluation.images import ImageSampler
from vdm.gaussian import Gamma
from vdm.keys import Stream, stream_key
from vdm.model import Model, Variables

SAMPLERS = "ancestral;ddim(0.5);heun;dpm_solver_pp(2);unipc;predictor_corrector"
COMPILED = "/jax/core/compile/backend_compile_duration"
TRACED = "/jax/core/compile/jaxpr_trace_duration"


def measure(config: Config, names: list[str], steps: int, batch_size: int, repeats: int) -> dict[str, Any]:
    """Return all figures of one case."""
    model, mesh = model_lib.from_config(config), parallel.make_mesh()
    batch_size = parallel.round_up(batch_size, mesh)
    variables = jax.jit(model.init, out_shardings=parallel.replicated(mesh))(stream_key(0, Stream.INIT))
    z = jax.device_put(np.zeros((batch_size, *model.shape), np.float32), parallel.batch_sharding(mesh))
    timed = partial(_timed, model, variables, z, repeats)
    result = {name: timed(parts.make("sampler", name), steps) for name in names}
    sampling = replace(config.sampling, num=batch_size, steps=steps, batch_size=batch_size)
    return {
        "batch_size": batch_size,
        "num_devices": mesh.size,
        "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["network"])),
        "steps": steps,
        "samplers": result,
        "image_sampler_images_per_second": _images_per_second(ImageSampler(model, mesh, sampling), variables, repeats),
        "compilations": compilations(model, variables, z, steps),
    }


def _sampling(model: Model, sharding: Any, shape: tuple[int, ...]) -> Callable[..., Array]:
    """Return a function from (variables, key, gammas, sampler) to z₀, with latents sharded over the devices."""

    def run(variables: Variables, key: PRNGKeyArray, gammas: Array, sampler: samplers.Sampler) -> Array:
        def denoise(z: Array, gamma: Gamma) -> predictions.Prediction:
            return model.denoiser(variables)(jax.lax.with_sharding_constraint(z, sharding), gamma)

        return samplers.sample(key, denoise, sampler, gammas, shape)

    return run


def _timed(
    model: Model, variables: Variables, z: Array, repeats: int, sampler: samplers.Sampler, steps: int
) -> dict[str, Any]:
    """Time one sampler against nothing but its network calls."""
    calls, sharding = steps * sampler.calls, z.sharding
    key = stream_key(0, Stream.SAMPLING)
    gammas = samplers.grid(partial(model.gamma, variables), steps)
    # The same noise levels as the sampler's, one for each call.
    levels = jnp.repeat(gammas[:-1], sampler.calls)

    def bare(variables: Variables, z: Array, levels: Array) -> Array:
        def body(z: Array, gamma: Array) -> tuple[Array, None]:
            return model.denoise(variables, jax.lax.with_sharding_constraint(z, sharding), gamma), None

        return jax.lax.scan(body, z, levels)[0]

    run = partial(_sampling(model, sharding, z.shape), sampler=sampler)
    start = time.perf_counter()
    loop = jax.jit(run).lower(variables, key, gammas).compile()
    compile_seconds = time.perf_counter() - start
    chain = jax.jit(bare).lower(variables, z, levels).compile()
    pairs = []
    for _ in range(repeats + 1):
        pairs.append((_seconds(loop, variables, key, gammas), _seconds(chain, variables, z, levels)))
    seconds = statistics.median(own for own, _ in pairs[1:])
    ratios = [own / alone for own, alone in pairs[1:]]
    return {
        "calls": calls,
        "seconds": seconds,
        "images_per_second": len(z) / seconds,
        "seconds_a_call": seconds / calls,
        "trace_and_compile_seconds": compile_seconds,
        "overhead": statistics.median(ratios),
        "overhead_range": [min(ratios), max(ratios)],
    }


def _seconds(program: Callable[..., Any], *arguments: Any) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    return time.perf_counter() - begin


def _images_per_second(sampler: ImageSampler, variables: Variables, repeats: int) -> float:
    """Return the speed of the whole path of sample.py, from variables to integer images on the host, once compiled."""
    times = []
    for seed in range(repeats + 1):
        begin = time.perf_counter()
        sampler(variables, stream_key(seed, Stream.SAMPLING), sampler.batch_size)
        times.append(time.perf_counter() - begin)
    return sampler.batch_size / statistics.median(times[1:])


def compilations(model: Model, variables: Variables, z: Array, steps: int) -> dict[str, dict[str, int]]:
    """Count programs traced and compiled when an argument of a jitted DDIM takes two more values: steps, η or seed.

    η, the seed and the grid itself are traced; the number of steps is a shape.
    """
    sample = _sampling(model, z.sharding, z.shape)

    @jax.jit
    def run(variables: Variables, key: PRNGKeyArray, gammas: Array, eta: Array) -> Array:
        return sample(variables, key, gammas, samplers.ddim(eta))

    def arguments(eta: float = 0.5, seed: int = 0, num_steps: int = steps) -> tuple[Any, ...]:
        gammas = samplers.grid(partial(model.gamma, variables), num_steps)
        return variables, stream_key(seed, Stream.SAMPLING), gammas, jnp.float32(eta)

    varied = {
        "first": [arguments()],
        "eta": [arguments(eta=0.0), arguments(eta=1.0)],
        "seed": [arguments(seed=1), arguments(seed=2)],
        "steps": [arguments(num_steps=steps + 1), arguments(num_steps=steps + 2)],
    }
    counts = {"traced": 0, "compiled": 0}

    def listen(event: str, duration_secs: float, **rest: str | int) -> None:
        counts["traced"] += event == TRACED and rest.get("fun_name") == "run"
        counts["compiled"] += event == COMPILED

    jax.monitoring.register_event_duration_secs_listener(listen)
    found = {}
    for name, several in varied.items():
        before = dict(counts)
        for each in several:
            jax.block_until_ready(run(*each))
        found[name] = {kind: counts[kind] - before[kind] for kind in counts}
    jax.monitoring.clear_event_listeners()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="digits", help=f"any of {','.join(CASES)} (default: digits)")
    parser.add_argument("--samplers", default=SAMPLERS, help=f"separated by semicolons (default: {SAMPLERS})")
    parser.add_argument("--devices", type=int, default=0, help="CPU devices (default: one a core)")
    parser.add_argument("--steps", type=int, default=50, help="steps of the sampler (default: 50)")
    parser.add_argument("--batch_size", type=int, default=64, help="images at a time (default: 64)")
    parser.add_argument("--repeats", type=int, default=10, help="timed runs of each (default: 10)")
    parser.add_argument("--channels", type=int, default=0, help="of the network (default: the case's)")
    parser.add_argument("--depth", type=int, default=0, help="of the network (default: the case's)")
    options = parser.parse_args()
    configs, names = chosen(parser, options), options.samplers.split(";")
    try:
        for name in names:
            parts.check("sampler", name)
    except ValueError as error:
        parser.error(f"--samplers: {error}")
    if min(options.steps, options.batch_size, options.repeats) < 1:
        parser.error("--steps, --batch_size, --repeats: must be 1 or more")
    if min(options.devices, options.channels, options.depth) < 0:
        parser.error("--devices, --channels, --depth: must be 0 or more")

    parallel.setup(options.devices)
    result: dict[str, Any] = {"machine": machine(), "cases": {}}
    for case, config in configs.items():
        print(f"{case} …", file=sys.stderr)
        measured = measure(config, names, options.steps, options.batch_size, options.repeats)
        result["cases"][case] = measured
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
