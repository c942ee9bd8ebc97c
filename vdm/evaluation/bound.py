"""Bits/dim of a set of images: each exactly once, several noise draws each, with standard errors."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, Key, PRNGKeyArray

from vdm import bounds, likelihoods, memory, parallel, timesteps
from vdm.data import evaluation_batches, num_evaluated
from vdm.data.dataset import Source
from vdm.evaluation import PRECISION
from vdm.evaluation.statistics import stderr_of_draws, stderr_over_images
from vdm.model import Bound, Draws, Model, Variables

TIME_BINS = 32
"""Equal bins of t in which the diffusion loss is also kept apart."""

Progress = Callable[[int, int], None]


class Estimates(NamedTuple):
    """What was measured, image by image, in nats; a round is an independent repetition with all its draws."""

    terms: Float[np.ndarray, "rounds 3 images"]
    """(reconstruction, prior, diffusion) of each image, means over the draws."""
    by_time: Float[np.ndarray, "rounds images bins 5"]
    """In each of the `TIME_BINS`, over the draws: their number, the sums of their diffusion losses, of the losses'
    squares, and of both `control_variates` times the losses' weights.

    Importance-sampled draws count 1/p(t) times: sums stand for uniform times.
    """
    num_draws: int
    """Draws of a round."""
    num_steps: int | None
    """T of the bound; None: continuous time."""
    exact_sum: bool
    """Whether the draws of a round are one or more of each of the T terms."""


@dataclass(frozen=True)
class Evaluation:
    """The bound on a set of images, in bits/dim: means over images and draws."""

    total: float
    reconstruction: float
    prior: float
    diffusion: float
    stderr: float | None
    """Standard error of `total` for images like these: over images, noise included; None of one image."""
    noise_stderr: float | None
    """Standard error of `total` for these very images, from the draws alone; None of a single round."""
    num_images: int
    num_draws: int
    """Network calls an image."""
    num_steps: int | None
    """T of the bound; None: continuous time."""
    exact_sum: bool
    """Whether every one of the T terms was evaluated, instead of a sample of them."""
    variance: float
    """Variance of the diffusion loss of one draw at a uniform time, over images, times and noise: (bits/dim)²."""
    time_mean: Float[np.ndarray, " bins"] = field(compare=False, repr=False)
    """Mean one-draw diffusion loss in each bin of t, bits/dim; NaN where no time fell."""
    time_std: Float[np.ndarray, " bins"] = field(compare=False, repr=False)
    """Its standard deviation over images and noise."""

    def __str__(self) -> str:
        return total_with_error(self.total, self.stderr)

    def to_dict(self) -> dict[str, Any]:
        """The fields as in `evaluation.json`."""
        terms = {name: getattr(self, name) for name in ("total", "reconstruction", "prior", "diffusion")}
        names = ("num_images", "num_draws", "num_steps", "exact_sum", "variance")
        return {
            "bits_per_dim": terms | {"stderr": self.stderr, "noise_stderr": self.noise_stderr},
            **{name: getattr(self, name) for name in names},
        }


class Evaluator:
    """Evaluates the variables of one model; compiled once a batch size, for continuous time and for all T.

    Image k draws its noise from fold_in(key, k), so the result does not depend on batch size or devices. The times of
    an image's draws are stratified, t_d = (d + u)/draws with a u of its own, so images stay independent and the
    standard error over them is that of the whole estimate. Nothing is clipped.
    """

    def __init__(self, model: Model, mesh: Mesh, batch_size: int):
        """`batch_size` images a call, rounded up to a multiple of the mesh's devices."""
        self.model, self.mesh = model, mesh
        self.batch_size = parallel.round_up(batch_size, mesh)

        def batch_bound(variables: Variables, *rest: Any) -> tuple[Bound, Array]:
            return image_bounds(model, parallel.gathered(variables, mesh), *rest)

        self._batch_bound = jax.jit(batch_bound)

    def resized(self, batch_size: int) -> "Evaluator":
        """The same evaluator, with its compiled programs, for batches of another size."""
        other = copy.copy(self)
        other.batch_size = parallel.round_up(batch_size, self.mesh)
        return other

    def __call__(
        self,
        variables: Variables,
        source: Source,
        key: PRNGKeyArray,
        num_draws: int,
        max_images: int = 0,
        progress: Progress = lambda done, total: None,
        num_steps: int | None = None,
    ) -> Evaluation:
        """The bound on every image of `source`, or its first `max_images`, with `num_draws` draws each.

        `num_steps` is T, None continuous time. Where T divides the draws, they are the exact sum over all T terms.
        """
        estimates = self.estimates(
            variables, source, key, num_draws, max_images=max_images, progress=progress, num_steps=num_steps
        )
        return to_evaluation(estimates, self.model.num_dims)

    def estimates(
        self,
        variables: Variables,
        source: Source,
        key: PRNGKeyArray,
        num_draws: int,
        *,
        rounds: int = 1,
        max_images: int = 0,
        progress: Progress = lambda done, total: None,
        num_steps: int | None = None,
        probabilities: Float[np.ndarray, " bins"] | None = None,
        controls: Float[np.ndarray, "bins 2"] | None = None,
        offsets: Callable[[int, np.ndarray], ArrayLike] | None = None,
    ) -> Estimates:
        """The same image by image, for `rounds` independent repetitions of `num_draws` draws.

        With `probabilities`, times are importance-sampled with that density (`timesteps.importance`). With `controls`,
        the `control_variates` are subtracted with these factors of their times' bins. `offsets` gives each image's
        u ∈ [0, 1) from the round and the image's index; by default u is random, or ½ for exact sums.
        """
        total = num_evaluated(source, max_images)
        processes = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        exact_sum = num_steps is not None and num_draws % num_steps == 0 and probabilities is None
        if offsets is None:
            # The middle is away from the edges of the steps, where float32 could miss one.
            offsets = _middle if exact_sum else functools.partial(_uniform, key)
        fixed = [None if v is None else jnp.asarray(v, jnp.float32) for v in (probabilities, controls)]
        terms, by_time, done = [], [], 0
        for batch in evaluation_batches(source, self.batch_size, max_images=max_images, **processes):
            parts = []
            for r in range(rounds):
                batch |= {"offset": np.asarray(offsets(r, batch["index"]), np.float32)}
                sharded = parallel.shard_batch(batch, self.mesh)
                with jax.default_matmul_precision(PRECISION), memory.guarded("evaluation", memory.EVALUATION):
                    result = self._batch_bound(
                        variables, jax.random.fold_in(key, r), sharded, num_draws, num_steps, *fixed
                    )
                    *values, mask = parallel.to_host((*result, sharded["mask"]))
                parts.append(values)
                done += int(mask.sum())
                progress(done, total * rounds)
            terms.append(np.stack([np.stack(bound) for bound, _ in parts])[:, :, mask].astype(np.float64))
            by_time.append(np.stack([bins for _, bins in parts])[:, mask])
        return Estimates(
            np.concatenate(terms, axis=2), np.concatenate(by_time, axis=1), num_draws, num_steps, exact_sum
        )


