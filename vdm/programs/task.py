"""What a run trains: all that the training loop has to be told beside config, data and hooks."""

from collections.abc import Callable
from typing import Any, NamedTuple

from vdm.training.task import Objective, Trainable


class Task(NamedTuple):
    """A model and what is minimised of it; `vdm.programs.loop.run` is the loop that trains any."""

    model: Trainable
    """Computed in float32, as it is evaluated."""
    for_training: Trainable
    """The same, of the same variables, as steps compute it: in `training.precision`."""
    objective: Objective
    evaluate: Callable[[Any, str, int, int], Any]
    """(session, kind, draws an image, most images or 0) -> an evaluation of the moving average, once it is on the
    console and, as records of this kind, in the logs: "evaluation" while training, "final" after the last step.

    Its `to_dict()` is what evaluation.json has of it, and its `total` is less the better the checkpoint.
    """
