"""ImageNet 64×64 conditioned on its labels, with a diffusion transformer on pixels: DiT-L/4 of Peebles & Xie (2023).

As published: 24 blocks of 1024 channels in 16 heads, patches of 4×4 pixels, no dropout, 458M parameters, and a constant
learning rate of 10⁻⁴ without weight decay at a batch size of 256. For DiT-B/4, set channels=768, depth=12 and heads=12.
For good likelihoods it keeps the Fourier features of the input and γ from −13.3 to 5 with learned ends of imagenet64.
The data are those of imagenet64_unet.
"""

from configs import imagenet64_unet
from vdm.config import Config


def get_config() -> Config:
    config = imagenet64_unet.get_config()
    network = config.network
    network.name, network.groups = "dit(patch=4)", None
    network.channels, network.depth, network.heads, network.dropout = 1024, 24, 16, 0.0
    config.optimizer.learning_rate, config.optimizer.weight_decay = 1e-4, 0.0
    config.training.batch_size = 256
    return config
