"""Optimizers of the network: functions that make an Optax transformation from a learning-rate schedule.

`config.optimizer.name` selects one. Each is called with the arguments that it has parameters for: `rate`, a schedule
step -> learning rate, and fields of `config.optimizer`. Gradients are already clipped.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon


def adamw(
    rate: optax.Schedule, b1: float = 0.9, b2: float = 0.99, weight_decay: float = 0.01
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay on kernels only (Loshchilov & Hutter 2019).

    >>> optimizer = adamw(optax.constant_schedule(1e-3))
    """
    return optax.adamw(rate, b1=b1, b2=b2, weight_decay=weight_decay, mask=decay_mask)


def muon(
    rate: optax.Schedule,
    b1: float = 0.9,
    b2: float = 0.99,
    weight_decay: float = 0.01,
    momentum: float = 0.95,
    rms: float = 0.2,
) -> optax.GradientTransformation:
    """Muon for kernels, which orthogonalizes their momentum (Jordan 2024), and AdamW for all other parameters.

    A kernel is treated as a matrix from all inputs that an output sums over to the outputs: (9 C, C) for a 3×3
    convolution. Its update has singular values of about 1 before it is scaled to a root mean square of `rate` · `rms`.
    With rms = 0.2, like that of Adam's updates, one learning rate serves both (Liu et al. 2025, §2.2). Raises
    ValueError unless 0 ≤ momentum < 1 and 0 < rms < ∞.

    In a network whose kernels have C² to 18 C² elements, five Newton–Schulz iterations cost about 3.5 C/N of a training
    step, where N is the number of pixels in a batch.

    >>> optimizer = muon(optax.constant_schedule(1e-3), momentum=0.9)
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum={momentum}: must be from 0 to below 1")
    if not 0 < rms < math.inf:
        raise ValueError(f"rms={rms}: must be positive and finite")
    orthogonal = optax.chain(
        scale_by_muon(beta=momentum, weight_dimension_numbers=_as_matrices),
        optax.stateless(lambda updates, params: jax.tree.map(lambda u: rms * _unit_rms(u), updates)),
    )
    return optax.chain(
        optax.partition({"orthogonal": orthogonal, "adam": optax.scale_by_adam(b1=b1, b2=b2)}, _labels),
        optax.add_decayed_weights(weight_decay, decay_mask),
        optax.scale_by_learning_rate(rate),
    )


def decay_mask(params: Any) -> Any:
    """Return True for kernels and False for all others, such as biases and norm scales, which have no weight decay."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1] == jax.tree_util.DictKey("kernel"), params)


def _labels(params: Any) -> Any:
    return jax.tree.map(lambda kernel, x: "orthogonal" if kernel and x.ndim > 1 else "adam", decay_mask(params), params)


def _as_matrices(params: Any) -> Any:
    """Dimension numbers for each kernel: all axes except the last are inputs."""
    return jax.tree.map(lambda x: MuonDimensionNumbers(tuple(range(x.ndim - 1)), x.ndim - 1), params)


def _unit_rms(orthogonal: jax.Array) -> jax.Array:
    """Scale a kernel with all singular values 1, as many as its smaller side, to a root mean square of 1."""
    inputs, outputs = math.prod(orthogonal.shape[:-1]), orthogonal.shape[-1]
    return jnp.sqrt(jnp.float32(max(inputs, outputs))) * orthogonal
