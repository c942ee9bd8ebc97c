"""Weights are found, and are whole and of the network, or refused in one line."""

import re
from pathlib import Path

import numpy as np
import pytest
import weight_files
from weight_files import tensors, write

from vdm import safetensors
from vdm.errors import InputError
from vdm.evaluation.metrics import published, weights


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, network in weight_files.NETWORKS.items():
        monkeypatch.setitem(published.NETWORKS, name, network)
    monkeypatch.delenv(weights.VARIABLE, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "inception.safetensors", "inception", tensors("inception"))


def test_a_file_a_folder_and_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = weights.load("inception", file)
    for name, tensor in tensors("inception").items():
        np.testing.assert_array_equal(found.state[name], tensor, strict=True)
    for path in (file, file.parent):
        assert weights.load("inception", path).digest == found.digest
        monkeypatch.setenv(weights.VARIABLE, str(path))
        assert weights.load("inception").digest == found.digest
    # A path that is given comes before the environment's.
    monkeypatch.setenv(weights.VARIABLE, "/nowhere")
    assert weights.load("inception", file).digest == found.digest


def test_the_digest_is_of_the_tensors(tmp_path: Path) -> None:
    """Not of their order or of others, and says whether they are the published ones."""
    state = tensors("inception")
    other = dict(reversed(state.items()))
    digest = weights.load("inception", write(tmp_path / "a.safetensors", "inception", state)).digest
    known = write(tmp_path / "b.safetensors", "inception", other, weight_files.PUBLISHED)
    assert digest == weights.load("inception", known).digest + " (unknown weights)"
    assert re.fullmatch("[0-9a-f]{16}", weights.load("inception", known).digest)
    another = write(tmp_path / "c.safetensors", "inception", tensors("inception", seed=1))
    assert weights.load("inception", another).digest != digest
    for change in ({"fc.weight": state["fc.weight"].T}, {"fc.bias": state["fc.weight"]}):
        assert weights.checksum(state | change) != weights.checksum(state)


def refused(problem: str, name: str = "inception", path: Path | None = None) -> None:
    with pytest.raises(InputError, match=problem) as error:
        weights.load(name, path)
    assert "\n" not in str(error.value)


def test_no_weights(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(r"no weights of inception: .* --weights .* VDM_WEIGHTS; `vdm metrics convert pt_inception.pth`")
    folder = file.parent
    refused(rf"{folder}/dinov2_vitb14.safetensors: no such file; .*convert vitb14.pth", "dinov2_vitb14", folder)
    refused(r"nowhere: no such file", path=folder / "nowhere")
    monkeypatch.setenv(weights.VARIABLE, str(folder / "nowhere"))
    refused(r"nowhere: no such file")
    pickled = folder / "some.pth"
    pickled.write_bytes(b"PK")
    refused(rf"`vdm metrics convert {pickled}` makes", path=pickled)


def test_another_network(file: Path, tmp_path: Path) -> None:
    refused(r"has the weights of inception; must have those of dinov2_vitb14, from vitb14.pth", "dinov2_vitb14", file)
    foreign = tmp_path / "foreign.safetensors"
    safetensors.write(foreign, tensors("inception"), {"format": "pt"})
    refused(r"foreign.safetensors: was not made by `vdm metrics convert`; must", path=foreign)


def test_damage(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    refused(r"inception.safetensors: is not a whole", path=file)
    file.write_bytes(whole[:-4] + np.float32(0.5).tobytes())
    refused(r"is damaged: its tensors are not those that were written", path=file)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, "no tensor 'fc.weight'"),
        (
            {"fc.weight": np.zeros((4, 3), np.float32)},
            r"tensor 'fc.weight' is float32 \[4, 3\]; must be float32 \[4, 2",
        ),
        ({"fc.weight": np.zeros((4, 2))}, r"tensor 'fc.weight' is float64 \[4, 2\]; must be float32 \[4, 2\]"),
        ({"fc.weight": np.full((4, 2), np.inf, np.float32)}, r"tensor 'fc.weight' has numbers that are not finite"),
    ],
)
def test_tensors_that_no_network_computes_with(change: dict[str, np.ndarray], problem: str, tmp_path: Path) -> None:
    state = tensors("inception")
    del state["fc.weight"]
    refused(problem, path=write(tmp_path / "some.safetensors", "inception", state | change))
