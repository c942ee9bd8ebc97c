"""Toys: densities held against quadrature, closed forms and the very points that were drawn."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from vdm.config import DataConfig
from vdm.data import Dataset, examples, load, toys
from vdm.data.augmentations import get
from vdm.errors import InputError

NAMES = tuple(toys.TOYS)


def points(dataset: Dataset, split: str = "train") -> np.ndarray:
    source = getattr(dataset, split)
    return examples(source, range(len(source)))["image"].astype(np.float64)


def cells(num: int) -> tuple[np.ndarray, float]:
    """(centres of num × num cells of [−1.5, 1.5]², the area of one), made here."""
    edges = np.linspace(-1.5, 1.5, num + 1)
    centers = (edges[1:] + edges[:-1]) / 2
    return np.stack(np.meshgrid(centers, centers, indexing="ij"), axis=-1).reshape(-1, 2), (3 / num) ** 2


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_of_real_vectors(name: str) -> None:
    dataset = load(DataConfig(name=name))
    info, labelled = dataset.info, name in ("clusters", "moons")
    assert (info.shape, info.levels, info.num_train, info.num_test) == ((2,), 0, 10_000, 2_000)
    assert (info.classes is not None) == labelled
    batch = examples(dataset.test, range(5))
    assert (batch["image"].dtype, batch["image"].shape, "label" in batch) == (np.float32, (5, 2), labelled)
    assert np.abs(points(dataset)).max() < 1.2
    # Fixed for ever, and the two splits are other points.
    np.testing.assert_array_equal(points(load(DataConfig(name=name)), "test"), points(dataset, "test"))
    assert not set(map(tuple, points(dataset))) & set(map(tuple, points(dataset, "test")))


@pytest.mark.parametrize("name", NAMES)
def test_the_density_integrates_to_one(name: str) -> None:
    # Cells of 0.0125 are a third of the least standard deviation; the board's edges are edges of cells.
    x, area = cells(240)
    assert abs(np.exp(toys.log_prob(name, x)).sum() * area - 1) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_the_points_that_are_drawn_have_this_density(name: str) -> None:
    """Pearson's χ² of counts in cells, against the probability of each by 12² points in it."""
    drawn, (x, area) = points(load(DataConfig(name=name))), cells(240)
    probability = (np.exp(toys.log_prob(name, x)) * area).reshape(20, 12, 20, 12).sum(axis=(1, 3))
    counts = np.histogram2d(*drawn.T, bins=20, range=[[-1.5, 1.5]] * 2)[0]
    expected, often = len(drawn) * probability, len(drawn) * probability > 5
    counts, expected = (np.append(v[often], v[~often].sum()) for v in (counts, expected))
    chi2, freedom = ((counts - expected) ** 2 / np.maximum(expected, 1)).sum(), len(counts) - 1
    assert abs(chi2 - freedom) < 4 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("name", NAMES)
def test_the_entropy_is_the_mean_of_minus_log_p(name: str) -> None:
    surprise = -toys.log_prob(name, points(load(DataConfig(name=name))))
    error = surprise.std() / np.sqrt(len(surprise))
    assert abs(surprise.mean() - toys.entropy(name)) < 4 * error + 1e-9


def test_clusters_are_five_normals_and_their_labels_the_nearest() -> None:
    dataset = load(DataConfig(name="clusters"))
    angles = 2 * np.pi * np.arange(5) / 5
    means = 0.7 * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    x = np.random.default_rng(0).uniform(-1.2, 1.2, (50, 2))
    exact = np.log(np.mean([multivariate_normal(m, 0.01).pdf(x) for m in means], axis=0))
    np.testing.assert_allclose(toys.log_prob("clusters", x), exact, rtol=1e-12)
    batch = examples(dataset.train, range(2000))
    nearest = ((batch["image"][:, None] - means[None]) ** 2).sum(axis=2).argmin(axis=1)
    # Neighbours' centres are 8 standard deviations apart.
    assert np.mean(nearest == batch["label"]) > 0.999


def test_curves_need_no_more_nodes() -> None:
    """Twice as many points of Gauss and Legendre change nothing."""
    x, _ = cells(30)
    for curves, std, nodes in (((toys._moon(1), toys._moon(-1)), 0.05, 128), ((toys._spiral,), 0.04, 512)):
        once, twice = (toys.noisy(curves, std, n).log_prob(x) for n in (nodes, 2 * nodes))
        there = twice > -30
        np.testing.assert_allclose(once[there], twice[there], atol=1e-6)


def test_a_checkerboard() -> None:
    log_p = toys.log_prob("checkerboard", np.array([[-0.9, -0.9], [-0.4, -0.9], [-0.4, -0.4], [0.9, 0.9], [1.1, 0.9]]))
    np.testing.assert_array_equal(log_p > -np.inf, [True, False, True, True, False])
    np.testing.assert_allclose(toys.entropy("checkerboard"), np.log(2), rtol=1e-12)


def test_what_is_no_toy_or_has_no_sides() -> None:
    with pytest.raises(ValueError, match="name='digits': must be one of clusters, moons, checkerboard, spiral"):
        toys.log_prob("digits", np.zeros((1, 2)))
    with pytest.raises(InputError, match=r"'flip' needs images \(height, width, channels\), these are \(2,\)"):
        get(("flip",), (2,))
    with pytest.raises(InputError, match=r"data.levels: 17 was given, but 'moons' has 0"):
        load(DataConfig(name="moons", levels=17))
