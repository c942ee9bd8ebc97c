"""The bound in bits/dim on a set of images: each image exactly once, several noise draws each, with standard errors."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, Key, PRNGKeyArray

from vdm import bounds, likelihoods, memory, parallel, precisions, timesteps
from vdm.data import evaluation_batches, num_evaluated, selected, selection
from vdm.data.dataset import Source
from vdm.evaluation.rounding import IMAGES, Rounding, to_rounding
from vdm.evaluation.statistics import Groups, stderr_of_draws, stderr_over, stderr_over_images
from vdm.keys import keys_at
from vdm.model import Bound, Draws, Model, Variables

TIME_BINS = 32
"""Number of equal bins of t in which the diffusion loss is also recorded separately."""

Progress = Callable[[int, int], None]


class Scheme(NamedTuple):
    """A plan for the noise draws: pairs of draws, each at its own time within the pair's stratum of u ∈ [0, 1)."""

    quantiles: Float[ArrayLike, " points"] | None
    """Times t at equally spaced u from 0 to 1, interpolated linearly in between. None: t = u."""
    edges: Float[ArrayLike, " edges"]
    """Edges, in t, of the bins that `controls` refers to."""
    controls: Float[ArrayLike, "bins 2"]
    """Coefficients with which the two `control_variates` are subtracted in each bin."""


class Estimates(NamedTuple):
    """Per-image measurements in nats. A round is an independent repetition of all the draws."""

    terms: Float[np.ndarray, "rounds 3 images"]
    """(reconstruction, prior, diffusion) of each image, averaged over the draws."""
    by_time: Float[np.ndarray, "rounds images bins 5"]
    """Sums over the draws in each of the `TIME_BINS`.

    The five entries are: number of draws, diffusion loss, squared diffusion loss, and both `control_variates` times the
    loss's weight. The losses are the plain ones, without control variates subtracted. An importance-sampled draw counts
    1/p(t) times, so the sums are those of uniform times.
    """
    num_draws: int
    """Number of noise draws per image in each round."""
    num_steps: int | None
    """T of the bound. None: continuous time."""
    exact_sum: bool
    """Whether each round evaluates every one of the T terms at least once, instead of sampling them."""
    draw_variance: Float[np.ndarray, "rounds images"] | None = None
    """Unbiased estimate of the variance of an image's bound over the draws of a round. None for unpaired draws."""
    groups: Groups | None = None
    """Group of each image, if the data have an entry "group"."""
    num_available: int | None = None
    """Number of images that the evaluated ones were chosen from. None: all images were evaluated."""


