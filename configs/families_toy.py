"""A VAE, hierarchical VAEs and diffusion models on five clusters in the plane (compare.py --by=family), three seeds."""

from configs import toy
from vdm.comparisons.families import FamiliesSettings
from vdm.config import Config


def get_config() -> Config:
    config = toy.get_config()
    config.training.steps = 2500
    config.training.evaluate_every = 1250
    config.training.checkpoint_every = 1250
    config.training.sample_every = 0
    config.evaluation.metrics = ()
    config.evaluation.draws = 20
    config.sampling.steps = 100
    return config


def get_comparison() -> FamiliesSettings:
    return FamiliesSettings(
        depths=(2, 4), latents=2, width=64, learning_rate=2e-3, warmup_steps=1000, samples=2000, points=2000
    )
