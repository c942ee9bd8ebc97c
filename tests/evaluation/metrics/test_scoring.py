"""Metrics by name against real images: one pass for each extractor, a cache, statistics from files."""

from pathlib import Path

import numpy as np
import pytest
from grey import grey, pixels_of

from vdm import data, parts
from vdm.errors import InputError
from vdm.evaluation.metrics import Estimate, Metric, Reference
from vdm.evaluation.metrics.moments import moments
from vdm.evaluation.metrics.scoring import Real, Scorer
from vdm.evaluation.metrics.statistics import Statistics, read_statistics

LEVELS, SHAPE = 17, (4, 3, 1)


def images(num: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, LEVELS, (num, *SHAPE)).astype(np.uint8)


DATASET = data.in_memory({"image": images(40, 0)}, {"image": images(10, 1)}, levels=LEVELS, name="noise")


class Mean:
    """Distance of the means, which statistics alone tell."""

    def __init__(self, reference: Reference):
        self.reference = reference

    def estimate(self, features, labels=None) -> Estimate:
        value = float(np.linalg.norm(features.mean(axis=0) - self.reference.moments.mean))
        return Estimate(value, np.zeros(len(features)))

    def noise_floor(self, num: int) -> float:
        return 0.0

    def cautions(self, num: int) -> tuple[str, ...]:
        return (f"{num} are few",)


class Others(Mean):
    def estimate(self, features, labels=None) -> Estimate:
        return Estimate(float(len(self.reference.others)), np.zeros(len(features)))


@pytest.fixture(autouse=True)
def metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        "grey": grey,
        "mean": lambda: Metric("mean", Mean),
        "others": lambda: Metric("others", Others),
        "hits": lambda: Metric("hits", Mean, labels=True),
    }
    for name, constructor in made.items():
        monkeypatch.setitem(parts.PARTS["metric"], name, constructor)


def scorer(*names: str, real: Real | None = None, **kwargs) -> Scorer:
    return Scorer(names, Real.of(DATASET) if real is None else real, LEVELS, SHAPE, **kwargs)


def test_each_metric_sees_the_features_of_its_extractor() -> None:
    samples = images(20, 2)
    real, own = (pixels_of(each, LEVELS) for each in (images(40, 0), samples))
    found = scorer("grey", "mean", "others", "mmd")(samples)
    assert list(found) == ["grey", "mean", "others", "mmd"]
    np.testing.assert_allclose(found["grey"].value, abs(own.mean() - real.mean()), rtol=1e-4)
    exact = np.linalg.norm(own.mean(axis=0, dtype=np.float64) - real.mean(axis=0, dtype=np.float64))
    np.testing.assert_allclose(found["mean"].value, exact, rtol=1e-5)
    assert found["others"].value == 10


def test_real_images_are_seen_once_and_with_a_cache_once_for_all_time(tmp_path: Path) -> None:
    passes: list[str] = []

    def report(what: str, done: int, total: int) -> None:
        if done == total:
            passes.append(what)

    for _ in range(2):
        made = scorer("grey", "mean", cache=tmp_path, progress=report)
        made(images(20, 2))
        made(images(20, 3))
    assert passes.count("features of real images by pixels") == 1
    assert passes.count("features of samples by pixels") == 4
    passes.clear()
    scorer("grey", "mean", progress=report)(images(20, 2))
    assert passes.count("features of real images by pixels") == 1
    # A test split of the same name is another.
    other = scorer("mean", real=Real.of(DATASET, "test"), cache=tmp_path)
    other(images(20, 2))
    exact = pixels_of(images(10, 1), LEVELS).mean(axis=0)
    np.testing.assert_allclose(other.measures["mean"].reference.moments.mean, exact, rtol=1e-5, atol=1e-6)


def test_statistics_take_the_place_of_images(tmp_path: Path) -> None:
    of = Real.of(DATASET)
    features = pixels_of(images(40, 0), LEVELS)
    path = tmp_path / "noise.npz"
    Statistics(moments(features), f"pixels of {LEVELS} levels", "values", of.name, path).write()
    alone = Real(None, None, str(path), read_statistics(path))
    samples = images(20, 2)
    ours = scorer("mean")(samples)["mean"].value
    np.testing.assert_allclose(scorer("mean", real=alone)(samples)["mean"].value, ours, rtol=1e-6)
    with pytest.raises(ValueError, match="grey: real images: only their mean and covariance are known"):
        scorer("grey", real=alone)


