"""What pictures of images say of themselves."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from vdm import settings
from vdm.config import SamplingConfig


def of_samples(run: Path, step: int, seed: int, sampling: SamplingConfig) -> str:
    """digits, step 2500, seed 0: ancestral, 250 steps, karras; what is as by default is left out but for the first two.

    >>> of_samples(Path("runs/digits"), 2500, 0, SamplingConfig(steps=25, sampler="ddim(0.5)", clip="static"))
    'digits, step 2500, seed 0: ddim(0.5), 25 steps, clip_static'
    """
    words = settings.in_words(sampling)
    others = [word for name, word in words.items() if name not in ("sampler", "steps")]
    return f"{run.resolve().name}, step {step}, seed {seed}: " + ", ".join(
        [sampling.sampler, f"{sampling.steps} steps", *others]
    )


def of_gammas(gammas: Float[np.ndarray, " frames"]) -> list[str]:
    """γ = −2.50, or γ = ∞, of each.

    >>> of_gammas(np.array([np.inf, -0.001, -2.5]))
    ['γ = ∞', 'γ = 0.00', 'γ = −2.50']
    """
    return [f"γ = {'∞' if np.isinf(gamma) else f'{float(gamma):z.2f}'.replace('-', '−')}" for gamma in gammas]
