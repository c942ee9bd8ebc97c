"""ImageNet 64×64 given its labels, by the U-Net with downsampling of Dhariwal & Nichol (2021).

192 channels, multipliers 1, 2, 3, 4 with 3 blocks each, attention at 32, 16 and 8 pixels in heads of 64 channels,
BigGAN-style changes of resolution and dropout 0.1, 296M parameters, as published. What a likelihood needs is as
in imagenet64: Fourier features of the input, γ from −13.3 to 5 with learned ends, and the optimiser.

The images are imagenet_resized/64x64 of TFDS, which have the 1000 labels of ImageNet (Chrabaszcz et al. 2017). Those of
imagenet64, downsampled_imagenet/64x64, have none and are resized in another way: bits/dim do not compare.
"""

from configs import imagenet64
from vdm.config import Config


def get_config() -> Config:
    config = imagenet64.get_config()
    config.data.name = "imagenet_resized/64x64"
    config.data.classes, config.data.entries = 1000, ("label int32",)
    network = config.network
    network.name = "adm(multipliers=(1, 2, 3, 4), attention_at=(32, 16, 8), up_down='resblock')"
    network.channels, network.depth, network.heads, network.groups = 192, 3, 3, 32
    network.condition = ("label",)
    return config
