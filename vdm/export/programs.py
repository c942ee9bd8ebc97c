"""Export the moving average of a run as two programs, a sampler and the denoiser, that need JAX but not this package.

python -m vdm.export --run=runs/digits --out=digits_export
python -m vdm.export --run=runs/digits --out=digits_export --sampler='dpm_solver_pp(2)' --steps=25 --platforms=cuda

The folder contains weights.npz, sampler.bin, denoiser.bin, export.json (a description of these and how to call them)
and load.py, which draws with them the same images as vdm sample.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Float, Integer, UInt8, UInt32

from vdm import parallel
from vdm.config import SamplingConfig, to_dict
from vdm.errors import InputError
from vdm.evaluation.images import NO_COMPANIONS, ModelSampling, with_steps_of
from vdm.export import load as load_export
from vdm.files import check_writable, write_json
from vdm.guides import Companion
from vdm.keys import Stream, stream_key
from vdm.model import Condition, Model, Variables, at_precision
from vdm.programs.arguments import Parser
from vdm.programs.streams import make_console
from vdm.progress import progress_of
from vdm.runs.companions import open_companions
from vdm.runs.open import Run, open_run
from vdm.runs.records import read_config, versions, weights_digest
from vdm.settings import recorded

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
PARTS = ("network", "schedule", "likelihood")

Weights = dict[str, Any]
"""Arrays by flat names such as "network/conv_in/kernel"."""

CALLS: dict[str, dict[str, Any]] = {
    "sampler.bin": {
        "arguments": {
            "weights": "dict of the arrays in weights.npz",
            "seed": "uint32",
            "numbers": "int32 (batch,): numbers of the images to draw with this seed",
        },
        "returns": [
            "images: uint8 (batch, height, width, channels), values 0 … levels − 1",
            "bad_step: int32 (batch,), the first step after which an image was not finite, or −1",
        ],
    },
    "denoiser.bin": {
        "arguments": {
            "weights": "dict of the arrays in weights.npz",
            "z": "float32 (batch, height, width, channels): z = √sigmoid(−γ) x + √sigmoid(γ) ε",
            "gamma": "float32 (batch,): γ = −log SNR",
        },
        "returns": ["eps_hat: float32 (batch, height, width, channels)"],
    },
}


def calls(model: Model) -> dict[str, Any]:
    """Return `CALLS` with the condition as last argument if the model has one; the denoiser's includes "dropped"."""
    if not model.condition:
        return CALLS

    def described(likes: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, str]:
        shapes = {name: ", ".join(["batch", *map(str, like.shape)]) for name, like in likes.items()}
        return {name: f"{like.dtype} ({shapes[name]})" for name, like in likes.items()}

    condition = {"sampler.bin": described(model.condition), "denoiser.bin": described(model.conditions)}
    return {
        name: {**call, "arguments": {**call["arguments"], "condition": condition[name]}} for name, call in CALLS.items()
    }


def to_weights(variables: Variables) -> Weights:
    """Flatten the variables to arrays by flat names."""
    return flax.traverse_util.flatten_dict(variables, sep="/")


def to_variables(weights: Weights) -> Variables:
    """Invert `to_weights`; parts without variables are {}."""
    return {part: {} for part in PARTS} | flax.traverse_util.unflatten_dict(weights, sep="/")


def with_companions(variables: Variables, companions: Mapping[str, Companion]) -> Variables:
    """Return the model's variables together with those of the companions that guide it."""
    return variables | {name: dict(each.variables) for name, each in companions.items()}


