"""--profile_steps: a trace of some training steps."""

import contextlib
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from rich.console import Console

from vdm import parallel
from vdm.errors import InputError
from vdm.reading import whole
from vdm.settings import MAX_INT


def parse_traced_steps(text: str) -> tuple[int, int]:
    """Parse "10:20" as the first and last step to trace, both included. Raises `InputError` for anything else."""
    words = text.split(":")
    try:
        first, last = (whole(word, 1, MAX_INT) for word in words)
        if last < first:
            raise ValueError(f"{last} is before {first}")
    except ValueError as error:
        raise InputError(f"--profile_steps={text}: must be FIRST:LAST, two steps from 1 on, e.g. 10:20") from error
    return first, last


class Profile:
    """Traces the steps from first to last, on this process and its devices, into `folder`; None: no steps.

    A run that starts between them traces the rest; a run that does none of these steps prints a warning.
    """

    def __init__(self, folder: Path, steps: tuple[int, int] | None, console: Console):
        self._steps = steps
        self._folder, self._console = folder, console
        self._tracing, self._first, self._last = False, 0, 0

    def cuts(self, number: int) -> bool:
        """Return whether tracing starts or ends between step `number` and the next."""
        return self._steps is not None and number in (self._steps[0] - 1, self._steps[1])

    def steps(self, number: int, num_steps: int = 1) -> AbstractContextManager[Any]:
        """Return the context for `num_steps` steps from `number` (from 1) on; `cuts` may hold for the last one only."""
        # One process stands for all: they run the same program.
        if self._steps is None or not self._steps[0] <= number <= self._steps[1] or not parallel.is_main():
            return contextlib.nullcontext()
        if not self._tracing:
            # Beside the trace for XProf, one for Perfetto, which needs no installation.
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._tracing, self._first = True, number
        self._last = number + num_steps - 1
        return jax.profiler.StepTraceAnnotation("train", step_num=number)

    def after(self, number: int, value: Any) -> None:
        """End the trace if step `number` was the last one; waits for `value`, which that step computes."""
        if self._steps is None or number != self._steps[1]:
            return
        if self._tracing:
            jax.block_until_ready(value)
            self._stop()
        # Writing the trace takes longer than other processes would wait in their next step.
        parallel.meet("traced")

    def _stop(self) -> None:
        self._tracing = False
        jax.profiler.stop_trace()
        newest = max(
            self._folder.rglob("perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime, default=self._folder
        )
        self._console.print(
            f"traced steps {self._first} to {self._last}: open {newest} at https://ui.perfetto.dev, or "
            f"`pip install xprof` and `xprof --logdir={self._folder}`",
            soft_wrap=True,
        )

    def __enter__(self) -> "Profile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tracing:
            # The run was stopped or failed: a partial trace may still be useful.
            with contextlib.suppress(Exception):
                self._stop()
        elif self._steps is not None and self._first == 0 and error is None and parallel.is_main():
            first, last = self._steps
            self._console.print(
                f"warning: --profile_steps={first}:{last}: none of these steps was run, nothing is traced",
                style="yellow",
            )
