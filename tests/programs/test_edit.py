"""vdm edit and vdm restore at work, and what they refuse, on a run whose model is compiled in no time."""

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from commands import error_line
from PIL import Image
from toy_model import Toy

from vdm import parallel, parts
from vdm.config import Config, SamplingConfig, to_dict
from vdm.data import Dataset, in_memory
from vdm.evaluation.psnr import psnr
from vdm.files import write_json
from vdm.programs import editing
from vdm.programs.commands import edit, restore
from vdm.programs.restore import as_image
from vdm.runs.open import Run

SHAPE, LEVELS = (4, 4, 1), 17
Command = Callable[[list[str]], None]


def data() -> Dataset:
    train, test = ({"image": np.asarray(tiny.images(6, SHAPE, LEVELS, seed))} for seed in (0, 1))
    return in_memory(train, test, levels=LEVELS, name="tiny")


@pytest.fixture
def run(tmp_path: Path, variables: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that opens without a checkpoint."""
    config: Config = tiny.config()
    config.sampling = SamplingConfig(num=4, steps=3, batch_size=8, labels="all", guidance="classifier_free(2)")
    folder = tmp_path / "run"
    folder.mkdir()
    write_json(folder / "config.json", to_dict(config))
    write_json(folder / "run.json", {})
    toy = Toy(**vars(tiny.model()))

    def open_run(path: Path, checkpoint: str, kind: type) -> Run:
        return Run(path, config, toy, parallel.make_mesh(2), 7, variables, None, data())

    monkeypatch.setattr(editing, "open_run", open_run)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Two images, as values of the model's levels."""
    path = tmp_path / "two.npz"
    np.savez(path, images=np.asarray(tiny.images(2, SHAPE, LEVELS, 2)))
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    return picture(tmp_path / "mask.png", np.pad(np.full((2, 2), 255, np.uint8), 1))


def picture(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def result(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the record of the one result there, which has a picture too."""
    (npz,), (record,), (png,) = (sorted(folder.glob(f"*.{suffix}")) for suffix in ("npz", "json", "png"))
    assert npz.stem == record.stem == png.stem
    with np.load(npz) as arrays, Image.open(png) as shown:
        assert min(shown.size) > 100
        return dict(arrays), json.loads(record.read_text())


def test_restored_test_images_with_their_numbers(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    restore.main([f"--run={run}", "--operator=downsample(2)", "--noise=0.1", "--method=pigdm", "--num=3", "--draws=2"])
    arrays, record = result(run / "restorations")
    assert arrays["images"].shape == (3, 2, *SHAPE)
    assert arrays["images"].dtype == np.uint8
    assert arrays["measured"].shape == (3, 2, 2, 1)
    of_test = data().test
    assert all(any(np.array_equal(image, of_test[k]["image"]) for k in range(6)) for image in arrays["true"])
    found = record["result"]
    per_image = psnr(arrays["images"], arrays["true"][:, None], LEVELS).mean(axis=1)
    assert found["psnr_draw"]["value"] == pytest.approx(per_image.mean())
    assert found["psnr_draw"]["stderr"] == pytest.approx(per_image.std(ddof=1) / np.sqrt(3))
    assert (found["calls_per_draw"], found["gradients_per_draw"]) == (3, 3)
    assert record["operator"] == "downsample"
    assert record["noise"] == 0.1
    # Guidance is asked for, not the run's own, whose samples it is for.
    assert record["guidance"] == "none"
    printed = capsys.readouterr().out
    assert "PSNR, dB" in printed
    assert "3 calls and 3 gradients per draw" in printed


def test_restoring_again_gives_the_same_and_more_draws_begin_alike(run: Path, tmp_path: Path, image: Path) -> None:
    found = []
    for name, draws in (("a", 2), ("b", 2), ("c", 3)):
        restore.main([f"--run={run}", "--operator=missing(0.5)", "--method=repaint(2)", f"--image={image}",
                      f"--draws={draws}", f"--out={tmp_path / name}"])  # fmt: skip
        found.append(result(tmp_path / name / "restorations")[0])
    assert np.array_equal(found[0]["images"], found[1]["images"])
    assert np.array_equal(found[0]["measured"], found[2]["measured"])
    assert np.mean(found[2]["images"][:, :2] != found[0]["images"]) < 0.1  # batches of another size


def test_measured_elsewhere_it_is_restored_alike(run: Path, tmp_path: Path, image: Path) -> None:
    """Pixels picked without noise are those of the image: given as x or as y, the draws are the same."""
    found = []
    for flag in ("--image", "--measured"):
        restore.main([f"--run={run}", "--operator=missing(0.5)", "--noise=0", "--draws=2", f"{flag}={image}",
                      f"--out={tmp_path / flag}"])  # fmt: skip
        found.append(result(tmp_path / flag / "restorations"))
    (of_image, record), (of_measured, measured) = found
    assert np.array_equal(of_image["images"], of_measured["images"])
    assert np.array_equal(of_image["measured"], of_measured["measured"])
    assert set(of_measured) == {"images", "measured"}
    assert measured["result"]["residual_draw"] == record["result"]["residual_draw"]
    assert "psnr_draw" not in measured["result"]


def test_a_small_picture_is_made_large(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the pixels are: 0 to 16 are encoded as −16/17 to 16/17."""
    small = picture(tmp_path / "small.png", np.array([[0, 16], [8, 4]], np.uint8))
    restore.main([f"--run={run}", "--operator=downsample(2)", "--noise=0.1", f"--measured={small}", "--draws=3"])
    arrays, record = result(run / "restorations")
    assert arrays["images"].shape == (1, 3, *SHAPE)
    np.testing.assert_allclose(arrays["measured"][0, ..., 0], np.array([[-16, 16], [0, -8]]) / 17, rtol=1e-6)
    assert (record["operator"], record["images"]["num"]) == ("downsample", 1)
    printed = capsys.readouterr().out
    assert "a draw" in printed
    assert not any(word in printed for word in ("the true image", "the measurement", "the mean of draws"))


def test_what_is_known_is_kept_to_the_bit(run: Path, image: Path, mask: Path) -> None:
    edit.main([f"--run={run}", f"--image={image}", f"--mask={mask}", "--draws=3", "--method=repaint(2)"])
    arrays, record = result(run / "edits")
    given, known = tiny.images(2, SHAPE, LEVELS, 2), arrays["known"][..., 0]
    assert known.tolist() == [[True] * 4, [True, False, False, True], [True, False, False, True], [True] * 4]
    assert (arrays["images"][:, :, known] == np.asarray(given)[:, None][:, :, known]).all()
    inside = arrays["images"][:, :, ~known]
    assert (inside[:, 0] != inside[:, 1]).any()
    assert record["method"] == "repaint(resampling=2)"


def test_an_image_is_drawn_anew_from_a_noise_level(run: Path, image: Path) -> None:
    edit.main([f"--run={run}", f"--image={image}", "--strength=0"])
    arrays, record = result(run / "edits")
    assert (arrays["images"] == arrays["given"][:, None]).all()
    assert record["strength"] == "0"


def test_up_and_down_by_ddim(run: Path, image: Path) -> None:
    edit.main([f"--run={run}", f"--image={image}", "--invert", "--steps=100"])
    arrays, record = result(run / "edits")
    assert np.abs(arrays["images"][:, 0] - 1.0 * arrays["given"]).max() <= 1
    assert record["sampler"] == "ddim"


def test_pictures_are_resized_only_if_asked(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Values as they are; or 0 to 255 of any size and colours, in 17 equal steps."""
    colours = np.zeros((8, 8, 3), np.uint8)
    colours[:, 4:] = 255
    large = picture(tmp_path / "large.png", colours)
    line = error_line(edit.main, [f"--run={run}", f"--image={large}"], capsys)
    assert "is 8×8 with 3 channels; must be 4×4 with 1 channel" in line
    assert "--resize" in line
    bright = picture(tmp_path / "bright.png", np.full((4, 4), 200, np.uint8))
    line = error_line(edit.main, [f"--run={run}", f"--image={bright}"], capsys)
    assert "has values up to 200; must be below 17" in line
    assert "--resize" in line
    edit.main([f"--run={run}", f"--image={large}", f"--image={bright}", "--resize", "--strength=0"])
    given = result(run / "edits")[0]["given"][..., 0]
    assert (given[0, :, 0] == 0).all()
    assert (given[0, :, 3] == 16).all()
    assert (given[1] == 200 * 17 // 256).all()


def test_a_mask_is_resized_by_nearest_pixels(run: Path, image: Path, tmp_path: Path) -> None:
    large = picture(tmp_path / "large.png", np.pad(np.full((4, 4), 255, np.uint8), 2))
    edit.main([f"--run={run}", f"--image={image}", f"--mask={large}", "--resize", "--draws=1", "--method=repaint(1)"])
    assert np.argwhere(~result(run / "edits")[0]["known"][..., 0]).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]


@pytest.mark.parametrize(("command", "args", "mentions"), [
    (restore, ["--operator=gray"], ["--operator='gray'", "1 channel", "must have 3"]),
    (restore, ["--operator=downsample(3)"], ["--operator=", "factor=3", "images 4×4"]),
    (restore, ["--operator=sharpen"], ["--operator='sharpen'", "blur, downsample, gray, missing, box"]),
    (restore, ["--operator=blur(1)", "--method=repaint"], ["--method=repaint", "must be one that only picks some"]),
    (restore, ["--operator=blur(1)", "--method=magic"], ["--method='magic'", "dps, pigdm, proximal, mmps, repaint"]),
    (restore, ["--operator=blur(1)", "--noise=-1"], ["--noise=-1:", "from 0 to 1000"]),
    (restore, ["--operator=blur(1)", "--noise=1e30"], ["--noise=1e+30:", "from 0 to 1000"]),
    (restore, ["--operator=blur(1)", "--guidance=classifier_free(1)"], ["error: --guidance=", "has no labels"]),
    (restore, ["--operator=blur(1)", "--num=7"], ["--num=7", "1 to 6"]),
    (restore, ["--operator=blur(1)", "--num=0"], ["--num=0", "1 to 6"]),
    (restore, ["--operator=blur(1)", "--num=2", "--image=IMAGE"], ["--num=2", "cannot be combined with --image"]),
    (restore, ["--operator=blur(1)", "--measured=IMAGE", "--image=IMAGE"], ["--measured: cannot be", "with --image"]),
    (restore, ["--operator=blur(1)", "--measured=IMAGE", "--num=2"], ["--num=2: cannot be combined with --measured"]),
    (restore, ["--operator=downsample(2)", "--measured=IMAGE"], ["(2, 2, 1), as downsample measures them"]),
    (restore, ["--operator=blur(1)", "--draws=0"], ["--draws=0", "1 to 1024"]),
    (restore, ["--operator=blur(1)", "--labels=3"], ["--labels=3", "has no conditions"]),
    (restore, ["--operator=blur(1)", "--text=a seven"], ["--text", "has no conditions; must be conditioned on text"]),
    (restore, ["--operator=blur(1)", "--sampler=magic"], ["--sampler='magic'", "ancestral"]),
    (restore, ["--operator=blur(1)", "--seed=-1"], ["--seed=-1", "from 0"]),
    (edit, ["--image=nothing.png"], ["nothing.png", "no such file"]),
    (edit, ["--image=~nobody_here/a.png"], ["~nobody_here/a.png: no such file"]),
    (edit, ["--image", ""], ["an empty name; must be that of a picture"]),
    (edit, ["--image=IMAGE", "--method=repaint"], ["--method=repaint", "must go with --mask"]),
    (edit, ["--image=IMAGE", "--mask=MASK", "--strength=0.5"], ["--mask", "cannot be combined with --strength"]),
    (edit, ["--image=IMAGE", "--mask=nothing.png"], ["--mask=nothing.png", "no such file"]),
    (edit, ["--image=IMAGE", "--mask=LARGE"], ["--mask=", "is 6×6; must be 4×4", "--resize"]),
    (edit, ["--image=IMAGE", "--mask=BLACK"], ["--mask=", "has no white"]),
    (edit, ["--image=IMAGE", "--mask=IMAGE"], ["two.npz", "not a readable picture"]),
    (edit, ["--image=IMAGE", "--strength=1.5"], ["--strength=1.5", "from 0 to 1"]),
    (edit, ["--image=IMAGE", "--strength=nan"], ["--strength", "nan"]),
    (edit, ["--image=IMAGE", "--invert", "--sampler=ancestral"], ["--sampler=ancestral", "deterministic"]),
    (edit, ["--image=IMAGE", "--invert", "--draws=2"], ["--draws=2", "must be 1"]),
    (edit, ["--image=IMAGE", "--steps=0"], ["--steps=0", "1"]),
])  # fmt: skip
def test_bad_input_is_one_line_and_nothing_is_written(
    command: Any,
    args: list[str],
    mentions: list[str],
    run: Path,
    image: Path,
    mask: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {
        "IMAGE": image,
        "MASK": mask,
        "LARGE": picture(tmp_path / "large.png", np.pad(np.full((2, 2), 255, np.uint8), 2)),
        "BLACK": picture(tmp_path / "black.png", np.zeros((4, 4), np.uint8)),
    }
    given = [
        f"{name}={files.get(value, value)}" if value else name for name, _, value in (a.partition("=") for a in args)
    ]
    line = error_line(command.main, [f"--run={run}", *given], capsys)
    for mention in mentions:
        assert mention in line
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "run.json"]


def test_labels_that_the_model_does_not_have(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def open_run(*args: Any, **kwargs: Any) -> Run:
        made, label = plain(*args, **kwargs), {"label": jax.ShapeDtypeStruct((), jnp.int32)}
        made.config.data.classes = 2
        return replace(made, model=replace(made.model, condition=label))

    plain, file = editing.open_run, tmp_path / "labels.npz"
    monkeypatch.setattr(editing, "open_run", open_run)
    np.savez(file, images=np.asarray(tiny.images(2)), label=[0, 2])
    line = error_line(edit.main, [f"--run={run}", f"--image={file}"], capsys)
    assert "labels from 0 to 2; must be from 0 to 1: give --labels" in line
    np.savez(file, images=np.asarray(tiny.images(2)))
    line = error_line(edit.main, [f"--run={run}", f"--image={file}", "--invert", "--labels=1"], capsys)
    assert "come without label, which the model needs: --invert needs those of each image, from an npz file" in line
    np.savez(file, images=np.asarray(tiny.images(2)), label=[0, 1])
    edit.main([f"--run={run}", f"--image={file}", "--strength=0"])


@pytest.mark.parametrize(("command", "name"), [(edit, "edit"), (restore, "restore")])
def test_help_is_a_page(command: Any, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for flag, most in (("--help", 40), ("--helpfull", 200)):
        with pytest.raises(SystemExit):
            command.main([flag])
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) < most
        assert any(line.lstrip().removeprefix("example: ").startswith(f"vdm {name} --run=") for line in lines)


@pytest.mark.parametrize("text", ["blur(1)", "downsample(2)", "gray", "missing(0.5)"])
def test_what_is_measured_is_shown_as_an_image(text: str) -> None:
    operator = parts.make("operator", text, shape=(4, 4, 3))
    y = np.asarray(operator.apply(jnp.ones((2, 4, 4, 3))))
    shown = as_image(operator, y)
    assert shown.shape == (2, 4, 4, 3)
    if operator.known is None:
        np.testing.assert_allclose(shown, 1, atol=1e-6)


def test_the_benchmark_goes_on_where_it_stopped(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves out what cannot be: RePaint of what mixes values."""
    program, file = Path(__file__).parents[2] / "benchmarks" / "restoration.py", tmp_path / "found.json"

    def rows(methods: str) -> list[dict[str, Any]]:
        flags = [f"--run={run}", f"--file={file}", "--operators=downsample(2),box(2)", "--num=4", "--draws=3"]
        monkeypatch.setattr("sys.argv", [str(program), *flags, "--batch_size=8", f"--methods={methods}"])
        runpy.run_path(str(program), run_name="__main__")
        found: list[dict[str, Any]] = json.loads(file.read_text())["rows"]
        return found

    first = rows("repaint(2)")
    assert [(row["operator"], row["method"]) for row in first] == [("box(2)", "repaint(2)")]
    assert first[0]["calls_per_draw"] == 6
    assert first[0]["seconds_per_draw"] > 0
    assert set(first[0]["metrics"]) == {"mmd"}
    both = rows("proximal,repaint(2)")
    assert both[0] == first[0]
    assert [row["method"] for row in both[1:]] == ["proximal", "proximal"]
