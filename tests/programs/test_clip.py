"""`vdm clip`: trained on a run's noise by the loop of all tasks, resumed to the bit, opened, leading, and refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import captioned
import conditional
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from rich.console import Console

import vdm
from vdm import likelihoods, parts, schedules
from vdm.config import DataConfig, SamplingConfig
from vdm.data import Dataset, in_memory
from vdm.data.texts import fit
from vdm.errors import InputError
from vdm.evaluation.images import ImageSampler
from vdm.evaluation.retrieval import Retrieval
from vdm.image_text import ImageTextConfig
from vdm.model import Model
from vdm.programs.clip import default_config, train_clip
from vdm.programs.commands import on_noise
from vdm.programs.hooks import Save
from vdm.runs.companions import open_companions
from vdm.runs.image_text import open_clip
from vdm.runs.records import read_metrics
from vdm.runs.texts import FILE

STEPS = 60
CONSOLE = Console(quiet=True)
GAMMAS = (-8.0, 12.0)
CAPTIONS = ("a", "bb", "c c", "dab")
"""Of the four patterns; of the training images each has another one, too."""


def small(dropout: float = 0.1) -> captioned.Small:
    """A network that is compiled in no time."""
    return captioned.Small(dropout, features=6)


def model() -> Model:
    """Without labels, of a learned schedule, and a network that is compiled in no time."""
    return replace(conditional.model(False), schedule=schedules.learned_linear(*GAMMAS))


def images(captions: tuple[str, ...] | None, name: str = "patterns") -> Dataset:
    """64 patterns to train on and 20 to test on, with captions or without."""
    splits = []
    for num in (64, 20):
        labels = np.arange(num) % conditional.NUM
        text = {} if captions is None else {"text": np.array([captions[k] for k in labels])}
        splits.append({"image": conditional.PATTERNS[labels], **text})
    return in_memory(*splits, levels=conditional.LEVELS, name=name)


@pytest.fixture(scope="module", autouse=True)
def _of_this_module():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(parts.PARTS["image_text"], "small", small)
        patch.setitem(parts.PARTS["source"], "captioned_patterns", lambda: images(CAPTIONS, "captioned_patterns"))
        patch.setitem(parts.PARTS["source"], "plain_patterns", lambda: images(None, "plain_patterns"))
        yield


def begun(folder: Path, dataset: Dataset) -> Path:
    """A run of two steps; what is used of it is its noise and data."""
    config = tiny.run_config(folder, 2, batch_size=16)
    config.data = DataConfig(name=dataset.info.name)
    config.schedule.name, config.schedule.gamma_min, config.schedule.gamma_max = "learned_linear", *GAMMAS
    config.evaluation.draws = config.sampling.num = config.sampling.steps = 1
    with jax.numpy_dtype_promotion("standard"):
        vdm.train(config, folder / "run", dataset, model(), [Save()], CONSOLE)
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of images without captions."""
    return begun(tmp_path_factory.mktemp("clip"), images(None, "plain_patterns"))


def make_config(run: Path, steps: int = STEPS) -> ImageTextConfig:
    config = default_config(run)
    config.data.name = "captioned_patterns"
    config.network.name = "small"
    config.optimizer = replace(config.optimizer, learning_rate=0.05, warmup_steps=0, decay="constant", ema_decay=0.9)
    config.training = replace(config.training, steps=steps, batch_size=32, log_every=30, evaluate_every=30)
    config.training.checkpoint_every = 30
    config.evaluation = replace(config.evaluation, draws=48, batch_size=16)
    return config


def train_here(run: Path, folder: Path | None, steps: int = STEPS, change: Callable | None = None, **others):
    config = make_config(run, steps)
    if change is not None:
        change(config)
    return train_clip(run, config, folder, **({"model": model(), "console": CONSOLE} | others))