def image_bounds(
    model: Model,
    variables: Variables,
    key: PRNGKeyArray,
    batch: dict[str, Array],
    num_draws: Integer[ArrayLike, ""],
    num_steps: Integer[ArrayLike, ""] | None = None,
    probabilities: Float[Array, " bins"] | None = None,
    controls: Float[Array, "bins 2"] | None = None,
) -> tuple[Bound, Float[Array, "batch bins 5"]]:
    """Each image's bound in nats, a mean over `num_draws` draws: three terms of shape (batch,); and `by_time`.

    A batch has "image", what the network is conditioned on, "index" and the "offset" u of its stratified times.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch["index"])
    gamma = functools.partial(model.gamma, variables)
    x = likelihoods.encode(batch["image"], model.levels)

    def add_draw(d: Array, sums: tuple[Bound, Array]) -> tuple[Bound, Array]:
        total, by_time = sums
        t, density = stratum(batch["offset"], d, num_draws), jnp.ones(1)
        if probabilities is not None:
            t, density = timesteps.importance(t, probabilities)
        gamma_t, weight = bounds.noise_levels(gamma, t, num_steps)
        draws = Draws(t, image_noise(keys, 2 * d + 1, model.shape), image_noise(keys, 2 * d + 2, model.shape))
        bound = model.bound_at(variables, batch, draws, gamma_t, weight / density)
        # Elementwise sums and not a scatter, which devices would have to exchange.
        here = jax.nn.one_hot(jnp.floor(t * TIME_BINS).astype(jnp.int32), TIME_BINS)
        variates = weight[:, None] * control_variates(x, draws.eps)
        if controls is not None:
            factors = jnp.sum(here[:, :, None] * controls[None], axis=1)
            bound = bound._replace(diffusion=bound.diffusion - jnp.sum(factors * variates, axis=1) / density)
        loss = (bound.diffusion * density)[:, None]
        one_draw = jnp.concatenate([jnp.ones_like(loss), loss, jnp.square(loss), variates], axis=1)
        by_time += here[:, :, None] * (one_draw / density.reshape(-1, 1))[:, None, :]
        return Bound(*(a + b / num_draws for a, b in zip(total, bound, strict=True))), by_time

    zero = Bound(*(jnp.zeros(keys.shape) for _ in range(3)))
    return jax.lax.fori_loop(0, num_draws, add_draw, (zero, jnp.zeros((*keys.shape, TIME_BINS, 5))))


def control_variates(x: Float[Array, "batch *data"], eps: Float[Array, "batch *data"]) -> Float[Array, "batch 2"]:
    """[½ (‖ε‖² − D), ⟨ε, x⟩]: mean 0 over ε for every x, and what the noise of ½ ‖ε − ε̂‖² is largely made of.

    For Gaussian data ε − ε̂ = a ε − b (x − mean), so they are then all of its noise, but for that of ⟨ε, mean⟩.
    """
    axes = tuple(range(1, x.ndim))
    return jnp.stack([0.5 * jnp.sum(jnp.square(eps) - 1, axis=axes), jnp.sum(eps * x, axis=axes)], axis=1)


def image_noise(
    keys: Key[Array, " batch"], stream: Integer[Array, ""], shape: tuple[int, ...]
) -> Float[Array, "batch *data"]:
    """Standard normal noise of an image's key in one of its streams; stream 0 is that of its time offset."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, stream), shape))(keys)


