"""Sampling images from a model, as one compiled program over the mesh, in batches."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Integer, PRNGKeyArray, UInt8

from vdm import guides, guides_checks, likelihoods, memory, parallel, parts, samplers
from vdm.bounds import GammaFn
from vdm.config import SamplingConfig
from vdm.decodings import Decoding
from vdm.errors import InputError
from vdm.evaluation import texts
from vdm.gaussian import Gamma
from vdm.guides import Companion, Guide, Numbers, Scene
from vdm.keys import folded, image_keys
from vdm.model import DROPPED, Condition, Model, Variables, at_precision
from vdm.predictions import Denoise, Prediction
from vdm.samplers import Sampler
from vdm.settings import check

SHOWN, SHOWN_VECTORS = 64, 1024
"""Number of images, or of vectors, in a picture; intermediate frames are kept for these first samples."""

Drawn: TypeAlias = UInt8[np.ndarray, "num *data"] | Float32[np.ndarray, "num *data"]
"""Samples on the host: integers or real numbers."""


def num_shown(shape: Sequence[int]) -> int:
    """Return how many samples of this shape a picture shows.

    >>> num_shown((8, 8, 1)), num_shown((2,))
    (64, 1024)
    """
    return SHOWN if len(shape) == 3 else SHOWN_VECTORS


class NonFiniteLatents(InputError):
    """A sampler produced values that are not finite; the message names the sampler and the step."""


def make_grid(gamma: GammaFn, config: SamplingConfig, model_steps: int | None = None) -> Float[Array, " points"]:
    """Return the γ grid that a config describes, for a model with schedule γ(t).

    A grid of the model's own steps takes some of the `model_steps` of a discrete model: ValueError if there are too
    few.
    """
    grid: samplers.grids.Grid = parts.make("grid", config.grid)
    gammas = grid.gammas(gamma, config.steps, model_steps)
    return samplers.grids.zero_terminal_snr(gammas) if config.zero_terminal_snr else gammas


def with_steps_of(config: SamplingConfig, model_steps: int | None) -> SamplingConfig:
    """Return the settings with `steps` limited to what a discrete model has, if the grid uses the model's own steps.

    Raises `InputError` for settings that cannot be used for sampling.
    """
    check(config, "config.sampling")
    grid: samplers.grids.Grid = parts.make("grid", config.grid)
    if model_steps is None or not grid.own_steps:
        return config
    return replace(config, steps=min(config.steps, model_steps))


def check_steps(config: SamplingConfig, model_steps: int | None) -> None:
    """Raise `InputError` for more steps than a discrete model has, if the grid uses the model's own steps."""
    if with_steps_of(config, model_steps) != config:
        raise InputError(
            f"config.sampling.steps={config.steps}: the model has {model_steps} steps; must be from 1 to {model_steps} "
            f"on the grid {config.grid}, of the model's own steps; or set another config.sampling.grid, such as uniform"
        )


def check_finite(bad_step: Integer[np.ndarray, " batch"], sampler: str, num_steps: int, first: int = 0) -> None:
    """Raise `NonFiniteLatents` if an image became non-finite at some step, as given by `bad_step` (see `samplers.Run`).

    `first` is the number of the first image, for the message.
    """
    bad = np.flatnonzero(bad_step >= 0)
    if bad.size:
        k = bad[np.argmin(bad_step[bad])]
        raise NonFiniteLatents(
            f"sampler {sampler}: z of image {first + k} is not finite from step {bad_step[k] + 1} of {num_steps} on "
            f"({bad.size} of {len(bad_step)} images are not)"
        )


NO_COMPANIONS: Mapping[str, Companion] = MappingProxyType({})
TOGETHER = {"cpu": False, "gpu": True, "tpu": True}
"""Whether one call with a doubled batch is faster than two calls, by platform.

Measured on CPUs only (see the guidance how-to).
"""


