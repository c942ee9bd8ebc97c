"""Images from a ladder network: it denoises given images and cannot generate new ones."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from vdm import likelihoods, memory, parallel
from vdm.data.dataset import Source
from vdm.errors import InputError
from vdm.evaluation.bound import Progress
from vdm.evaluation.images import Drawn, padded
from vdm.evaluation.ladder import LadderEvaluator
from vdm.keys import image_keys
from vdm.model import Variables, at_precision
from vdm.predecessors.config import LatentSamplingConfig
from vdm.predecessors.ladder import LadderNetwork, Statistics


class LadderDenoiser:
    """Denoises images with the variables of one ladder network; compiles once.

    Image k draws its noise from fold_in(key, k). The statistics are those of training images.
    """

    draws = False

    def __init__(self, model: LadderNetwork, mesh: Mesh, config: LatentSamplingConfig, training: Source):
        """Denoise `config.batch_size` images per call, rounded up to a multiple of the mesh's devices.

        Raises `InputError` for a precision that the network cannot compute in.
        """
        self.model, self.mesh = at_precision(model, config.precision, "sampling"), mesh
        self.batch_size = parallel.round_up(config.batch_size, mesh)
        self._calibrate = LadderEvaluator(self.model, mesh, self.batch_size, training).calibrate
        self._denoise = jax.jit(self._denoised)

    def __call__(self, *_: Any, **__: Any) -> Drawn:
        """Raise `InputError`: a ladder network is not a generative model."""
        raise InputError("a ladder network has no prior to draw from; --reconstruct=N shows how it denoises images")

    interpolate = __call__

    def reconstruct(
        self, variables: Variables, key: PRNGKeyArray, images: Drawn, progress: Progress = lambda done, total: None
    ) -> Drawn:
        """Return x̂ of each image with noise at every layer, rounded to the nearest value for integer data."""
        num, found, statistics = len(images), [], self._calibrate(variables, key)
        for done in range(0, num, self.batch_size):
            part = padded(images, done, self.batch_size)
            with memory.guarded("sampling", memory.SAMPLING):
                found.append(parallel.to_host(self._denoise(variables, statistics, key, jnp.asarray(done), part)))
            progress(min(done + self.batch_size, num), num)
        return np.concatenate(found)[:num].astype(likelihoods.dtype(self.model.levels))

    def _denoised(
        self, variables: Variables, statistics: Statistics, key: PRNGKeyArray, first: Array, images: Array
    ) -> Array:
        eps = self.model.draw_each(image_keys(key, self.batch_size, first))
        images, eps = jax.lax.with_sharding_constraint((images, eps), parallel.batch_sharding(self.mesh))
        whole = parallel.gathered(variables, self.mesh)
        return likelihoods.decode(self.model.denoise(whole, statistics, images, eps), self.model.levels)