@pytest.fixture(scope="module")
def trained(run: Path) -> tuple[Path, Retrieval]:
    """For half of its steps, then for the rest."""
    with jax.numpy_dtype_promotion("standard"):
        train_here(run, None, STEPS // 2)
        return run / "clip", train_here(run, None)


def test_it_learns_the_captions(trained):
    """Always right where there is little noise; as good as chance where there is nothing left of the images."""
    _, retrieval = trained
    assert (retrieval.num_candidates, retrieval.num_sets) == (4, 5)
    for shares in (retrieval.image_to_text, retrieval.text_to_image):
        assert shares.clean.value == shares.by_gamma[0].value == 1
        last = shares.by_gamma[-1]
        assert abs(last.value - 1 / 4) < 4 * max(last.stderr, np.sqrt(0.25 * 0.75 / (20 * 3)))
        assert 0.4 < shares.uniform.value < 1
    assert retrieval.loss.value < 0.7 * np.log(4)


def test_it_resumes_to_the_bit(run, trained, tmp_path):
    path, retrieval = trained
    straight = train_here(run, tmp_path / "straight")
    for a, b in zip(*(jax.tree.leaves(open_clip(p).variables) for p in (path, tmp_path / "straight")), strict=True):
        np.testing.assert_array_equal(a, b)
    assert straight.to_dict() == retrieval.to_dict()


def test_its_folder_says_what_it_is(run, trained):
    path, retrieval = trained
    config = json.loads((path / "config.json").read_text())
    assert config["task"] == "image-text model"
    assert (config["of"]["run"], config["of"]["step"]) == (str(run), 2)
    assert (config["data"]["entries"], config["data"]["vocabulary"]) == (["text int32 64"], 257)
    evaluation = json.loads((path / "evaluation.json").read_text())
    assert evaluation["image_to_text"]["clean"]["value"] == 1
    kinds = [(record["kind"], record["step"]) for record in read_metrics(path / "metrics.jsonl")]
    assert kinds[-1] == ("final", STEPS)
    assert read_metrics(path / "metrics.jsonl")[-1]["contrastive"] == retrieval.loss.value
    assert {file.name for file in (path / "plots").iterdir()} == {"loss.png", "retrieval.png"}


def test_it_is_opened_with_what_encodes_its_captions(run, trained):
    clip, variables, text = open_clip(trained[0], images(None).info.to_dict())
    z = likelihoods.encode(jnp.asarray(conditional.PATTERNS), conditional.LEVELS)
    logits = clip.image_features(variables, z, jnp.float32(-8)) @ clip.text_features(variables, text(CAPTIONS)).T
    np.testing.assert_array_equal(np.argmax(logits, axis=1), range(4))
    assert text.unknown("a zebra") == ["zebra"]
    with pytest.raises(InputError, match=r"is an image-text model of other images: shape \[4, 4, 1\] there, \[8"):
        open_clip(trained[0], images(None).info.to_dict() | {"shape": [8, 8, 1]})
    with pytest.raises(InputError, match=r"is a diffusion model's; must be the folder of a image-text model"):
        open_clip(run)


def test_it_leads_the_model_to_captions_that_the_run_has_never_seen(run, trained):
    """By the settings of `vdm sample`: images of each caption are nearest to its pattern."""
    source = vdm.open_run(run, model=model())
    sampling = SamplingConfig(num=8, steps=30, batch_size=8, guidance="clip(4.0)", text="\n".join(CAPTIONS))
    exact = conditional.exact(conditional.model(False)) | {"schedule": source.variables["schedule"]}
    condition = source.conditions(sampling, 0)(8)
    np.testing.assert_array_equal(condition["text"], fit("bytes", CAPTIONS)([*CAPTIONS, *CAPTIONS]))
    companions = open_companions(source, sampling.guidance)
    drawn, _ = ImageSampler(source.model, source.mesh, sampling, companions=companions)(
        exact, jax.random.key(0), 8, condition=condition
    )
    distances = np.abs(drawn[:, None].astype(int) - conditional.PATTERNS[None]).sum(axis=(2, 3, 4))
    assert np.mean(np.argmin(distances, axis=1) == np.arange(8) % 4) == 1
    with pytest.raises(
        InputError, match=r"sampling\.text: the network has no conditions, the guidance steers toward text: "
    ):
        source.conditions(replace(sampling, text=None), 0)


def test_a_guidance_without_its_model_is_one_line(run, tmp_path):
    source = vdm.open_run(run, model=model())
    with pytest.raises(InputError, match=r"nowhere: no such folder; vdm clip --run="):
        open_companions(source, f"clip(folder='{tmp_path / 'nowhere'}')")
    with pytest.raises(InputError, match=r"nowhere: no such folder; vdm clip --run="):
        source.conditions(SamplingConfig(text="a cat", guidance=f"clip(folder='{tmp_path / 'nowhere'}')"), 0)


def test_a_run_with_captions_has_its_own_encoding(tmp_path, trained):
    """Of data with captions; another clip's is refused where it differs."""
    dataset = images(CAPTIONS)
    run = begun(tmp_path, dataset)
    change = lambda config: setattr(config.data, "name", "patterns")  # noqa: E731
    train_here(run, None, 2, change, dataset=dataset)
    assert json.loads((run / FILE).read_text()) == json.loads((run / "clip" / FILE).read_text())
    source = vdm.open_run(run, model=model(), dataset=dataset)
    assert source.text is not None
    assert open_companions(source, "clip(3.0)").keys() == {"clip"}

    def otherwise(config):
        config.data.name, config.data.text = "patterns", "bytes(length=8)"

    with pytest.raises(InputError, match=r"config\.data\.text='bytes\(length=8\)': must be 'bytes', as --run="):
        train_here(run, tmp_path / "no", 2, otherwise, dataset=dataset)
    copied = tmp_path / "other"
    shutil.copytree(run / "clip", copied)
    other = json.loads((copied / FILE).read_text())
    (copied / FILE).write_text(json.dumps(other | {"name": "bytes(length=8)"}))
    with pytest.raises(InputError, match=r"encodes captions in another way than .* does \(text\.json\); must be"):
        open_companions(source, f"clip(folder='{copied}')")


def few(captions: tuple[str, ...], images: np.ndarray) -> Dataset:
    """Of the patterns, or of other images."""
    split = {"image": images, "text": np.array(captions)}
    return in_memory(split, split, levels=conditional.LEVELS, name="few")


@pytest.mark.parametrize(
    ("changes", "dataset", "says"),
    [
        ({"data.name": "plain_patterns"}, None, r"'plain_patterns' has no captions; must have them, or --config"),
        ({"of.gamma_min": -1.0}, None, r"config\.of\.gamma_min=-1\.0: must be"),
        ({"data.vocabulary": 5}, None, r"data\.vocabulary: 5 was given, but 'captioned_patterns' has 257"),
        ({"data.name": "few"}, few(("a", "b"), conditional.PATTERNS[:2] // 2),
         r"config\.data\.name='few': 2 of 2 of its training images are not of 'plain_patterns', the data of --run="),
        ({"data.name": "few"}, few(("a",) * 4, conditional.PATTERNS), "'few': the test images must have two captions"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(run, tmp_path, monkeypatch, changes, dataset, says):
    def change(config):
        for name, value in changes.items():
            group, field = name.split(".")
            setattr(getattr(config, group), field, value)

    monkeypatch.setitem(parts.PARTS["source"], "few", lambda: dataset)
    with pytest.raises(InputError, match=says):
        train_here(run, tmp_path / "refused", change=change)
    assert not (tmp_path / "refused").exists()


def test_the_command_is_for_a_run(run):
    with pytest.raises(InputError, match=r"^--run: must be given, the folder of a run: vdm clip --run="):
        on_noise.make("clip", {})
    config, workdir = on_noise.make("clip", {"run": str(run)})
    assert (workdir, config.data.name, config.data.vocabulary) == (str(run / "clip"), "plain_patterns", None)
