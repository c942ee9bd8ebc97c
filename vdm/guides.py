"""What configs and flags name a guidance by: `classifier_free(1.5, interval=(-4, 3))`.

A `Guide` has the numbers of its text apart from the function that guides with them, so that one compiled program serves
all texts that differ in numbers alone. The mathematics is in `vdm.guidance` and `vdm.samplers.shifted`.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from vdm import guidance, samplers
from vdm.gaussian import Gamma
from vdm.guidance import Rule, Several
from vdm.model import DROPPED, Condition, Model, Variables
from vdm.predictions import Denoise
from vdm.samplers import Sampler, options

CLASSIFIER, CLIP, TEXT = "classifier", "clip", "text"
"""The companion that has labels of its own; an image–text model, which has captions; the one that encodes captions."""
LABEL = "label"
"""The entry of a condition that classifiers are about. Captions are the entry `TEXT`."""
LEADS = {CLASSIFIER: LABEL, CLIP: TEXT}
"""Companions that lead to an entry of a condition, which the model itself may do without."""
NEGATIVE, NONE = "negative", -1
"""The number that is a label to lead away from; no such label."""
MOST = 1000.0
"""Of a scale."""

Numbers = dict[str, Any]
"""Scalars by name: what may be traced."""


class Companion(NamedTuple):
    """What a guidance needs beside the model: a weaker model, a classifier or an image–text model, and its variables.

    A classifier is an object with `log_prob(variables, z, gamma) -> (batch, classes)`, log p(c|z_γ) in nats. An
    image–text model has `image_features(variables, z, gamma)` and `text_features(variables, text)`, both -> (batch,
    features): see `vdm.image_text`. What encodes captions is a `vdm.data.texts.Text`, without variables.
    """

    what: Any
    variables: Variables


def of_text(text: Any) -> dict[str, Companion]:
    """What encodes the captions of a guidance, as a companion; None: nothing."""
    return {} if text is None else {TEXT: Companion(text, {})}


class Scene(NamedTuple):
    """What a guide has to do with when it makes a denoiser."""

    denoiser: Callable[[Condition], Denoise]
    """The model's own, of a condition."""
    condition: Condition
    """That of the images."""
    labelled: bool
    """Whether the model is given it; else it is for a companion alone."""
    drops: bool
    """Whether the model knows images whose condition is dropped."""
    together: bool
    """Whether two conditions go into one network call of twice the batch."""
    gamma_1: Array
    """γ(1), the most noise that the networks know."""
    companions: Mapping[str, Companion]
    others: Mapping[str, Array] = MappingProxyType({})
    """The labels, or the encoded captions, of `Guide.others`: (number of them, …), traced."""


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
    others: tuple[int | str, ...] = ()
    """Labels, or captions, that it leads to or away from beside those of the images."""
    needs_none: bool = False
    """Whether it always asks the model with the condition dropped, if it has one."""

    @property
    def moves_steps(self) -> bool:
        """Whether it is the steps of the sampler that are guided."""
        return self.sampler is not _as_it_is

    @property
    def leads(self) -> str:
        """The entry of a condition that its companion leads to, and that the model may do without; "": none."""
        return LEADS.get(self.companion[0], "")

    @property
    def captions(self) -> tuple[str, ...]:
        """Those of `others`."""
        return tuple(each for each in self.others if isinstance(each, str))

    @property
    def program(self) -> "Guide":
        """What is the same of two guides that one compiled program serves."""
        others = tuple("" if isinstance(each, str) else 0 for each in self.others)
        return self._replace(numbers=dict.fromkeys(self.numbers), others=others)


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
    negative: int | str | None = None,
) -> Guide:
    """(1 + w) of the prediction with the condition, − w of that without (Ho & Salimans 2022): w = `scale`.

    Where γ is in `interval`. `rescale` is the share φ of Lin et al. (2024). `negative` is a label, or a caption, to
    lead away from, in place of none. Two network calls, or one of twice the batch. Raises ValueError for numbers out of
    range.

    >>> classifier_free(1.5, interval=(-4.0, 3.0)).numbers["scale"]
    np.float32(1.5)
    """
    options.check_range("rescale", rescale, 0.0, 1.0)
    numbers = {**_scaled(scale, interval), **_led_away(negative), "rescale": np.float32(rescale)}
    return Guide(numbers, _classifier_free, others=_captions(negative))


