"""CIFAR-10 conditioned on its labels, one tenth of them dropped in training for guidance; otherwise as cifar10."""

from configs import cifar10
from vdm.config import Config


def get_config() -> Config:
    config = cifar10.get_config()
    config.network.condition = ("label",)
    config.data.classes, config.data.entries = 10, ("label int32",)
    return config
