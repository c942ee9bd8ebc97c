"""`python -m vdm.plots`: figures, or one line and status 2."""

import subprocess
import sys
from pathlib import Path

import pytest
from commands import error_line

from plots.picture import assert_is_picture
from vdm.plots import codec, samplers, theory
from vdm.programs.commands import plots as command


@pytest.mark.parametrize("figure", command.FIGURES)
@pytest.mark.parametrize("flags", [[], ["--gamma_min=-20", "--gamma_max=20"], ["--gamma_min=-3", "--gamma_max=-2"]])
@pytest.mark.filterwarnings("error")
def test_figures_are_written(tmp_path, capsys, figure, flags):
    path = tmp_path / "new" / "plot.png"
    command.main([figure, f"--out={path}", *flags])
    assert_is_picture(path)
    assert path.stat().st_size < 150_000
    assert capsys.readouterr().out.strip() == str(path)


def test_the_range_reaches_the_figures(tmp_path, monkeypatch):
    calls = []
    for name in command.FIGURES:
        module = {"trajectories": samplers, "codec": codec}.get(name, theory)
        monkeypatch.setattr(module, name, lambda *arguments, name=name: calls.append((name, *arguments)))
    monkeypatch.chdir(tmp_path)
    command.main(["schedules", "--gamma_min=-7", "--gamma_max", "3"])
    command.main(["weightings", "--gamma_min=-7", "--gamma_max=3"])
    command.main(["trajectories", "--gamma_min=-7", "--gamma_max=3"])
    command.main(["codec", "--gamma_min=-7", "--gamma_max=3"])
    assert [(name, str(path), *ends) for name, path, *ends in calls] == [
        ("schedules", "schedules.png", -7, 3),
        ("weightings", "weightings.png", -3, 7),
        ("trajectories", "trajectories.png", -7, 3),
        ("codec", "codec.png", -7, 3),
    ]


@pytest.mark.parametrize(
    ("flags", "mentions"),
    [
        ([], ["figure"]),
        (["curves"], ["'curves'", "schedules", "weightings", "trajectories"]),
        (["schedules", "--gamma_max=-14"], ["--gamma_min=-13.3 --gamma_max=-14", "-20 to 20"]),
        (["weightings", "--gamma_min=5"], ["--gamma_min=5 --gamma_max=5"]),
        (["schedules", "--gamma_min=nan"], ["--gamma_min", "'nan'"]),
        (["schedules", "--gamma_max=21"], ["--gamma_max=21", "-20 to 20"]),
        (["schedules", "--gamma_min=low"], ["--gamma_min", "'low'"]),
        (["schedules", "--gamma=3"], ["--gamma=3"]),
        (["schedules", "--out=plot.pdf"], ["--out=plot.pdf", ".png"]),
        (["schedules", "--out=file/plot.png"], ["--out=file/plot.png", "file: "]),
        (["weightings", "--out=folder.png"], ["--out=folder.png", "directory"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, monkeypatch, capsys, flags, mentions):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    line = error_line(command.main, flags, capsys)
    for mention in mentions:
        assert mention in line
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.png"}


def test_it_is_a_command():
    command = [sys.executable, "-m", "vdm.plots", "--helpfull"]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, cwd=root)
    for text in ("python -m vdm.plots", "schedules", "weightings", "--out", "--gamma_min", "-13.3"):
        assert text in result.stdout