@dataclass(frozen=True)
class Evaluation:
    """The bound on a set of images in bits/dim, averaged over images and draws."""

    total: float
    reconstruction: float
    prior: float
    diffusion: float
    stderr: float | None
    """Standard error of `total` for images like these, noise included.

    `stderr_over` names the independent units. None for a single image or group.
    """
    noise_stderr: float | None
    """Standard error of `total` for this exact set of images, from the noise draws alone.

    None for a single round of unpaired draws.
    """
    num_images: int
    num_draws: int
    """Network calls per image."""
    num_steps: int | None
    """T of the bound. None: continuous time."""
    exact_sum: bool
    """Whether every one of the T terms was evaluated, instead of a sample of them."""
    variance: float
    """Variance of the diffusion loss of one draw at a uniform time, over images, times and noise, in (bits/dim)²."""
    time_mean: Float[np.ndarray, " bins"] = field(compare=False, repr=False)
    """Mean diffusion loss of one draw in each bin of t, in bits/dim. NaN for a bin without draws."""
    time_std: Float[np.ndarray, " bins"] = field(compare=False, repr=False)
    """Standard deviation of the diffusion loss of one draw in each bin of t, over images and noise, in bits/dim."""
    by_image: Float[np.ndarray, " images"] = field(compare=False, repr=False)
    """`total` of each image."""
    groups: Groups | None = field(default=None, compare=False, repr=False)
    """Group of each image, if the data have an entry "group"."""
    stderr_over: str = "images"
    """What `stderr` treats as independent: "images", or "groups (3)" if the data say which images belong together."""
    num_available: int | None = None
    """Number of images that the evaluated ones were chosen from. None: all images were evaluated."""
    precision: str = precisions.FLOAT32
    """Precision of the network's computation, e.g. "bfloat16"."""
    rounding: Rounding | None = None
    """Effect of that precision on `total`. None for float32, and where the device computes the precision as float32."""

    def __str__(self) -> str:
        total = total_with_error(self.total, self.stderr)
        return total if self.precision == precisions.FLOAT32 else f"{total} ({self.accuracy})"

    @property
    def accuracy(self) -> str:
        """The precision and its measured effect, as text.

        For example "float32", "tf32, as float32 on this device" or "bfloat16: +0.0003 ± 0.0001 against float32 on 64
        images".
        """
        if self.rounding is not None:
            return f"{self.precision}: {self.rounding}"
        return self.precision + precisions.AS_FLOAT32 * (self.precision != precisions.FLOAT32)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are written to `evaluation.json`."""
        terms = {name: getattr(self, name) for name in ("total", "reconstruction", "prior", "diffusion")}
        names = ("num_images", "num_draws", "num_steps", "exact_sum", "variance", "stderr_over")
        return {
            "bits_per_dim": terms | {"stderr": self.stderr, "noise_stderr": self.noise_stderr},
            **{name: getattr(self, name) for name in names},
            "images": selection.record(self.num_images, self.num_available or self.num_images),
            "precision": self.precision,
            "against_float32": None if self.rounding is None else self.rounding.to_dict(),
        }


class Evaluator:
    """Evaluates the bound with the variables of one model.

    For each batch size, it compiles once for continuous time and once for all T. The network computes in the model's
    precision, everything else in float32.

    Image k draws its noise from fold_in(key, k), so the result does not depend on the batch size or the devices. The
    times of an image's draws are stratified: t_d = (d + u)/draws, with a separate u for each image. Images therefore
    stay independent, and the standard error over them is that of the whole estimate. Nothing is clipped.
    """

    def __init__(self, model: Model, mesh: Mesh, batch_size: int):
        """Set the number of images per call to `batch_size`, rounded up to a multiple of the mesh's devices."""
        self.model, self.mesh = model, mesh
        self.batch_size = parallel.round_up(batch_size, mesh)

        def batch_bound(variables: Variables, *rest: Any) -> tuple[Bound, Array, Array]:
            return image_bounds(model, parallel.gathered(variables, mesh), *rest)

        self._batch_bound = jax.jit(batch_bound)

    def resized(self, batch_size: int) -> "Evaluator":
        """Return an evaluator for another batch size that shares this one's compiled programs."""
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
        scheme: Scheme | None = None,
    ) -> Evaluation:
        """Evaluate the bound on all images of `source`, or `max_images` spread over it, with `num_draws` draws each.

        `num_steps` is T; None is continuous time. If T divides the number of draws (with a scheme at uniform times, of
        pairs), they give the exact sum over all T terms, Eq. 3.105 of De Sousa Ribeiro & Glocker (2024). For `scheme`,
        see `estimates`. In a precision other than float32, `IMAGES` of the images are evaluated again in float32 with
        the same draws: see `Evaluation.rounding`.
        """
        of_all = selected(len(source), max_images)
        again = selected(len(source), min(IMAGES, len(of_all)))
        if precisions.is_float32(self.model.precision, self.mesh.devices.flat[0]):
            again = again[:0]
        num = len(of_all) + len(again)
        draws: dict[str, Any] = {"num_draws": num_draws, "num_steps": num_steps, "scheme": scheme}
        estimates = self.estimates(
            variables, source, key, **draws, max_images=max_images, progress=lambda done, total: progress(done, num)
        )
        result = replace(to_evaluation(estimates, self.model.num_dims), precision=self.model.precision)
        if not len(again):
            return result
        # With the full batch size, most of the batch would be padding.
        in_float32 = self._in_float32.resized(min(self.batch_size, len(again))).estimates(
            variables,
            source,
            key,
            **draws,
            max_images=len(again),
            progress=lambda done, total: progress(len(of_all) + done, num),
        )
        bits, exact = (
            bounds.bits_per_dim(terms.sum(axis=1).mean(axis=0), self.model.num_dims)
            # A smaller selection is always a subset of a larger one.
            for terms in (estimates.terms[:, :, np.searchsorted(of_all, again)], in_float32.terms)
        )
        return replace(result, rounding=to_rounding(bits, exact, in_float32.groups))

    @functools.cached_property
    def _in_float32(self) -> "Evaluator":
        """The same evaluator in float32, cached so that it compiles once."""
        return Evaluator(self.model.computed_in(precisions.FLOAT32), self.mesh, self.batch_size)

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
        scheme: Scheme | None = None,
        offsets: Callable[[int, np.ndarray], ArrayLike] | None = None,
    ) -> Estimates:
        """Estimate the bound image by image, in `rounds` independent repetitions of `num_draws` draws.

        With a `scheme`, draws come in pairs and `draw_variance` is estimated from them; an odd `num_draws` is then a
        ValueError. `offsets` maps the round and the images' indices to their u ∈ [0, 1); a scheme's draws are then
        unpaired, and `by_time` uses the scheme's bins. By default u is random, or ½ for exact sums.
        """
        total = num_evaluated(source, max_images)
        in_pairs = scheme is not None and offsets is None
        if in_pairs and num_draws % 2:
            raise ValueError(f"num_draws={num_draws}: must be even with a scheme, whose draws come in pairs")
        processes = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        strata = num_draws // 2 if in_pairs else num_draws
        uniform = scheme is None or scheme.quantiles is None
        exact_sum = num_steps is not None and strata % num_steps == 0 and uniform
        if offsets is None and not in_pairs:
            offsets = own_offsets(key, exact_sum)
        if scheme is not None:
            scheme = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), scheme)
        terms, by_time, variances, groups, done = [], [], [], [], 0
        for batch in evaluation_batches(source, self.batch_size, max_images=max_images, **processes):
            parts = []
            sharded = parallel.shard_batch(batch, self.mesh)
            for r in range(rounds):
                if offsets is not None:
                    offset = {"offset": np.asarray(offsets(r, batch["index"]), np.float32)}
                    sharded |= parallel.shard_batch(offset, self.mesh)
                # Applies to everything outside the network.
                exact = precisions.products(precisions.FLOAT32)
                with exact, memory.guarded("evaluation", memory.EVALUATION):
                    result = self._batch_bound(
                        variables, jax.random.fold_in(key, r), sharded, num_draws, num_steps, scheme
                    )
                    *values, mask = parallel.to_host((*result, sharded["mask"]))
                parts.append(values)
                done += int(mask.sum())
                progress(done, total * rounds)
            terms.append(np.stack([np.stack(bound) for bound, *_ in parts])[:, :, mask].astype(np.float64))
            by_time.append(np.stack([bins for _, bins, _ in parts])[:, mask])
            variances.append(np.stack([squares for *_, squares in parts])[:, mask].astype(np.float64) / num_draws**2)
            if "group" in batch:
                groups.append(parallel.to_host(sharded["group"])[mask])
        return Estimates(
            np.concatenate(terms, axis=2),
            np.concatenate(by_time, axis=1),
            num_draws,
            num_steps,
            exact_sum,
            draw_variance=np.concatenate(variances, axis=1) if in_pairs else None,
            groups=np.concatenate(groups) if groups else None,
            num_available=len(source),
        )


