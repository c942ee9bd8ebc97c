"""Networks small enough for tests in place of the published ones, and files of their weights."""

from pathlib import Path

import numpy as np

from vdm import safetensors
from vdm.evaluation.metrics import published, weights

PUBLISHED = "ab" * 32
"""The checksum of a published file that is nowhere."""

NETWORKS = {
    "inception": published.Network(
        "pt_inception.pth", frozenset({PUBLISHED}), {"a.conv.weight": (2, 3, 1, 1), "fc.weight": (4, 2)}
    ),
    "dinov2_vitb14": published.Network("vitb14.pth", frozenset(), published.dinov2_tensors(4, 2, grid=3, patch=2)),
    "dinov2_vitl14": published.Network("vitl14.pth", frozenset(), published.dinov2_tensors(6, 3, grid=3, patch=2)),
}


def tensors(name: str, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {key: rng.normal(size=shape).astype(np.float32) for key, shape in NETWORKS[name].tensors.items()}


def write(path: Path, name: str, state: dict[str, np.ndarray], source: str = "") -> Path:
    """As `vdm metrics convert` does of a file with the checksum `source`."""
    metadata = {weights.NETWORK: name, weights.CHECKSUM: weights.checksum(state), weights.SOURCE_CHECKSUM: source}
    safetensors.write(path, state, metadata)
    return path
