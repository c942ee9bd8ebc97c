"""ImageNet 32×32: 3.72 bits/dim in Kingma et al. (2021). As in the official config, 256 channels and learned ends of γ.

The TFDS data set is the older of the two published versions; results on the newer one are not comparable.
"""

from configs import cifar10
from vdm.config import Config


def get_config() -> Config:
    config = cifar10.get_config()
    config.data.name = "downsampled_imagenet/32x32"
    config.schedule.name = "learned_linear"
    config.network.channels = 256
    return config
