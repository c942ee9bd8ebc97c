"""A conditional run through all programs: trained, resumed, evaluated, sampled from and exported.

By a config, with the network that takes conditions as features; and by `vdm.train`, with a network of the caller's.
"""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import conditional
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from rich.console import Console

import vdm
from vdm import model as model_lib
from vdm import parallel, parts
from vdm.config import Config, DataConfig, OptimizerConfig, validate
from vdm.data import Arrays, Dataset, examples, in_memory, resolve
from vdm.data.selection import order
from vdm.errors import InputError
from vdm.evaluation.bound import Evaluator
from vdm.evaluation.conditions import conditions_of
from vdm.evaluation.images import ImageSampler
from vdm.export import programs as export
from vdm.export.load import draw, load
from vdm.model import Variables
from vdm.programs import evaluate, measured, sample, train
from vdm.reading import read_json
from vdm.runs import open as open_module
from vdm.runs import shards
from vdm.runs.records import read_config, read_record

NUM_TEST, STEPS = 13, 6
CONSOLE = Console(quiet=True)


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(conditional.NUM, dtype=np.float32)[labels]


def dataset() -> Dataset:
    """Patterns with their labels, and these as features and under a name that means nothing to the network."""

    def with_features(source: Arrays) -> dict[str, np.ndarray]:
        label = source.arrays["label"]
        return source.arrays | {"one_hot": one_hot(label), "kind": label}

    splits = [with_features(conditional.source(num)) for num in (64, NUM_TEST)]
    return in_memory(*splits, levels=conditional.LEVELS, name="patterns", classes="abcd")


@pytest.fixture(scope="module", autouse=True)
def _in_place_of_files() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (train, open_module):
            patch.setattr(module, "load", lambda config, progress=None, text=None: dataset())
        yield


def make_config(folder: Path, steps: int, condition: tuple[str, ...] = ("one_hot",)) -> Config:
    config = tiny.run_config(folder, steps, sample_every=3, batch_size=16)
    config.data = DataConfig(name="patterns")
    config.network.condition, config.network.condition_dropout = condition, 0.5
    config.evaluation.draws, config.evaluation.training_draws = 4, 1
    config.sampling = replace(config.sampling, num=11, steps=4, batch_size=8)
    return config


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for half of its steps, then for the rest."""
    folder = tmp_path_factory.mktemp("conditional")
    with jax.numpy_dtype_promotion("standard"):
        for steps in (STEPS // 2, STEPS):
            train.train(make_config(folder, steps), folder / "run", console=CONSOLE)
    return folder / "run"


def trained(path: Path) -> Variables:
    return vdm.open_run(path, mesh=parallel.make_mesh(1)).variables


def test_it_resumes_to_the_bit(path: Path) -> None:
    assert {path.name for path in (path / "samples").glob("*.png")} >= {"final.png", "step_00000003.png"}
    straight = path.parent / "straight"
    train.train(make_config(path.parent, STEPS), straight, console=CONSOLE)
    for a, b in zip(*(jax.tree.leaves(trained(path)) for path in (path, straight)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_its_record_says_what_it_is_conditioned_on(path: Path) -> None:
    config = read_config(path)
    assert (config.data.entries, config.data.classes) == (("one_hot float32 4",), None)
    assert model_lib.from_config(config).condition == {"one_hot": jax.ShapeDtypeStruct((4,), jnp.float32)}
    assert read_record(path)["data"]["classes"] == list("abcd")


def test_its_exported_programs_draw_its_samples_with_the_conditions_of_the_test_images(path: Path) -> None:
    drawn = np.concatenate(list(shards.read(sample.Sample(read_config(path), path, "latest", 0, CONSOLE).images())))
    out, of_test = path.parent / "exported", one_hot(conditional.labels(NUM_TEST)[order(NUM_TEST)])
    export.main([f"--run={path}", f"--out={out}", "--platforms=cpu"])
    again = draw(0, 0, 11, 4, out, {"one_hot": of_test[:11]})
    # Batches of another size may round a value to the next level.
    assert np.mean(again != drawn) < 0.02
    with pytest.raises(ValueError, match=r"^condition: has nothing, must have \['one_hot'\]"):
        draw(0, 0, 11, 4, out)
    with pytest.raises(ValueError, match=r"^condition 'one_hot': has shape \(13, 4\), must have \(11, 4\)"):
        draw(0, 0, 11, 4, out, {"one_hot": of_test})


def test_its_exported_denoiser_heeds_the_condition(path: Path) -> None:
    out, model = path.parent / "exported_denoiser", model_lib.from_config(read_config(path))
    export.main([f"--run={path}", f"--out={out}", "--platforms=cpu"])
    denoise, weights = load("denoiser", out)
    z, gamma = jax.random.normal(jax.random.key(0), (2, *conditional.SHAPE)), jnp.zeros(2)
    first, second = (
        np.asarray(denoise(weights, z, gamma, {"one_hot": jnp.asarray(one_hot(np.array(labels))), "dropped": dropped}))
        for labels, dropped in (([0, 0], jnp.zeros(2, bool)), ([1, 0], jnp.zeros(2, bool)))
    )
    assert np.abs(first[0] - second[0]).max() > 1e-4
    np.testing.assert_array_equal(first[1], second[1])
    condition = {"one_hot": jnp.asarray(one_hot(np.array([1, 0])))}
    np.testing.assert_allclose(second, model.denoise(trained(path), z, gamma, condition), rtol=1e-4, atol=1e-5)


def test_it_is_evaluated_reconstructed_and_interpolated(path: Path) -> None:
    config = read_config(path)
    evaluation = evaluate.Evaluate(config, path, "latest", CONSOLE)
    (bound,) = evaluation.bound(None, None)
    ode = evaluation.ode(1, 1, 1e-2, 2)
    assert bound.num_images == NUM_TEST
    written = read_json(path / "evaluations" / f"step_{STEPS}_draws_4_T_inf.json")
    assert written["condition"] == ["one_hot"]
    both, worth = (written, written["dropped"]), written["dropped"]["difference"]
    given, dropped = (each["bits_per_dim"]["total"] for each in both)
    assert worth["mean"] == pytest.approx(dropped - given)
    # On the same noise, its error is far below that of either.
    assert 0 < worth["stderr"] < 0.5 * written["bits_per_dim"]["stderr"]
    assert np.isfinite([bound.total, ode.total]).all()
    config.sampling.sampler = "ddim"
    latents = sample.Sample(config, path, "latest", 0, CONSOLE)
    assert latents.reconstruction(3) < conditional.LEVELS
    assert latents.interpolation(2).exists()


def test_it_cannot_be_asked_for_classes(path: Path) -> None:
    evaluation = evaluate.Evaluate(read_config(path), path, "latest", CONSOLE)
    with pytest.raises(InputError, match=r"^--classify: the model of .*run is given one_hot; must be given labels of "):
        evaluation.classify(4, None, "uniform", None)


@pytest.fixture
def labelled(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[evaluate.Evaluate, io.StringIO]:
    """The run as that of a network that knows each label's pattern, and what is printed."""
    model, out = conditional.model(True), io.StringIO()
    run = replace(vdm.open_run(path), model=model, variables=conditional.exact(model))
    monkeypatch.setattr(measured, "open_run", lambda *args, **settings: run)
    console = Console(file=out, width=120)
    return evaluate.Evaluate(run.config, path, "latest", console, tmp_path), out


