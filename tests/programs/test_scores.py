"""evaluate.py --metrics and `vdm metrics`: what is drawn, measured, written and refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import error_line
from conftest import Make
from grey import grey, pixels_of
from PIL import Image

from vdm import data, parts
from vdm.errors import InputError
from vdm.programs.asked import Asked, names_of
from vdm.programs.commands import metrics as command
from vdm.programs.score_samples import score_samples
from vdm.runs import shards

LEVELS, SHAPE = 17, (4, 4, 1)


def noise(num: int, seed: int, high: int = LEVELS) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(seed).integers(0, high, (num, *SHAPE)).astype(np.uint8)}


DATA = data.in_memory(noise(30, 0), noise(6, 1), levels=LEVELS, name="noise")
BLACK = data.in_memory(noise(30, 0, 1), noise(6, 1, 1), levels=LEVELS, name="black")


@pytest.fixture(autouse=True)
def metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parts.PARTS["metric"], "grey", grey)


def exact(images: np.ndarray) -> float:
    real = pixels_of(DATA.train.source.arrays["image"], LEVELS)
    return float(abs(pixels_of(images, LEVELS).mean() - real.mean()))


def test_samples_are_drawn_measured_and_told(make: Make) -> None:
    sample = make(data=DATA)
    found = score_samples(sample, Asked(["grey"]))
    images = np.concatenate(list(shards.read(sample.stem)))
    assert len(images) == 10
    np.testing.assert_allclose(found["grey"].estimate.value, exact(images), rtol=1e-4)
    record = json.loads((sample.stem / "metrics.json").read_text())
    assert record["metrics"]["grey"]["value"] == found["grey"].estimate.value
    assert record["metrics"]["grey"]["extractor"] == "pixels of 17 levels"
    assert (record["of"]["num"], record["of"]["num_real"], record["of"]["samples"]["seed"]) == (10, 30, 0)
    value = f"{found['grey'].estimate.value:.3f} ± {found['grey'].estimate.stderr:.3f}"
    assert f"| {sample.stem.name} | {value} |" in (sample.stem / "metrics.md").read_text()
    assert "10 images" in sample.console.file.getvalue()


def test_other_metrics_of_the_same_images_stay_and_nothing_is_drawn_or_seen_twice(make: Make) -> None:
    first = score_samples(make(data=DATA), Asked(["grey"]))
    sample = make(data=DATA)
    score_samples(sample, Asked(["mmd"]))
    record = json.loads((sample.stem / "metrics.json").read_text())
    assert set(record["metrics"]) == {"grey", "mmd"}
    assert record["metrics"]["grey"]["value"] == first["grey"].estimate.value
    assert "drew 0 images, 10 existed already" in sample.console.file.getvalue()
    # Of more images, the numbers of fewer go.
    more = make(data=DATA, num=12)
    score_samples(more, Asked(["mmd"]))
    assert set(json.loads((more.stem / "metrics.json").read_text())["metrics"]) == {"mmd"}


def test_too_few_images_are_refused_before_anything_is_drawn(make: Make) -> None:
    sample = make(data=DATA)
    with pytest.raises(InputError, match=r"^--metrics: memorization: images: 10 of them; must be 100"):
        score_samples(sample, Asked(["grey", "memorization"]))
    assert not sample.stem.exists()


def test_samples_that_are_there_are_named(make: Make) -> None:
    sample = make(data=DATA)
    drawn = score_samples(sample, Asked(["grey"]))
    again = score_samples(make(data=DATA, num=4), Asked(["grey"]), samples=sample.stem.name)
    assert again["grey"].estimate.value == drawn["grey"].estimate.value
    with pytest.raises(InputError, match="nothing: has no shard_"):
        score_samples(make(data=DATA), Asked(["grey"]), samples="nothing")
    with pytest.raises(InputError, match="photos32: has images of 256 levels; must be of 17, as the others"):
        score_samples(make(data=DATA), Asked(["grey"]), samples=sample.stem.name, real="photos32")


def test_what_cannot_be_measured_is_refused_before_anything_is_drawn(make: Make) -> None:
    sample = make(data=BLACK)
    with pytest.raises(InputError, match="--metrics: mmd: real images: of 30 most pairs are equal"):
        score_samples(sample, Asked(["mmd"]))
    assert not sample.stem.exists()


def test_too_few_samples_are_refused_before_anything_is_drawn(make: Make) -> None:
    sample = make(data=DATA, num=10)
    with pytest.raises(InputError, match="--metrics: memorization: images: 10 of them; must be 100 or more"):
        score_samples(sample, Asked(["grey", "memorization"]))
    assert not sample.stem.exists()


def test_beside_statistics_the_runs_own_data_are_not_read(make: Make, tmp_path: Path) -> None:
    np.savez(tmp_path / "real.npz", mu=np.zeros(16), sigma=np.eye(16))
    # The run's own data cannot be read.
    sample = make()
    sample.run.config.data.name = "nowhere"
    found = score_samples(sample, Asked(["frechet"]), real=str(tmp_path / "real.npz"))
    assert np.isfinite(found["frechet"].estimate.value)
    first = json.loads((sample.stem / "metrics.json").read_text())["of"]
    assert first["num_real"] is None
    # Other statistics of the same name are others.
    np.savez(tmp_path / "real.npz", mu=np.ones(16), sigma=np.eye(16), num=40)
    score_samples(sample, Asked(["frechet"]), real=str(tmp_path / "real.npz"))
    again = json.loads((sample.stem / "metrics.json").read_text())["of"]
    assert (again["num_real"], again["real"] == first["real"]) == (40, False)


@pytest.mark.parametrize(
    ("text", "problem"), [("grey,nix", "metric='nix': must be one of"), ("grey, grey()", "grey is listed twice")]
)
def test_other_names_are_refused(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        names_of(text)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npz file, a folder of pictures, and one of another size, seen from their folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("a.npz", images=rng.integers(0, 256, (30, 6, 5, 3)).astype(np.uint8))
    for name, size in (("b", (6, 5, 3)), ("other", (4, 4, 3))):
        Path(name).mkdir()
        for k in range(20):
            Image.fromarray(rng.integers(0, 256, size).astype(np.uint8)).save(f"{name}/{k}.png")
    return tmp_path


def test_any_images_are_scored_against_any_others(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["score", "b", "a.npz", "--metrics=grey,mmd", "--out=scores"])
    assert "b: 20 images" in capsys.readouterr().out
    assert json.loads(Path("scores/metrics.json").read_text())["of"]["num_real"] == 30
    found = json.loads(Path("scores/metrics.json").read_text())["metrics"]
    b = np.stack([np.asarray(Image.open(f"b/{k}.png")) for k in range(20)])
    a = np.load("a.npz")["images"]
    expected = abs(pixels_of(a, 256).mean(dtype=np.float64) - pixels_of(b, 256).mean(dtype=np.float64))
    np.testing.assert_allclose(found["grey"]["value"], expected, rtol=1e-3)


def test_statistics_are_made_and_told_from_images(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["statistics", "a.npz", "--extractor=pixels", "--out=a_statistics.npz"])
    assert "90 features (values of pixels of 256 levels) of 30 images" in " ".join(capsys.readouterr().out.split())
    argv = ["score", "b", "a_statistics.npz", "--metrics=mmd"]
    assert "mmd: real images: only their mean and covariance are known" in error_line(command.main, argv, capsys)
    argv = ["statistics", "a_statistics.npz", "--extractor=pixels", "--out=again.npz"]
    assert "a_statistics.npz: is a file of statistics already; must name images" in error_line(
        command.main, argv, capsys
    )


def test_samples_of_other_levels_than_the_real_images_are_refused(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run/samples/drawn").mkdir(parents=True)
    Path("run/run.json").write_text(json.dumps({"data": {"levels": 17}}))
    np.savez("run/samples/drawn/shard_00000.npz", images=np.ones((4, 6, 5, 3), np.uint8))
    argv = ["score", "run/samples/drawn", "a.npz", "--metrics=mmd"]
    assert "drawn: has images of 17 levels; must be of 256, as the real ones" in error_line(command.main, argv, capsys)


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["score", "other", "a.npz", "--metrics=mmd"], r"samples: are uint8 (4, 4, 3); pixels needs uint8 (6, 5, 3)"),
        (["score", "nix", "a.npz", "--metrics=mmd"], "unknown data set 'nix'"),
        (["score", "b", "a.npz", "--metrics=nix"], "--metrics=nix: metric='nix': must be one of"),
        (["score", "b", "a.npz", "--metrics=memorization"], "memorization: images: 20 of them; must be 100 or more"),
        (["score", "b", "a.npz"], "the following arguments are required: --metrics"),
        (["score", "b", "digits", "--metrics=mmd"], "b: has images of 256 levels; must be of 17"),
        (["score", "b", "a.npz", "--metrics=mmd", "--batch_size=0"], "--batch_size=0: must be from 1"),
        (["statistics", "b", "--extractor=nix", "--out=b.npz"], "--extractor=nix: extractor='nix': must be one of"),
        (["statistics", "b", "--extractor=pixels", "--out=b.txt"], "--out=b.txt: must end in .npz"),
        (["nix"], "invalid choice: 'nix'"),
    ],
)
def test_bad_input_is_one_line(files: Path, argv: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert problem in error_line(command.main, argv, capsys)
    assert not Path("b.npz").exists()


@pytest.mark.parametrize("action", ["score", "statistics", "convert"])
def test_help_of_an_action_names_it(
    action: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["vdm metrics", action, "--help"])
    with pytest.raises(SystemExit):
        command.main()
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: vdm metrics {action} [--help]")
    assert f"example: vdm metrics {action} " in printed
    assert len(printed.splitlines()) < 40
