"""Whether the bits of x̂, on which the codec relies, are the same in different situations, as one JSON object.

    python benchmarks/codec_bits.py                                  digests here, for each network and γ
    python benchmarks/codec_bits.py --situations --out=here.json     the same under other threads, devices, XLA_FLAGS, …
    python benchmarks/codec_bits.py --situations=plain --against=here.json      on another machine: what differs

Networks are small and have random weights that are the same everywhere, or come from a run. With --rows, the result
tells whether a row of x̂ is independent of the other rows, of its position, of the batch size (in another program) and
of `jax.export`.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from vdm import model as model_lib
from vdm import predictions
from vdm.codec import coding as codec_coding
from vdm.codec.chain import Predict
from vdm.config import Config, DataConfig, NetworkConfig, ScheduleConfig
from vdm.evaluation import coding
from vdm.model import Model, Variables

SMALL = {"channels": 16, "depth": 1, "dropout": 0.0}
NETWORKS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "digits": ((8, 8, 1), {"channels": 32, "depth": 4}),
    "fashion": ((28, 28, 1), {"channels": 32, "depth": 4}),
    "attention": ((8, 8, 3), SMALL | {"attention": "everywhere", "heads": 2}),
    "labels": ((8, 8, 1), SMALL | {"condition": ("label",)}),
    "energy": ((8, 8, 1), SMALL | {"prediction": "energy"}),
    "dit": ((16, 16, 3), {"name": "dit(patch=2)", "channels": 32, "depth": 2, "heads": 2}),
    "adm": ((16, 16, 1), {"name": "adm(multipliers=[1,2],attention_at=[8])", "channels": 16, "depth": 1}),
}
"""Shape of the images and config of each network."""

GAMMAS = (-7.0, 0.0, 4.0)
BATCH = 16
REPEATS = 3
ISAS = ("SSE4_2", "AVX", "AVX2")

SITUATIONS: dict[str, tuple[list[str], dict[str, str]]] = {
    "plain": ([], {}),
    "again": ([], {}),
    "no compilation cache": ([], {"JAX_ENABLE_COMPILATION_CACHE": "false"}),
    "one core": (["taskset", "-c", "0"], {}),
    "xla_cpu_multi_thread_eigen=false": ([], {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}),
    **{f"{num} threads": ([], {"NPROC": num}) for num in ("1", "7", "64")},
    "2 devices": ([], {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}),
    "2 devices, the second": ([], {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "DEVICE": "1"}),
    "8 devices, the last": (
        [],
        {
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_cpu_multi_thread_eigen=false",
            "DEVICE": "7",
        },
    ),
    "of a busy machine": (["nice", "-n", "19"], {"BUSY": "4"}),
    **{f"xla_cpu_max_isa={isa}": ([], {"XLA_FLAGS": f"--xla_cpu_max_isa={isa}"}) for isa in ISAS},
    "prefer_vector_width=128": ([], {"XLA_FLAGS": "--xla_cpu_prefer_vector_width=128"}),
    "prefer_vector_width=512": ([], {"XLA_FLAGS": "--xla_cpu_prefer_vector_width=512"}),
    "optimization_level=0": ([], {"XLA_FLAGS": "--xla_backend_optimization_level=0"}),
    "split_count=1": ([], {"XLA_FLAGS": "--xla_cpu_parallel_codegen_split_count=1"}),
}
"""Prefix of the command and environment variables of each situation; DEVICE and BUSY are our own, NPROC is XLA's."""


def made(name: str) -> tuple[Model, Variables]:
    """Build one of `NETWORKS`, with random weights that are the same everywhere."""
    shape, network = NETWORKS[name]
    entries = ("label int32",) if "condition" in network else None
    config = Config(
        data=DataConfig(shape=shape, levels=256, classes=10, entries=entries),
        schedule=ScheduleConfig(name="linear", gamma_min=-7.5, gamma_max=5.0),
        network=NetworkConfig(**network),
    )
    model, rng = model_lib.from_config(config), np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.eval_shape(lambda: jax.random.key(0)))

    def draw(path: Any, like: jax.ShapeDtypeStruct) -> jax.Array:
        center = 1.0 if path[-1] == jax.tree_util.DictKey("scale") else 0.0
        scale = 1 / max(np.prod(like.shape[:-1]), 1) ** 0.5
        return jnp.asarray(center + scale * rng.normal(size=like.shape), jnp.float32)

    return model, jax.tree_util.tree_map_with_path(draw, shapes)


def opened(path: str) -> tuple[Model, Variables]:
    """Open the model of a run."""
    from vdm.runs.open import open_run

    run = open_run(path)
    return run.model, run.variables


def inputs(model: Model) -> tuple[np.ndarray, np.ndarray | None]:
    """Return z and labels for a model."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=(BATCH, *model.shape)).astype(np.float32)
    return z, rng.integers(0, 10, BATCH).astype(np.int32) if model.condition else None


def predict_of(model: Model, variables: Variables, batch_size: int, device: Any = None) -> Predict:
    """Return the network's prediction, compiled as the codec compiles it."""
    return coding.chain_of(model, variables, model.num_steps or 2, batch_size, device=device).predict


def digests(model: Model, variables: Variables, device: Any) -> dict[str, str]:
    """Return a digest of x̂ for each γ, or "varies" if repeated computations differ."""
    (z, labels), predict = inputs(model), predict_of(model, variables, BATCH, device)
    found = {}
    for gamma in GAMMAS:
        several = {
            hashlib.sha256(np.asarray(predict(z, np.asarray(gamma, np.float32), labels)).tobytes()).hexdigest()[:12]
            for _ in range(REPEATS)
        }
        found[f"{gamma:g}"] = several.pop() if len(several) == 1 else "varies"
    return found


