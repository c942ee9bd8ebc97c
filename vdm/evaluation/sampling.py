"""Images from a model: ancestral sampling as one compiled program over the mesh, in batches."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import likelihoods, parallel, samplers
from vdm.model import Model, Variables


class ImageSampler:
    """Draws images from the variables of one model, with one compilation.

    Image k takes its randomness from fold_in(key, k): the same image whatever the batch size and the devices.
    """

    def __init__(self, model: Model, mesh: Mesh, batch_size: int, num_steps: int, frames: Sequence[int] = ()):
        """`batch_size` images a call, rounded up to a multiple of the mesh's devices.

        `frames` are the steps (0 the noisiest) whose guesses x̂ are kept.
        """
        self.batch_size = parallel.round_up(batch_size, mesh)
        sharding = parallel.batch_sharding(mesh)

        def run(variables: Variables, key: PRNGKeyArray, first: Array) -> tuple[Array, Array]:
            def denoise(z: Array, gamma: Array) -> Array:
                return model.denoise(variables, jax.lax.with_sharding_constraint(z, sharding), gamma)

            gammas = samplers.grid(lambda t: model.gamma(variables, t), num_steps)
            shape = (self.batch_size, *model.shape)
            z_0, kept = samplers.sample_trajectory(key, denoise, samplers.ancestral(), gammas, shape, frames, first)
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
