"""Find the class with the lowest loss for each image: with all draws for every class, or dropping classes early.

A race handles numbers only and knows no model: `measure` returns the losses of some draws of some classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import stats

MIN_DRAWS = 8
"""Minimum number of draws before a class may be dropped."""

Measure = Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]
"""(images, classes, first, last) → the losses of draws first … last − 1 of these pairs, shape (pairs, last − first)."""


class Race(NamedTuple):
    """The losses of every image and class in nats, as far as they were measured, and the resulting margins."""

    losses: Float[np.ndarray, "images classes draws"]
    """NaN where not measured."""
    margins: Float[np.ndarray, "images classes"]
    """Mean loss − log p(c) of each class, minus the winner's: exp(−margins) is proportional to p(c|x).

    A dropped class has its difference from the leader that it lost to, over the draws it has, plus that leader's own
    margin. This is above 0, so no dropped class wins.
    """
    checked: Bool[np.ndarray, " images"]
    """Which images were also given the draws that had been left out."""
    complete: Float[np.ndarray, "checked classes"]
    """Margins of the checked images from all draws."""

    @property
    def winners(self) -> Integer[np.ndarray, " images"]:
        """Return the winning class of each image."""
        return np.argmin(self.margins, axis=1)

    @property
    def calls(self) -> Integer[np.ndarray, " images"]:
        """Return the number of draws taken for each image, over all classes, without those of the check."""
        return np.isfinite(self.losses).sum(axis=(1, 2))


def rounds(num_draws: int, error: float | None) -> list[int]:
    """Return the number of draws taken by the end of each round: all at once or, with `error`, 1/8, 1/4, 1/2, then all.

    >>> rounds(64, None), rounds(64, 0.01), rounds(20, 0.01)
    ([64], [8, 16, 32, 64], [10, 20])
    """
    parts = [-(-num_draws // parts) for parts in (8, 4, 2)] if error is not None else []
    return [*(num for num in parts if MIN_DRAWS <= num < num_draws), num_draws]


def spread(num_draws: int) -> Integer[np.ndarray, " draws"]:
    """Return an order of the strata whose first 1/2ᵏ are 2ᵏ apart (van der Corput 1935).

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
    """Run the race for `num_images` images; in each, the class with the lowest mean loss − log p(c) wins.

    Without `error`, every class gets `num_draws` draws. With it, classes are dropped in rounds, and an image is
    finished when one class remains. Each class is compared with the current leader, draw by draw at the same times and
    noise: it is dropped if its mean difference over the n draws so far exceeds Student's t times √((1 − n/N) s²/n). The
    population consists of the N draws of the whole race (Cochran 1977, ch. 2), so the question is which class would win
    with all of them.

    Draw j is in stratum `spread`(N)[j] of the times, up to a shift of the image's own. The draws so far are therefore a
    systematic sample with a random start, and s² = Σ (next in time − this)²/2n is unaffected by smooth changes with
    time (Wolter 2007, ch. 8); it has about 2n/3 degrees of freedom. The level of each test is error/((C − 1)·(rounds
    with a decision)): by Bonferroni's inequality over leaders and rounds, the winner of the whole race is dropped with
    a probability of at most `error`, provided that such mean differences follow a t distribution. Losses have heavy
    tails, so this is an assumption; to test it, the images in `checked` are given the draws that were left out.

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
    # Leaders first: a leader may itself be dropped later, in favor of another.
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
    """Return which images have a runner-up within two standard errors of the winner, over the draws that both have."""
    images, winners = np.arange(len(race.margins)), race.winners
    margins = race.margins.copy()
    margins[images, winners] = np.inf
    second = np.argmin(margins, axis=1)
    stderr = _against(race.losses, winners, race.losses.shape[2])[1][images, second]
    return ~(margins[images, second] > 2 * stderr)


class _Dropped(NamedTuple):
    """The decisions of one round."""

    which: Bool[np.ndarray, "images classes"]
    leader: Integer[np.ndarray, " images"]
    behind: Float[np.ndarray, "images classes"]
    """How far each class is behind the leader."""


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
    """Return the mean and standard error of each class's loss minus that of class `one`, over their common draws.

    `of` is the number of draws in the whole race.
    """
    differences = losses - losses[np.arange(len(losses)), one][:, None, :]
    taken, stderr = np.isfinite(differences).sum(axis=2), np.full(differences.shape[:2], np.inf)
    for num in np.unique(taken[taken > 1]):
        # The first draws, in order of time; the last is a neighbor of the first, since the shift is cyclic.
        in_order = differences[taken == num][:, np.argsort(spread(of)[:num])]
        steps = np.roll(in_order, 1, axis=1) - in_order
        stderr[taken == num] = np.sqrt(np.square(steps).mean(axis=1) / 2 / num)
    return _mean(differences), stderr


def _mean(values: Float[np.ndarray, "images classes draws"]) -> Float[np.ndarray, "images classes"]:
    """Return the mean over the draws that exist; NaN if there are none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nansum(values, axis=2) / np.isfinite(values).sum(axis=2)
