"""`vdm classifier`: trained on a run's noise by the loop of all tasks, resumed to the bit, opened, and refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import classifying
import conditional
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from rich.console import Console

import vdm
from vdm import likelihoods, parts, schedules
from vdm.classifier import ClassifierConfig
from vdm.config import DataConfig
from vdm.data import in_memory
from vdm.errors import InputError, NonFiniteError
from vdm.evaluation.accuracy import Accuracy
from vdm.model import Model
from vdm.programs import classifier as program
from vdm.programs.classifier import default_config, train_classifier
from vdm.programs.commands import on_noise
from vdm.programs.hooks import Save, every
from vdm.runs.classifiers import open_classifier
from vdm.runs.records import read_config, read_metrics, read_record

STEPS = 60
CONSOLE = Console(quiet=True)
GAMMAS = (-8.0, 12.0)


def linear(classes: int) -> classifying.Linear:
    """A network that is compiled in no time."""
    return classifying.Linear(classes)


def model() -> Model:
    """Of a learned schedule, and a network that is compiled in no time."""
    return replace(conditional.model(True), schedule=schedules.learned_linear(*GAMMAS))


@pytest.fixture(scope="module", autouse=True)
def _of_this_module():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(parts.PARTS["classifier"], "linear", linear)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps; what is used of it is its noise and data."""
    folder = tmp_path_factory.mktemp("classifier")
    config = tiny.run_config(folder, 2, batch_size=16)
    config.data = DataConfig(name="patterns")
    config.schedule.name, config.schedule.gamma_min, config.schedule.gamma_max = "learned_linear", *GAMMAS
    config.evaluation.draws = config.sampling.num = config.sampling.steps = 1
    with jax.numpy_dtype_promotion("standard"):
        vdm.train(config, folder / "run", conditional.dataset(), model(), [Save()], CONSOLE)
    return folder / "run"


def make_config(run: Path, steps: int = STEPS) -> ClassifierConfig:
    config = default_config(run)
    config.network.name = "linear"
    config.optimizer = replace(config.optimizer, learning_rate=0.1, warmup_steps=0, decay="constant", ema_decay=0.9)
    config.training = replace(config.training, steps=steps, batch_size=32, log_every=20, evaluate_every=30)
    config.training.checkpoint_every = 30
    config.evaluation = replace(config.evaluation, draws=48, batch_size=13)
    return config


def train_here(run: Path, folder: Path, steps: int = STEPS, change: Callable | None = None, **others):
    config = make_config(run, steps)
    if change is not None:
        change(config)
    given = {"dataset": conditional.dataset(), "model": model(), "console": CONSOLE} | others
    return train_classifier(run, config, folder, **given)


@pytest.fixture(scope="module")
def trained(run: Path) -> tuple[Path, Accuracy]:
    """For half of its steps, then for the rest."""
    with jax.numpy_dtype_promotion("standard"):
        train_here(run, run / "classifier", STEPS // 2)
        return run / "classifier", train_here(run, run / "classifier")


def test_it_learns_the_patterns(trained):
    """Always right where there is little noise; as good as chance where there is nothing left of them."""
    _, accuracy = trained
    assert accuracy.clean.value == 1
    assert accuracy.by_gamma[0].value == 1
    last = accuracy.by_gamma[-1]
    assert abs(last.value - 1 / conditional.NUM) < 4 * np.sqrt(0.25 * 0.75 / (13 * 48 / 16))
    assert 0.5 < accuracy.accuracy.value < 1
    assert accuracy.cross_entropy.value < 0.7 * np.log(conditional.NUM)


def test_it_resumes_to_the_bit(run, trained, tmp_path):
    path, accuracy = trained
    straight = train_here(run, tmp_path / "straight")
    for a, b in zip(*(jax.tree.leaves(open_classifier(p)[1]) for p in (path, tmp_path / "straight")), strict=True):
        np.testing.assert_array_equal(a, b)
    assert straight.to_dict() == accuracy.to_dict()


def test_its_folder_says_what_it_is(run, trained):
    path, accuracy = trained
    config = json.loads((path / "config.json").read_text())
    assert config["task"] == "classifier"
    source = vdm.open_run(run, model=model(), dataset=conditional.dataset())
    ends = source.model.gamma(source.variables, jnp.asarray([0.0, 1.0]))
    assert (config["of"]["run"], config["of"]["step"]) == (str(run), 2)
    assert config["of"]["schedule"].startswith("learned_linear sha256:")
    np.testing.assert_allclose([config["of"]["gamma_min"], config["of"]["gamma_max"]], ends, atol=1e-3)
    assert (config["data"]["shape"], config["data"]["classes"]) == (list(conditional.SHAPE), conditional.NUM)
    assert read_record(path)["data"]["classes"] == list("abcd")
    evaluation = json.loads((path / "evaluation.json").read_text())
    assert evaluation["accuracy"]["value"] == accuracy.accuracy.value
    assert (evaluation["checkpoint_step"], len(evaluation["accuracy_by_gamma"])) == (STEPS, 16)
    kinds = [(record["kind"], record["step"]) for record in read_metrics(path / "metrics.jsonl")]
    assert kinds == [
        ("train", 20), ("train", 30), ("evaluation", 30),
        ("train", 40), ("train", 60), ("evaluation", 60), ("final", 60),
    ]  # fmt: skip
    last = read_metrics(path / "metrics.jsonl")[-1]
    assert last["accuracy"] == accuracy.accuracy.value
    assert "bits_per_dim" not in last
    assert {file.name for file in (path / "plots").iterdir()} == {"loss.png", "accuracy.png"}
    assert list((path / "tensorboard" / "test").glob("events*"))


def test_it_is_opened(trained):
    path, _ = trained
    classifier, variables = open_classifier(path, conditional.dataset().info.to_dict())
    z = likelihoods.encode(jnp.asarray(conditional.PATTERNS), conditional.LEVELS)
    log_prob = classifier.log_prob(variables, z, jnp.float32(-8))
    np.testing.assert_array_equal(np.argmax(log_prob, axis=1), range(conditional.NUM))
    np.testing.assert_array_equal(classifier.log_prob(variables, z, jnp.inf), classifier.log_prob(
        variables, z, jnp.float32(read_config(path, ClassifierConfig).of.gamma_max)))  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": list("abce")}, r"classes \[.*\] there, \[.*\] here"),
        ({"shape": [8, 8, 1]}, r"shape \[4, 4, 1\] there, \[8, 8, 1\] here"),
    ],
)
def test_other_data_are_refused(trained, change, words):
    path, _ = trained
    with pytest.raises(InputError, match=f"^{path}: is a classifier of other data: {words}"):
        open_classifier(path, conditional.dataset().info.to_dict() | change)


