"""compare.py --by=guidance and --by=sampler on a model of captions, exact and untrained."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import classes_by_caption
import guided
import numpy as np
import pytest
import tiny
from rich.console import Console

from vdm import parallel
from vdm.comparisons.guidance import GuidanceSettings, measure
from vdm.comparisons.guidance.table import CAPTIONS, NO_CAPTIONS
from vdm.comparisons.samplers import SamplersSettings
from vdm.comparisons.samplers import measure as by_sampler
from vdm.comparisons.work import Programs
from vdm.config import Config, SamplingConfig, to_dict
from vdm.data import in_memory
from vdm.data.texts import encoded
from vdm.errors import InputError
from vdm.files import write_json
from vdm.runs.open import Run
from vdm.runs.texts import write_text

QUIET = Console(file=io.StringIO())
PROGRAMS = Programs(lambda *_: None, lambda dataset, folder: lambda: None)  # type: ignore[arg-type,return-value]


def images(num: int, seed: int) -> dict[str, Any]:
    """Of the classes in turn, with their captions."""
    which = np.arange(num) % 3
    x = guided.MEANS[which] + guided.STD * np.random.default_rng(seed).normal(size=(num, *guided.SHAPE))
    pixels = np.clip(np.rint((x + 1) * guided.LEVELS / 2 - 0.5), 0, guided.LEVELS - 1).astype(np.uint8)
    return {"image": pixels, "text": [classes_by_caption.CAPTIONS[k] for k in which]}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """In place of a checkpoint, the exact model; `open_run` of both comparisons gives it, conditioned or not."""
    path, mesh = tmp_path / "run", parallel.make_mesh(1)
    config = replace(tiny.config(), sampling=SamplingConfig(steps=4, batch_size=32))
    dataset = encoded(in_memory(images(60, 0), images(12, 1), levels=guided.LEVELS), classes_by_caption.TEXT)
    config.data.name = dataset.info.name
    path.mkdir()
    write_json(path / "config.json", to_dict(config))
    write_json(path / "run.json", {"data": {"classes": None}})
    write_text(path, classes_by_caption.TEXT)

    def open_run(path: Path, checkpoint: str, config: Config) -> Run:
        run = Run(path, config, classes_by_caption.model(), mesh, 7, guided.exact(), None)
        run.__dict__["dataset"] = dataset
        return run

    monkeypatch.setattr(measure, "open_run", open_run)
    monkeypatch.setattr(by_sampler, "open_run", open_run)
    return config


def test_guidances_by_captions(config: Config, tmp_path: Path) -> None:
    """Captions bring samples near the data, none does not tell; a negative caption and a composition have rows."""
    texts = ("classifier_free(1, negative='c hen')", "composed(('a cat',), weights=(1, 0.5))")
    settings = GuidanceSettings(guidances=texts, metrics=("mmd",), samples=24)
    table = measure.compare_guidance(config, settings, tmp_path / "out", QUIET, PROGRAMS, tmp_path / "run", "latest")
    rows = [line.split("|")[1].strip() for line in table.splitlines()]
    assert rows[2:] == [NO_CAPTIONS, CAPTIONS, *texts, "real images"]
    found = json.loads((tmp_path / "out" / "guidance.json").read_text())["outcomes"]
    assert [set(row["metrics"]) for row in found] == [{"mmd"}] * 4
    assert (tmp_path / "out" / "guidance.png").stat().st_size > 0


def test_samplers_with_a_negative_caption(config: Config, tmp_path: Path) -> None:
    config.sampling.guidance = "classifier_free(1, negative='c hen')"
    settings = SamplersSettings(
        samplers=("ddim",), calls=(2,), noises=(), noise_steps=(), reference_calls=4, samples=12, metrics=("mmd",)
    )
    table = by_sampler.compare_samplers(config, settings, tmp_path / "out", QUIET, PROGRAMS, tmp_path / "run", "latest")
    assert "ddim" in table


def test_labels_are_measured_of_labels_alone(config: Config, tmp_path: Path) -> None:
    settings = GuidanceSettings(guidances=(), metrics=("class_accuracy",), samples=24)
    with pytest.raises(InputError, match="class_accuracy"):
        measure.compare_guidance(config, settings, tmp_path / "out", QUIET, PROGRAMS, tmp_path / "run", "latest")
