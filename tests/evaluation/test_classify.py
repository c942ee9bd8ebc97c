"""Classification by bounds against Bayes' rule on images that classes share, and that nothing but the model counts."""

import dataclasses
import functools

import conditional
import jax
import numpy as np
import pytest
from compiling import compiled
from conditional import PATTERNS
from overlapping import CLASSES, SHARES, draw, exact, model, source
from scipy import special

from vdm import parallel
from vdm.data import Arrays
from vdm.errors import InputError
from vdm.evaluation import classify, race
from vdm.evaluation.bound import Evaluator
from vdm.evaluation.classify import Classification, Classifier

KEY, NUM = jax.random.key(7), 60


@functools.cache
def classifier(num_devices: int = 8, batch_size: int = 64, num_steps: int | None = None) -> Classifier:
    which = dataclasses.replace(model(), num_steps=num_steps)
    return Classifier(which, parallel.make_mesh(num_devices), batch_size, CLASSES)


def classified(which: Classifier, draws: int = 16, **settings: object) -> Classification:
    return which(exact(model()), source(NUM), KEY, draws, **settings)


def test_log_odds_are_those_of_bayes_rule() -> None:
    """Of each pattern: log p(c|x)/p(c'|x) from 1024 draws, within its standard error; p(c|x) is never near 0 or 1."""
    images = Arrays({"image": PATTERNS, "label": np.zeros(4, int)})
    losses = classifier().losses(exact(model()), images, KEY, 1024)
    bayes = np.log(SHARES.T)
    assert 0.03 < special.softmax(bayes, axis=1).min() < special.softmax(bayes, axis=1).max() < 0.8
    for c in range(1, CLASSES):
        odds = losses[:, 0] - losses[:, c]
        stderr = odds.std(axis=1, ddof=1) / 32
        assert (stderr < 0.4).all()
        assert (np.abs(odds.mean(axis=1) - (bayes[:, c] - bayes[:, 0])) < 4 * stderr + 1e-3).all()


def test_the_prior_counts() -> None:
    """With one that outweighs the images, the answer is always its class; else Bayes' rule for most."""
    log_prior = np.log([1e-30, 1 - 2e-30, 1e-30])
    assert classified(classifier(), log_prior=log_prior).confusion[:, 1].sum() == NUM


def test_accuracy_and_log_loss_come_to_those_of_bayes_rule() -> None:
    classes, patterns = draw(NUM)
    found = classified(classifier(), 512)
    posterior = special.softmax(np.log(SHARES.T), axis=1)[patterns]
    best = -np.log(posterior[np.arange(NUM), classes]).mean()
    # Noise in the odds adds to the loss half its variance at most.
    assert best - 0.02 < found.log_loss < best + 0.1
    assert abs(found.accuracy - (posterior.argmax(axis=1) == classes).mean()) < 0.12


@pytest.mark.parametrize("num_steps", [None, 8])
def test_the_bound_of_an_images_own_label_is_that_of_the_evaluator(num_steps: int | None) -> None:
    """The very same times and noise: of the model of continuous time, and of the exact sum of 8 steps."""
    which = classifier(num_steps=num_steps)
    evaluator = Evaluator(which.model, parallel.make_mesh(8), 32)
    bound = evaluator(exact(model()), source(NUM), KEY, 16, num_steps=num_steps)
    assert classified(which).bits_per_dim == pytest.approx(bound.total, rel=1e-5)
    diffusion = evaluator.estimates(exact(model()), source(NUM), KEY, 16, num_steps=num_steps).terms[0, 2]
    losses = which.losses(exact(model()), source(NUM), KEY, 16).mean(axis=2)
    own = losses[np.arange(NUM), draw(NUM)[0]]
    np.testing.assert_allclose(own, diffusion, rtol=1e-4, atol=1e-4)


def test_devices_and_batches_do_not_change_the_numbers() -> None:
    several = [classifier(8, 64), classifier(1, 64), classifier(8, 24)]
    losses = [which.losses(exact(model()), source(NUM), KEY, 16) for which in several]
    for other in losses[1:]:
        np.testing.assert_allclose(losses[0], other, rtol=1e-4, atol=1e-4)


