"""The configuration of a run: nested, typed dataclasses, one docstring line a field.

A file in `configs/` returns a `Config` from `get_config()`. The programs read it with
`--config=configs/digits.py` and change single fields with `--config.training.steps=100`.
"""

import dataclasses
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any

from vdm import predictions, proposals, samplers, weightings
from vdm.errors import InputError


@dataclass
class DataConfig:
    """Which images, and how they are read."""

    name: str = "digits"
    """`digits`, `photos32`, a TFDS name (`cifar10`), `npz:PATH` or `folder:PATH`."""
    data_dir: str = ""
    """Folder of prepared TFDS data; empty: TFDS's own default (`TFDS_DATA_DIR`, `~/tensorflow_datasets`)."""
    shape: tuple[int, ...] | None = None
    """(height, width, channels); None: read from the data. If given, the data must agree."""
    levels: int | None = None
    """Number of integer values a pixel can take; None: read from the data (256 for 8-bit images)."""
    classes: int | None = None
    """Number of labels, where the network is conditioned on them; None: read from the data."""
    entries: tuple[str, ...] | None = None
    """Type and shape of what it is conditioned on: `label int32`, `tokens int32 77`; None: read from the data."""
    augmentations: tuple[str, ...] = ()
    """Random augmentations of training images: any of `flip`, `rotate90`, `swap_channels`."""
    num_workers: int = 0
    """Worker processes that read and augment; 0: threads of this process."""


@dataclass
class ScheduleConfig:
    """The noise schedule γ(t) = −log SNR(t)."""

    name: str = "learned_monotone"
    """`linear`, `cosine`, `shifted_cosine`, `beta_linear`: fixed; `learned_linear`: ends; `learned_monotone`: all."""
    gamma_min: float = -13.3
    """γ(0): its value if fixed, its start if learned."""
    gamma_max: float = 5.0
    """γ(1): its value if fixed, its start if learned."""
    shift: float = 0.0
    """Added to γ of `shifted_cosine`: 2·log(side/64) for images of that side (more noise if positive)."""
    hidden: int = 1024
    """Hidden units of `learned_monotone`."""


@dataclass
class NetworkConfig:
    """The VDM denoising network (`vdm.networks.unet.UNet`)."""

    channels: int = 128
    """Channels of every block; also the size of the embedding of γ."""
    depth: int = 32
    """Residual blocks on the way down; the way up has one more."""
    attention: str = "middle"
    """`middle`: one attention block between down and up; `everywhere`: after each residual block too."""
    heads: int = 1
    """Attention heads; must divide `channels`."""
    groups: int | None = None
    """Groups of every normalisation; must divide `channels`. None: 32, or fewer so that each has four channels."""
    dropout: float = 0.1
    """Dropout rate inside residual blocks while training."""
    prediction: str = "eps"
    """What the network predicts: `x`, `eps`, `score`, `v`, `u`, `F` or `energy` (see `vdm.predictions`)."""
    condition: tuple[str, ...] = ()
    """Entries of a batch that the network is conditioned on, beside γ: `label`, or what else the data have."""
    fourier: tuple[int, ...] | None = None
    """Exponents n of the input features sin(2ⁿπz), cos(2ⁿπz); None: from the number of levels ((7, 8) for 256)."""
    dtype: str = "float32"
    """What training computes the blocks in: `float32` or `bfloat16`; parameters, losses, evaluation: float32 always."""
    remat: bool = False
    """Training keeps the blocks' inputs only and computes the rest anew: a third more work, far less memory."""


@dataclass
class ObjectiveConfig:
    """What is minimised."""

    weighting: str = "elbo"
    """w(λ) on the diffusion loss: `elbo` (the bound), `sigmoid(2)`, `edm_monotonic` or any of `vdm.weightings`."""
    loss_space: str = "eps"
    """Whose error is squared: `eps`, `x`, `v`, `score`, `u` or `F`; the same loss, with other rounding."""
    num_steps: int | None = None
    """T: the bound of a model of T steps; None: of continuous time, T → ∞."""
    proposal: str = "uniform"
    """Noise levels of a batch: `uniform` times, `adaptive`, `importance`, `log_normal(-1.2, 1.2)`, `logit_normal`."""
    stratified: bool = True
    """Noise levels of a batch: one shared uniform offset (True) or independent draws (False)."""


