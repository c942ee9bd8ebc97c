"""The loop that all samplers share: from z₁ ~ N(0, 1) down a γ grid to z₀, as a single `lax.scan`.

This is the chain of Eq. 3.101 of De Sousa Ribeiro & Glocker (2024).
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import predictions
from vdm.keys import Keys, folded, image_keys, normal_per_image
from vdm.predictions import Denoise

Memory = Any
Carry = tuple[Array, Memory, Array, Array]


class Step(NamedTuple):
    """The result of one step."""

    z: Float[Array, "batch *data"]
    """The new latent z_s."""
    x_hat: Float[Array, "batch *data"]
    """The model's prediction of x at the start of the step."""
    memory: Memory
    """What the sampler carries over to its next step."""


class StepFn(Protocol):
    """A step function (keys, denoise, z_t, memory, γ_t, γ_s) -> Step.

    `keys` has one key per image, new at every step. Each call of `denoise` is one network call, which returns a
    `Prediction`.
    """

    def __call__(
        self,
        keys: Keys,
        denoise: predictions.Both,
        z: Float[Array, "batch *data"],
        memory: Memory,
        gamma_t: Float[Array, ""],
        gamma_s: Float[Array, ""],
    ) -> Step: ...


class Moments(NamedTuple):
    """Mean and standard deviation of a step that draws z_s ~ N(mean, std²)."""

    mean: Float[Array, "batch *data"]
    std: Array
    """Standard deviation, which broadcasts against z; 0 for a step that draws nothing."""
    x_hat: Float[Array, "batch *data"]
    """The model's prediction of x at the start of the step."""


MomentsFn = Callable[[predictions.Both, Array, Array, Array], Moments]
"""A function (denoise, z_t, γ_t, γ_s) -> `Moments`."""


class Sampler(NamedTuple):
    """A sampling method as a pair of functions `init` and `step`, like an optax transformation."""

    init: Callable[[Float[Array, "batch *data"]], Memory]
    """Return the memory before the first step, from z₁."""
    step: StepFn
    calls: int = 1
    """Number of network calls per step."""
    moments: MomentsFn | None = None
    """The moments of each step, for a sampler whose steps are draws from a Gaussian (see `of_moments`); else None."""


def of_moments(moments: MomentsFn) -> Sampler:
    """Return the sampler whose steps are z_s = mean + std ε, Eq. 3.24: one network call per step, and no memory."""

    def step(keys: Keys, denoise: predictions.Both, z: Array, memory: Memory, gamma_t: Array, gamma_s: Array) -> Step:
        mean, std, x_hat = moments(denoise, z, gamma_t, gamma_s)
        return Step(mean + std * normal_per_image(keys, z.shape), x_hat, memory)

    return Sampler(init=lambda z: (), step=step, moments=moments)


