"""The commands on `vdm:NAME`: they work as on a run, and what they make goes to runs/vdm_NAME, never to models/."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, error_line, run
from own_files import pixels

from vdm.programs.commands import compress, decompress, edit, report
from vdm.report.numbers import with_error
from vdm.runs.companions import open_companions
from vdm.runs.open import open_run

MODEL = ROOT / "models" / "digits"


@pytest.fixture(autouse=True)
def _untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The model's folder is the same afterwards, to the byte and the time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VDM_MODELS", str(MODEL.parent))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in MODEL.rglob("*")}
    yield
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in MODEL.rglob("*")} == before


def test_evaluate_and_sample(tmp_path: Path) -> None:
    few = ("--config.evaluation.draws=1", "--config.evaluation.max_images=5", "--config.evaluation.batch_size=6")
    result = run("evaluate.py", "--workdir=vdm:digits", "--T=2", *few, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    [written] = (tmp_path / "runs" / "vdm_digits" / "evaluations").glob("*.json")
    command = json.loads(written.read_text())["command"]
    assert command[1:3] == ["--workdir=vdm:digits", "--T=2"]
    result = run("sample.py", "--workdir=vdm:digits", "--num=2", "--steps=2", "--out=mine", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "mine" / "samples").glob("*.png"))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "runs"]


def test_what_is_not_there_and_what_is_only_read(tmp_path: Path) -> None:
    for program, argument, says in (
        ("evaluate.py", "--workdir=vdm:digit", "did you mean vdm:digits?"),
        ("train.py", "--workdir=vdm:digits", "is a released model, which is only read"),
        ("train.py", "--init_from=vdm:digit", "did you mean vdm:digits?"),
    ):
        result = run(program, argument, cwd=tmp_path)
        assert result.returncode == 2
        assert result.stderr.count("\n") == 1
        assert says in result.stderr
    assert not (tmp_path / "vdm:digits").exists()


def test_a_compressed_file_knows_its_model(tmp_path: Path) -> None:
    compress.main(["--run=vdm:digits", "--out=two.vdm", "--data=test", "--num=2", "--T=2", "--batch_size=2"])
    decompress.main(["two.vdm", "--out=back", "--npz"])
    with np.load(tmp_path / "back" / "images.npz") as file:
        [images] = [file[name] for name in file.files if name == "images"]
    # Which two of the test images is decided by chance.
    there = pixels(open_run("vdm:digits").dataset.test)
    assert [np.all(there == image, axis=(1, 2, 3)).any() for image in images] == [True, True]


def test_edit(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", images=np.zeros((1, 8, 8, 1), np.uint8))
    edit.main(["--run=vdm:digits", "--image=one.npz", "--strength=0.5", "--steps=2", "--draws=1"])
    assert len(list((tmp_path / "runs" / "vdm_digits" / "edits").glob("*.npz"))) == 1


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It shows the card, beside images of the data."""
    report.main(["vdm:digits"])
    assert capsys.readouterr().out == "runs/vdm_digits/report.html\n"
    text = (tmp_path / "runs" / "vdm_digits" / "report.html").read_text()
    card = json.loads((MODEL / "card.json").read_text())
    for bound in card["bounds"]:
        assert with_error(bound["bits_per_dim"], bound["stderr"], "bits/dim") in text
    for metric in card["metrics"]:
        assert with_error(metric["value"], metric["stderr"], metric["unit"] or "") in text
    assert "vdm evaluate --workdir=vdm:digits" in text
    assert 'alt="Examples of the test data of vdm:digits"' in text
    assert "not finished" not in text


def test_companions(capsys: pytest.CaptureFixture[str]) -> None:
    opened = open_run("vdm:digits")
    with pytest.raises(ValueError, match="is step 2500, the model itself; must be another checkpoint or run"):
        open_companions(opened, "autoguidance(1.0, weak='oldest')")
    with pytest.raises(
        ValueError, match=r"runs/vdm_digits/classifier: no such folder; vdm classifier --run=vdm:digits"
    ):
        open_companions(opened, "classifier(1.0)")
    assert "no such released model" in error_line(compress.main, ["--run=vdm:no", "--out=x.vdm", "--data=test"], capsys)
