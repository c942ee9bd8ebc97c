"""Discrete- against continuous-time models of 28×28 gray images: four models, an hour on two CPU cores.

With --config.data.name=npz:PATH the data are any npz file with images of this size.
"""

from configs import fashion_mnist
from vdm.comparisons.steps import StepsSettings
from vdm.config import Config


def get_config() -> Config:
    config = fashion_mnist.get_config()
    config.optimizer.learning_rate = 2e-3
    config.optimizer.ema_decay = 0.995
    config.training.steps = 1000
    config.training.batch_size = 16
    config.training.evaluate_every = 0
    config.training.sample_every = 0
    config.evaluation.batch_size = 100
    return config


def get_comparison() -> StepsSettings:
    return StepsSettings(
        trained=(5, 25, 100), evaluated=(5, 10, 25, 50, 100, 250, 1000), seeds=1, draws=50, max_images=200
    )