def apg(
    scale: float = 1.0,
    eta: float = 0.0,
    norm: float = math.inf,
    interval: tuple[float, float] = (-math.inf, math.inf),
    negative: int | str | None = None,
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
    return Guide(numbers, _projected, others=_captions(negative))


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
    return _towards((CLASSIFIER, folder), _scaled(scale, interval), shifted, unconditional)


def clip(
    scale: float = 3.0,
    interval: tuple[float, float] = (-math.inf, math.inf),
    shifted: bool = False,
    unconditional: bool = False,
    folder: str = "",
) -> Guide:
    """Towards the caption by ε̂ − s σ ∇_z ⟨f(z, γ), g(y)⟩ of an image–text model of noisy images: s = `scale`.

    Nichol et al. (2022, §2.4), and the last formula of Strümke & Langseth, which is `shifted`. f has the length of the
    learned scale of the logits (as in the code that Nichol et al. released; their text has none), so that ⟨f, g⟩ stands
    for log p(y|z) and a constant, and s is that of `classifier`. The model is in `folder`, by default the run's own,
    RUN/clip. The diffusion model may be one without captions; one with captions is given them too, unless
    `unconditional`. Raises ValueError for numbers out of range.

    >>> clip(3.0).companion
    ('clip', '')
    """
    return _towards((CLIP, folder), _scaled(scale, interval), shifted, unconditional)


def needed(model: Model, leads: str) -> list[str]:
    """The entries that a condition must have: the model's, and that which a companion leads to."""
    return list(dict.fromkeys([*model.condition, *([leads] if leads else [])]))


def _scaled(scale: float, interval: tuple[float, float]) -> Numbers:
    options.check_range("scale", scale, -MOST, MOST)
    low, high = interval
    if not low <= high:
        raise ValueError(f"interval={interval}: must be two γ, the lower first")
    return {"scale": np.float32(scale), "low": np.float32(low), "high": np.float32(high)}


def _led_away(negative: int | str | None) -> Numbers:
    if isinstance(negative, int) and not 0 <= negative < 2**31:
        raise ValueError(f"negative={negative}: must be a label, 0 or more")
    return {NEGATIVE: np.int32(negative if isinstance(negative, int) else NONE)}


def _captions(negative: int | str | None) -> tuple[str, ...]:
    if isinstance(negative, str) and not negative.strip():
        raise ValueError("negative='': must be a caption that is not empty, or None")
    return (negative,) if isinstance(negative, str) else ()


def _unguided(numbers: Numbers, scene: Scene) -> Denoise:
    return scene.denoiser(scene.condition if scene.labelled else None)


def _without(numbers: Numbers, scene: Scene) -> Denoise:
    if not scene.drops:
        return _unguided(numbers, scene)
    return scene.denoiser(dropped(scene))


def dropped(scene: Scene) -> Condition:
    """The condition of the images, all of it dropped."""
    return {**scene.condition, DROPPED: jnp.ones(_num(scene), jnp.bool_)}


def own(scene: Scene) -> dict[str, Array]:
    """The condition of the images, none of it dropped unless it says so."""
    return {DROPPED: jnp.zeros(_num(scene), jnp.bool_), **scene.condition} if scene.drops else dict(scene.condition)


def another(scene: Scene, k: int) -> dict[str, Array]:
    """The condition of the images, but with number `k` of the guide's `others`."""
    shapes = {name: (_num(scene), *each.shape[1:]) for name, each in scene.others.items()}
    return own(scene) | {name: jnp.broadcast_to(each[k], shapes[name]) for name, each in scene.others.items()}


def several(scene: Scene, *conditions: Condition) -> Several:
    """The model's predictions with each condition, of the same entries: in one network call, or in one for each."""
    if scene.together:
        return guidance.together(scene.denoiser(guidance.interleaved(*conditions)), len(conditions))
    return guidance.apart(*map(scene.denoiser, conditions))


def _num(scene: Scene) -> int:
    found: int = jax.tree.leaves(scene.condition)[0].shape[0]
    return found


def _classifier_free(numbers: Numbers, scene: Scene) -> Denoise:
    return _of_conditions(numbers, scene, guidance.rescaled(guidance.linear(numbers["scale"]), numbers["rescale"]))


def _projected(numbers: Numbers, scene: Scene) -> Denoise:
    return _of_conditions(numbers, scene, guidance.projected(numbers["scale"], numbers["eta"], numbers["norm"]))


def _autoguidance(numbers: Numbers, scene: Scene) -> Denoise:
    weak, variables = scene.companions["weak"]
    own, other = _unguided(numbers, scene), weak.denoiser(variables, weak.condition_of(scene.condition or {}))
    rule = guidance.rescaled(guidance.linear(numbers["scale"]), numbers["rescale"])
    return _in_interval(numbers, scene, guidance.guided(guidance.apart(own, other), rule))


def _towards(companion: tuple[str, str], numbers: Numbers, shifted: bool, unconditional: bool) -> Guide:
    """By the gradient of what a companion says of the entry that it leads to."""
    if shifted:
        denoiser, sampler = _without if unconditional else _unguided, _shifted
    else:
        denoiser, sampler = _led_without if unconditional else _led, _as_it_is
    return Guide(numbers, denoiser, sampler, companion, needs_none=unconditional)


def _led(numbers: Numbers, scene: Scene) -> Denoise:
    return _by_gradient(numbers, scene, _unguided(numbers, scene))


def _led_without(numbers: Numbers, scene: Scene) -> Denoise:
    return _by_gradient(numbers, scene, _without(numbers, scene))


def _by_gradient(numbers: Numbers, scene: Scene, own: Denoise) -> Denoise:
    guided = guidance.classifier(own, _log_prob(scene), numbers["scale"], scene.gamma_1)
    return guidance.interval(guided, own, numbers["low"], numbers["high"])


def _shifted(numbers: Numbers, scene: Scene, sampler: Sampler) -> Sampler:
    log_prob = _log_prob(scene)

    def inside(z: Array, gamma: Array) -> Array:
        where = (numbers["low"] <= gamma) & (gamma <= numbers["high"])
        return jax.lax.cond(where, lambda z: log_prob(z, gamma), lambda z: jnp.zeros(z.shape[0], z.dtype), z)

    return samplers.shifted(sampler, inside, numbers["scale"])


def _of_conditions(numbers: Numbers, scene: Scene, rule: Rule) -> Denoise:
    """By the condition of the images, and away from the other: dropped, or with the negative label or caption."""
    first, second, negative = own(scene), own(scene), numbers[NEGATIVE]
    if scene.others:
        second = another(scene, 0)
    else:
        if LABEL in first:
            second[LABEL] = jnp.where(negative == NONE, first[LABEL], jnp.asarray(negative, first[LABEL].dtype))
        if scene.drops:
            second[DROPPED] = first[DROPPED] | (negative == NONE)
    return _in_interval(numbers, scene, guidance.guided(several(scene, first, second), rule))


def _in_interval(numbers: Numbers, scene: Scene, guided: Denoise) -> Denoise:
    return guidance.interval(guided, _unguided(numbers, scene), numbers["low"], numbers["high"])


def _log_prob(scene: Scene) -> Callable[[Array, Gamma], Array]:
    """(z, γ) -> log p(c|z_γ) of the labels of the images, or ⟨f(z, γ), g(y)⟩ of their captions."""
    if CLIP in scene.companions:
        clip, variables = scene.companions[CLIP]
        texts = clip.text_features(variables, scene.condition[TEXT])
        return lambda z, gamma: jnp.sum(clip.image_features(variables, z, gamma) * texts, axis=1)
    found, variables = scene.companions[CLASSIFIER]

    def log_prob(z: Array, gamma: Gamma) -> Array:
        every = found.log_prob(variables, z, gamma)
        return jnp.take_along_axis(every, scene.condition[LABEL][:, None], axis=1)[:, 0]

    return log_prob
