"""Import a checkpoint of google-research/vdm as a run, for vdm evaluate, vdm sample and vdm export.

vdm official checkpoints-0/ckpt-1.flax --workdir=runs/official
vdm evaluate --workdir=runs/official

The checkpoint is a file in Flax's msgpack format, or a folder of files ckpt-N.flax, of which the last one is used. For
the differences between the two models, and how they are bridged, see docs/howto/official_checkpoints.md.
"""

if __name__ == "__main__":
    # Runs before the slow imports below, and imports this module a second time.
    from vdm.programs.main import run

    run("official")

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vdm import model as model_lib
from vdm import parallel, parts, schedules
from vdm.config import (
    Config,
    DataConfig,
    NetworkConfig,
    SamplingConfig,
    ScheduleConfig,
    validate,
)
from vdm.errors import InputError
from vdm.keys import Stream, stream_key
from vdm.model import Variables
from vdm.programs.arguments import Parser
from vdm.reading import is_whole, shown
from vdm.runs.checkpoints import Checkpoints
from vdm.runs.folder import RunDir
from vdm.settings import MAX_INT
from vdm.training import objective
from vdm.training.state import TrainState, make_optimizer
from vdm.training.step import empty_metrics

GROUPS = 32
"""Groups of every group normalization: Flax's default, for any number of channels."""

LEVELS = 256

DEEPEST = 4
"""Maximum nesting depth of modules."""

SMALLEST = 1e-37
"""Used in place of 0 where a logarithm is taken."""

# Names of modules in google-research/vdm and here; those of blocks and attentions include a number.
MODULES = {
    r"dense0": "embed_0", r"dense1": "embed_1", r"conv_in": "conv_in", r"GroupNorm_0": "norm_out",
    r"conv_out": "conv_out", r"(down|up)\.block_(\d+)": r"\1_\2", r"(down|up)\.attn_(\d+)": r"\1_\2_attention",
    r"mid\.block_1": "middle_0", r"mid\.block_2": "middle_1", r"mid\.attn_1": "middle_attention",
}  # fmt: skip
BLOCK = {
    "GroupNorm_0": "norm_0", "conv1": "conv_0", "cond_proj": "condition", "GroupNorm_1": "norm_1", "conv2": "conv_1",
    "nin_shortcut": "shortcut",
}  # fmt: skip
ATTENTION = {"GroupNorm_0": "norm", "q": "query", "k": "key", "v": "value", "proj_out": "out"}

Tree = dict[str, Any]


class Official(NamedTuple):
    """The parts of a checkpoint that are imported; the state of its optimizer is not."""

    step: int
    params: Tree
    ema_params: Tree


def read(path: Path) -> Official:
    """Read the train state in a file, or in the last ckpt-N.flax of a folder. Raises `InputError` if there is none."""
    if path.is_dir():
        numbered = {int(file.stem[5:]): file for file in path.glob("ckpt-*.flax") if is_whole(file.stem[5:])}
        if not numbered:
            raise InputError(f"{path}: has no files ckpt-N.flax; must be their folder, or a checkpoint of Flax")
        path = numbered[max(numbered)]
    encoded = path.read_bytes()
    try:
        tree = flax.serialization.msgpack_restore(encoded)
    except Exception as error:  # for invalid bytes, msgpack and Flax's hooks raise many kinds of errors
        raise InputError(f"{path}: not a checkpoint of Flax's msgpack format, or cut short") from error
    if not isinstance(tree, dict):
        raise InputError(f"{path}: has {_kind(tree)}; must have {', '.join(Official._fields)}")
    if not set(Official._fields) <= set(tree):
        raise InputError(f"{path}: has {_names(tree)}; must have {', '.join(Official._fields)}")
    step = tree["step"]
    if np.size(step) == 1 and isinstance(step, np.ndarray | np.generic):
        step = step.item()
    if type(step) is not int or not 0 <= step <= MAX_INT:
        raise InputError(f"{path}: step={shown(tree['step'])}: must be a whole number from 0 to {MAX_INT}")
    return Official(step, *(_params(tree[name], f"{path}: {name}") for name in ("params", "ema_params")))


