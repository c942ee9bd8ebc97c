"""`vdm evaluate` of a model before diffusion: its bound or cost, layer by layer, with standard errors."""

from pathlib import Path
from typing import Any

from rich.console import Console

from vdm.errors import InputError
from vdm.predecessors.config import PredecessorConfig
from vdm.predecessors.latent import LatentModel
from vdm.programs.families import family_of
from vdm.programs.latent_sample import LatentSample
from vdm.programs.measured import SCORING, WEIGHTING, Measured, mode_of
from vdm.programs.score_samples import score_by
from vdm.progress import progress_of


def evaluate(config: PredecessorConfig, workdir: Path, console: Console, given: Any, out: Path | None) -> None:
    """Run `vdm evaluate` with these flags."""
    mode_of(given, {"metrics": SCORING, "importance": WEIGHTING})
    if given.metrics is not None:
        if given.num is not None:
            config.sampling.num = given.num
        score_by(given, LatentSample(config, workdir, given.checkpoint, 0, console, out), config.evaluation.batch_size)
        return
    measured = LatentEvaluate(config, workdir, given.checkpoint, console, out)
    if given.importance is None:
        measured.layers()
        return
    if not isinstance(measured.model, LatentModel):
        raise InputError(f"--importance: weights draws of latents; {type(measured.model).__name__} has none")
    measured.importance(given.importance, given.images)


class LatentEvaluate(Measured):
    """A checkpoint of a predecessor's run and its test images, with methods to measure it."""

    def layers(self) -> Any:
        """Evaluate it layer by layer: print a table, write step_2000_draws_10.json, and return the evaluation.

        That is a `LatentEvaluation`, or a `LadderEvaluation` for a ladder network.
        """
        run, settings, family = self.run, self.run.config.evaluation, family_of(self.model)
        path = self._path(draws=settings.draws)
        evaluator = family.evaluator(self.model, run.mesh, settings.batch_size, run.dataset)
        with progress_of(self.console, "evaluating") as progress:
            result = evaluator(run.variables, run.dataset.test, self.key, settings.draws, progress=progress)
        # Printed before the file is written, in case the disk is full.
        self.console.print(family.table(result, self._title), soft_wrap=False)
        self._write(path, result.to_dict())
        return result