def test_statistics_of_another_extractor_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise.npz"
    features = pixels_of(images(40, 0), LEVELS)
    Statistics(moments(features), "pixels of 256 levels", "values", "noise", path).write()
    with pytest.raises(InputError, match="statistics of 'values' of pixels of 256 levels; must be of 'values' of pix"):
        scorer("mean", real=Real(None, None, "", read_statistics(path)))
    # As other tools publish them: they say nothing, but their size does.
    np.savez(path, mu=np.zeros(5), sigma=np.eye(5))
    with pytest.raises(InputError, match="statistics of 5 features; 'values' of pixels has 12"):
        scorer("mean", real=Real(None, None, "", read_statistics(path)))


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"mu": np.zeros(3)}, "no array 'sigma'"),
        ({"mu": np.zeros(3), "sigma": np.eye(2)}, r"mu \(3,\), sigma \(2, 2\); must be"),
        ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, r"mu \(0,\), sigma \(0, 0\); must be"),
        ({"mu": np.zeros(2), "sigma": np.eye(2), "num": np.array([7, 7])}, r"num is int64 \[7, 7\]; must be a whole"),
        ({"mu": np.zeros(2), "sigma": np.eye(2), "num": np.nan}, "num is float64 nan; must be a whole number"),
        ({"mu": np.zeros(2), "sigma": np.eye(2), "num": 1}, "num is int64 1; must be a whole number, 2 or more"),
        ({"mu": np.zeros(2), "sigma": np.full((2, 2), np.nan)}, "mu or sigma is not finite"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 2.0], [0.0, 1.0]])}, "sigma is not symmetric"),
    ],
)
def test_files_of_other_arrays_are_no_statistics(tmp_path: Path, arrays: dict, problem: str) -> None:
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(InputError, match=problem):
        read_statistics(tmp_path / "other.npz")


def test_statistics_are_written_and_read_back(tmp_path: Path) -> None:
    made = Statistics(moments(pixels_of(images(40, 0), LEVELS)), "who", "values", "noise", tmp_path / "a.npz")
    made.write()
    there = read_statistics(made.path)
    assert there[1:] == made[1:]
    assert there.moments.num == 40
    np.testing.assert_allclose(there.moments.cov, made.moments.cov, rtol=1e-15)


def test_what_a_metric_needs_and_is_not_there_is_said() -> None:
    with pytest.raises(ValueError, match="hits: needs the labels of the images, and there are none"):
        scorer("hits")(images(20, 2))
    with pytest.raises(ValueError, match="others: real images: there is no test split"):
        scorer("others", real=Real.of(DATASET, "test"))(images(20, 2))
    with pytest.raises(ValueError, match=r"samples: are uint8 \(3, 4, 1\); pixels needs uint8 \(4, 3, 1\)"):
        scorer("mean")(images(20, 2).reshape(20, 3, 4, 1))
    assert scorer("mean", "grey").cautions(7) == {"mean": ("7 are few",), "grey": ()}


@pytest.mark.parametrize("name", sorted(set(parts.PARTS["metric"]) - {"grey", "mean", "others", "hits"}))
def test_a_metric_takes_as_few_images_as_it_says(name: str) -> None:
    metric = parts.make("metric", name)
    x = np.random.default_rng(0).normal(size=(3, metric.least + 8, 5)).astype(np.float32)
    measure = metric.prepare(Reference.of(x[0], x[1]))
    labels = np.zeros(len(x[2]), int)
    assert np.isfinite(measure.estimate(x[2, : metric.least], labels[: metric.least]).stderr)
    for tried in (lambda few: metric.check(few, True), lambda few: measure.estimate(x[2, :few], labels[:few])):
        with pytest.raises(ValueError, match=f"images: {metric.least - 1} of them.*; must be {metric.least} or more"):
            tried(metric.least - 1)


def test_moments_are_those_of_numpy_also_far_from_zero() -> None:
    x = (1e4 + np.random.default_rng(0).normal(size=(9000, 3))).astype(np.float32)
    found = moments(x)
    np.testing.assert_allclose(found.mean, x.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(found.cov, np.cov(x.astype(np.float64).T), rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="features: of 1 images; a covariance needs 2 or more"):
        moments(x[:1])
