"""A model's deterministic samplers as maps from latents to images, and from images to latents and back."""

from collections.abc import Mapping
from typing import TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Float32, Integer, PRNGKeyArray, UInt8

from vdm import gaussian, likelihoods, parallel, parts, samplers
from vdm.config import SamplingConfig
from vdm.errors import InputError
from vdm.evaluation.bound import Progress
from vdm.evaluation.images import NO_COMPANIONS, Drawn, Leading, ModelSampling, check_finite, padded
from vdm.guides import Companion
from vdm.model import Condition, Model, Variables

Frames: TypeAlias = UInt8[np.ndarray, "frames pairs *data"] | Float32[np.ndarray, "frames pairs *data"]


class Latents:
    """Interpolates between the latents of images, and inverts images; compiles each once."""

    def __init__(
        self,
        model: Model,
        mesh: Mesh,
        config: SamplingConfig,
        variables: Variables,
        companions: Mapping[str, Companion] = NO_COMPANIONS,
    ):
        """For `companions`, see `ImageSampler`.

        Raises `InputError` for a sampler or decoding that draws noise, and as `ModelSampling` does.
        """
        self.model, self.mesh, self.config, self.variables = model, mesh, config, variables
        self._of_model = ModelSampling(model, mesh, config, companions)
        gammas = jax.jit(self._of_model.gammas)(variables)
        if not samplers.is_deterministic(self._of_model.sampler, gammas):
            raise InputError(
                f"config.sampling.sampler={config.sampler!r}: draws noise at every step, so that no image follows from "
                "its latents; must be deterministic: ddim, euler, heun, dpm_solver_pp, unipc"
            )
        if parts.read("decoding", config.decode).name == "draw":
            raise InputError(
                "config.sampling.decode='draw': draws noise, so that no image follows from its latents; must be "
                "mode or mean"
            )

    def interpolate(
        self,
        key: PRNGKeyArray,
        num_pairs: int,
        num_frames: int,
        progress: Progress = lambda done, total: None,
        condition: Condition = None,
    ) -> Frames:
        """Interpolate from image 2k of the key to image 2k + 1 in row k, through `num_frames` slerped latents.

        `condition` has `num_pairs` entries of everything, one for each row. Raises `NonFiniteLatents`, and ValueError
        for a condition that is not the model's.
        """
        batch = parallel.round_up(num_pairs, self.mesh)
        condition = padded(self._of_model.condition_for(num_pairs, condition), 0, batch)
        _, z_1 = samplers.initial_latents(key, (2 * batch, *self.model.shape))
        frames, slerp, decode = [], jax.jit(samplers.slerp), jax.jit(self._decode)
        for done, weight in enumerate(np.linspace(0, 1, num_frames, dtype=np.float32), 1):
            image, bad_step = parallel.to_host(
                decode(self.variables, self._of_model.leading, slerp(z_1[::2], z_1[1::2], weight), condition)
            )
            check_finite(bad_step[:num_pairs], self.config.sampler, self.config.steps)
            frames.append(image.astype(likelihoods.dtype(self.model.levels))[:num_pairs])
            progress(done, num_frames)
        return np.stack(frames)

    def reconstruct(
        self,
        images: Drawn,
        progress: Progress = lambda done, total: None,
        condition: Condition = None,
    ) -> Drawn:
        """Invert `images` by DDIM, up the grid from z₀ = α₀ x, and return the sampler's images from these latents.

        `condition` is that of the images. Raises `NonFiniteLatents`, and ValueError for a condition that is not the
        model's.
        """
        num = len(images)
        condition = self._of_model.condition_for(num, condition)
        batch = parallel.round_up(min(self.config.batch_size, num), self.mesh)
        run, parts = jax.jit(self._there_and_back), []
        for done in range(0, num, batch):
            image, bad_up, bad_down = parallel.to_host(
                run(self.variables, self._of_model.leading, *padded((images, condition), done, batch))
            )
            check_finite(bad_up, "ddim, inverting", self.config.steps, done)
            check_finite(bad_down, self.config.sampler, self.config.steps, done)
            parts.append(image.astype(likelihoods.dtype(self.model.levels)))
            progress(min(done + batch, num), num)
        return np.concatenate(parts)[:num]

    def _decode(
        self, variables: Variables, leading: Leading, z_1: Float[Array, "batch *data"], condition: Condition
    ) -> tuple[likelihoods.Data, Integer[Array, " batch"]]:
        """Return (images, steps after which they were no longer finite)."""
        # A deterministic sampler never uses its key.
        image, _, bad_step = self._of_model.images_from(
            variables, jax.random.key(0), z_1, condition=condition, leading=leading
        )
        return image, bad_step

    def _there_and_back(
        self, variables: Variables, leading: Leading, images: likelihoods.Data, condition: Condition
    ) -> tuple[likelihoods.Data, Integer[Array, " batch"], Integer[Array, " batch"]]:
        denoise, gammas = self._of_model.denoiser(variables, condition, leading), self._of_model.gammas(variables)
        z_0 = gaussian.alpha(gammas[-1]) * likelihoods.encode(images, self.model.levels)
        up = samplers.run(jax.random.key(0), denoise, samplers.ddim(), gammas[::-1], z_0)
        image, bad_down = self._decode(variables, leading, up.z_0, condition)
        return image, up.bad_step, bad_down


def to_frames(
    images: UInt8[np.ndarray, "*shape"] | Float32[np.ndarray, "*shape"], levels: int
) -> Float[np.ndarray, "*shape"]:
    """Map values 0 … levels−1 to −1 (black) … 1 (white) in float32, as `pictures.strip` and `animation` need them.

    Real numbers are returned unchanged.
    """
    if levels == likelihoods.REAL:
        return images
    return images.astype(np.float32) * (2 / (levels - 1)) - 1


def mean_absolute_error(images: Drawn, others: Drawn) -> float:
    """Return the mean absolute error over all images and values, in gray levels or in the units of real data."""
    return float(np.mean(np.abs(images.astype(np.float32) - others.astype(np.float32))))
