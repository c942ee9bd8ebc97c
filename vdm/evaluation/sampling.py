"""Images from a model: sampling as one compiled program over the mesh, in batches."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import likelihoods, parallel, samplers
from vdm.bounds import GammaFn
from vdm.config import SamplingConfig
from vdm.gaussian import Gamma
from vdm.model import Model, Variables
from vdm.predictions import Denoiser

CLIPPING = {"none": lambda denoise: denoise, "static": samplers.clipping.static, "dynamic": samplers.clipping.dynamic}


def make_grid(gamma: GammaFn, config: SamplingConfig) -> Float[Array, " points"]:
    """The γ grid that a config describes, for a model's γ(t)."""
    if config.grid == "schedule":
        gammas = samplers.grid(gamma, config.steps)
    else:
        ends = gamma(jnp.float32(0)), gamma(jnp.float32(1))
        gammas = getattr(samplers.grids, config.grid)(*ends, config.steps)
    return samplers.grids.zero_terminal_snr(gammas) if config.zero_terminal_snr else gammas


class ImageSampler:
    """Draws images from the variables of one model, with one compilation.

    Image k takes its randomness from fold_in(key, k): the same image whatever the batch size and the devices.
    """

    def __init__(self, model: Model, mesh: Mesh, config: SamplingConfig, frames: Sequence[int] = ()):
        """`config.batch_size` images a call, rounded up to a multiple of the mesh's devices.

        `frames` are the steps (0 the noisiest) whose guesses x̂ are kept.
        """
        self.batch_size = parallel.round_up(min(config.batch_size, config.num), mesh)
        sharding, sampler = parallel.batch_sharding(mesh), samplers.parse(config.sampler)

        def run(variables: Variables, key: PRNGKeyArray, first: Array) -> tuple[Array, Array]:
            def pair(z: Array, gamma: Gamma) -> tuple[Array, Array]:
                return model.denoiser(variables).pair(jax.lax.with_sharding_constraint(z, sharding), gamma)

            denoise = CLIPPING[config.clip](Denoiser(pair))
            gammas = make_grid(lambda t: model.gamma(variables, t), config)
            shape = (self.batch_size, *model.shape)
            z_0, kept = samplers.sample_trajectory(key, denoise, sampler, gammas, shape, frames, first)
            return likelihoods.mode(z_0, gammas[-1], model.levels), kept

        self._run = jax.jit(run)

    def __call__(
        self,
        variables: Variables,
        key: PRNGKeyArray,
        num: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> tuple[Integer[np.ndarray, "num height width channels"], Float[np.ndarray, "kept num height width channels"]]:
        """(`num` images with integer values 0 … levels−1, the kept x̂ in about [−1, 1])."""
        images, frames = [], []
        for first in range(0, num, self.batch_size):
            image, kept = jax.device_get(self._run(variables, key, jnp.asarray(first)))
            images.append(image)
            frames.append(kept)
            progress(min(first + self.batch_size, num), num)
        return np.concatenate(images)[:num].astype(np.uint8), np.concatenate(frames, axis=1)[:, :num]


def frame_steps(num_frames: int, num_steps: int) -> list[int]:
    """At most `num_frames` steps spread evenly from the first to the last, increasing."""
    return sorted({round(step) for step in np.linspace(0, num_steps - 1, num_frames)})
