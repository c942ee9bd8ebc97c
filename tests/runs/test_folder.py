"""The run's folder: one config, one writer, files that are whole."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from vdm.config import (
    Config,
    DataConfig,
    NetworkConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainingConfig,
    to_dict,
)
from vdm.errors import InputError, is_disk_full
from vdm.files import write_json
from vdm.plots import images as pictures
from vdm.plots.axes import save
from vdm.runs import shards
from vdm.runs.folder import RunDir, check_same_model
from vdm.runs.records import read_config, read_record

DATA = {"name": "a", "version": "1", "num_train": 3}


def start(path: Path, config: Config) -> None:
    """A run that has a checkpoint."""
    run = RunDir(path, config, DATA)
    run.write_record({"platform": "cpu"})
    (path / "checkpoints" / "1").mkdir(parents=True, exist_ok=True)
    run.close()


def test_other_data_under_the_same_name_are_refused_and_moved_data_are_not(tmp_path: Path) -> None:
    start(tmp_path, Config(data=DataConfig(name="npz:a.npz")))
    with pytest.raises(InputError, match="other data: version '1' there, '2' here"):
        RunDir(tmp_path, Config(data=DataConfig(name="npz:a.npz")), DATA | {"version": "2"})
    RunDir(tmp_path, Config(data=DataConfig(name="npz:b.npz")), DATA | {"name": "b"}).close()


def test_without_a_checkpoint_any_config_may_follow(tmp_path: Path) -> None:
    RunDir(tmp_path, Config(), DATA).close()
    RunDir(tmp_path, Config(seed=1), DATA | {"version": "2"}).close()
    assert read_config(tmp_path).seed == 1


def test_every_session_is_recorded(tmp_path: Path) -> None:
    start(tmp_path, Config())
    start(tmp_path, Config())
    record = read_record(tmp_path)
    assert record["data"] == DATA
    assert [session["devices"] for session in record["sessions"]] == [{"platform": "cpu"}] * 2
    assert {"jax", "flax", "optax"} <= set(record["sessions"][0]["versions"])


def test_config_comes_back(tmp_path: Path) -> None:
    config = Config(seed=3, data=DataConfig(shape=(8, 8, 1), augmentations=("flip",)))
    start(tmp_path, config)
    assert read_config(tmp_path) == config


def test_another_config_is_refused_with_every_differing_field(tmp_path: Path) -> None:
    start(tmp_path, Config())
    other = Config(seed=1, optimizer=OptimizerConfig(learning_rate=1.0))
    with pytest.raises(InputError, match=r"seed 0 there, 1 here, optimizer.learning_rate 0.0002 there, 1.0 here"):
        RunDir(tmp_path, other, DATA)
    assert read_config(tmp_path) == Config()


def test_rhythm_may_change_and_is_recorded(tmp_path: Path) -> None:
    start(tmp_path, Config())
    other = Config(training=TrainingConfig(log_every=7, checkpoint_every=9))
    RunDir(tmp_path, other, DATA).close()
    assert read_config(tmp_path) == other


def test_memory_may_change_but_not_what_is_computed_in(tmp_path: Path) -> None:
    start(tmp_path, Config())
    smaller = Config(network=NetworkConfig(remat=True), training=TrainingConfig(accumulate=4))
    RunDir(tmp_path, smaller, DATA).close()
    rounded = Config(training=TrainingConfig(precision="bfloat16"))
    with pytest.raises(InputError, match=r"training\.precision 'tf32' there, 'bfloat16' here"):
        RunDir(tmp_path, rounded, DATA)
    # A checkpoint of it is the same model.
    check_same_model(Config(), rounded, tmp_path)


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Its config.json has the schedule's arguments as fields, and compare.py's settings; run.json has no config."""
    start(tmp_path, Config())
    write_json(tmp_path / "run.json", {"data": DATA, "sessions": []})
    old = to_dict(Config())
    old["schedule"] = {"name": "learned_monotone", "gamma_min": -13.3, "gamma_max": 5.0, "shift": 0.0, "hidden": 8}
    old["comparison"] = {"trained": [5], "samplers": ["heun@karras"]}
    del old["network"]["name"], old["imports"]
    old["network"]["dtype"] = "bfloat16"
    for group in ("training", "evaluation", "sampling"):
        del old[group]["precision"]
    write_json(tmp_path / "config.json", old)
    write_json(tmp_path / "run.json", {"data": DATA})
    with pytest.raises(InputError, match=r"'learned_monotone\(hidden=8\)' there, 'learned_monotone' here") as refused:
        RunDir(tmp_path, Config(), DATA)
    assert "training.precision 'bfloat16' there, 'tf32' here" in str(refused.value)
    schedule = ScheduleConfig(name="learned_monotone(hidden=8)")
    same = Config(schedule=schedule, training=TrainingConfig(precision="bfloat16"))
    RunDir(tmp_path, same, DATA).close()
    assert read_config(tmp_path) == same


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("data", "levels", 16),
        ("network", "prediction", "v"),
        ("schedule", "gamma_min", -9.0),
        ("objective", "num_steps", 7),
    ],
)
def test_a_config_edited_by_hand_is_refused(tmp_path: Path, group: str, name: str, value: Any) -> None:
    """Where that gives the checkpoints another meaning; what is free to differ is free here, too."""
    start(tmp_path, Config(data=DataConfig(shape=(4, 4, 1), levels=17)))
    values = to_dict(read_config(tmp_path))
    values["training"]["log_every"] = 7
    write_json(tmp_path / "config.json", values)
    assert read_config(tmp_path).training.log_every == 7
    values[group][name] = value
    write_json(tmp_path / "config.json", values)
    says = rf"config\.json: {group}\.{name}={value!r}: the run was made with .*; put it back"
    with pytest.raises(InputError, match=says):
        read_config(tmp_path)


