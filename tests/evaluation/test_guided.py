"""Guided images from a model: by the text of a config, as by hand; one program; what is refused."""

import re
from dataclasses import replace
from functools import cache

import guided
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import compiled
from guided import CLASSIFIER, NUM, SHAPE, Classifier, exact, model, worse

from vdm import guidance, parallel, parts, samplers
from vdm.config import SamplingConfig
from vdm.errors import InputError
from vdm.evaluation.images import ImageSampler, make_grid
from vdm.evaluation.latents import Latents
from vdm.export import programs as export
from vdm.guides import Companion
from vdm.keys import Stream, stream_key

KEY, STEPS = jax.random.key(3), 5
LABELS = np.array([0, 2, 1, 1, 0, 2], np.int32)
COMPANIONS = {"weak": Companion(model(), worse()), "classifier": Companion(Classifier(), CLASSIFIER)}
EVERY = jnp.zeros(6, jnp.bool_)


def own(labels=LABELS, dropped=EVERY):
    return model().denoiser(exact(), {"label": jnp.asarray(labels), "dropped": dropped})


def weak():
    return model().denoiser(worse(), {"label": jnp.asarray(LABELS)})


def log_prob(z, gamma):
    return Classifier().log_prob(CLASSIFIER, z, gamma)[jnp.arange(6), LABELS]


def led(scale, other, interval=(-np.inf, np.inf), rescale=0.0):
    rule = guidance.rescaled(guidance.linear(scale), rescale)
    return guidance.interval(guidance.guided(guidance.apart(own(), other), rule), own(), *interval)


BY_HAND = {
    "classifier_free(2.0)": lambda: guidance.classifier_free(own(), own(dropped=~EVERY), 2.0),
    "classifier_free(2.0, interval=(-4, 3), rescale=0.7)": lambda: led(2.0, own(dropped=~EVERY), (-4.0, 3.0), 0.7),
    "classifier_free(1.0, negative=2)": lambda: guidance.classifier_free(own(), own(np.full(6, 2, np.int32)), 1.0),
    "apg(2.0, eta=0.2, norm=1.5)": lambda: guidance.adaptive_projected(own(), own(dropped=~EVERY), 2.0, 0.2, 1.5),
    "autoguidance(1.5, interval=(-2, inf), rescale=1)": lambda: led(1.5, weak(), (-2.0, np.inf), 1.0),
    "classifier(2.0)": lambda: guidance.classifier(own(), log_prob, 2.0, 6.0),
    "classifier(2.0, shifted=True)": own,
}
"""The same by the functions of `vdm.guidance`."""


def settings(text="none", **changes):
    return SamplingConfig(**({"num": 6, "steps": STEPS, "batch_size": 6, "guidance": text} | changes))


@cache
def sampler(text="none", num_devices=1, **changes):
    every = tuple(range(STEPS))
    return ImageSampler(model(), parallel.make_mesh(num_devices), settings(text, **changes), every, COMPANIONS)


def guesses(text="none", labels=LABELS, num_devices=1, guidance=None, **changes):
    """x̂ of every step: what guidance changes."""
    condition = {"label": labels}
    return sampler(text, num_devices, **changes)(exact(), KEY, 6, condition=condition, guidance=guidance)[1]


@pytest.mark.parametrize("text", BY_HAND)
def test_a_text_guides_as_the_functions_it_stands_for(text):
    gammas = make_grid(lambda t: model().gamma(exact(), t), settings())
    step = samplers.shifted(samplers.ancestral(), log_prob, 2.0) if "shifted" in text else samplers.ancestral()
    expected = jax.jit(
        lambda: samplers.sample_trajectory(KEY, BY_HAND[text](), step, gammas, (6, *SHAPE), tuple(range(STEPS)))[1]
    )()
    found = guesses(text)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(found - guesses()).max() > 0.02


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("classifier(1.0)", {}),
        ("classifier(1.0, unconditional=True)", {}),
        ("classifier(1.0, unconditional=True)", guided.LABEL),
    ],
)
def test_the_exact_classifier_makes_a_model_without_labels_the_one_with_them(text, condition):
    """Of a network that has none, and of one whose labels are dropped."""
    without = model(condition=condition)
    led = ImageSampler(without, parallel.make_mesh(1), settings(text), tuple(range(STEPS)), COMPANIONS)
    found = led(exact(), KEY, 6, condition={"label": LABELS})[1]
    np.testing.assert_allclose(found, guesses(), rtol=1e-3, atol=1e-3)


