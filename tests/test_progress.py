"""How far a job is: bars on a terminal, lines now and then elsewhere."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from vdm import progress
from vdm.progress import Passes, duration, progress_of


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, to be set."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_is_by_the_pace_since_the_first_report(clock: list[float]) -> None:
    job = progress._Job()
    clock[0] += 40
    assert job.account() == "0:40 so far"
    # Half is there from an earlier session, and 40 seconds were for compiling.
    job(500, 1000)
    assert job.account() == "500/1000, 0:40 so far"
    clock[0] += 10
    job(600, 1000)
    assert job.account() == "600/1000, 0:40 left"


def test_a_second_part_of_a_job_has_its_own_pace(clock: list[float]) -> None:
    job = progress._Job()
    for done, total, seconds in ((10, 20, 100), (20, 20, 1), (2, 100, 10), (12, 100, 0)):
        job(done, total)
        clock[0] += seconds
    assert job.account() == "12/100, 1:28 left"


def test_a_new_note_stands_for_a_line(clock: list[float]) -> None:
    job = progress._Job()
    job(1, 10, "slow")
    assert job.account() == ""
    assert job.account() == "1/10, 0:00 so far"
    job(2, 10, "fast")
    assert job.account() == ""


def test_passes_are_one_line_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, ...]] = []

    @contextmanager
    def said(console: Console, what: str) -> Iterator[object]:
        shown.append((what, "begins"))
        yield lambda done, total: shown.append((what, f"{done}/{total}"))
        shown.append((what, "ends"))

    monkeypatch.setattr(progress, "progress_of", said)
    passes = Passes(Console(quiet=True))
    for _ in range(2):
        shown.clear()
        with passes:
            passes("real images", 1, 2)
            passes("real images", 2, 2)
            passes("samples", 1, 1)
        real, samples = "real images", "samples"
        assert shown == [
            (real, "begins"), (real, "1/2"), (real, "2/2"), (real, "ends"),
            (samples, "begins"), (samples, "1/1"), (samples, "ends"),
        ]  # fmt: skip


def wait_for(text: str, out: io.StringIO) -> None:
    deadline = time.monotonic() + 60
    while text not in out.getvalue():
        assert time.monotonic() < deadline, out.getvalue()
        time.sleep(0.01)


def test_without_a_terminal_there_are_lines_even_while_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.01)
    out = io.StringIO()
    with progress_of(Console(file=out, width=20), "sampling [red]runs/a[1]") as report:
        wait_for("sampling [red]runs/a[1]: 0:00 so far\n", out)
        report(3, 10)
        wait_for("sampling [red]runs/a[1]: 3/10, ", out)
    said = out.getvalue()
    time.sleep(0.05)
    assert out.getvalue() == said


def test_a_short_job_says_nothing_without_a_terminal() -> None:
    out = io.StringIO()
    with progress_of(Console(file=out), "sampling") as report:
        report(1, 1)
    assert out.getvalue() == ""


def test_bars_are_nested_and_gone_afterwards() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with progress_of(console, "training [red]") as training:
        training(1, 10, "7 images/s [b]")
        with progress_of(console, "evaluating") as evaluating:
            evaluating(2, 5)
            for text in ("training [red]", "7 images/s [b]", "evaluating", "2/5"):
                wait_for(text, out)
        console.print("a line")
    assert "a line" in out.getvalue()


def test_a_failure_ends_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.01)
    out = io.StringIO()
    with pytest.raises(KeyError), progress_of(Console(file=out), "sampling"):
        raise KeyError
    said = out.getvalue()
    time.sleep(0.05)
    assert out.getvalue() == said


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (307.0, "5:07"), (3907.0, "1:05:07")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
