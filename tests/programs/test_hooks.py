"""The loop is open: data, a network and hooks of one's own go through `train` and come back by `open_run`."""

import io
import json
import os
import signal
from pathlib import Path

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from rich.console import Console

import vdm
from vdm import parallel, schedules, speed
from vdm.config import Config, EvaluationConfig, SamplingConfig
from vdm.data import in_memory
from vdm.errors import InputError, Stopped
from vdm.model import Model
from vdm.programs.hooks import Evaluate, Hook, Log, Save, every, standard
from vdm.programs.session import Session
from vdm.runs.checkpoints import Checkpoints
from vdm.runs.records import read_metrics, read_record
from vdm.training.prefetch import Prefetched
from vdm.training.state import TrainState, abstract_state

STEPS = 6
IMAGES = np.asarray(tiny.images(24))
DATA = in_memory({"image": IMAGES}, {"image": IMAGES}, levels=17, name="stripes")


class Linear(nn.Module):
    """ε̂ = W z + b γ: a network that knows nothing of ours."""

    @nn.compact
    def __call__(self, z, gamma, condition=None, train=False):
        flat = z.reshape(len(z), -1)
        gamma = jnp.broadcast_to(gamma, z.shape[:1])[:, None]
        return nn.Dense(flat.shape[1])(jnp.concatenate([flat, gamma], axis=1)).reshape(z.shape)


MODEL = Model(schedule=schedules.linear(-7.0, 4.0), network=Linear(), shape=(4, 4, 1), levels=17)


def config(**training: int) -> Config:
    made = tiny.run_config(Path(), STEPS, **({"log_every": 2, "evaluate_every": 0, "checkpoint_every": 3} | training))
    made.evaluation = EvaluationConfig(batch_size=24, draws=1)
    made.sampling = SamplingConfig(num=4, steps=2, batch_size=4)
    return made


class Weights(Hook):
    """Records the norm of the averaged weights, at odd steps; may be asked to stop in between."""

    def __init__(self, stop_at: int = 0):
        self.stop_at, self.finished_with = stop_at, None

    def due(self, session):
        return session.step % 2 == 1

    def missing(self, session):
        return session.step not in [r["step"] for r in read_metrics(session.path / "metrics.jsonl") if "norm" in r]

    def __call__(self, session):
        if session.step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        session.heed()
        session.record("weights", norm=sum(jnp.sum(x**2) for x in jax.tree.leaves(session.variables)))

    def finish(self, session):
        self.finished_with = session.evaluation


def run(path: Path, hooks: list[Hook] | None, settings: Config | None = None) -> str:
    out = io.StringIO()
    vdm.train(settings or config(), path, DATA, MODEL, hooks, Console(file=out, width=200))
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hooks")
    with jax.numpy_dtype_promotion("standard"):
        run(folder / "whole", [*standard(), Weights()])
    return folder


def records(path: Path) -> list[dict]:
    timed = ("images_per_second", "mfu")
    return [{k: v for k, v in r.items() if k not in timed} for r in read_metrics(path / "metrics.jsonl")]


def test_ones_own_data_network_and_hook_come_back(folder: Path) -> None:
    path = folder / "whole"
    opened = vdm.open_run(path, model=MODEL, dataset=DATA)
    assert not any("mfu" in record for record in read_metrics(path / "metrics.jsonl"))
    assert (opened.step, opened.config.data.name, opened.dataset) == (STEPS, "stripes", DATA)
    assert opened.variables["network"]["Dense_0"]["kernel"].shape == (17, 16)
    assert read_record(path)["sessions"][-1]["given"] == ["model", "dataset"]
    assert read_record(path)["data"]["name"] == "stripes"
    norms = {r["step"]: r["norm"] for r in records(path) if r["kind"] == "weights"}
    assert list(norms) == [1, 3, 5]
    early = vdm.open_run(path, 3, model=MODEL)
    np.testing.assert_allclose(norms[3], sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(early.variables)), rtol=1e-5)
    assert json.loads((path / "evaluation.json").read_text())["data"]["name"] == "stripes"
    for match, given in (("model of its caller", {"dataset": DATA}), ("data of its caller", {"model": MODEL})):
        with pytest.raises(InputError, match=match):
            _ = vdm.open_run(path, **given).dataset


