"""`ImportanceEvaluator`: log p(x) where the encoder is exact, bounds that fall towards it where it is not."""

from dataclasses import replace

import jax
import linear_gaussian as lg
import numpy as np
import pytest
import tiny

from vdm import parallel
from vdm.evaluation.bound import Evaluator
from vdm.evaluation.importance import Estimates, ImportanceEvaluation, ImportanceEvaluator, to_evaluation

KEY = jax.random.key(3)
X = np.asarray(lg.images(40))
TRUE = -lg.log_prob(X, 1) / (lg.DIMS * np.log(2))
STEPS = 4


def evaluate(draws: int, batch_size: int = 40, **given) -> ImportanceEvaluation:
    model = lg.model()
    evaluator = ImportanceEvaluator(model, parallel.make_mesh(), batch_size)
    return evaluator(lg.variables(model, **given), [{"image": x} for x in X], KEY, draws)


def test_the_exact_encoder_gives_log_p_with_one_draw():
    found = evaluate(6, **lg.exact())
    assert found.sizes == (1, 2, 4, 6)
    np.testing.assert_allclose([bound.value for bound in found.bounds], TRUE.mean(), rtol=3e-6)
    np.testing.assert_allclose([gain.value for gain in found.gains], 0, atol=1e-6)
    np.testing.assert_allclose(found.effective.value, 6, rtol=1e-4)
    np.testing.assert_allclose(found.by_image, TRUE, rtol=2e-5)


def test_of_another_encoder_the_bounds_fall_to_it():
    """Burda et al. (2016), Theorem 1."""
    found = evaluate(256)
    exact = lg.expected(lg.model(), lg.variables(lg.model()), X) / (lg.DIMS * np.log(2))
    by_size = np.array([bound.value for bound in found.bounds])
    # At most as far from the ELBO as 256 draws are; each pair of neighbours shares all of its draws.
    gap = exact.mean() - TRUE.mean()
    assert abs(by_size[0] - exact.mean()) < 0.1 * gap
    assert (np.diff(by_size) < 0).all()
    assert abs(by_size[-1] - TRUE.mean()) < 0.1 * gap
    assert (found.gains[-1].value, found.total) == (by_size[0] - by_size[-1], by_size[-1])
    assert found.gains[-1].value > 4 * found.gains[-1].stderr
    assert 1 < found.effective.value < 256


def test_it_does_not_depend_on_the_batch_size():
    one, other = (evaluate(3, batch_size=size) for size in (8, 40))
    np.testing.assert_allclose(one.by_image, other.by_image, rtol=1e-5)


def test_of_a_diffusion_model_the_plain_bound_is_that_of_its_steps():
    model, mesh = replace(tiny.model(), network=tiny.Pixelwise()), parallel.make_mesh()
    variables = model.init(KEY)
    source = [{"image": np.asarray(image)} for image in tiny.images(16)]
    evaluate = ImportanceEvaluator(model, mesh, 16, STEPS)
    found = [evaluate(variables, source, jax.random.fold_in(KEY, k), 8) for k in range(8)]
    plain, weighted = np.array([(each.bounds[0].value, each.total) for each in found]).T
    of_terms = Evaluator(model, mesh, 16)(variables, source, KEY, 64 * STEPS, num_steps=STEPS)
    assert of_terms.exact_sum
    error = np.sqrt(2) * plain.std(ddof=1) / np.sqrt(len(plain))
    assert abs(plain.mean() - of_terms.total) < 5 * error
    assert (weighted < plain).all()
    assert found[0].to_dict()["num_steps"] == STEPS


def test_errors_are_over_groups_and_gains_are_paired():
    """Of four images in two groups: the deviation of the groups' means, over √2."""
    bits = np.array([[1.0, 0.5], [3.0, 2.0], [4.0, 4.0], [2.0, 1.5]])
    estimates = Estimates(bits * np.log(2), np.array([1.0, 2.0, 2.0, 1.0]))
    found = to_evaluation(estimates, (1, 2), 1, np.array([0, 0, 1, 1]))
    assert found.stderr_over == "groups (2)"
    np.testing.assert_allclose([bound.value for bound in found.bounds], [2.5, 2.0], rtol=1e-6)
    np.testing.assert_allclose(found.stderr, np.std([1.25, 2.75], ddof=1) / np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(found.gains[1].value, 0.5, rtol=1e-6)
    np.testing.assert_allclose(found.gains[1].stderr, np.std([0.75, 0.25], ddof=1) / np.sqrt(2), rtol=1e-6)


def test_continuous_time_is_refused():
    with pytest.raises(ValueError, match=r"^num_steps=None: .* must be a number of steps, T$"):
        ImportanceEvaluator(tiny.model(), parallel.make_mesh(), 8)
