"""Whole runs: killed and resumed to the bit, stopped by signals, and stopped by what is not finite."""

import dataclasses
import errno
import gzip
import io
import itertools
import json
import os
import re
import runpy
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import commands
import event_files
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from rich.console import Console

import vdm.model
from vdm import parallel
from vdm.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    NetworkConfig,
    OptimizerConfig,
    SamplingConfig,
    ScheduleConfig,
    TrainingConfig,
)
from vdm.data import load, resolve
from vdm.data.pipeline import _BatchIterator
from vdm.errors import InputError, NonFiniteError, Stopped, WorkerDied
from vdm.evaluation.bound import Evaluation, Evaluator
from vdm.evaluation.images import ImageSampler, NonFiniteLatents
from vdm.keys import Stream
from vdm.programs import loop
from vdm.programs.diffusion import task_of
from vdm.programs.hooks import every, standard
from vdm.programs.session import open_session
from vdm.programs.train import train
from vdm.runs.checkpoints import Checkpoints
from vdm.runs.records import read_metrics, weights_digest, write_evaluation
from vdm.runs.trackers.jsonl import Jsonl
from vdm.runs.trackers.tracker import Numbers
from vdm.training.state import Trained, make_optimizer

ROOT = Path(__file__).parent.parent.parent
STEPS = 24
# What the two runs' folders differ in; the benchmark's own tool, so that this tests it as well.
differences = runpy.run_path(str(ROOT / "benchmarks" / "kills.py"))["differences"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the embedded data and the runs of this file."""
    return tmp_path_factory.mktemp("loop")


def tiny(folder: Path, **optimizer: Any) -> Config:
    return Config(
        data=DataConfig(name="digits", data_dir=str(folder / "data")),
        schedule=ScheduleConfig(name="learned_monotone(hidden=8)", gamma_min=-7.0),
        network=NetworkConfig(name="dit", channels=4, depth=1, dropout=0.2),
        # Its state has all of adamw's kinds of arrays, and more.
        optimizer=OptimizerConfig(**({"name": "muon", "learning_rate": 1e-2, "warmup_steps": 5} | optimizer)),
        training=TrainingConfig(
            steps=STEPS, batch_size=2, log_every=4, evaluate_every=12, checkpoint_every=3, sample_every=0
        ),
        evaluation=EvaluationConfig(batch_size=100, draws=2),
        sampling=SamplingConfig(num=4, steps=2, batch_size=4),
    )


def run_here(config: Config, workdir: Path, profile: tuple[int, int] | None = None) -> tuple[Evaluation, str]:
    out = io.StringIO()
    return train(config, workdir, console=Console(file=out, width=200), profile=profile), out.getvalue()


def arrays(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint by its path."""
    restored = ocp.StandardCheckpointer().restore((workdir / "checkpoints" / str(step) / "state").absolute())
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(restored)}


def test_a_run_leaves_everything_it_promises(folder: Path) -> None:
    result, printed = run_here(tiny(folder), folder / "whole" / "run", profile=(10, 11))
    path = folder / "whole" / "run"
    assert "traced steps 10 to 11: " in printed
    (trace,) = (path / "profile").rglob("perfetto_trace.json.gz")
    with gzip.open(trace, "rt") as file:
        events = {str(event.get("name")) for event in json.load(file)["traceEvents"]}
    # Of this very program: steps, and operations on the devices.
    assert "train" in events
    assert any("fusion" in name for name in events)
    evaluation = json.loads((path / "evaluation.json").read_text())
    assert evaluation["bits_per_dim"]["total"] == result.total
    assert set(evaluation["bits_per_dim"]) == {
        "total", "reconstruction", "prior", "diffusion", "stderr", "noise_stderr",
    }  # fmt: skip
    assert evaluation["num_images"] == 300
    assert evaluation["num_draws"] == 2
    assert evaluation["checkpoint_step"] == STEPS
    assert evaluation["data"]["name"] == "digits"
    record = json.loads((path / "run.json").read_text())
    assert record["data"]["levels"] == 17
    plots = [f"plots/{name}.png" for name in ("loss", "terms", "schedule", "times", "variance")]
    for name in ("config.json", "samples/final.png", *plots):
        assert (path / name).stat().st_size > 0, name
    records = read_metrics(path / "metrics.jsonl")
    shown = event_files.read(path / "tensorboard")
    assert set(shown) == {"", "train", "test", "final"}
    for run, kind in (("train", "train"), ("test", "evaluation"), ("final", "final")):
        recorded = [(r["step"], np.float32(r["bits_per_dim"])) for r in records if r["kind"] == kind]
        assert shown[run]["bits_per_dim"] == recorded
    for tag, name in (("samples", "samples/final"), ("schedule", "plots/schedule"), ("times", "plots/times")):
        assert shown["final"][tag] == [(STEPS, (path / f"{name}.png").read_bytes())]
    kinds = [r["kind"] for r in records]
    assert kinds.count("train") == STEPS // 4
    assert kinds.count("evaluation") == 2
    assert kinds.count("final") == 1
    # Which of the two evaluations of the last step is which.
    for name, draws in (("test", "1 draw"), ("final test", "2 draws")):
        assert re.search(rf"step {STEPS}  {name} \d.*bits/dim \(all 300 test images, {draws} each; float32\)", printed)
    assert f"step {STEPS}  final test {result}" in printed