def test_a_run_that_learned_another_schedule_since_is_refused(run, trained, tmp_path):
    """It may be had at the checkpoint that the classifier was begun with."""
    again = tmp_path / "run"
    shutil.copytree(run, again)
    config = read_config(run)
    config.training.steps = 4
    vdm.train(config, again, conditional.dataset(), model(), [Save()], CONSOLE)
    with pytest.raises(InputError, match=r"belongs to another config: of\.schedule 'learned_linear sha256:"):
        train_here(again, again / "classifier")
    train_here(again, again / "classifier", checkpoint=2)


def test_a_model_is_no_classifier_and_a_classifier_no_model(run, trained):
    path, _ = trained
    with pytest.raises(InputError, match=f"^{run}: is a diffusion model's; must be the folder of a classifier"):
        open_classifier(run)
    for wrong in (vdm.open_run, default_config):
        with pytest.raises(InputError, match=f"^{path}: is a classifier's; must be the folder of a"):
            wrong(path)
    with pytest.raises(InputError, match=r"has no config\.json"):
        open_classifier(path.parent / "nothing")


def test_what_cannot_be_trained_is_refused_and_leaves_nothing(run, trained, tmp_path):
    path, _ = trained

    def refuse(words: str, **others):
        with pytest.raises(InputError, match=words):
            train_here(run, tmp_path / "refused", **others)
        assert not (tmp_path / "refused").exists()

    splits = (conditional.source(num).arrays for num in (65, 13))
    refuse(
        r"^--run=.*: was trained on other data: version .* there, .* here, num_train 64 there, 65 here",
        dataset=in_memory(*splits, levels=conditional.LEVELS, name="more", classes="abcd"),
    )
    refuse(r"config\.data\.classes=5: must be 4", change=lambda config: setattr(config.data, "classes", 5))
    refuse(r"config\.of\.gamma_min=-1\.0: must be", change=lambda config: setattr(config.of, "gamma_min", -1.0))
    with pytest.raises(InputError, match=r"belongs to another config: network\.name 'linear' there"):
        train_here(run, path, change=lambda config: setattr(config.network, "name", "residual"))


def test_more_steps_of_a_decaying_rate_are_refused_with_what_there_is_to_do(run, tmp_path):
    def decaying(config):
        config.optimizer.decay = "cosine"

    train_here(run, tmp_path / "decaying", 2, change=decaying)
    with pytest.raises(InputError, match=r"training\.steps 2 there, 4 here: .*; give another --workdir to train anew$"):
        train_here(run, tmp_path / "decaying", 4, change=decaying)


@pytest.mark.parametrize("notes", [(), ("no labels: test_label is missing",)])
def test_data_without_labels_are_refused_with_their_reason(run, notes):
    image = conditional.source(64).arrays["image"]
    data = in_memory({"image": image}, {"image": image[:13]}, levels=conditional.LEVELS, name="patterns")
    data = replace(data, info=replace(data.info, notes=notes))
    source = vdm.open_run(run, model=model(), dataset=data)
    words = notes[0] if notes else "no labels: a classifier needs one for each image"
    with pytest.raises(InputError, match=f"^--run={run}: its data, 'patterns', have {words}$"):
        program.resolve(make_config(run), f"--run={run}", data, program.noise_of(source))


def test_a_loss_that_is_not_finite_is_named_and_the_last_checkpoint_kept(run, tmp_path):
    def poison(session):
        if session.step == 40:
            broken = jax.tree.map(lambda leaf: leaf * jnp.nan, session.state.variables)
            session.state = session.state._replace(variables=broken)

    with pytest.raises(
        NonFiniteError, match=r"^step 41: the cross entropy is not finite; stopped, checkpoint of step 30"
    ):
        train_here(run, tmp_path / "bad", hooks=[every(40, poison), *program.standard()])


def test_lines_on_the_console_are_in_nats(run, tmp_path):
    out = StringIO()
    train_here(run, tmp_path / "said", 20, console=Console(file=out, width=200))
    lines = out.getvalue()
    assert " nats  " in lines
    assert "final test cross-entropy" in lines
    assert "bits/dim" not in lines


def test_the_command_is_for_a_run():
    with pytest.raises(InputError, match=r"^--run: must be given, the folder of a run"):
        on_noise.make("classifier", {})


def test_the_commands_config_is_on_the_data_of_the_run(run):
    config, workdir = on_noise.make("classifier", {"run": str(run)})
    assert workdir == str(run / "classifier")
    assert (config.data.name, config.data.classes, config.seed) == ("patterns", None, 0)
