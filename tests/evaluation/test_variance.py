"""The variance report against closed forms, on a model that predicts ε̂ = z."""

import jax
import jax.numpy as jnp
import numpy as np
from test_bound import NUM, fresh, source
from test_planned import cosine, linear, moments

from vdm import parallel
from vdm.data import selection
from vdm.evaluation import variance

ROUNDS = 150


def test_iid_and_stratified_variances_are_the_exact_ones() -> None:
    model, variables = fresh("cosine")
    batch = 6
    report = variance.variance_report(
        model, variables, parallel.make_mesh(1), source(), jax.random.key(0),
        batch_size=batch, max_images=0, rounds=ROUNDS,
    )  # fmt: skip
    lines = {line.schedule: line for line in report.lines}
    assert list(lines) == ["model's own", "log-SNR-linear", "α-cosine", "β-linear"]
    # The model's own is the cosine: the same draws give the same numbers.
    np.testing.assert_allclose(lines["model's own"].stratified, lines["α-cosine"].stratified, rtol=1e-4)

    # Whole batches only: 12 of the 13 images, in two batches.
    num = NUM // batch * batch
    offsets = (np.arange(1000) + 0.5) / 1000
    mean, noise = (m[:num] for m in moments(offsets, cosine))
    line = lines["α-cosine"]
    # The reconstruction's own noise is left out of the exact values: at γ₀ = −7 it is below 1% of the rest. The width
    # of the bins, 0.34 in γ, changes a slope of e^{γ/2} by 0.34²/24 = 0.5% in the mean.
    iid = np.mean(noise) + np.mean(np.var(mean, axis=1))
    assert abs(line.iid - iid) < 4 * line.iid_stderr + 0.015 * line.iid
    shifted = [moments((offsets + k % batch / batch) % 1, cosine)[0][k] for k in range(num)]
    of_means = np.var(np.reshape(shifted, (num // batch, batch, -1)).mean(axis=1), axis=1).mean()
    exact = np.mean(noise) + batch * of_means
    assert abs(line.stratified - exact) < 4 * line.stratified_stderr + 0.01 * line.stratified
    assert line.stratified < 0.8 * line.iid
    # One bound for all schedules.
    for one in report.lines:
        error = np.hypot(one.bits_per_dim_stderr, line.bits_per_dim_stderr)
        assert abs(one.bits_per_dim - line.bits_per_dim) < 4 * error + 1e-6


def test_the_least_variance_is_that_of_the_best_schedule() -> None:
    """(∫ √E[L²] dt)² − E[(∫ E[L] dt)²] of the linear schedule, in closed form; no schedule is below it."""
    model, variables = fresh("linear")
    report = variance.variance_report(
        model, variables, parallel.make_mesh(1), source(), jax.random.key(1),
        batch_size=NUM, max_images=0, rounds=ROUNDS,
    )  # fmt: skip
    mean, noise = moments((np.arange(2000) + 0.5) / 2000, linear)
    square = np.mean(mean**2 + noise, axis=0)
    exact = np.mean(np.sqrt(square)) ** 2 - np.mean(mean.mean(axis=1) ** 2)
    own = report.lines[0]
    # From the same draws as the linear schedule's own variance, so about as well known.
    assert abs(report.least - exact) < 4 * own.iid_stderr
    assert 0 < report.least < min(line.iid for line in report.lines)


def test_noise_is_no_signal() -> None:
    """Of three rounds of noise alone, one draw's variance is all of it: means squared would take 1/3."""
    rounds, num = 3, 20_000
    bits = np.random.default_rng(0).normal(size=(rounds, num))
    count = np.full((rounds, 32), num / 32)
    squares = np.square(bits).sum(axis=1)[:, None] / 32 * np.ones((1, 32))
    found, least = variance._independent(count, squares, bits, {"linear": np.ones(32)})
    # 60 000 draws: known to 0.6%.
    np.testing.assert_allclose([found["linear"][0], least], 1.0, rtol=0.02)


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    """From all over the source."""
    model, variables = fresh("linear")
    report = variance.variance_report(
        model, variables, parallel.make_mesh(1), source(), jax.random.key(1), batch_size=64, max_images=3, rounds=3
    )
    assert (report.batch_size, report.num_images, report.rounds) == (3, 3, 3)
    assert report.to_dict()["images"] == {"num": 3, "of": NUM, "choice": selection.CHOICE}


def test_schedules_share_their_end_points() -> None:
    model, variables = fresh("learned_monotone")
    table = variance.with_equal_ends(model, variables)
    for schedule, params in table.values():
        ends = [float(schedule.gamma(params, jnp.float32(t))) for t in (0, 1)]
        np.testing.assert_allclose(ends, [-7.0, 4.0], rtol=1e-6)


def test_the_jackknife_knows_its_error() -> None:
    """Of normal values of variance 4 in 3 columns: the mean variance has standard error 4 √(2/(n − 1)/3)."""
    values = 2 * np.random.default_rng(0).normal(size=(300, 3))
    found, stderr = variance._variance(values)
    np.testing.assert_allclose(found, values.var(axis=0, ddof=1).mean())
    # The standard error of a standard error from 300 rounds is about 10%.
    np.testing.assert_allclose(stderr, 4 * np.sqrt(2 / 299 / 3), rtol=0.3)
