"""Checks that a guidance, a model and the guidance's companions fit together."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vdm import predictions
from vdm.guides import CLASSIFIER, CLIP, LABEL, NEGATIVE, NONE, TEXT, Companion, Guide
from vdm.model import Model

_COMPANIONS = {
    "weak": "a weaker model",
    CLASSIFIER: "a classifier of noisy images",
    CLIP: "an image–text model of noisy images",
    TEXT: "the encoder of the run's captions",
}


def check(guide: Guide, model: Model, companions: Mapping[str, Companion]) -> None:
    """Raise ValueError for a model that this guide cannot guide, or cannot guide with these companions."""
    numbers, condition = guide.numbers, model.condition
    needs, _ = guide.companion
    if (NEGATIVE in numbers or guide.others) and not condition:
        raise ValueError("the model has no labels; must be none, or for a run with config.network.condition=('label',)")
    if guide.needs_none and condition and not model.condition_dropout:
        raise ValueError("the model always had its condition in training (config.network.condition_dropout=0)")
    wanted = _entries(guide, condition)
    if missing := [entry for entry in wanted if entry not in condition]:
        raise ValueError(f"the model is conditioned on {', '.join(condition)}; must be on {missing[0]}")
    if NEGATIVE in numbers and not wanted and not model.condition_dropout:
        raise ValueError(
            "the model always had its condition in training (config.network.condition_dropout=0); must be given "
            "negative=LABEL, or a model trained with config.network.condition_dropout above 0"
        )
    classes = getattr(model.network, "classes", None)
    if classes is not None and numbers.get(NEGATIVE, NONE) >= classes:
        raise ValueError(f"negative={numbers[NEGATIVE]}: must be a label from 0 to {classes - 1}")
    labels = [each for each in guide.others if isinstance(each, int)]
    if classes is not None and max(labels, default=NONE) >= classes:
        raise ValueError(f"others={guide.others}: must be labels from 0 to {classes - 1}")
    for needed in filter(None, (needs, TEXT * bool(guide.captions))):
        if needed not in companions:
            raise ValueError(f"needs {_COMPANIONS[needed]}, which is not available here")
    if needs:
        {"weak": _check_weak, CLASSIFIER: _check_classifier, CLIP: _check_clip}[needs](model, companions[needs])


def _entries(guide: Guide, condition: Mapping[str, Any]) -> list[str]:
    """The entries of a condition that the guide needs the model to have."""
    negative = [LABEL] if guide.numbers.get(NEGATIVE, NONE) != NONE else []
    return negative + [TEXT if isinstance(each, str) else LABEL for each in guide.others]


def _check_weak(model: Model, weak: Companion) -> None:
    for name in ("shape", "levels", "condition"):
        own, other = getattr(model, name), getattr(weak.what, name)
        if own != other:
            raise ValueError(f"the weaker model is of other images: its {name} is {other}; must be {own}")
    knows = [each.prediction in predictions.KNOW_X_OF_NOISE for each in (model, weak.what)]
    if knows == [True, False]:
        raise ValueError(
            f"the weaker model predicts {weak.what.prediction}, this one {model.prediction}; must be one of "
            f"{', '.join(predictions.KNOW_X_OF_NOISE)} too"
        )


def _check_shape(model: Model, found: Companion, name: str) -> None:
    shape = getattr(found.what, "shape", model.shape)
    if tuple(shape) != model.shape:
        raise ValueError(f"the {name} is of images of shape {tuple(shape)}; must be {model.shape}")


def _check_clip(model: Model, found: Companion) -> None:
    _check_shape(model, found, "image–text model")
    theirs, own = found.what.text, model.condition.get(TEXT, found.what.text)
    if (theirs.shape, theirs.dtype) != (own.shape, own.dtype):
        raise ValueError(
            f"the image–text model takes captions as {theirs.dtype} {theirs.shape}; must be {own.dtype} {own.shape}, "
            "as the model does"
        )


def _check_classifier(model: Model, found: Companion) -> None:
    _check_shape(model, found, "classifier")
    z, gamma = jax.ShapeDtypeStruct((1, *model.shape), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    log_prob = jax.eval_shape(found.what.log_prob, found.variables, z, gamma)
    classes = getattr(model.network, "classes", None)
    if classes is not None and log_prob.shape != (1, classes):
        raise ValueError(f"the classifier knows {log_prob.shape[-1]} classes; must be {classes}, those of the model")
