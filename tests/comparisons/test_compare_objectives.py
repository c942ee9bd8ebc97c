"""The comparison of objectives as a whole, tiny: what it leaves, that it goes on where it stopped, what is refused."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from grey import grey, of_pixels
from rich.console import Console

from vdm import parts
from vdm.comparisons.objectives import MODE, ObjectivesSettings
from vdm.comparisons.objectives import measure as program
from vdm.comparisons.objectives.table import Choice
from vdm.config import Config, EvaluationConfig, SamplingConfig, ScheduleConfig
from vdm.data import load
from vdm.errors import InputError
from vdm.evaluation.bound import Evaluator
from vdm.evaluation.metrics.mmd import Mmd
from vdm.keys import Stream
from vdm.programs.compare import compare
from vdm.runs.folder import lock
from vdm.runs.open import open_run
from vdm.runs.records import read_config

RUNS = ("v-sigmoid_2-uniform-seed_3", "v-sigmoid_2-adaptive-seed_3")
SETTINGS = ObjectivesSettings(
    predictions=("v",), weightings=("sigmoid(2)",), proposals=("uniform", "adaptive"), seeds=1, samples=8, gradients=3
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("objectives")


def small(folder: Path) -> Config:
    config = tiny.run_config(folder, 6, log_every=2, evaluate_every=3)
    config.seed = 3
    config.schedule = ScheduleConfig(name="learned_linear", gamma_min=-7.0)
    config.evaluation = EvaluationConfig(batch_size=100, draws=1, max_images=100)
    config.sampling = SamplingConfig(num=4, steps=2, batch_size=8)
    return config


def run(config: Config, workdir: Path, **changes) -> tuple[str, str]:
    out = io.StringIO()
    return compare(MODE, config, replace(SETTINGS, **changes), workdir, Console(file=out, width=200)), out.getvalue()


def test_a_comparison_cut_off_ends_as_one_that_was_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = program._Objectives._measure

    def measure_or_cut(self, config, path):
        if path.name == RUNS[1]:
            raise tiny.Cut
        return measure(self, config, path)

    with monkeypatch.context() as patch:
        patch.setattr(program._Objectives, "_measure", measure_or_cut)
        with pytest.raises(tiny.Cut):
            run(small(folder), folder / "whole")
    # What there is of it is a table already.
    first = (folder / "whole" / "objectives.md").read_text()
    assert "| sigmoid(2) | " in first
    table, printed = run(small(folder), folder / "whole")
    # Both were trained, and the first was measured.
    assert "training v-" not in printed
    assert "100% done, 0:00 left" in printed
    assert first.splitlines()[2].split("|")[2] == table.splitlines()[2].split("|")[2]
    # Measured again, everything is the same.
    (folder / "whole" / RUNS[0] / "outcome.json").unlink()
    again, _ = run(small(folder), folder / "whole")
    assert again == table


def test_what_it_leaves(folder: Path) -> None:
    whole = folder / "whole"
    record = json.loads((whole / "objectives.json").read_text())
    assert [program.folder_name(Choice(*o["objective"]), o["seed"]) for o in record["outcomes"]] == list(RUNS)
    for outcome, name in zip(record["outcomes"], RUNS, strict=True):
        config = read_config(whole / name)
        assert config.seed == 3
        assert [config.network.prediction, config.objective.weighting, config.objective.proposal] == outcome[
            "objective"
        ]
        evaluation = json.loads((whole / name / "evaluation.json").read_text())
        assert outcome["bits_per_dim"] == evaluation["bits_per_dim"]["total"]
        assert [step for step, _ in outcome["curve"]] == [3, 6]
        assert outcome["gradient_noise"] is None or outcome["gradient_noise"] > 0
    mmd = Mmd(of_pixels(load(small(folder).data).train, 17))
    np.testing.assert_allclose(record["noise_floors"]["mmd"], mmd.noise_floor(8), rtol=1e-6)
    # Hardly trained: far from data.
    assert all(outcome["metrics"]["mmd"] > 3 * mmd.noise_floor(8) for outcome in record["outcomes"])
    assert set(record["steps_ratios"]) == {"v-sigmoid(2)-adaptive"}


def test_a_second_metric_needs_no_more_than_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parts.PARTS["metric"], "grey", grey)
    before = json.loads((folder / "whole" / RUNS[0] / "outcome.json").read_text())
    table, printed = run(small(folder), folder / "whole", metrics=("mmd", "grey"), proposals=("uniform",))
    assert "training v-" not in printed
    record = json.loads((folder / "whole" / "objectives.json").read_text())
    (outcome,) = record["outcomes"]
    assert set(outcome["metrics"]) == {"mmd", "grey"}
    assert outcome["metrics"]["mmd"] == before["metrics"]["mmd"]
    assert f"| grey difference of samples, levels (noise floor {record['noise_floors']['grey']:.3f}) | v |" in table
    assert f"| sigmoid(2) | {outcome['metrics']['grey']:.3f} ± nan |" in table
    assert "| 1000 MMD² of samples (noise floor " in table
    assert "grey difference" in printed


def test_only_what_depends_on_a_change_is_done_again(folder: Path) -> None:
    config = small(folder)
    config.sampling.steps, config.evaluation.draws = 3, 2
    _, printed = run(config, folder / "whole")
    assert "training" not in printed
    # The run's own evaluation is of one draw: not the bound that is asked for now.
    found = json.loads((folder / "whole" / RUNS[0] / "outcome.json").read_text())
    opened = open_run(folder / "whole" / RUNS[0])
    evaluator, key = Evaluator(opened.model, opened.mesh, 100), opened.key(Stream.EVALUATION)
    assert found["bits_per_dim"] == evaluator(opened.variables, opened.dataset.test, key, 2).total
    assert json.loads((folder / "whole" / RUNS[0] / "outcome.json").read_text())["settings"]["sampling"]["steps"] == 3


@pytest.mark.parametrize(
    ("axis", "values", "message"),
    [
        ("predictions", ("v", "w"), "comparison.predictions=('v', 'w'): 'w' is not one of x, eps"),
        ("weightings", ("elbo", "sigmoid(k=)"), "'sigmoid(k=)': must be a name"),
        ("metrics", ("mmd", "fad"), "comparison.metrics=('mmd', 'fad'): 'fad': must be one of mmd"),
        ("proposals", ("adaptive", "best"), "'best': must be one of uniform"),
        ("weightings", (), "must each have at least one"),
        ("weightings", ("sigmoid(2)", "sigmoid (2)"), "must each have no duplicates"),
    ],
)
def test_bad_axes_are_refused_before_anything_is_trained(folder: Path, axis: str, values: tuple, message: str) -> None:
    config = small(folder)
    with pytest.raises(InputError, match=r"comparison") as refusal:
        run(config, folder / "refused", **{axis: values})
    assert message in str(refusal.value)
    assert not (folder / "refused").exists()


def test_two_in_one_folder_are_refused(folder: Path) -> None:
    with lock(folder / "locked"), pytest.raises(InputError, match="locked: another run is writing here"):
        run(small(folder), folder / "locked")
