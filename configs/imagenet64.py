"""ImageNet 64×64: 3.40 bits/dim in Kingma et al. (2021). Twice the depth of ImageNet 32×32."""

from configs import imagenet32
from vdm.config import Config


def get_config() -> Config:
    config = imagenet32.get_config()
    config.data.name = "downsampled_imagenet/64x64"
    config.data.shape = (64, 64, 3)
    config.network.depth = 64
    config.evaluation.batch_size = 100
    return config
