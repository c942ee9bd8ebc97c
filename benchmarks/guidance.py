"""The cost of guidance: sampling with both conditions in one network call or in two, as one JSON object.

    python benchmarks/guidance.py --cases=digits,rgb32 --steps=20

`over_unguided` is the time of guided sampling over that of the same model without guidance, and `over_two_calls` is
that over a scan of nothing but two network calls per step. Both are median ratios of runs that alternate. The faster
one of `together` and `apart` is what `sampling.guidance_batch=auto` should choose on this platform. Nothing is
asserted.
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
from jaxtyping import Array
from train_step import CASES, chosen, machine

from vdm import model as model_lib
from vdm import parallel, predictions
from vdm.config import Config
from vdm.evaluation.images import ModelSampling
from vdm.keys import Stream, stream_key
from vdm.model import DROPPED, Condition, Variables

GUIDANCE = "classifier_free(1.5)"
CLASSES = 10


def measure(config: Config, steps: int, batch_size: int, repeats: int) -> dict[str, Any]:
    """Return all figures of one case, with labels."""
    config = replace(
        config,
        network=replace(config.network, condition=("label",), condition_dropout=0.1),
        data=replace(config.data, entries=("label int32",), classes=CLASSES),
    )
    model, mesh = model_lib.from_config(config), parallel.make_mesh()
    batch_size = parallel.round_up(batch_size, mesh)
    variables = jax.jit(model.init, out_shardings=parallel.replicated(mesh))(stream_key(0, Stream.INIT))
    label = jax.device_put(np.arange(batch_size, dtype=np.int32) % CLASSES, parallel.batch_sharding(mesh))
    sampling = replace(config.sampling, num=batch_size, steps=steps, batch_size=batch_size)

    def sampler(guidance: str, how: str) -> Callable[..., Any]:
        of_model = ModelSampling(model, mesh, replace(sampling, guidance=guidance, guidance_batch=how))

        def run(variables: Variables, leading: Any, key: Array, condition: Condition) -> Any:
            return of_model.images(variables, key, jnp.int32(0), batch_size, (), condition, leading)

        key, condition = stream_key(0, Stream.SAMPLING), {"label": label}
        arguments = (variables, of_model.leading, key, condition)
        return partial(jax.jit(run).lower(*arguments).compile(), *arguments)

    unguided = ModelSampling(model, mesh, sampling)
    conditions = [{"label": label, DROPPED: jnp.full(batch_size, dropped)} for dropped in (False, True)]

    def two_calls(variables: Variables, z: Array, conditions: list[Condition]) -> Array:
        denoisers = [predictions.both(unguided.denoiser(variables, condition)) for condition in conditions]

        def body(z: Array, gamma: Array) -> tuple[Array, None]:
            one, other = (denoise(z, gamma) for denoise in denoisers)
            return one.eps + 0.1 * other.eps, None

        return jax.lax.scan(body, z, unguided.gammas(variables)[:-1])[0]

    z = jax.device_put(np.zeros((batch_size, *model.shape), np.float32), parallel.batch_sharding(mesh))
    arguments = (variables, z, conditions)
    programs: dict[str, Callable[[], Any]] = {
        "unguided": sampler("none", "apart"),
        "two_calls": partial(jax.jit(two_calls).lower(*arguments).compile(), *arguments),
        "together": sampler(GUIDANCE, "together"),
        "apart": sampler(GUIDANCE, "apart"),
    }
    rounds = [{name: _seconds(program) for name, program in programs.items()} for _ in range(repeats + 1)][1:]
    result: dict[str, Any] = {"batch_size": batch_size, "num_devices": mesh.size, "steps": steps}
    result["seconds"] = {name: statistics.median(each[name] for each in rounds) for name in programs}
    for name in ("together", "apart"):
        result[name] = {
            f"over_{other}": statistics.median(each[name] / each[other] for each in rounds)
            for other in ("unguided", "two_calls")
        }
    result["faster"] = min(("together", "apart"), key=lambda name: result[name]["over_unguided"])
    return result


def _seconds(program: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(program())
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="digits", help=f"any of {','.join(CASES)} (default: digits)")
    parser.add_argument("--devices", type=int, default=0, help="CPU devices (default: one a core)")
    parser.add_argument("--steps", type=int, default=20, help="steps of the sampler (default: 20)")
    parser.add_argument("--batch_size", type=int, default=64, help="images at a time (default: 64)")
    parser.add_argument("--repeats", type=int, default=10, help="timed runs of each (default: 10)")
    parser.add_argument("--channels", type=int, default=0, help="of the network (default: the case's)")
    parser.add_argument("--depth", type=int, default=0, help="of the network (default: the case's)")
    options = parser.parse_args()
    configs = chosen(parser, options)
    if min(options.steps, options.batch_size, options.repeats) < 1:
        parser.error("--steps, --batch_size, --repeats: must be 1 or more")
    if min(options.devices, options.channels, options.depth) < 0:
        parser.error("--devices, --channels, --depth: must be 0 or more")

    parallel.setup(options.devices)
    result: dict[str, Any] = {"machine": machine(), "cases": {}}
    for case, config in configs.items():
        print(f"{case} …", file=sys.stderr)
        result["cases"][case] = measure(config, options.steps, options.batch_size, options.repeats)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
