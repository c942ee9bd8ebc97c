"""Importance-weighted bounds on a set of images: K draws of the latents compared with one (Burda et al. 2016)."""

import functools
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray

from vdm import bounds, parallel, precisions
from vdm.data import selection
from vdm.data.dataset import Source
from vdm.evaluation.bound import Progress, total_with_error
from vdm.evaluation.over_images import over_images
from vdm.evaluation.statistics import Groups, Share, stderr_over
from vdm.keys import Keys, keys_at
from vdm.model import Batch, Model, Variables
from vdm.predecessors import diffusion, importance
from vdm.predecessors.latent import LatentModel


@dataclass(frozen=True)
class ImportanceEvaluation:
    """Bounds on a set of images in bits/dim from the same draws, weighting k of them at a time."""

    sizes: tuple[int, ...]
    """The values of k: 1 (the plain bound), its doubles, and last all K draws of an image."""
    bounds: tuple[Share, ...]
    """The bound for each k, averaged over images and over the groups of k draws."""
    gains: tuple[Share, ...]
    """How far each bound is below the plain one, paired by image."""
    effective: Share
    """Effective number of draws (Σ w)²/Σ w², of the K draws of an image."""
    by_image: Float[np.ndarray, " images"] = field(compare=False, repr=False)
    """The bound of each image with all K draws."""
    num_images: int
    num_steps: int | None = None
    """T of a diffusion model. None for other models."""
    stderr_over: str = "images"
    num_available: int | None = None
    precision: str = precisions.FLOAT32

    @property
    def total(self) -> float:
        """The bound with all K draws."""
        return self.bounds[-1].value

    @property
    def stderr(self) -> float | None:
        """Standard error of `total` for images like these, noise included. None for a single image or group."""
        return self.bounds[-1].stderr

    def __str__(self) -> str:
        draws = f"{self.sizes[-1]} draw{'s' * (self.sizes[-1] > 1)}"
        return f"{total_with_error(self.total, self.stderr)} by {draws}, {self.gains[-1]} below the plain bound, paired"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as in the results file."""
        of_sizes = zip(self.sizes, self.bounds, self.gains, strict=True)
        return {
            "bits_per_dim": {"total": self.total, "stderr": self.stderr},
            "by_draws": [{"num_draws": k, "bound": asdict(b), "below_plain": asdict(gain)} for k, b, gain in of_sizes],
            "effective_draws": asdict(self.effective),
            "num_draws": self.sizes[-1],
            **{name: getattr(self, name) for name in ("num_images", "num_steps", "stderr_over", "precision")},
            "images": selection.record(self.num_images, self.num_available or self.num_images),
        }


@functools.singledispatch
def log_weight(
    model: Any, variables: Variables, batch: Batch, keys: Keys, num_steps: int | None
) -> Float[Array, " batch"]:
    """Return log p(x, z)/q(z|x) in nats for one draw of each image's latents, from the image's own key."""
    raise TypeError(f"model is of type {type(model).__name__}: must have latents")


@log_weight.register
def _of_latents(
    model: LatentModel, variables: Variables, batch: Batch, keys: Keys, num_steps: int | None
) -> Float[Array, " batch"]:
    return model.path(variables, batch["image"], model.draw_each(keys)).log_weight


@log_weight.register
def _of_diffusion(
    model: Model, variables: Variables, batch: Batch, keys: Keys, num_steps: int | None
) -> Float[Array, " batch"]:
    assert num_steps is not None
    return diffusion.log_weight(model, variables, batch, keys, num_steps)


class ImportanceEvaluator:
    """Evaluates importance-weighted bounds with the variables of one model; compiles once per number of draws.

    Image k draws its noise from fold_in(key, k), so the result does not depend on the batch size or the devices.
    """

    def __init__(self, model: LatentModel | Model, mesh: Mesh, batch_size: int, num_steps: int | None = None):
        """Set T = `num_steps` for a diffusion model, whatever T it was trained with.

        A call takes `batch_size` images, rounded up to a multiple of the mesh's devices; it needs the memory of one
        draw of each. Raises ValueError for a diffusion model without `num_steps`, that is, in continuous time.
        """
        if isinstance(model, Model) and num_steps is None:
            raise ValueError(
                "num_steps=None: in continuous time there are infinitely many latents; must be a number of steps, T"
            )
        self.model, self.mesh, self.num_steps = model, mesh, num_steps
        self.batch_size = parallel.round_up(batch_size, mesh)

        def of_batch(variables: Variables, key: PRNGKeyArray, batch: Batch, sizes: tuple[int, ...]) -> Estimates:
            variables = parallel.gathered(variables, mesh)
            keys = keys_at(key, batch["index"])

            def of_draw(keys: Keys) -> Float[Array, " batch"]:
                return log_weight(model, variables, batch, keys, num_steps)

            return image_estimates(importance.log_weights(of_draw, keys, sizes[-1]), sizes)

        self._of_batch = jax.jit(of_batch, static_argnums=3)

    def __call__(
        self,
        variables: Variables,
        source: Source,
        key: PRNGKeyArray,
        num_draws: int,
        max_images: int = 0,
        progress: Progress = lambda done, total: None,
    ) -> ImportanceEvaluation:
        """Evaluate all images of `source`, or `max_images` spread over it, with K = `num_draws` draws of each."""
        sizes = doubles(num_draws)
        estimates, groups = over_images(
            lambda batch: self._of_batch(variables, key, batch, sizes),
            source,
            self.mesh,
            self.batch_size,
            max_images,
            progress,
        )
        return to_evaluation(
            estimates,
            sizes,
            self.model.num_dims,
            groups,
            num_steps=self.num_steps,
            num_available=len(source),
            precision=self.model.precision,
        )


class Estimates(NamedTuple):
    """Estimates for each image, from its draws."""

    nats: Float[Array, "batch sizes"]
    """The bound for each size, averaged over the groups of that many draws."""
    effective: Float[Array, " batch"]


def doubles(most: int) -> tuple[int, ...]:
    """Return 1, 2, 4, … below `most`, and then `most` itself.

    >>> doubles(10)
    (1, 2, 4, 8, 10)
    """
    return (*(2**n for n in range((most - 1).bit_length())), most)


def image_estimates(log_weights: Float[Array, "draws batch"], sizes: tuple[int, ...]) -> Estimates:
    """Estimate the bounds from the log weights of K draws, for each of these numbers of draws at a time.

    >>> found = image_estimates(jnp.log(jnp.array([[1.0], [3.0]])), (1, 2))
    >>> [round(float(nats), 3) for nats in found.nats[0]]  # −½ log 3, −log 2
    [-0.549, -0.693]
    >>> round(float(found.effective[0]), 3)  # 4²/(1 + 9)
    1.6
    """
    draws, batch = log_weights.shape

    def of(size: int) -> Float[Array, " batch"]:
        apart = log_weights[: draws // size * size].reshape(-1, size, batch)
        return jnp.mean(jax.vmap(importance.bound)(apart), axis=0)

    effective = jnp.exp(2 * jax.nn.logsumexp(log_weights, axis=0) - jax.nn.logsumexp(2 * log_weights, axis=0))
    return Estimates(jnp.stack([of(size) for size in sizes], axis=1), effective)


def to_evaluation(
    estimates: Estimates, sizes: tuple[int, ...], num_dims: int, groups: Groups | None = None, **rest: Any
) -> ImportanceEvaluation:
    """Compute means and standard errors over all images, in bits/dim."""
    nats, effective = (np.asarray(each, np.float64) for each in estimates)
    bits = np.asarray(bounds.bits_per_dim(nats.T, num_dims))

    mean = functools.partial(Share.mean, groups=groups)

    return ImportanceEvaluation(
        sizes=sizes,
        bounds=tuple(map(mean, bits)),
        gains=tuple(map(mean, bits[0] - bits)),
        effective=mean(effective),
        by_image=bits[-1],
        num_images=len(effective),
        stderr_over=stderr_over(groups),
        **rest,
    )
