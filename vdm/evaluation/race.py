"""Which class has the least loss, an image each: with all draws for every class, or with early ends for the hopeless.

A race knows numbers only, no model: `measure` gives it the losses of some draws of some classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import stats

MIN_DRAWS = 8
"""Fewest draws after which a class may be dropped."""

Measure = Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]
"""(images, classes, first, last) -> the losses of draws first … last − 1 of these pairs, (pairs, last − first)."""


class Race(NamedTuple):
    """Losses of every image and class, in nats, as far as they were measured, and what they say."""

    losses: Float[np.ndarray, "images classes draws"]
    """NaN where not measured."""
    margins: Float[np.ndarray, "images classes"]
    """Mean loss − log p(c) of a class, less the winner's: exp(−margins) is p(c|x) up to a factor.

    Of a class that was dropped: less that of the leader which it was dropped for, over the draws that it has, and with
    the leader's own margin added. So it is above 0, and no dropped class wins.
    """
    checked: Bool[np.ndarray, " images"]
    """Whose other draws were then made up for."""
    complete: Float[np.ndarray, "checked classes"]
    """The margins of those checked from all draws."""

    @property
    def winners(self) -> Integer[np.ndarray, " images"]:
        """The class of each image."""
        return np.argmin(self.margins, axis=1)

    @property
    def calls(self) -> Integer[np.ndarray, " images"]:
        """Draws taken of each image, over all classes; without those of the check."""
        return np.isfinite(self.losses).sum(axis=(1, 2))


def rounds(num_draws: int, error: float | None) -> list[int]:
    """Draws taken by the end of each round: all at once, or with an `error` 1/8, 1/4, 1/2 of them and then all.

    >>> rounds(64, None), rounds(64, 0.01), rounds(20, 0.01)
    ([64], [8, 16, 32, 64], [10, 20])
    """
    parts = [-(-num_draws // parts) for parts in (8, 4, 2)] if error is not None else []
    return [*(num for num in parts if MIN_DRAWS <= num < num_draws), num_draws]


def spread(num_draws: int) -> Integer[np.ndarray, " draws"]:
    """An order of the strata of which 1/2ᵏ, from the first on, are 2ᵏ apart (van der Corput 1935).

    >>> spread(8)
    array([0, 4, 2, 6, 1, 5, 3, 7])
    """
    bits = max(num_draws - 1, 1).bit_length()
    numbers = np.arange(2**bits)
    reversed_ = sum(((numbers >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
    return np.asarray(reversed_)[np.asarray(reversed_) < num_draws]


def run(
    measure: Measure,
    log_prior: Float[np.ndarray, " classes"],
    num_images: int,
    num_draws: int,
    error: float | None = None,
    checked: Bool[np.ndarray, " images"] | None = None,
) -> Race:
    """The race of `num_images` images, the least mean loss − log p(c) winning.

    Without `error`, every class gets `num_draws` draws. With it, classes are dropped in rounds, and an image is left
    alone when one class remains. What a class is held against is the present leader, draw by draw on the same times and
    noise: a class is dropped when the mean difference of the n draws so far is above Student's t times
    √((1 − n/N) s²/n). The population is the N draws of the whole race (Cochran 1977, ch. 2), so the question is who
    would win with all of them. Draw j is at stratum `spread`(N)[j] of the times, up to a shift of the image's: the
    draws so far are a systematic sample with a random start, and s² = Σ (next in time − this)²/2n is free of what
    changes smoothly with time (Wolter 2007, ch. 8); it has about 2n/3 degrees of freedom. The level of each test is
    error/((C − 1)·(rounds with a decision)): by Bonferroni's inequality over leaders and rounds, the winner of the
    whole race is dropped with a probability of at most `error`, as far as such means of differences are t distributed.
    Losses have heavy tails, so that is an assumption: those `checked` have the draws left out made up for, which tells
    what it is worth.

    >>> constant = lambda images, classes, first, last: np.tile(1.0 * classes[:, None], last - first)
    >>> run(constant, np.log([0.5, 0.5]), num_images=3, num_draws=4).winners
    array([0, 0, 0])
    """
    num_classes, ends = len(log_prior), rounds(num_draws, error)
    losses = np.full((num_images, num_classes, num_draws), np.nan)
    left, done, dropped = np.ones((num_images, num_classes), bool), 0, []
    for end in ends:
        images, classes = np.nonzero(left & (left.sum(axis=1, keepdims=True) > 1))
        if len(images):
            losses[images, classes, done:end] = measure(images, classes, done, end)
        if error is not None and end < num_draws:
            level = error / (max(num_classes - 1, 1) * (len(ends) - 1))
            dropped.append(_behind(losses[:, :, :end], log_prior, level, num_draws))
            left &= ~dropped[-1].which
        done = end
    margins = _margins(np.where(left, _mean(losses) - log_prior[None, :], np.inf))
    # Leaders first: a leader may be dropped later, by another.
    for which, leader, behind in reversed(dropped):
        of_leader = np.take_along_axis(margins, leader[:, None], axis=1)
        margins = np.where(which, behind + of_leader, margins)
    checked = np.zeros(num_images, bool) if checked is None else checked
    complete = losses[checked]
    taken = np.isfinite(complete).sum(axis=2)
    for first in np.unique(taken[taken < num_draws]):
        images, classes = np.nonzero(taken == first)
        complete[images, classes, first:] = measure(np.nonzero(checked)[0][images], classes, int(first), num_draws)
    return Race(losses, margins, checked, _margins(_mean(complete) - log_prior[None, :]))


def undecided(race: Race) -> Bool[np.ndarray, " images"]:
    """Whose second class is behind by less than two standard errors of the draws that both have."""
    images, winners = np.arange(len(race.margins)), race.winners
    margins = race.margins.copy()
    margins[images, winners] = np.inf
    second = np.argmin(margins, axis=1)
    stderr = _against(race.losses, winners, race.losses.shape[2])[1][images, second]
    return ~(margins[images, second] > 2 * stderr)


class _Dropped(NamedTuple):
    """Of a round."""

    which: Bool[np.ndarray, "images classes"]
    leader: Integer[np.ndarray, " images"]
    behind: Float[np.ndarray, "images classes"]
    """How far every class is behind the leader."""


def _margins(scores: Float[np.ndarray, "images classes"]) -> Float[np.ndarray, "images classes"]:
    return scores - scores.min(axis=1, keepdims=True)


def _behind(
    losses: Float[np.ndarray, "images classes draws"], log_prior: Float[np.ndarray, " classes"], level: float, of: int
) -> _Dropped:
    num = losses.shape[2]
    running = np.isfinite(losses[:, :, -1])
    scores = np.where(running, losses.mean(axis=2) - log_prior[None, :], np.inf)
    leader = np.argmin(scores, axis=1)
    mean, stderr = _against(losses, leader, of)
    margin = mean - (log_prior[None, :] - log_prior[leader][:, None])
    critical = stats.t.isf(level, 2 * num / 3) * np.sqrt(1 - num / of)
    return _Dropped(running & (margin > critical * stderr), leader, margin)


def _against(
    losses: Float[np.ndarray, "images classes draws"], one: Integer[np.ndarray, " images"], of: int
) -> tuple[Float[np.ndarray, "images classes"], Float[np.ndarray, "images classes"]]:
    """(mean, its standard error) of every class's loss less that of one, over the draws that both have, of `of`."""
    differences = losses - losses[np.arange(len(losses)), one][:, None, :]
    taken, stderr = np.isfinite(differences).sum(axis=2), np.full(differences.shape[:2], np.inf)
    for num in np.unique(taken[taken > 1]):
        # The first ones, in the order of their times; the last is a neighbour of the first, as the shift turns them.
        in_order = differences[taken == num][:, np.argsort(spread(of)[:num])]
        steps = np.roll(in_order, 1, axis=1) - in_order
        stderr[taken == num] = np.sqrt(np.square(steps).mean(axis=1) / 2 / num)
    return _mean(differences), stderr


def _mean(values: Float[np.ndarray, "images classes draws"]) -> Float[np.ndarray, "images classes"]:
    """Over the draws that there are; NaN of none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nansum(values, axis=2) / np.isfinite(values).sum(axis=2)
