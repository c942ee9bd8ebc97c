"""The comparison of guidances as a whole, on a tiny run: what it leaves, that it goes on where it stopped, refusals."""

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

from vdm.comparisons.guidance import MODE, GuidanceSettings
from vdm.comparisons.guidance import measure as program
from vdm.comparisons.guidance.table import LABELS, NO_LABELS, Measure, Row, families, markdown
from vdm.comparisons.work import file_name
from vdm.config import EvaluationConfig, SamplingConfig, ScheduleConfig
from vdm.data import examples
from vdm.errors import InputError
from vdm.evaluation.class_quality import diversity
from vdm.evaluation.images import ImageSampler
from vdm.evaluation.metrics import Estimate
from vdm.keys import Stream, stream_key
from vdm.model import DROPPED
from vdm.programs import judges
from vdm.programs.compare import compare
from vdm.programs.train import train
from vdm.runs.open import open_run
from vdm.runs.records import read_config

TEXTS = ("classifier_free(2)", "classifier_free(0.5)", "classifier_free(2, interval=(-3, 3))")
SETTINGS = GuidanceSettings(guidances=TEXTS, metrics=("mmd",), samples=20)
QUIET = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guidance")
    config = tiny.run_config(folder, 4, log_every=4, evaluate_every=0)
    config.network.condition = ("label",)
    config.schedule = ScheduleConfig(name="linear", gamma_min=-7.0)
    config.evaluation = EvaluationConfig(batch_size=100, draws=1, max_images=100)
    config.sampling = SamplingConfig(num=4, steps=2, batch_size=20)
    # Before the fixture of conftest.py that does this for tests.
    with jax.numpy_dtype_promotion("standard"):
        train(config, folder / "run", console=QUIET)
    return folder


def run(folder: Path, workdir: str, **changes: object) -> str:
    settings, config = replace(SETTINGS, **changes), read_config(folder / "run")
    return compare(MODE, config, settings, folder / workdir, QUIET, folder / "run", "latest")


def test_a_comparison_cut_off_ends_as_one_that_was_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = run(folder, "whole")
    measure, measured = program._Guidances._measure, list[str]()

    def measure_or_cut(self, name):
        if name == TEXTS[1]:
            raise tiny.Cut
        return measure(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(program._Guidances, "_measure", measure_or_cut)
        with pytest.raises(tiny.Cut):
            run(folder, "broken")
    monkeypatch.setattr(program._Guidances, "_measure", lambda self, name: measured.append(name) or measure(self, name))
    assert run(folder, "broken") == table
    assert measured == list(TEXTS[1:])
    left, right = (json.loads((folder / name / "guidance.json").read_text()) for name in ("whole", "broken"))
    assert left["outcomes"] == right["outcomes"]


def test_what_it_leaves(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = judging.opened()
    monkeypatch.setattr(judges, "opener", lambda *_: lambda: judge)
    table = run(folder, "judged", metrics=("mmd", "class_accuracy"))
    names = [NO_LABELS, LABELS, *TEXTS]
    cells = folder / "judged" / "cells"
    assert {path.name for path in cells.iterdir()} == {f"{file_name(name)}.json" for name in names}
    assert [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]] == [*names, "real images"]
    assert (folder / "judged" / "guidance.png").stat().st_size > 0
    record = json.loads((folder / "judged" / "guidance.json").read_text())
    found = {outcome["guidance"]: outcome["metrics"] for outcome in record["outcomes"]}
    assert {frozenset(metrics) for metrics in found.values()} == {frozenset({"mmd", "diversity", "class_accuracy"})}
    # Two rows by hand: the guidance, labels in turn, latents and key that the config says; labels dropped.
    config, trained = read_config(folder / "run"), open_run(folder / "run")
    real = examples(trained.dataset.train, range(len(trained.dataset.train)))
    labels = np.arange(20, dtype=np.int32) % 10
    for name, guidance, dropped in ((TEXTS[0], TEXTS[0], False), (NO_LABELS, "none", True)):
        sampling = replace(config.sampling, num=20, guidance=guidance)
        condition = {"label": labels} | ({DROPPED: np.ones(20, bool)} if dropped else {})
        images, _ = ImageSampler(trained.model, trained.mesh, sampling)(
            trained.variables, stream_key(0, Stream.SAMPLING), 20, condition=condition
        )
        expected = diversity(images, labels, real["image"], real["label"])
        assert found[name]["diversity"]["value"] == pytest.approx(expected.value)
        accuracy = 100 * np.mean(judging.guesses(judge, images) == labels)
        assert found[name]["class_accuracy"]["value"] == pytest.approx(accuracy)
    # w = 0 is LABELS; there are others.
    assert found[TEXTS[0]] != found[LABELS] != found[NO_LABELS]
    test = examples(trained.dataset.test, range(len(trained.dataset.test)))
    of_data = 100 * np.mean(judging.guesses(judge, test["image"]) == test["label"])
    assert record["of_real_images"]["class_accuracy"] == pytest.approx(of_data)
    # By another classifier, all is measured anew, and what this one said is kept.
    other = judging.opened(seed=1)
    monkeypatch.setattr(judges, "opener", lambda *_: lambda: other)
    run(folder, "judged", metrics=("mmd", "class_accuracy"))
    changed = json.loads((folder / "judged" / "guidance.json").read_text())
    for before, after in zip(record["outcomes"], changed["outcomes"], strict=True):
        assert before["metrics"]["mmd"] == after["metrics"]["mmd"]
    assert record["outcomes"] != changed["outcomes"]
    assert len(list(cells.iterdir())) == 2 * len(names)
    monkeypatch.setattr(program._Guidances, "_measure", None)
    monkeypatch.setattr(judges, "opener", lambda *_: lambda: judge)
    assert run(folder, "judged", metrics=("mmd", "class_accuracy")) == table


def test_families_go_by_scale() -> None:
    def row(name: str) -> Row:
        return Row(name, {})

    found = families([row(name) for name in (NO_LABELS, LABELS, *TEXTS)])
    assert {name: [scale for scale, _ in members] for name, members in found.items()} == {
        "classifier_free": [0.5, 2.0],
        "classifier_free(interval=(-3.0, 3.0))": [2.0],
    }


def test_a_table_has_errors_and_what_real_images_come_to() -> None:
    measures = {"a": Measure("accuracy", "accuracy, %", 0.5, factor=100.0, digits=1)}
    table = markdown(measures, [Row(LABELS, {"a": Estimate(0.25, np.array([0.2, 0.3, 0.25]))})])
    assert table.splitlines() == [
        "|  | accuracy, % |",
        "|---|---|",
        "| labels | 25.0 ± 5.8 |",
        "| real images | 50.0 |",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"guidances": ("classifier_free(x=1)",)}, "comparison.guidances"),
        ({"guidances": ("autoguidance(1, weak='99')",)}, "99"),
        ({"metrics": ("class_accuracy",), "classifier": "nowhere"}, "nowhere"),
        ({"samples": 2}, "comparison.samples=2: must be 3 or more"),
        ({"samples": 10}, "comparison.samples=10: every sample has a different class; must be more"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(folder: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(folder, "refused", **changes)
    assert not (folder / "refused").exists()
