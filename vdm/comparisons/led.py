"""Samplers of one trained run for various guidance methods; each compiled program is built once and shared."""

from collections.abc import Sequence
from dataclasses import replace

from vdm import parts
from vdm.config import SamplingConfig
from vdm.evaluation.images import ImageSampler
from vdm.guides import Guide
from vdm.runs.companions import open_companions
from vdm.runs.open import Run
from vdm.runs.records import weights_digest

UNGUIDED = "none"


class LedSamplers:
    """The samplers of a run by guidance, with all other settings from `sampling`."""

    def __init__(self, trained: Run, sampling: SamplingConfig, guidances: Sequence[str] = ()):
        """Build the samplers of `guidances`. Raises `InputError` for guidance that the run does not support."""
        self._trained, self._sampling = trained, sampling
        self._made: list[tuple[Guide, ImageSampler]] = []
        self._digests: dict[str, list[str]] = {}
        for text in guidances:
            self(text)

    def __call__(self, guidance: str) -> ImageSampler:
        """Return the sampler for a guidance method; call it with the same `guidance`."""
        guide: Guide = parts.make("guidance", guidance)
        found = next((sampler for program, sampler in self._made if program == guide.program), None)
        if guidance in self._digests and found is not None:
            return found
        companions = open_companions(self._trained, guidance)
        # Built even if one can be reused, since this checks the guidance.
        sampler = ImageSampler(self._trained.model, self._trained.mesh, self.settings(guidance), companions=companions)
        self._digests[guidance] = [weights_digest(each.variables) for each in companions.values()]
        if found is None:
            self._made.append((guide.program, sampler))
        return found or sampler

    def settings(self, guidance: str) -> SamplingConfig:
        """Return the sampling settings with this guidance."""
        return replace(self._sampling, guidance=guidance)

    def digests(self, guidance: str) -> list[str]:
        """Return the weight digests of the models that guide alongside the run's own."""
        self(guidance)
        return self._digests[guidance]
