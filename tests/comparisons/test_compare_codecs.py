"""The comparison of codecs as a whole, on a tiny run: what it leaves, that it goes on where it stopped, refusals."""

import importlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tiny
from rich.console import Console

from vdm import bounds
from vdm.codec import chunk
from vdm.codec.chain import Chain
from vdm.comparisons.codecs import MODE, CodecsSettings, classical, coded
from vdm.comparisons.codecs import measure as program
from vdm.config import Config, EvaluationConfig, ScheduleConfig
from vdm.data import examples, selected
from vdm.errors import InputError
from vdm.evaluation.bound import Evaluator
from vdm.evaluation.coding import chain_of
from vdm.keys import Stream
from vdm.model import Model
from vdm.programs.commands import compare as command
from vdm.programs.compare import compare
from vdm.programs.train import train
from vdm.runs.folder import lock
from vdm.runs.open import open_run
from vdm.runs.records import read_config

NUM = 16
SETTINGS = CodecsSettings(steps=(2, 20), max_images=NUM, batch_size=8, repeats=2, draws=40)
QUIET = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a run of a model that is given labels."""
    folder = tmp_path_factory.mktemp("codecs")
    config = tiny.run_config(folder, 4, log_every=4, evaluate_every=0)
    config.network.condition = ("label",)
    config.schedule = ScheduleConfig(name="linear", gamma_min=-7.0)
    config.evaluation = EvaluationConfig(batch_size=100, draws=1, max_images=100)
    # Before the fixture of conftest.py that does this for tests.
    with jax.numpy_dtype_promotion("standard"):
        train(config, folder / "run", console=QUIET)
    return folder


@pytest.fixture(scope="module", autouse=True)
def light() -> Iterator[None]:
    """Two coders, of which one is always there: what the others do is for test_classical_coders.py.

    What the runs compile is compiled once, for their models are the same.
    """
    chains, evaluators = dict[Any, Chain](), dict[Any, Evaluator]()

    def chain_once(model: Model, variables: Any, T: int, batch_size: int, bins: float = 1.5) -> Chain:
        if (T, batch_size, bins) not in chains:
            chains[T, batch_size, bins] = chain_of(model, variables, T, batch_size, bins)
        return chains[T, batch_size, bins]

    def evaluator_once(model: Model, mesh: Any, size: int) -> Evaluator:
        if size not in evaluators:
            evaluators[size] = Evaluator(model, mesh, size)
        return evaluators[size]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "CODERS", {name: classical.CODERS[name] for name in ("deflate", "JPEG XL")})
        patch.setattr(program, "chain_of", chain_once)
        patch.setattr(program, "Evaluator", evaluator_once)
        yield


@pytest.fixture(scope="module")
def whole(folder: Path) -> tuple[str, str]:
    """A run to its end, in the folder "whole": its table, and what it printed."""
    with jax.numpy_dtype_promotion("standard"):
        return run(folder, "whole")


def run(folder: Path, workdir: str, config: Config | None = None, **changes: Any) -> tuple[str, str]:
    settings, config, out = replace(SETTINGS, **changes), config or read_config(folder / "run"), io.StringIO()
    console = Console(file=out, width=200)
    return compare(MODE, config, settings, folder / workdir, console, folder / "run", "latest"), out.getvalue()


def outcomes(folder: Path, workdir: str) -> list[dict[str, Any]]:
    return json.loads((folder / workdir / "codecs.json").read_text())["outcomes"]


def test_a_comparison_cut_off_ends_as_one_that_was_not(
    folder: Path, whole: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, printed = whole
    monkeypatch.setattr(program, "plot", lambda *_: None)
    assert "100% done, 0:00 left" in printed
    measure, count = program._Codecs._measure, list[int]()

    def measure_or_cut(self: Any, num_steps: int) -> coded.Coded:
        if num_steps == 20:
            raise tiny.Cut
        return measure(self, num_steps)

    with monkeypatch.context() as patch:
        patch.setattr(program._Codecs, "_measure", measure_or_cut)
        with pytest.raises(tiny.Cut):
            run(folder, "broken")
    # What there is of it is a table already.
    assert (folder / "broken" / "codecs.md").read_text().startswith("| T (16 images) | 2 |\n")
    monkeypatch.setattr(program._Codecs, "_measure", lambda self, T: count.append(T) or measure(self, T))
    monkeypatch.setattr(classical, "measured", None)
    again, _ = run(folder, "broken")
    assert count == [20]

    def without_speed(text: str) -> list[str]:
        rows = ("| seconds", "| of these", "| peak")
        return [line for line in text.splitlines() if not line.startswith(rows)]

    assert without_speed(again) == without_speed(table)
    # All that is measured is read.
    count.clear()
    assert run(folder, "broken")[0] == again
    assert count == []
    # Another weight, another codec.
    monkeypatch.setattr(program, "weights_digest", lambda variables: "other weights")
    run(folder, "broken", steps=(2,))
    assert count == [2]


@pytest.mark.usefixtures("whole")
def test_what_it_leaves_is_what_the_codec_says(folder: Path) -> None:
    there = {"T_2.json", "T_20.json", "deflate.json", "JPEG_XL.json"}
    assert {path.name for path in (folder / "whole" / "cells").iterdir()} == there
    assert (folder / "whole" / "codecs.png").stat().st_size > 0
    trained = open_run(folder / "run")
    test = trained.dataset.test
    batch = examples(test, selected(len(test), NUM))
    images, labels = batch["image"], batch["label"]
    evaluator = program.Evaluator(trained.model, trained.mesh, NUM)
    for found, T, rounds in zip(outcomes(folder, "whole"), (2, 20), (20, 2), strict=True):
        chain = program.chain_of(trained.model, trained.variables, T, 8)
        for num in (1, 10, NUM):
            words, rate = chunk.push(chain, images[:num], labels[:num], 10)
            size = dict(found["files"])[num]
            assert 50 < size - 4 * len(words) < 250  # the header
            assert found["gross"][str(num)] == pytest.approx(8 * size / (num * 64))
        # Of the model's images in the whole file, without labels: other draws of the same rate, for all but the seeds.
        labelled = rate.bits / rate.images - np.log2(10)
        assert found["net"] == pytest.approx(labelled / 64, rel=0.15)
        estimates = evaluator.estimates(
            trained.variables, test, trained.key(Stream.EVALUATION), T, rounds=rounds, max_images=NUM, num_steps=T
        )
        bits = bounds.bits_per_dim(estimates.terms.sum(axis=1), 64)
        assert found["bound"] == pytest.approx(bits.mean(), abs=1e-6)
        assert found["bound_draws"] == rounds
        # Not the other way: far symbols of a network that knows nothing cost less than the tails of their Gaussians.
        assert found["above"] < 4 * found["noise"]
        assert 0 < found["coder_share"] < 1
        assert found["encode_seconds"] > 0 < found["decode_seconds"]
        assert found["peak_bytes"] > 1e7


def test_a_coder_that_is_not_there_has_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.import_module

    def without(name: str, *rest: Any) -> Any:
        if name == "imagecodecs":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    monkeypatch.setattr(program, "plot", lambda *_: None)
    table, _ = run(folder, "broken", steps=(2,))
    assert "| JPEG XL (not installed: imagecodecs) |  |  |  |" in table.splitlines()
    assert any(line.startswith("| deflate | ") for line in table.splitlines())


def test_what_does_not_come_back_is_no_measurement(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pop = chunk.pop

    def wrong(*arguments: Any) -> Any:
        images, labels = pop(*arguments)
        return np.where(images == images.max(), 0, images).astype(np.uint8), labels

    monkeypatch.setattr(chunk, "pop", wrong)
    with pytest.raises(InputError, match="does not decode here to what was coded"):
        run(folder, "wrong", steps=(2,))
    assert not (folder / "wrong" / "cells" / "T_2.json").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": ()}, r"comparison\.steps=\(\): must be one or more"),
        ({"steps": (5, 2)}, r"comparison\.steps=\(5, 2\): must be increasing"),
        ({"repeats": 1}, r"comparison\.repeats=1: must be 2 or more"),
        ({"max_images": 1}, r"comparison\.max_images: one test image .*must be 2 or more"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(folder: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(folder, "refused", **changes)
    assert not (folder / "refused").exists()


def test_a_model_of_its_own_steps_has_no_others(folder: Path) -> None:
    discrete = read_config(folder / "run")
    discrete.objective = replace(discrete.objective, num_steps=3)
    with pytest.raises(InputError, match=r"comparison\.steps=\(2, 20\): must be \(3,\), as in training"):
        run(folder, "refused", discrete)


def test_two_in_one_folder_are_refused(folder: Path) -> None:
    with lock(folder / "locked"), pytest.raises(InputError, match="locked: another run is writing here"):
        run(folder, "locked")


def test_help_tells_of_it() -> None:
    assert "--by=codec" in (command.__doc__ or "")
    assert "codec" in command.NAMES
