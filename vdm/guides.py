"""What configs and flags name a guidance by: `classifier_free(1.5, interval=(-4, 3))`.

A `Guide` has the numbers of its text apart from the function that guides with them, so that one compiled program serves
all texts that differ in numbers alone. The mathematics is in `vdm.guidance` and `vdm.samplers.shifted`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from vdm import guidance, predictions, samplers
from vdm.gaussian import Gamma
from vdm.guidance import Rule
from vdm.model import DROPPED, Condition, Model, Variables
from vdm.predictions import Denoise
from vdm.samplers import Sampler, options

CLASSIFIER = "classifier"
"""The companion that has labels of its own."""
LABEL = "label"
"""The entry of a condition that `negative` and classifiers are about."""
NONE = -1
"""No negative label."""
MOST = 1000.0
"""Of a scale."""

Numbers = dict[str, Any]
"""Scalars by name: what may be traced."""


class Companion(NamedTuple):
    """What a guidance needs beside the model: a weaker model, or a classifier, and its variables.

    A classifier is an object with `log_prob(variables, z, gamma) -> (batch, classes)`, log p(c|z_γ) in nats.
    """

    what: Any
    variables: Variables


class Scene(NamedTuple):
    """What a guide has to do with when it makes a denoiser."""

    denoiser: Callable[[Condition], Denoise]
    """The model's own, of a condition."""
    condition: Condition
    """That of the images."""
    labelled: bool
    """Whether the model is given it; else it is for a classifier alone."""
    drops: bool
    """Whether the model knows images whose condition is dropped."""
    together: bool
    """Whether two conditions go into one network call of twice the batch."""
    gamma_1: Array
    """γ(1), the most noise that the networks know."""
    companions: Mapping[str, Companion]


def _as_it_is(numbers: Numbers, scene: Scene, sampler: Sampler) -> Sampler:
    return sampler


class Guide(NamedTuple):
    """A guidance as a text names it."""

    numbers: Numbers
    denoiser: Callable[[Numbers, Scene], Denoise]
    """The guided denoiser of `Scene.condition`."""
    sampler: Callable[[Numbers, Scene, Sampler], Sampler] = _as_it_is
    """The guided sampler, where the step is what is guided."""
    companion: tuple[str, str] = ("", "")
    """Name in `Scene.companions` of what it needs, and which: of "weak" a checkpoint."""

    @property
    def moves_steps(self) -> bool:
        """Whether it is the steps of the sampler that are guided."""
        return self.sampler is not _as_it_is

    @property
    def by_classifier(self) -> bool:
        """Whether labels are for a classifier, and the model may do without."""
        return self.companion[0] == CLASSIFIER

    @property
    def program(self) -> "Guide":
        """What is the same of two guides that one compiled program serves."""
        return self._replace(numbers=dict.fromkeys(self.numbers))


def none() -> Guide:
    """The model as it is.

    >>> none().numbers
    {}
    """
    return Guide({}, _unguided)


def classifier_free(
    scale: float = 1.0,
    interval: tuple[float, float] = (-math.inf, math.inf),
    rescale: float = 0.0,
    negative: int | None = None,
) -> Guide:
    """(1 + w) of the prediction with the label, − w of that without (Ho & Salimans 2022): w = `scale`.

    Where γ is in `interval`. `rescale` is the share φ of Lin et al. (2024). `negative` is a label to lead away from, in
    place of none. Two network calls, or one of twice the batch. Raises ValueError for numbers out of range.

    >>> classifier_free(1.5, interval=(-4.0, 3.0)).numbers["scale"]
    np.float32(1.5)
    """
    options.check_range("rescale", rescale, 0.0, 1.0)
    numbers = {**_scaled(scale, interval), **_led_away(negative), "rescale": np.float32(rescale)}
    return Guide(numbers, _classifier_free)


def apg(
    scale: float = 1.0,
    eta: float = 0.0,
    norm: float = math.inf,
    interval: tuple[float, float] = (-math.inf, math.inf),
    negative: int | None = None,
) -> Guide:
    """As classifier_free, but less along x̂, and only so far (Sadat et al. 2024): adaptive projected guidance.

    `eta` is what is left of the part along x̂, `norm` the greatest length of the change, over the data dimensions, at
    w = 1. Raises ValueError for numbers out of range.

    >>> sorted(apg(2.0, norm=10.0).numbers)
    ['eta', 'high', 'low', 'negative', 'norm', 'scale']
    """
    options.check_range("eta", eta, -1.0, 1.0)
    options.check_range("norm", norm, 0.0, math.inf)
    numbers = {**_scaled(scale, interval), **_led_away(negative), "eta": np.float32(eta), "norm": np.float32(norm)}
    return Guide(numbers, _projected)


