"""The configuration of a run: nested, typed dataclasses, one line per field.

A file in `configs/` returns a `Config` from `get_config()`. The programs read it with `--config=configs/digits.py`, and
change single fields with `--config.training.steps=100`.
"""

import dataclasses
import functools
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, runtime_checkable

from vdm import parts, precisions, predictions, proposals, settings
from vdm.errors import InputError
from vdm.settings import (
    InName,
    at_least,
    between,
    data_shape,
    each,
    fraction,
    lines,
    num_levels,
    one_of,
    part,
    parts_of,
    positive,
    setting,
    some_of,
    source,
    steps,
)

# Fields that decide what a checkpoint's arrays mean, and fields that are free to change. The others decide what is
# trained.
of_model = partial(setting, affects="model")
running = partial(setting, affects="running")


# With slots, a misspelled field in a config file is an error.
@dataclass(slots=True)
class DataConfig:
    """Which images to use, and how they are read."""

    # Free to change, because `vdm.runs` compares what the name stands for instead.
    name: str = running("digits", "The data; for files of your own, `npz:PATH` or `folder:PATH`.", source())
    data_dir: str = running(
        "", "Folder of prepared TFDS data; empty: TFDS's default (`TFDS_DATA_DIR`, or `~/tensorflow_datasets`)."
    )
    shape: tuple[int, ...] | None = of_model(
        None, "Shape of an image or vector, which the data must have; None: read from the data.", data_shape()
    )
    levels: int | None = of_model(
        None,
        "Number of integer values per pixel; 0: real numbers; None: read from the data (256 for 8-bit images).",
        num_levels(),
    )
    classes: int | None = of_model(
        None, "Number of labels, if the network is conditioned on them; None: read from the data.", at_least(1)
    )
    entries: tuple[str, ...] | None = of_model(
        None, "Entries the network is conditioned on, as `label int32` or `tokens int32 77`; None: read from the data."
    )
    text: str = of_model(
        "bytes", "Encoding of captions for the network, e.g. `bytes(length=64)`.", part("text", in_context=True)
    )
    vocabulary: int | None = of_model(
        None, "Number of different tokens, if captions are tokens; None: read from the data.", at_least(1)
    )
    labels: bool = running(True, "False: train without labels, even if the config conditions on them.")
    augmentations: tuple[str, ...] = setting(
        (), "Random augmentations of training images.", some_of("flip", "rotate90", "swap_channels")
    )
    num_workers: int = running(
        0, "Worker processes that read and augment images; 0: threads of this process.", between(0, 1024)
    )


@dataclass(slots=True)
class ScheduleConfig:
    """The noise schedule γ(t) = −log SNR(t)."""

    name: str = of_model(
        "learned_monotone",
        "Fixed, e.g. `shifted_cosine(shift=-2)`; learned ends (`learned_linear`), and shape too (`learned_monotone`).",
        part("schedule", in_context=True),
    )
    gamma_min: float = of_model(-13.3, "γ(0) of a fixed schedule; initial γ(0) of a learned one.", between(-30, 30))
    gamma_max: float = of_model(5.0, "γ(1) of a fixed schedule; initial γ(1) of a learned one.", between(-30, 30))


