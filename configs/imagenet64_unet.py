"""ImageNet 64×64 conditioned on its labels, with the downsampling U-Net of Dhariwal & Nichol (2021).

As published: 192 channels, multipliers 1, 2, 3, 4 with 3 blocks each, attention at 32, 16 and 8 pixels in heads of 64
channels, BigGAN-style changes of resolution, dropout 0.1 and 296M parameters. For good likelihoods it keeps the Fourier
features of the input, γ from −13.3 to 5 with learned ends and the optimizer of imagenet64.

The images are imagenet_resized/64x64 of TFDS, which have the 1000 labels of ImageNet (Chrabaszcz et al. 2017). Those of
imagenet64, downsampled_imagenet/64x64, have no labels and are resized differently: bits/dim are not comparable.
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
