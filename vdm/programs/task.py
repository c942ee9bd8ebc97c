"""What a run trains: all that the training loop needs besides config, data and hooks."""

from collections.abc import Callable
from typing import Any, NamedTuple

from vdm.training.task import Objective, Trainable


class Task(NamedTuple):
    """A model with the objective to minimize; `vdm.programs.loop.run` is the loop that trains any task."""

    model: Trainable
    """The model in float32."""
    for_training: Trainable
    """The same model, with the same variables, in the precision of training steps (`training.precision`)."""
    objective: Objective
    evaluate: Callable[[Any, str, int, int], Any]
    """(session, kind, draws per image, number of images at most or 0) -> evaluation of the moving average.

    It also prints the evaluation and records it as `kind`: "evaluation" during training, "final" after the last step.
    The evaluation's `to_dict()` is written to evaluation.json; the lower its `total`, the better the checkpoint.
    """
