"""What programs print, to streams of any encoding, that are full, closed, or left by their reader; without JAX."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from vdm.programs import streams

PROGRAM = """
import os, sys
from vdm.programs import process
{definition}
process.run(program)
"""
PRINTS = """
def program():
    print("1.85 ± 0.01 at T = ∞, γ₀ = −13.3", flush=True)
    os.write(3, b"the work is done")
"""


def run(shell: str = "", definition: str = PRINTS, **environment: str) -> tuple[int, bytes, bytes, bytes]:
    """Exit status, stdout, stderr, and what the program wrote to a file that is none of these, its fourth."""
    source = PROGRAM.format(definition=definition)
    reader, writer = os.pipe()
    command = ["bash", "-c", f'exec 3>&{writer}; "$0" -c "$1" {shell}', sys.executable, source]
    env = os.environ | environment
    result = subprocess.run(command, capture_output=True, env=env, pass_fds=[writer], check=False)
    os.close(writer)
    with open(reader, "rb") as pipe:
        return result.returncode, result.stdout, result.stderr, pipe.read()


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "1.85 ± 0.01 at T = ∞, γ₀ = −13.3\n".encode()),
        ("ascii", b"1.85 +- 0.01 at T = inf, gamma0 = -13.3\n"),
        ("latin-1", b"1.85 \xb1 0.01 at T = inf, gamma0 = -13.3\n"),
    ],
)
def test_what_an_encoding_lacks_is_spelled_out(encoding: str, text: bytes) -> None:
    assert run(PYTHONIOENCODING=encoding) == (0, text, b"", b"the work is done")


def test_names_of_files_can_be_typed_again() -> None:
    """Also such as are no UTF-8, in UTF-8."""
    definition = "def program(): print('caf\\xe9', 'caf\\udce9')"
    assert run(definition=definition, PYTHONIOENCODING="ascii")[1] == b"caf\\xe9 caf\\udce9\n"
    assert run(definition=definition, PYTHONIOENCODING="utf-8")[1] == b"caf\xc3\xa9 caf\\udce9\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
def test_full_stdout_ends_no_work_and_is_said_at_the_end() -> None:
    said = b"error: what was printed is lost: stdout: No space left on device\n"
    assert run(">/dev/full") == (2, b"", said, b"the work is done")
    assert run("2>/dev/full") == (0, "1.85 ± 0.01 at T = ∞, γ₀ = −13.3\n".encode(), b"", b"the work is done")


def test_a_reader_that_leaves_ends_no_work() -> None:
    """The status is the one of programs that SIGPIPE ends."""
    definition = PRINTS.replace("    os.write", "    for i in range(10000): print(i)\n    os.write")
    status, first, said, work = run("| head -1; exit ${PIPESTATUS[0]}", definition)
    assert (status, said, work) == (141, b"", b"the work is done")
    assert first == "1.85 ± 0.01 at T = ∞, γ₀ = −13.3\n".encode()


def test_no_file_gets_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """Else what a library prints would be in a checkpoint."""
    path = tmp_path / "file"
    definition = f"""
def program():
    with open({str(path)!r}, "w") as file:
        assert file.fileno() > 3
        print("on stdout"); print("on stderr", file=sys.stderr); os.write(1, b"from C"); file.write("in the file")
    os.write(3, b"the work is done")
"""
    assert run("<&- >&- 2>&-", definition) == (0, b"", b"", b"the work is done")
    assert path.read_text() == "in the file"


def test_a_console_prints_text_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a screen that is one column wide."""
    monkeypatch.setenv("COLUMNS", "1")
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    console = streams.make_console()
    line = "wrote runs/[bold]a[/b]/:smile:/" + "long/" * 40
    console.print(line)
    assert out.getvalue() == line + "\n"
    table = Table("[/name]", title=":smile:[red]")
    table.add_row("[/]" + 20 * "-")
    console.print(table, soft_wrap=False)
    for text in ("[/name]", ":smile:[red]", "[/]"):
        assert text in out.getvalue()
