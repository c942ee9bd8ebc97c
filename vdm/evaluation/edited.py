"""Images drawn from given ones: restored from measurements, noised and redrawn (SDEdit), or inverted by DDIM.

A `Way` is a pure function that processes one batch; `Editor` compiles it once and applies it to all images and draws.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import gaussian, likelihoods, memory, operators, parallel, parts, samplers
from vdm.config import SamplingConfig
from vdm.evaluation.bound import Progress
from vdm.evaluation.images import NO_COMPANIONS, Drawn, Leading, ModelSampling, check_finite
from vdm.guides import Companion
from vdm.inverse import Measurement
from vdm.keys import image_keys, normal_per_image
from vdm.model import Condition, Model, Variables
from vdm.operators import Operator
from vdm.predictions import Denoise
from vdm.restorations import Restoration
from vdm.samplers import Sampler

MOST_DRAWS = 1024
"""Maximum number of draws per image. Draw j of image k is always number k · MOST_DRAWS + j of the sampling key."""
MOST_IMAGES = 2**20

Rows = Mapping[str, Any]
"""The data given for each image: arrays (batch, …), by name."""


class Given(NamedTuple):
    """A `Way`'s inputs for a batch."""

    sampling: ModelSampling
    """Guided, but not clipped yet."""
    variables: Variables
    leading: Leading
    key: PRNGKeyArray
    first: Integer[Array, " batch"]
    """Numbers of the images, as `samplers.run` takes them."""
    rows: Rows
    condition: Condition
    """The condition to draw with."""

    @property
    def denoise(self) -> Denoise:
        return self.sampling.denoiser(self.variables, self.condition, self.leading)

    @property
    def sampler(self) -> Sampler:
        return self.sampling.guided_sampler(self.variables, self.condition, self.leading)

    def gamma(self, t: Array) -> Array:
        """Return γ(t) of the model."""
        return self.sampling.model.gamma(self.variables, t)


Clip = Callable[[Denoise], Denoise]
Way = Callable[[Given, Clip], tuple[samplers.Run, Array]]
"""Draws a batch, clipping x̂ last, and returns the run and the grid that it used."""


def restored(restoration: Restoration, operator: Operator, std: float) -> Way:
    """Return a way that draws from p(x|y), where y = A x + std · noise is in `rows["y"]`.

    The way starts from z₁ ~ N(0, I) and goes down the whole grid.
    """

    def way(given: Given, clip: Clip) -> tuple[samplers.Run, Array]:
        y, gammas = given.rows["y"], given.sampling.gammas(given.variables)
        measurement = Measurement(operator, y, jnp.float32(std))
        denoise = clip(restoration.denoiser(given.denoise, measurement, gammas))
        sampler = restoration.sampler(given.sampler, measurement, gammas)
        _, z_1 = samplers.initial_latents(given.key, (len(y), *operator.shape), given.first)
        return samplers.run(given.key, denoise, sampler, gammas, z_1, first=given.first), gammas

    return way


def noised(strength: float) -> Way:
    """SDEdit (Meng et al. 2022): noise each image of `rows["x"]` to t = `strength`, then sample down from there.

    At strength 0, z is α₀ x without noise: the image itself.
    """

    def way(given: Given, clip: Clip) -> tuple[samplers.Run, Array]:
        x, gammas = given.rows["x"], part_of_grid(given, strength)
        if strength == 0:
            unchanged = gaussian.alpha(gammas[-1]) * x
            return samplers.Run(unchanged, x[None][:0], jnp.full(len(x), -1, jnp.int32)), gammas
        z = samplers.noised(given.key, x, gammas[0], given.first)
        return samplers.run(given.key, clip(given.denoise), given.sampler, gammas, z, first=given.first), gammas

    return way


def inverted(plain: ModelSampling, strength: float = 1.0) -> Way:
    """Run DDIM up to t = `strength` with each image's own condition, `rows["own"]`, and down with the new one.

    The way up uses `plain`, which is neither guided nor clipped. The sampler of the way down must be deterministic.
    """

    def way(given: Given, clip: Clip) -> tuple[samplers.Run, Array]:
        gammas = part_of_grid(given, strength)
        z_0 = gaussian.alpha(gammas[-1]) * given.rows["x"]
        up = samplers.run(
            given.key, plain.denoiser(given.variables, given.rows["own"]), samplers.ddim(), gammas[::-1], z_0
        )
        down = samplers.run(given.key, clip(given.denoise), given.sampler, gammas, up.z_0, first=given.first)
        return down._replace(bad_step=jnp.maximum(up.bad_step, down.bad_step)), gammas

    return way


