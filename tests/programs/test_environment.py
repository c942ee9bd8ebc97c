"""Programs in odd surroundings: they work, or say in one line what is wrong with them."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from vdm.errors import InputError, explained
from vdm.programs import environment, process

ROOT = Path(__file__).parents[2]


def run(*command: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=env, cwd=cwd, check=False)


# Each imports JAX in a process of its own.
@pytest.mark.parametrize(
    ("variables", "mentions"),
    [
        ({"XLA_FLAGS": "--xla_nonsense=1"}, ["XLA_FLAGS=--xla_nonsense=1", "Unknown flag"]),
        # The first device is asked for after that; XLA has no complaints of known flags.
        (
            {"XLA_FLAGS": "--xla_force_host_platform_device_count=1", "JAX_PLATFORMS": "cuda"},
            ["JAX_PLATFORMS=cuda", "no such devices"],
        ),
        ({"JAX_DEFAULT_PRNG_IMPL": "rbg"}, ["JAX_DEFAULT_PRNG_IMPL=rbg", "must not be set"]),
    ],
)
@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="a machine without a GPU")
def test_variables_that_cannot_be_worked_with(variables: dict[str, str], mentions: list[str]) -> None:
    result = run("-m", "vdm.verify", **variables)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for mention in mentions:
        assert mention in result.stderr


def test_a_program_where_everything_is_odd(tmp_path: Path) -> None:
    """No home, no places for caches, no docstrings, warnings that are errors, and names that mean nothing."""
    nowhere = {"HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "TMPDIR", "JAX_COMPILATION_CACHE_DIR"}
    variables = dict.fromkeys(nowhere, "/proc/nothing") | {
        "MPLBACKEND": "nonsense", "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "ascii", "COLUMNS": "1",
        "TERM": "dumb", "TZ": "Nowhere/Nothing", "PYTHONHASHSEED": "3",
    }  # fmt: skip
    path = tmp_path / "[bold]é.png"
    result = run("-OO", "-m", "vdm", "plots", "schedules", f"--out={path}", **variables)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{tmp_path}/[bold]\\xe9.png\n"
    assert path.exists()


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    source = f"import os; os.chdir({str(tmp_path / 'gone')!r}); os.rmdir(os.getcwd())\n"
    source += "from vdm.programs import process; process.run(lambda: 0)"
    result = run("-c", source)
    assert result.returncode == 2
    assert result.stderr.startswith("error: the working directory: No such file or directory")


def test_warnings_of_libraries_are_not_shown_and_ours_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    ours = str(ROOT / "vdm" / "bounds.py")
    environment._show_warning(RuntimeWarning("overflow\n in cast"), RuntimeWarning, ours, 3)
    environment._show_warning(DeprecationWarning("of JAX"), DeprecationWarning, ours, 3)
    environment._show_warning(UserWarning("a leaked semaphore"), UserWarning, warnings.__file__, 3)
    assert capsys.readouterr().err == "warning: overflow in cast\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("--T=x: must be"), "--T=x: must be"),
        (PermissionError(13, "Permission denied", "/a"), "/a: Permission denied"),
        (OSError(36, "File name too long", "aaa"), "aaa: File name too long"),
        (OSError(24, "Too many open files", "/a"), "too many open files; raise the limit, as with `ulimit -n 4096`"),
        (ImportError("libx.so: cannot open: Too many open files"), "too many open files; raise the limit, as with "),
        (MemoryError(), "out of memory"),
        (RecursionError("maximum depth"), "nested too deeply: maximum depth"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "out of memory of a device: RESOURCE_EXHAUSTED"),
        (RuntimeError("XLA: No space left on device"), "the disk is full"),
        (KeyError("a bug"), None),
        (AssertionError(), None),
    ],
)
def test_what_is_no_bug_is_one_line(error: Exception, line: str | None) -> None:
    said = explained(error)
    assert said == line if line is None else said is not None and said.startswith(line)


def test_an_error_that_names_a_variable_is_of_that_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ValueError("invalid truth value 'maybe' for environment 'JAX_ENABLE_X64'")
    assert process._line(error) is None
    monkeypatch.setenv("JAX_ENABLE_X64", "maybe")
    assert process._line(error) == f"JAX_ENABLE_X64=maybe: {error}"
