"""How noisy the training gradient is: what the proposal, the weighting and the prediction change besides the goal."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from vdm import parallel
from vdm.data import evaluation_batches
from vdm.data.dataset import Source
from vdm.model import Model, Variables
from vdm.training.step import loss_and_gradients


def gradient_noise(
    model: Model,
    mesh: Mesh,
    variables: Variables,
    proposal: Any,
    source: Source,
    key: PRNGKeyArray,
    batch_size: int,
    num: int,
) -> float:
    """tr Cov(g)/‖E g‖² of the network's gradient g of one batch, at fixed variables: noise to signal of a step.

    Over `num` ≥ 2 batches with times, noise and dropout of their own: the first num · batch_size images of `source`, or
    all of them, again and again. Relative, because weightings differ by factors that Adam divides out. Both parts are
    unbiased; their ratio is as good as `num` lets it be.
    """
    grads = jax.jit(
        lambda variables, key, batch: loss_and_gradients(model, variables, proposal, key, batch)[1]["network"]
    )
    total, square, n = None, 0.0, 0
    while n < num:
        for batch in evaluation_batches(source, batch_size, max_images=len(source) // batch_size * batch_size):
            if n == num:
                break
            image = parallel.shard_batch({"image": batch["image"]}, mesh)
            gradient = grads(variables, jax.random.fold_in(key, n), image)
            parallel.throttle(gradient)
            total = gradient if total is None else jax.tree.map(jnp.add, total, gradient)
            square += float(optax.tree.norm(gradient, squared=True))
            n += 1
    return noise_to_signal(float(optax.tree.norm(total, squared=True)), square, num)


def noise_to_signal(square_of_sum: float, sum_of_squares: float, num: int) -> float:
    """tr Cov/‖mean‖², both unbiased, of `num` vectors from ‖Σ g‖² and Σ ‖g‖²; ∞ if no mean is seen above the noise."""
    variance = (sum_of_squares - square_of_sum / num) / (num - 1)
    signal = square_of_sum / num**2 - variance / num
    return variance / signal if signal > 0 else np.inf