def test_a_finished_run_is_left_as_it_is(folder: Path) -> None:
    before = arrays(folder / "whole" / "run", STEPS)
    again, printed = run_here(tiny(folder), folder / "whole" / "run", profile=(10, 11))
    assert "--profile_steps=10:11: none of these steps was run" in printed
    assert f"resuming at step {STEPS}" in printed
    for name, value in arrays(folder / "whole" / "run", STEPS).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    kinds = [r["kind"] for r in read_metrics(folder / "whole" / "run" / "metrics.jsonl")]
    assert kinds.count("evaluation") == 2
    assert kinds.count("final") == 1
    shown = event_files.read(folder / "whole" / "run" / "tensorboard")
    assert [[step for step, _ in points] for points in shown["final"].values()].count([STEPS]) == len(shown["final"])
    assert (
        json.loads((folder / "whole" / "run" / "evaluation.json").read_text())["bits_per_dim"]["total"] == again.total
    )


def test_more_steps_at_a_constant_rate_are_those_of_a_longer_run(folder: Path) -> None:
    config, path, whole = tiny(folder), folder / "longer" / "run", folder / "whole" / "run"
    half = replace(config, training=replace(config.training, steps=STEPS // 2))
    assert json.loads((whole / "evaluation.json").read_text())["checkpoint_step"] == STEPS
    first, _ = run_here(half, path)
    run_here(config, path)
    assert differences(whole, path) == [f"only in the trial: evaluations/final_step_{STEPS // 2}.json"]
    kept = json.loads((path / "evaluations" / f"final_step_{STEPS // 2}.json").read_text())
    assert kept["bits_per_dim"]["total"] == first.total
    with pytest.raises(
        InputError, match=rf"config\.training\.steps={STEPS // 2}: must be at least {STEPS}, the steps already done"
    ):
        run_here(half, path)


def test_a_run_starts_from_the_averaged_weights_of_another(folder: Path) -> None:
    """With cosine decay too; its step 0 is the source's bound to the bit."""
    source, path, console = folder / "whole" / "run", folder / "from", Console(quiet=True)
    config = tiny(folder, decay="cosine", b1=0.8)
    dataset = load(config.data)
    config = resolve(config, dataset)
    with open_session(config, path, dataset, task_of(config), console, [], f"{source}:latest") as session:
        assert session.step == 0
        trained = Trained(jnp.int32(0), session.variables, session.state.proposal)
        with Checkpoints(source / "checkpoints", read_only=True) as checkpoints:
            theirs = checkpoints.restore_one(Trained(*parallel.abstract(lambda: trained, session.mesh)))
        for ours in (session.state.ema, session.state.variables):
            jax.tree.map(np.testing.assert_array_equal, ours, theirs.ema)
        pointers = [jax.tree.leaves(tree)[0].unsafe_buffer_pointer() for tree in (
            jax.tree.map(lambda x: x.addressable_data(0), session.state.ema),
            jax.tree.map(lambda x: x.addressable_data(0), session.state.variables))]  # fmt: skip
        assert pointers[0] != pointers[1]
        fresh = jax.jit(make_optimizer(config).init)(session.state.variables)
        jax.tree.map(np.testing.assert_array_equal, session.state.opt_state, fresh)
        result = session.evaluator(session.variables, dataset.test, session.key(Stream.EVALUATION), 2)
    assert result.to_dict()["bits_per_dim"] == json.loads((source / "evaluation.json").read_text())["bits_per_dim"]
    record = json.loads((path / "run.json").read_text())["init_from"]
    digest = weights_digest(theirs.ema)
    assert record == {
        "run": str(source), "checkpoint": "latest", "step": STEPS, "weights": "ema", "weights_digest": digest
    }  # fmt: skip


def test_a_run_does_not_start_from_another_model(folder: Path) -> None:
    source, config = folder / "whole" / "run", tiny(folder)
    for field, changed in (
        (r"network\.prediction 'eps' there, 'v' here", replace(config.network, prediction="v")),
        (r"network\.channels 4 there, 8 here", replace(config.network, channels=8)),
    ):
        with pytest.raises(InputError, match=rf"--init_from={source}: is of another model: {field}"):
            train(replace(config, network=changed), folder / "other", init_from=str(source))
    own = vdm.model.from_config(resolve(replace(config, network=replace(config.network, depth=2)), load(config.data)))
    with pytest.raises(
        InputError, match=r"--init_from=.*another architecture: ema/network/\S+ has shape none, the config"
    ):
        train(config, folder / "other", model=own, init_from=str(source))
    for text, says in (
        (f"{source}:7", r"checkpoint '7': not latest, best or one of"),
        (str(folder / "nothing"), r"has no config\.json"),
        ("", "must be RUN or RUN:CHECKPOINT"),
    ):
        with pytest.raises(InputError, match=rf"--init_from={text}: .*{says}"):
            train(config, folder / "other", init_from=text)
    assert not (folder / "other").exists()


def test_a_dead_worker_costs_no_step_and_a_full_disk_no_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = tiny(folder), folder / "faults" / "run"
    next_batch = _BatchIterator.__next__

    def die(self: _BatchIterator) -> dict[str, np.ndarray]:
        if self.get_state()["next_index"] == 5:
            raise WorkerDied("data worker 1 of 1 was killed")
        return next_batch(self)

    def not_finite(self: ImageSampler, *args: Any, **rest: Any) -> None:
        raise NonFiniteLatents("sampler ancestral: z of image 0 is not finite")

    out = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(_BatchIterator, "__next__", die)
        patch.setattr(ImageSampler, "__call__", not_finite)
        sampling = replace(config, training=replace(config.training, sample_every=4))
        with pytest.raises(WorkerDied):
            train(sampling, path, console=Console(file=out, width=200))
    assert "warning: step 4: no samples: sampler ancestral: z of image 0 is not finite" in out.getvalue()
    # Of the step where it happened, and not of its last multiple of three.
    assert (path / "checkpoints" / "5").is_dir()

    scalars = Jsonl.scalars

    def full(self: Jsonl, kind: str, step: int, numbers: Numbers) -> None:
        if step == 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        scalars(self, kind, step, numbers)

    with monkeypatch.context() as patch:
        patch.setattr(Jsonl, "scalars", full)
        # That of step 5 was to go on from, and went with the next.
        with pytest.raises(InputError, match=r"disk is full; complete checkpoints: \[3, 6\]"):
            run_here(config, path)


def test_faults_one_after_the_other_end_with_the_same_bits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After those of the test above: SIGTERM while evaluating, and a clock that jumps."""
    config, path, evaluate = tiny(folder), folder / "faults" / "run", Evaluator.__call__

    def stopped(self: Evaluator, *args: Any) -> Evaluation:
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "__call__", stopped)
        with pytest.raises(Stopped, match="step 12"):
            run_here(config, path)
    assert all(record["kind"] == "train" for record in read_metrics(path / "metrics.jsonl"))

    # Orbax counts its patience, some minutes, by the wall clock: longer jumps go backwards, or between sessions.
    now = [time.time() + 1e9]
    jumps = itertools.cycle((-1e6, 60.0, -1.0, 0.0))
    out = io.StringIO()

    def write_last(*args: Any) -> None:
        """To compare.py a run with an evaluation.json is done: all else must be there."""
        assert (path / "samples" / "final.png").exists()
        assert read_metrics(path / "metrics.jsonl")[-1]["kind"] == "final"
        write_evaluation(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_evaluation", write_last)
        patch.setattr(time, "time", lambda: now[0])
        jump = every(config.training.log_every, lambda session: now.append(now.pop() + next(jumps)))
        train(config, path, hooks=[jump, *standard()], console=Console(file=out, width=200))
    printed = out.getvalue()
    assert "resuming at step 12" in printed
    assert not re.search(r"-\d+(,\d+)? images/s|-\d+:\d+ left", printed)
    records = read_metrics(path / "metrics.jsonl")
    assert all(record["images_per_second"] > 0 for record in records if record["kind"] == "train")
    # Pictures too, which have the name of the run's folder.
    assert differences(folder / "whole" / "run", path) == []


def flags(folder: Path) -> list[str]:
    """The command line of `tiny`."""
    config = tiny(folder)
    groups = ("data", "schedule", "network", "optimizer", "training", "evaluation", "sampling")
    return [
        f"--config.{group}.{name}={value}"
        for group in groups
        for name, value in dataclasses.asdict(getattr(config, group)).items()
        if value is not None and value not in ((), "")
    ]


def run_program(folder: Path, workdir: Path, stops: Sequence[tuple[int, int]] = ()) -> list[int]:
    """Runs train.py in a process of its own until it is done; kills it with (step, signal) on the way.

    Returns the exit statuses.
    """
    # An adaptive proposal's state belongs to the checkpoint as well.
    rest = ["--config.objective.num_steps=50", "--config.objective.proposal=adaptive"]
    rest += ["--config.training.log_every=1"] if stops else []
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    statuses = []
    for stop in [*stops, None]:
        process = commands.start("train.py", f"--workdir={workdir}", *flags(folder), *rest, stdout=pipe, stderr=pipe)
        printed, sent = [], stop is None
        with pipe.open() as lines:
            for line in lines:
                printed.append(line)
                words = line.split()
                if not sent and words[:1] == ["step"] and int(words[1]) >= stop[0]:
                    os.kill(process.pid, stop[1])
                    sent = True
        process.join()
        statuses.append(process.exitcode)
        assert statuses[-1] in (0, -signal.SIGKILL, 128 + signal.SIGTERM), "".join(printed)
    pipe.unlink()
    return statuses


def test_killed_and_stopped_runs_end_with_the_same_bits(folder: Path) -> None:
    assert run_program(folder, folder / "unbroken") == [0]
    stops = [(8, signal.SIGTERM), (17, signal.SIGKILL)]
    statuses = run_program(folder, folder / "broken", stops)
    assert statuses == [128 + signal.SIGTERM, -signal.SIGKILL, 0]
    left, right = arrays(folder / "unbroken", STEPS), arrays(folder / "broken", STEPS)
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)
    assert (folder / "unbroken" / "evaluation.json").read_text() == (folder / "broken" / "evaluation.json").read_text()
    steps = [r["step"] for r in read_metrics(folder / "broken" / "metrics.jsonl") if r["kind"] == "train"]
    assert steps == list(range(1, STEPS + 1))


def test_what_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(folder: Path) -> None:
    """A learning rate of 1e30 from the fourth step on: the warm-up's first step has rate 0."""
    config = tiny(folder, learning_rate=1e30, warmup_steps=1, clip_norm=0.0)
    with pytest.raises(NonFiniteError, match=r"step \d+: the (diffusion|gradient) is not finite"):
        run_here(config, folder / "nan")
    for step in (folder / "nan" / "checkpoints").glob("[0-9]*"):
        assert all(np.isfinite(x).all() for x in arrays(folder / "nan", int(step.name)).values())


def test_bad_input_found_late_leaves_no_folder(folder: Path) -> None:
    config = tiny(folder)
    config.training.batch_size = 5000
    with pytest.raises(InputError, match="5000"):
        run_here(config, folder / "late")
    assert not (folder / "late").exists()


@pytest.mark.parametrize(("text", "says"), [("apg(2.0)", "has no labels"), ("autoguidance", "a weaker model")])
def test_samples_that_cannot_be_guided_are_refused_before_training(folder: Path, text: str, says: str) -> None:
    config = tiny(folder)
    config.sampling.guidance = text
    with pytest.raises(InputError, match=rf"^config.sampling.guidance='{re.escape(text)}': .*{says}"):
        run_here(config, folder / "unguided")
    assert not (folder / "unguided").exists()


def test_another_config_is_refused_before_anything_changes(folder: Path) -> None:
    before = (folder / "whole" / "run" / "config.json").read_text()
    with pytest.raises(InputError, match=r"optimizer\.b1"):
        run_here(tiny(folder, b1=0.5), folder / "whole" / "run")
    assert (folder / "whole" / "run" / "config.json").read_text() == before
