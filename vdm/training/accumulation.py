"""Gradients of a batch in parts, one after another: what `training.accumulate` asks for."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray, Shaped

from vdm import parallel
from vdm.training.task import Variables

Backward = Callable[[Any, PRNGKeyArray], tuple[Variables, Any]]
"""(examples, key of dropout) -> (gradients, a sum over them; what there is of each one by one)."""


def in_parts(
    backward: Backward,
    variables: Variables,
    examples: Any,
    dropout_key: PRNGKeyArray,
    num_parts: int = 1,
    mesh: Mesh | None = None,
) -> tuple[Variables, Any]:
    """`backward` of all examples: with `num_parts`, over one part after another, and the gradients added up.

    The same numbers but for dropout, whose masks are each part's own. A batch on a mesh needs the mesh: each part is
    then spread over all of it.
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
    """Example j·num_parts + k as example j of part k: neighbours in the batch, so on the same device, go to all parts.

    A device's block of rows is its block of each part, and nothing moves between devices. The times of a part are
    stratified as well.
    """
    parts = jnp.swapaxes(x.reshape(-1, num_parts, *x.shape[1:]), 0, 1)
    return parts if mesh is None else jax.lax.with_sharding_constraint(parts, parallel.parts_sharding(mesh))


def joined(parts: Shaped[Array, "parts part *rest"]) -> Shaped[Array, "batch *rest"]:
    """The inverse of `cut`."""
    return jnp.swapaxes(parts, 0, 1).reshape(-1, *parts.shape[2:])
