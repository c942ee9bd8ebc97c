"""Traces of training steps: which steps, where they are, and what is said."""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from vdm.errors import InputError
from vdm.programs.profile import Profile, parse_traced_steps


def test_steps_are_read_or_refused() -> None:
    assert parse_traced_steps("10:20") == (10, 20)
    assert parse_traced_steps("3:3") == (3, 3)
    for text in ("", "5", "5:", ":5", "0:3", "7:5", "a:b", "1:2:3", "-1:4", "²:3"):
        with pytest.raises(InputError, match=r"--profile_steps=.*must be FIRST:LAST"):
            parse_traced_steps(text)


def run(folder: Path, steps: tuple[int, int] | None, first: int, last: int) -> str:
    """What is printed by a run of these steps."""
    out = io.StringIO()
    with Profile(folder, steps, Console(file=out, width=500)) as profile:
        for n in range(first, last + 1):
            with profile.steps(n):
                value = jnp.float32(n) + 1
            profile.after(n, value)
    return out.getvalue()


def test_the_steps_asked_for_are_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The trace itself is real in tests/programs/test_train.py.
    calls: list[str] = []

    def stop() -> None:
        calls.append("stop")
        (tmp_path / "perfetto_trace.json.gz").touch()

    monkeypatch.setattr(jax.profiler, "start_trace", lambda *args, **options: calls.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", stop)
    monkeypatch.setattr(jax.profiler, "StepTraceAnnotation", lambda name, step_num: _Noted(calls, step_num))
    assert "steps 3 to 5: " in run(tmp_path, (3, 5), 1, 9)
    assert calls == ["start", "3", "4", "5", "stop"]
    calls.clear()
    # Resumed within them, and ended within them.
    assert "steps 4 to 5: " in run(tmp_path, (3, 5), 4, 9)
    assert "steps 3 to 4: " in run(tmp_path, (3, 5), 1, 4)
    assert calls == ["start", "4", "5", "stop", "start", "3", "4", "stop"]
    calls.clear()
    assert "none of these steps was run" in run(tmp_path, (3, 5), 6, 9)
    assert run(tmp_path, None, 1, 9) == ""
    assert calls == []


class _Noted:
    def __init__(self, calls: list[str], number: int):
        self.calls, self.number = calls, number

    def __enter__(self) -> None:
        self.calls.append(str(self.number))

    def __exit__(self, *error: object) -> None:
        pass
