"""`LatentEvaluator` on linear-Gaussian models, whose bounds, rates and active units are known."""

import json

import jax
import linear_gaussian as lg
import numpy as np
import pytest

from vdm import parallel
from vdm.evaluation.latent_bound import LatentEvaluation, LatentEvaluator

KEY = jax.random.key(3)
BITS = 1 / (lg.DIMS * np.log(2))
X = np.asarray(lg.images(40, 2))
W = np.array([[0.7, 0.0, 0.2], [0.0, 0.0, 0.0]])
"""Of an encoder whose second unit does not look at x."""


def source(groups: bool = False) -> list[dict[str, np.ndarray]]:
    return [{"image": x} | ({"group": np.int32(k // 4)} if groups else {}) for k, x in enumerate(X)]


def evaluate(layers: int, num_draws: int, batch_size: int = 16, groups: bool = False, **given) -> LatentEvaluation:
    model = lg.model(layers)
    evaluator = LatentEvaluator(model, parallel.make_mesh(), batch_size)
    return evaluator(lg.variables(model, **given), source(groups), KEY, num_draws)


@pytest.fixture(scope="module")
def one_layer() -> LatentEvaluation:
    return evaluate(1, 50, w_x=W)


def test_the_bound_is_the_exact_one_within_its_error(one_layer):
    model = lg.model()
    exact = lg.expected(model, lg.variables(model, w_x=W), X) * BITS
    assert abs(one_layer.total - exact.mean()) < 4 * one_layer.noise_stderr
    # And that error is what it says: of images whose own means are known, the deviations are the draws'.
    deviations = one_layer.by_image - exact
    np.testing.assert_allclose(one_layer.noise_stderr, deviations.std() / np.sqrt(len(X)), rtol=4 / np.sqrt(2 * len(X)))
    np.testing.assert_allclose(one_layer.stderr, one_layer.by_image.std(ddof=1) / np.sqrt(len(X)))


def test_terms_add_up_and_the_rate_is_the_kl_in_closed_form(one_layer):
    kl = 0.5 * np.sum(np.square(X @ W.T), axis=1)
    (rate,) = one_layer.rates
    np.testing.assert_allclose(rate.value, kl.mean() * BITS, rtol=1e-5)
    np.testing.assert_allclose(rate.stderr, kl.std(ddof=1) / np.sqrt(len(X)) * BITS, rtol=1e-5)
    np.testing.assert_allclose(one_layer.reconstruction.value + rate.value, one_layer.total, rtol=1e-6)
    np.testing.assert_allclose(one_layer.nats(one_layer.total) * BITS, one_layer.total)


def test_active_units_are_those_whose_posterior_mean_varies(one_layer):
    """Burda et al. (2016): Var_x E[z|x] of each unit."""
    np.testing.assert_allclose(one_layer.unit_variances[0], np.var(X @ W.T, axis=0), rtol=1e-4, atol=1e-9)
    assert one_layer.active == (1,)
    assert one_layer.in_use == "active units 1 of 2"


def test_of_a_layer_below_the_variance_is_against_what_its_prior_says():
    """(w_x x + w_z z₂ − b z₂)/r with z₂ ~ N(0, τ²), over images and draws."""
    w_z, log_tau = np.array([[0.8, 0.0], [0.0, 0.5]]), np.log([0.5, 0.5])
    draws = 400
    found = evaluate(2, draws, w_x=W, w_z=w_z, log_tau=log_tau).unit_variances
    means, slopes = X @ W.T / lg.R, (np.diag(w_z) - lg.B) / lg.R
    within = np.square(slopes * 0.5)
    expected = np.var(means, axis=0) + within
    # Of the variance of normal draws, and of the mean of z₂ times that of x.
    error = within * np.sqrt(2 / (draws * len(X))) + 2 * np.sqrt(np.var(means, axis=0) * within / (draws * len(X)))
    assert (np.abs(found[0] - expected) < 4 * error + 1e-4).all()
    np.testing.assert_allclose(found[1], 0, atol=1e-6)  # q(z₂|x) looks at nothing here


def test_it_does_not_depend_on_the_batch_size():
    one, other = (evaluate(2, 3, batch_size=size, w_x=W) for size in (8, 40))
    np.testing.assert_allclose(one.by_image, other.by_image, rtol=1e-5)
    assert one.active == other.active


def test_errors_are_over_groups_where_there_are_some(one_layer):
    found = evaluate(1, 50, groups=True, w_x=W)
    assert (found.stderr_over, found.total) == ("groups (10)", one_layer.total)
    means = one_layer.by_image.reshape(10, 4).mean(axis=1)
    np.testing.assert_allclose(found.stderr, means.std(ddof=1) / np.sqrt(10))


def test_its_record_is_json(one_layer):
    found = json.loads(json.dumps(one_layer.to_dict()))
    assert found["bits_per_dim"]["total"] == one_layer.total
    assert [(layer["units"], layer["active"]) for layer in found["layers"]] == [(2, 1)]
    assert evaluate(1, 1, w_x=W).noise_stderr is None