def image_bounds(
    model: Model,
    variables: Variables,
    key: PRNGKeyArray,
    batch: dict[str, Array],
    num_draws: Integer[ArrayLike, ""],
    num_steps: Integer[ArrayLike, ""] | None = None,
    scheme: Scheme | None = None,
) -> tuple[Bound, Float[Array, "batch bins 5"], Float[Array, " batch"]]:
    """Return (bound, `by_time`, sum of squared differences) of each image, in nats, over `num_draws` draws.

    The bound's three terms are averaged over the draws, shape (batch,). `by_time` is as in `Estimates`, but in the
    scheme's bins if a scheme is used with offsets. A batch has "image", the network's conditions, "index" and,
    optionally, "offset", the u of the stratified times. Without offsets, draws 2j and 2j + 1 have independent times in
    stratum j, and the sum is that of the squared differences within the pairs: divided by `num_draws`², it estimates
    the variance of the bound over the draws without bias.
    """
    keys = keys_at(key, batch["index"])
    gamma = functools.partial(model.gamma, variables)
    x = likelihoods.encode(batch["image"], model.levels)

    def time(d: Array) -> Array:
        if "offset" in batch:
            return stratum(batch["offset"], d, num_draws)
        return stratum(image_uniform(keys, d), d // 2, jnp.asarray(num_draws, jnp.int32) // 2)

    def by_bin(t: Array) -> Array:
        if scheme is None or "offset" not in batch:
            return jax.nn.one_hot(jnp.floor(t * TIME_BINS).astype(jnp.int32), TIME_BINS)
        return _bins(scheme.edges, t)

    def add_draw(d: Array, carry: tuple[Bound, Array, Array, Array]) -> tuple[Bound, Array, Array, Array]:
        total, by_time, squares, previous = carry
        t, measure = time(d), jnp.ones(1)
        if scheme is not None and scheme.quantiles is not None:
            t, measure = timesteps.by_quantiles(t, scheme.quantiles)
        gamma_t, weight = bounds.noise_levels(gamma, t, num_steps)
        draws = Draws(t, image_noise(keys, 2 * d + 1, model.shape), image_noise(keys, 2 * d + 2, model.shape))
        bound = model.bound_at(variables, batch, draws, gamma_t, weight)
        variates = weight[:, None] * control_variates(x, draws.eps)
        one_draw = jnp.stack([jnp.ones_like(weight), bound.diffusion, jnp.square(bound.diffusion)], axis=1)
        one_draw = jnp.concatenate([one_draw, variates], axis=1)
        by_time += by_bin(t)[:, :, None] * (one_draw * measure.reshape(-1, 1))[:, None, :]
        diffusion = bound.diffusion
        if scheme is not None:
            controls = jnp.sum(_bins(scheme.edges, t)[:, :, None] * jnp.asarray(scheme.controls)[None], axis=1)
            diffusion -= jnp.sum(controls * variates, axis=1)
        bound = bound._replace(diffusion=diffusion * measure)
        value = bound.reconstruction + bound.prior + bound.diffusion
        squares += jnp.where(d % 2 == 1, jnp.square(value - previous), 0.0)
        return Bound(*(a + b / num_draws for a, b in zip(total, bound, strict=True))), by_time, squares, value

    zero = jnp.zeros(keys.shape)
    start = (Bound(zero, zero, zero), jnp.zeros((*keys.shape, TIME_BINS, 5)), zero, zero)
    return jax.lax.fori_loop(0, num_draws, add_draw, start)[:3]


def _bins(edges: Float[ArrayLike, " edges"], t: Float[Array, " batch"]) -> Float[Array, "batch bins"]:
    """Return a one-hot encoding of each time's bin.

    The sums that follow are then elementwise; a scatter would make the devices communicate.
    """
    num = jnp.asarray(edges).shape[0] - 1
    k = jnp.searchsorted(jnp.asarray(edges), t, side="right") - 1
    return jax.nn.one_hot(jnp.clip(k, 0, num - 1), num)


def control_variates(x: Float[Array, "batch *data"], eps: Float[Array, "batch *data"]) -> Float[Array, "batch 2"]:
    """Return [½ (‖ε‖² − D), ⟨ε, x⟩], which have mean 0 over ε for every x and explain most of the noise of ½ ‖ε − ε̂‖².

    For Gaussian data, ε − ε̂ = a ε − b (x − mean), so that they explain all of it except the noise of ⟨ε, mean⟩.
    """
    axes = tuple(range(1, x.ndim))
    return jnp.stack([0.5 * jnp.sum(jnp.square(eps) - 1, axis=axes), jnp.sum(eps * x, axis=axes)], axis=1)


def image_noise(
    keys: Key[Array, " batch"], stream: Integer[Array, ""] | Integer[Array, " batch"], shape: tuple[int, ...]
) -> Float[Array, "batch *data"]:
    """Draw standard normal noise from one stream of each image's key; stream 0 is reserved for the time offset."""

    def one(key: PRNGKeyArray, stream: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, stream), shape)

    return jax.vmap(one)(keys, jnp.broadcast_to(stream, keys.shape))


