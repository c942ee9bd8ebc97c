"""How noisy the training gradient is: what the proposal, the weighting and the prediction change besides the goal."""

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
    """tr Cov(g)/‖E g‖² of the network's gradient g of one batch, at fixed variables: noise to signal of a step.

    Over `num` ≥ 2 independent batches, each a random choice of `source` (with at least `batch_size` images) with times,
    noise and dropout of its own, computed in `num_parts`. Relative, because weightings differ by factors that Adam
    divides out. Both parts are unbiased; their ratio is as good as `num` lets it be.
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
    """tr Cov/‖mean‖², both unbiased, of `num` vectors from ‖Σ g‖² and Σ ‖g‖²; ∞ if no mean is seen above the noise."""
    variance = (sum_of_squares - square_of_sum / num) / (num - 1)
    signal = square_of_sum / num**2 - variance / num
    return variance / signal if signal > 0 else np.inf
