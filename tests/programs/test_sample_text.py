"""sample.py on a model of captions: what pictures, names and records say of them, and unknown words."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import classes_by_caption
import guided
import numpy as np
import pytest
import tiny
from rich.console import Console

from vdm import parallel
from vdm.config import Config, SamplingConfig, to_dict
from vdm.errors import InputError
from vdm.files import write_json
from vdm.programs import sample as program
from vdm.programs.sample import Sample, text_of
from vdm.runs import shards
from vdm.runs.open import Run
from vdm.runs.texts import write_text

Make = Callable[..., Sample]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A sample of settings, of the exact model of three captions in place of a run's checkpoint; there are no data."""
    path, config, mesh = tmp_path / "run", tiny.config(), parallel.make_mesh(1)
    path.mkdir()
    write_json(path / "config.json", to_dict(config))
    write_json(path / "run.json", {"data": {"classes": None}})
    write_text(path, classes_by_caption.TEXT)

    def open_run(path: Path, checkpoint: str, config: Config) -> Run:
        return Run(path, config, classes_by_caption.model(), mesh, 7, guided.exact(), None)

    monkeypatch.setattr(program, "open_run", open_run)

    def make(**settings: Any) -> Sample:
        sampling = SamplingConfig(**{"num": 5, "steps": 3, "batch_size": 8} | settings)
        return Sample(replace(config, sampling=sampling), path, "latest", 4, Console(file=io.StringIO()))

    return make


def drawn(sample: Sample) -> np.ndarray:
    return np.concatenate(list(shards.read(sample.images())))


def said(sample: Sample) -> str:
    file = sample.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_captions_are_in_the_picture_the_name_and_the_record(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(program, "samples", lambda *arguments: made.append(arguments[-3:]))
    some = make(text="c hen\na", guidance="classifier_free(1.5, negative='b dog')")
    images = drawn(some)
    assert some.stem.name.startswith("step_7_seed_4_T_3_ancestral_text_c_hen_a_")
    record = json.loads((some.stem / "settings.json").read_text())
    assert (record["text"], record["labels"]) == ("c hen\na", None)
    assert record["guidance"] == "classifier_free(1.5, negative='b dog')"
    ((caption, rows, names),) = made
    assert caption == "run, step 7, seed 4: ancestral, 3 steps, classifier_free(1.5, negative='b dog')"
    assert (rows, names) == (["c hen", "a"], ["c hen", "a", "c hen", "a", "c hen"])
    # Image k depends on its caption, its key and the settings alone.
    again = drawn(make(text="c hen\na\nc hen\na", guidance="classifier_free(1.5, negative='b dog')", num=3))
    np.testing.assert_array_equal(again, images[:3])
    # And they are of their captions.
    plain = drawn(make(text="c hen\na cat")) / 8 - 1
    means = guided.MEANS[np.array([2, 0, 2, 0, 2])]
    assert np.mean((plain - means) ** 2) < 2 * guided.STD**2


def test_names_of_captions_tell_them_apart(make: Make) -> None:
    names = {make(text=text).stem.name for text in ("a, cat", "a cat", "a\ncat", "a cat!")}
    assert len(names) == 4
    assert len(make(text="\n".join(f"a {k}" for k in range(300))).stem.name) < 120


def test_unknown_words_are_named_in_one_line(make: Make) -> None:
    sample = make(text="a fat\nb dog", guidance="classifier_free(negative='c emu')")
    assert said(sample) == "words never seen in training: fat, emu\n"
    assert said(make(text="a cat\nb dog")) == ""


def test_a_sweep_has_columns_titled_by_captions(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []
    monkeypatch.setattr(program.pictures, "strip", lambda *arguments: made.append(arguments))
    make(text="a cat\nb dog", guidance="classifier_free(1, negative='c')", num=3).sweep([0.0, 2.0])
    ((_, _, _, columns, rows),) = made
    assert (columns, rows) == (["a cat", "b dog", "a cat"], ["w = 0", "w = 2"])


def test_a_picture_is_drawn(make: Make) -> None:
    sample = make(text="\n".join(f"a {k}" for k in range(20)), num=4)
    sample.images()
    assert sample.stem.with_name(f"{sample.stem.name}.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"text": "a fat cat"}, "^sampling.text: the caption 'a fat cat' is longer than"),
        ({"labels": "1"}, "^sampling.labels=1: the network is conditioned on 'text'; must be conditioned on labels"),
        ({"text": " \n"}, "^config.sampling.text=' .n': must be words"),
    ],
)
def test_what_is_refused(make: Make, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make(**settings)


def test_flags(tmp_path: Path) -> None:
    file = tmp_path / "captions.txt"
    file.write_text("﻿a cat\r\n\n  b dog\n", encoding="utf-8")
    assert text_of(None, str(file)) == "a cat\nb dog"
    assert text_of(["a  cat", "b"], None) == "a cat\nb"
    file.write_bytes(b"a \xff")
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    for captions, path, words in (
        ([" "], None, "--text=: must be a caption, not empty"),
        (["a"], str(file), "--text, --texts: must be only one of them"),
        (None, str(file), "is not UTF-8 text .byte 2."),
        (None, str(empty), "--texts=.*: has no captions; must have one per line"),
        (None, str(tmp_path / "none"), "none: no such file"),
    ):
        with pytest.raises(InputError, match=words):
            text_of(captions, path)
