"""The classifier that images are compared by: trained once for the same data, found again, and refused in one line."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import classifying
import conditional
import jax
import numpy as np
import pytest
import tiny
from rich.console import Console

from vdm import parts
from vdm.classifier import ClassifierConfig, ClassifierNetworkConfig
from vdm.config import OptimizerConfig
from vdm.data import Dataset, in_memory
from vdm.errors import InputError
from vdm.evaluation.metrics.extractors.classifier import Opened
from vdm.programs import judges
from vdm.programs.session import Session

QUIET = Console(quiet=True)
REAL_CONFIG = judges.config_of
DATA = conditional.dataset()


def small(dataset: Dataset) -> ClassifierConfig:
    """Of a network that is compiled in no time."""
    config = REAL_CONFIG(dataset)
    config.network = ClassifierNetworkConfig("linear")
    config.optimizer = OptimizerConfig(learning_rate=0.1, warmup_steps=0, ema_decay=0.9)
    config.training = replace(config.training, steps=40, batch_size=32, log_every=20, checkpoint_every=20)
    return config


@pytest.fixture(scope="module", autouse=True)
def _of_this_module() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(parts.PARTS["classifier"], "linear", classifying.Linear)
        patch.setattr(judges, "config_of", small)
        yield


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Opened]:
    cache = tmp_path_factory.mktemp("classifiers")
    with jax.numpy_dtype_promotion("standard"):
        return cache, judges.opener(DATA, None, cache, QUIET)()


def never(*_: object) -> None:
    raise AssertionError("trains")


def folders(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


def test_it_knows_the_data(kept: tuple[Path, Opened]) -> None:
    _, judge = kept
    images, labels = (np.stack([element[name] for element in DATA.test]) for name in ("image", "label"))
    _, log_prob = judge.classifier.features(judge.variables, jax.numpy.asarray(images))
    assert np.mean(log_prob.argmax(axis=1) == labels) == 1
    assert judge.data == f"{DATA.info.name} {DATA.info.version}"


def test_it_is_trained_once(kept: tuple[Path, Opened], monkeypatch: pytest.MonkeyPatch) -> None:
    cache, judge = kept
    monkeypatch.setattr(judges, "train_on", never)
    again = judges.opener(DATA, None, cache, QUIET)()
    assert (again.digest, again.data) == (judge.digest, judge.data)
    # And opened once by one program.
    opened, asked = judges._opened, []
    monkeypatch.setattr(judges, "_opened", lambda *given: asked.append(given) or opened(*given))
    open_it = judges.opener(DATA, None, cache, QUIET)
    assert open_it() is open_it()
    assert len(asked) == 1
    # Also as a folder that is named.
    assert judges.opener(DATA, folders(cache)[0], None, QUIET)().digest == judge.digest
    assert judges.opener(None, folders(cache)[0], None, QUIET)().digest == judge.digest


def test_training_cut_off_goes_on_to_the_same_weights(
    kept: tuple[Path, Opened], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a fixed seed: in another folder they are the same too."""
    advance = Session.advance

    def cut(self: Session, *given: object) -> None:
        if self.step >= 30:
            raise tiny.Cut
        advance(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "advance", cut)
        with pytest.raises(tiny.Cut):
            judges.opener(DATA, None, tmp_path, QUIET)()
    (folder,) = folders(tmp_path)
    assert [path.name for path in (folder / "checkpoints").iterdir() if path.name.isdecimal()] == ["20"]
    assert judges.opener(DATA, None, tmp_path, QUIET)().digest == kept[1].digest
    assert folders(tmp_path) == [folder]


def test_other_data_and_other_settings_have_one_of_their_own(
    kept: tuple[Path, Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, judge = kept
    trained = list[Path]()
    monkeypatch.setattr(judges, "_opened", lambda folder, dataset: judge)
    monkeypatch.setattr(judges, "train_on", lambda config, gamma, folder, *rest: trained.append(folder))
    judges.opener(replace(DATA, info=replace(DATA.info, version="2.0.0")), None, cache, QUIET)()
    judges.opener(replace(DATA, info=replace(DATA.info, notes=("odd",))), None, cache, QUIET)()

    def longer(dataset: Dataset) -> ClassifierConfig:
        config = small(dataset)
        config.training.steps += 1
        return config

    monkeypatch.setattr(judges, "config_of", longer)
    judges.opener(DATA, None, cache, QUIET)()
    assert len(set(trained)) == 2
    assert not set(trained) & set(folders(cache))


def test_its_steps_are_a_matter_of_a_minute_for_any_size() -> None:
    steps = {}
    for side in (8, 28, 32, 256):
        image = np.zeros((1, side, side, 1), np.uint8)
        steps[side] = REAL_CONFIG(in_memory({"image": image}, {"image": image}, levels=17, name="zeros")).training.steps
    assert steps == {8: 2000, 28: 668, 32: 512, 256: 250}


def refused(words: str, open_it: Callable[[], Opened]) -> None:
    with pytest.raises(InputError, match=words):
        open_it()


def test_what_cannot_be_is_refused_in_one_line(kept: tuple[Path, Opened], tmp_path: Path) -> None:
    image = {"image": np.asarray(tiny.images(4))}
    unlabelled = in_memory(image, image, levels=17, name="grey")
    without = r"^a classifier: its data, 'grey', have no labels: .*; mmd needs no labels, nor does fid, with weights$"
    refused(without, judges.opener(unlabelled, None, tmp_path, QUIET))
    refused(
        r"^a classifier: these images are not a data set .*; give --classifier=FOLDER$",
        judges.opener(None, None, tmp_path, QUIET),
    )
    folder = folders(kept[0])[0]
    refused(f"^{folder}: is a classifier of other data: ", judges.opener(unlabelled, folder, tmp_path, QUIET))
    refused("nowhere", judges.opener(DATA, tmp_path / "nowhere", tmp_path, QUIET))
    assert list(tmp_path.iterdir()) == []
