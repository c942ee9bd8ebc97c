"""Configs: JSON round trip, refusals, and every file in configs/."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vdm import model
from vdm.config import (
    Config,
    DataConfig,
    NetworkConfig,
    ObjectiveConfig,
    SamplingConfig,
    ScheduleConfig,
    TrainingConfig,
    from_dict,
    to_dict,
    validate,
)
from vdm.errors import InputError
from vdm.runs import kinds
from vdm.settings import differing, flatten, settings

FILES = sorted(path.stem for path in (Path(__file__).parent.parent / "configs").glob("*.py"))


@pytest.mark.parametrize("name", FILES)
def test_every_file_makes_a_valid_model_and_survives_json(name: str) -> None:
    config = importlib.import_module(f"configs.{name}").get_config()
    assert from_dict(json.loads(json.dumps(to_dict(config))), kind=type(config)) == config
    validate(config)
    # How captions are encoded is read from the data.
    if config.data.entries is not None or "text" not in getattr(config, "network", NetworkConfig()).condition:
        assert kinds.model_of(config).shape == config.data.shape


def test_paper_settings_of_cifar10() -> None:
    """FACTS: 128 channels, 32 blocks, dropout 0.1, γ −13.3 … 5, 2e-4, (0.9, 0.99), 0.01, 100, 0.9999, 128, 10M."""
    c = importlib.import_module("configs.cifar10").get_config()
    assert (c.network.channels, c.network.depth, c.network.attention, c.network.dropout) == (128, 32, "middle", 0.1)
    assert (c.schedule.gamma_min, c.schedule.gamma_max) == (-13.3, 5.0)
    o = c.optimizer
    assert o.name == "adamw"
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


def of_network(**network: Any) -> Config:
    """The network is made as soon as the data are known."""
    return Config(data=DataConfig(shape=(8, 8, 1), levels=17), network=NetworkConfig(**network))


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
        (Config(training=TrainingConfig(precision="float16")), "'float16': not one of float32, tf32, bfloat16"),
        (of_network(attention="nowhere"), "config.network.attention='nowhere': must be one of middle, everywhere"),
        (of_network(channels=8, heads=3), "config.network.heads=3: must be a divisor of channels=8"),
        (of_network(channels=8, groups=3), "config.network.groups=3: must be a divisor of channels=8, or None"),
        (of_network(channels=8, groups=0), "config.network.groups=0: must be 1 or more, or None"),
        (of_network(name="unet(heads=3)"), "config.network.name='unet(heads=3)': heads=3 comes from the config: give"),
        (of_network(name="uvit"), "config.network.name='uvit': must be one of unet, adm, dit"),
        (Config(imports=("no_such_module",)), "no module 'no_such_module' on Python's path"),
        (
            Config(schedule=ScheduleConfig(name="learned_monotone(hidden=0)")),
            "config.schedule.name='learned_monotone(hidden=0)': hidden=0: must be 1 or more; usage: learned_monotone(",
        ),
        (
            Config(schedule=ScheduleConfig(name="shifted(2)")),
            "schedule.name='shifted(2)': must be one of linear",
        ),
        (Config(data=DataConfig(levels=1)), "config.data.levels=1"),
        (Config(data=DataConfig(shape=(8, 0, 1))), "config.data.shape"),
        (Config(data=DataConfig(augmentations=("blur",))), "'blur'"),
        (Config(objective=ObjectiveConfig(num_steps=0)), "config.objective.num_steps=0"),
        (Config(objective=ObjectiveConfig(weighting="edn")), "weighting='edn': must be one of elbo, simple, sigmoid"),
        (Config(objective=ObjectiveConfig(loss_space="energy")), "not one of x, eps, score, v, u, F"),
        (Config(objective=ObjectiveConfig(proposal="normal")), "must be one of uniform, adaptive, importance"),
        (Config(objective=ObjectiveConfig(proposal="adaptive")), "'learned_monotone' itself learns where"),
        (
            Config(objective=ObjectiveConfig(proposal="log_normal", num_steps=10)),
            "proposal='log_normal': num_steps=10: a density over γ needs continuous time; must be None",
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
        (
            Config(objective=ObjectiveConfig(weighting="sigmoid(True)")),
            "k=True: must be a number; usage: sigmoid",
        ),
        (Config(sampling=SamplingConfig(sampler="ddim(2)")), "config.sampling.sampler='ddim(2)': eta=2"),
        (Config(sampling=SamplingConfig(sampler="plms")), "must be one of ancestral, ddpm, ddim, euler"),
        (
            Config(sampling=SamplingConfig(clip="hard")),
            "clip='hard': must be one of none, static, dynamic",
        ),
        (Config(sampling=SamplingConfig(grid="lin")), "must be one of schedule, quadratic, uniform, karras, cosine"),
        (
            Config(sampling=SamplingConfig(decode="max")),
            "decode='max': must be one of mode, mean, draw",
        ),
        (
            Config(sampling=SamplingConfig(zero_terminal_snr=True)),
            "network.prediction='eps' does not tell x at SNR 0; must be one of x, v, u, F",
        ),
    ],
)
def test_bad_values_are_named(config: Config, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        validate(config)


@pytest.mark.parametrize("steps", [True, 1.5, "a", None])
def test_types_are_checked(steps: object) -> None:
    config = Config()
    config.training.steps = steps  # type: ignore[assignment]
    with pytest.raises(InputError, match=rf"config\.training\.steps={steps!r}: must be a whole number"):
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
        "from jax._src import xla_bridge; from vdm import config, parts\n"
        "for name in parts.names('proposal'):\n"
        "    config.validate(config.Config(schedule=config.ScheduleConfig(name='linear'),\n"
        "                                  objective=config.ObjectiveConfig(proposal=name)))\n"
        "assert not xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


OLD = {
    "seed": 3,
    "schedule": {"name": "learned_monotone", "gamma_min": -7.5, "gamma_max": 5.0, "shift": 0.0, "hidden": 1024},
    "network": {"channels": 32, "depth": 4, "fourier": None, "dropout": 0.1},
    "data": {"name": "digits", "shape": [8, 8, 1], "levels": 17, "augmentations": ["flip"]},
    "comparison": {"trained": [5, 10], "draws": 250, "samplers": ["heun@karras"]},
}
"""Of a config.json written before schedules had arguments in their names."""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"name": "learned_monotone", "hidden": 1024}, "learned_monotone"),
        ({"name": "learned_monotone", "hidden": 8, "shift": 2.0}, "learned_monotone(hidden=8)"),
        ({"name": "shifted_cosine", "shift": -2}, "shifted_cosine(shift=-2.0)"),
        ({"name": "shifted_cosine"}, "shifted_cosine"),
        ({"name": "linear", "shift": -2.0, "hidden": 8}, "linear"),
    ],
)
def test_an_earlier_versions_config_is_read_as_this_one_has_it(before: dict, after: str) -> None:
    config = from_dict(OLD | {"schedule": before | {"gamma_min": -7.0}})
    assert (config.schedule.name, config.schedule.gamma_min) == (after, -7.0)
    assert config.data == DataConfig(name="digits", shape=(8, 8, 1), levels=17, augmentations=("flip",))
    assert config.network.name == "unet"
    validate(config)
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize(("before", "after"), [("float32", "tf32"), ("bfloat16", "bfloat16")])
def test_an_earlier_versions_dtype_is_the_precision_of_training(before: str, after: str) -> None:
    """On a GPU float32 was TF32; evaluation was float32, and sampling TF32, whatever it was."""
    config = from_dict(OLD | {"network": {"channels": 32, "dtype": before}, "training": {"steps": 7}})
    assert (config.training.precision, config.training.steps, config.network.channels) == (after, 7, 32)
    assert (config.evaluation.precision, config.sampling.precision) == ("float32", "tf32")
    assert from_dict({"network": {"dtype": before}}).training.precision == after
    with pytest.raises(InputError, match=r"config\.network\.dtype: no such field|'float16': not one of float32, tf32"):
        validate(from_dict({"network": {"dtype": "float16"}}))


def test_an_earlier_versions_conditions_were_never_dropped() -> None:
    dropout = [
        from_dict({"network": network}).network.condition_dropout
        for network in ({"condition": ["label"]}, {"condition": []}, {"condition": ["label"], "condition_dropout": 0.2})
    ]
    assert dropout == [0.0, 0.1, 0.2]


def test_parts_of_one_meaning_do_not_differ() -> None:
    def config(schedule: str, sampler: str = "heun") -> Config:
        return Config(schedule=ScheduleConfig(name=schedule), sampling=SamplingConfig(sampler=sampler))

    every = ("model", "training", "running")
    assert not differing(config("shifted_cosine(shift=-2.0)"), config("shifted_cosine(shift=-2)"), *every)
    assert not differing(config("learned_monotone(hidden=1024)"), config("learned_monotone()"), *every)
    assert not differing(config("linear"), config("linear", "heun(churn=0.1)"), "model", "training")
    found = differing(config("learned_monotone"), config("learned_monotone(hidden=8)"), "model")
    assert found == {"schedule.name": ("learned_monotone", "learned_monotone(hidden=8)")}
    # A part of a module that is not there is the same as itself alone.
    assert not differing(config("mine(2)"), config("mine(2)"), "model")
    assert differing(config("mine(2)"), config("mine(2.0)"), "model")


AFFECTS = {
    "model": {
        "data.shape", "data.levels", "data.classes", "data.entries", "data.text", "data.vocabulary",
        "schedule.name", "schedule.gamma_min", "schedule.gamma_max", "network.name",
        "network.channels", "network.depth", "network.attention", "network.heads", "network.groups",
        "network.prediction", "network.fourier", "network.condition", "network.condition_dropout", "objective.proposal",
    },
    "training": {
        "seed", "data.augmentations", "network.dropout", "objective.weighting", "objective.loss_space",
        "objective.num_steps", "objective.stratified", "optimizer.name", "optimizer.learning_rate",
        "optimizer.schedule_learning_rate",
        "optimizer.b1", "optimizer.b2", "optimizer.weight_decay", "optimizer.warmup_steps", "optimizer.decay",
        "optimizer.clip_norm", "optimizer.ema_decay", "training.steps", "training.batch_size",
        "training.precision",
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", AFFECTS)
def test_what_a_run_depends_on(kind: str) -> None:
    """Which a resumed run may not change: what was once kept in lists."""
    assert {each.name for each in settings(Config()) if each.affects == kind} == AFFECTS[kind]


def test_every_field_says_what_it_is() -> None:
    for each in settings(Config()):
        assert each.doc.endswith("."), each.name
        assert each.problem() is None, each.name
