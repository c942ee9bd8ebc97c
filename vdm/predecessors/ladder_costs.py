"""What a ladder network is trained for: the costs of its layers and, of some images, the cross-entropy of labels."""

import functools
from collections import namedtuple
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, PRNGKeyArray

from vdm import precisions
from vdm.classifier import cross_entropy
from vdm.predecessors.ladder import Image, LadderNetwork
from vdm.training.accumulation import in_parts
from vdm.training.task import Batch, Terms, Variables


class LadderCosts(NamedTuple):
    """Σ_t λ_t ‖ẑ_t − d_t‖²/dims of a `LadderNetwork`, and the cross-entropy of the noisy top of labelled images.

    The terms are weighted, so that they add up to what is minimised; the cross-entropy is a mean over the labelled
    images, of which a batch has a random number.

    >>> LadderCosts(num_layers=2, labels=True).terms._fields
    ('cost_0', 'cost_1', 'cost_2', 'cross_entropy')
    """

    num_layers: int
    """T, without the image."""
    labels: bool = False

    @classmethod
    def of(cls, model: LadderNetwork) -> "LadderCosts":
        """Of this network."""
        return cls(model.num_layers, bool(model.labelled))

    @property
    def terms(self) -> type[Terms]:
        """λ_t times the cost of each layer, from the image up; the weighted cross-entropy where labels count."""
        return _terms(self.num_layers, self.labels)

    @property
    def total(self) -> str:
        """What logs call the sum of the terms."""
        return "cost"

    @property
    def unit(self) -> str:
        """Of the terms."""
        return "squared errors" + " + nats" * self.labels

    def init(self) -> Any:
        """It carries nothing."""
        return {}

    def loss_and_gradients(
        self,
        model: LadderNetwork,
        variables: Variables,
        carried: Any,
        key: PRNGKeyArray,
        batch: Batch,
        num_parts: int = 1,
        mesh: Mesh | None = None,
    ) -> tuple[Terms, Variables, Any]:
        """(means over the batch, gradients of their sum, nothing); see `vdm.training.task.Objective`.

        Each part is normalised by its own statistics, so that with `num_parts` the numbers are not the same.
        """
        draw_key, rest_key = jax.random.split(key)
        eps = model.draw(draw_key, batch["image"].shape[0])

        def backward(examples: Any, _: PRNGKeyArray) -> tuple[Variables, Terms]:
            batch, eps = examples

            def loss(variables: Variables) -> tuple[Array, Terms]:
                terms = self.terms(*weighted(model, variables, batch, eps))
                return jnp.sum(jnp.stack([jnp.mean(term) for term in terms])) / num_parts, terms

            # What the backward pass has of its own is traced here.
            with precisions.products(model.precision):
                return jax.grad(loss, has_aux=True)(variables)

        gradients, terms = in_parts(backward, variables, (batch, eps), rest_key, num_parts, mesh)
        return self.terms(*(jnp.mean(term) for term in terms)), gradients, carried


def weighted(model: LadderNetwork, variables: Variables, batch: Batch, eps: Any) -> list[Array]:
    """The terms of each image, (batch,) each. Raises ValueError for a batch without the labels that it needs."""
    found = model(variables, batch["image"], eps)
    terms = [factor * cost for factor, cost in zip(model.costs, found.costs, strict=True)]
    if model.labelled:
        if "label" not in batch:
            raise ValueError(f"batch has {', '.join(batch)}: must have 'label'")
        counts = is_labelled(batch["image"], model.labelled).astype(jnp.float32) / model.labelled
        terms.append(model.weight * counts * cross_entropy(jax.nn.log_softmax(found.noisy_top), batch["label"]))
    return terms


def is_labelled(image: Image, share: float) -> Bool[Array, " batch"]:
    """Whether each image is among the share whose labels count: by a hash of its values, so always the same ones.

    Equal images go together; an augmented image is another one.

    >>> is_labelled(jnp.arange(3)[:, None], 1.0).tolist()
    [True, True, True]
    """
    flat = image.reshape(image.shape[0], -1)
    whole = jnp.issubdtype(flat.dtype, jnp.integer)
    values = flat.astype(jnp.uint32) if whole else jax.lax.bitcast_convert_type(flat, jnp.uint32)
    factors = jax.random.bits(jax.random.key(0), flat.shape[1:], jnp.uint32) | jnp.uint32(1)
    number = jnp.sum((values + jnp.uint32(1)) * factors[None], axis=1, dtype=jnp.uint32)
    for factor in (0x85EBCA6B, 0xC2B2AE35):  # as MurmurHash3 ends
        number = (number ^ (number >> 16)) * jnp.uint32(factor)
    return ((number ^ (number >> 16)) >> 8).astype(jnp.float32) < share * 2**24


@functools.cache
def _terms(num_layers: int, labels: bool) -> type[Terms]:
    names = [f"cost_{t}" for t in range(num_layers + 1)]
    return namedtuple("LadderTerms", [*names, "cross_entropy"] if labels else names)
