"""The package's own checks and tests on this device, run as a user would run them."""

import os
import re
import subprocess
import sys
import time

from accelerator_parts.cases import ROOT
from accelerator_parts.figures import Figures

TESTS = [
    "tests/networks",
    "tests/training/test_step.py",
    "tests/samplers/test_all.py",
    "tests/samplers/test_loop.py",
    "tests/probability_flow/test_flow.py",
    "tests/test_gaussian.py",
    "tests/test_bounds.py",
    "tests/test_schedules.py",
    "tests/test_predictions.py",
]
"""Tests that depend on the device, except those that need eight devices."""
WORKERS = 6


def verify(figures: Figures) -> None:
    """Run `python -m vdm.verify`, which checks every closed form on this device with its own tolerances."""
    text, status, seconds = _run([sys.executable, "-m", "vdm.verify"])
    figures.add(exit_status=status, program_seconds=seconds, said=text.splitlines()[-40:])


def tests(figures: Figures) -> None:
    """Run `TESTS` by pytest in true float32, because their tolerances are those of a CPU."""
    files = ["tests/test_gaussian.py"] if figures.small else TESTS
    options = ["-q", "-o", "addopts=", "-p", "no:cacheprovider", "-m", "not slow", "--tb=line"]
    workers = [] if figures.small else ["-n", str(WORKERS), "--dist", "loadfile"]
    text, status, seconds = _run(
        [sys.executable, "-m", "pytest", *options, *workers, *files],
        # Several processes share the device's memory, so none may preallocate it.
        XLA_PYTHON_CLIENT_PREALLOCATE="false",
        JAX_DEFAULT_MATMUL_PRECISION="float32",
    )
    lines = text.splitlines()
    counts = {name: int(number) for number, name in re.findall(r"(\d+) (passed|failed|error|skipped)", lines[-1])}
    failed = [line[:200] for line in lines if line.startswith(("FAILED", "ERROR"))]
    figures.add(exit_status=status, program_seconds=seconds, **counts, not_passed=failed)
    if not counts:
        figures.add(said=lines[-10:])


def _run(command: list[str], **environment: str) -> tuple[str, int, float]:
    begin = time.perf_counter()
    env = os.environ | {"COLUMNS": "120", **environment}
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.stdout.decode(errors="replace") or " ", done.returncode, time.perf_counter() - begin
