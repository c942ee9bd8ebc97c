"""Bits/dim of a set of images: each exactly once, several noise draws each, with a standard error."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, Key, PRNGKeyArray

from vdm import parallel, schedules
from vdm.data import evaluation_batches
from vdm.data.dataset import Source
from vdm.model import Bound, Draws, Model, Variables

PRECISION = "highest"
"""Precision of matrix products while evaluating: float32 proper, not TF32 or bfloat16."""


@dataclass(frozen=True)
class Evaluation:
    """The bound on a set of images, in bits/dim: means over images and draws."""

    total: float
    reconstruction: float
    prior: float
    diffusion: float
    stderr: float | None
    """Standard error of `total`: standard deviation over images of their mean over draws, by √images; None of one."""
    num_images: int
    num_draws: int

    def __str__(self) -> str:
        return f"{self.total:.4f}" + ("" if self.stderr is None else f" ± {self.stderr:.4f}") + " bits/dim"

    def to_dict(self) -> dict[str, Any]:
        """The fields as in `evaluation.json`."""
        terms = {name: getattr(self, name) for name in ("total", "reconstruction", "prior", "diffusion")}
        return {
            "bits_per_dim": terms | {"stderr": self.stderr},
            "num_images": self.num_images,
            "num_draws": self.num_draws,
        }


class Evaluator:
    """Evaluates the variables of one model, with one compilation.

    Image k draws its noise from fold_in(key, k), so the result does not depend on batch size or devices. The times of
    an image's draws are stratified, t_d = (u + d/draws) mod 1 with a u of its own, so images stay independent and the
    standard error over them is that of the whole estimate. Nothing is clipped.
    """

    def __init__(self, model: Model, mesh: Mesh, batch_size: int):
        """`batch_size` images a call, rounded up to a multiple of the mesh's devices."""
        self.model, self.mesh = model, mesh
        self.batch_size = parallel.round_up(batch_size, mesh)
        self._batch_bound = jax.jit(functools.partial(image_bounds, model))

    def __call__(
        self,
        variables: Variables,
        source: Source,
        key: PRNGKeyArray,
        num_draws: int,
        max_images: int = 0,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Evaluation:
        """The evaluation of every image of `source`, or of its first `max_images`, with `num_draws` draws each."""
        total = min(len(source), max_images) if max_images else len(source)
        processes = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        parts, done = [], 0
        for batch in evaluation_batches(source, self.batch_size, max_images=max_images, **processes):
            with jax.default_matmul_precision(PRECISION):
                bound = self._batch_bound(variables, key, parallel.shard_batch(batch, self.mesh), num_draws)
            mask, *terms = (np.asarray(value) for value in jax.device_get((batch["mask"], *bound)))
            parts.append(np.stack(terms).astype(np.float64)[:, mask])
            done += int(mask.sum())
            progress(done, total)
        return summarize(np.concatenate(parts, axis=1), self.model.num_dims, num_draws)


def image_bounds(
    model: Model, variables: Variables, key: PRNGKeyArray, batch: dict[str, Array], num_draws: Integer[ArrayLike, ""]
) -> Bound:
    """Each image's bound in nats, averaged over `num_draws` draws: three terms of shape (batch,)."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch["index"])
    offsets = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, 0)))(keys)

    def add_draw(d: Array, total: Bound) -> Bound:
        draws = image_draws(keys, offsets, d, num_draws, model.shape)
        gamma_t, slope = schedules.gamma_and_slope(model.schedule, variables["schedule"], draws.t)
        bound = model.bound_at(variables, {"image": batch["image"]}, draws, gamma_t, slope)
        return Bound(*(a + b / num_draws for a, b in zip(total, bound, strict=True)))

    zero = Bound(*(jnp.zeros(batch["index"].shape) for _ in range(3)))
    return jax.lax.fori_loop(0, num_draws, add_draw, zero)


def image_draws(
    keys: Key[Array, " batch"],
    offsets: Float[Array, " batch"],
    d: Integer[Array, ""],
    num_draws: Integer[ArrayLike, ""],
    shape: tuple[int, ...],
) -> Draws:
    """Draw d of `num_draws` for images with these keys and time offsets."""

    def noise(which: int) -> Array:
        def one(key: PRNGKeyArray) -> Array:
            return jax.random.normal(jax.random.fold_in(key, 2 * d + which), shape)

        return jax.vmap(one)(keys)

    return Draws((offsets + d / num_draws) % 1.0, noise(1), noise(2))


def summarize(nats: Float[np.ndarray, "terms images"], num_dims: int, num_draws: int) -> Evaluation:
    """Means and standard error in bits/dim, float64, of per-image (reconstruction, prior, diffusion) in nats."""
    bits = nats / (num_dims * np.log(2))
    num = bits.shape[1]
    totals = bits.sum(axis=0)
    stderr = float(totals.std(ddof=1) / np.sqrt(num)) if num > 1 else None
    reconstruction, prior, diffusion = (float(term) for term in bits.mean(axis=1))
    return Evaluation(float(totals.mean()), reconstruction, prior, diffusion, stderr, num, num_draws)