@dataclass
class OptimizerConfig:
    """AdamW for the network, Adam for the schedule, and the moving average of both."""

    learning_rate: float = 2e-4
    """Peak learning rate of the network."""
    schedule_learning_rate: float = 2e-4
    """Peak learning rate of a learned schedule's parameters."""
    b1: float = 0.9
    """Adam's decay of the mean."""
    b2: float = 0.99
    """Adam's decay of the second moment."""
    weight_decay: float = 0.01
    """Decoupled weight decay, on the network's kernels only (no biases, no norm scales, no schedule)."""
    warmup_steps: int = 100
    """Steps of linear warm-up from 0."""
    decay: str = "constant"
    """Learning rate after warm-up: `constant`, or `cosine` to 0 at the last step."""
    clip_norm: float = 1.0
    """Gradients of the network are scaled down to this global norm; 0: never."""
    ema_decay: float = 0.9999
    """Decay of the moving average of all variables, warmed up as min(decay, (1+n)/(10+n))."""


@dataclass
class TrainingConfig:
    """Length and rhythm of a run."""

    steps: int = 10_000_000
    """Optimiser steps in all."""
    batch_size: int = 128
    """Images a step, over all devices and hosts."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after another, for its one update; must divide `batch_size`."""
    log_every: int = 100
    """Steps between log lines."""
    evaluate_every: int = 10_000
    """Steps between evaluations of the test split (0: only at the end)."""
    checkpoint_every: int = 5_000
    """Steps between checkpoints (0: only at the end)."""
    sample_every: int = 10_000
    """Steps between sample grids (0: only at the end)."""
    keep_checkpoints: int = 3
    """Latest checkpoints kept, not counting those of a stop, beside the newest and the best one by bits/dim."""
    fsdp: int = 1
    """Devices that share one copy of the variables and the optimiser's state; must divide the devices."""


@dataclass
class EvaluationConfig:
    """How bits/dim of the test split is measured."""

    batch_size: int = 128
    """Images a network call, over all devices."""
    draws: int = 10
    """Noise draws an image in the final evaluation and in evaluate.py."""
    training_draws: int = 1
    """Noise draws an image in the evaluations during training."""
    max_images: int = 0
    """Evaluations during training and the variance report use the first so many test images; 0: all."""


@dataclass
class SamplingConfig:
    """How images are drawn."""

    num: int = 64
    """Images drawn."""
    steps: int = 250
    """Steps of the sampler; a model of T steps (objective.num_steps) takes at most T on grids of its own steps."""
    batch_size: int = 64
    """Images sampled at a time."""
    sampler: str = "ancestral"
    """`ancestral`, `ddpm(large)`, `ddim(0.5)`, `heun`, `dpm_solver_pp(2)`, `unipc`, … (see `vdm.samplers`)."""
    grid: str = "schedule"
    """Noise levels: `schedule` (the model's own γ(t)), `quadratic` (γ(t²)), `uniform` (in γ), `karras` or `cosine`."""
    clip: str = "none"
    """What x̂ is kept in: `none`, `static` ([−1, 1]) or `dynamic` (its 99.5th percentile, scaled to [−1, 1])."""
    decode: str = "mode"
    """The image of z₀ under p(x|z₀): `mode`, `mean` (rounded to the nearest value) or `draw`."""
    zero_terminal_snr: bool = False
    """Start from pure noise, SNR 0, and not at the SNR of γ(1); for predictions x, v, u and F."""


@dataclass
class ComparisonConfig:
    """compare.py: discrete-time models against the continuous-time one; with --by, objectives or samplers."""

    trained: tuple[int, ...] = (5, 10, 25, 50, 100, 250)
    """T of the discrete-time models trained beside the continuous-time one; each is evaluated at its own T."""
    evaluated: tuple[int, ...] = (5, 10, 25, 50, 100, 250, 1000)
    """T at which the continuous-time model is evaluated, beside T = ∞."""
    draws: int = 250
    """Network calls an image for each bound; those with T up to this are exact sums over all T terms."""
    max_images: int = 0
    """Bounds are of the first so many test images; 0: all."""
    predictions: tuple[str, ...] = ("eps", "v", "x", "F")
    """--by=objective: what networks predict."""
    weightings: tuple[str, ...] = ("elbo", "sigmoid(2)", "edm_monotonic", "simple")
    """--by=objective: the weightings they are trained with."""
    proposals: tuple[str, ...] = ("uniform",)
    """--by=objective: the noise levels they are trained at."""
    seeds: int = 3
    """--by=objective: runs of each, with the seeds seed, seed + 1, …."""
    samples: int = 1000
    """--by=objective and sampler: images drawn from each, with the settings of `sampling`."""
    gradients: int = 64
    """--by=objective: training batches over which the gradient's noise is measured."""
    samplers: tuple[str, ...] = (
        "ancestral", "ddpm(large)", "ddim(0)", "heun", "dpm_solver_pp(2)", "dpm_solver_pp(3)", "dpm_solver_pp(2, True)",
        "unipc", "predictor_corrector", "heun@karras", "dpm_solver_pp(2)@uniform", "dpm_solver_pp(2)@karras",
    )  # fmt: skip
    """--by=sampler: samplers, each as SAMPLER or SAMPLER@GRID, where its grid is not that of `sampling`."""
    calls: tuple[int, ...] = (5, 10, 20, 50, 100)
    """--by=sampler: network calls an image that they are given; a sampler of two calls a step takes half the steps."""
    reference_calls: int = 1000
    """--by=sampler: calls of `ancestral` whose quality the others are to reach."""
    noises: tuple[str, ...] = ("ddim(0)", "ddim(0.2)", "ddim(0.5)", "ddim(1)", "ddpm(large)")
    """--by=sampler: samplers for a table of their own, by how much noise a step draws."""
    noise_steps: tuple[int, ...] = (10, 20, 50, 1000)
    """--by=sampler: the steps in that table."""