def autoguidance(
    scale: float = 1.0,
    weak: str = "oldest",
    interval: tuple[float, float] = (-math.inf, math.inf),
    rescale: float = 0.0,
) -> Guide:
    """Away from a weaker model with the same label, in place of none (Karras et al. 2024, whose w is 1 + `scale`).

    `weak` is a checkpoint of the same run (a step, `best`, or `oldest`, the first that it still has), or another run's:
    RUN or RUN:CHECKPOINT. Raises ValueError for numbers out of range.

    >>> autoguidance(1.0, weak="1000").companion
    ('weak', '1000')
    """
    options.check_range("rescale", rescale, 0.0, 1.0)
    numbers = {**_scaled(scale, interval), "rescale": np.float32(rescale)}
    return Guide(numbers, _autoguidance, companion=("weak", weak))


def classifier(
    scale: float = 1.0,
    interval: tuple[float, float] = (-math.inf, math.inf),
    shifted: bool = False,
    unconditional: bool = False,
    folder: str = "",
) -> Guide:
    """Towards the label by the gradient of a classifier of noisy images (Dhariwal & Nichol 2021): s = `scale`.

    As a change of ε̂, for every sampler; or, `shifted`, of the mean of each step of a stochastic one (Strümke &
    Langseth, Eq. 43). The classifier is in `folder`, by default the run's own, RUN/classifier. The model may be one
    without labels; one with labels is given them too (Wang, Eq. 8), unless `unconditional`. Raises ValueError for
    numbers out of range.

    >>> classifier(2.0, shifted=True).companion
    ('classifier', '')
    """
    numbers = _scaled(scale, interval)
    if shifted:
        return Guide(numbers, _without if unconditional else _unguided, _shifted, (CLASSIFIER, folder))
    return Guide(numbers, _classifier_without if unconditional else _classifier, companion=(CLASSIFIER, folder))


def check(guide: Guide, model: Model, companions: Mapping[str, Companion]) -> None:
    """Raises ValueError for a model that this cannot guide, or not with these companions."""
    numbers, condition = guide.numbers, model.condition
    needs, _ = guide.companion
    if NEGATIVE in numbers and not condition:
        raise ValueError("the model has no labels; must be none, or of a run with config.network.condition=('label',)")
    if guide.denoiser in (_without, _classifier_without) and condition and not model.condition_dropout:
        raise ValueError(
            "unconditional=True: the model always had its condition in training (config.network.condition_dropout=0)"
        )
    if (guide.by_classifier and condition) or numbers.get(NEGATIVE, NONE) != NONE:
        if LABEL not in condition:
            raise ValueError(f"the model is conditioned on {', '.join(condition)}; must be on {LABEL}")
    elif NEGATIVE in numbers and not model.condition_dropout:
        raise ValueError(
            "the model always had its condition in training (config.network.condition_dropout=0); must be given "
            "negative=LABEL, or a model trained with config.network.condition_dropout above 0"
        )
    classes = getattr(model.network, "classes", None)
    if classes is not None and numbers.get(NEGATIVE, NONE) >= classes:
        raise ValueError(f"negative={numbers[NEGATIVE]}: must be a label from 0 to {classes - 1}")
    if not needs:
        return
    if needs not in companions:
        raise ValueError(f"needs {_COMPANIONS[needs]}, which is not to be had here")
    {"weak": _check_weak, CLASSIFIER: _check_classifier}[needs](model, companions[needs])


NEGATIVE = "negative"
_COMPANIONS = {"weak": "a weaker model", CLASSIFIER: "a classifier of noisy images"}


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


