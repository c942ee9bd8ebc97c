"""Gradient accumulation over the parts of a batch, as set by `training.accumulate`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray, Shaped

from vdm import parallel
from vdm.training.task import Variables

Backward = Callable[[Any, PRNGKeyArray], tuple[Variables, Any]]
"""A function (examples, dropout key) -> (gradients summed over the examples, a pytree of results per example)."""


def in_parts(
    backward: Backward,
    variables: Variables,
    examples: Any,
    dropout_key: PRNGKeyArray,
    num_parts: int = 1,
    mesh: Mesh | None = None,
) -> tuple[Variables, Any]:
    """Apply `backward` to all examples, in `num_parts` parts one after another, and add up the gradients.

    The result does not depend on the number of parts, except for dropout, as each part has its own masks. A batch on a
    mesh needs the mesh: each part is then spread over all of it.
    """
    if num_parts == 1:
        return backward(examples, dropout_key)

    def add(total: Variables, part: tuple[Array, Any]) -> tuple[Variables, Any]:
        number, examples = part
        gradients, one_by_one = backward(examples, jax.random.fold_in(dropout_key, number))
        return jax.tree.map(jnp.add, total, gradients), one_by_one

    parts = (jnp.arange(num_parts), jax.tree.map(lambda x: cut(x, num_parts, mesh), examples))
    gradients, one_by_one = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, variables), parts)
    return gradients, jax.tree.map(joined, one_by_one)


def cut(x: Shaped[Array, "batch *rest"], num_parts: int, mesh: Mesh | None) -> Shaped[Array, "parts part *rest"]:
    """Cut a batch into parts so that example j·num_parts + k becomes example j of part k.

    Neighbors in the batch, which lie on the same device, thus go to different parts. A device's rows of the batch are
    also its rows of the parts, so nothing moves between devices. The times within a part are stratified, too.

    >>> cut(jnp.arange(6), 2, None).tolist()
    [[0, 2, 4], [1, 3, 5]]
    """
    parts = jnp.swapaxes(x.reshape(-1, num_parts, *x.shape[1:]), 0, 1)
    return parts if mesh is None else jax.lax.with_sharding_constraint(parts, parallel.parts_sharding(mesh))


def joined(parts: Shaped[Array, "parts part *rest"]) -> Shaped[Array, "batch *rest"]:
    """Invert `cut`."""
    return jnp.swapaxes(parts, 0, 1).reshape(-1, *parts.shape[2:])