@dataclass
class Config:
    """Everything that defines a run."""

    seed: int = 0
    """Seed of initialisation, data order, times, noise and dropout."""
    data: DataConfig = field(default_factory=DataConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)


CHOICES = {
    "schedule.name": ("linear", "cosine", "shifted_cosine", "beta_linear", "learned_linear", "learned_monotone"),
    "network.prediction": predictions.PREDICTIONS,
    "network.attention": ("middle", "everywhere"),
    "network.dtype": ("float32", "bfloat16"),
    "objective.loss_space": predictions.KINDS,
    "optimizer.decay": ("constant", "cosine"),
    "sampling.grid": samplers.grids.GRIDS,
    "sampling.clip": ("none", "static", "dynamic"),
    "sampling.decode": ("mode", "mean", "draw"),
}
# Beyond it float32 times i/T could no longer be told apart well.
MAX_STEPS = 1_000_000
AUGMENTATIONS = ("flip", "rotate90", "swap_channels")


def validate(config: Config) -> None:
    """Raises `InputError` for the first field whose value no run could use."""
    _check_names(config)
    _check_numbers(config)
    _check_objective(config)
    _check_sampling(config)


def _check_names(config: Config) -> None:
    flat = flatten(config)
    for name, allowed in CHOICES.items():
        if flat[name] not in allowed:
            raise InputError(f"config.{name}={flat[name]!r}: not one of {', '.join(allowed)}")
    for augmentation in config.data.augmentations:
        if augmentation not in AUGMENTATIONS:
            raise InputError(f"config.data.augmentations has {augmentation!r}: not one of {', '.join(AUGMENTATIONS)}")


def _check_objective(config: Config) -> None:
    objective, schedule = config.objective, config.schedule
    try:
        weightings.parse(objective.weighting)
        proposals.check(objective.proposal, schedule.gamma_min, schedule.gamma_max, objective.num_steps)
    except ValueError as error:
        raise InputError(f"config.objective.{error}") from error
    if objective.proposal != "uniform" and schedule.name == "learned_monotone" and objective.num_steps is None:
        raise InputError(
            f"config.objective.proposal={objective.proposal!r}: schedule.name='learned_monotone' learns itself where "
            "the noise levels go; must be uniform, or the schedule another one, such as learned_linear"
        )


def _check_sampling(config: Config) -> None:
    for name, texts in (("samplers", config.comparison.samplers), ("noises", config.comparison.noises)):
        for text in texts:
            try:
                samplers.parse_on_grid(text)
            except ValueError as error:
                raise InputError(f"config.comparison.{name}: {error}") from error
    sampling, prediction = config.sampling, config.network.prediction
    try:
        samplers.parse(sampling.sampler)
    except ValueError as error:
        raise InputError(f"config.sampling.{error}") from error
    if sampling.zero_terminal_snr and prediction not in predictions.KNOW_X_OF_NOISE:
        raise InputError(
            f"config.sampling.zero_terminal_snr: network.prediction={prediction!r} does not tell x at SNR 0; must be "
            f"one of {', '.join(predictions.KNOW_X_OF_NOISE)}"
        )


