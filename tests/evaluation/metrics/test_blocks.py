"""Every metric reads features in blocks, from files as from memory."""

from pathlib import Path

import numpy as np
import pytest

from vdm import parts
from vdm.evaluation.metrics import Reference, distances, frechet, moments

METRICS = (
    "fid",
    "fid_infinity",
    "inception_score(splits=3)",
    "kid(subsets=3, size=20)",
    "precision",
    "recall",
    "density",
    "coverage",
    "memorization",
    "copies",
    "mmd",
)


@pytest.mark.parametrize("name", METRICS)
def test_estimates_are_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(num, 5)).astype(np.float32) for num in (101, 130, 120)]
    kept = []
    for k, array in enumerate(arrays):
        array.tofile(tmp_path / f"{k}.f32")
        kept.append(np.memmap(tmp_path / f"{k}.f32", np.float32, "r", shape=array.shape))

    def estimate(features: np.ndarray, real: np.ndarray, others: np.ndarray):
        return parts.make("metric", name).prepare(Reference.of(real, others)).estimate(features)

    in_memory = estimate(*arrays)
    for module in (distances, frechet, moments):
        monkeypatch.setattr(module, "BLOCK", 32)
    from_files = estimate(*kept)
    np.testing.assert_allclose(from_files.value, in_memory.value, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(from_files.without, in_memory.without, rtol=1e-6, atol=1e-7)
    assert len(in_memory.without) in (101, 50)
