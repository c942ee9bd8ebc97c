"""Guidances as configs and flags name them: `classifier_free(1.5, interval=(-4, 3))`.

A `Guide` keeps the numbers of such a text separate from the function that guides with them, so that one compiled
program serves all texts that differ in numbers only. The mathematics is in `vdm.guidance` and `vdm.samplers.shifted`.
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
"""Names of companions: a classifier, which is about labels; an image–text model; and the encoder of captions."""
LABEL = "label"
"""Entry of a condition that classifiers are about. Captions are the entry `TEXT`."""
LEADS = {CLASSIFIER: LABEL, CLIP: TEXT}
"""Companions that lead towards an entry of a condition, which the model itself need not be conditioned on."""
NEGATIVE, NONE = "negative", -1
"""Name of the number that holds a label to lead away from, and its value for no label."""
MOST = 1000.0
"""Largest absolute value of a scale."""

Numbers = dict[str, Any]
"""Scalars by name, which may be traced."""


class Companion(NamedTuple):
    """What a guidance needs beside the model: a weaker model, a classifier or an image–text model, and its variables.

    A classifier is an object with `log_prob(variables, z, gamma) -> (batch, classes)`, log p(c|z_γ) in nats. An
    image–text model has `image_features(variables, z, gamma)` and `text_features(variables, text)`, both -> (batch,
    features): see `vdm.image_text`. An encoder of captions is a `vdm.data.texts.Text`, which has no variables.
    """

    what: Any
    variables: Variables


def of_text(text: Any) -> dict[str, Companion]:
    """The encoder of captions of a guidance, as a companion; None gives no companion."""
    return {} if text is None else {TEXT: Companion(text, {})}


class Scene(NamedTuple):
    """Everything that a guide is given to make a denoiser."""

    denoiser: Callable[[Condition], Denoise]
    """Condition -> the model's own denoiser."""
    condition: Condition
    """Condition of the images."""
    labelled: bool
    """Whether the model is given the condition; otherwise only a companion uses it."""
    drops: bool
    """Whether the model was trained with dropped conditions."""
    together: bool
    """Whether the predictions for several conditions are made in one network call with a larger batch."""
    gamma_1: Array
    """γ(1), the highest noise level that the networks know."""
    companions: Mapping[str, Companion]
    others: Mapping[str, Array] = MappingProxyType({})
    """The labels or encoded captions of `Guide.others`, traced, with shape (number of others, …)."""


def _as_it_is(numbers: Numbers, scene: Scene, sampler: Sampler) -> Sampler:
    return sampler


class Guide(NamedTuple):
    """A guidance, made from the text that names it."""

    numbers: Numbers
    denoiser: Callable[[Numbers, Scene], Denoise]
    """Returns the guided denoiser for `Scene.condition`."""
    sampler: Callable[[Numbers, Scene, Sampler], Sampler] = _as_it_is
    """Returns the guided sampler, for a guidance that acts on the sampler's steps."""
    companion: tuple[str, str] = ("", "")
    """Name of the needed companion in `Scene.companions`, and which one it is: for "weak", a checkpoint."""
    others: tuple[int | str, ...] = ()
    """Labels or captions, beside those of the images, that it leads towards or away from."""
    needs_none: bool = False
    """Whether it always needs the model's prediction with the condition dropped, if the model has one."""

    @property
    def moves_steps(self) -> bool:
        """Whether the guidance acts on the sampler's steps."""
        return self.sampler is not _as_it_is

    @property
    def leads(self) -> str:
        """The entry of a condition that the companion leads towards, which the model need not have; "" for none."""
        return LEADS.get(self.companion[0], "")

    @property
    def captions(self) -> tuple[str, ...]:
        """The captions among `others`."""
        return tuple(each for each in self.others if isinstance(each, str))

    @property
    def program(self) -> "Guide":
        """The guide without its values: equal for two guides that one compiled program can serve."""
        others = tuple("" if isinstance(each, str) else 0 for each in self.others)
        return self._replace(numbers=dict.fromkeys(self.numbers), others=others)


def none() -> Guide:
    """No guidance: the model as it is.

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
    """Classifier-free guidance (Ho & Salimans 2022) with w = `scale`, where γ is in `interval`.

    The result is 1 + w times the prediction with the condition, minus w times the one without. `rescale` is the share φ
    of Lin et al. (2024). `negative` is a label or caption to lead away from, in place of no condition. Two network
    calls, or one with twice the batch. Raises ValueError for numbers out of range.

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
    """Adaptive projected guidance (Sadat et al. 2024): classifier-free, but weaker along x̂ and bounded.

    `eta` is the share kept of the component along x̂. `norm` is the largest length of the change at w = 1, over the
    data dimensions. Raises ValueError for numbers out of range.

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
    """Guidance away from a weaker model with the same condition (Karras et al. 2024, whose w is 1 + `scale`).

    `weak` is a checkpoint of the same run (a step, `best`, or `oldest`, the first one that the run still has), or
    another run's: RUN or RUN:CHECKPOINT. Raises ValueError for numbers out of range.

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
    """Guidance towards the label by the gradient of a classifier of noisy images (Dhariwal & Nichol 2021): s = `scale`.

    It changes ε̂, for every sampler, or, with `shifted`, the mean of each step of a stochastic sampler (Strümke &
    Langseth, Eq. 43). The classifier is in `folder`, by default the run's own, RUN/classifier. The model may be
    unconditional; a label-conditional model is given the labels too (Wang, Eq. 8), unless `unconditional`. Raises
    ValueError for numbers out of range.

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
    """Guidance towards the caption by ε̂ − s σ ∇_z ⟨f(z, γ), g(y)⟩ of an image–text model of noisy images: s = `scale`.

    Nichol et al. (2022, §2.4); `shifted` is the last formula of Strümke & Langseth. The length of f is the learned
    scale of the logits (as in the code that Nichol et al. released; their paper omits it), so that ⟨f, g⟩ stands for
    log p(y|z) up to a constant, and s means the same as in `classifier`. The image–text model is in `folder`, by
    default the run's own, RUN/clip. The diffusion model may be unconditional; a caption-conditional one is given the
    captions too, unless `unconditional`. Raises ValueError for numbers out of range.

    >>> clip(3.0).companion
    ('clip', '')
    """
    return _towards((CLIP, folder), _scaled(scale, interval), shifted, unconditional)


def needed(model: Model, leads: str) -> list[str]:
    """The entries that a condition must have: the model's own, and the one that a companion leads towards."""
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
    """The condition of the images, with all of it dropped."""
    return {**scene.condition, DROPPED: jnp.ones(_num(scene), jnp.bool_)}


def own(scene: Scene) -> dict[str, Array]:
    """The condition of the images, with none of it dropped unless it says so itself."""
    return {DROPPED: jnp.zeros(_num(scene), jnp.bool_), **scene.condition} if scene.drops else dict(scene.condition)


def another(scene: Scene, k: int) -> dict[str, Array]:
    """The condition of the images, with number `k` of the guide's `others` in place of their own label or caption."""
    shapes = {name: (_num(scene), *each.shape[1:]) for name, each in scene.others.items()}
    return own(scene) | {name: jnp.broadcast_to(each[k], shapes[name]) for name, each in scene.others.items()}


def several(scene: Scene, *conditions: Condition) -> Several:
    """The model's predictions for several conditions of the same entries, in one network call or in one call each."""
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
    """Guide by the gradient of a companion's score for the entry that it leads towards."""
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
    """Guide towards the images' condition and away from the other one: dropped, or the negative label or caption."""
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