@dataclass(slots=True)
class NetworkConfig:
    """The denoising network. A network is given those of these fields that it has parameters for."""

    name: str = of_model(
        "unet",
        "`unet`: VDM's, at full resolution; `adm`: a downsampling U-Net; `dit`: a transformer; or one of your own.",
        part("network", in_context=True),
    )
    channels: int = of_model(128, "Channels of every block, and size of the embedding of γ.", between(1, 2**16))
    depth: int = of_model(
        32, "Blocks: of `unet` on the way down, of `adm` the same per resolution, of `dit` in total.", between(1, 1000)
    )
    attention: str = of_model(
        "middle", "`middle`: one attention block between down and up; `everywhere`: also after each residual block."
    )
    heads: int = of_model(1, "Attention heads; must divide `channels`.", at_least(1))
    groups: int | None = of_model(
        None, "Groups of each group normalization; None: 32, or fewer so that each has four channels.", at_least(1)
    )
    dropout: float = setting(
        0.1, "Dropout rate inside residual blocks in training; `unet` rounds it to a multiple of 1/256.", fraction()
    )
    prediction: str = of_model(
        "eps", "What the network predicts: see `vdm.predictions`.", one_of(*predictions.PREDICTIONS)
    )
    condition: tuple[str, ...] = of_model(
        (), "Entries of a batch that the network is conditioned on, besides γ: `label`, or others that the data have."
    )
    condition_dropout: float = of_model(
        0.1,
        "Share of training images whose condition is dropped; above 0, the network also learns to work without it.",
        fraction(),
    )
    fourier: tuple[int, ...] | None = of_model(
        None,
        "Exponents n of the input features sin(2ⁿπz), cos(2ⁿπz); None: set by the levels, (7, 8) for 256.",
        each(-20, 20),
    )
    remat: bool = running(False, "Recompute the blocks in the backward pass: a third more work, far less memory.")


@dataclass(slots=True)
class ObjectiveConfig:
    """The training objective."""

    weighting: str = setting(
        "elbo", "Weighting w(λ) of the diffusion loss: `elbo` (the bound), `sigmoid(2)`, ….", part("weighting")
    )
    loss_space: str = setting(
        "eps", "Prediction whose error is squared: the same loss up to rounding.", one_of(*predictions.KINDS)
    )
    num_steps: int | None = setting(
        None, "T of a discrete-time model and its bound; None: continuous time, T → ∞.", steps()
    )
    proposal: str = of_model(
        "uniform", "Distribution of noise levels: `uniform`, `adaptive`, `log_normal(-1.2, 1.2)`, ….", part("proposal")
    )
    stratified: bool = setting(
        True, "Spread a batch's noise levels evenly, with one random offset, instead of drawing them independently."
    )


@dataclass(slots=True)
class OptimizerConfig:
    """The network's optimizer, Adam for the schedule, and the moving average of both."""

    name: str = setting(
        "adamw",
        "The network's optimizer: `adamw`, or `muon`, which orthogonalizes the updates of kernels.",
        part("optimizer", in_context=True),
    )
    learning_rate: float = setting(2e-4, "Peak learning rate of the network.", positive())
    schedule_learning_rate: float = setting(2e-4, "Peak learning rate of a learned schedule's parameters.", positive())
    b1: float = setting(0.9, "Adam's decay rate of the first moment.", fraction())
    b2: float = setting(0.99, "Adam's decay rate of the second moment.", fraction())
    weight_decay: float = setting(0.01, "Decoupled weight decay, on the network's kernels only.", at_least(0))
    warmup_steps: int = setting(100, "Steps of linear learning-rate warm-up from 0.", at_least(0))
    decay: str = setting(
        "constant", "Learning rate after warm-up; `cosine` decays to 0 at the last step.", one_of("constant", "cosine")
    )
    clip_norm: float = setting(
        1.0, "Global norm to which the network's gradients are clipped; 0: no clipping.", at_least(0)
    )
    ema_decay: float = setting(
        0.9999, "Decay of the moving average of all variables, warmed up as min(decay, (1+n)/(10+n)).", fraction()
    )


