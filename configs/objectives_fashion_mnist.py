"""Objectives on Fashion-MNIST (compare.py --by=objective), one short run each; for the npz see docs/howto/data.md."""

from configs import objectives_digits
from vdm.comparisons.objectives import ObjectivesSettings
from vdm.config import Config, DataConfig


def get_config() -> Config:
    config = objectives_digits.get_config()
    config.data = DataConfig(name="npz:fashion_mnist.npz", shape=(28, 28, 1), levels=256)
    config.schedule.gamma_min = -13.3
    config.network.dropout = 0.0
    config.training.steps = 300
    config.training.batch_size = 16
    config.training.evaluate_every = 150
    config.evaluation.batch_size = 128
    config.evaluation.draws = 1
    config.evaluation.training_draws = 1
    config.evaluation.max_images = 256
    return config


def get_comparison() -> ObjectivesSettings:
    return ObjectivesSettings(weightings=("elbo", "sigmoid(2)"), seeds=1, samples=128, gradients=16)