def image_uniform(keys: Key[Array, " batch"], d: Integer[Array, ""]) -> Float[Array, " batch"]:
    """Draw a uniform number in [0, 1) for draw d from stream 0 of each image's key.

    `image_noise` uses the other streams.
    """

    def one(key: PRNGKeyArray) -> Array:
        return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, 0), d))

    return jax.vmap(one)(keys)


def stratum(
    offsets: Float[Array, " batch"],
    d: Integer[Array, ""] | Integer[Array, " batch"],
    num_draws: Integer[ArrayLike, ""],
) -> Float[Array, " batch"]:
    """Return the time (d + u)/num_draws < 1 of draw d = 0 … num_draws − 1, uniform in its stratum if u is uniform."""
    t = (d.astype(jnp.float32) + offsets) / jnp.asarray(num_draws, jnp.float32)
    return jnp.minimum(t, timesteps.ONE_BELOW)


def exact_draws(num_steps: int | None, num_draws: int) -> int:
    """Return the largest multiple of T up to `num_draws`, for exact sums; `num_draws` itself if there is none."""
    return num_draws if num_steps is None or num_steps > num_draws else num_draws - num_draws % num_steps


def bin_centers() -> Float[np.ndarray, " bins"]:
    """Return the center of each of the `TIME_BINS`."""
    return (np.arange(TIME_BINS) + 0.5) / TIME_BINS


