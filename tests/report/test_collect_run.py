"""`vdm.report.collect`: what is in a run's folder, and what of it is missing or damaged."""

import json
from pathlib import Path

import made_runs
import pytest

from vdm.errors import InputError
from vdm.files import write_json
from vdm.report import Collected, collect, page
from vdm.report.pictures import MOST_BYTES, evenly, picture


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made_runs.make_run(tmp_path / "digits")


def test_a_finished_run(run: Path) -> None:
    found = collect(run)
    assert found.finished
    assert found.steps == found.steps_in_all == made_runs.STEPS
    assert [frame.title for frame in found.samples] == ["step 100", "step 200", "the end of training"]
    assert found.evaluation["bits_per_dim"]["total"] == 1.8304
    # Every log line is of the same speed: steps × batch / speed.
    assert found.seconds == pytest.approx(made_runs.STEPS * 16 / 800)
    assert found.missing == ["There is no checkpoint: nothing can be evaluated or sampled yet."]


def test_a_run_in_the_middle(tmp_path: Path) -> None:
    found = collect(made_runs.make_run(tmp_path / "run", done=False))
    assert not found.finished
    assert found.steps == made_runs.STEPS // 2
    assert "200 of 400 steps" in page([found])


FILES = ("config.json", "run.json", "metrics.jsonl", "evaluation.json", "plots/curves.json", "samples/final.png",
         "plots/data.png")  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b'{"training": 3}', b"\xff\xfe\x00", b'{"a": {"b": [{}]}}'])
def test_damage_of_one_file_is_said_and_the_rest_is_shown(run: Path, name: str, content: bytes) -> None:
    (run / name).write_bytes(content)
    found = collect(run)
    text = page([found, collect(made_runs.make_run(run.parent / "other"))])
    assert "digits" in text
    if content in (b"{", b"\xff\xfe\x00") and name.endswith(".json"):
        assert any(name in line for line in found.missing), found.missing


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there(run: Path, name: str) -> None:
    (run / name).unlink()
    assert "digits" in page([collect(run)])


@pytest.mark.parametrize(
    "values",
    [
        {"bits_per_dim": 3, "accuracy": [1], "images": None},
        {"bits_per_dim": {"total": "high", "stderr": -1}, "checkpoint_step": "last", "num_steps": {}},
        {"accuracy": {"mean": 0.9, "stderr": None}, "kind": 7, "lines": [{"iid": 1}]},
    ],
)
def test_evaluations_of_any_form(run: Path, values: dict[str, object]) -> None:
    write_json(run / "evaluation.json", values)
    (run / "evaluations").mkdir()
    write_json(run / "evaluations" / "odd.json", values)
    (run / "samples" / "set").mkdir()
    write_json(run / "samples" / "set" / "metrics.json", {"metrics": {"fid": values, "kid": 3}, "of": []})
    write_json(run / "plots" / "curves.json", {"schedule": {"t": [0, 1], "gamma": "up"}, "times": [1]})
    write_json(run / "run.json", {"data": 3, "sessions": [3, {"command": 3, "devices": [], "versions": None}]})
    assert "odd" in page([collect(run)])


@pytest.mark.parametrize("line", ['{"kind": "train", "step": 410, "bits_per_dim": NaN}', '{"kind": "train"}', "{"])
def test_a_line_of_the_logs_that_is_no_record(run: Path, line: str) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    assert "NaN" not in page([collect(run)])


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config\.json, so it is not a run"):
        collect(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        collect(tmp_path / "nothing")


def test_the_config_of_run_json_stands_in(run: Path) -> None:
    before = collect(run).config
    (run / "config.json").unlink()
    assert collect(run).config == before


def test_pictures_of_old_runs_stand_in_for_curves(run: Path) -> None:
    made_runs.draw(run / "plots" / "schedule.png", 3)
    assert collect(run).plots == {}
    (run / "plots" / "curves.json").unlink()
    assert set(collect(run).plots) == {"schedule"}


def test_large_pictures_are_shrunk(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    found = picture(tmp_path / "noise.png", "noise")
    assert (found.width, found.height) == (1200, 900)
    assert len(found.uri) < 1.4 * MOST_BYTES


def test_frames_are_spread_evenly() -> None:
    files = [Path(str(k)) for k in range(50)]
    kept = evenly(files, 12)
    assert (len(kept), kept[0], kept[-1]) == (12, files[0], files[-1])
    assert len(set(kept)) == 12


def test_collected_alone_makes_a_page() -> None:
    assert "a model whose config is lost" in page([Collected(Path("nothing"))])


def test_records_stay_as_they_are(run: Path) -> None:
    """Reading writes nothing."""
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    page([collect(run)])
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    assert json.loads((run / "config.json").read_text())["data"]["name"] == "digits"
