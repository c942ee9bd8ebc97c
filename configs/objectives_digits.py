"""Objectives on the 8×8 digits (compare.py --by=objective): a small network, 500 steps each, three seeds."""

from configs import digits
from vdm.config import ComparisonConfig, Config


def get_config() -> Config:
    config = digits.get_config()
    config.network.depth = 2
    config.optimizer.ema_decay = 0.99
    config.training.steps = 500
    config.training.evaluate_every = 100
    config.training.checkpoint_every = 250
    config.training.sample_every = 0
    config.sampling.steps = 100
    config.sampling.batch_size = 250
    config.comparison = ComparisonConfig(samples=500)
    return config
