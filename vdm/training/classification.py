"""What a classifier on noisy images is trained for: the cross-entropy, at the noise levels that a sampler visits."""

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
    """Its only term, nats."""

    cross_entropy: Array


class CrossEntropy(NamedTuple):
    """−log p(label|z_t, γ(t)) of a `Classifier`, with the times of a batch stratified uniform.

    >>> objective = CrossEntropy(gamma=lambda t: 12.5 * t - 7.5)
    """

    gamma: Schedule
    """t -> γ(t), held fixed."""

    @property
    def terms(self) -> type[Loss]:
        """The cross-entropy alone."""
        return Loss

    @property
    def total(self) -> str:
        """What logs call it."""
        return "cross_entropy"

    @property
    def unit(self) -> str:
        """Its unit."""
        return "nats"

    def init(self) -> Any:
        """It carries nothing."""
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
        """(mean over the batch, its gradients, nothing); see `vdm.training.task.Objective`."""
        draw_key, dropout_key = jax.random.split(key)
        # Of the whole batch, whatever parts it is computed in.
        draws = model.draw(draw_key, batch["image"].shape[0], self.gamma)

        def backward(examples: Any, dropout_key: PRNGKeyArray) -> tuple[Variables, Array]:
            batch, (gamma_t, eps) = examples

            def loss(variables: Variables) -> tuple[Array, Array]:
                losses = model.loss_at(variables, batch, gamma_t, eps, dropout_key)
                return jnp.mean(losses) / num_parts, losses

            # What the backward pass has of its own is traced here.
            with precisions.products(model.precision):
                return jax.grad(loss, has_aux=True)(variables)

        gradients, losses = in_parts(backward, variables, (batch, draws), dropout_key, num_parts, mesh)
        return Loss(jnp.mean(losses)), gradients, carried
