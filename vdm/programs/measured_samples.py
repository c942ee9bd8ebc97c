"""`config.evaluation.metrics`: measure the quality of samples during training."""

from typing import Any

from rich.console import Console

from vdm import parallel
from vdm.config import Config
from vdm.data import Dataset
from vdm.evaluation.images import NonFiniteLatents
from vdm.evaluation.metrics import Estimate, Metric
from vdm.evaluation.metrics.quality import Quality
from vdm.evaluation.metrics.scoring import Real
from vdm.files import cache_folder
from vdm.guides import LABEL
from vdm.keys import Stream
from vdm.programs import judges
from vdm.programs.hooks import Hook, heeding_progress, rhythm
from vdm.programs.session import Session
from vdm.runs.records import read_metrics

KIND = "metrics"
"""Kind of the records that the hook writes."""


class MeasureSamples(Hook):
    """Measures samples of the moving average by `config.evaluation.metrics` at every evaluation and at the end.

    It draws `config.evaluation.samples` samples with the settings of `config.sampling`, always from the same latents,
    so that only the model changes from one evaluation to the next. A record "metrics" has each value and its standard
    error.
    """

    def __init__(self, config: Config, dataset: Dataset, model: Any, console: Console):
        """Compute the features of the real images, and train the data's own classifier if a metric needs it.

        Raises `InputError` for a metric that needs something missing, such as weights, or that does not fit the data.
        """
        settings, info = config.evaluation, dataset.info
        self._quality = Quality(
            settings.metrics,
            Real.of(dataset),
            info.levels,
            info.shape,
            settings.samples,
            f"config.evaluation.metrics={settings.metrics}",
            console,
            LABEL in model.condition,
            classifier=judges.opener(dataset, None, cache_folder(judges.CACHE), console),
        )

    def due(self, session: Session) -> bool:
        return session.is_last or rhythm(session.config.training.evaluate_every, session)

    def missing(self, session: Session) -> bool:
        made = ((record["kind"], record["step"]) for record in read_metrics(session.path / "metrics.jsonl"))
        return not parallel.all_true((KIND, session.step) in made)

    def __call__(self, session: Session) -> None:
        session.heed()
        num = session.config.evaluation.samples
        try:
            estimates = self._measured(session, num)
        except (NonFiniteLatents, ValueError) as error:
            # Samples of a barely trained model may not be measurable; training can go on.
            session.console.print(f"warning: step {session.step}: samples are not measured: {error}", style="yellow")
            return
        numbers = {name: each.value for name, each in estimates.items()}
        errors = {f"{name}_stderr": each.stderr for name, each in estimates.items()}
        session.record(KIND, samples=num, **numbers, **errors)
        said = ", ".join(_said(self._quality.metrics[name], each) for name, each in estimates.items())
        session.console.print(f"step {session.step}  {said} ({num} samples)", style="bold", soft_wrap=True)

    def _measured(self, session: Session, num: int) -> dict[str, Estimate]:
        condition = session.conditions(num)
        with heeding_progress(session, "sampling to measure") as progress:
            images, _ = session.sampler(
                session.variables, session.key(Stream.SAMPLING), num, progress, condition=condition
            )
        return self._quality(images, (condition or {}).get(LABEL))


def _said(metric: Metric, estimate: Estimate) -> str:
    """Format a metric, such as "class accuracy 98.0 ± 0.4 %"."""
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{metric._replace(unit='').heading()} {metric.show(estimate.value)} ± {metric.show(estimate.stderr)}{unit}"
