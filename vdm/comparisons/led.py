"""Samplers of one trained run by guidance: those that one compiled program serves are made once."""

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
    """Of a run, with the settings of `sampling` but for its guidance."""

    def __init__(self, trained: Run, sampling: SamplingConfig, guidances: Sequence[str] = ()):
        """Opens those of the guidances. Raises `InputError` for one that the run cannot have."""
        self._trained, self._sampling = trained, sampling
        self._made: list[tuple[Guide, ImageSampler]] = []
        self._digests: dict[str, list[str]] = {}
        for text in guidances:
            self(text)

    def __call__(self, guidance: str) -> ImageSampler:
        """That of a guidance, to be called with its text."""
        guide: Guide = parts.make("guidance", guidance)
        found = next((sampler for program, sampler in self._made if program == guide.program), None)
        if guidance in self._digests and found is not None:
            return found
        companions = open_companions(self._trained, guidance)
        # Made in any case: it checks the guidance.
        sampler = ImageSampler(self._trained.model, self._trained.mesh, self.settings(guidance), companions=companions)
        self._digests[guidance] = [weights_digest(each.variables) for each in companions.values()]
        if found is None:
            self._made.append((guide.program, sampler))
        return found or sampler

    def settings(self, guidance: str) -> SamplingConfig:
        """What its images are drawn with."""
        return replace(self._sampling, guidance=guidance)

    def digests(self, guidance: str) -> list[str]:
        """Of the weights of what guides beside the model."""
        self(guidance)
        return self._digests[guidance]
