"""The configuration of a run that trains a predecessor, and the model that it describes.

`PredecessorConfig` has the same groups as a diffusion model's config wherever the training loop reads them
(`vdm.config.RunConfig`).
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from vdm import parts, precisions
from vdm.config import (
    DataConfig,
    EvaluationConfig,
    OptimizerConfig,
    TrainingConfig,
    check_part,
    check_training,
    of_model,
    running,
    validate,
)
from vdm.errors import InputError
from vdm.settings import InName, at_least, between, fraction, one_of, part, setting


@dataclass(slots=True)
class ModelConfig:
    """The model. Of these fields, its constructor receives those that it has a parameter for."""

    name: str = of_model(
        "vae",
        "E.g. `vae(latents=2)`, `hvae(layers=3, inference='bottom_up')` or `ladder`; or one of your own.",
        part("predecessor", in_context=True),
    )
    width: int = of_model(128, "Features of a hidden layer, or channels of a convolution.", between(1, 2**16))
    depth: int = of_model(2, "Hidden layers, or residual blocks at each resolution.", between(1, 1000))
    coder: str = of_model(
        "mlp", "Encoder and decoder: `mlp` on flattened data, or `conv` for images.", one_of("mlp", "conv")
    )
    dropout: float = setting(0.0, "Dropout rate of hidden layers while training.", fraction())


@dataclass(slots=True)
class LatentObjectiveConfig:
    """The objective: the bound with weights on its rates. Logs always report the unweighted bound."""

    beta: float = setting(1.0, "Weight of the rates, β of a β-VAE.", at_least(0))
    warmup_steps: int = setting(0, "Steps over which that weight rises from 0.", at_least(0))
    free_bits: float = setting(0.0, "λ: nats per layer below which its rate is not penalized.", at_least(0))


@dataclass(slots=True)
class LatentSamplingConfig:
    """How samples are drawn. Settings that change an image are in its file's name and in settings.json beside it."""

    num: int = running(64, "Images drawn.", at_least(1))
    batch_size: int = running(64, "Images drawn at a time.", at_least(1))
    decode: str = running(
        "mode",
        "How p(x|z) becomes an image: by its `mode`, its rounded `mean` or a `draw`.",
        part("decoding"),
        in_name=InName(always=True),
    )
    precision: str = running(
        "tf32",
        "Precision of the network; `tf32`: TensorFloat-32 products where the device has them, else float32.",
        one_of(*precisions.PRECISIONS),
        in_name=InName(),
    )


def _optimizer() -> OptimizerConfig:
    return OptimizerConfig(learning_rate=1e-3, decay="cosine", ema_decay=0.999)


def _training() -> TrainingConfig:
    return TrainingConfig(
        steps=5000, batch_size=128, log_every=250, evaluate_every=1000, checkpoint_every=500, sample_every=1000
    )


@dataclass(slots=True)
class PredecessorConfig:
    """Everything that defines a run of a VAE, a hierarchical VAE or a ladder network."""

    task: str = of_model("predecessor", "What is trained.", one_of("predecessor"))
    seed: int = setting(0, "Seed of initialization, data order, noise and dropout.", between(0, 2**32 - 1))
    imports: tuple[str, ...] = running((), "Modules that register your own parts; imported first.")
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: LatentObjectiveConfig = field(default_factory=LatentObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=_optimizer)
    training: TrainingConfig = field(default_factory=_training)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    sampling: LatentSamplingConfig = field(default_factory=LatentSamplingConfig)


@validate.register
def _validate_predecessor(config: PredecessorConfig) -> None:
    check_training(config)
    if config.evaluation.metrics:
        raise InputError(
            f"config.evaluation.metrics={config.evaluation.metrics}: must be () for a predecessor; "
            "vdm evaluate --metrics measures its samples after training"
        )
    # Without the shape and levels of the data, the model is checked later, once the data are known.
    if config.data.shape is not None and config.data.levels is not None:
        check_part(config, "predecessor", "model", **model_context(config))


def model_context(config: PredecessorConfig) -> dict[str, Any]:
    """Return the arguments for a model's constructor, which receives those that it has a parameter for.

    They are the `shape`, `levels` and `classes` of the data, `dtype`, and all fields of `config.model`.
    """
    of_data = {"shape": config.data.shape, "levels": config.data.levels, "classes": config.data.classes}
    return dataclasses.asdict(config.model) | of_data | {"dtype": precisions.FLOAT32}


def from_config(config: PredecessorConfig) -> Any:
    """Build the model that a config describes, in float32: a `LatentModel` or a `LadderNetwork`.

    Raises `InputError` for an invalid field, or if data.shape or data.levels is not set.
    """
    validate(config)
    if config.data.shape is None or config.data.levels is None:
        raise InputError("config.data.shape and config.data.levels must be set (vdm train reads them from the data)")
    return parts.make("predecessor", config.model.name, **model_context(config))
