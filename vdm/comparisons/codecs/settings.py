"""Settings of compare.py --by=codec."""

from dataclasses import dataclass

from vdm.settings import at_least, increasing_steps, setting


@dataclass
class CodecsSettings:
    """Settings for comparing the codec of one trained run with classical coders."""

    steps: tuple[int, ...] = setting((10, 50, 100, 250), "T: network calls for coding an image.", increasing_steps())
    max_images: int = setting(1000, "Number of test images to code, sampled from the whole split; 0: all.", at_least(0))
    batch_size: int = setting(64, "Maximum number of images in a network call of the codec.", at_least(1))
    repeats: int = setting(4, "How often the images are coded; the net rate is the mean.", at_least(2))
    draws: int = setting(
        1000, "Network calls per image for the bound: as many sums over all T as fit, but at least two.", at_least(1)
    )
