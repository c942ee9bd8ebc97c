"""Discrete- against continuous-time models of the 8×8 digits: six of them, half an hour on two CPU cores."""

from configs import digits
from vdm.comparisons.steps import StepsSettings
from vdm.config import Config


def get_config() -> Config:
    config = digits.get_config()
    config.training.steps = 2000
    config.training.evaluate_every = 1000
    return config


def get_comparison() -> StepsSettings:
    return StepsSettings(trained=(5, 10, 25, 100, 250), evaluated=(5, 10, 25, 50, 100, 250, 1000), draws=250)
