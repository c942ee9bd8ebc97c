"""Negative captions and compositions by the text of a config, as by the functions they stand for; one program."""

from functools import cache
from typing import Any

import classes_by_caption
import guided
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from classes_by_caption import TEXT
from compiling import compiled
from guided import SHAPE, exact

from vdm import guidance, guides, parallel, samplers
from vdm.composition import composed
from vdm.config import SamplingConfig
from vdm.errors import InputError
from vdm.evaluation.images import ImageSampler, ModelSampling, make_grid
from vdm.export import programs as export
from vdm.keys import Stream, stream_key

KEY, STEPS, NUM = jax.random.key(3), 4, 6
LABELS = np.array([0, 2, 1, 1, 0, 2], np.int32)
WORDS = [classes_by_caption.CAPTIONS[k] for k in LABELS]


def own(labels: Any = LABELS, dropped: bool = False) -> Any:
    condition = {"label": jnp.asarray(labels), "dropped": jnp.full(NUM, dropped)}
    return guided.model().denoiser(exact(), condition)


def every(k: int) -> Any:
    return own(np.full(NUM, k, np.int32))


BY_HAND = {
    "classifier_free(1.0, negative='c hen')": lambda: guidance.classifier_free(own(), every(2), 1.0),
    "apg(2.0, eta=0.2, norm=1.5, negative='b')": lambda: guidance.adaptive_projected(own(), every(1), 2.0, 0.2, 1.5),
    "composed(('b', 'c x'), weights=(1.5, 0.5, -0.3))": lambda: composed(
        [own(), every(1), every(2)], own(dropped=True), [1.5, 0.5, -0.3]
    ),
    "composed(weights=(2.5,))": lambda: guidance.classifier_free(own(), own(dropped=True), 1.5),
}


@cache
def sampler(text: str, num_devices: int = 1, how: str = "auto", labels: bool = False) -> ImageSampler:
    config = SamplingConfig(num=NUM, steps=STEPS, batch_size=NUM, guidance=text, guidance_batch=how)
    model = guided.model() if labels else classes_by_caption.model()
    return ImageSampler(model, parallel.make_mesh(num_devices), config, tuple(range(STEPS)), guides.of_text(TEXT))


def guesses(text: str, *args: Any, guidance: str | None = None) -> np.ndarray:
    """x̂ of every step: what guidance changes."""
    return sampler(text, *args)(exact(), KEY, NUM, condition={"text": TEXT(WORDS)}, guidance=guidance)[1]


@pytest.mark.parametrize("text", BY_HAND)
def test_a_text_guides_as_the_functions_it_stands_for(text: str) -> None:
    model = guided.model()
    gammas = make_grid(lambda t: model.gamma(exact(), t), SamplingConfig(steps=STEPS))
    expected = jax.jit(
        lambda: samplers.sample_trajectory(
            KEY, BY_HAND[text](), samplers.ancestral(), gammas, (NUM, *SHAPE), tuple(range(STEPS))
        )[1]
    )()
    np.testing.assert_allclose(guesses(text), expected, rtol=1e-4, atol=1e-4)


def test_captions_are_not_compiled_in() -> None:
    """Another of the same shape needs no other program; on more devices, or in one call, it is the same."""
    first, second = "classifier_free(1.0, negative='c hen')", "classifier_free(2.0, negative='a cat')"
    plain = guesses(first)
    with compiled(sampler(first)._run) as again:
        found = guesses(first, guidance=second)
    assert not again
    np.testing.assert_allclose(found, guesses(second), rtol=1e-5, atol=1e-5)
    assert np.abs(found - plain).max() > 0.02
    three = "composed(('b', 'c x'), weights=(1.5, 0.5, -0.3))"
    np.testing.assert_allclose(guesses(three, 2, "together"), guesses(three, 1, "apart"), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match=r"must be .*, with other numbers if need be"):
        guesses(three, guidance="composed(('b',), weights=(1.5, 0.5))")


def test_labels_compose_too() -> None:
    text = "composed((1, 2), weights=(1.5, 0.5, -0.3))"
    found = sampler(text, 1, "auto", True)(exact(), KEY, NUM, condition={"label": LABELS})[1]
    of_captions = guesses("composed(('b', 'c x'), weights=(1.5, 0.5, -0.3))")
    np.testing.assert_allclose(found, of_captions, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "dropout", "companions", "says"),
    [
        ("classifier_free(negative=1)", 0.1, True, "the model is conditioned on text; must be on label"),
        ("composed((1,), (1, 1))", 0.1, True, "the model is conditioned on text; must be on label"),
        ("composed(('b',), (1, 1))", 0.0, True, "the model always had its condition in training"),
        ("classifier_free(1)", 0.0, True, "the model always had its condition in training"),
        (
            "classifier_free(negative='b')",
            0.1,
            False,
            "needs the encoder of the run's captions, which is not available here",
        ),
        ("apg(negative='b and more')", 0.1, True, r"the caption 'b and more' is longer than .*bytes\(length=8\) enc"),
    ],
)
def test_what_cannot_guide_is_one_line(text: str, dropout: float, companions: bool, says: str) -> None:
    model, given = classes_by_caption.model(dropout), guides.of_text(TEXT if companions else None)
    with pytest.raises(InputError, match=f"config.sampling.guidance=.*: {says}"):
        ModelSampling(model, None, SamplingConfig(guidance=text), given)


def test_captions_are_for_models_of_captions() -> None:
    for text, model, says in (
        ("classifier_free(negative='b')", guided.model(), "conditioned on label; must be on text"),
        ("composed(('b',), (1, 1))", guided.model(condition={}), "the model has no labels; must be none"),
        ("composed((3,), (1, 1))", guided.model(), r"others=\(3,\): must be labels from 0 to 2"),
    ):
        with pytest.raises(InputError, match=says):
            ModelSampling(model, None, SamplingConfig(guidance=text), guides.of_text(TEXT))
    # A caption in place of none: the model need not know dropped ones.
    config, without = SamplingConfig(guidance="classifier_free(negative='b')"), classes_by_caption.model(0.0)
    ModelSampling(without, None, config, guides.of_text(TEXT))


def test_an_export_takes_encoded_captions() -> None:
    """As a program on disk: led away from a caption that is in it, by those that it is given."""
    text = "classifier_free(1.0, negative='c hen')"
    config = SamplingConfig(num=NUM, steps=STEPS, batch_size=NUM, guidance=text)
    model = classes_by_caption.model()
    lowered = export.programs(model, config, ["cpu"], companions=guides.of_text(TEXT))["sampler.bin"]
    weights = export.to_weights(export.with_companions(exact(), guides.of_text(TEXT)))
    assert set(weights) == {"network/means"}
    again = jax.export.deserialize(bytearray(lowered.serialize()))
    arguments = np.uint32(5), np.arange(NUM, dtype=np.int32), {"text": TEXT(WORDS)}
    images, _ = again.call(weights, *arguments)
    expected, _ = sampler(text)(exact(), stream_key(5, Stream.SAMPLING), NUM, condition={"text": TEXT(WORDS)})
    assert np.mean(images != expected) < 0.02
    described = export.calls(model)["denoiser.bin"]["arguments"]["condition"]
    assert described == {"text": "int32 (batch, 8)", "dropped": "bool (batch)"}
