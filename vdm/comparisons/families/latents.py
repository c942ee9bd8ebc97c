"""Measurements on a trained model: its bound by layer, its samples and its aggregate posterior."""

import functools
from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num, PRNGKeyArray

from vdm import bounds, likelihoods, parallel, parts
from vdm.data import examples
from vdm.data.selection import selected
from vdm.decodings import Decoding
from vdm.evaluation import holes
from vdm.evaluation.bound import Evaluator, exact_draws
from vdm.evaluation.images import ImageSampler
from vdm.evaluation.importance import ImportanceEvaluator
from vdm.evaluation.latent_bound import LatentEvaluator
from vdm.evaluation.over_images import over_images
from vdm.keys import Stream, folded, image_keys, keys_at, normal_per_image
from vdm.model import Batch
from vdm.predecessors.normal import Normal
from vdm.runs.open import Run

Samples = Num[np.ndarray, "num *data"]

HOLE = 0.1
"""A hole is a region where q(z_T) is below this fraction of p(z_T)."""


class Trained(ABC):
    """A trained run with its data, ready to be measured."""

    def __init__(self, run: Run):
        self.run, self.model, self.variables = run, run.model, run.variables
        self.settings, self.test = run.config.evaluation, run.dataset.test
        self.key = run.key(Stream.EVALUATION)

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the network."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.variables["network"]))

    @abstractmethod
    def bound(self) -> dict[str, Any]:
        """Return bits_per_dim, stderr, reconstruction, rates and active units on the test examples."""

    def importance(self, draws: int) -> float | None:
        """Return the importance-weighted bound in bits/dim; None in continuous time, with infinitely many latents."""
        evaluate = ImportanceEvaluator(self.model, self.run.mesh, self.settings.batch_size, self.num_steps)
        return evaluate(self.variables, self.test, self.key, draws).total

    num_steps: int | None = None
    """Number of time steps T of a diffusion model; None for continuous time and other models."""

    @abstractmethod
    def samples(self, num: int) -> Samples:
        """Draw samples from the prior."""

    @abstractmethod
    def samples_from_aggregate(self, num: int) -> Samples | None:
        """Draw samples with z_T from the aggregate posterior; None for models where it is the prior by construction."""

    @abstractmethod
    def posterior(self, images: Samples) -> Normal:
        """Return q(z_T|x) of each image."""

    def hole(self, points: int) -> dict[str, float]:
        """Compare the aggregate posterior of `points` training examples with the prior."""
        found = holes.holes(self.posterior(self._training(points)), self.run.key(Stream.AGGREGATE))
        below = next(each for each in found.below if each.factor == HOLE)
        return {
            "kl": found.forward.value,
            "kl_stderr": found.forward.stderr or 0.0,
            "reverse": found.reverse.value,
            "mmd": found.mmd.value,
            "information": found.information.value,
            "share": below.share,
        }

    def _training(self, num: int) -> Samples:
        """Return up to `num` different examples from all over the training split."""
        source = self.run.dataset.train
        return examples(source, selected(len(source), min(num, len(source))))["image"]


class Predecessor(Trained):
    """A VAE or a hierarchical VAE."""

    def __init__(self, run: Run, decode: str):
        super().__init__(run)
        self._decode: Decoding = parts.make("decoding", decode)

    def bound(self) -> dict[str, Any]:
        """Evaluate the bound with `LatentEvaluator`."""
        evaluate = LatentEvaluator(self.model, self.run.mesh, self.settings.batch_size)
        result = evaluate(self.variables, self.test, self.key, self.settings.draws)
        return {
            "bits_per_dim": result.total,
            "stderr": result.stderr,
            "reconstruction": result.reconstruction.value,
            "rates": [rate.value for rate in result.rates],
            "active": list(result.active),
        }

    def posterior(self, images: Samples) -> Normal:
        """Compute the posteriors with the encoder."""
        return holes.posteriors(self.model, self.variables, images, self.key)

    def samples(self, num: int) -> Samples:
        """Draw samples from the prior, image k with its own key."""
        return self._drawn(num)

    def samples_from_aggregate(self, num: int) -> Samples | None:
        """Draw z_T from the posteriors of training examples in turn, using the same noise as `samples`."""
        images = self._training(num)
        return self._drawn(num, self.posterior(images[np.arange(num) % len(images)]))

    def _drawn(self, num: int, of_top: Normal | None = None) -> Samples:
        @jax.jit
        def draw(variables: Any, of_top: Normal | None) -> Array:
            keys = image_keys(self.run.key(Stream.SAMPLING), num)
            eps = self.model.draw_each(keys)
            observed = self.model.generate(variables, eps, None if of_top is None else of_top.draw(eps[-1]))
            return self._decode(folded(keys, 0), observed.z_0, observed.gamma, self.model.levels)

        return np.asarray(draw(self.variables, of_top), likelihoods.dtype(self.model.levels))


