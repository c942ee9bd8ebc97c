"""Train an image–text model on a run's noisy images, to guide its sampler to captions and to find captions of images.

vdm clip --run=runs/captions
vdm clip --run=runs/digits --config.data.name=digits_captions --config.training.steps=500

The model sees the run's images, captions and noise levels. If training was stopped or killed, the same command resumes
it, bit for bit.
"""

from vdm.image_text import ImageTextConfig
from vdm.programs.commands import on_noise


def main() -> int:
    """Run the command: see `on_noise.main`."""
    return on_noise.main("clip", ImageTextConfig, __doc__)