def _params(tree: Any, where: str) -> Tree:
    """Return the arrays of `score_model` and `gamma` as float32. Raises `InputError` unless all are finite arrays."""
    if not isinstance(tree, dict) or "score_model" not in tree:
        has = _names(tree) if isinstance(tree, dict) else _kind(tree)
        raise InputError(f"{where} has {has}; must have score_model, and gamma if learned")
    parts = {name: tree[name] for name in ("score_model", "gamma") if name in tree}
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise InputError(f"{where}/{name}: found {_kind(part)}; must be a table of arrays")
    return {name: _float32(part, f"{where}/{name}", DEEPEST) for name, part in parts.items()}


def _kind(value: Any) -> str:
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"type {type(value).__name__}"


def _float32(tree: Any, where: str, levels: int) -> Any:
    if isinstance(tree, dict) and levels:
        return {str(name): _float32(part, f"{where}/{shown(name)[1:-1]}", levels - 1) for name, part in tree.items()}
    if not isinstance(tree, np.ndarray) or tree.dtype.kind not in "fiuV":  # V: bfloat16
        raise InputError(f"{where}: found {_kind(tree)}; must be an array of numbers")
    try:
        with np.errstate(over="ignore"):
            array = tree.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: found {_kind(tree)}; must be an array of numbers") from error
    if not np.isfinite(array).all():
        raise InputError(f"{where}: has values that are NaN or infinite")
    return array


def _names(tree: Tree) -> str:
    return ", ".join(shown(name).strip("'") for name in sorted(tree, key=str)[:8]) or "nothing"


def config_of(
    params: Tree, gamma_min: float = -13.3, gamma_max: float = 5.0, data: str = "cifar10", size: int = 32
) -> Config:
    """Return the config of the model with these parameters, as far as their shapes determine it.

    `gamma_min` and `gamma_max` are those of the checkpoint's own config: the network's embedding of γ has them as
    constants. `data` is the data set that it was trained on, with images of `size` × `size`. Raises `InputError` for
    another architecture.
    """
    network, gamma = params["score_model"], params.get("gamma", {})
    try:
        *_, inputs, channels = network["conv_in"]["kernel"].shape
        colours = network["conv_out"]["bias"].size
        depth = sum(name.startswith("down.block_") for name in network)
        # Their Fourier features, 2⁶ · 2π and 2⁷ · 2π, are the default here for 256 levels; or there are none.
        fourier = {5 * colours: None, colours: ()}[inputs]
        name = {(): "linear", ("b", "w"): "learned_linear", ("l1", "l2", "l3"): "learned_monotone"}[
            tuple(sorted(gamma))
        ]
        if name == "learned_monotone":
            name = parts.canonical("schedule", f"{name}(hidden={gamma['l2']['bias'].size})")
    except (KeyError, AttributeError, ValueError, IndexError, TypeError) as error:
        raise InputError(f"score_model or gamma is not of google-research/vdm: {shown(error)}") from error
    return Config(
        data=DataConfig(name=data, shape=(size, size, colours), levels=LEVELS),
        schedule=ScheduleConfig(name=name, gamma_min=gamma_min, gamma_max=gamma_max),
        network=NetworkConfig(
            channels=channels,
            depth=depth,
            attention="everywhere" if "down.attn_0" in network else "middle",
            groups=GROUPS,
            fourier=fourier,
        ),
        sampling=SamplingConfig(steps=1000),
    )


def network_variables(network: Tree) -> Tree:
    """Rename the arrays of their `score_model` to the names used here. Raises `InputError` for an unknown name."""
    ours: dict[tuple[str, ...], Any] = {}
    for path, leaf in flax.traverse_util.flatten_dict(network).items():
        module, *inner = path
        patterns = [pattern for pattern in MODULES if re.fullmatch(pattern, module)]
        parts = BLOCK if ".block_" in module else ATTENTION if ".attn_" in module else None
        if not patterns or len(inner) != (1 if parts is None else 2) or (parts and inner[0] not in parts):
            raise InputError(f"score_model/{'/'.join(path)}: no array of google-research/vdm has this name")
        renamed = [re.sub(patterns[0], MODULES[patterns[0]], module), *inner]
        if parts:
            renamed[1] = parts[inner[0]]
        ours[tuple(renamed)] = leaf
    return flax.traverse_util.unflatten_dict(ours)


