"""The 8×8 digits with captions such as "a bold seven, leaning right", one tenth dropped in training for guidance."""

from configs import digits
from vdm.config import Config


def get_config() -> Config:
    config = digits.get_config()
    config.data.name, config.data.text = "digits_captions", "bpe(length=24)"
    config.network.condition = ("text",)
    return config
