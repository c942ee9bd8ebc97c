"""The objective of classifiers on noisy images: the cross-entropy at the noise levels that a sampler visits."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from vdm import precisions
from vdm.classifier import Classifier
from vdm.noisy import Schedule
from vdm.training.accumulation import in_parts
from vdm.training.task import Batch, Variables


class Loss(NamedTuple):
    """The only term of the loss, in nats."""

    cross_entropy: Array


class CrossEntropy(NamedTuple):
    """The loss −log p(label|z_t, γ(t)) of a `Classifier`, with stratified uniform times within a batch.

    >>> objective = CrossEntropy(gamma=lambda t: 12.5 * t - 7.5)
    """

    gamma: Schedule
    """The noise schedule t -> γ(t), which is not trained."""

    @property
    def terms(self) -> type[Loss]:
        """The type of the loss terms: the cross-entropy alone."""
        return Loss

    @property
    def total(self) -> str:
        """The name of the loss in logs."""
        return "cross_entropy"

    @property
    def unit(self) -> str:
        """The unit of the loss."""
        return "nats"

    def init(self) -> Any:
        """Return the initial state, which is empty: {}."""
        return {}

    def loss_and_gradients(
        self,
        model: Classifier,
        variables: Variables,
        carried: Any,
        key: PRNGKeyArray,
        batch: Batch,
        num_parts: int = 1,
        mesh: Mesh | None = None,
    ) -> tuple[Loss, Variables, Any]:
        """Return (batch mean of the loss, its gradients, `carried` unchanged); see `vdm.training.task.Objective`."""
        draw_key, dropout_key = jax.random.split(key)
        # Drawn for the whole batch, so that they do not depend on the number of parts.
        draws = model.draw(draw_key, batch["image"].shape[0], self.gamma)

        def backward(examples: Any, dropout_key: PRNGKeyArray) -> tuple[Variables, Array]:
            batch, (gamma_t, eps) = examples

            def loss(variables: Variables) -> tuple[Array, Array]:
                losses = model.loss_at(variables, batch, gamma_t, eps, dropout_key)
                return jnp.mean(losses) / num_parts, losses

            # The backward pass has operations of its own, which are traced here.
            with precisions.products(model.precision):
                return jax.grad(loss, has_aux=True)(variables)

        gradients, losses = in_parts(backward, variables, (batch, draws), dropout_key, num_parts, mesh)
        return Loss(jnp.mean(losses)), gradients, carried
