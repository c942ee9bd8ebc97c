"""The classifier in the training loop's step: its gradients, in parts and on eight devices, and what is not finite."""

import classifying
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from classifying import IMAGES, gamma
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vdm.classifier import ClassifierConfig
from vdm.config import OptimizerConfig
from vdm.training.classification import CrossEntropy, Loss
from vdm.training.state import init_state, make_optimizer
from vdm.training.step import empty_metrics, make_train_step
from vdm.training.task import Objective, Trainable

KEY = jax.random.key(3)
CLASSIFIER, OBJECTIVE = classifying.linear(), CrossEntropy(gamma)
LABEL = np.random.default_rng(0).integers(0, 2, 16)
BATCH = {"image": jnp.asarray(IMAGES[LABEL]), "label": jnp.asarray(LABEL, jnp.int32)}
CONFIG = ClassifierConfig(optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=0))
OPTIMIZER = make_optimizer(CONFIG)


class Still(classifying.Linear):
    """Without dropout, whose masks are each part's own."""

    def __call__(self, z, gamma, train=False):
        return super().__call__(z, gamma, False)


STILL = classifying.Classifier(Still(2), classifying.SHAPE, classifying.LEVELS, classes=2)


@pytest.fixture(scope="module")
def state():
    return init_state(CLASSIFIER, OBJECTIVE, OPTIMIZER, seed=0)


def gradients(num_parts=1):
    f = lambda variables, batch: OBJECTIVE.loss_and_gradients(STILL, variables, {}, KEY, batch, num_parts)[:2]  # noqa: E731
    return jax.jit(f)


def assert_close(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_it_is_what_the_loop_asks_for():
    assert isinstance(OBJECTIVE, Objective)
    assert isinstance(CLASSIFIER, Trainable)


def test_gradients_are_those_of_the_mean_loss(state):
    def mean(variables):
        draw_key, _ = jax.random.split(KEY)
        return jnp.mean(STILL.loss(variables, draw_key, BATCH, gamma))

    loss, found = gradients()(state.variables, BATCH)
    wanted, by_autodiff = jax.value_and_grad(mean)(state.variables)
    np.testing.assert_allclose(loss.cross_entropy, wanted, rtol=1e-6)
    assert_close(found, by_autodiff)


def test_dropout_is_on_and_each_parts_own(state):
    """The loss is of the same draws, but for the masks."""
    losses = [
        float(OBJECTIVE.loss_and_gradients(which, state.variables, {}, KEY, BATCH, num_parts)[0].cross_entropy)
        for which, num_parts in ((STILL, 1), (CLASSIFIER, 1), (CLASSIFIER, 2))
    ]
    assert len({round(loss, 4) for loss in losses}) == 3
    np.testing.assert_allclose(losses, losses[0], rtol=0.3)


def test_the_same_in_parts_and_on_eight_devices(state):
    whole = gradients()(state.variables, BATCH)
    assert_close(whole, gradients(num_parts=4)(state.variables, BATCH))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    place = lambda tree, *spec: jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*spec)))  # noqa: E731
    assert_close(whole, gradients()(place(state.variables), place(BATCH, "data")))


def test_steps_learn_and_average(state):
    """The step of the loop, with a task that is no diffusion model: what it keeps is what the objective's terms are."""
    step = jax.jit(make_train_step(CLASSIFIER, OBJECTIVE, OPTIMIZER, CONFIG))
    after, metrics = step(state, empty_metrics(OBJECTIVE.terms), BATCH)
    loss, *_ = OBJECTIVE.loss_and_gradients(
        CLASSIFIER, state.variables, {}, jax.random.fold_in(jax.random.wrap_key_data(state.key), 0), BATCH
    )
    np.testing.assert_allclose(metrics.bits_per_dim, loss, rtol=1e-5)
    assert type(metrics.bits_per_dim) is Loss
    for old, new, average in zip(*map(jax.tree.leaves, (state.variables, after.variables, after.ema)), strict=True):
        assert np.abs(new - old).max() > 0
        # Update 0: decay (1+0)/(10+0).
        np.testing.assert_allclose(average, 0.1 * old + 0.9 * new, rtol=1e-5, atol=1e-6)
    for _ in range(100):
        after, metrics = step(after, empty_metrics(OBJECTIVE.terms), BATCH)
    assert metrics.bits_per_dim.cross_entropy < 0.8 * loss.cross_entropy
    assert metrics.bad_step == 0


@pytest.mark.parametrize(("poison", "name"), [(np.nan, "cross_entropy"), (3e38, "gradient")])
def test_what_is_not_finite_is_named(state, poison, name):
    """A gradient of infinite norm, of a finite loss, too."""
    objective = OBJECTIVE
    if name == "gradient":

        class Steep(CrossEntropy):
            def loss_and_gradients(self, *arguments):
                loss, gradients, carried = super().loss_and_gradients(*arguments)
                return loss, jax.tree.map(lambda leaf: leaf + poison, gradients), carried

        objective, variables = Steep(gamma), state.variables
    else:
        variables = jax.tree.map(lambda leaf: leaf * poison, state.variables)
    step = make_train_step(CLASSIFIER, objective, OPTIMIZER, CONFIG)
    _, metrics = step(state._replace(variables=variables), empty_metrics(objective.terms), BATCH)
    assert (int(metrics.bad_step), metrics.bad) == (1, name)