def part_of_grid(given: Given, t: float) -> Float[Array, " points"]:
    """Return a grid from γ(t) to γ(0) with as many steps as the config.

    The grid of a discrete model starts at its step nearest to t T, and has no more steps than the model has from there.
    """
    config, steps = given.sampling.config, given.sampling.model.num_steps
    grid: samplers.grids.Grid = parts.make("grid", config.grid)
    if steps is None or not grid.own_steps:
        return grid.gammas(samplers.grids.until(given.gamma, t), config.steps)
    last = max(1, round(t * steps))
    return grid.gammas(samplers.grids.until(given.gamma, last / steps), min(config.steps, last), last)


class Editor:
    """Draws images from given ones; compiles once.

    Draw j of image k takes its randomness from fold_in(key, k · MOST_DRAWS + j): it does not depend on the batch size,
    the devices, or the other images and draws.
    """

    def __init__(
        self,
        model: Model,
        mesh: Mesh,
        config: SamplingConfig,
        way: Way,
        companions: Mapping[str, Companion] = NO_COMPANIONS,
    ):
        """Draw `config.batch_size` samples per call, rounded up to a multiple of the mesh's devices.

        x̂ is clipped last. Raises `InputError` as `ModelSampling` does.
        """
        self.model, self.mesh, self.config = model, mesh, config
        self._of_model = of_model = ModelSampling(model, mesh, replace(config, clip="none"), companions)
        clip: Clip = parts.make("clipping", config.clip)

        def run(
            variables: Variables, leading: Leading, key: PRNGKeyArray, first: Array, rows: Rows, condition: Condition
        ) -> tuple[Array, Array]:
            whole, of_guide = parallel.gathered((variables, leading.companions), mesh)
            rows = jax.lax.with_sharding_constraint(rows, parallel.batch_sharding(mesh))
            given = Given(of_model, whole, leading._replace(companions=of_guide), key, first, rows, condition)
            result, gammas = way(given, clip)
            return of_model.decoded(key, result.z_0, gammas, first), result.bad_step

        self._run = jax.jit(run)

    def __call__(
        self,
        variables: Variables,
        key: PRNGKeyArray,
        draws: int,
        rows: Rows,
        condition: Condition = None,
        progress: Progress = lambda done, total: None,
    ) -> Drawn:
        """Draw `draws` samples for each image of `rows`: shape (images, draws, *data).

        `condition` has one entry per image, or is None. Raises `NonFiniteLatents`, and ValueError for more draws than
        `MOST_DRAWS` and for a condition that is not the model's.
        """
        images = len(jax.tree.leaves(rows)[0])
        if not (1 <= draws <= MOST_DRAWS and images <= MOST_IMAGES):
            raise ValueError(f"{images} images, {draws} draws: must be at most {MOST_IMAGES}, and 1 to {MOST_DRAWS}")
        condition = self._of_model.condition_for(images, condition)
        total, drawn = images * draws, []
        batch = parallel.round_up(min(self.config.batch_size, total), self.mesh)
        for done in range(0, total, batch):
            # The batch is filled up with the last draw.
            image, draw = np.divmod(np.minimum(np.arange(done, done + batch), total - 1), draws)
            # The sampling loop adds each row's own number to this.
            first = jnp.asarray(image * MOST_DRAWS + draw - np.arange(batch), jnp.int32)
            of_batch = jax.tree.map(lambda each, image=image: np.asarray(each)[image], (rows, condition))
            with memory.guarded("drawing", "lower --batch_size"):
                part, bad_step = parallel.to_host(self._run(variables, self._of_model.leading, key, first, *of_batch))
            check_finite(bad_step[: total - done], self.config.sampler, self.config.steps, done)
            drawn.append(part.astype(likelihoods.dtype(self.model.levels)))
            progress(min(done + batch, total), total)
        return np.concatenate(drawn)[:total].reshape(images, draws, *self.model.shape)


def measured(
    key: PRNGKeyArray, operator: Operator, x: Float[Array, "images *data"], std: float
) -> Float[np.ndarray, "images *measured"]:
    """Return y = A x + std · noise; the noise of image k comes from fold_in(key, k)."""

    @jax.jit
    def of(key: PRNGKeyArray, x: Array) -> Array:
        noise = normal_per_image(image_keys(key, len(x)), (len(x), *operator.measured))
        return operators.measure(operator, x, noise, std)

    return np.asarray(of(key, x))
