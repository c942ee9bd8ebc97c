"""The same numbers as torch-fidelity's for the same features (fidelity_recipe.py)."""

from pathlib import Path

import pytest

from vdm.evaluation.metrics import Reference
from vdm.evaluation.metrics.frechet import Frechet, frechet_distance
from vdm.evaluation.metrics.inception_score import score
from vdm.evaluation.metrics.kid import kernel_distance
from vdm.evaluation.metrics.manifold import Manifold
from vdm.evaluation.metrics.moments import moments
from vdm.npz import TEXT, read_npz

from . import peer_features

PEER = {name: value[()] for name, value in read_npz(Path(__file__).parent / "fidelity.npz", kinds="f" + TEXT).items()}


def test_they_are_of_the_versions_that_the_recipe_says() -> None:
    recipe = (Path(__file__).parent / "fidelity_recipe.py").read_text()
    for each in str(PEER["versions"]).split(", ")[:2]:
        name, version = each.split()
        assert f"{name}=={version.partition('+')[0]}" in recipe


@pytest.mark.parametrize("name", peer_features.FID)
def test_fid(name: str) -> None:
    x, y = peer_features.pair(name, *peer_features.FID[name])
    # The peer takes means in float32, and roots of eigenvalues that are rounding noise: each is 1e-8 of the largest.
    expected = pytest.approx(float(PEER[f"fid {name}"]), rel=1e-6)
    assert Frechet(Reference.of(y)).estimate(x).value == expected
    assert frechet_distance(moments(x), moments(y)) == expected


@pytest.mark.parametrize("name", peer_features.KID)
def test_kid(name: str) -> None:
    *shape, subsets, size = peer_features.KID[name]
    value = kernel_distance(*peer_features.pair(name, *shape), subsets, size).value
    assert value == pytest.approx(float(PEER[f"kid {name}"]), rel=1e-6)
    assert value == pytest.approx(float(PEER[f"kid {name} double"]), rel=1e-6)


@pytest.mark.parametrize("kind", ["precision", "recall"])
@pytest.mark.parametrize("name", peer_features.PRC)
def test_precision_and_recall(name: str, kind: str) -> None:
    *shape, k = peer_features.PRC[name]
    x, y = peer_features.pair(name, *shape)
    # Shares of at most 300 images, which the peer divides in float32.
    assert Manifold(kind, k, Reference.of(y)).estimate(x).value == pytest.approx(
        float(PEER[f"{kind} {name}"]), rel=1e-6
    )


@pytest.mark.parametrize("name", peer_features.ISC)
def test_inception_score(name: str) -> None:
    *shape, splits = peer_features.ISC[name]
    value = score(peer_features.logits(name, *shape), splits).value
    assert value == pytest.approx(float(PEER[f"isc {name}"]), rel=1e-6)
