"""CLIP guidance of a model: with exact inner products it is classifier guidance; one program; what it needs."""

from functools import cache

import guided
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import compiled
from guided import NUM, SHAPE, exact, model
from jax import ShapeDtypeStruct

from vdm import guidance, oracles, parallel, predictions
from vdm.config import SamplingConfig
from vdm.errors import InputError
from vdm.evaluation.images import ImageSampler, ModelSampling
from vdm.guides import Companion

KEY, STEPS = jax.random.key(3), 5
LABELS = np.array([0, 2, 1, 1, 0, 2], np.int32)
CAPTIONS = np.array([[7, 9], [8, 0], [9, 7]], np.int32)
"""Of the three classes, encoded."""
LIKE = ShapeDtypeStruct((2,), jnp.int32)


class Clip:
    """⟨f, g⟩ = log p(y|z_γ) of the exact model, of captions that say the class."""

    def __init__(self, shape=SHAPE, text=LIKE):
        self.shape, self.text = shape, text

    def image_features(self, variables, z, gamma):
        return variables["one"] * guided.ORACLE.log_posterior(z, gamma)

    def text_features(self, variables, text):
        return jnp.all(text[:, None] == jnp.asarray(CAPTIONS)[None], axis=2).astype(jnp.float32)


COMPANIONS = {
    "clip": Companion(Clip(), guided.CLASSIFIER),
    "classifier": Companion(guided.Classifier(), guided.CLASSIFIER),
}
CONDITION = {"text": CAPTIONS[LABELS], "label": LABELS}


def settings(text, **changes):
    return SamplingConfig(**({"num": 6, "steps": STEPS, "batch_size": 6, "guidance": text} | changes))


@cache
def sampler(text, dropout=0.1, labelled=False, num_devices=1, **changes):
    of = model(dropout, condition=guided.LABEL if labelled else {})
    return ImageSampler(of, parallel.make_mesh(num_devices), settings(text, **changes), tuple(range(STEPS)), COMPANIONS)


def guesses(text, condition=CONDITION, guidance=None, **changes):
    """x̂ of every step: what guidance changes."""
    return sampler(text, **changes)(exact(), KEY, 6, condition=condition, guidance=guidance)[1]


@pytest.mark.parametrize("arguments", ["2.0", "2.0, interval=(-4, 3)", "2.0, shifted=True"])
def test_by_exact_inner_products_it_is_classifier_guidance(arguments):
    """To float32: one sum is over classes and one picks a class."""
    found = guesses(f"clip({arguments})")
    np.testing.assert_allclose(found, guesses(f"classifier({arguments})"), rtol=1e-5, atol=1e-5)
    assert np.abs(found - guesses("clip(0.0)")).max() > 0.02


def test_at_scale_one_it_is_the_exact_conditional_denoiser():
    """Of an oracle's mixture, at any noise: that of the component which the caption says."""
    mixture = oracles.mixture(np.ones(3) / 3, np.array([[-1.0, 0.5], [0.8, 0.2], [0.1, -0.9]]), np.full(3, 0.4))
    z = jax.random.normal(KEY, (40, 2))
    labels = np.arange(40) % NUM

    class OfMixture(Clip):
        def image_features(self, variables, z, gamma):
            return mixture.log_posterior(z, gamma)

    clip = OfMixture((2,))
    texts = clip.text_features({}, jnp.asarray(CAPTIONS[labels]))
    led = guidance.classifier(
        mixture.denoise, lambda z, gamma: jnp.sum(clip.image_features({}, z, gamma) * texts, axis=1), 1.0
    )
    for gamma in map(jnp.float32, (-3.0, 0.0, 2.5)):
        every = jnp.stack([predictions.both(mixture.denoise_component(k))(z, gamma).eps for k in range(NUM)])
        np.testing.assert_allclose(led(z, gamma).eps, every[labels, jnp.arange(40)], atol=2e-4)


@pytest.mark.parametrize("text", ["clip(1.0)", "clip(1.0, unconditional=True)"])
def test_a_model_without_captions_becomes_the_one_of_the_class(text):
    with_labels = ImageSampler(
        model(), parallel.make_mesh(1), settings("none"), tuple(range(STEPS)), {}
    )(exact(), KEY, 6, condition={"label": LABELS})[1]  # fmt: skip
    labelled = "unconditional" in text
    np.testing.assert_allclose(guesses(text, labelled=labelled), with_labels, rtol=1e-3, atol=1e-3)


def test_a_model_with_labels_is_given_these_and_the_clip_the_captions():
    """Of the label's own class, whose posterior given the label is 1, nothing is left to be led to; of others, much."""
    plain = guesses("clip(0.0)", labelled=True)
    with_labels = guesses("clip(0.0)", {**CONDITION, "text": CAPTIONS[LABELS[::-1]]}, labelled=True)
    np.testing.assert_allclose(plain, with_labels, atol=1e-6)
    assert np.abs(plain - guesses("clip(0.0)", {**CONDITION, "label": LABELS[::-1]}, labelled=True)).max() > 0.1
    led = guesses("clip(2.0)", {**CONDITION, "text": CAPTIONS[LABELS[::-1]]}, labelled=True)
    assert np.abs(led - plain).max() > 0.02


def test_one_program_for_all_scales_intervals_and_captions():
    first = guesses("clip(2.0)")
    with compiled(sampler("clip(2.0)")._run) as again:
        other = guesses("clip(2.0)", guidance="clip(0.5, interval=(-1, 4))")
        swapped = guesses("clip(2.0)", {**CONDITION, "text": CAPTIONS[LABELS[::-1]]})
    assert not again
    assert min(np.abs(first - each).max() for each in (other, swapped)) > 0.02


def test_on_several_devices_too():
    np.testing.assert_allclose(guesses("clip(2.0)", num_devices=2), guesses("clip(2.0)"), rtol=1e-4, atol=1e-4)


def test_captions_are_asked_for():
    with pytest.raises(ValueError, match=r"^condition: must have 'text', which the clip steers toward"):
        guesses("clip(2.0)", {"label": LABELS})


TEXT = {"text": LIKE}


@pytest.mark.parametrize(("text", "of", "companions", "says"), [
    ("clip", model(condition={}), {}, "needs an image–text model of noisy images, which is not available here"),
    ("clip", model(condition={}), {"clip": Companion(Clip((8, 8, 1)), {})}, r"is of images of shape \(8, 8, 1\); must"),
    ("clip", model(condition=TEXT), {"clip": Companion(Clip(text=ShapeDtypeStruct((3,), jnp.int32)), {})},
     r"takes captions as int32 \(3,\); must be int32 \(2,\), as the model does"),
    ("clip(unconditional=True)", model(0.0, condition=TEXT), COMPANIONS, "always had its condition in training"),
    ("clip(shifted=True)", model(condition={}), COMPANIONS, "with sampler='ddim': the sampler draws no noise"),
])  # fmt: skip
def test_what_it_cannot_lead_is_refused(text, of, companions, says):
    config = settings(text, sampler="ddim" if "shifted" in text else "ancestral")
    with pytest.raises(InputError, match=says):
        ModelSampling(of, None, config, companions)
