"""The contrastive loss against one written out, its minimum, captions that come twice; the model and its config."""

from dataclasses import replace

import captioned
import classifying
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from vdm import gaussian, image_text, likelihoods
from vdm.config import DataConfig, from_dict, to_dict, validate
from vdm.errors import InputError
from vdm.image_text import ImageTextConfig, contrastive, equal, logits_of
from vdm.settings import settings

KEY = jax.random.key(0)
NUM = 6
TEXTS = np.array([[1, 2], [3, 0], [1, 2], [4, 4], [1, 2], [3, 0]], np.int32)
"""Three captions of six images."""


def logits(seed: int = 0) -> np.ndarray:
    """Equal captions have equal ones."""
    of_text = np.random.default_rng(seed).normal(size=(NUM, 5)) * 3
    return of_text[:, TEXTS[:, 0]].astype(np.float32)


def written_out(s: np.ndarray) -> np.ndarray:
    """Sum by sum, in float64."""
    s, losses = s.astype(np.float64), []
    for i in range(NUM):
        alike = [j for j in range(NUM) if (TEXTS[i] == TEXTS[j]).all()]
        of_image = sum(np.log(1 / len(alike)) - (s[i, j] - logsumexp(s[i])) for j in alike) / len(alike)
        of_text = sum(np.log(1 / len(alike)) - (s[j, i] - logsumexp(s[:, i])) for j in alike) / len(alike)
        losses.append((of_image + of_text) / 2)
    return np.array(losses)


def test_it_is_the_loss_written_out():
    same = equal(jnp.asarray(TEXTS))
    np.testing.assert_array_equal(same, [[(a == b).all() for b in TEXTS] for a in TEXTS])
    np.testing.assert_allclose(contrastive(jnp.asarray(logits()), same), written_out(logits()), rtol=1e-5)


def test_without_captions_that_are_equal_it_is_that_of_clip():
    s = np.random.default_rng(1).normal(size=(NUM, NUM)).astype(np.float32)
    wanted = -(np.diag(s - logsumexp(s, axis=1, keepdims=True)) + np.diag(s - logsumexp(s, axis=0, keepdims=True))) / 2
    np.testing.assert_allclose(contrastive(jnp.asarray(s), jnp.eye(NUM, dtype=bool)), wanted, rtol=1e-5)