class Diffusion(Trained):
    """A diffusion model in discrete time (T steps) or continuous time."""

    def __init__(self, run: Run):
        super().__init__(run)
        self.num_steps = self.model.num_steps

    def bound(self) -> dict[str, Any]:
        """Evaluate the bound with `Evaluator`; in discrete time also the rate of each step, starting with z_0."""
        num_steps = self.num_steps
        evaluate = Evaluator(self.model, self.run.mesh, self.settings.batch_size)
        draws = exact_draws(num_steps, self.settings.draws)
        result = evaluate(self.variables, self.test, self.key, draws, num_steps=num_steps)
        return {
            "bits_per_dim": result.total,
            "stderr": result.stderr,
            "reconstruction": result.reconstruction,
            "rates": None if num_steps is None else [*self._rates(num_steps), result.prior],
            "active": None,
        }

    def _rates(self, num_steps: int) -> list[float]:
        """Return KL(q(z_s|z_t, x) ‖ p(z_s|z_t)) of each step in bits/dim, starting with s = 0."""

        @jax.jit
        def of_batch(variables: Any, batch: Batch, key: PRNGKeyArray) -> Array:
            variables = parallel.gathered(variables, self.run.mesh)
            x = likelihoods.encode(batch["image"], self.model.levels)
            keys = keys_at(key, batch["index"])
            eps, denoise = normal_per_image(keys, x.shape), self.model.denoiser(variables)

            def at(step: Array) -> Array:
                loss = bounds.discrete_diffusion_loss(
                    denoise,
                    lambda t: self.model.gamma(variables, t),
                    x,
                    jnp.full(x.shape[:1], step),
                    eps,
                    num_steps,
                )
                return bounds.bits_per_dim(loss / num_steps, self.model.num_dims)

            return jax.lax.map(at, jnp.arange(1, num_steps + 1)).T

        batch_size, found = parallel.round_up(self.settings.batch_size, self.run.mesh), []
        for key in jax.random.split(self.key, self.settings.draws):
            of_key = functools.partial(of_batch, self.variables, key=key)
            found.append(over_images(of_key, self.test, self.run.mesh, batch_size)[0])
        means: list[float] = np.concatenate(found).mean(axis=0).tolist()
        return means

    def importance(self, draws: int) -> float | None:
        """Return the importance-weighted bound in discrete time; None in continuous time."""
        return None if self.num_steps is None else super().importance(draws)

    def posterior(self, images: Samples) -> Normal:
        """Return q(z_1|x) = N(α_1 x, σ_1²)."""
        gamma_1 = float(self.model.gamma(self.variables, jnp.float32(1)))
        return holes.diffused(likelihoods.encode(images, self.model.levels), gamma_1)

    def samples(self, num: int) -> Samples:
        """Draw samples with the config's sampler."""
        sampler = ImageSampler(self.model, self.run.mesh, self.run.config.sampling)
        return sampler(self.variables, self.run.key(Stream.SAMPLING), num)[0]

    def samples_from_aggregate(self, num: int) -> Samples | None:
        """Return None: the prior matches by construction."""
        return None
