"""Settings of compare.py --by=codec."""

from dataclasses import dataclass

from vdm.settings import at_least, increasing_steps, setting


@dataclass
class CodecsSettings:
    """Settings for comparing the codec of one trained run with classical coders."""

    steps: tuple[int, ...] = setting((10, 50, 100, 250), "T: network calls that code an image.", increasing_steps())
    max_images: int = setting(1000, "So many test images from all over the split are coded; 0: all.", at_least(0))
    batch_size: int = setting(64, "Images in a network call of the codec, at the most.", at_least(1))
    repeats: int = setting(4, "Times that the images are coded: the net rate is a mean over these.", at_least(2))
    draws: int = setting(
        1000, "Network calls an image for the bound: as many sums over all T as fit, two at least.", at_least(1)
    )
