"""sample.py on a model with labels: what pictures and records say of labels and guidance, and sweeps of the scale."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import guided
import numpy as np
import pytest
import tiny
from rich.console import Console

from vdm import parallel
from vdm.config import Config, SamplingConfig, to_dict
from vdm.errors import InputError
from vdm.files import write_json
from vdm.plots import images as pictures
from vdm.programs import sample as program
from vdm.programs.sample import Sample, scales_of, with_scale
from vdm.runs import shards
from vdm.runs.open import Run

CLASSES = ["cat", "dog", "hen"]

Make = Callable[..., Sample]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A sample of settings, of the exact model of three classes in place of a run's checkpoint."""
    path, config, mesh = tmp_path / "run", tiny.config(), parallel.make_mesh(1)
    path.mkdir()
    write_json(path / "config.json", to_dict(config))
    write_json(path / "run.json", {"data": {"classes": CLASSES}})

    def open_run(path: Path, checkpoint: str, config: Config) -> Run:
        return Run(path, config, guided.model(), mesh, 7, guided.exact(), None)

    monkeypatch.setattr(program, "open_run", open_run)

    def make(**settings: Any) -> Sample:
        sampling = SamplingConfig(**{"num": 5, "steps": 3, "batch_size": 8} | settings)
        return Sample(replace(config, sampling=sampling), path, "latest", 4, Console(file=io.StringIO()))

    return make


def drawn(sample: Sample) -> np.ndarray:
    return np.concatenate(list(shards.read(sample.images())))


def test_labels_are_in_the_picture_the_name_and_the_record(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[list[str]] = []
    monkeypatch.setattr(program.pictures, "grid", lambda *arguments: rows.append(list(arguments[-1])))
    some = make(labels="hen,0", guidance="classifier_free(1.5)")
    images = drawn(some)
    assert some.stem.name == "step_7_seed_4_T_3_ancestral_labels_hen_0_classifier_free_1.5"
    record = json.loads((some.stem / "settings.json").read_text())
    assert (record["labels"], record["guidance"]) == ("hen,0", "classifier_free(1.5)")
    # Without labels all are drawn in turn, and the record says so.
    every = make()
    images_of_all = drawn(every)
    assert json.loads((every.stem / "settings.json").read_text())["labels"] == "all"
    assert rows == [["hen", "cat"], CLASSES]
    # Image k depends on its label, its key and the settings alone.
    again = drawn(make(labels="hen,cat,hen,dog", guidance="classifier_free(1.5)", num=3))
    np.testing.assert_array_equal(again, images[:3])
    means = guided.MEANS[np.arange(5) % 3]
    assert np.mean((images_of_all / 8 - 1 - means) ** 2) < 2 * guided.STD**2


def test_a_sweep_has_the_images_of_each_scale(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []
    monkeypatch.setattr(program.pictures, "strip", lambda *arguments: made.append(arguments))
    path = make(labels="hen,0").sweep([0.0, 3.0])
    assert path.name == "step_7_seed_4_T_3_ancestral_labels_hen_0_scales_0_3.png"
    ((frames, where, caption, columns, rows),) = made
    assert (where, rows) == (path, ["w = 0", "w = 3"])
    assert columns == ["hen", "cat", "hen", "cat", "hen"]
    assert caption.endswith("classifier_free by scale w, from the same latents")
    for row, guidance in enumerate(("none", "classifier_free(3)")):
        images = drawn(make(labels="hen,0", guidance=guidance)) / 8 - 1
        np.testing.assert_allclose(frames[:, row], images, atol=1e-6)
    assert np.abs(frames[:, 1] - frames[:, 0]).max() > 0.1


def test_a_sweep_is_drawn(make: Make) -> None:
    assert make(num=3).sweep([0.5]).stat().st_size > 0
    assert pictures.MAX_COLUMNS >= program.COLUMNS


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["0", "x"], "--sweep_guidance=0,x: 'x': must be a finite number"),
        (["1", "1.0"], "must be different numbers"),
        ([], "must be different numbers, one or more"),
    ],
)
def test_scales_that_are_none(words: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        scales_of(words)


def test_a_sweep_is_refused_before_anything_is_drawn(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "ImageSampler", None)
    with pytest.raises(InputError, match=r"--sweep_guidance: .*scale=2000\.0: must be a number from -1000 to 1000"):
        make().sweep([0.0, 2000.0])
    with pytest.raises(InputError, match="must be one of none, classifier_free"):
        with_scale("bogus", 1.0)
