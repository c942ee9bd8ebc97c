"""`vdm train`, `evaluate` and `sample` of predecessors: by the programs of all runs, to the bit, and refused."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import commands
import jax
import numpy as np
import pytest
import tiny
from absl import flags
from rich.console import Console

import vdm
from vdm.classifier import ClassifierConfig
from vdm.config import DataConfig, EvaluationConfig, OptimizerConfig, TrainingConfig, to_dict
from vdm.data import Dataset, in_memory
from vdm.errors import InputError
from vdm.evaluation.metrics.metric import Reference
from vdm.evaluation.metrics.mmd import Mmd
from vdm.files import write_json
from vdm.predecessors.config import LatentObjectiveConfig, LatentSamplingConfig, ModelConfig, PredecessorConfig
from vdm.programs import config_files, kinds, latent_sample
from vdm.programs.asked import Asked
from vdm.programs.hooks import Save
from vdm.programs.latent_evaluate import LatentEvaluate
from vdm.programs.latent_sample import LatentSample
from vdm.programs.measured import SCORING, WEIGHTING, mode_of
from vdm.programs.predecessors import SampleLatents
from vdm.programs.score_samples import score_samples
from vdm.runs import shards
from vdm.runs.records import RUNS, read_config, read_metrics

STEPS = 8
CONSOLE = Console(quiet=True)
SHAPE, LEVELS = (4, 4, 1), 17
NO_WEIGHTS = LatentObjectiveConfig()


def dataset(levels: int = LEVELS) -> Dataset:
    """Images of 17 levels with labels, or vectors."""
    images = np.asarray(tiny.images(30))
    if not levels:
        images = (images.reshape(30, -1)[:, :2] / 8 - 1).astype(np.float32)
    train, test = ({"image": images[of], "label": np.arange(30)[of] % 3} for of in (slice(18), slice(18, 30)))
    return in_memory(train, test, levels=levels, name="made_here", classes=("a", "b", "c"))


def real(data: Dataset) -> np.ndarray:
    """Its training images."""
    return np.stack([each["image"] for each in (data.train[k] for k in range(len(data.train)))])


def make_config(name: str, steps: int = STEPS) -> PredecessorConfig:
    return PredecessorConfig(
        data=DataConfig(name="made_here"),
        model=ModelConfig(name=name, width=8, depth=1, dropout=0.1),
        objective=NO_WEIGHTS if name.startswith("ladder") else LatentObjectiveConfig(warmup_steps=6, free_bits=0.1),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=0),
        training=TrainingConfig(
            steps=steps, batch_size=8, log_every=2, evaluate_every=4, checkpoint_every=4, sample_every=0
        ),
        evaluation=EvaluationConfig(batch_size=12, draws=3),
        sampling=LatentSamplingConfig(num=10, batch_size=8),
    )


def train(folder: Path, name: str, steps: int = STEPS, levels: int = LEVELS, hooks=None):
    with jax.numpy_dtype_promotion("standard"):
        return vdm.train(make_config(name, steps), folder, dataset(levels), hooks=hooks, console=CONSOLE)


NAMES = {"hvae": "hvae(layers=2, latents=3)", "ladder": "ladder(layers=(6, 3), labelled=0.5)"}


@pytest.fixture(scope="module", params=NAMES)
def trained(request, tmp_path_factory):
    """(folder, evaluation) of one trained for half of its steps, then for the rest."""
    folder = tmp_path_factory.mktemp("predecessors") / request.param
    train(folder, NAMES[request.param], STEPS // 2, hooks=[Save()])
    return folder, train(folder, NAMES[request.param])


@pytest.mark.parametrize("trained", ["hvae"], indirect=True)
def test_it_resumes_to_the_bit_with_its_warm_up(trained, tmp_path):
    path, evaluation = trained
    straight = train(tmp_path / "straight", NAMES[path.name], hooks=[Save()])
    assert straight.to_dict() == evaluation.to_dict()
    runs = [vdm.open_run(each, dataset=dataset()) for each in (path, tmp_path / "straight")]
    for one, other in zip(*(jax.tree.leaves((run.variables, run.proposal)) for run in runs), strict=True):
        np.testing.assert_array_equal(one, other)
    assert runs[0].step == int(runs[0].proposal["step"]) == STEPS


def test_its_folder_has_what_every_run_has(trained):
    path, evaluation = trained
    assert type(read_config(path, *RUNS)) is PredecessorConfig
    found = json.loads((path / "evaluation.json").read_text())
    assert found["checkpoint_step"] == STEPS
    records = read_metrics(path / "metrics.jsonl")
    assert [r["step"] for r in records if r["kind"] == "evaluation"] == [4, 8]
    total, term = {"hvae": ("bits_per_dim", "rate_2"), "ladder": ("cost", "cost_2")}[path.name]
    assert records[-1][total] == pytest.approx(evaluation.total)
    assert all(term in record for record in records)
    assert {each.name for each in (path / "plots").iterdir()} >= {"loss.png"}
    drawn = {"final.png"} if path.name == "hvae" else set()
    assert {each.name for each in (path / "samples").glob("*.png")} == drawn | {"final_reconstructions.png"}


def evaluated(trained, tmp_path):
    path, _ = trained
    config = read_config(path, *RUNS)
    return LatentEvaluate(config, path, "latest", CONSOLE, tmp_path)


@pytest.fixture
def with_data(monkeypatch):
    """Runs of data of their caller find them."""
    from vdm.programs import latent_sample, measured
    from vdm.runs.open import open_run

    def opened(*args, **named):
        return open_run(*args, dataset=dataset(), **named)

    for module in (latent_sample, measured):
        monkeypatch.setattr(module, "open_run", opened)


@pytest.mark.usefixtures("with_data")
def test_evaluate_finds_what_training_found(trained, tmp_path):
    _, evaluation = trained
    found = evaluated(trained, tmp_path).layers()
    assert found.total == pytest.approx(evaluation.total, rel=1e-6)
    (file,) = (tmp_path / "evaluations").iterdir()
    assert file.name == f"step_{STEPS}_draws_3.json"
    there = json.loads(file.read_text())
    assert (there["checkpoint_step"], there["num_images"], there["num_draws"]) == (STEPS, 12, 3)


@pytest.mark.usefixtures("with_data")
def test_samples_are_shards_and_go_on(trained, tmp_path):
    path, _ = trained
    sample = LatentSample(read_config(path, *RUNS), path, "latest", 1, CONSOLE, tmp_path)
    if path.name == "ladder":
        with pytest.raises(InputError, match="a ladder network has no prior to draw from; --reconstruct"):
            sample.images()
        assert not list(tmp_path.rglob("shard*"))
    else:
        folder = sample.images()
        assert shards.settings_of(folder)["decode"] == "mode"
        (ten,) = shards.read(folder)
        sample.settings.num = 13
        sample.images()
        (more,) = shards.read(folder)
        np.testing.assert_array_equal(more[:10], ten)
        assert (len(more), more.max() < LEVELS) == (13, True)
        assert sample.interpolation(3).exists()
        with pytest.raises(InputError, match=r"^--interpolate=1: must be 2 or more"):
            sample.interpolation(1)
    assert 0 <= sample.reconstruction(5) < LEVELS
    assert (tmp_path / "samples" / f"step_{STEPS}_seed_1_mode_reconstruction_5.png").exists()
    with pytest.raises(InputError, match=r"^--reconstruct=13: must be from 1 to 12"):
        sample.reconstruction(13)


@pytest.mark.usefixtures("with_data")
def test_importance_is_beside_the_plain_bound(trained, tmp_path):
    measured = evaluated(trained, tmp_path)
    if trained[0].name == "hvae":
        found = measured.importance(5, None)
        assert found.sizes == (1, 2, 4, 5)
        assert found.total < found.bounds[0].value
        assert (tmp_path / "evaluations" / f"step_{STEPS}_importance_5.json").exists()
    with pytest.raises(InputError, match=r"^--importance=0: must be from 1 to"):
        measured.importance(0, None)


@pytest.mark.usefixtures("with_data")
@pytest.mark.parametrize("trained", ["hvae"], indirect=True)
def test_samples_are_scored_as_those_of_a_diffusion_model(trained, tmp_path):
    path, _ = trained
    sample = LatentSample(read_config(path, *RUNS), path, "latest", 2, CONSOLE, tmp_path)
    (found,) = score_samples(sample, Asked(("mmd",))).values()
    (images,) = shards.read(sample.stem)
    pixels = [np.float32(2 / (LEVELS - 1)) * each.reshape(len(each), -1) - 1 for each in (images, real(dataset()))]
    expected = Mmd(Reference.of(pixels[1])).estimate(pixels[0])
    assert found.estimate.value == pytest.approx(expected.value, abs=1e-5)
    assert (sample.stem / "metrics.json").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"metrics": "mmd", "importance": 3}, "^--metrics: cannot be combined with --importance; it measures samples"),
        ({"num": 3}, "^--num: goes with --metrics=NAMES only"),
        ({"images": 3, "metrics": "mmd"}, "^--images: goes with --importance=DRAWS only"),
    ],
)
def test_what_is_measured_is_one_thing(flags, says):
    given = {name: SimpleNamespace(value=None) for name in ("metrics", "importance", "images", *SCORING[1])}
    given |= {name: SimpleNamespace(value=value) for name, value in flags.items()}
    with pytest.raises(InputError, match=says):
        mode_of(given, {"metrics": SCORING, "importance": WEIGHTING})


def test_of_vectors_pictures_are_points(tmp_path):
    train(tmp_path / "run", "vae(latents=1)", steps=1, levels=0, hooks=[SampleLatents(), Save()])
    assert (tmp_path / "run" / "samples" / "final_reconstructions.png").exists()
    assert vdm.open_run(tmp_path / "run", dataset=dataset(0)).model.levels == 0


def test_of_the_config_bad_fields_are_named(tmp_path):
    for name, says in (
        ("vae(latents=0)", r"^config.model.name='vae\(latents=0\)': latents=0: must be 1 or more"),
        ("gan", r"^config.model.name='gan': must be one of vae, hvae, ladder$"),
        ("vae(depth=2)", r"^config.model.name='vae\(depth=2\)': depth=2: comes from the config"),
    ):
        with pytest.raises(InputError, match=says.replace("depth=2: comes", "depth=2 comes")):
            train(tmp_path / "run", name)
    config = make_config("vae")
    with pytest.raises(InputError, match=r"^config.model.coder='conv': must be 'mlp' for data of shape \(2,\)"):
        vdm.train(replace(config, model=replace(config.model, coder="conv")), tmp_path / "run", dataset(0))
    config.evaluation.metrics = ("mmd",)
    with pytest.raises(InputError, match=r"^config.evaluation.metrics=\('mmd',\): must be \(\) for a predecessor"):
        vdm.train(config, tmp_path / "run", dataset())
    config = make_config(NAMES["ladder"])
    config.objective.beta = 2.0
    with pytest.raises(InputError, match=r"^config.objective.beta=2.0: applies to a bound; a ladder network has none$"):
        vdm.train(config, tmp_path / "run", dataset())
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("with_data")
@pytest.mark.parametrize("trained", ["ladder"], indirect=True)
def test_a_ladder_decodes_nothing(trained, tmp_path):
    path, _ = trained
    given = flags.FlagValues()
    for name, value in (("checkpoint", "latest"), ("decode", "mean"), ("num", None), ("precision", None)):
        flags.DEFINE_string(name, value, "", given)
    for name, number in (("seed", 0), ("interpolate", None), ("reconstruct", 2)):
        flags.DEFINE_integer(name, number, "", flag_values=given)
    given.mark_as_parsed()
    with pytest.raises(InputError, match=r"^--decode: is for models that draw images; a ladder network only denoises$"):
        latent_sample.sample(read_config(path, *RUNS), path, CONSOLE, given, tmp_path)


def test_every_kind_of_run_has_its_functions():
    assert set(kinds.KINDS) == set(RUNS)
    for name in ("vae_digits", "vae_toy", "hvae_digits", "ladder_digits"):
        loaded = config_files.load(config_files.find(name), RUNS)
        assert kinds.of(loaded.config) is kinds.KINDS[PredecessorConfig]
    with pytest.raises(InputError, match=r"get_config\(\) returned PredecessorConfig, not vdm's Config$"):
        config_files.load(config_files.find("vae_digits"))


def test_a_kind_is_that_of_a_class_and_those_that_inherit_from_it():
    class Mine(PredecessorConfig):
        """Of a user."""

    assert kinds.of(Mine()) is kinds.KINDS[PredecessorConfig]
    with pytest.raises(TypeError, match=r"^config is a ClassifierConfig: must be a Config or a PredecessorConfig$"):
        kinds.of(ClassifierConfig())


def test_another_kind_of_run_is_refused(trained):
    path, _ = trained
    with pytest.raises(InputError, match=f"^{path}: is a predecessor's; must be the folder of a diffusion model$"):
        read_config(path)


def test_flags_of_diffusion_models_are_refused_in_one_line(tmp_path):
    write_json(tmp_path / "config.json", to_dict(make_config("vae")))
    done = commands.run("evaluate.py", f"--workdir={tmp_path}", "--T=10")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --T: is for diffusion models; this run is of a model before diffusion\n"