def test_a_stop_cuts_ones_own_hook_short_and_it_is_made_up_for(folder: Path) -> None:
    path = folder / "broken"
    with pytest.raises(Stopped, match="step 3"):
        run(path, [*standard(), Weights(stop_at=3)])
    assert [r["step"] for r in records(path) if r["kind"] == "weights"] == [1]
    assert (path / "checkpoints" / "3").is_dir()
    last = Weights()
    assert "resuming at step 3" in run(path, [*standard(), last])
    assert records(path) == records(folder / "whole")
    assert last.finished_with is not None
    assert (path / "evaluation.json").read_text() == (folder / "whole" / "evaluation.json").read_text()


def test_hooks_are_called_in_order_and_what_is_left_out_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, int]] = []

    def look(name: str):
        return lambda session: seen.append((name, session.step, int(session.metrics.num_steps)))

    # As if a device here made 1 MFLOP/s at most.
    monkeypatch.setitem(speed._PEAKS, "cpu", (None, 1e-6, None))
    options, compile_step = [], jax.stages.Lowered.compile

    def compiled(self, compiler_options=None, **kwargs):
        options.append(compiler_options)
        return compile_step(self, compiler_options, **kwargs)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compiled)
    hooks = [every(3, look("before")), Log(), every(3, look("after")), Evaluate()]
    printed = run(tmp_path / "run", hooks, config(log_every=3, evaluate_every=3, deterministic=True))
    assert options == [{"xla_gpu_deterministic_ops": True}]
    # The log line starts the sums anew.
    assert seen == [("before", 3, 3), ("after", 3, 0), ("before", 6, 3), ("after", 6, 0)]
    assert [r["kind"] for r in records(tmp_path / "run")] == ["train", "evaluation"] * 2 + ["final"]
    lines = [line for line in printed.splitlines() if "images/s" in line]
    logged = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "train"]
    for record, line in zip(logged, lines, strict=True):
        # Three products for an image of the one of 17 × 16, on eight devices.
        assert record["mfu"] == pytest.approx(record["images_per_second"] * 3 * 2 * 17 * 16 / 8e6)
        assert f"images/s  {record['mfu']:.0%} MFU  " in line
    said = [line.split()[1:4] for line in printed.splitlines() if "bits/dim (" in line]
    assert [words[:2] for words in said] == [["3", "test"], ["6", "test"], ["6", "final"]]
    assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))
    assert not (tmp_path / "run" / "samples").exists()


def test_several_steps_a_call_change_the_calls_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due ends a call; a stop, and going on with another number, leave the bits of a run of single steps."""
    calls: list[int] = []
    printed: list[str] = []
    take = Prefetched.take
    monkeypatch.setattr(Prefetched, "take", lambda self, num: calls.append(num) or take(self, num))

    def finish(name: str, steps_per_call: int, hooks: list[Hook]) -> TrainState:
        made = config(log_every=4, checkpoint_every=0, evaluate_every=0, steps_per_call=steps_per_call)
        made.training.steps = 9
        printed.append(run(tmp_path / name, hooks, made))
        with Checkpoints(tmp_path / name / "checkpoints", read_only=True) as checkpoints:
            return checkpoints.restore_one(abstract_state(made, parallel.make_mesh(8), MODEL))

    def stop(session: Session) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    hooks = [Log(), Evaluate(), Save()]
    single = finish("single", 3, [*hooks, every(1, lambda session: None)])
    assert calls == [1] * 9
    calls.clear()
    with pytest.raises(Stopped, match="step 3"):
        finish("several", 3, [every(3, stop), *hooks])
    # From 3 to the log line at 4; 5, 6 and 7 together, and 8, the next line; the last.
    several = finish("several", 3, hooks)
    # Compiled by the session before.
    assert "loaded a program of up to 3 training steps from the cache in " in printed[-1]
    assert calls == [3, 1, 3, 1, 1]
    chex.assert_trees_all_equal(single, several)
    assert records(tmp_path / "several") == records(tmp_path / "single")


def test_without_a_hook_that_saves_a_stop_still_does(tmp_path: Path) -> None:
    def stop(session: Session) -> None:
        if session.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match="step 2"):
        run(tmp_path / "run", [every(1, stop)])
    assert "resuming at step 2" in run(tmp_path / "run", [])


def test_a_model_for_other_images_is_refused_before_there_is_a_folder(tmp_path: Path) -> None:
    wide = Model(MODEL.schedule, Linear(), (4, 8, 1), 17)
    with pytest.raises(InputError, match=r"data\.shape=\(4, 4, 1\): must be \(4, 8, 1\), as in the given model"):
        vdm.train(config(), tmp_path / "run", DATA, wide, console=Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_another_model_does_not_go_on_with_the_run(folder: Path) -> None:
    with pytest.raises(InputError, match="another architecture: "):
        vdm.train(config(), folder / "whole", DATA, tiny.model(), console=Console(quiet=True))