def stratum(
    offsets: Float[Array, " batch"], d: Integer[Array, ""], num_draws: Integer[ArrayLike, ""]
) -> Float[Array, " batch"]:
    """The time (d + u)/num_draws < 1 of draw d = 0 … num_draws − 1, uniform in its stratum if u is."""
    t = (d.astype(jnp.float32) + offsets) / jnp.asarray(num_draws, jnp.float32)
    return jnp.minimum(t, timesteps.ONE_BELOW)


def exact_draws(num_steps: int | None, num_draws: int) -> int:
    """`num_draws`, or the multiple of T nearest below it if there is one: exact sums where they cost no more."""
    return num_draws if num_steps is None or num_steps > num_draws else num_draws - num_draws % num_steps


def bin_centers() -> Float[np.ndarray, " bins"]:
    """The middle of each of the `TIME_BINS`."""
    return (np.arange(TIME_BINS) + 0.5) / TIME_BINS


def total_with_error(total: float, stderr: float | None) -> str:
    """A bound as it is printed, in bits/dim."""
    return f"{total:.4f}" + ("" if stderr is None else f" ± {stderr:.4f}") + " bits/dim"


def to_evaluation(estimates: Estimates, num_dims: int) -> Evaluation:
    """Means and standard errors in bits/dim, float64."""
    terms = bounds.bits_per_dim(estimates.terms, num_dims)
    rounds, _, num = terms.shape
    totals = terms.sum(axis=1)
    reconstruction, prior, diffusion = (float(term) for term in terms.mean(axis=(0, 2)))
    count, first, second = np.moveaxis(estimates.by_time[..., :3].astype(np.float64).sum(axis=(0, 1)), -1, 0)
    first = bounds.bits_per_dim(first, num_dims)
    second = bounds.bits_per_dim(bounds.bits_per_dim(second, num_dims), num_dims)
    with np.errstate(invalid="ignore"):
        mean, square = first / count, second / count
    return Evaluation(
        float(totals.mean()),
        reconstruction,
        prior,
        diffusion,
        stderr_over_images(totals.mean(axis=0)),
        stderr_of_draws(totals),
        num,
        estimates.num_draws * rounds,
        estimates.num_steps,
        estimates.exact_sum,
        time_mean=mean,
        time_std=np.sqrt(np.maximum(square - mean**2, 0)),
        variance=float(second.sum() / count.sum() - (first.sum() / count.sum()) ** 2),
    )


@jax.jit
def _uniform(key: PRNGKeyArray, r: Integer[ArrayLike, ""], index: Integer[ArrayLike, " batch"]) -> Array:
    """A u of its own for each image and round: stream 0 of the image's key."""

    def one(index: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, r), index), 0))

    return jax.vmap(one)(jnp.asarray(index))


def _middle(r: int, index: np.ndarray) -> np.ndarray:
    return np.full(index.shape, 0.5)