def together(guidance_batch: str) -> bool:
    """Return whether `config.sampling.guidance_batch` means one call with a doubled batch on this machine."""
    auto = TOGETHER.get(jax.default_backend(), True)
    return {"auto": auto, "together": True, "apart": False}[guidance_batch]


class Leading(NamedTuple):
    """Inputs of a guided program, as a pytree: a `Guide`'s numbers and conditions, and its companions' variables."""

    numbers: Numbers
    companions: dict[str, Variables]
    others: dict[str, np.ndarray]
    """`Guide.others`, labels or encoded captions, by their entry of the condition."""


class ModelSampling:
    """A model's sampling as a config describes it: guided and clipped denoiser, γ grid, sampler and decoding.

    The batch is sharded over the mesh. Methods take the `leading` of the images to be drawn; by default it is the
    config's.
    """

    def __init__(
        self,
        model: Model,
        mesh: Mesh | None,
        config: SamplingConfig,
        companions: Mapping[str, Companion] = NO_COMPANIONS,
    ):
        """Without a mesh, run on the current device. The networks compute in `config.precision`.

        `companions` are what `config.guidance` needs in addition to the model, by name. Raises `InputError` for more
        steps than the model has, for a precision that its network cannot compute in, and for guidance that the model,
        its companions or the sampler do not allow.
        """
        check_steps(config, model.num_steps)
        self.model, self.config = at_precision(model, config.precision, "sampling"), config
        self.sampler: Sampler = parts.make("sampler", config.sampler)
        self.sharding = None if mesh is None else parallel.batch_sharding(mesh)
        self.guide: Guide = parts.make("guidance", config.guidance)
        self._given = companions
        self.companions = {
            name: each._replace(what=at_precision(each.what, config.precision, "sampling"))
            if isinstance(each.what, Model)
            else each
            for name, each in companions.items()
            if name == self.guide.companion[0]
        }
        self.leading = self.led_by(config.guidance)

    def led_by(self, text: str) -> Leading:
        """Return the inputs for guidance that differs from `config.guidance` only in its numbers.

        Raises `InputError` for any other guidance, and for numbers that the model does not allow.
        """
        try:
            guide: Guide = parts.make("guidance", text)
        except parts.PartError as error:
            raise InputError(str(error)) from error
        if guide.program != self.guide.program:
            raise InputError(f"guidance={text!r}: must be {self.config.guidance!r}, with other numbers if need be")
        self._check(guide, text)
        companions = {name: each.variables for name, each in self.companions.items()}
        return Leading(guide.numbers, companions, self._others(guide, text))

    def _others(self, guide: Guide, text: str) -> dict[str, np.ndarray]:
        if not guide.others:
            return {}
        if not guide.captions:
            return {guides.LABEL: np.array(guide.others, np.int32)}
        try:
            return {guides.TEXT: texts.encode(self._given[guides.TEXT].what, guide.captions)}
        except InputError as error:
            raise InputError(f"config.sampling.guidance={text!r}: {error}") from error

    def condition_for(self, num: int, condition: Condition) -> Condition:
        """Return the model's condition for `num` images, plus the entry that a guidance's companion steers toward.

        Raises ValueError as `Model.condition_for` does, and if the companion's entry is missing.
        """
        own, leads = self.model.condition_for(num, condition), self.guide.leads
        if not leads:
            return own
        if leads not in (condition or {}):
            raise ValueError(f"condition: must have {leads!r}, which the {self.guide.companion[0]} steers toward")
        return {**(own or {}), leads: condition[leads]}

    def denoiser(self, variables: Variables, condition: Condition = None, leading: Leading | None = None) -> Denoise:
        """Return the denoiser, guided and then clipped; the batch and its condition are sharded over the mesh."""
        leading = self.leading if leading is None else leading
        guided = self.guide.denoiser(leading.numbers, self._scene(variables, condition, leading))
        clipped: Callable[[Denoise], Denoise] = parts.make("clipping", self.config.clip)
        return clipped(guided)

    def _scene(self, variables: Variables, condition: Condition, leading: Leading) -> Scene:
        def denoiser(condition: Condition) -> Denoise:
            if self.model.condition:
                condition = self.model.condition_of(condition)
            if self.sharding is not None and condition is not None:
                condition = jax.lax.with_sharding_constraint(condition, self.sharding)

            def denoise(z: Array, gamma: Gamma) -> Prediction:
                if self.sharding is not None:
                    z = jax.lax.with_sharding_constraint(z, self.sharding)
                return self.model.denoiser(variables, condition)(z, gamma)

            return denoise

        return Scene(
            denoiser=denoiser,
            condition=condition,
            labelled=bool(self.model.condition) or not self.guide.leads,
            drops=DROPPED in self.model.conditions,
            together=together(self.config.guidance_batch),
            gamma_1=self.model.gamma(variables, jnp.float32(1)),
            companions={name: Companion(each.what, leading.companions[name]) for name, each in self.companions.items()},
            others={name: jnp.asarray(each) for name, each in leading.others.items()},
        )

    def _check(self, guide: Guide, text: str) -> None:
        try:
            guides_checks.check(guide, self.model, {**self._given, **self.companions})
            if guide.moves_steps:
                # `shifted` refuses a sampler without moments. A deterministic sampler would go unguided.
                samplers.shifted(self.sampler, lambda z, gamma: jnp.zeros(z.shape[0]), 1.0)
                if samplers.is_deterministic(self.sampler, jnp.linspace(2.0, -2.0, 3)):
                    raise ValueError("the sampler draws no noise, so its steps cannot be shifted")
        except ValueError as error:
            sampler = f" with sampler={self.config.sampler!r}" if guide.moves_steps else ""
            raise InputError(f"config.sampling.guidance={text!r}{sampler}: {error}") from error

    def gammas(self, variables: Variables) -> Float[Array, " points"]:
        """Return the noise levels of the sampler's grid, from noise to data."""
        return make_grid(lambda t: self.model.gamma(variables, t), self.config, self.model.num_steps)

    def images(
        self,
        variables: Variables,
        key: PRNGKeyArray,
        first: Array,
        num: int,
        frames: Sequence[int] = (),
        condition: Condition = None,
        leading: Leading | None = None,
    ) -> tuple[likelihoods.Data, Array, Integer[Array, " num"]]:
        """Return images `first` … `first` + `num` − 1, their x̂ at the steps `frames`, and the bad steps.

        For the latter two, see `samplers.Run`.
        """
        _, z_1 = samplers.initial_latents(key, (num, *self.model.shape), first)
        return self.images_from(variables, key, z_1, first, frames, condition, leading)

    def images_from(
        self,
        variables: Variables,
        key: PRNGKeyArray,
        z_1: Float[Array, "num *data"],
        first: int | Array = 0,
        frames: Sequence[int] = (),
        condition: Condition = None,
        leading: Leading | None = None,
    ) -> tuple[likelihoods.Data, Array, Integer[Array, " num"]]:
        """Do the same as `images`, starting from given latents z₁ of the images `first`, …."""
        leading = self.leading if leading is None else leading
        denoise, gammas = self.denoiser(variables, condition, leading), self.gammas(variables)
        sampler = self.guided_sampler(variables, condition, leading)
        z_0, kept, bad_step = samplers.run(key, denoise, sampler, gammas, z_1, frames, first)
        return self.decoded(key, z_0, gammas, first), kept, bad_step

    def guided_sampler(
        self, variables: Variables, condition: Condition = None, leading: Leading | None = None
    ) -> Sampler:
        """Return the sampler, with its steps guided if the guidance acts on steps."""
        leading = self.leading if leading is None else leading
        return self.guide.sampler(leading.numbers, self._scene(variables, condition, leading), self.sampler)

    def decoded(
        self, key: PRNGKeyArray, z_0: Float[Array, "num *data"], gammas: Float[Array, " points"], first: int | Array = 0
    ) -> likelihoods.Data:
        """Decode the latents z₀ at the end of a grid into images."""
        # The fold after that of the last step.
        keys = folded(image_keys(key, len(z_0), first), len(gammas))
        decode: Decoding = parts.make("decoding", self.config.decode)
        return decode(keys, z_0, gammas[-1], self.model.levels)