def test_labels_for_a_classifier_are_asked_for():
    """Of a model without labels, too; reconstructions are led to the labels that they are given."""
    without, config = model(condition={}), settings("classifier(1.0)", sampler="ddim")
    one = ImageSampler(without, parallel.make_mesh(1), config, (), COMPANIONS)
    latents = Latents(without, parallel.make_mesh(1), config, exact(), COMPANIONS)
    images = np.zeros((6, *SHAPE), np.uint8)
    for ask in (
        lambda: one(exact(), KEY, 6),
        lambda: latents.interpolate(KEY, 3, 2),
        lambda: latents.reconstruct(images),
    ):
        with pytest.raises(ValueError, match=r"^condition: must have 'label', which the classifier steers toward"):
            ask()
    first, second = (latents.reconstruct(images, condition={"label": np.full(6, k)}) for k in (0, 1))
    assert np.any(first != second)


def test_a_condition_that_the_model_does_not_name_still_reaches_its_network():
    without = ImageSampler(model(condition={}), parallel.make_mesh(1), settings(), tuple(range(STEPS)))
    found = without(exact(), KEY, 6, condition={"label": LABELS})[1]
    np.testing.assert_allclose(found, guesses(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "text", ["classifier_free(2.0)", "apg(2.0)", "classifier(2.0)", "classifier(2.0, shifted=True)"]
)
def test_all_are_limited_to_an_interval(text):
    """x̂ at γ = 6, 3.2, 0.4, −2.4 and −5.2: what is guided from γ = 1 on, or shifted in the step that ends at 0.4."""
    limited = guesses(text, guidance=f"{text[:-1]}, interval=(-10, 1))")
    still = guesses(text, guidance=text.replace("2.0", "0.0"))
    moved = np.abs(limited - still).max(axis=(1, 2, 3, 4)) > 1e-4
    assert moved.tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("how", ["together", "apart"])
def test_devices_and_calls_change_nothing(how):
    text = "classifier_free(2.0)"
    found = guesses(text, num_devices=2, guidance_batch=how)
    np.testing.assert_allclose(found, guesses(text), rtol=1e-4, atol=1e-4)


def test_numbers_and_labels_are_not_compiled_in():
    text = "classifier_free(2.0)"
    plain, first = guesses(), guesses(text)
    others = (
        "classifier_free(0.5, interval=(-1, 2))",
        "classifier_free(2.0, rescale=0.3)",
        "classifier_free(3.0, negative=1)",
    )
    with compiled(sampler(text)._run) as again:
        assert all(np.abs(guesses(text, guidance=other) - first).max() > 0.02 for other in others)
        guesses(text, LABELS[::-1])
    assert not again
    other = "classifier_free(2.0, interval=(-4, 3), rescale=0.7)"
    np.testing.assert_allclose(guesses(text, guidance=other), guesses(other), rtol=1e-5, atol=1e-5)
    # As the conditional model is; and, at −1, as that of no labels.
    np.testing.assert_allclose(guesses(text, guidance="classifier_free(0)"), plain, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        guesses(text, guidance="classifier_free(-1)"), guesses(text, LABELS[::-1], guidance="classifier_free(-1)"),
        rtol=1e-5, atol=1e-5,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"^guidance='apg\(2.0\)': must be 'classifier_free\(2.0\)', with other"):
        guesses(text, guidance="apg(2.0)")
    with pytest.raises(InputError, match=r"guidance='classifier_free\(negative=3\)': negative=3: must be"):
        guesses(text, guidance="classifier_free(negative=3)")
    with pytest.raises(InputError, match=r"^guidance='classifier_free\(scale=x\)': scale='x': must be"):
        guesses(text, guidance="classifier_free(scale=x)")


def test_the_variables_of_companions_are_not_compiled_in():
    """A later checkpoint of the weak model needs no other program."""
    one = sampler("autoguidance(1.5, interval=(-2, inf), rescale=1)", 1)
    arguments = exact(), one._of_model.leading, KEY, 0, {"label": LABELS}
    constants = jax.make_jaxpr(one._run)(*arguments).consts
    assert sum(np.size(each) for each in jax.tree.leaves(constants)) < NUM * 16


@pytest.mark.parametrize("name", parts.names("sampler"))
def test_every_sampler_is_guided(name):
    """At w = 0 as without; at w = 3 x̂ is further from the mean of all classes, on the side of its own."""
    text = "classifier_free(0.0)"
    plain = guesses(text, sampler=name)
    away = guesses(text, sampler=name, guidance="classifier_free(3.0)")
    towards = guided.MEANS[LABELS] - guided.MEANS.mean(axis=0)
    further = np.sum((away - plain)[0] * towards, axis=(1, 2, 3)) / np.sum(towards**2, axis=(1, 2, 3))
    # At γ₁ x̂ is the mean of the class, or of all: (1 + w) m_c − w m.
    np.testing.assert_allclose(further, 3, rtol=0.15)
    assert np.isfinite(away).all()


@pytest.mark.parametrize("clip", ["static", "dynamic"])
def test_x_is_clipped_after_guidance(clip):
    text, far = "classifier_free(2.0)", "classifier_free(8.0)"
    assert np.abs(guesses(text, guidance=far)).max() > 1.5
    assert np.abs(guesses(text, guidance=far, clip=clip)).max() <= 1 + 1e-6


@pytest.mark.parametrize("text", ["classifier_free(2.0)", "classifier(2.0)", "apg(2.0, eta=0.2, norm=1.5)"])
def test_from_pure_noise(text):
    """At γ = ∞ the first x̂ is that of z of pure noise: (1 + w) m_c − w m, by two conditions or a classifier."""
    found = guesses(text, zero_terminal_snr=True)
    assert np.isfinite(found).all()
    if not text.startswith("apg"):
        expected = 3 * guided.MEANS[LABELS] - 2 * guided.MEANS.mean(axis=0)
        # The network is asked at γ₁ = 6, where α = 0.05.
        np.testing.assert_allclose(found[0], expected, atol=0.3)


def test_latents_are_guided():
    """Interpolations end at the guided images of their latents, and reconstructions go the guided way back."""
    config = settings("classifier_free(1.0)", sampler="ddim", steps=20)
    latents = Latents(model(), parallel.make_mesh(1), config, exact())
    images, _ = ImageSampler(model(), parallel.make_mesh(1), config)(
        exact(), KEY, 6, condition={"label": np.repeat(LABELS[:3], 2)}
    )
    frames = latents.interpolate(KEY, 3, 2, condition={"label": LABELS[:3]})
    assert np.mean(frames[0] != images[::2]) < 0.02
    again = latents.reconstruct(images[::2], condition={"label": LABELS[:3]})
    assert np.abs(again.astype(int) - images[::2]).mean() < 0.5


TEXT = {"text": jax.ShapeDtypeStruct((3,), jnp.float32)}
CASES = [
    (
        "classifier_free(2.0)",
        model(condition={}),
        {},
        "the model has no labels; must be none, or for a run",
    ),
    (
        "classifier(2.0, unconditional=True)",
        model(0.0),
        {},
        "the model always had its condition in training",
    ),
    ("apg(2.0)", model(0.0), {}, "the model always had its condition in training (config.network.condition_dropout=0)"),
    ("classifier_free(negative=3)", model(), {}, "negative=3: must be a label from 0 to 2"),
    ("classifier_free(negative=1)", model(condition=TEXT), {}, "the model is conditioned on text; must be on label"),
    ("autoguidance", model(), {}, "needs a weaker model, which is not available here"),
    ("classifier", model(), {}, "needs a classifier of noisy images, which is not available here"),
    (
        "autoguidance",
        model(),
        {"weak": replace(model(), levels=3)},
        "is of other images: its levels is 3; must be 17",
    ),
    ("autoguidance", model(), {"weak": replace(model(), shape=(8, 8, 1))}, "its shape is (8, 8, 1); must be (4, 4, 1)"),
    ("autoguidance", model(), {"weak": model(condition={})}, "its condition is {}; must be {'label'"),
    ("autoguidance", model(), {"weak": model(prediction="eps")}, "predicts eps, this one x; must be one of x, v, u, F"),
    (
        "classifier",
        model(),
        {"classifier": Classifier((8, 8, 1))},
        "is of images of shape (8, 8, 1); must be (4, 4, 1)",
    ),
    ("classifier", model(), {"classifier": Classifier(classes=5)}, "the classifier knows 5 classes; must be 3"),
]


@pytest.mark.parametrize(("text", "of", "companions", "says"), CASES)
def test_what_cannot_be_guided_is_refused_in_one_line(text, of, companions, says):
    variables = {"weak": worse(), "classifier": CLASSIFIER}
    found = {name: Companion(each, variables[name]) for name, each in companions.items()}
    config = settings(text)
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        ImageSampler(of, parallel.make_mesh(1), config, (), found)
    assert str(caught.value).startswith(f"config.sampling.guidance={text!r}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "why"), [("heun", "its steps are not Gaussian draws"), ("ddim", "the sampler draws no noise")]
)
def test_only_steps_that_are_draws_can_be_shifted(name, why):
    config = settings("classifier(shifted=True)", sampler=name)
    says = rf"^config.sampling.guidance='classifier\(shifted=True\)' with sampler='{name}': .*{why}"
    with pytest.raises(InputError, match=says):
        ImageSampler(model(), parallel.make_mesh(1), config, (), COMPANIONS)


def test_a_model_without_dropped_labels_can_be_led_away_from_one():
    which = model(0.0)
    images = ImageSampler(which, parallel.make_mesh(1), settings("classifier_free(2.0, negative=1)"), (0,))
    found = images(exact(), KEY, 6, condition={"label": LABELS})[1]
    np.testing.assert_allclose(found, guesses("classifier_free(2.0, negative=1)")[:1], rtol=1e-4, atol=1e-4)


def test_an_exported_sampler_has_the_weaker_model_among_its_weights():
    text = "autoguidance(1.5)"
    weights = export.to_weights(export.with_companions(exact(), {"weak": COMPANIONS["weak"]}))
    assert set(weights) == {"network/means", "weak/network/means"}
    sample = jax.jit(export.sampler(model(), settings(text), COMPANIONS))
    arguments = np.uint32(5), np.arange(6, dtype=np.int32), {"label": jnp.asarray(LABELS)}
    images, _ = sample(weights, *arguments)
    one = sampler("autoguidance(1.5, interval=(-2, inf), rescale=1)", 1)
    key, condition = stream_key(5, Stream.SAMPLING), {"label": LABELS}
    expected, _ = one(exact(), key, 6, condition=condition, guidance=text)
    assert np.mean(images != expected) < 0.02
    # Of other weights, other images: they are no part of the program.
    changed, _ = sample(weights | {"weak/network/means": -4 * weights["network/means"]}, *arguments)
    assert np.mean(changed != expected) > 0.3


def test_an_export_is_guided_and_its_denoiser_knows_dropped_labels():
    """The sampler takes labels alone; the denoiser is the model's, with those that are dropped told."""
    config = settings("classifier_free(2.0, interval=(-4, 3))")
    lowered = export.programs(model(), config, ["cpu"])
    weights, labels = export.to_weights(exact()), {"label": jnp.asarray(LABELS)}
    images, _ = lowered["sampler.bin"].call(weights, np.uint32(5), np.arange(6, dtype=np.int32), labels)
    one = ImageSampler(model(), parallel.make_mesh(1), config)
    expected, _ = one(exact(), stream_key(5, Stream.SAMPLING), 6, condition={"label": LABELS})
    assert np.mean(images != expected) < 0.02
    z, gamma = jax.random.normal(KEY, (6, *SHAPE)), jnp.linspace(-3.0, 3.0, 6)
    condition = labels | {"dropped": jnp.arange(6) % 2 == 0}
    eps_hat = lowered["denoiser.bin"].call(weights, z, gamma, condition)
    np.testing.assert_allclose(eps_hat, model().denoise(exact(), z, gamma, condition), rtol=1e-4, atol=1e-5)
    described = export.calls(model())
    assert described["sampler.bin"]["arguments"]["condition"] == {"label": "int32 (batch)"}
    assert described["denoiser.bin"]["arguments"]["condition"] == {"label": "int32 (batch)", "dropped": "bool (batch)"}