def without_conditioning(network: Tree, channels: int) -> Tree:
    """Drop the embedding's last input row, for the conditioning, which is 0 for every image that is not augmented."""
    embed = network.get("embed_0", {})
    if np.ndim(embed.get("kernel")) != 2:
        raise InputError("another architecture: score_model/dense0/kernel must be a matrix")
    return network | {"embed_0": embed | {"kernel": embed["kernel"][:channels]}}


def schedule_variables(gamma: Tree, gamma_min: float, gamma_max: float) -> Tree:
    """Return the variables with which the learned schedule here has their curve γ(t); {} for a fixed schedule.

    `gamma_min` and `gamma_max` are those of the config. Raises `InputError` for a curve that the schedule here cannot
    represent: see `_ends` and `_shape`.
    """
    if not gamma:
        return {}
    _check_gamma(gamma)
    if "w" in gamma:
        start = float(gamma["b"].item())
        return {"ends": _ends(start, start + abs(float(gamma["w"].item())), gamma_min, gamma_max)}
    line, bias, slopes, biases, rises = (
        np.asarray(gamma[layer][kind], np.float64).ravel()
        for layer, kind in (("l1", "kernel"), ("l1", "bias"), ("l2", "kernel"), ("l2", "bias"), ("l3", "kernel"))
    )
    line, slopes, rises = np.abs(line), 2 * np.abs(slopes), 2 * np.abs(rises) / rises.size
    # |l1| t + b + Σ_k rises_k (sigmoid(slopes_k t + c_k) − ½), with c_k = l2's bias − slopes_k/2.
    centers = biases - slopes / 2
    start, end = (
        float(line[0] * t + bias[0] + np.sum(rises * (1 / (1 + np.exp(-(slopes * t + centers))) - 0.5)))
        for t in (0.0, 1.0)
    )
    shape = _shape(float(line[0]), slopes, centers, rises)
    return {"ends": _ends(start, end, gamma_min, gamma_max), "shape": shape}


def _check_gamma(gamma: Tree) -> None:
    """Raise `InputError` for arrays that are not those of their linear schedule or of their monotone network."""
    shapes = {"/".join(path): np.shape(leaf) for path, leaf in flax.traverse_util.flatten_dict(gamma).items()}
    hidden = shapes.get("l2/bias", (1,))
    line = {"b": (1,), "w": (1,)}
    monotone = {"l1/kernel": (1, 1), "l1/bias": (1,), "l2/kernel": (1, *hidden), "l2/bias": hidden}
    monotone |= {"l3/kernel": (*hidden, 1)}
    wanted = line if "w" in gamma else monotone
    if shapes != wanted:
        raise InputError(f"gamma has arrays {shown(shapes)}; must have {wanted}")


def _ends(start: float, end: float, gamma_min: float, gamma_max: float) -> Tree:
    """Return `schedules.end_points` with γ(0) = start and γ(1) = end, on either side of the config's midpoint."""
    middle = (gamma_min + gamma_max) / 2
    if not start < middle < end:
        raise InputError(
            f"γ runs from {start:g} to {end:g}: must be from below to above {middle:g}, the middle of "
            f"--gamma_min={gamma_min:g} and --gamma_max={gamma_max:g}"
        )
    return {"below": _inverse_softplus(middle - start), "above": _inverse_softplus(end - middle)}


