"""Out-of-memory errors of a device, as one line that says which settings to change."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

from vdm.errors import InputError, one_line

TRAINING = (
    "raise config.training.accumulate or training.fsdp, set network.remat=True or training.precision=bfloat16, or "
    "lower training.batch_size"
)
EVALUATION = "lower config.evaluation.batch_size"
SAMPLING = "lower config.sampling.batch_size"
FEATURES = "lower config.evaluation.batch_size (--batch_size of vdm metrics)"


@contextmanager
def guarded(what: str, remedy: str) -> Iterator[None]:
    """Turn XLA's out-of-memory error while `what` is compiled or run into an `InputError` with the remedy.

    Devices run ahead of Python, so the body should wait for its values.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        why = one_line(error)[:160].rstrip(" .:")
        raise InputError(f"{what} does not fit into the memory of a device ({why}): {remedy}") from error
