"""The 8×8 digits conditioned on their labels, one tenth of them dropped in training for guidance."""

from configs import digits
from vdm.config import Config


def get_config() -> Config:
    config = digits.get_config()
    config.network.condition = ("label",)
    config.data.classes, config.data.entries = 10, ("label int32",)
    return config