def _shape(
    line: float,
    slopes: Float[np.ndarray, " hidden"],
    centers: Float[np.ndarray, " hidden"],
    rises: Float[np.ndarray, " hidden"],
) -> Tree:
    """Return `schedules.monotone_shape` of line · t + Σ_k rises_k sigmoid(slopes_k t + centers_k)."""
    total = line + rises.sum()
    share = line / total
    if not share >= schedules.FLOOR:
        raise InputError(
            f"the straight line has a share of {share:.3g} in the curve of gamma: learned_monotone keeps at least "
            f"{schedules.FLOOR}"
        )
    return {
        "slope": _inverse_softplus(slopes),
        "bias": np.float32(centers),
        "line": np.float32(np.log(max(share - schedules.FLOOR, SMALLEST))),
        "weight": np.float32(np.log(np.maximum(rises / total, SMALLEST))),
    }


def _inverse_softplus(value: Any) -> Any:
    value = np.maximum(value, SMALLEST)
    return np.float32(value + np.log(-np.expm1(-value)))


def variables(params: Tree, config: Config) -> Variables:
    """Return their variables, as the model of `config` has them. Raises `InputError` if a shape differs."""
    network = without_conditioning(network_variables(params["score_model"]), config.network.channels)
    ends = config.schedule.gamma_min, config.schedule.gamma_max
    ours = {"network": network, "schedule": schedule_variables(params.get("gamma", {}), *ends), "likelihood": {}}
    wanted = jax.eval_shape(model_lib.from_config(config).init, jax.eval_shape(lambda: jax.random.key(0)))
    shapes, wanted = (
        {jax.tree_util.keystr(path, simple=True, separator="/"): np.shape(leaf) for path, leaf in leaves}
        for leaves in map(jax.tree_util.tree_leaves_with_path, (ours, wanted))
    )
    for name in sorted(set(shapes) | set(wanted)):
        if shapes.get(name) != wanted.get(name):
            there, must = shapes.get(name, "none"), wanted.get(name, "none")
            raise InputError(f"another architecture: what becomes {name} has shape {there}, must have {must}")
    return jax.tree.map(jnp.asarray, ours)


def import_run(official: Official, config: Config, workdir: Path) -> None:
    """Write a run with one checkpoint to `workdir`: their step, parameters and moving average.

    The optimizer state is a fresh one. Raises `InputError` if there already is a run, and as `variables` does; then
    nothing is written.
    """
    if (workdir / "config.json").exists():
        raise InputError(f"--workdir={workdir}: has a run already; must be another folder")
    validate(config)
    parameters, ema = (variables(tree, config) for tree in (official.params, official.ema_params))
    state = TrainState(
        step=jnp.asarray(official.step, jnp.int32),
        variables=parameters,
        opt_state=make_optimizer(config).init(parameters),
        ema=ema,
        key=jax.random.key_data(stream_key(config.seed, Stream.TRAINING)),
        proposal=objective.from_config(config).proposal.init(),
    )
    run = RunDir(workdir, config, {})
    try:
        run.write_record(parallel.describe(parallel.make_mesh(1)))
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            checkpoints.save(state, empty_metrics(), {"next_index": official.step}, wait=True)
    finally:
        run.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Import the checkpoint; invalid input gives one line on stderr and exit status 2."""
    parser = Parser("python -m vdm.official", __doc__)
    parser.add_argument("checkpoint", type=Path, help="file, or folder of files ckpt-N.flax")
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the new run")
    parser.add_argument("--data", default="cifar10", help="data set that it was trained on (default: cifar10)")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images (default: 32)")
    parser.add_argument("--gamma_min", type=float, default=-13.3, help="gamma_min of its config (default: -13.3)")
    parser.add_argument("--gamma_max", type=float, default=5.0, help="gamma_max of its config (default: 5)")
    given = parser.parse_args(argv)
    with parser.one_line():
        official = read(given.checkpoint)
        config = config_of(official.ema_params, given.gamma_min, given.gamma_max, given.data, given.size)
        # The run counts as finished, so that training stops at once unless more steps are asked for.
        config.training.steps = max(official.step, 1)
        import_run(official, config, given.workdir)
    network = config.network
    print(
        f"{given.workdir}: step {official.step}, {network.channels} channels, {network.depth} blocks down, "
        f"attention {network.attention}, schedule {config.schedule.name}"
    )
