"""The crops of photos32 with captions for color, brightness and texture, one tenth dropped in training for guidance."""

from configs import photos32
from vdm.config import Config


def get_config() -> Config:
    config = photos32.get_config()
    config.data.name, config.data.text = "photos32_captions", "bpe(length=16)"
    config.network.condition = ("text",)
    return config
