"""Adaptive and importance-sampled against uniform noise levels on the digits (compare.py --by=objective)."""

from configs import objectives_digits
from vdm.comparisons.objectives import ObjectivesSettings
from vdm.config import Config


def get_config() -> Config:
    config = objectives_digits.get_config()
    config.schedule.name = "linear"
    # With a learning rate that falls to 0, all runs would end at about the same loss.
    config.optimizer.decay = "constant"
    config.training.evaluate_every = 20
    return config


def get_comparison() -> ObjectivesSettings:
    return ObjectivesSettings(
        predictions=("eps",), weightings=("elbo",), proposals=("uniform", "adaptive", "importance"), samples=100
    )