def _check_classifier(model: Model, found: Companion) -> None:
    shape = getattr(found.what, "shape", model.shape)
    if tuple(shape) != model.shape:
        raise ValueError(f"the classifier is of images of shape {tuple(shape)}; must be {model.shape}")
    z, gamma = jax.ShapeDtypeStruct((1, *model.shape), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    log_prob = jax.eval_shape(found.what.log_prob, found.variables, z, gamma)
    classes = getattr(model.network, "classes", None)
    if classes is not None and log_prob.shape != (1, classes):
        raise ValueError(f"the classifier knows {log_prob.shape[-1]} classes; must be {classes}, those of the model")


def _scaled(scale: float, interval: tuple[float, float]) -> Numbers:
    options.check_range("scale", scale, -MOST, MOST)
    low, high = interval
    if not low <= high:
        raise ValueError(f"interval={interval}: must be two γ, the lower first")
    return {"scale": np.float32(scale), "low": np.float32(low), "high": np.float32(high)}


def _led_away(negative: int | None) -> Numbers:
    if negative is not None and not 0 <= negative < 2**31:
        raise ValueError(f"negative={negative}: must be a label, 0 or more")
    return {NEGATIVE: np.int32(NONE if negative is None else negative)}


def _unguided(numbers: Numbers, scene: Scene) -> Denoise:
    return scene.denoiser(scene.condition if scene.labelled else None)


def _without(numbers: Numbers, scene: Scene) -> Denoise:
    if not scene.drops:
        return _unguided(numbers, scene)
    condition = dict(scene.condition)
    return scene.denoiser(condition | {DROPPED: jnp.ones(condition[LABEL].shape[:1], jnp.bool_)})


def _classifier_free(numbers: Numbers, scene: Scene) -> Denoise:
    return _of_conditions(numbers, scene, guidance.rescaled(guidance.linear(numbers["scale"]), numbers["rescale"]))


def _projected(numbers: Numbers, scene: Scene) -> Denoise:
    return _of_conditions(numbers, scene, guidance.projected(numbers["scale"], numbers["eta"], numbers["norm"]))


def _autoguidance(numbers: Numbers, scene: Scene) -> Denoise:
    weak, variables = scene.companions["weak"]
    own, other = _unguided(numbers, scene), weak.denoiser(variables, weak.condition_of(scene.condition or {}))
    rule = guidance.rescaled(guidance.linear(numbers["scale"]), numbers["rescale"])
    return _in_interval(numbers, scene, guidance.guided(guidance.apart(own, other), rule))


def _classifier(numbers: Numbers, scene: Scene) -> Denoise:
    return _by_classifier(numbers, scene, _unguided(numbers, scene))


def _classifier_without(numbers: Numbers, scene: Scene) -> Denoise:
    return _by_classifier(numbers, scene, _without(numbers, scene))


def _by_classifier(numbers: Numbers, scene: Scene, own: Denoise) -> Denoise:
    guided = guidance.classifier(own, _log_prob(scene), numbers["scale"], scene.gamma_1)
    return guidance.interval(guided, own, numbers["low"], numbers["high"])


def _shifted(numbers: Numbers, scene: Scene, sampler: Sampler) -> Sampler:
    log_prob = _log_prob(scene)

    def inside(z: Array, gamma: Array) -> Array:
        where = (numbers["low"] <= gamma) & (gamma <= numbers["high"])
        return jax.lax.cond(where, lambda z: log_prob(z, gamma), lambda z: jnp.zeros(z.shape[0], z.dtype), z)

    return samplers.shifted(sampler, inside, numbers["scale"])


def _of_conditions(numbers: Numbers, scene: Scene, rule: Rule) -> Denoise:
    """By the condition of the images, and away from the other: dropped, or with the negative label."""
    own, other, negative = dict(scene.condition), dict(scene.condition), numbers[NEGATIVE]
    if LABEL in own:
        other[LABEL] = jnp.where(negative == NONE, own[LABEL], jnp.asarray(negative, own[LABEL].dtype))
    if scene.drops:
        num = jax.tree.leaves(own)[0].shape[:1]
        own = {DROPPED: jnp.zeros(num, jnp.bool_), **own}
        other[DROPPED] = own[DROPPED] | (negative == NONE)
    if scene.together:
        pair = guidance.together(scene.denoiser(guidance.interleaved(own, other)))
    else:
        pair = guidance.apart(scene.denoiser(own), scene.denoiser(other))
    return _in_interval(numbers, scene, guidance.guided(pair, rule))


def _in_interval(numbers: Numbers, scene: Scene, guided: Denoise) -> Denoise:
    return guidance.interval(guided, _unguided(numbers, scene), numbers["low"], numbers["high"])


def _log_prob(scene: Scene) -> Callable[[Array, Gamma], Array]:
    """(z, γ) -> log p(c|z_γ) of the labels of the images."""
    found, variables = scene.companions[CLASSIFIER]

    def log_prob(z: Array, gamma: Gamma) -> Array:
        every = found.log_prob(variables, z, gamma)
        return jnp.take_along_axis(every, scene.condition[LABEL][:, None], axis=1)[:, 0]

    return log_prob
