"""Bits/dim of a model with learned latents on a set of images, by term, and the number of latents in use."""

import functools
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import bounds, parallel, precisions
from vdm.data import selection
from vdm.data.dataset import Source
from vdm.evaluation.bound import Progress, total_with_error
from vdm.evaluation.over_images import over_images
from vdm.evaluation.statistics import Groups, Share, stderr_over, stderr_over_images
from vdm.keys import Keys, folded, keys_at
from vdm.model import Variables
from vdm.predecessors.latent import LatentModel

ACTIVE = 0.01
"""A unit is active if the variance of its posterior mean is above this (Burda et al. 2016, §5.2)."""


@dataclass(frozen=True)
class LatentEvaluation:
    """The bound of a model with learned latents on a set of images in bits/dim, averaged over images and draws."""

    total: float
    stderr: float | None
    """Standard error of `total` for images like these, noise included; see `stderr_over`. None for one image."""
    noise_stderr: float | None
    """Standard error of `total` for this exact set of images, from the noise draws alone. None for a single draw."""
    reconstruction: Share
    """−log p(x|z_1)."""
    rates: tuple[Share, ...]
    """KL(q ‖ p) of z_t for layers 1 … T; without a closed form, log q/p at the draw."""
    unit_variances: tuple[Float[np.ndarray, " units"], ...] = field(compare=False, repr=False)
    """For each unit of layers 1 … T: variance of (posterior mean − prior mean) / prior standard deviation.

    The variance is over images and draws of the layers that the unit depends on. For a standard normal prior it is that
    of Burda et al. (2016).
    """
    by_image: Float[np.ndarray, " images"] = field(compare=False, repr=False)
    """`total` of each image."""
    num_dims: int
    """Number of data dimensions of an image."""
    num_images: int
    num_draws: int
    """Draws of the latents per image."""
    groups: Groups | None = field(default=None, compare=False, repr=False)
    """Group of each image, if the data have an entry "group"."""
    stderr_over: str = "images"
    num_available: int | None = None
    precision: str = precisions.FLOAT32

    @property
    def active(self) -> tuple[int, ...]:
        """Number of units in use in layers 1 … T."""
        return tuple(int((variances > ACTIVE).sum()) for variances in self.unit_variances)

    @property
    def terms(self) -> dict[str, Share]:
        """Reconstruction and rate_1 … rate_T, under the names used in logs."""
        rates = {f"rate_{t}": rate for t, rate in enumerate(self.rates, 1)}
        return {"reconstruction": self.reconstruction} | rates

    @property
    def in_use(self) -> str:
        """How many of all units are active in each layer, as text."""
        of_layers = zip(self.active, self.unit_variances, strict=True)
        return f"active units {', '.join(f'{active} of {len(units)}' for active, units in of_layers)}"

    def nats(self, bits_per_dim: float) -> float:
        """Convert bits/dim to nats per image."""
        return bits_per_dim * self.num_dims * float(np.log(2))

    def __str__(self) -> str:
        return f"{total_with_error(self.total, self.stderr)}, {self.in_use}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are written to `evaluation.json`."""
        layers = [
            {"rate": asdict(rate), "units": len(variances), "active": active, "unit_variances": variances.tolist()}
            for rate, variances, active in zip(self.rates, self.unit_variances, self.active, strict=True)
        ]
        total = {"total": self.total, "stderr": self.stderr, "noise_stderr": self.noise_stderr}
        return {
            "bits_per_dim": total | {name: term.value for name, term in self.terms.items()},
            "reconstruction": asdict(self.reconstruction),
            "layers": layers,
            **{name: getattr(self, name) for name in ("num_dims", "num_images", "num_draws", "stderr_over")},
            "images": selection.record(self.num_images, self.num_available or self.num_images),
            "precision": self.precision,
        }


class LatentEvaluator:
    """Evaluates a model with learned latents with given variables; compiles once.

    Image k draws its noise from fold_in(key, k), so the result does not depend on the batch size or the devices.
    """

    def __init__(self, model: LatentModel, mesh: Mesh, batch_size: int):
        """Evaluate `batch_size` images per call, rounded up to a multiple of the mesh's devices."""
        self.model, self.mesh = model, mesh
        self.batch_size = parallel.round_up(batch_size, mesh)

        def of_batch(variables: Variables, *rest: Any) -> Estimates:
            return image_estimates(model, parallel.gathered(variables, mesh), *rest)

        self._of_batch = jax.jit(of_batch)

    def __call__(
        self,
        variables: Variables,
        source: Source,
        key: PRNGKeyArray,
        num_draws: int,
        max_images: int = 0,
        progress: Progress = lambda done, total: None,
    ) -> LatentEvaluation:
        """Evaluate all images of `source`, or `max_images` spread over it, with `num_draws` draws of latents each."""
        estimates, groups = over_images(
            lambda batch: self._of_batch(variables, key, batch, num_draws),
            source,
            self.mesh,
            self.batch_size,
            max_images,
            progress,
        )
        return to_evaluation(
            estimates,
            self.model.num_dims,
            num_draws,
            groups,
            num_available=len(source),
            precision=self.model.precision,
        )