@pytest.mark.parametrize(("draws", "error", "prior", "images"), [(2, None, "train", 7), (16, 0.1, "uniform", None)])
def test_classes_are_printed_written_and_drawn(
    labelled: tuple[evaluate.Evaluate, io.StringIO],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    draws: int,
    error: float | None,
    prior: str,
    images: int | None,
) -> None:
    evaluation, out = labelled
    priors: list[Any] = []

    class Recorded(evaluate.Classifier):
        def __call__(self, *args: Any, **settings: Any) -> Any:
            priors.append(settings["log_prior"])
            return super().__call__(*args, **settings)

    monkeypatch.setattr(evaluate, "Classifier", Recorded)
    result = evaluation.classify(draws, error, prior, images)
    settings = "images_7_prior_train" if images else "drop_error_0.1"
    file = tmp_path / "evaluations" / f"step_{STEPS}_classify_{draws}_{settings}.json"
    assert (result.accuracy, result.num_images) == (1, images or NUM_TEST)
    written = read_json(file)
    assert written["accuracy"]["mean"] == 1
    assert written["classes"] == list("abcd")
    assert np.trace(written["confusion"]) == result.num_images
    assert written["calls_per_image"] <= 4 * draws
    counts = np.bincount(conditional.labels(64), minlength=4) + 1
    shares = (counts / counts.sum()).tolist() if prior == "train" else None
    assert written["prior"] == {"kind": prior, "shares": shares}
    assert [None if each is None else pytest.approx(np.exp(each)) for each in priors] == [shares]
    assert (written["least_cost"] is None) == (error is None)
    assert file.with_suffix(".png").exists()
    assert f"accuracy 1.0000 ± 0.0000 (95 %: {result.interval[0]:.4f}" in out.getvalue()
    assert ("classes dropped early" in out.getvalue()) == (error is not None)


def test_draws_and_errors_out_of_range_are_refused(labelled: tuple[evaluate.Evaluate, io.StringIO]) -> None:
    for settings, words in (
        ((0, None, "uniform", None), "--classify=0: must be from 1 to"),
        ((15, 0.1, "uniform", None), "--classify=15: must be from 16 to [0-9]* with --drop_error"),
        ((16, 1.0, "uniform", None), "--drop_error=1: must be between 0 and 1"),
        ((16, None, "uniform", 0), "--images=0: must be from 1 to"),
    ):
        with pytest.raises(InputError, match=f"^{words}"):
            labelled[0].classify(*settings)


