"""Images from a model with learned latents: samples, interpolations, and reconstructions of given images."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from vdm import likelihoods, memory, parallel, parts, samplers
from vdm.decodings import Decoding
from vdm.errors import InputError
from vdm.evaluation.bound import Progress
from vdm.evaluation.images import Drawn, padded
from vdm.evaluation.latents import Frames
from vdm.keys import Keys, folded, image_keys, keys_at
from vdm.model import Variables, at_precision
from vdm.predecessors.config import LatentSamplingConfig
from vdm.predecessors.latent import Eps, LatentModel, Observed


class LatentSampler:
    """Draws images with the variables of one model; compiles each method once.

    Image k takes its randomness from fold_in(key, k), so it does not depend on the batch size or the devices.
    """

    draws = True
    """Whether there is a prior to sample from."""

    def __init__(self, model: LatentModel, mesh: Mesh, config: LatentSamplingConfig):
        """Draw `config.batch_size` images per call, rounded up to a multiple of the mesh's devices.

        Raises `InputError` for a precision that the network cannot compute in.
        """
        self.model, self.mesh, self.config = at_precision(model, config.precision, "sampling"), mesh, config
        self.batch_size = parallel.round_up(config.batch_size, mesh)
        self._decode: Decoding = parts.make("decoding", config.decode)
        self._of_draws, self._of_images = jax.jit(self._drawn), jax.jit(self._again)
        self._of_noise = jax.jit(self._between)

    def __call__(
        self,
        variables: Variables,
        key: PRNGKeyArray,
        num: int,
        progress: Progress = lambda done, total: None,
        first: int = 0,
    ) -> Drawn:
        """Draw samples `first` … `first` + `num` − 1 from the prior."""

        def of_batch(done: int) -> Array:
            return self._of_draws(variables, key, jnp.asarray(first + done))

        return self._in_batches(of_batch, num, progress)

    def reconstruct(
        self, variables: Variables, key: PRNGKeyArray, images: Drawn, progress: Progress = lambda done, total: None
    ) -> Drawn:
        """Reconstruct each image from one draw of its latents."""

        def of_batch(done: int) -> Array:
            return self._of_images(variables, key, jnp.asarray(done), padded(images, done, self.batch_size))

        return self._in_batches(of_batch, len(images), progress)

    def interpolate(
        self,
        variables: Variables,
        key: PRNGKeyArray,
        num_pairs: int,
        num_frames: int,
        progress: Progress = lambda done, total: None,
    ) -> Frames:
        """Interpolate from draw 2k to draw 2k + 1 in row k, in `num_frames` frames.

        The noise of all layers is interpolated by slerp. Raises `InputError` for a decoding that draws noise.
        """
        if parts.read("decoding", self.config.decode).name == "draw":
            raise InputError("config.sampling.decode='draw': no image follows from its latents; must be mode or mean")
        weights = np.linspace(0, 1, num_frames, dtype=np.float32)
        frames = []
        for done, weight in enumerate(weights, 1):
            frames.append(self._to_images(self._of_noise(variables, key, np.arange(num_pairs), weight)))
            progress(done, num_frames)
        return np.stack(frames)

    def _in_batches(self, of_batch: Callable[[int], Array], num: int, progress: Progress) -> Drawn:
        parts = []
        for done in range(0, num, self.batch_size):
            with memory.guarded("sampling", memory.SAMPLING):
                parts.append(self._to_images(of_batch(done)))
            progress(min(done + self.batch_size, num), num)
        return np.concatenate(parts)[:num]

    def _to_images(self, images: Array) -> Drawn:
        found: Drawn = parallel.to_host(images).astype(likelihoods.dtype(self.model.levels))
        return found

    def _drawn(self, variables: Variables, key: PRNGKeyArray, first: Array) -> Array:
        keys = self._keys(key, first)
        eps = self._spread(self.model.draw_each(keys))
        return self._image(keys, self.model.generate(self._whole(variables), eps))

    def _again(self, variables: Variables, key: PRNGKeyArray, first: Array, images: Array) -> Array:
        keys = self._keys(key, first)
        images, eps = self._spread((images, self.model.draw_each(keys)))
        return self._image(keys, self.model.reconstruct(self._whole(variables), images, eps))

    def _between(self, variables: Variables, key: PRNGKeyArray, pairs: Array, weight: Array) -> Array:
        def noise(which: int) -> Eps:
            return self.model.draw_each(keys_at(key, 2 * pairs + which))

        eps = [samplers.slerp(one, other, weight) for one, other in zip(noise(0), noise(1), strict=True)]
        return self._image(image_keys(key, len(pairs)), self.model.generate(self._whole(variables), eps))

    def _image(self, keys: Keys, observed: Observed) -> Array:
        # Folds 1 … T belong to the layers.
        return self._decode(folded(keys, 0), observed.z_0, observed.gamma, self.model.levels)

    def _keys(self, key: PRNGKeyArray, first: Array) -> Keys:
        return image_keys(key, self.batch_size, first)

    def _spread(self, batch: Any) -> Any:
        return jax.lax.with_sharding_constraint(batch, parallel.batch_sharding(self.mesh))

    def _whole(self, variables: Variables) -> Any:
        return parallel.gathered(variables, self.mesh)
