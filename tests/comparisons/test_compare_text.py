"""The comparison of captions as a whole, on a tiny run: what it leaves, that it goes on where it stopped, refusals."""

import io
import json
from dataclasses import replace
from pathlib import Path

import jax
import judging
import numpy as np
import pytest
import tiny
from rich.console import Console

from vdm.comparisons.texts import MODE, TextSettings
from vdm.comparisons.texts import measure as program
from vdm.comparisons.texts.table import HELD_OUT, NO_TEXT, TEST, TEXT, Row, markdown
from vdm.config import EvaluationConfig, SamplingConfig, ScheduleConfig
from vdm.data.captions import DESCRIPTIONS
from vdm.errors import InputError
from vdm.evaluation.images import ImageSampler
from vdm.evaluation.metrics import Estimate
from vdm.keys import Stream, stream_key
from vdm.programs import judges
from vdm.programs.compare import compare
from vdm.programs.train import train
from vdm.runs.open import open_run
from vdm.runs.records import read_config

HELD = "seven leaning left"
GUIDANCE = "classifier_free(2)"
SETTINGS = TextSettings(guidances=(GUIDANCE,), samples=20)
QUIET = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    config = tiny.run_config(folder, 4, log_every=4, evaluate_every=0)
    config.data.name = f"digits_captions(held_out=({HELD!r},))"
    config.network.condition = ("text",)
    config.schedule = ScheduleConfig(name="linear", gamma_min=-7.0)
    config.evaluation = EvaluationConfig(batch_size=100, draws=1, max_images=100)
    config.sampling = SamplingConfig(num=4, steps=2, batch_size=20)
    # Before the fixture of conftest.py that does this for tests.
    with jax.numpy_dtype_promotion("standard"):
        train(config, folder / "run", console=QUIET)
    return folder


@pytest.fixture(autouse=True)
def judge(monkeypatch: pytest.MonkeyPatch):
    found = judging.opened()
    monkeypatch.setattr(judges, "opener", lambda *_: lambda: found)
    return found


def run(folder: Path, workdir: str) -> str:
    return compare(MODE, read_config(folder / "run"), SETTINGS, folder / workdir, QUIET, folder / "run", "latest")


def test_a_comparison_cut_off_ends_as_one_that_was_not(folder, monkeypatch, judge):
    table = run(folder, "whole")
    measure = program._Texts._measure

    def measure_or_cut(self, name, captions):
        if name == GUIDANCE:
            raise tiny.Cut
        return measure(self, name, captions)

    with monkeypatch.context() as patch:
        patch.setattr(program._Texts, "_measure", measure_or_cut)
        with pytest.raises(tiny.Cut):
            run(folder, "broken")
    measured = []
    monkeypatch.setattr(program._Texts, "_measure", lambda self, *a: measured.append(a[0]) or measure(self, *a))
    assert run(folder, "broken") == table
    assert measured == [GUIDANCE, GUIDANCE]
    assert (folder / "whole" / "text.png").stat().st_size > 0
    record = json.loads((folder / "whole" / "text.json").read_text())
    assert record["captions"][HELD_OUT] == ["a seven leaning left"]
    grammar = DESCRIPTIONS["digits_captions"].grammar
    said = [grammar.attributes_of(caption) for caption in record["captions"][TEST]]
    assert not any((each["class"], each["slant"]) == ("7", "left") for each in said)
    # A row by hand: images of the captions in turn, of the key and latents that the config says.
    trained, asked = open_run(folder / "run"), record["captions"][HELD_OUT] * 20
    sampling = replace(trained.config.sampling, num=20, guidance=GUIDANCE)
    images, _ = ImageSampler(trained.model, trained.mesh, sampling)(
        trained.variables, stream_key(0, Stream.SAMPLING), 20, condition={"text": trained.text(asked)}
    )
    found = {each["guidance"]: each["obeyed"] for each in record["outcomes"]}
    assert list(found) == [NO_TEXT, TEXT, GUIDANCE, "real images"]
    share = 100 * np.mean(judging.guesses(judge, images) == 7)
    assert found[GUIDANCE][HELD_OUT]["class"]["value"] == pytest.approx(share)
    assert found["real images"][TEST]["weight"]["value"] > 0


def test_runs_without_captions_are_refused(folder, tmp_path):
    config = tiny.run_config(tmp_path, 1)
    with jax.numpy_dtype_promotion("standard"):
        train(config, tmp_path / "run", console=QUIET)
    with pytest.raises(InputError, match="was trained without captions; must be of a config such as digits_captions"):
        compare(MODE, config, SETTINGS, tmp_path / "text", QUIET, tmp_path / "run", "latest")


def test_a_table_for_each_kind_of_captions():
    estimate = Estimate(50.0, np.array([40.0, 60.0, 50.0]))
    table = markdown([Row(TEXT, {TEST: {"class": estimate, "all": estimate}, HELD_OUT: {"class": estimate}})])
    assert table.splitlines()[:5] == [
        "Captions of test images: samples that are as asked, %",
        "",
        "|  | class | all |",
        "|---|---|---|",
        "| captions | 50.0 ± 11.5 | 50.0 ± 11.5 |",
    ]
