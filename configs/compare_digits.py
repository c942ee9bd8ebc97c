"""Discrete- against continuous-time models of the 8×8 digits, three seeds: small networks, an hour on two cores."""

from configs import digits
from vdm.comparisons.steps import StepsSettings
from vdm.config import Config


def get_config() -> Config:
    config = digits.get_config()
    config.network.channels = 16
    config.network.depth = 2
    config.network.dropout = 0.0
    config.optimizer.ema_decay = 0.995
    config.training.steps = 1500
    config.training.batch_size = 32
    config.training.log_every = 100
    config.training.checkpoint_every = 500
    config.training.evaluate_every = 0
    config.training.sample_every = 0
    config.evaluation.draws = 4
    config.sampling.num = 16
    config.sampling.steps = 50
    return config


def get_comparison() -> StepsSettings:
    return StepsSettings(trained=(10, 250, 1000), evaluated=(10, 250, 1000, 10000), draws=20)
