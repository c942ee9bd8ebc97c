"""Samples measured while a model is trained: what is recorded, that nothing is made twice, and what is refused."""

import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import conditional
import event_files
import jax
import judging
import numpy as np
import pytest
import tiny
from rich.console import Console

import vdm
from vdm.classifier import ClassifierConfig
from vdm.config import Config, EvaluationConfig, SamplingConfig, validate
from vdm.data import in_memory
from vdm.errors import InputError, Stopped
from vdm.evaluation.metrics import Reference
from vdm.evaluation.metrics.frechet import Frechet
from vdm.programs import judges
from vdm.programs.hooks import Evaluate, Hook, Save, every
from vdm.programs.session import Session
from vdm.runs.records import read_metrics

STEPS, SAMPLES = 4, 20
DATA = conditional.dataset()
MODEL = conditional.model(True)
JUDGE = judging.opened(conditional.SHAPE, conditional.LEVELS, conditional.NUM)
NAMES = ("fd_classifier", "class_accuracy")


def config(metrics: tuple[str, ...] = NAMES) -> Config:
    made = tiny.run_config(Path(), STEPS, log_every=4, evaluate_every=2, checkpoint_every=2)
    made.network.condition = ("label",)
    made.evaluation = EvaluationConfig(batch_size=24, draws=1, metrics=metrics, samples=SAMPLES)
    made.sampling = SamplingConfig(num=8, steps=2, batch_size=8)
    return made


def run(path: Path, hooks: list[Hook] | None = None, settings: Config | None = None) -> str:
    out = io.StringIO()
    hooks = [Evaluate(), Save()] if hooks is None else hooks
    vdm.train(settings or config(), path, DATA, MODEL, hooks, Console(file=out, width=200))
    return out.getvalue()


def measured(path: Path) -> list[dict]:
    return [record for record in read_metrics(path / "metrics.jsonl") if record["kind"] == "metrics"]


@pytest.fixture(scope="module", autouse=True)
def _by_a_known_classifier() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judges, "opener", lambda *_: lambda: JUDGE)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[np.ndarray]]:
    """A run, what it printed, and the samples of its averaged weights at each evaluation."""
    path, samples = tmp_path_factory.mktemp("measured") / "run", list[np.ndarray]()

    def draw(session: Session) -> None:
        key, condition = session.key(vdm.keys.Stream.SAMPLING), session.conditions(SAMPLES)
        samples.append(session.sampler(session.variables, key, SAMPLES, condition=condition)[0])

    with jax.numpy_dtype_promotion("standard"):
        return path, run(path, [Evaluate(), every(2, draw), Save()]), samples


def test_each_evaluation_has_the_metrics_of_samples(whole: tuple[Path, str, list[np.ndarray]]) -> None:
    path, printed, samples = whole
    records = measured(path)
    assert [record["step"] for record in records] == [2, 4]
    labels = np.arange(SAMPLES) % conditional.NUM
    real = np.stack([element["image"] for element in DATA.train])
    distance = Frechet(Reference.of(judging.features(JUDGE, real).astype(np.float32)))
    for record, images in zip(records, samples, strict=True):
        found = distance.estimate(judging.features(JUDGE, images).astype(np.float32))
        assert record["fd_classifier"] == pytest.approx(found.value, rel=1e-3)
        assert record["fd_classifier_stderr"] == pytest.approx(found.stderr, rel=1e-3)
        assert record["class_accuracy"] == pytest.approx(100 * np.mean(judging.guesses(JUDGE, images) == labels))
        line = next(line for line in printed.splitlines() if line.startswith(f"step {record['step']}  FD-classifier"))
        assert f"± {record['fd_classifier_stderr']:.2f}, class accuracy {record['class_accuracy']:.1f} ± " in line
        assert line.endswith(f" % ({SAMPLES} samples)")
    curves = event_files.read(path / "tensorboard")["metrics"]
    for name in (*NAMES, "fd_classifier_stderr"):
        assert curves[name] == [(record["step"], pytest.approx(record[name])) for record in records]


def test_a_stop_cuts_it_short_and_it_is_made_up_for_once(
    whole: tuple[Path, str, list[np.ndarray]], tmp_path: Path
) -> None:
    def stop(session: Session) -> None:
        if session.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match="step 2"):
        run(tmp_path / "run", [every(2, stop), Evaluate(), Save()])
    assert measured(tmp_path / "run") == []
    run(tmp_path / "run")
    assert measured(tmp_path / "run") == measured(whole[0])
    # All is there.
    assert "samples)" not in run(tmp_path / "run")
    assert measured(tmp_path / "run") == measured(whole[0])


def test_samples_that_cannot_be_measured_stop_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise ValueError("images: are of no kind")

    monkeypatch.setattr(Frechet, "estimate", never)
    printed = run(tmp_path / "run", settings=config(("fd_classifier",)))
    said = (
        "warning: step 2: samples are not measured: config.evaluation.metrics=('fd_classifier',): fd_classifier: images"
    )
    assert said in printed
    assert measured(tmp_path / "run") == []


def test_what_cannot_be_measured_is_refused_before_there_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(words: str, settings: Config, data=DATA, model=MODEL) -> None:
        with pytest.raises(InputError, match=words):
            vdm.train(settings, tmp_path / "run", data, model, [], Console(quiet=True))

    refused(r"config\.evaluation\.metrics=\('fad',\): 'fad': must be one of mmd", config(("fad",)))
    refused(r"config\.evaluation\.metrics=\('fid',\): .*weights", config(("fid",)))
    alone = config(("class_accuracy",))
    alone.network.condition = ()
    words = r"config\.evaluation\.metrics=\('class_accuracy',\): class_accuracy: needs the labels of the images"
    refused(words, alone, model=conditional.model(False))
    monkeypatch.undo()
    image = {"image": np.asarray(tiny.images(4))}
    alone.evaluation.metrics = ("fd_classifier",)
    with monkeypatch.context() as patch:
        patch.setattr(judges, "opener", lambda dataset, *_: lambda: judges.check_labels(dataset, "metrics"))
        grey = in_memory(image, image, levels=17, name="grey")
        refused("metrics: its data, 'grey', have no labels", alone, grey, conditional.model(False))
    assert not (tmp_path / "run").exists()


def test_a_classifier_draws_no_samples() -> None:
    with pytest.raises(InputError, match=r"config\.evaluation\.metrics=\('mmd',\): a classifier draws no samples"):
        validate(ClassifierConfig(evaluation=EvaluationConfig(metrics=("mmd",))))
