"""Where results go: folders that can be written, names of their own, no result of other weights replaced."""

import errno
import io
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from vdm import parallel
from vdm.config import Config, to_dict
from vdm.data import Dataset, in_memory
from vdm.errors import InputError
from vdm.files import check_writable, write_json
from vdm.runs.open import Run
from vdm.runs.records import weights_digest
from vdm.runs.results import check_same_weights, folder_of, other_data, stem

IMAGES = {"image": np.asarray(tiny.images(4))}


def data(name: str, version: str) -> Dataset:
    return in_memory(IMAGES, IMAGES, levels=17, name=name, version=version)


def opened(path: Path, given: Dataset, **changes: Any) -> Run:
    """A run on version 1 of npz:/a/letters.npz, opened with other data and config."""
    config = tiny.config()
    config.data.name = "npz:/a/letters.npz"
    if not path.exists():
        path.mkdir()
        write_json(path / "config.json", to_dict(config))
        write_json(path / "run.json", {"data": data("npz:/a/letters.npz", "sha256:0123456789").info.to_dict()})
    changed: Config = replace(config, **changes)
    return Run(path, changed, tiny.model(), parallel.make_mesh(1), 7, {"x": np.ones(2, np.float32)}, None, given)


def test_a_name_has_all_that_makes_another_result(tmp_path: Path) -> None:
    path = tmp_path / "run"
    own = opened(path, data("npz:/a/letters.npz", "sha256:0123456789"))
    assert stem(own, draws=50, T="inf") == "step_7_draws_50_T_inf"
    moved = opened(path, data("npz:/b/letters.npz", "sha256:0123456789"))
    assert stem(moved, draws=50, T="inf") == "step_7_draws_50_T_inf"
    others = opened(path, data("npz:/b/my digits.npz", "sha256:fedcba9876543210"), seed=3)
    assert stem(others, "seed", "evaluation.draws", T=5) == "step_7_data_my_digits_fedcba98_seed_3_T_5"
    assert stem(others, data=False, T=5) == "step_7_T_5"
    assert (other_data(own), other_data(moved)) == ("", "")
    prepared = opened(path, data("downsampled_imagenet/32x32", "2.0.0"))
    assert stem(prepared, draws=1) == "step_7_data_downsampled_imagenet_32x32_2.0.0_draws_1"


def test_a_result_of_other_weights_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    own, other = (weights_digest({"x": np.float32([1, value])}) for value in (2, 3))
    check_same_weights(path, own)
    write_json(path, {"weights_digest": own})
    check_same_weights(path, own)
    with pytest.raises(InputError, match=r"result\.json: is of other weights; move it away, or .*--out=FOLDER"):
        check_same_weights(path, other)
    for text in ("[]", "{"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"result\.json: .*; move it away"):
            check_same_weights(path, own)


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "new" / "folder", "--out")
    assert folder_of(tmp_path / "run", None, "samples") == tmp_path / "run" / "samples"
    assert folder_of(tmp_path / "run", tmp_path / "out", "samples") == tmp_path / "out" / "samples"
    monkeypatch.chdir(tmp_path)
    check_writable(Path("new"), "--out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=rf"^--out: cannot write to {path}: Not a directory$"):
            check_writable(path, "--out")
    with pytest.raises(InputError, match=r"^--workdir: .*: Not a directory; --out=FOLDER writes elsewhere$"):
        folder_of(tmp_path / "file", None, "evaluations")
    with pytest.raises(InputError, match=r"^--out: .*: Not a directory$"):
        folder_of(tmp_path, tmp_path / "file", "evaluations")

    def fails(number: int) -> Any:
        def opening(*args: Any, **kwargs: Any) -> None:
            raise OSError(number, os.strerror(number))

        return opening

    for number, says in ((errno.EROFS, "Read-only file system"), (errno.EACCES, "Permission denied")):
        monkeypatch.setattr(tempfile, "TemporaryFile", fails(number))
        with pytest.raises(InputError, match=f"--out: cannot write to .*new: {says}"):
            check_writable(tmp_path / "new", "--out")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
def test_a_full_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: io.FileIO("/dev/full", "w"))
    with pytest.raises(InputError, match=r"--out: cannot write to .*: No space left on device"):
        check_writable(tmp_path, "--out")
