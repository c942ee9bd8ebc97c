"""Races of losses that are drawn here: who wins, what it costs, and how often a class is dropped that should win."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import special

from vdm.evaluation import race

UNIFORM = np.full(5, -np.log(5))


def measure_of(losses: np.ndarray, calls: list[int] | None = None) -> race.Measure:
    """Those of a table (images, classes, draws)."""

    def measure(images: np.ndarray, classes: np.ndarray, first: int, last: int) -> np.ndarray:
        if calls is not None:
            calls.append(len(images) * (last - first))
        return losses[images, classes, first:last]

    return measure


def normal(random: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    return random.normal(size=size)


def heavy(random: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """Lognormal, as squared errors at times of unequal weight are, about its mean."""
    return random.lognormal(0, 1, size) - np.exp(0.5)


def smooth(random: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """With a change over time, of a size that differs from class to class, that is 30 times the noise.

    At the strata of a race's draws, from a random one on.
    """
    strata = (race.spread(size[2]) + random.integers(0, size[2], (size[0], 1, 1))) % size[2]
    bump = np.exp(-0.5 * np.square((strata / size[2] - 0.6) / 0.15))
    return random.normal(size=size) + 30 * random.normal(size=(*size[:2], 1)) * (bump - bump.mean())


def table(num: int, apart: float, noise: Callable[..., np.ndarray], draws: int = 64, seed: int = 0) -> np.ndarray:
    """Classes whose mean losses differ by about `apart`, with noise that they share and noise of their own."""
    random = np.random.default_rng(seed)
    means = apart * random.normal(size=(num, 5, 1))
    return means + 10 * noise(random, (num, 1, draws)) + noise(random, (num, 5, draws))


def test_without_an_error_all_draws_count() -> None:
    losses, calls = table(50, 0.1, normal), []
    prior = np.log([0.4, 0.3, 0.1, 0.1, 0.1])
    found = race.run(measure_of(losses, calls), prior, 50, 64)
    scores = losses.mean(axis=2) - prior
    np.testing.assert_array_equal(found.winners, scores.argmin(axis=1))
    np.testing.assert_allclose(
        special.softmax(-found.margins, axis=1), special.softmax(-scores, axis=1), rtol=1e-9, atol=1e-12
    )
    assert calls == [50 * 5 * 64]
    assert (found.calls == 5 * 64).all()


@pytest.mark.parametrize("noise", [normal, heavy, smooth])
@pytest.mark.parametrize("error", [0.2, 0.02])
def test_the_answer_changes_no_more_often_than_asked(noise: Callable[..., np.ndarray], error: float) -> None:
    """Close races, where it is hardest: standard errors of 0.18 between classes that are 0.3 apart."""
    num = 4000
    losses = table(num, 0.3, noise)
    found = race.run(measure_of(losses), UNIFORM, num, 64, error)
    wrong = (found.winners != losses.mean(axis=2).argmin(axis=1)).mean()
    assert wrong < error + 4 * np.sqrt(error * (1 - error) / num)
    assert found.calls.mean() < 0.95 * 5 * 64


def test_classes_are_dropped_by_loss_and_prior() -> None:
    """A class of a smaller loss whose images are rare is behind, and one of a larger loss with many is not."""
    losses = table(2000, 0.3, normal)
    prior = np.log([0.9, 0.07, 0.01, 0.01, 0.01])
    found = race.run(measure_of(losses), prior, 2000, 64, 0.1)
    assert (found.winners != (losses.mean(axis=2) - prior).argmin(axis=1)).mean() < 0.1
    assert found.calls.mean() < 0.5 * 5 * 64


def test_to_drop_whoever_is_behind_would_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above would notice: whoever is behind is dropped."""
    losses = table(4000, 0.3, normal)
    monkeypatch.setattr(race.stats.t, "isf", lambda level, df: 0.0)
    found = race.run(measure_of(losses), UNIFORM, 4000, 64, 0.02)
    assert (found.winners != losses.mean(axis=2).argmin(axis=1)).mean() > 0.1