def independence(model: Model, variables: Variables) -> dict[str, bool]:
    """Tell whether the bits of a row of x̂ are independent of the other rows, of its position and so on."""
    z, labels = inputs(model)
    rng = np.random.default_rng(2)
    others = {
        "random": rng.normal(size=z.shape).astype(np.float32),
        "zeros": np.zeros_like(z),
        "extremes": np.where(rng.random(z.shape) < 0.5, -1e3, 1e3).astype(np.float32),
    }
    predict, of_smaller = predict_of(model, variables, BATCH), predict_of(model, variables, BATCH // 2)
    exported, few = _exported(model, variables), slice(0, BATCH // 2)
    same: dict[str, list[bool]] = {}

    def note(what: str, one: np.ndarray, other: Any) -> None:
        same.setdefault(what, []).append(np.array_equal(one, np.asarray(other)))

    for level in GAMMAS:
        gamma = np.asarray(level, np.float32)
        x = np.asarray(predict(z, gamma, labels))
        for name, other in others.items():
            note(f"other rows {name}", x[:3], predict(np.concatenate([z[:3], other[3:]]), gamma, labels)[:3])
        turned = predict(np.roll(z, 5, 0), gamma, None if labels is None else np.roll(labels, 5))
        note("place", np.roll(x, 5, 0), turned)
        note("batch shape", x[few], of_smaller(z[few], gamma, None if labels is None else labels[few]))
        note("jax.export", x, exported(variables, z, gamma, labels))
    return {name: all(found) for name, found in same.items()}


def _exported(model: Model, variables: Variables) -> Any:
    """Return x̂ from a program that went through the bytes of `jax.export`."""

    def x_hat(variables: Variables, z: jax.Array, gamma: jax.Array, labels: jax.Array | None) -> jax.Array:
        return predictions.both(model.denoiser(variables, None if labels is None else {"label": labels}))(z, gamma).x

    like = jax.ShapeDtypeStruct
    labels = like((BATCH,), jnp.int32) if model.condition else None
    shapes = jax.tree.map(lambda x: like(x.shape, x.dtype), variables)
    given = (shapes, like((BATCH, *model.shape), jnp.float32), like((), jnp.float32), labels)
    code = export.export(jax.jit(x_hat), platforms=["cpu"])(*given).serialize()
    return jax.jit(export.deserialize(code).call)


def platform(device: Any) -> str:
    """Return the line by which the codec's files describe a device's platform."""
    return ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(codec_coding.here(device)).items())


def here(names: list[str], run: str | None, rows: bool) -> dict[str, Any]:
    """Return the results of this process."""
    device = jax.devices()[int(os.environ.get("DEVICE", "0"))]
    result: dict[str, Any] = {"platform": platform(device), "x_hat": {}}
    for name in [*names, *([run] if run else [])]:
        of = opened(name) if name == run else made(name)
        result["x_hat"][name] = digests(*of, device)
        if rows:
            result.setdefault("independent_of", {})[name] = independence(*of)
    return result


def there(python: str, before: list[str], env: dict[str, str], arguments: list[str]) -> dict[str, Any]:
    """Return the results of a process in another situation, or the last line of its error."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(int(env.get("BUSY", "0")))]
    command = [*before, python, __file__, *arguments]
    try:
        done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def differing(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Return for how many γ x̂ differs, by network; "same" if for none."""
    if "error" in other:
        return str(other["error"])
    counts = {}
    for name, found in other["x_hat"].items():
        before = one["x_hat"].get(name, {})
        counts[name] = sum(before.get(gamma) != digest for gamma, digest in found.items())
    told = ", ".join(f"{name} {count}/{len(GAMMAS)}" for name, count in counts.items() if count)
    return f"differs: {told}" if told else "same"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="names, separated by commas (default: all)")
    parser.add_argument("--run", help="folder of a run, whose network is looked at too")
    parser.add_argument("--rows", action="store_true", help="what a row of x̂ is independent of, too")
    parser.add_argument(
        "--situations", nargs="?", const=";".join(SITUATIONS), help="separated by semicolons (without any: all)"
    )
    parser.add_argument("--pythons", default="", help="other interpreters, separated by commas, with another jax")
    parser.add_argument("--against", type=Path, help="what --out of another machine wrote, to compare with")
    parser.add_argument("--out", type=Path, help="where it is written (default: standard output alone)")
    options = parser.parse_args()
    names = [name for name in options.networks.split(",") if name]
    if unknown := sorted(set(names) - set(NETWORKS)):
        parser.error(f"--networks={unknown[0]}: must be of {', '.join(NETWORKS)}")
    wanted = options.situations.split(";") if options.situations else []
    if unknown := sorted(set(wanted) - set(SITUATIONS)):
        parser.error(f"--situations={unknown[0]}: must be of {'; '.join(SITUATIONS)}")
    if not wanted:
        result = here(names, options.run, options.rows)
    else:
        arguments = [f"--networks={options.networks}", *([f"--run={options.run}"] if options.run else [])]
        todo = {name: (sys.executable, *SITUATIONS[name]) for name in wanted}
        todo |= {python: (shutil.which(python) or python, [], {}) for python in options.pythons.split(",") if python}
        first = json.loads(options.against.read_text()) if options.against else None
        compared = {}
        for name, situation in todo.items():
            found = there(*situation, arguments)
            first = found if first is None else first
            compared[f"{name} ({found['platform']})" if "platform" in found else name] = differing(first, found)
            print(f"{name}: {differing(first, found)}", file=sys.stderr)
        result = (first or {}) | {"situations": compared}
    text = json.dumps(result, indent=2, ensure_ascii=False)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
