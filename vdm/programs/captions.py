"""Captions of pictures of samples: the run, the step, the seed and the settings that they were drawn with."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from vdm import settings
from vdm.config import SamplingConfig
from vdm.evaluation.texts import captions_of_lines
from vdm.predecessors.config import LatentSamplingConfig


def of_samples(run: Path, step: int, seed: int, sampling: SamplingConfig) -> str:
    """Return the caption of a diffusion model's samples.

    Sampler and number of steps are always named, other settings only where they differ from their defaults.

    >>> of_samples(Path("runs/digits"), 2500, 0, SamplingConfig(steps=25, sampler="ddim(0.5)", clip="static"))
    'digits, step 2500, seed 0: ddim(0.5), 25 steps, clip_static'
    >>> of_samples(Path("runs/digits_captions"), 2500, 0, SamplingConfig(steps=25, text="a seven"))
    'digits_captions, step 2500, seed 0: ancestral, 25 steps, “a seven”'
    """
    words = settings.in_words(sampling)
    others = [word for name, word in words.items() if name not in ("sampler", "steps", "text")]
    # Several captions are printed beside their images instead.
    of_all = [f"“{caption}”" for caption in captions_of_lines(sampling.text or "")]
    return f"{run.resolve().name}, step {step}, seed {seed}: " + ", ".join(
        [sampling.sampler, f"{sampling.steps} steps", *others, *(of_all if len(of_all) == 1 else [])]
    )


def of_a_ladder(run: Path, step: int, seed: int, sampling: LatentSamplingConfig) -> str:
    """Return the caption of a ladder network's reconstructions, to which the `decode` setting does not apply.

    >>> of_a_ladder(Path("runs/ladder_digits"), 5000, 0, LatentSamplingConfig())
    'ladder_digits, step 5000, seed 0'
    """
    others = [word for name, word in settings.in_words(sampling).items() if name != "decode"]
    return ", ".join([f"{run.resolve().name}, step {step}, seed {seed}", *others])


def of_latents(run: Path, step: int, seed: int, sampling: LatentSamplingConfig) -> str:
    """Return the caption of samples of a model with learned latents.

    >>> of_latents(Path("runs/vae_digits"), 5000, 0, LatentSamplingConfig())
    'vae_digits, step 5000, seed 0: mode of p(x|z)'
    """
    words = settings.in_words(sampling)
    others = [word for name, word in words.items() if name != "decode"]
    return f"{run.resolve().name}, step {step}, seed {seed}: " + ", ".join([f"{sampling.decode} of p(x|z)", *others])


def of_gammas(gammas: Float[np.ndarray, " frames"]) -> list[str]:
    """Return a label for each γ, such as "γ = −2.50".

    >>> of_gammas(np.array([np.inf, -0.001, -2.5]))
    ['γ = ∞', 'γ = 0.00', 'γ = −2.50']
    """
    return [f"γ = {'∞' if np.isinf(gamma) else f'{float(gamma):z.2f}'.replace('-', '−')}" for gamma in gammas]