class ImageSampler:
    """Draws images with the variables of one model; compiles once.

    Image k takes its randomness from fold_in(key, k), so it does not depend on the batch size or the devices. There is
    no buffer to donate: z₁ is created inside the program, whose loop reuses its memory.
    """

    def __init__(
        self,
        model: Model,
        mesh: Mesh,
        config: SamplingConfig,
        frames: Sequence[int] = (),
        companions: Mapping[str, Companion] = NO_COMPANIONS,
    ):
        """Draw `config.batch_size` images per call, rounded up to a multiple of the mesh's devices.

        `frames` lists the steps (0 is the noisiest) at which x̂ is kept, for the first `num_shown` images. `companions`
        are what `config.guidance` needs in addition to the model: {"weak": Companion(model, variables)} or
        {"classifier": Companion(classifier, variables)}. Raises `InputError` as `ModelSampling` does.
        """
        self.batch_size = parallel.round_up(min(config.batch_size, config.num), mesh)
        self.model, self.config = model, config
        of_model = self._of_model = ModelSampling(model, mesh, config, companions)

        def run(
            variables: Variables, leading: Leading, key: PRNGKeyArray, first: Array, condition: Condition
        ) -> tuple[Array, Array, Array]:
            whole, of_guide = parallel.gathered((variables, leading.companions), mesh)
            return of_model.images(
                whole, key, first, self.batch_size, frames, condition, leading._replace(companions=of_guide)
            )

        self._run = jax.jit(run)

    def __call__(
        self,
        variables: Variables,
        key: PRNGKeyArray,
        num: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
        first: int = 0,
        condition: Condition = None,
        guidance: str | None = None,
    ) -> tuple[Drawn, Float[np.ndarray, "kept shown *data"]]:
        """Draw images `first` … `first` + `num` − 1 and return them with the x̂ that were kept.

        Images have integer values 0 … levels−1, or real values; x̂ is in about [−1, 1]. `condition` is that of these
        images, with `num` entries of everything. `guidance` replaces the config's and may differ from it only in its
        numbers, so nothing is recompiled. Raises `NonFiniteLatents`, `InputError` for any other guidance, and
        ValueError for a condition that is not the model's.
        """
        images, frames, config, shown = [], [], self.config, num_shown(self.model.shape)
        leading = self._of_model.leading if guidance is None else self._of_model.led_by(guidance)
        condition = self._of_model.condition_for(num, condition)
        for done in range(0, num, self.batch_size):
            with memory.guarded("sampling", memory.SAMPLING):
                part = padded(condition, done, self.batch_size)
                image, kept, bad_step = parallel.to_host(
                    self._run(variables, leading, key, jnp.asarray(first + done), part)
                )
            check_finite(bad_step[: num - done], config.sampler, config.steps, first + done)
            images.append(image.astype(likelihoods.dtype(self.model.levels)))
            if done < shown:
                frames.append(kept)
            progress(min(done + self.batch_size, num), num)
        return np.concatenate(images)[:num], np.concatenate(frames, axis=1)[:, : min(num, shown)]


def padded(tree: Any, start: int, size: int) -> Any:
    """Return rows `start` … `start` + `size` − 1 of every array, repeating the last row past the end."""

    def rows(array: ArrayLike) -> np.ndarray:
        array = np.asarray(array)
        return array[np.minimum(np.arange(start, start + size), len(array) - 1)]

    return jax.tree.map(rows, tree)


def frame_steps(num_frames: int, num_steps: int) -> list[int]:
    """Return at most `num_frames` increasing steps, evenly spaced from the first to the last."""
    return sorted({round(step) for step in np.linspace(0, num_steps - 1, num_frames)})