def test_another_condition_is_another_model(path: Path) -> None:
    with pytest.raises(InputError, match=r"belongs to another config: data\.entries"):
        train.train(make_config(path.parent, STEPS, ()), path, console=CONSOLE)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("weight", "'weight' is not in data set 'patterns'; besides images it has 'label', 'one_hot', 'kind'"),
        ("image", "'image'"),
    ],
)
def test_conditions_that_the_data_do_not_have_are_refused(tmp_path: Path, condition: str, words: str) -> None:
    with pytest.raises(InputError, match=f"^network.condition: {words}"):
        train.train(make_config(tmp_path, STEPS, (condition,)), tmp_path / "run", console=CONSOLE)
    assert not (tmp_path / "run").exists()


def test_a_network_that_cannot_take_the_condition_says_so(tmp_path: Path) -> None:
    words = r"^config.network.condition=\('kind',\): condition 'kind' is int32 \(1,\): this network takes 'label', "
    with pytest.raises(InputError, match=words):
        train.train(make_config(tmp_path, STEPS, ("kind",)), tmp_path / "run", console=CONSOLE)


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        (
            {"labels": "a,e"},
            "sampling.labels=a,e: the network is conditioned on 'one_hot'; must be conditioned on labels",
        ),
        ({"guidance": "classifier(2)"}, r"config.sampling.guidance='classifier\(2\)': "),
    ],
)
def test_samples_that_could_not_be_drawn_are_refused_before_a_step(
    tmp_path: Path, sampling: dict[str, str], words: str
) -> None:
    config = make_config(tmp_path, STEPS)
    config.sampling = replace(config.sampling, **sampling)
    with pytest.raises(InputError, match=words):
        train.train(config, tmp_path / "run", console=CONSOLE)
    assert not (tmp_path / "run").exists()


def label_means(classes: int, shape: tuple[int, ...]) -> conditional.Means:
    """A network that has an image for each label."""
    return conditional.Means(classes, shape)


def test_a_registered_network_is_given_the_number_of_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parts.PARTS["network"], "label_means", label_means)
    config = make_config(tmp_path, STEPS, ("label",))
    config.network.name, config.network.prediction = "label_means", "x"
    config.data.shape, config.data.levels = conditional.SHAPE, conditional.LEVELS
    validate(config)
    config = resolve(config, dataset())
    validate(config)
    model = model_lib.from_config(config)
    assert (model.network, model.condition) == (conditional.Means(), conditional.LABEL)
    batch = examples(dataset().test, range(NUM_TEST))
    bound = model.bound(conditional.exact(model), jax.random.key(0), jax.tree.map(jnp.asarray, batch))
    np.testing.assert_allclose(bound.diffusion, 0, atol=1e-4)
    remedy = "a new run uses the data's own with --config.data.classes=None$"
    with pytest.raises(InputError, match=rf"^data.classes: 4 was given, but 'more' has 5; {remedy}"):
        resolve(config, replace(dataset(), info=replace(dataset().info, name="more", classes=tuple("abcde"))))
    config.data.entries = ("label int8",)
    with pytest.raises(
        InputError, match=r"^data.entries: \('label int8',\) was given, but 'patterns' has .*entries=None$"
    ):
        resolve(config, dataset())


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (("label",), "'label': must be like"),
        (("label int33",), "'label int33': must be like"),
        ((), "must describe 'label'"),
    ],
)
def test_entries_that_say_nothing_are_refused(tmp_path: Path, entries: tuple[str, ...], words: str) -> None:
    config = make_config(tmp_path, STEPS, ("label",))
    config.data = DataConfig(shape=conditional.SHAPE, levels=conditional.LEVELS, classes=4, entries=entries)
    with pytest.raises(InputError, match=f"^config.data.entries: {words}"):
        model_lib.from_config(config)


def test_a_network_of_the_callers_learns_from_labels_and_comes_back(tmp_path: Path) -> None:
    """x̂ is the label's own image after a few steps: the diffusion loss is near 0, and so is what samples differ in."""
    data, model = conditional.dataset(), conditional.model(True, -4.0, 4.0)
    config = make_config(tmp_path, 100, ())
    config.optimizer = OptimizerConfig(learning_rate=0.05, warmup_steps=0, weight_decay=0.0, ema_decay=0.5)
    config.training.checkpoint_every = config.training.sample_every = 0
    with jax.numpy_dtype_promotion("standard"):
        evaluation = vdm.train(config, tmp_path / "run", data, model, console=CONSOLE)
    unconditional = Evaluator(conditional.model(False, -4.0, 4.0), parallel.make_mesh(), 13)(
        conditional.exact(model), data.test, jax.random.key(0), 32
    )
    assert evaluation.diffusion < 0.1 * unconditional.diffusion
    opened = vdm.open_run(tmp_path / "run", model=model, dataset=data)
    condition = conditions_of(model, opened.dataset.test, 13)
    sampler = ImageSampler(model, opened.mesh, config.sampling)
    images, _ = sampler(opened.variables, jax.random.key(1), 13, condition=condition)
    wanted = conditional.PATTERNS[conditional.labels(13)[order(13)]].astype(int)
    # σ₀ is 0.13, a level 2/17.
    assert np.abs(images - wanted).mean() < 2
    assert np.abs(images - np.roll(wanted, 1, axis=0)).mean() > 3
