"""The comparison as a whole, tiny: what it leaves, that it goes on where it stopped, what its numbers are."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from rich.console import Console

from vdm.comparisons.steps import MODE, StepsSettings
from vdm.comparisons.steps import measure as program
from vdm.config import Config, EvaluationConfig, SamplingConfig, ScheduleConfig
from vdm.data import selected
from vdm.errors import InputError
from vdm.evaluation.bound import Evaluator
from vdm.programs import compare as compare_program
from vdm.programs.evaluate import Evaluate, parse_steps
from vdm.programs.hooks import every
from vdm.runs.folder import lock
from vdm.runs.open import open_run
from vdm.runs.records import read_config, read_metrics

NUM, STEPS = 24, 6
SETTINGS = StepsSettings(trained=(3,), evaluated=(3, 40), seeds=1, draws=20, max_images=NUM)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare")


def small(folder: Path) -> Config:
    config = tiny.run_config(folder, STEPS, log_every=2, evaluate_every=0)
    config.schedule = ScheduleConfig(name="learned_monotone(hidden=8)", gamma_min=-7.0)
    config.evaluation = EvaluationConfig(batch_size=NUM, draws=1)
    config.sampling = SamplingConfig(num=4, steps=2, batch_size=4)
    return config


def run(config: Config, workdir: Path, **changes) -> tuple[str, str]:
    out = io.StringIO()
    settings, console = replace(SETTINGS, **changes), Console(file=out, width=200)
    return compare_program.compare(MODE, config, settings, workdir, console), out.getvalue()


def test_a_comparison_cut_off_twice_ends_as_one_that_was_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, printed = run(small(folder), folder / "whole")
    assert printed.count("% done") >= 8
    assert "100% done, 0:00 left" in printed

    measure, train = program._Steps._measure, compare_program.train

    def measure_or_cut(self, variables, trained, seed, evaluated):
        if evaluated == 40:
            raise tiny.Cut
        return measure(self, variables, trained, seed, evaluated)

    with monkeypatch.context() as patch:
        patch.setattr(program._Steps, "_measure", measure_or_cut)
        with pytest.raises(tiny.Cut):
            run(small(folder), folder / "broken")

    def train_or_cut(*args, hooks, **kwargs):
        def cut(session):
            if session.step == 4:
                raise tiny.Cut

        return train(*args, hooks=[*hooks[:2], every(2, cut), *hooks[2:]], **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(compare_program, "train", train_or_cut)
        with pytest.raises(tiny.Cut):
            run(small(folder), folder / "broken")
    again, printed = run(small(folder), folder / "broken")
    assert "resuming at step 2" in printed or "resuming at step 4" in printed
    assert printed.count("from scratch") == 0
    assert "inf-seed_0 at T_3" not in printed
    assert again == table
    for name in ("inf-seed_0/bounds/inf", "inf-seed_0/bounds/T_3", "inf-seed_0/bounds/T_40", "T_3-seed_0/bounds/T_3"):
        parts = [np.load(bounds_file(folder / run / name))["bits"] for run in ("whole", "broken")]
        np.testing.assert_array_equal(*parts)


def bounds_file(path: Path) -> Path:
    """The only one of this T: its name goes on with training steps, draws and images."""
    (found,) = path.parent.glob(f"{path.name}-*.npz")
    assert re.fullmatch(r"(inf|T_\d+)-steps_\d+-draws_\d+-images_\d+", found.stem)
    return found


def test_what_it_leaves(folder: Path) -> None:
    path = folder / "whole"
    record = json.loads((path / "comparison.json").read_text())
    own, infinite = (record["rows"][name] for name in ("trained and evaluated at T", "trained at inf, evaluated at T"))
    assert [row["evaluated"] for row in own] == [3, None]
    assert [row["evaluated"] for row in infinite] == [3, 40, None]
    # 20 draws: 18 = 6 of each of 3 terms, 20 of 40 steps, 20 times.
    assert [(row["num_draws"], row["exact_sum"]) for row in infinite] == [(18, True), (20, False), (20, False)]
    assert record["num_images"] == NUM
    assert record["last_session"]["versions"]["jax"]
    assert (path / "comparison.png").stat().st_size > 0
    assert f"{own[0]['bits_per_dim']['value']:.3f}" in (path / "comparison.md").read_text()
    assert read_config(path / "T_3-seed_0").objective.num_steps == 3
    assert read_config(path / "inf-seed_0").objective.num_steps is None


def test_models_share_start_and_data(folder: Path) -> None:
    """The first log line is of the same images, times and noise: only the T-step bound differs."""
    whole = folder / "whole"
    first = {name: read_metrics(whole / f"{name}-seed_0" / "metrics.jsonl")[0] for name in ("inf", "T_3")}
    np.testing.assert_allclose(first["inf"]["reconstruction"], first["T_3"]["reconstruction"], rtol=0.05)
    assert first["T_3"]["diffusion"] > 1.2 * first["inf"]["diffusion"]


def test_a_finished_comparison_does_nothing_and_more_of_it_only_what_is_missing(folder: Path) -> None:
    config = small(folder)
    _, printed = run(config, folder / "whole")
    assert "training" not in printed
    _, printed = run(config, folder / "whole", evaluated=(3, 10, 40))
    assert "inf-seed_0 at T_10" in printed
    assert "inf-seed_0 at T_3" not in printed
    assert "training" not in printed


def test_more_seeds_are_runs_of_their_own_with_the_same_noise(folder: Path) -> None:
    """Only those of the new seed are trained; the errors are then over seeds, and the record has each one's number."""
    table, printed = run(small(folder), folder / "whole", seeds=2)
    assert "training inf-seed_1" in printed
    assert "seed_0 at" not in printed
    record = json.loads((folder / "whole" / "comparison.json").read_text())
    assert record["seeds"] == [0, 1]
    own = record["rows"]["trained and evaluated at T"][0]
    by_seed = []
    for seed in (0, 1):
        path = folder / "whole" / f"T_3-seed_{seed}"
        assert read_config(path).seed == seed
        by_seed.append(np.load(bounds_file(path / "bounds" / "T_3"))["bits"].mean())
    assert abs(by_seed[0] - by_seed[1]) > 1e-4
    np.testing.assert_allclose(list(own["by_seed"].values()), by_seed, rtol=1e-6)
    np.testing.assert_allclose(own["bits_per_dim"]["over_seeds"], abs(by_seed[0] - by_seed[1]) / 2, rtol=1e-4)
    assert "± over 2 seeds" in table


