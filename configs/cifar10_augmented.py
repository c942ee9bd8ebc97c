"""CIFAR-10 with flips, quarter turns and channel swaps: 2.49 bits/dim in Kingma et al. (2021).

It uses the larger network of the official code: 256 channels, attention after every block, dropout 0.05, batch 1024.
"""

from configs import cifar10
from vdm.config import Config


def get_config() -> Config:
    config = cifar10.get_config()
    config.data.augmentations = ("flip", "rotate90", "swap_channels")
    config.network.channels = 256
    config.network.attention = "everywhere"
    config.network.dropout = 0.05
    config.training.batch_size = 1024
    config.training.steps = 100_000_000
    return config
