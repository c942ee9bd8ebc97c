"""A model of vectors through all programs: trained, resumed to the bit, evaluated, sampled from, measured; and what is
refused of it."""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import commands
import jax
import numpy as np
import pytest
from rich.console import Console

import vdm
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
from vdm.data import toys
from vdm.errors import InputError
from vdm.evaluation.bound import Evaluation
from vdm.programs.asked import Asked
from vdm.programs.commands import compress
from vdm.programs.evaluate import Evaluate
from vdm.programs.hooks import Save
from vdm.programs.sample import Sample
from vdm.programs.score_samples import score_samples
from vdm.programs.train import train
from vdm.runs import shards
from vdm.runs.records import read_metrics, weights_digest

HALF, STEPS = 75, 150
QUIET = Console(quiet=True)
ENTROPY = toys.entropy("clusters") / (2 * np.log(2))


def config(steps: int = STEPS, **data: Any) -> Config:
    return Config(
        data=DataConfig(**{"name": "clusters", "shape": (2,), "levels": 0} | data),
        schedule=ScheduleConfig(name="learned_linear", gamma_min=-9.0, gamma_max=5.0),
        network=NetworkConfig(name="mlp", channels=16, depth=1, dropout=0.0, condition=("label",)),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=10, ema_decay=0.98),
        # A prime: on one device, which is compiled for sooner.
        training=TrainingConfig(
            steps=steps, batch_size=127, log_every=50, evaluate_every=0, checkpoint_every=0, sample_every=0,
        ),
        evaluation=EvaluationConfig(batch_size=200, draws=20, metrics=("mmd",), samples=200),
        sampling=SamplingConfig(num=50, steps=10, batch_size=50),
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _few() -> Iterator[None]:
    """Points, as the floor of a metric is drawn from all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toys, "NUM_TRAIN", 500)
        patch.setattr(toys, "NUM_TEST", 200)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vectors")


@pytest.fixture(scope="module")
def result(folder: Path) -> Evaluation:
    """Of the run in folder/run: trained for half of its steps, then for the rest."""
    out = io.StringIO()
    with jax.numpy_dtype_promotion("standard"):
        for steps in (HALF, STEPS):
            found = train(config(steps), folder / "run", console=Console(file=out, width=250))
    assert "test images of shape (2,) with real numbers; network of" in out.getvalue()
    assert f"resuming at step {HALF}" in out.getvalue()
    return found


def test_the_bound_is_above_the_entropy_but_well_below_what_it_was(folder: Path, result: Evaluation) -> None:
    # Labels say which of five clusters: at most log 5 nats.
    least = ENTROPY - np.log(5) / (2 * np.log(2))
    assert least - 3 * result.stderr < result.total < ENTROPY + 1
    records = read_metrics(folder / "run" / "metrics.jsonl")
    first, *_ = (record for record in records if record["kind"] == "train")
    assert first["bits_per_dim"] > result.total + 0.5
    assert [record["kind"] for record in records].count("metrics") == 2


def test_a_run_that_was_stopped_is_the_same_to_the_bit(folder: Path, result: Evaluation) -> None:
    straight = config()
    straight.evaluation.metrics = ()
    train(straight, folder / "straight", hooks=[Save()], console=QUIET)
    whole, resumed = (vdm.open_run(folder / name) for name in ("straight", "run"))
    assert weights_digest(whole.variables) == weights_digest(resumed.variables)
    assert (resumed.model.levels, resumed.model.shape) == (0, (2,))


def test_evaluation_by_steps_and_by_the_flow(folder: Path, result: Evaluation) -> None:
    own = config()
    own.evaluation.draws = 5
    evaluate = Evaluate(own, folder / "run", "latest", QUIET)
    continuous, coarse = evaluate.bound([None, 5], None)
    assert abs(continuous.total - result.total) < 4 * (continuous.noise_stderr or 1.0)
    assert coarse.total > continuous.total
    flow = evaluate.ode(1, None, 1e-3, 8)
    assert np.isfinite(flow.total)


def sample(folder: Path, **changes: Any) -> Sample:
    own = config()
    own.sampling = dataclasses.replace(own.sampling, **changes)
    return Sample(own, folder / "run", "latest", 0, QUIET)


def test_samples_are_real_vectors_whose_pictures_are_scatters(folder: Path, result: Evaluation) -> None:
    written = sample(folder).images(num_frames=3)
    (drawn,) = shards.read(written)
    assert (drawn.shape, drawn.dtype) == ((50, 2), np.float32)
    assert np.isfinite(drawn).all()
    assert np.abs(drawn).max() < 3
    assert {path.suffix for path in written.parent.glob(f"{written.name}*") if path.is_file()} == {".png"}
    assert written.with_name(f"{written.name}_trajectory_3.png").exists()
    # Kept, and of one more the last shard is drawn again with the same vectors.
    sample(folder, num=51).images()
    (again,) = shards.read(written)
    np.testing.assert_allclose(again[:50], drawn, rtol=1e-5, atol=1e-5)


def test_shards_of_vectors_are_checked(folder: Path, result: Evaluation) -> None:
    written = sample(folder, num=3, sampler="ddim").images()
    path = written / "shard_00000.npz"
    for wrong, message in (
        (np.zeros((3, 2), np.uint8), r"images are uint8 \(3, 2\); must be float32 \(up to 1024, 2\)"),
        (np.full((3, 2), np.nan, np.float32), "not finite"),
    ):
        np.savez(path, images=wrong)
        with pytest.raises(InputError, match=f"{message}.*; delete it and it is drawn again"):
            sample(folder, num=3, sampler="ddim").images()


def test_samples_are_measured_and_reconstructed(folder: Path, result: Evaluation) -> None:
    found = score_samples(sample(folder, num=60), Asked(("mmd", "copies")))
    assert np.isfinite(found["mmd"].estimate.value)
    with pytest.raises(InputError, match=r"--metrics: .*'residual': shape=\(2,\): must be \(height, width, channels\)"):
        score_samples(sample(folder, num=60), Asked(("class_accuracy",)))
    of_map = sample(folder, sampler="ddim", steps=50)
    assert of_map.reconstruction(20) < 0.1
    written = of_map.interpolation(3)
    assert (written.suffix, written.exists(), written.with_suffix(".gif").exists()) == (".png", True, False)


def test_what_is_of_images_is_refused_in_one_line(
    folder: Path, result: Evaluation, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"--sweep_guidance: makes a picture of images; the model of .* is of vectors"):
        sample(folder).sweep([1.0, 2.0])
    argv = [f"--run={folder / 'run'}", f"--out={tmp_path / 'codes.vdm'}", "--data=test"]
    line = commands.error_line(compress.main, argv, capsys)
    assert "the model is of real numbers; only integers can be coded without loss" in line
    assert not list(tmp_path.iterdir())


def changed(**groups: Any) -> Config:
    made = config(1)
    return dataclasses.replace(
        made, **{name: dataclasses.replace(getattr(made, name), **changes) for name, changes in groups.items()}
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (changed(network={"name": "unet"}), r"config.network.name='unet': shape=\(2,\): must be \(height, width"),
        (changed(data={"augmentations": ("flip",)}), r"'flip' needs images"),
        (changed(data={"levels": 17, "shape": None}), "data.levels: 17 was given, but 'clusters' has 0"),
        (changed(data={"name": "digits"}), r"data.shape: \(2,\) and data.levels: 0 were given, but 'digits' has"),
    ],
    ids=["network", "augmentation", "levels", "digits"],
)
def test_what_no_run_begins_with(given: Config, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        train(given, tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run").exists()
