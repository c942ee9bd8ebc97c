"""Objectives on Fashion-MNIST (compare.py --by=objective; the README says how to get an npz of it): one seed."""

from configs import objectives_digits
from vdm.config import ComparisonConfig, Config, DataConfig


def get_config() -> Config:
    config = objectives_digits.get_config()
    config.data = DataConfig(name="npz:fashion_mnist.npz", shape=(28, 28, 1), levels=256)
    config.schedule.gamma_min = -13.3
    config.training.batch_size = 32
    config.evaluation.batch_size = 250
    config.evaluation.max_images = 250
    config.comparison = ComparisonConfig(seeds=1, samples=250, gradients=16)
    return config