def _check_numbers(config: Config) -> None:
    flat = flatten(config)

    def check(name: str, ok: bool, allowed: str) -> None:
        if not ok:
            raise InputError(f"config.{name}={flat[name]!r}: must be {allowed}")

    for name in (
        "network.channels", "network.depth", "network.heads", "schedule.hidden",
        "training.steps", "training.batch_size", "training.accumulate", "training.fsdp", "training.log_every",
        "training.keep_checkpoints",
        "evaluation.batch_size", "evaluation.draws", "evaluation.training_draws",
        "sampling.num", "sampling.steps", "sampling.batch_size", "comparison.draws", "comparison.seeds",
    ):  # fmt: skip
        check(name, flat[name] >= 1, "1 or more")
    for name in (
        "seed", "data.num_workers", "training.evaluate_every", "training.checkpoint_every",
        "training.sample_every", "evaluation.max_images", "comparison.max_images", "optimizer.warmup_steps",
        "optimizer.weight_decay", "optimizer.clip_norm",
    ):  # fmt: skip
        check(name, flat[name] >= 0, "0 or more")
    check("seed", flat["seed"] < 2**32, "below 2**32")
    for name in ("optimizer.learning_rate", "optimizer.schedule_learning_rate"):
        check(name, 0 < flat[name] < math.inf, "above 0 and finite")
    for name in ("schedule.gamma_min", "schedule.gamma_max", "schedule.shift"):
        check(name, abs(flat[name]) <= 30, "from -30 to 30")
    for name in ("network.dropout", "optimizer.b1", "optimizer.b2", "optimizer.ema_decay"):
        check(name, 0 <= flat[name] < 1, "in [0, 1)")
    gamma_min, gamma_max = config.schedule.gamma_min, config.schedule.gamma_max
    check("schedule.gamma_max", gamma_max > gamma_min, f"above gamma_min={gamma_min}")
    batch_size = config.training.batch_size
    check("training.accumulate", batch_size % flat["training.accumulate"] == 0, f"a divisor of batch_size={batch_size}")
    check("network.heads", config.network.channels % config.network.heads == 0, "a divisor of network.channels")
    groups = config.network.groups
    check("network.groups", groups is None or (groups >= 1 and config.network.channels % groups == 0),
          "a divisor of network.channels, or None")  # fmt: skip
    for name in ("comparison.samples", "comparison.gradients"):
        check(name, flat[name] >= 2, "2 or more")
    for name in ("comparison.trained", "comparison.evaluated", "comparison.calls", "comparison.noise_steps"):
        check(name, _are_steps(*flat[name]), f"increasing numbers from 1 to {MAX_STEPS}")
    check("comparison.reference_calls", _are_steps(config.comparison.reference_calls), f"from 1 to {MAX_STEPS}")
    check("objective.num_steps", _are_steps(config.objective.num_steps), f"from 1 to {MAX_STEPS}, or None")
    if config.data.shape is not None:
        check("data.shape", len(config.data.shape) == 3 and min(config.data.shape) >= 1,
              "(height, width, channels), each 1 or more")  # fmt: skip
    if config.data.levels is not None:
        check("data.levels", 2 <= config.data.levels <= 256, "from 2 to 256")


def _are_steps(*numbers: Any) -> bool:
    """Whether these are numbers of time steps, increasing; a None is fine."""
    given = [n for n in numbers if n is not None]
    return all(type(n) is int and 1 <= n <= MAX_STEPS for n in given) and given == sorted(set(given))


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """{"training.steps": 100, …}: every leaf field of a config by its dotted name."""
    flat = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            flat.update(flatten(value, f"{prefix}{f.name}."))
        else:
            flat[prefix + f.name] = value
    return flat


def to_dict(config: Config) -> dict[str, Any]:
    """The config as nested dicts of JSON values."""
    return dataclasses.asdict(config)


def from_dict(values: dict[str, Any]) -> Config:
    """The inverse of `to_dict`. Raises `InputError` for a field this version does not have."""
    return _build(Config, values, "config")


def _build(cls: type, values: dict[str, Any], where: str) -> Any:
    types_ = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(types_))
    if unknown:
        raise InputError(f"{where} has unknown field {unknown[0]!r}; valid: {', '.join(types_)}")
    return cls(**{k: _coerce(types_[k], v, f"{where}.{k}") for k, v in values.items()})


def _coerce(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(typing.cast(type, kind), value, where)
    # JSON has no tuples.
    value = tuple(value) if isinstance(value, list) else value
    allowed = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    plain = tuple(typing.get_origin(a) or a for a in allowed)
    if float in plain and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
        raise InputError(f"{where}={value!r}: must be of type {kind}")
    return value