def test_shared_targets_change_no_gradient():
    """Of features, where equal captions have the same: that of the plain cross-entropy, and a value a constant away."""
    images, table = (jnp.asarray(np.random.default_rng(k).normal(size=(NUM, 3)), jnp.float32) for k in (1, 2))

    def loss(images, table, same):
        return jnp.mean(contrastive(logits_of(images, table[TEXTS[:, 0]]), same))

    shared, plain = (
        jax.value_and_grad(loss, argnums=(0, 1))(images, table, same)
        for same in (equal(jnp.asarray(TEXTS)), jnp.eye(NUM, dtype=bool))
    )
    for a, b in zip(shared[1], plain[1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(plain[0] - shared[0], (3 * np.log(3) + 2 * np.log(2)) / NUM, rtol=1e-5)


JOINT = np.array([[0.3, 0.05], [0.1, 0.15], [0.05, 0.35]])
"""p(z, y) of three z and two captions."""
RATIO = np.log(JOINT / JOINT.sum(axis=1, keepdims=True) / JOINT.sum(axis=0, keepdims=True))
"""log p(y|z)/p(y)."""


def expected_gradient(table: np.ndarray, loss) -> np.ndarray:
    """Of the mean loss of batches of three independent pairs, over all of them, by the logit of each z and caption."""
    pairs = np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    z, y = jnp.asarray(pairs // 2), jnp.asarray(pairs % 2)
    weights = jnp.asarray(JOINT.ravel()[pairs].prod(axis=1), jnp.float32)

    def of_batch(table, z, y):
        return jnp.mean(loss(table[z][:, y], y[:, None] == y[None]))

    def expected(table):
        return jnp.sum(weights * jax.vmap(of_batch, (None, 0, 0))(table, z, y))

    return jax.jit(jax.grad(expected))(jnp.asarray(table, jnp.float32))


def without_duplicates(logits, same):
    """Where other pairs of the same caption are left out: what the library does not do."""
    kept = jnp.where(same & ~jnp.eye(3, dtype=bool), -jnp.inf, logits)
    return -(jnp.diag(jax.nn.log_softmax(kept)) + jnp.diag(jax.nn.log_softmax(kept.T))) / 2


def test_its_minimum_is_the_log_ratio_whatever_captions_come_twice():
    """There, the gradient is 0: what guides is log p(y|z), at the scale of a classifier's."""
    assert np.abs(expected_gradient(RATIO, contrastive)).max() < 1e-6
    assert np.abs(expected_gradient(RATIO + 1.3, contrastive)).max() < 1e-6
    assert np.abs(expected_gradient(1.2 * RATIO, contrastive)).max() > 1e-3
    assert np.abs(expected_gradient(RATIO, without_duplicates)).max() > 1e-2


def test_a_function_of_the_image_alone_is_not_free():
    """Captions of an image would not tell; images of a caption do."""
    other = RATIO + np.array([[0.5], [0.0], [-0.5]])
    assert np.abs(expected_gradient(other, contrastive)).max() > 1e-2


def test_large_logits_are_finite():
    far = jnp.asarray(np.diag([1e4, -1e4]), jnp.float32)
    value, gradient = jax.value_and_grad(lambda s: jnp.sum(contrastive(s, jnp.eye(2, dtype=bool))))(far)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_captions_of_a_frozen_encoder_are_told_by_the_whole():
    states = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    states[2, 0] = states[0, 0]
    np.testing.assert_array_equal(equal(jnp.asarray(states))[0], [True, False, True])


def test_infinite_noise_is_that_of_the_last_gamma():
    clip = captioned.small()
    variables, z = clip.init(KEY), jax.random.normal(KEY, (2, *clip.shape))
    np.testing.assert_array_equal(
        clip.image_features(variables, z, jnp.inf), clip.image_features(variables, z, jnp.float32(clip.gamma_max))
    )


def test_features_of_a_batch_are_of_its_noisy_images_and_captions():
    clip, label = captioned.exact(), np.array([1, 0, 1])
    batch = {"image": jnp.asarray(classifying.IMAGES[label]), "text": jnp.asarray(captioned.ENCODED[label])}
    gamma, eps = jnp.array([-2.0, 0.0, 1.0]), jax.random.normal(KEY, (3, *clip.shape))
    images, texts = clip.features({"network": {}}, batch, gamma, eps)
    z = gaussian.diffuse(likelihoods.encode(batch["image"], clip.levels), eps, gamma)
    exact = classifying.exact().log_prob({"network": {}}, z, gamma)
    np.testing.assert_allclose(images, exact, atol=1e-6)
    np.testing.assert_array_equal(texts, np.eye(2)[label])
    with pytest.raises(ValueError, match="must have 'text'"):
        clip.features({"network": {}}, {"image": batch["image"]}, gamma, eps)


DATA = DataConfig(shape=(8, 8, 1), levels=17, entries=("text int32 16",), vocabulary=257)


def config(**network) -> ImageTextConfig:
    made = ImageTextConfig(data=DATA)
    made.network = replace(made.network, channels=4, depth=1, text_channels=8, text_depth=1, **network)
    return made


def test_a_config_is_a_model_and_a_table_again():
    made = config(features=6)
    validate(made)
    assert from_dict(to_dict(made), kind=ImageTextConfig) == made
    clip = image_text.from_config(made)
    assert (clip.shape, clip.levels, clip.text.shape, clip.network.features) == ((8, 8, 1), 17, (16,), 6)
    bfloat16 = clip.computed_in("bfloat16")
    assert bfloat16.network.dtype == jnp.bfloat16
    shapes = jax.eval_shape(bfloat16.init, KEY)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def test_what_a_run_depends_on():
    kinds = {each.name: each.affects for each in settings(ImageTextConfig())}
    for name in ("of.gamma_min", "network.features", "network.text_depth", "data.vocabulary", "data.text"):
        assert kinds[name] == "model", name
    assert kinds["network.dropout"] == "training"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda made: setattr(made.data, "entries", None), r"config\.data: shape, levels and entries must be set"),
        (lambda made: setattr(made.data, "entries", ("label int32",)), r"config\.data\.entries: must describe 'text'"),
        (lambda made: setattr(made.network, "features", 1), r"config\.network\.features=1: must be from 2"),
        (
            lambda made: setattr(made.network, "name", "residual"),
            r"config\.network\.name='residual': must be one of towers",
        ),
        (lambda made: setattr(made.evaluation, "metrics", ("mmd",)), "an image-text model draws no samples"),
        (lambda made: setattr(made, "task", "classifier"), r"config\.task='classifier': "),
    ],
)
def test_bad_configs_are_one_line(change, says):
    made = config()
    made.data = replace(made.data)
    change(made)
    with pytest.raises(InputError, match=says):
        image_text.from_config(made)