@pytest.mark.parametrize("decay", ["constant", "cosine"])
def test_more_steps_only_without_decay(tmp_path: Path, decay: str) -> None:
    config = Config(optimizer=OptimizerConfig(decay=decay), training=TrainingConfig(steps=10))
    start(tmp_path, config)
    longer = dataclasses.replace(config, training=TrainingConfig(steps=20))
    if decay == "constant":
        RunDir(tmp_path, longer, DATA).close()
    else:
        with pytest.raises(InputError, match=r"training\.steps 10 there, 20 here: with .*decay=cosine.*--init_from="):
            RunDir(tmp_path, longer, DATA)


def test_fewer_steps_than_are_done_are_refused_and_change_nothing(tmp_path: Path) -> None:
    config = Config(training=TrainingConfig(steps=30))
    start(tmp_path, config)
    (tmp_path / "checkpoints" / "20").mkdir()
    # Not complete.
    (tmp_path / "checkpoints" / "25.orbax-checkpoint-tmp").mkdir()
    with pytest.raises(InputError, match=r"config\.training\.steps=19: must be at least 20, the steps already done"):
        RunDir(tmp_path, Config(training=TrainingConfig(steps=19)), DATA)
    assert read_config(tmp_path) == config
    RunDir(tmp_path, Config(training=TrainingConfig(steps=20)), DATA).close()


def test_the_final_evaluation_of_fewer_steps_is_kept(tmp_path: Path) -> None:
    start(tmp_path, Config(training=TrainingConfig(steps=10)))
    write_json(tmp_path / "evaluation.json", {"checkpoint_step": 10})
    RunDir(tmp_path, Config(training=TrainingConfig(steps=10)), DATA).close()
    assert (tmp_path / "evaluation.json").exists()
    RunDir(tmp_path, Config(training=TrainingConfig(steps=20)), DATA).close()
    assert not (tmp_path / "evaluation.json").exists()
    assert json.loads((tmp_path / "evaluations" / "final_step_10.json").read_text()) == {"checkpoint_step": 10}


