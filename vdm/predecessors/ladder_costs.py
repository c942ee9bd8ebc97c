"""The training objective of a ladder network: its layers' costs and, for some images, the cross-entropy of labels."""

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
    """Σ_t λ_t ‖ẑ_t − d_t‖²/dims of a `LadderNetwork`, plus the cross-entropy of the noisy top for labeled images.

    The terms include their weights, so that they add up to the loss. A batch has a random number of labeled images; the
    cross-entropy is divided by their share, so that its expectation is the mean over labeled images.

    >>> LadderCosts(num_layers=2, labels=True).terms._fields
    ('cost_0', 'cost_1', 'cost_2', 'cross_entropy')
    """

    num_layers: int
    """T, not counting the image."""
    labels: bool = False
    """Whether there is a cross-entropy term."""

    @classmethod
    def of(cls, model: LadderNetwork) -> "LadderCosts":
        """Return the objective of a network."""
        return cls(model.num_layers, bool(model.labelled))

    @property
    def terms(self) -> type[Terms]:
        """Named-tuple class of the terms: λ_t times each layer's cost, from the image up, and any cross-entropy."""
        return _terms(self.num_layers, self.labels)

    @property
    def total(self) -> str:
        """Name of the sum of the terms in logs."""
        return "cost"

    @property
    def unit(self) -> str:
        """Unit of the terms."""
        return "squared errors" + " + nats" * self.labels

    def init(self) -> Any:
        """Return the initial state, which is empty."""
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
        """Return (batch means of the terms, gradients of their sum, empty state); see `vdm.training.task.Objective`.

        Each part is normalized by its own batch statistics, so results depend on `num_parts`.
        """
        draw_key, rest_key = jax.random.split(key)
        eps = model.draw(draw_key, batch["image"].shape[0])

        def backward(examples: Any, _: PRNGKeyArray) -> tuple[Variables, Terms]:
            batch, eps = examples

            def loss(variables: Variables) -> tuple[Array, Terms]:
                terms = self.terms(*weighted(model, variables, batch, eps))
                return jnp.sum(jnp.stack([jnp.mean(term) for term in terms])) / num_parts, terms

            # Matrix products that only the backward pass contains are traced here.
            with precisions.products(model.precision):
                return jax.grad(loss, has_aux=True)(variables)

        gradients, terms = in_parts(backward, variables, (batch, eps), rest_key, num_parts, mesh)
        return self.terms(*(jnp.mean(term) for term in terms)), gradients, carried


def weighted(model: LadderNetwork, variables: Variables, batch: Batch, eps: Any) -> list[Array]:
    """Return the weighted terms for each image, (batch,) each. Raises ValueError if the batch lacks labels it needs."""
    found = model(variables, batch["image"], eps)
    terms = [factor * cost for factor, cost in zip(model.costs, found.costs, strict=True)]
    if model.labelled:
        if "label" not in batch:
            raise ValueError(f"batch has {', '.join(batch)}: must have 'label'")
        counts = is_labelled(batch["image"], model.labelled).astype(jnp.float32) / model.labelled
        terms.append(model.weight * counts * cross_entropy(jax.nn.log_softmax(found.noisy_top), batch["label"]))
    return terms


def is_labelled(image: Image, share: float) -> Bool[Array, " batch"]:
    """Tell which images belong to the share whose labels are used, by a hash of their pixels: always the same ones.

    Equal images are treated alike, but an augmented copy counts as another image.

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
