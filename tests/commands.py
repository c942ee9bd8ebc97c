"""Programs, called in this process or in one of their own."""

import os
from collections.abc import Callable, Sequence

import pytest


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