def total_with_error(total: float, stderr: float | None) -> str:
    """Format a bound in bits/dim for printing."""
    return f"{total:.4f}" + ("" if stderr is None else f" ± {stderr:.4f}") + " bits/dim"


def to_evaluation(estimates: Estimates, num_dims: int) -> Evaluation:
    """Compute means and standard errors in bits/dim, in float64."""
    terms = bounds.bits_per_dim(estimates.terms, num_dims)
    rounds, _, num = terms.shape
    totals = terms.sum(axis=1)
    reconstruction, prior, diffusion = (float(term) for term in terms.mean(axis=(0, 2)))
    count, first, second = np.moveaxis(estimates.by_time[..., :3].astype(np.float64).sum(axis=(0, 1)), -1, 0)
    first = bounds.bits_per_dim(first, num_dims)
    second = bounds.bits_per_dim(bounds.bits_per_dim(second, num_dims), num_dims)
    with np.errstate(invalid="ignore"):
        mean, square = first / count, second / count
    noise_stderr = stderr_of_draws(totals)
    if estimates.draw_variance is not None:
        # Images, rounds and pairs are independent, so their variances add.
        variance = bounds.bits_per_dim(bounds.bits_per_dim(estimates.draw_variance, num_dims), num_dims)
        noise_stderr = float(np.sqrt(variance.sum()) / (rounds * num))
    return Evaluation(
        float(totals.mean()),
        reconstruction,
        prior,
        diffusion,
        stderr_over_images(totals.mean(axis=0), estimates.groups),
        noise_stderr,
        num,
        estimates.num_draws * rounds,
        estimates.num_steps,
        estimates.exact_sum,
        time_mean=mean,
        time_std=np.sqrt(np.maximum(square - mean**2, 0)),
        by_image=totals.mean(axis=0),
        groups=estimates.groups,
        variance=float(second.sum() / count.sum() - (first.sum() / count.sum()) ** 2),
        stderr_over=stderr_over(estimates.groups),
        num_available=estimates.num_available,
    )


def own_offsets(key: PRNGKeyArray, exact_sum: bool) -> Callable[[int, np.ndarray], ArrayLike]:
    """Return the function (round, image indices) → u of the stratified times: random per image, or ½ for exact sums."""
    # The midpoint is far from the edges of the steps, where float32 rounding could pick the wrong step.
    return _middle if exact_sum else functools.partial(_uniform, key)


@jax.jit
def _uniform(key: PRNGKeyArray, r: Integer[ArrayLike, ""], index: Integer[ArrayLike, " batch"]) -> Array:
    """Draw a separate u for each image and round, from stream 0 of the image's key."""

    def one(index: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, r), index), 0))

    return jax.vmap(one)(jnp.asarray(index))


def _middle(r: int, index: np.ndarray) -> np.ndarray:
    return np.full(index.shape, 0.5)
