"""Noise of the training gradient, which the proposal, weighting and prediction type change besides the objective."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from vdm import parallel
from vdm.data.dataset import Source, examples
from vdm.model import Batch, Model, Variables
from vdm.training.objective import Objective, loss_and_gradients


def gradient_noise(
    model: Model,
    objective: Objective,
    mesh: Mesh,
    variables: Variables,
    proposal: Any,
    source: Source,
    key: PRNGKeyArray,
    batch_size: int,
    num: int,
    num_parts: int = 1,
) -> float:
    """Estimate the noise-to-signal ratio tr Cov(g)/‖E g‖² of the network's gradient g of a batch, at fixed variables.

    The estimate uses `num` ≥ 2 independent batches, each with its own times, noise and dropout, and with images chosen
    at random from `source`, which must have at least `batch_size`. Each batch is computed in `num_parts` parts. The
    ratio is used because weightings differ by factors that Adam divides out. Numerator and denominator are unbiased;
    the accuracy of their ratio depends on `num`.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))

    @jax.jit
    def grads(variables: Variables, key: PRNGKeyArray, batch: Batch) -> Any:
        return loss_and_gradients(model, objective, variables, proposal, key, batch, num_parts, mesh)[1]["network"]

    total, square = None, 0.0
    for n in range(num):
        chosen = rng.choice(len(source), batch_size, replace=False)
        batch = parallel.shard_batch(examples(source, chosen), mesh)
        gradient = grads(variables, jax.random.fold_in(key, n), batch)
        parallel.throttle(gradient)
        total = gradient if total is None else jax.tree.map(jnp.add, total, gradient)
        square += float(optax.tree.norm(gradient, squared=True))
    return noise_to_signal(float(optax.tree.norm(total, squared=True)), square, num)


def noise_to_signal(square_of_sum: float, sum_of_squares: float, num: int) -> float:
    """Estimate tr Cov/‖mean‖² of `num` vectors from ‖Σ g‖² and Σ ‖g‖², or return ∞ if noise hides the mean.

    The estimates of tr Cov and of ‖mean‖² are unbiased.

    >>> noise_to_signal(square_of_sum=4.0, sum_of_squares=2.0, num=2)
    0.0
    """
    variance = (sum_of_squares - square_of_sum / num) / (num - 1)
    signal = square_of_sum / num**2 - variance / num
    return variance / signal if signal > 0 else np.inf