def test_seeds_beyond_what_a_config_takes_are_refused(folder: Path) -> None:
    config = small(folder)
    config.seed = 2**32 - 2
    with pytest.raises(InputError, match=r"comparison\.seeds=3: with config\.seed=4294967294 the last one"):
        run(config, folder / "refused", seeds=3)
    assert not (folder / "refused").exists()


def test_a_finished_model_of_another_config_is_refused(folder: Path) -> None:
    config = small(folder)
    config.optimizer.learning_rate = 3e-3
    with pytest.raises(InputError, match=r"learning_rate 0.01 there, 0.003 here"):
        run(config, folder / "whole")


def test_its_numbers_are_those_of_evaluate(folder: Path) -> None:
    """Image by image at the same T, with the same draws, in batches of another size."""
    path = folder / "whole" / "inf-seed_0"
    evaluate = Evaluate(read_config(path), path, "latest", Console(file=io.StringIO()))
    run = evaluate.run
    evaluator = Evaluator(run.model, run.mesh, 16)
    for num_steps, draws, name in ((3, 18, "T_3"), (None, 20, "inf")):
        found = evaluator.estimates(
            run.variables, run.dataset.test, evaluate.key, draws, max_images=NUM, num_steps=num_steps
        )
        bits = found.terms.sum(axis=(0, 1)) / (64 * np.log(2))
        np.testing.assert_allclose(np.load(bounds_file(path / "bounds" / name))["bits"], bits, rtol=1e-5)
    results = evaluate.bound([3, None], None)
    assert [result.num_steps for result in results] == [3, None]
    draws = evaluate.run.config.evaluation.draws
    assert (path / "evaluations" / f"step_{evaluate.run.step}_draws_{draws}_T_3.json").exists()
    discrete = json.loads((folder / "whole" / "T_3-seed_0" / "evaluation.json").read_text())
    assert discrete["num_steps"] == 3