def check_sampler(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a `Sampler`; a function that returns one, such as `ddim`, must be called."""
    if not isinstance(value, Sampler):
        found = getattr(value, "__name__", type(value).__name__)
        raise ValueError(f"{name}={found}: must be a Sampler, such as ddim() returns")


class Run(NamedTuple):
    """The result of a run down the grid."""

    z_0: Float[Array, "batch *data"]
    frames: Float[Array, "kept batch *data"]
    """One frame per chosen step: its x̂, or what `keep` selects."""
    bad_step: Integer[Array, " batch"]
    """The first step, 0 … T−1, after which an image's z was not finite, or −1 if it always was finite."""


def sample(
    key: PRNGKeyArray,
    denoise: Denoise,
    sampler: Sampler,
    gammas: Float[Array, " points"],
    shape: Sequence[int],
    first: int | Array = 0,
) -> Float[Array, "batch *data"]:
    """Draw z₀ of shape `shape` = (batch, *data) in exactly len(gammas) − 1 steps.

    Image k of the result takes its randomness from fold_in(key, first + k), so an image depends neither on how many
    are sampled with it nor on the devices. The function is pure, and the caller jits it; `first` and `gammas` may be
    traced. Raises ValueError for a grid that goes up, and as `run` does.

    >>> from vdm.samplers import ddim
    >>> draw = jax.jit(lambda key: sample(key, lambda z, gamma: z, ddim(), jnp.linspace(5.0, -5.0, 11), (4, 2)))
    >>> draw(jax.random.key(0)).shape
    (4, 2)
    """
    return sample_trajectory(key, denoise, sampler, gammas, shape, (), first)[0]


def sample_trajectory(
    key: PRNGKeyArray,
    denoise: Denoise,
    sampler: Sampler,
    gammas: Float[Array, " points"],
    shape: Sequence[int],
    steps: Sequence[int],
    first: int | Array = 0,
    keep: Callable[[Step], Array] = attrgetter("x_hat"),
) -> tuple[Float[Array, "batch *data"], Float[Array, "kept batch *data"]]:
    """Draw (z₀, x̂ at the chosen steps), where `steps` are increasing indices 0 … T−1 and step 0 is the noisiest.

    `keep` selects something else from a step, of the shape of z: z_s with `lambda step: step.z`. Only the chosen frames
    are kept in memory. Raises ValueError for invalid steps, for a grid that goes up, and as `run` does.

    >>> from vdm.samplers import ddim
    >>> gammas = jnp.linspace(5.0, -5.0, 11)
    >>> z_0, x_hats = sample_trajectory(jax.random.key(0), lambda z, gamma: z, ddim(), gammas, (4, 2), steps=(0, 5, 9))
    >>> z_0.shape, x_hats.shape
    ((4, 2), (3, 4, 2))
    """
    _check_grid(gammas)
    if _known(gammas) and np.asarray(gammas)[0] < np.asarray(gammas)[-1]:
        raise ValueError(f"gammas: from {gammas[0]:g} up to {gammas[-1]:g}: must go down, from noise to data")
    _, z_1 = initial_latents(key, shape, first)
    return run(key, denoise, sampler, gammas, z_1, steps, first, keep)[:2]


def sample_from(
    key: PRNGKeyArray,
    denoise: Denoise,
    sampler: Sampler,
    gammas: Float[Array, " points"],
    z_1: Float[Array, "batch *data"],
    first: int | Array = 0,
) -> Float[Array, "batch *data"]:
    """Draw z₀ as `sample` does, but from given latents z₁; with those of `initial_latents`, the images are the same.

    >>> from vdm.samplers import ddim
    >>> _, z_1 = initial_latents(jax.random.key(0), (4, 2))
    >>> sample_from(jax.random.key(0), lambda z, gamma: z, ddim(), jnp.linspace(5.0, -5.0, 11), z_1).shape
    (4, 2)
    """
    return run(key, denoise, sampler, gammas, z_1, first=first).z_0


def run(
    key: PRNGKeyArray,
    denoise: Denoise,
    sampler: Sampler,
    gammas: Float[Array, " points"],
    z_1: Float[Array, "batch *data"],
    steps: Sequence[int] = (),
    first: int | Array = 0,
    keep: Callable[[Step], Array] = attrgetter("x_hat"),
) -> Run:
    """Run a sampler from z₁ and return all that the loop knows: z₀, the chosen frames, and where z became non-finite.

    The loop reuses the buffers of its carry; a caller that no longer needs z₁ can donate it
    (`jax.jit(…, donate_argnames="z_1")`). Under jit, parts of the result that are not used are not computed. Raises
    ValueError for steps that `sample_trajectory` would refuse, for a `sampler` that is not a `Sampler`, and for invalid
    `gammas`: a grid has two or more floating-point numbers, and, unless they are traced, they must be monotonic and
    without NaN. Also raises what `predictions.both` raises.
    """
    check_sampler("sampler", sampler)
    _check_grid(gammas)
    keys = image_keys(key, z_1.shape[0], first)
    num_steps = gammas.shape[0] - 1
    if list(steps) != sorted(set(steps)) or not all(0 <= step < num_steps for step in steps):
        raise ValueError(f"steps={list(steps)}: must be increasing and from 0 to {num_steps - 1}")
    answer = predictions.both(denoise)
    # Every step writes into the frame of the next chosen step; the chosen step itself writes last.
    frame_of_step = np.searchsorted(np.asarray(steps), np.arange(num_steps)) if len(steps) else np.zeros(num_steps, int)

    def body(carry: Carry, inputs: tuple[Array, ...]) -> tuple[Carry, None]:
        z, memory, frames, bad_step = carry
        i, gamma_t, gamma_s, frame = inputs
        result = sampler.step(folded(keys, i + 1), answer, z, memory, gamma_t, gamma_s)
        if len(steps):
            # The index of steps after the last chosen one is out of bounds, so their writes are dropped.
            frames = frames.at[frame].set(keep(result), mode="drop")
        finite = jnp.all(jnp.isfinite(result.z), axis=range(1, z.ndim))
        bad_step = jnp.where(finite | (bad_step >= 0), bad_step, i)
        return (result.z, result.memory, frames, bad_step), None

    frames = jnp.zeros((len(steps), *z_1.shape), z_1.dtype)
    bad_step = jnp.full(z_1.shape[0], -1, jnp.int32)
    inputs = (jnp.arange(num_steps, dtype=jnp.int32), gammas[:-1], gammas[1:], jnp.asarray(frame_of_step))
    (z_0, _, frames, bad_step), _ = jax.lax.scan(body, (z_1, sampler.init(z_1), frames, bad_step), inputs)
    return Run(z_0, frames, bad_step)


def _check_grid(gammas: Array) -> None:
    shape, dtype = jnp.shape(gammas), jnp.result_type(gammas)
    if len(shape) != 1 or shape[0] < 2 or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"gammas: {dtype} of shape {shape}: must be floating-point numbers of shape (T + 1,), T ≥ 1")
    if _known(gammas):
        values = np.asarray(gammas)
        if not (np.all(values[1:] <= values[:-1]) or np.all(values[1:] >= values[:-1])):
            raise ValueError("gammas: must go down all the way, or up to invert, without NaN")


def _known(gammas: Array) -> bool:
    return not isinstance(gammas, jax.core.Tracer)


def initial_latents(
    key: PRNGKeyArray, shape: Sequence[int], first: int | Array = 0
) -> tuple[Keys, Float[Array, "batch *data"]]:
    """Return one key per image, fold_in(key, first + k) for image k, and z₁ ~ N(0, 1), drawn from that key's fold 0.

    >>> keys, z_1 = initial_latents(jax.random.key(0), (4, 2))
    >>> keys.shape, z_1.shape
    ((4,), (4, 2))
    """
    keys = image_keys(key, shape[0], first)
    return keys, normal_per_image(folded(keys, 0), shape)
