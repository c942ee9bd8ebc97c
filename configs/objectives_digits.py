"""Objectives on the 8×8 digits (compare.py --by=objective): a small network, 400 steps per run, three seeds."""

from configs import digits
from vdm.comparisons.objectives import ObjectivesSettings
from vdm.config import Config


def get_config() -> Config:
    config = digits.get_config()
    config.network.channels = 16
    config.network.depth = 2
    config.optimizer.ema_decay = 0.99
    config.training.steps = 400
    config.training.evaluate_every = 200
    config.training.checkpoint_every = 200
    config.training.log_every = 100
    config.evaluation.draws = 10
    config.training.sample_every = 0
    config.sampling.steps = 50
    config.sampling.batch_size = 250
    return config


def get_comparison() -> ObjectivesSettings:
    return ObjectivesSettings(samples=500, gradients=32)