def test_bounds_of_other_images_are_measured_anew(folder: Path) -> None:
    """Those measured before images were chosen from all over, of as many: nothing says which they were of."""
    path = bounds_file(folder / "whole" / "inf-seed_0" / "bounds" / "inf")
    with np.load(path) as file:
        saved = dict(file)
    run(small(folder), folder / "whole")
    kept = path.stat().st_mtime_ns
    indices = saved.pop("indices")
    np.testing.assert_array_equal(indices, selected(len(open_run(folder / "whole" / "inf-seed_0").dataset.test), NUM))
    for other in ({}, {"indices": np.arange(NUM)}):
        np.savez(path, **(saved | other | {"bits": 0 * saved["bits"]}))
        run(small(folder), folder / "whole")
        with np.load(path) as file:
            np.testing.assert_allclose(file["bits"], saved["bits"], rtol=1e-6)
    assert kept < path.stat().st_mtime_ns


def test_evaluate_to_a_standard_error_and_the_variance_report(folder: Path) -> None:
    out = io.StringIO()
    evaluate = Evaluate(
        read_config(folder / "whole" / "inf-seed_0"), folder / "whole" / "inf-seed_0", "latest", Console(file=out)
    )
    evaluate.bound(None, 0.05)
    of_training = (folder / "whole" / "inf-seed_0" / "evaluation.json").read_text()
    stem = folder / "whole" / "inf-seed_0" / "evaluations" / f"step_{evaluate.run.step}"
    saved = json.loads(stem.with_name(f"{stem.name}_stderr_0.05_T_inf.json").read_text())
    assert saved["bits_per_dim"]["noise_stderr"] < 0.06
    assert saved["num_draws"] == saved["plan"]["calls_per_image"]
    assert "network calls per image" in " ".join(out.getvalue().split())
    evaluate.variance(4)
    assert len(json.loads(stem.with_name(f"{stem.name}_variance_4.json").read_text())["lines"]) == 4
    assert stem.with_name(f"{stem.name}_variance_4.png").stat().st_size > 0
    assert (folder / "whole" / "inf-seed_0" / "evaluation.json").read_text() == of_training
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="stderr"):
            evaluate.bound(None, bad)
    with pytest.raises(InputError, match="variance"):
        evaluate.variance(2)


def test_numbers_of_steps_on_the_command_line() -> None:
    assert parse_steps("5,10,inf") == [5, 10, None]
    for bad in ("0", "5,", "-3", "1e3", "five", "2000000", "²"):
        with pytest.raises(InputError, match="--T="):
            parse_steps(bad)


def test_it_refuses_one_image_before_it_trains(folder: Path) -> None:
    with pytest.raises(InputError, match="standard error"):
        run(small(folder), folder / "one", max_images=1)
    assert not (folder / "one" / "inf-seed_0").exists()


def test_it_refuses_a_config_of_one_discrete_model(folder: Path) -> None:
    config = small(folder)
    config.objective.num_steps = 10
    with pytest.raises(InputError, match=r"comparison\.trained"):
        run(config, folder / "refused")
    assert not (folder / "refused").exists()


def test_two_in_one_folder_are_refused(folder: Path) -> None:
    with lock(folder / "locked"), pytest.raises(InputError, match="locked: another run is writing here"):
        run(small(folder), folder / "locked")