class Estimates(NamedTuple):
    """Estimates for each image, over its draws."""

    terms: Float[Array, "batch terms"]
    """Means of the reconstruction term and of the layers' rates, in nats."""
    deviations: Float[Array, " batch"]
    """Sum of the squared deviations of the bound from its mean."""
    shifts: tuple[Float[Array, "batch *dims"], ...]
    """For each layer, the mean of (posterior mean − prior mean) / prior standard deviation."""
    squares: tuple[Float[Array, "batch *dims"], ...]
    """The mean of its square."""


def draw_keys(key: PRNGKeyArray, index: Integer[Array, " batch"], d: int | Array) -> Keys:
    """Return the key for draw d of each image's latents: fold_in(fold_in(key, index), d)."""
    return folded(keys_at(key, index), d)


def image_estimates(
    model: LatentModel,
    variables: Variables,
    key: PRNGKeyArray,
    batch: dict[str, Array],
    num_draws: Integer[ArrayLike, ""],
) -> Estimates:
    """Compute the estimates for each image of a batch with "image" and "index"."""

    def add(d: Array, before: Estimates) -> Estimates:
        path = model.path(variables, batch["image"], model.draw_each(draw_keys(key, batch["index"], d)))
        # Running means and Welford's sum of squares avoid subtracting large numbers.
        step = jnp.stack([path.reconstruction, *path.rates], axis=1) - before.terms
        terms = before.terms + step / (d + 1)
        off = jnp.sum(step, axis=1)
        shifts = [(q.mean - p.mean) * jnp.exp(-p.log_std) for q, p in zip(path.posteriors, path.priors, strict=True)]
        return Estimates(
            terms,
            before.deviations + jnp.square(off) * d / (d + 1),
            tuple(old + (new - old) / (d + 1) for old, new in zip(before.shifts, shifts, strict=True)),
            tuple(old + (new**2 - old) / (d + 1) for old, new in zip(before.squares, shifts, strict=True)),
        )

    size = len(batch["image"])
    none = tuple(jnp.zeros((size, *shape)) for shape in model.latent_shapes)
    start = Estimates(jnp.zeros((size, 1 + model.num_layers)), jnp.zeros(size), none, none)
    return jax.lax.fori_loop(0, num_draws, add, start)


def to_evaluation(
    estimates: Estimates, num_dims: int, num_draws: int, groups: Groups | None = None, **rest: Any
) -> LatentEvaluation:
    """Compute means and standard errors over all images."""
    terms, deviations = (np.asarray(each, np.float64) for each in (estimates.terms, estimates.deviations))
    bits = np.asarray(bounds.bits_per_dim(terms, num_dims))
    by_image, num = bits.sum(axis=1), len(bits)

    mean = functools.partial(Share.mean, groups=groups)

    noise = None
    if num_draws > 1:
        variance = deviations.sum() / (num_draws * (num_draws - 1))
        noise = float(bounds.bits_per_dim(np.sqrt(variance) / num, num_dims))
    reconstruction, *rates = map(mean, bits.T)
    return LatentEvaluation(
        total=float(by_image.mean()),
        stderr=stderr_over_images(by_image, groups),
        noise_stderr=noise,
        reconstruction=reconstruction,
        rates=tuple(rates),
        unit_variances=tuple(map(_variances, estimates.shifts, estimates.squares)),
        by_image=by_image,
        num_dims=num_dims,
        num_images=num,
        num_draws=num_draws,
        groups=groups,
        stderr_over=stderr_over(groups),
        **rest,
    )


def _variances(shifts: ArrayLike, squares: ArrayLike) -> Float[np.ndarray, " units"]:
    """Return E[s²] − E[s]² of each unit, over images and draws."""
    mean, square = (np.asarray(each, np.float64).mean(axis=0).ravel() for each in (shifts, squares))
    return np.maximum(square - np.square(mean), 0.0)