def test_what_changes_smoothly_with_time_is_no_noise() -> None:
    """That is what times in strata are for: differences of 3, where those of single draws spread by 15."""
    losses = table(500, 3.0, smooth)
    found = race.run(measure_of(losses), UNIFORM, 500, 64, 0.05)
    assert race.undecided(found).mean() < 0.3
    assert found.calls.mean() < 0.6 * 5 * 64


def test_hopeless_classes_cost_one_round() -> None:
    losses, calls = table(100, 30.0, normal), []
    found = race.run(measure_of(losses, calls), UNIFORM, 100, 64, 0.01)
    np.testing.assert_array_equal(found.winners, losses.mean(axis=2).argmin(axis=1))
    assert found.calls.mean() < 0.2 * 5 * 64
    assert sum(calls) == found.calls.sum()


def test_classes_that_are_alike_get_all_draws() -> None:
    losses = np.broadcast_to(table(20, 0.0, normal)[:, :1], (20, 5, 64))
    found = race.run(measure_of(losses), UNIFORM, 20, 64, 0.5)
    assert (found.calls == 5 * 64).all()
    assert race.undecided(found).all()


def test_the_check_makes_up_for_what_was_left_out() -> None:
    losses, calls = table(60, 0.3, heavy), []
    checked = np.arange(60) % 3 == 0
    found = race.run(measure_of(losses, calls), UNIFORM, 60, 64, 0.3, checked)
    scores = losses[checked].mean(axis=2)
    np.testing.assert_allclose(found.complete, scores - scores.min(axis=1, keepdims=True), atol=1e-9)
    assert sum(calls) == found.calls.sum() + 20 * 5 * 64 - found.calls[checked].sum()


def test_a_dropped_class_keeps_the_difference_it_had() -> None:
    losses = table(30, 30.0, normal)
    found = race.run(measure_of(losses), UNIFORM, 30, 64, 0.01)
    image = int(np.argmax(found.calls < 5 * 64))
    taken, winner = np.isfinite(found.losses[image]).sum(axis=1), found.winners[image]
    for c in range(5):
        shared = slice(0, taken[c])
        expected = (losses[image, c, shared] - losses[image, winner, shared]).mean()
        assert found.margins[image, c] == pytest.approx(expected)


def test_no_dropped_class_wins() -> None:
    """Class 1 is dropped for 0, and class 2, far behind both at first, wins in the end."""
    losses = np.stack([np.zeros(64), np.ones(64), np.full(64, -3.0)])[None]
    losses[0, 2, :8] = [10, -6, 12, -8, 9, -5, 11, -4]
    found = race.run(measure_of(losses), np.log([0.3, 0.4, 0.3]), 1, 64, 0.02)
    assert np.isfinite(found.losses).sum(axis=2).tolist() == [[64, 8, 64]]
    own = -losses[0, 2].mean()
    # Behind the leader of its time, which is behind the winner.
    np.testing.assert_allclose(found.margins, [[own, own + 1 + np.log(0.3 / 0.4), 0]])
    losses = table(4000, 0.3, heavy)
    found = race.run(measure_of(losses), UNIFORM, 4000, 64, 0.2)
    taken = np.isfinite(found.losses).sum(axis=2)
    np.testing.assert_array_equal(taken[np.arange(4000), found.winners], taken.max(axis=1))


def test_undecided_are_those_within_two_standard_errors() -> None:
    losses = table(200, 0.2, normal)
    found = race.run(measure_of(losses), UNIFORM, 200, 64)
    for image in range(200):
        first, second = np.argsort(losses[image].mean(axis=1))[:2]
        difference = losses[image, second] - losses[image, first]
        in_time = difference[np.argsort(race.spread(64))]
        near = difference.mean() < 2 * np.sqrt(np.mean((in_time - np.roll(in_time, -1)) ** 2) / 2) / 8
        assert race.undecided(found)[image] == near