def test_a_damaged_final_evaluation_is_put_aside(tmp_path: Path) -> None:
    start(tmp_path, Config(training=TrainingConfig(steps=10)))
    (tmp_path / "evaluation.json").write_text("{")
    RunDir(tmp_path, Config(training=TrainingConfig(steps=20)), DATA).close()
    assert not (tmp_path / "evaluation.json").exists()
    assert (tmp_path / "evaluation.json.bad").read_text() == "{"


def test_a_lost_config_is_that_of_the_record_or_the_one_given(tmp_path: Path) -> None:
    config = Config(seed=3)
    start(tmp_path, config)
    (tmp_path / "config.json").unlink()
    assert read_config(tmp_path) == config
    with pytest.raises(InputError, match="seed 3 there, 4 here"):
        RunDir(tmp_path, Config(seed=4), DATA)
    run = RunDir(tmp_path, config, DATA)
    run.close()
    assert run.warnings == []
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 3
    # Nothing of an earlier version's is left but the checkpoints.
    (tmp_path / "config.json").unlink()
    (tmp_path / "run.json").unlink()
    with pytest.raises(
        InputError, match=r"has checkpoints but no config\.json; to resume, use vdm train with its --config"
    ):
        read_config(tmp_path)
    run = RunDir(tmp_path, config, DATA)
    run.close()
    assert run.warnings == [f"{tmp_path}: its config.json is lost: whether this is the run's config is not known"]
    assert read_config(tmp_path) == config


def test_a_run_that_has_begun_keeps_its_start(tmp_path: Path) -> None:
    source = {"run": "/runs/a", "checkpoint": "best"}
    run = RunDir(tmp_path / "b", Config(), DATA, source | {"step": 7})
    run.write_record({})
    run.close()
    start(tmp_path / "scratch", Config())
    (tmp_path / "b" / "checkpoints" / "1").mkdir(parents=True)
    # The same command, and the same without the flag; the step may not be known again.
    for given in (source, None):
        run = RunDir(tmp_path / "b", Config(), DATA, given)
        run.write_record({})
        run.close()
        assert read_record(tmp_path / "b")["init_from"] == source | {"step": 7}
    with pytest.raises(InputError, match=r"--init_from: the run in \S+ began from /runs/a:best"):
        RunDir(tmp_path / "b", Config(), DATA, source | {"checkpoint": "latest"})
    with pytest.raises(InputError, match=r"--init_from: the run in \S+ began from scratch"):
        RunDir(tmp_path / "scratch", Config(), DATA, source)


def test_second_writer_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    first = RunDir(tmp_path, Config(), DATA)
    with pytest.raises(InputError, match="another run"):
        RunDir(tmp_path, Config(), DATA)
    first.close()
    start(tmp_path, Config())


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        RunDir(tmp_path / "file", Config(), DATA)


def test_damaged_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(InputError, match=r"config\.json"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"sede": 1}')
    with pytest.raises(InputError, match="sede: no such field"):
        read_config(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
def test_a_full_disk_is_an_error_and_the_old_file_stays(tmp_path: Path) -> None:
    """Every kind of file that a run or its samples leave, written through a link to /dev/full."""
    image = np.zeros((1, 4, 4, 1), np.uint8)
    figure = Figure()
    figure.add_subplot().plot([0, 1])
    writers: dict[str, Callable[[Path], object]] = {
        "evaluation.json": lambda path: write_json(path, {"total": 1.0}),
        "shard_00000.npz": lambda path: shards._write(path, np.zeros((1000, 8, 8, 1), np.uint8)),
        "grid.png": lambda path: pictures.grid(image, path, 17),
        "frames.gif": lambda path: pictures.animation(np.zeros((2, 1, 4, 4, 1), np.float32), path),
        "plot.png": lambda path: save(figure, path),
    }
    for name, write in writers.items():
        path = tmp_path / name
        write(path)
        before = path.read_bytes()
        path.with_name(name + ".partial").symlink_to("/dev/full")
        with pytest.raises(OSError, match="No space left") as caught:
            write(path)
        assert is_disk_full(caught.value)
        assert path.read_bytes() == before, name
