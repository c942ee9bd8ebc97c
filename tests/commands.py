"""The commands `python -m vdm.…`, called in this process."""

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
