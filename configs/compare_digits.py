"""Discrete- against continuous-time models of the 8×8 digits: six of them, half an hour on two CPU cores."""

from configs import digits
from vdm.config import ComparisonConfig, Config


def get_config() -> Config:
    config = digits.get_config()
    config.training.steps = 2000
    config.training.evaluate_every = 1000
    config.comparison = ComparisonConfig(
        trained=(5, 10, 25, 100, 250), evaluated=(5, 10, 25, 50, 100, 250, 1000), draws=250
    )
    return config
