"""Discrete- against continuous-time models of the built-in 32×32×3 photographs: four models, several hours on a CPU."""

from configs import photos32
from vdm.comparisons.steps import StepsSettings
from vdm.config import Config


def get_config() -> Config:
    config = photos32.get_config()
    config.training.evaluate_every = 0
    config.training.sample_every = 0
    return config


def get_comparison() -> StepsSettings:
    return StepsSettings(
        trained=(5, 25, 100), evaluated=(5, 10, 25, 50, 100, 250, 1000), seeds=1, draws=50, max_images=200
    )