@dataclass(slots=True)
class TrainingConfig:
    """Length and schedule of a training run."""

    steps: int = setting(10_000_000, "Total number of optimizer steps.", at_least(1))
    batch_size: int = setting(128, "Images per step, over all devices and hosts.", at_least(1))
    accumulate: int = running(
        1, "Gradient accumulation: parts in which a batch is computed; must divide `batch_size`.", at_least(1)
    )
    precision: str = setting(
        "tf32",
        "Precision of the network; `tf32`: TensorFloat-32 products where the device has them, else float32.",
        one_of(*precisions.PRECISIONS),
    )
    steps_per_call: int = running(
        1,
        "Training steps per compiled call, where no log, evaluation or checkpoint is due in between.",
        between(1, 1000),
    )
    deterministic: bool = running(
        False, "On a GPU, use only deterministic kernels, none chosen by timing: slower, but bitwise reproducible."
    )
    log_every: int = running(100, "Steps between log lines.", at_least(1))
    evaluate_every: int = running(10_000, "Steps between evaluations of the test split; 0: at the end.", at_least(0))
    checkpoint_every: int = running(5_000, "Steps between checkpoints; 0: at the end.", at_least(0))
    sample_every: int = running(10_000, "Steps between sample grids; 0: at the end.", at_least(0))
    keep_checkpoints: int = running(
        3, "Latest checkpoints kept, beside the newest, the best by bits/dim and those of a stop.", at_least(1)
    )
    loggers: tuple[str, ...] = running(
        ("tensorboard",),
        "Where metrics and images go besides metrics.jsonl, e.g. `wandb(project='mine')`; see `vdm.runs.trackers`.",
        parts_of("tracker"),
    )
    fsdp: int = running(
        1,
        "Devices that share one copy of variables and optimizer state; must divide the number of devices.",
        at_least(1),
    )


@dataclass(slots=True)
class EvaluationConfig:
    """How bits/dim of the test split is estimated."""

    batch_size: int = running(128, "Images per network call, over all devices.", at_least(1))
    draws: int = running(10, "Noise draws per image in the final evaluation and in vdm evaluate.", at_least(1))
    training_draws: int = running(1, "Noise draws per image in evaluations during training.", at_least(1))
    max_images: int = running(
        0,
        "Test images, spread over the split, for evaluations during training and the variance report; 0: all.",
        at_least(0),
    )
    precision: str = running(
        "float32",
        "Precision of the network; the effect on bits/dim of any but float32 is measured and reported.",
        one_of(*precisions.PRECISIONS),
    )
    metrics: tuple[str, ...] = running(
        (), "Metrics of samples, computed with every evaluation during training.", parts_of("metric")
    )
    samples: int = running(1000, "Number of samples drawn for these metrics.", at_least(3))


@dataclass(slots=True)
class SamplingConfig:
    """How images are sampled. The settings that determine an image are in its file's name and in settings.json."""

    num: int = running(64, "Number of images.", at_least(1))
    steps: int = running(
        250,
        "Steps of the sampler; a T-step model takes at most T on grids made of its own steps.",
        steps(),
        in_name=InName("T_{}", always=True),
    )
    batch_size: int = running(64, "Images sampled at a time.", at_least(1))
    sampler: str = running(
        "ancestral",
        "The sampler, e.g. `ddim(0.5)` or `dpm_solver_pp(2)`: see `vdm.samplers`.",
        part("sampler"),
        in_name=InName(always=True),
    )
    grid: str = running(
        "schedule",
        "Noise levels; `schedule`: the model's own γ(t), `quadratic`: γ(t²), others: from γ(1) to γ(0).",
        part("grid"),
        in_name=InName(),
    )
    labels: str | None = running(
        None,
        "Labels of the images, in turn: `all`, a list such as `3,7,cat`, or `random`; or `test`: the conditions of "
        "test images. None: all, if the network is conditioned on labels alone.",
        in_name=InName("labels_{}"),
    )
    text: str | None = running(
        None,
        "Captions of the images, in turn, one per line; None: those of test images, if there are captions.",
        lines(),
        in_name=InName("text_{}", of=settings.digested),
    )
    clip: str = running(
        "none",
        "Clipping of x̂; `static`: to [−1, 1], `dynamic`: to its 99.5th percentile, rescaled to [−1, 1].",
        part("clipping"),
        in_name=InName("clip_{}"),
    )
    guidance: str = running(
        "none",
        "Guidance towards the condition, e.g. `classifier_free(1.5)` or `apg(2.0, norm=10)`: see `vdm.guides`.",
        part("guidance"),
        in_name=InName(),
    )
    guidance_batch: str = running(
        "auto",
        "Guidance by two conditions in one network call with twice the batch (`together`) or two calls (`apart`).",
        one_of("auto", "together", "apart"),
    )
    decode: str = running(
        "mode",
        "How z₀ is decoded under p(x|z₀): by its `mode`, its rounded `mean`, or a random `draw`.",
        part("decoding"),
        in_name=InName(),
    )
    zero_terminal_snr: bool = running(
        False, "Start at SNR 0 instead of that of γ(1); for predictions x, v, u and F.", in_name=InName("zero_snr")
    )
    precision: str = running(
        "tf32",
        "Precision of the network; `tf32`: TensorFloat-32 products where the device has them, else float32.",
        one_of(*precisions.PRECISIONS),
        in_name=InName(),
    )


