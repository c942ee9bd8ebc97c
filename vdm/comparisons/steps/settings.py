"""Settings of compare.py --by=steps."""

from dataclasses import dataclass

from vdm.settings import at_least, increasing_steps, setting


@dataclass
class StepsSettings:
    """Settings for comparing discrete-time models with the continuous-time one."""

    trained: tuple[int, ...] = setting(
        (5, 10, 25, 50, 100, 250),
        "T of the discrete-time models to train besides the continuous-time one; each is evaluated at its own T.",
        increasing_steps(),
    )
    evaluated: tuple[int, ...] = setting(
        (5, 10, 25, 50, 100, 250, 1000, 10000),
        "T at which the continuous-time model is evaluated, in addition to T = ∞.",
        increasing_steps(),
    )
    seeds: int = setting(3, "Number of runs of each model, with the seeds seed, seed + 1, ….", at_least(1))
    draws: int = setting(
        250, "Network calls per image for each bound; bounds with T up to this are exact sums over all T.", at_least(1)
    )
    max_images: int = setting(
        0, "Number of test images for the bounds, sampled from the whole split; 0: all.", at_least(0)
    )
