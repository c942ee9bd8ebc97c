"""The one loop: from z₁ ~ N(0, 1) down a γ grid to z₀, as a single `lax.scan`.

The chain of Eq. 3.101 of De Sousa Ribeiro & Glocker (2024).
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
    """What one step gives."""

    z: Float[Array, "batch *data"]
    """z_s."""
    x_hat: Float[Array, "batch *data"]
    """The model's guess of x at the step's start."""
    memory: Memory
    """What the sampler carries to its next step."""


class StepFn(Protocol):
    """(keys, denoise, z_t, memory, γ_t, γ_s) -> Step; `keys` has one key an image, fresh at every step.

    `denoise` answers with a `Prediction`; one call is one network call.
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
    """Of a step that draws z_s ~ N(mean, std²)."""

    mean: Float[Array, "batch *data"]
    std: Array
    """Broadcasts against z; 0 of a step that draws nothing."""
    x_hat: Float[Array, "batch *data"]
    """As of `Step`."""


MomentsFn = Callable[[predictions.Both, Array, Array, Array], Moments]
"""(denoise, z_t, γ_t, γ_s) -> `Moments`."""


class Sampler(NamedTuple):
    """`init(z_1) -> memory` and `step`, as an optax transformation is a pair."""

    init: Callable[[Float[Array, "batch *data"]], Memory]
    step: StepFn
    calls: int = 1
    """Network calls a step."""
    moments: MomentsFn | None = None
    """Of one whose steps are draws of a Gaussian: see `of_moments`."""


def of_moments(moments: MomentsFn) -> Sampler:
    """The sampler whose steps are mean + std ε, Eq. 3.24: one call a step, and no memory."""

    def step(keys: Keys, denoise: predictions.Both, z: Array, memory: Memory, gamma_t: Array, gamma_s: Array) -> Step:
        mean, std, x_hat = moments(denoise, z, gamma_t, gamma_s)
        return Step(mean + std * normal_per_image(keys, z.shape), x_hat, memory)

    return Sampler(init=lambda z: (), step=step, moments=moments)


def check_sampler(name: str, value: object) -> None:
    """Raises ValueError unless `value` is a `Sampler`: the function that makes one is none before it is called."""
    if not isinstance(value, Sampler):
        found = getattr(value, "__name__", type(value).__name__)
        raise ValueError(f"{name}={found}: must be a Sampler, such as ddim() returns")


class Run(NamedTuple):
    """What a run down the grid gives."""

    z_0: Float[Array, "batch *data"]
    frames: Float[Array, "kept batch *data"]
    """What was kept of the chosen steps."""
    bad_step: Integer[Array, " batch"]
    """The first step, 0 … T−1, after which an image's z was not finite; −1: it always was."""


def sample(
    key: PRNGKeyArray,
    denoise: Denoise,
    sampler: Sampler,
    gammas: Float[Array, " points"],
    shape: Sequence[int],
    first: int | Array = 0,
) -> Float[Array, "batch *data"]:
    """z₀ of shape `shape` = (batch, *data), after exactly len(gammas) − 1 steps.

    Image k of the result takes its randomness from fold_in(key, first + k), so an image does not depend on how
    many are sampled with it, nor on the devices. Pure: the caller jits; `first` and `gammas` may be traced. Raises
    ValueError for a grid that goes up, and as `run`.

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
    """(z₀, x̂ at the chosen steps): `steps` are increasing indices 0 … T−1, 0 the noisiest.

    `keep` chooses something else of the shape of z from a step: z_s with `lambda step: step.z`. Only the chosen frames
    are kept in memory. Raises ValueError for other steps, for a grid that goes up, and as `run`.
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
    """As `sample`, from given latents z₁: with the z₁ of `initial_latents(key, …)` the same images."""
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
    """`sample_from` and `sample_trajectory` in one, and where z ceased to be finite: all that the loop can tell.

    The loop's carry reuses its buffers; a caller who needs z₁ no more donates it (`jax.jit(…, donate_argnames="z_1")`).
    What is not used of the result is not computed under jit. Raises ValueError for other steps than
    `sample_trajectory` takes, a sampler that is none, and `gammas` that are no grid: two or more floating-point
    numbers, which where they are not traced go one way and are no NaN; and as `predictions.both`.
    """
    check_sampler("sampler", sampler)
    _check_grid(gammas)
    keys = image_keys(key, z_1.shape[0], first)
    num_steps = gammas.shape[0] - 1
    if list(steps) != sorted(set(steps)) or not all(0 <= step < num_steps for step in steps):
        raise ValueError(f"steps={list(steps)}: must be increasing and from 0 to {num_steps - 1}")
    answer = predictions.both(denoise)
    # Every step writes its guess into the frame of the next chosen step; the chosen step writes last.
    frame_of_step = np.searchsorted(np.asarray(steps), np.arange(num_steps)) if len(steps) else np.zeros(num_steps, int)

    def body(carry: Carry, inputs: tuple[Array, ...]) -> tuple[Carry, None]:
        z, memory, frames, bad_step = carry
        i, gamma_t, gamma_s, frame = inputs
        result = sampler.step(folded(keys, i + 1), answer, z, memory, gamma_t, gamma_s)
        if len(steps):
            # Steps after the last chosen one fall outside and are dropped.
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
    """(one key an image, z₁ ~ N(0, 1)): image k's key is fold_in(key, first + k), its z₁ from that key's fold 0."""
    keys = image_keys(key, shape[0], first)
    return keys, normal_per_image(folded(keys, 0), shape)