def sampler(
    model: Model, settings: SamplingConfig, companions: Mapping[str, Companion] = NO_COMPANIONS
) -> Callable[..., tuple[Array, Array]]:
    """Return the sampler described in `CALLS`, a pure function; image k is the one that `ImageSampler` draws.

    It is guided according to the settings, by companions whose variables are among the weights: see `with_companions`.
    Raises `InputError` as `ModelSampling` does, and for guidance by something that is not a condition of the model.
    """
    of_model = ModelSampling(model, None, settings, companions)
    if of_model.guide.leads not in ("", *model.condition):
        raise InputError(
            f"config.sampling.guidance={settings.guidance!r}: exported samplers take the model's conditions alone, and "
            f"it has no {of_model.guide.leads}; must be none"
        )

    def sample(
        weights: Weights, seed: UInt32[Array, ""], numbers: Integer[Array, " batch"], condition: Condition = None
    ) -> tuple[UInt8[Array, "batch height width channels"], Integer[Array, " batch"]]:
        variables, key = to_variables(weights), stream_key(seed, Stream.SAMPLING)
        # Parts without variables are not among the weights.
        of_companions = {
            name: {part: {} for part in each.variables} | variables.pop(name)
            for name, each in of_model.companions.items()
        }
        leading = of_model.leading._replace(companions=of_companions)

        def one(number: Array, condition: Condition) -> tuple[Array, Array]:
            image, _, bad_step = of_model.images(
                variables, key, number, 1, condition=_with_axis(condition), leading=leading
            )
            return image[0].astype(jnp.uint8), bad_step[0]

        return jax.vmap(one)(numbers, condition)

    return sample


def denoiser(model: Model) -> Callable[..., Array]:
    """Return the denoiser described in `CALLS`, a pure function ε̂(z, γ), neither guided nor clipped."""

    def denoise(
        weights: Weights,
        z: Float[Array, "batch height width channels"],
        gamma: Float[Array, " batch"],
        condition: Condition = None,
    ) -> Float[Array, "batch height width channels"]:
        variables = to_variables(weights)

        def one(z: Array, gamma: Array, condition: Condition) -> Array:
            return model.denoise(variables, z[None], gamma, _with_axis(condition))[0]

        return jax.vmap(one)(z, gamma, condition)

    return denoise


def _with_axis(condition: Condition) -> Condition:
    """The condition of one image with a leading axis."""
    return jax.tree.map(lambda x: x[None], condition)


def programs(
    model: Model,
    settings: SamplingConfig,
    platforms: Sequence[str],
    batch_size: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    companions: Mapping[str, Companion] = NO_COMPANIONS,
) -> dict[str, export.Exported]:
    """Lower both programs for every platform, from shapes alone, and return them by the names of their files.

    They take batches of any size, unless `batch_size` fixes it. Raises `InputError` as `sampler` does.
    """
    batch = export.symbolic_shape("batch")[0] if batch_size is None else batch_size
    shapes = jax.eval_shape(model.init, jax.eval_shape(lambda: jax.random.key(0)))
    every = to_weights(with_companions(shapes, companions))
    weights = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in every.items()}
    seed, numbers = jax.ShapeDtypeStruct((), jnp.uint32), jax.ShapeDtypeStruct((batch,), jnp.int32)
    z, gamma = jax.ShapeDtypeStruct((batch, *model.shape), jnp.float32), jax.ShapeDtypeStruct((batch,), jnp.float32)

    def condition(likes: Mapping[str, jax.ShapeDtypeStruct]) -> list[dict[str, jax.ShapeDtypeStruct]]:
        shapes = {name: jax.ShapeDtypeStruct((batch, *like.shape), like.dtype) for name, like in likes.items()}
        return [shapes] if shapes else []

    arguments: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "sampler.bin": (
            sampler(model, settings, companions),
            (weights, seed, numbers, *condition(model.condition)),
        ),
        "denoiser.bin": (
            denoiser(at_precision(model, settings.precision, "sampling")),
            (weights, z, gamma, *condition(model.conditions)),
        ),
    }
    lowered = {}
    for name, (function, given) in arguments.items():
        lowered[name] = export.export(jax.jit(function), platforms=list(platforms))(*given)
        progress(len(lowered), len(arguments))
    return lowered


