"""The files of a run that say what was measured of it."""

from pathlib import Path
from typing import Any

from vdm.data import Dataset
from vdm.evaluation.bound import PRECISION, Evaluation
from vdm.evaluation.planned import Plan
from vdm.runs.folder import write_json


def write_evaluation(
    path: Path,
    evaluation: Evaluation,
    dataset: Dataset,
    step: int,
    name: str = "evaluation.json",
    plan: Plan | None = None,
) -> None:
    """evaluation.json: the numbers, what they are numbers of, and how many draws were planned, if they were."""
    planned = {} if plan is None else {"plan": plan.to_dict()}
    write_json(path / name, evaluation.to_dict() | measured(dataset, step) | planned)


def measured(dataset: Dataset, step: int) -> dict[str, Any]:
    """What the numbers of an evaluation are numbers of."""
    return {
        "data": dataset.info.to_dict(),
        "split": "test",
        "precision": f"float32 ({PRECISION})",
        "checkpoint_step": step,
        "weights": "ema",
    }