@dataclass(slots=True)
class Config:
    """Everything that defines a run."""

    seed: int = setting(0, "Seed of initialization, data order, times, noise and dropout.", between(0, 2**32 - 1))
    imports: tuple[str, ...] = running((), "Modules that register your own parts; imported first.")
    data: DataConfig = field(default_factory=DataConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


@runtime_checkable
class RunConfig(Protocol):
    """The fields of a config that the training loop reads, for any kind of run; `Config` is one such config."""

    seed: int
    imports: tuple[str, ...]
    data: DataConfig
    optimizer: OptimizerConfig
    training: TrainingConfig
    evaluation: EvaluationConfig


@functools.singledispatch
def validate(config: Any) -> None:
    """Raise `InputError` for the first field with an invalid value; each class of config registers its own check."""
    raise TypeError(f"config is of type {type(config).__name__}: must be a Config")


@validate.register
def _validate_model(config: Config) -> None:
    """Import `config.imports`, and raise `InputError` for the first field with an invalid value."""
    check_training(config)
    # Single fields are valid; these checks are across fields.
    check_part(config, "schedule", **schedule_context(config))
    # Otherwise the network is checked once the data are known.
    read = config.data.entries is not None or not config.network.condition
    if config.data.shape is not None and config.data.levels is not None and read:
        check_part(config, "network", **network_context(config))
    _check_proposal(config)
    prediction = config.network.prediction
    if config.sampling.zero_terminal_snr and prediction not in predictions.KNOW_X_OF_NOISE:
        raise InputError(
            f"config.sampling.zero_terminal_snr: network.prediction={prediction!r} does not tell x at SNR 0; must be "
            f"one of {', '.join(predictions.KNOW_X_OF_NOISE)}"
        )


def check_training(config: RunConfig) -> None:
    """Check what all kinds of training share: single fields, modules of parts, and the optimizer."""
    import_parts(config)
    settings.check(config)
    shape, levels = config.data.shape, config.data.levels
    if shape is not None and len(shape) < 3 and levels:
        raise InputError(
            f"config.data.shape={shape}: must be (height, width, channels) of integers (config.data.levels={levels}); "
            "real numbers have 0 levels"
        )
    batch_size, accumulate = config.training.batch_size, config.training.accumulate
    if batch_size % accumulate:
        raise InputError(f"config.training.accumulate={accumulate}: must be a divisor of batch_size={batch_size}")
    check_part(config, "optimizer", rate=lambda step: 0.0, **optimizer_context(config))


def import_parts(config: RunConfig) -> None:
    """Import the modules of `config.imports`. Raises `InputError` for one that cannot be imported."""
    try:
        parts.import_modules(config.imports)
    except ValueError as error:
        raise InputError(f"config.imports={config.imports!r}: {error}") from error


def schedule_context(config: Any) -> dict[str, Any]:
    """Arguments that a schedule's constructor is given, if it has parameters of these names."""
    return {"gamma_min": config.schedule.gamma_min, "gamma_max": config.schedule.gamma_max}


def optimizer_context(config: RunConfig) -> dict[str, Any]:
    """Arguments that an optimizer's constructor is given, if it has parameters of these names.

    These are all fields of `config.optimizer`. Besides them it is given `rate`, step -> learning rate.
    """
    return dataclasses.asdict(config.optimizer)


def network_context(config: Config) -> dict[str, Any]:
    """Arguments that a network's constructor is given, if it has parameters of these names.

    These are all fields of `config.network`; `shape`, `levels`, `classes` and `vocabulary` of the data; the ends of γ;
    `residual`, whether the network adds z to its output; and `dtype` (float32: `Model.computed_in` changes it).
    """
    of_data = {name: getattr(config.data, name) for name in ("shape", "levels", "classes", "vocabulary")}
    residual = config.network.prediction in predictions.RESIDUAL
    rest = {"residual": residual, "dtype": precisions.FLOAT32}
    return dataclasses.asdict(config.network) | schedule_context(config) | of_data | rest


def check_part(config: Any, kind: str, group_name: str = "", **context: Any) -> None:
    """Make the part that a group of fields describes, and raise `InputError` naming the field that it refuses.

    The group has the name of the kind, unless `group_name` is given.
    """
    group_name = group_name or kind
    group = getattr(config, group_name)
    try:
        parts.check(kind, group.name, **context)
    except parts.PartError as error:
        argument = error.problem.partition("=")[0]
        if hasattr(group, argument) and argument not in parts.read(kind, group.name).arguments:
            raise InputError(f"config.{group_name}.{error.problem}") from error
        raise InputError(f"config.{group_name}.name={str(error).removeprefix(f'{kind}=')}") from error


def _check_proposal(config: Config) -> None:
    objective, schedule = config.objective, config.schedule
    proposal = parts.make("proposal", objective.proposal)
    try:
        proposals.check(proposal, schedule.gamma_min, schedule.gamma_max, objective.num_steps)
    except ValueError as error:
        raise InputError(f"config.objective.proposal={objective.proposal!r}: {error}") from error
    learns_itself = parts.read("schedule", schedule.name).name == "learned_monotone"
    if parts.read("proposal", objective.proposal).name != "uniform" and learns_itself and objective.num_steps is None:
        raise InputError(
            f"config.objective.proposal={objective.proposal!r}: schedule.name={schedule.name!r} itself learns where "
            "the noise levels go; must be uniform, or with another schedule, such as learned_linear"
        )


def to_dict(config: Any) -> dict[str, Any]:
    """Return the config as nested dicts of JSON values."""
    return dataclasses.asdict(config)


def from_dict(values: dict[str, Any], where: str = "config.", kind: type = Config) -> Any:
    """Return the config of such a dict, including dicts of earlier versions: the inverse of `to_dict`.

    `kind` is the dataclass of the config, and `where` is what messages put before a field's name. Raises `InputError`
    for an unknown field, and for a value of the wrong type.
    """
    return settings.from_dict(kind, _upgraded(values, where) if kind is Config else values, where)


def _upgraded(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Convert the dict of an earlier version to this one.

    Formerly a schedule's arguments were fields beside its name, training.precision was network.dtype, which had no
    value for TF32, and conditions were never dropped.
    """
    values = {name: value for name, value in values.items() if name != "comparison"}
    network, training = values.get("network"), values.get("training", {})
    if isinstance(network, dict) and "dtype" in network and isinstance(training, dict):
        values["network"] = {name: value for name, value in network.items() if name != "dtype"}
        dtype = network["dtype"]
        values["training"] = {"precision": "tf32" if dtype == "float32" else dtype} | training
    if isinstance(network, dict) and network.get("condition") and "condition_dropout" not in network:
        values["network"] = {**values["network"], "condition_dropout": 0.0}
    before = values.get("schedule")
    if isinstance(before, dict):
        schedule = values["schedule"] = dict(before)
        shift, hidden = schedule.pop("shift", 0.0), schedule.pop("hidden", 1024)
        argument = {"shifted_cosine": f"shift={shift}", "learned_monotone": f"hidden={hidden}"}
        name = schedule.get("name")
        if isinstance(name, str) and name in argument:
            try:
                schedule["name"] = parts.canonical("schedule", f"{name}({argument[name]})")
            except parts.PartError as error:
                raise InputError(f"{where}schedule: {error.problem}") from error
    return values
