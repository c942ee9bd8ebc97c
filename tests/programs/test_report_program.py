"""`vdm report`, and the report that training ends with: its commands, and failures that lose nothing."""

import io
import json
import re
import shlex
from pathlib import Path

import jax
import made_runs
import pytest
import tiny
from rich.console import Console

import vdm
from vdm.config import Config, DataConfig, NetworkConfig, ObjectiveConfig, to_dict
from vdm.data import load
from vdm.errors import InputError
from vdm.predecessors.config import ModelConfig, PredecessorConfig
from vdm.programs import config_files, report
from vdm.programs.commands.report import main
from vdm.report import collect
from vdm.settings import flatten


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(folder, what was printed) of a run of four steps."""
    folder, said = tmp_path_factory.mktemp("report"), io.StringIO()
    config = tiny.run_config(folder, steps=4, log_every=2, evaluate_every=2)
    with jax.numpy_dtype_promotion("standard"):
        vdm.train(config, folder / "run", console=Console(file=said, width=300))
    return folder / "run", said.getvalue()


def test_training_ends_with_a_report(trained: tuple[Path, str]) -> None:
    path, said = trained
    assert f"report: {path / 'report.html'}" in said
    text = (path / "report.html").read_text()
    evaluation = json.loads((path / "evaluation.json").read_text())
    assert f"{evaluation['bits_per_dim']['total']:.2f}"[:4] in text
    found = collect(path)
    assert found.missing == []
    assert found.data is not None
    # By the count of the console: "network of 1,234 parameters".
    assert report.num_parameters(path) == int(re.search(r"network of ([\d,]+) parameters", said)[1].replace(",", ""))
    curves = found.curves
    assert len(curves["schedule"]["t"]) == len(curves["schedule"]["gamma"]) == 201
    gamma = curves["schedule"]["gamma"]
    assert gamma == sorted(gamma)
    assert curves["step"] == 4
    means = [mean for mean in curves["times"]["mean"] if mean is not None]
    # The diffusion term is the mean over t: about that of the bins.
    assert sum(means) / len(means) == pytest.approx(evaluation["bits_per_dim"]["diffusion"], rel=0.5)


def test_a_report_that_fails_does_not_lose_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no\nroom")

    monkeypatch.setattr(report, "draw_examples", fail)
    said = io.StringIO()
    report.report_of_training(
        tmp_path, load(DataConfig(data_dir=str(tmp_path / "data"))), Console(file=said, width=200)
    )
    assert said.getvalue() == "warning: no report was written: no room\n"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (made_runs.make_run(tmp_path / name) for name in ("one", "two"))
    main([str(one)])
    assert capsys.readouterr().out == f"{one / 'report.html'}\n"
    main([str(one), str(two), f"--out={tmp_path / 'new' / 'both.html'}"])
    assert "2 runs side by side" in (tmp_path / "new" / "both.html").read_text()
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path)])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said == f"error: {tmp_path}: has no config.json, so it is not a run; vdm train makes one\n"


CONFIGS = {
    "digits": Config(seed=3, data=DataConfig(shape=(8, 8, 1), levels=17), network=NetworkConfig(condition=("label",))),
    "steps": Config(objective=ObjectiveConfig(num_steps=10, weighting="sigmoid(2)")),
    "vae": PredecessorConfig(model=ModelConfig(name="hvae(layers=2)")),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_training_command_makes_the_same_config(name: str) -> None:
    """Its config file with its overrides is the run's config, but for what is read from the data."""
    wanted = json.loads(json.dumps(to_dict(CONFIGS[name])))
    command = report.training_command(wanted, "runs/x")
    words = dict(word.removeprefix("--").split("=", 1) for word in shlex.split(command)[2:])
    assert words.pop("workdir") == "runs/x"
    base = config_files.load(config_files.find(words.pop("config")), (Config, PredecessorConfig)).config
    made = {field: report.shown_value(value) for field, value in flatten(base).items()}
    made |= {field.removeprefix("config."): value for field, value in words.items()}
    for field, value in flatten(CONFIGS[name]).items():
        if field not in report.FILLED:
            assert made[field] == report.shown_value(value), field


def test_a_config_that_comes_with_vdm_is_its_own_command() -> None:
    config = json.loads(json.dumps(to_dict(config_files.load(config_files.find("digits")).config)))
    assert report.training_command(config, "runs/a b") == "vdm train --config=digits '--workdir=runs/a b'"


def test_a_run_of_a_model_of_its_caller_has_no_training_command(tmp_path: Path) -> None:
    found = collect(made_runs.make_run(tmp_path / "run"))
    assert next(iter(report.commands(found).values())).startswith("vdm train --config=")
    found.record["sessions"][-1]["given"] = ["model"]
    assert not any(line.startswith("vdm train") for line in report.commands(found).values())


def test_data_of_tfds_are_not_loaded_for_a_report() -> None:
    assert report._is_at_hand("digits")
    assert report._is_at_hand("npz:/data/a.npz")
    assert not report._is_at_hand("cifar10")
    assert not report._is_at_hand("tfds('cifar10')")


def test_examples_are_drawn_where_the_run_has_none(tmp_path: Path) -> None:
    run = made_runs.make_run(tmp_path / "run")
    (run / "plots" / "data.png").unlink()
    with report._examples_of(run) as drawn:
        assert drawn is not None
        assert drawn.exists()
    with report._examples_of(tmp_path / "nothing") as drawn:
        assert drawn is None


def test_another_error_than_of_input_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        report.write_report([tmp_path / "nothing"])
