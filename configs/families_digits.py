"""A VAE, hierarchical VAEs and diffusion models on the 8×8 digits (compare.py --by=family), three seeds."""

from configs import digits
from vdm.comparisons.families import FamiliesSettings
from vdm.config import Config


def get_config() -> Config:
    config = digits.get_config()
    config.network.channels = 16
    config.network.depth = 1
    config.optimizer.ema_decay = 0.99
    config.training.steps = 1500
    config.training.evaluate_every = 750
    config.training.checkpoint_every = 750
    config.training.log_every = 100
    config.training.sample_every = 0
    config.evaluation.draws = 10
    config.sampling.steps = 50
    config.sampling.batch_size = 500
    return config


def get_comparison() -> FamiliesSettings:
    return FamiliesSettings(
        depths=(2, 4), width=64, depth=1, learning_rate=2e-3, warmup_steps=300, importance=16, samples=1000, points=1500
    )
