"""Configs: JSON round trip, refusals, and every file in configs/."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vdm import model
from vdm.config import (
    ComparisonConfig,
    Config,
    DataConfig,
    NetworkConfig,
    ObjectiveConfig,
    SamplingConfig,
    ScheduleConfig,
    TrainingConfig,
    flatten,
    from_dict,
    to_dict,
    validate,
)
from vdm.errors import InputError

FILES = sorted(path.stem for path in (Path(__file__).parent.parent / "configs").glob("*.py"))


@pytest.mark.parametrize("name", FILES)
def test_every_file_makes_a_valid_model_and_survives_json(name: str) -> None:
    config = importlib.import_module(f"configs.{name}").get_config()
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    assert model.from_config(config).shape == config.data.shape


def test_paper_settings_of_cifar10() -> None:
    """FACTS: 128 channels, 32 blocks, dropout 0.1, γ −13.3 … 5, 2e-4, (0.9, 0.99), 0.01, 100, 0.9999, 128, 10M."""
    c = importlib.import_module("configs.cifar10").get_config()
    assert (c.network.channels, c.network.depth, c.network.attention, c.network.dropout) == (128, 32, "middle", 0.1)
    assert (c.schedule.gamma_min, c.schedule.gamma_max) == (-13.3, 5.0)
    o = c.optimizer
    assert (o.learning_rate, o.b1, o.b2, o.weight_decay, o.warmup_steps, o.ema_decay) == (
        2e-4,
        0.9,
        0.99,
        0.01,
        100,
        0.9999,
    )
    assert (c.training.batch_size, c.training.steps, o.decay) == (128, 10_000_000, "constant")
    assert model.from_config(c).network.fourier == (7, 8)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(seed=-1), "config.seed=-1"),
        (Config(training=TrainingConfig(steps=0)), "config.training.steps=0"),
        (Config(training=TrainingConfig(batch_size=-8)), "config.training.batch_size=-8"),
        (Config(training=TrainingConfig(accumulate=0)), "config.training.accumulate=0: must be 1 or more"),
        (
            Config(training=TrainingConfig(batch_size=64, accumulate=3)),
            "config.training.accumulate=3: must be a divisor of batch_size=64",
        ),
        (Config(network=NetworkConfig(dtype="float16")), "'float16': not one of float32, bfloat16"),
        (Config(network=NetworkConfig(attention="nowhere")), "not one of middle, everywhere"),
        (Config(network=NetworkConfig(channels=8, heads=3)), "config.network.heads=3"),
        (Config(network=NetworkConfig(channels=8, groups=3)), "config.network.groups=3"),
        (Config(network=NetworkConfig(channels=8, groups=0)), "config.network.groups=0"),
        (Config(data=DataConfig(levels=1)), "config.data.levels=1"),
        (Config(data=DataConfig(shape=(8, 0, 1))), "config.data.shape"),
        (Config(data=DataConfig(augmentations=("blur",))), "'blur'"),
        (Config(objective=ObjectiveConfig(num_steps=0)), "config.objective.num_steps=0"),
        (Config(comparison=ComparisonConfig(trained=(10, 5))), "config.comparison.trained=(10, 5): must be increasing"),
        (Config(comparison=ComparisonConfig(evaluated=(0,))), "config.comparison.evaluated=(0,)"),
        (Config(comparison=ComparisonConfig(samples=1)), "config.comparison.samples=1: must be 2 or more"),
        (Config(comparison=ComparisonConfig(calls=(10, 5))), "config.comparison.calls=(10, 5): must be increasing"),
        (Config(comparison=ComparisonConfig(noise_steps=(0,))), "config.comparison.noise_steps=(0,)"),
        (Config(comparison=ComparisonConfig(reference_calls=0)), "config.comparison.reference_calls=0: must be from 1"),
        (
            Config(comparison=ComparisonConfig(samplers=("plms",))),
            "comparison.samplers: sampler='plms': must be",
        ),
        (Config(comparison=ComparisonConfig(noises=("ddim(2)",))), "config.comparison.noises: sampler='ddim(2)': eta"),
        (
            Config(comparison=ComparisonConfig(samplers=("heun@edm",))),
            "grid='edm' in 'heun@edm': must be one of schedule, quadratic, uniform, karras, cosine",
        ),
        (Config(objective=ObjectiveConfig(weighting="edn")), "weighting='edn': must be one of elbo, simple, sigmoid"),
        (Config(objective=ObjectiveConfig(loss_space="energy")), "not one of x, eps, score, v, u, F"),
        (Config(objective=ObjectiveConfig(proposal="normal")), "must be one of uniform, adaptive, importance"),
        (Config(objective=ObjectiveConfig(proposal="adaptive")), "'learned_monotone' learns itself where"),
        (
            Config(objective=ObjectiveConfig(proposal="log_normal", num_steps=10)),
            "with num_steps=10 must be one of uniform, adaptive, importance",
        ),
        (
            Config(objective=ObjectiveConfig(proposal="log_normal(9, 0.1)"), schedule=ScheduleConfig(name="linear")),
            "has 0 of its mass from gamma_min=-13.3 to gamma_max=5.0",
        ),
        (
            Config(
                objective=ObjectiveConfig(proposal="log_normal"),
                schedule=ScheduleConfig(gamma_min=5.0, gamma_max=-13.0),
            ),
            "config.schedule.gamma_max=-13.0: must be above gamma_min=5.0",
        ),
        (Config(objective=ObjectiveConfig(weighting="sigmoid(True)")), "weighting='sigmoid(True)': must be a name"),
        (Config(sampling=SamplingConfig(sampler="ddim(2)")), "config.sampling.sampler='ddim(2)': eta=2"),
        (Config(sampling=SamplingConfig(sampler="plms")), "must be one of ancestral, ddpm, ddim, euler"),
        (Config(sampling=SamplingConfig(clip="hard")), "config.sampling.clip='hard': not one of none, static, dynamic"),
        (Config(sampling=SamplingConfig(grid="lin")), "not one of schedule, quadratic, uniform, karras, cosine"),
        (Config(sampling=SamplingConfig(decode="max")), "config.sampling.decode='max': not one of mode, mean, draw"),
        (
            Config(sampling=SamplingConfig(zero_terminal_snr=True)),
            "network.prediction='eps' does not tell x at SNR 0; must be one of x, v, u, F",
        ),
    ],
)
def test_bad_values_are_named(config: Config, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        validate(config)


@pytest.mark.parametrize("steps", [("a",), (10.5,), (True,)])
def test_steps_are_integers(steps: tuple) -> None:
    config = Config()
    config.comparison.trained = steps  # as the command line sets it
    with pytest.raises(InputError, match=r"config\.comparison\.trained"):
        validate(config)


def test_wrong_types_in_a_saved_config_are_named() -> None:
    values = to_dict(Config())
    values["training"]["steps"] = "many"
    with pytest.raises(InputError, match=r"config.training.steps='many'"):
        from_dict(values)


def test_flatten_has_every_leaf_once() -> None:
    flat = flatten(Config())
    assert flat["training.steps"] == Config().training.steps
    assert not any(hasattr(value, "__dataclass_fields__") for value in flat.values())


def test_checking_a_config_touches_no_device() -> None:
    """The programs check before they set up the devices, which must come first."""
    code = (
        "from jax._src import xla_bridge; from vdm import config, proposals\n"
        "for name in proposals.PROPOSALS:\n"
        "    config.validate(config.Config(schedule=config.ScheduleConfig(name='linear'),\n"
        "                                  objective=config.ObjectiveConfig(proposal=name)))\n"
        "assert not xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
