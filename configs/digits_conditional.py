"""The 8×8 digits given their labels, a tenth of them dropped in training so that samples can be guided."""

from configs import digits
from vdm.config import Config


def get_config() -> Config:
    config = digits.get_config()
    config.network.condition = ("label",)
    config.data.classes, config.data.entries = 10, ("label int32",)
    return config