def write(
    out: Path,
    run: Run,
    platforms: Sequence[str],
    batch_size: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the moving average of a run and its programs to a new folder `out`, completely or not at all.

    Raises `InputError` if `out` exists, and as `sampler` does.
    """
    _check_new(out)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        settings, companions = run.config.sampling, open_companions(run, run.config.sampling.guidance)
        lowered = programs(run.model, settings, platforms, batch_size, progress, companions)
        every = to_weights(with_companions(run.variables, companions))
        arrays: dict[str, Any] = {name: np.asarray(leaf) for name, leaf in every.items()}
        np.savez(partial / "weights.npz", **arrays)
        for name, program in lowered.items():
            (partial / name).write_bytes(program.serialize())
        version = lowered["sampler.bin"].calling_convention_version
        write_json(partial / "export.json", _record(run, platforms, batch_size, version))
        shutil.copy(load_export.__file__, partial / "load.py")
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _record(run: Run, platforms: Sequence[str], batch_size: int | None, version: int) -> dict[str, Any]:
    model, values = run.model, to_dict(run.config)
    ends = (float(model.gamma(run.variables, jnp.float32(t))) for t in (0, 1))
    return {
        "image_shape": list(model.shape),
        "levels": model.levels,
        "gamma_0_and_1": list(ends),
        "schedule": values["schedule"],
        "network": values["network"],
        "model_steps": model.num_steps,
        "condition": {name: {"shape": one.shape, "dtype": str(one.dtype)} for name, one in model.condition.items()},
        **recorded(run.config.sampling),
        "checkpoint_step": run.step,
        "weights": weights_digest(run.variables),
        "platforms": list(platforms),
        "batch_size": batch_size,
        "calling_convention_version": version,
        "versions": versions(),
        "calls": calls(model),
    }


def _check_new(out: Path) -> None:
    if out.exists():
        raise InputError(f"--out={out}: is there already; must be a new folder")


def _platforms(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= set(PLATFORMS) or len(set(names)) < len(names):
        raise InputError(f"--platforms={text}: must be one or more of {','.join(PLATFORMS)}, each once")
    return names


def main(argv: Sequence[str] | None = None) -> None:
    """Write the folder; for bad input, print one line to stderr and exit with status 2."""
    parser = Parser("python -m vdm.export", __doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run, or vdm:NAME")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--checkpoint", default="latest", help="latest, best or a step (default: latest)")
    parser.add_argument("--platforms", default="cpu,cuda,tpu", help="platforms to run on (default: cpu,cuda,tpu)")
    parser.add_argument("--batch_size", type=int, help="fix the number of images per call (default: any)")
    parser.add_argument("--sampler", help="as in vdm sample (default: config.sampling.sampler)")
    parser.add_argument(
        "--steps", type=int, help="sampling steps (default: config.sampling.steps, if the model has as many)"
    )
    parser.add_argument("--grid", help="noise levels (default: config.sampling.grid)")
    parser.add_argument("--clip", help="how x̂ is clipped (default: config.sampling.clip)")
    parser.add_argument("--guidance", help="guidance towards the condition (default: config.sampling.guidance)")
    parser.add_argument("--decode", help="how z₀ becomes an image (default: config.sampling.decode)")
    parser.add_argument("--precision", help="precision of the network (default: config.sampling.precision)")
    given = parser.parse_args(argv)
    with parser.one_line():
        platforms = _platforms(given.platforms)
        if given.batch_size is not None and given.batch_size < 1:
            raise InputError(f"--batch_size={given.batch_size}: must be 1 or more")
        _check_new(given.out)
        check_writable(given.out, "--out")
        config = read_config(given.run)
        for name in ("sampler", "grid", "clip", "guidance", "decode", "precision", "steps"):
            if getattr(given, name) is not None:
                setattr(config.sampling, name, getattr(given, name))
        if given.steps is None:
            config.sampling = with_steps_of(config.sampling, config.objective.num_steps)
        run = open_run(given.run, given.checkpoint, config=config, mesh=parallel.make_mesh(1))
        with progress_of(make_console(), "exporting") as progress:
            write(given.out, run, platforms, given.batch_size, progress)
    print(given.out)