def test_chunks_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, reports = classified(classifier(), error=0.1), []
    monkeypatch.setattr(classify, "MOST_LOSSES", 1)
    parts = classified(classifier(8, 24), error=0.1, progress=lambda done, total: reports.append((done, total)))
    np.testing.assert_array_equal(whole.confusion, parts.confusion)
    assert whole.calls == parts.calls
    assert whole.log_loss == pytest.approx(parts.log_loss, rel=1e-3)
    assert reports == sorted(reports)
    assert reports[-1] == (NUM * CLASSES * 16, NUM * CLASSES * 16)


def test_least_cost_agrees_with_all_draws_as_it_says() -> None:
    """Patterns of one class each, the network's x̂ of wrong labels is far off: early rounds are enough."""
    which = Classifier(conditional.model(True), parallel.make_mesh(8), 64, conditional.NUM)
    found = which(conditional.exact(which.model), conditional.source(NUM), KEY, 64, error=0.05)
    assert (found.accuracy, found.least_cost.disagreements, found.least_cost.num_checked) == (1, 0, NUM)
    assert found.calls < 0.6 * found.least_cost.whole_calls == 0.6 * 64 * conditional.NUM
    assert found.bits_per_dim is None
    # Where classes overlap, the checked images tell.
    found = classified(classifier(), 64, error=0.1)
    assert found.least_cost.disagreements <= 0.1 * NUM + 4 * np.sqrt(0.09 * NUM)


def test_its_numbers_are_those_of_the_races() -> None:
    random = np.random.default_rng(0)
    margins = random.exponential(size=(40, 3))
    margins[np.arange(40), random.integers(0, 3, 40)] = 0
    raced = [
        race.Race(np.ones((20, 3, 4)), half, np.zeros(20, bool), np.zeros((0, 3))) for half in np.split(margins, 2)
    ]
    labels = random.integers(0, 3, 40)
    found = classify.to_classification(raced, labels, bits_per_dim=None)
    probabilities = special.softmax(-margins, axis=1)[np.arange(40), labels]
    assert found.log_loss == pytest.approx(-np.log(probabilities).mean())
    assert found.accuracy == pytest.approx(np.mean(margins.argmin(axis=1) == labels))
    assert found.confusion.sum() == 40
    assert found.confusion.trace() == 40 * found.accuracy
    for k, row in enumerate(found.by_class):
        assert row["images"] == (labels == k).sum()
        assert row["recall"] == pytest.approx(np.mean(margins[labels == k].argmin(axis=1) == k))
        assert row["precision"] == pytest.approx(np.mean(labels[margins.argmin(axis=1) == k] == k))
    grouped = classify.to_classification(raced, labels, groups=np.arange(40) // 20, bits_per_dim=None)
    assert (grouped.interval, grouped.stderr_over) == (None, "groups (2)")


@pytest.mark.parametrize("num", [1, 2, 12, 64])
def test_rounds_are_spread_over_all_strata(num: int) -> None:
    order = race.spread(num)
    np.testing.assert_array_equal(np.sort(order), np.arange(num))
    for end in race.rounds(num, 0.1):
        assert np.diff(np.sort(order[:end])).max(initial=1) <= -(-num // end)


def test_what_cannot_be_classified_is_one_line() -> None:
    mesh = parallel.make_mesh(1)
    with pytest.raises(ValueError, match=r"^model is conditioned on nothing: must be on 'label'"):
        Classifier(conditional.model(False), mesh, 4, 3)
    with pytest.raises(ValueError, match=r"^num_classes=1: must be 2 or more"):
        Classifier(model(), mesh, 4, 1)
    images = Arrays({"image": PATTERNS, "label": np.array([0, 1, 3, 2])})
    with pytest.raises(InputError, match=r"^image 2 has label 3: must be from 0 to 2"):
        classifier()(exact(model()), images, KEY, 2)
    broken = jax.tree.map(lambda x: np.nan * x, exact(model()))
    with pytest.raises(InputError, match=r"^classification: a loss is not finite"):
        classifier()(broken, source(4), KEY, 2)


def test_one_program_is_compiled_for_all_classes_and_rounds() -> None:
    which = Classifier(model(), parallel.make_mesh(8), 64, CLASSES)
    with compiled(which._losses) as programs:
        classified(which, error=0.1)
        classified(which, error=0.2, max_images=40)
    assert len(programs) == 1
