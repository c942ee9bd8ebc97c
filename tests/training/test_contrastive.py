"""The image–text model in the training loop's step: its gradients, in parts and on eight devices, over all captions."""

import captioned
import classifying
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from classifying import IMAGES, gamma

from vdm import parallel
from vdm.config import OptimizerConfig
from vdm.image_text import ImageTextConfig, contrastive, equal, logits_of
from vdm.training.contrastive import Contrastive
from vdm.training.state import init_state, make_optimizer
from vdm.training.step import empty_metrics, make_train_step
from vdm.training.task import Objective, Trainable

KEY = jax.random.key(3)
NUM = 16
CLIP, STILL, OBJECTIVE = captioned.small(), captioned.small(dropout=0.0), Contrastive(gamma)
LABEL = np.random.default_rng(0).integers(0, 2, NUM)
BATCH = {"image": jnp.asarray(IMAGES[LABEL]), "text": jnp.asarray(captioned.ENCODED[LABEL])}
CONFIG = ImageTextConfig(optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=0))
OPTIMIZER = make_optimizer(CONFIG)


@pytest.fixture(scope="module")
def state():
    return init_state(CLIP, OBJECTIVE, OPTIMIZER, seed=0)


def gradients(num_parts=1, mesh=None, model=STILL):
    def loss_and_gradients(variables, batch):
        return OBJECTIVE.loss_and_gradients(model, variables, {}, KEY, batch, num_parts, mesh)[:2]

    return jax.jit(loss_and_gradients)


def assert_close(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_it_is_what_the_loop_asks_for():
    assert isinstance(OBJECTIVE, Objective)
    assert isinstance(CLIP, Trainable)


def test_gradients_are_those_of_the_mean_loss_over_all_captions(state):
    def mean(variables):
        draw_key, _ = jax.random.split(KEY)
        features = STILL.features(variables, BATCH, *STILL.draw(draw_key, NUM, gamma))
        return jnp.mean(contrastive(logits_of(*features), equal(BATCH["text"])))

    loss, found = gradients()(state.variables, BATCH)
    wanted, by_autodiff = jax.value_and_grad(mean)(state.variables)
    np.testing.assert_allclose(loss.contrastive, wanted, rtol=1e-6)
    assert_close(found, by_autodiff)


def test_in_parts_an_image_is_told_from_the_captions_of_all_of_them(state):
    """Of each part's own captions alone the loss would be another: about that of so many fewer."""
    whole = gradients()(state.variables, BATCH)
    for num_parts in (2, 8):
        assert_close(whole, gradients(num_parts)(state.variables, BATCH))


def test_on_eight_devices_the_captions_are_those_of_the_global_batch(state):
    mesh = parallel.make_mesh(NUM)
    assert mesh.size == 8
    whole = gradients()(state.variables, BATCH)
    given = (
        jax.device_put(state.variables, parallel.replicated(mesh)),
        parallel.shard_batch(jax.device_get(BATCH), mesh),
    )
    assert_close(whole, gradients()(*given))
    assert_close(whole, gradients(2, mesh)(*given))


def test_dropout_of_a_part_is_the_same_in_both_passes(state):
    """The gradient is that of the loss that is reported: in parts, by finite differences."""
    f = gradients(2, model=CLIP)
    _, found = f(state.variables, BATCH)
    direction = jax.tree.map(lambda leaf: jnp.sign(leaf + 1e-3), found)
    slope = sum(float(jnp.sum(a * b)) for a, b in zip(*map(jax.tree.leaves, (found, direction)), strict=True))
    h = 1e-2
    up, down = (
        float(f(jax.tree.map(lambda a, b, h=h: a + h * b, state.variables, direction), BATCH)[0].contrastive)
        for h in (h, -h)
    )
    # Central differences: the third derivative's h² and float32's 1e-7/h.
    np.testing.assert_allclose((up - down) / (2 * h), slope, rtol=5e-3)


def test_steps_learn(state):
    step = jax.jit(make_train_step(CLIP, OBJECTIVE, OPTIMIZER, CONFIG))
    after, metrics = step(state, empty_metrics(OBJECTIVE.terms), BATCH)
    first = float(metrics.bits_per_dim.contrastive)
    for _ in range(100):
        after, metrics = step(after, empty_metrics(OBJECTIVE.terms), BATCH)
    assert metrics.bits_per_dim.contrastive < 0.8 * first
    assert metrics.bad_step == 0


def test_what_is_not_finite_is_named(state):
    variables = jax.tree.map(lambda leaf: leaf * jnp.nan, state.variables)
    step = make_train_step(CLIP, OBJECTIVE, OPTIMIZER, CONFIG)
    _, metrics = step(state._replace(variables=variables), empty_metrics(OBJECTIVE.terms), BATCH)
    assert (int(metrics.bad_step), metrics.bad) == (1, "contrastive")


def test_its_images_are_the_classifiers(state):
    """Of the exact model and its own captions: the mean of the classifier's log-loss over the two it chooses from."""
    exact = captioned.exact()
    half = {name: entry[:2] for name, entry in {"image": IMAGES, "text": captioned.ENCODED}.items()}
    draw_key, _ = jax.random.split(KEY)
    levels, eps = exact.draw(draw_key, 2, gamma)
    images, texts = exact.features({"network": {}}, jax.tree.map(jnp.asarray, half), levels, eps)
    log_prob = -classifying.exact().loss_at(
        {"network": {}}, {"image": jnp.asarray(IMAGES), "label": jnp.arange(2)}, levels, eps
    )
    np.testing.assert_allclose(jnp.diag(logits_of(images, texts)), log_prob, atol=1e-5)
