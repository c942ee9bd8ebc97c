"""Programs, called in this process or in one of their own."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# To import JAX and the rest takes two seconds of a processor, which most programs here need for nothing else: they are
# forks of a process that has done it. It has no devices yet; a program gets them as ever, when it asks.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["vdm.programs.train", "vdm.programs.evaluate", "vdm.programs.sample", "vdm.comparisons"])


def error_line(main: Callable[[Sequence[str]], None], argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that bad input gets, with exit status 2 and nothing else printed."""
    with pytest.raises(SystemExit) as exit_info:
        main(argv)
    assert exit_info.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def environment(num_devices: int | None = None, **more: str) -> dict[str, str]:
    """That of a program in its own process, compiled as here: for so many devices, or as many as it takes itself."""
    count = "" if num_devices is None else f"--xla_force_host_platform_device_count={num_devices}"
    flags = os.environ["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=8", count)
    return os.environ | {"XLA_FLAGS": flags} | more


def start(program: str, *args: str | Path, stdout: Path, stderr: Path, cwd: Path = ROOT) -> BaseProcess:
    """Starts a program at the top of the repository in its own process, on two devices."""
    argv = [str(ROOT / program), *map(str, args)]
    process = _FORKS.Process(target=_run, args=(argv, cwd, environment(2), stdout, stderr))
    process.start()
    return process


def run(program: str, *args: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Runs such a program to its end."""
    with tempfile.TemporaryDirectory() as folder:
        printed = [Path(folder, name) for name in ("stdout", "stderr")]
        process = start(program, *args, stdout=printed[0], stderr=printed[1], cwd=cwd)
        process.join(timeout=300)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(program, 300)
        return subprocess.CompletedProcess(program, process.exitcode, *(path.read_text() for path in printed))


def _run(argv: list[str], cwd: Path, env: dict[str, str], stdout: Path, stderr: Path) -> None:
    """Of the fork: what `python PROGRAM …` does."""
    for path, stream in ((stdout, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = argv
    sys.path.insert(0, str(Path(argv[0]).parent))
    runpy.run_path(argv[0], run_name="__main__")
