"""The objective of image–text models: match noisy images and captions within a batch, in both directions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from vdm import precisions
from vdm.image_text import ImageText, contrastive, equal, logits_of
from vdm.noisy import Schedule
from vdm.training.accumulation import in_parts
from vdm.training.task import Batch, Variables


class Loss(NamedTuple):
    """The only term of the loss, in nats."""

    contrastive: Array


class Contrastive(NamedTuple):
    """The loss `vdm.image_text.contrastive` over the whole batch, with stratified uniform times.

    The batch is always contrasted as a whole, even if it is spread over devices or computed in parts.

    >>> objective = Contrastive(gamma=lambda t: 12.5 * t - 7.5)
    """

    gamma: Schedule
    """The noise schedule t -> γ(t), which is not trained."""

    @property
    def terms(self) -> type[Loss]:
        """The type of the loss terms: the contrastive loss alone."""
        return Loss

    @property
    def total(self) -> str:
        """The name of the loss in logs."""
        return "contrastive"

    @property
    def unit(self) -> str:
        """The unit of the loss."""
        return "nats"

    def init(self) -> Any:
        """Return the initial state, which is empty: {}."""
        return {}

    def loss_and_gradients(
        self,
        model: ImageText,
        variables: Variables,
        carried: Any,
        key: PRNGKeyArray,
        batch: Batch,
        num_parts: int = 1,
        mesh: Mesh | None = None,
    ) -> tuple[Loss, Variables, Any]:
        """Return (batch mean of the loss, its gradients, `carried` unchanged); see `vdm.training.task.Objective`.

        Every image is contrasted with all captions of the batch, also when the batch is computed in parts. All features
        are then computed first, and each part's features once more to pull back the gradient of the loss with respect
        to them (Gao et al. 2021). This gives the same result, except for dropout, at the cost of one more forward pass.
        """
        draw_key, dropout_key = jax.random.split(key)
        examples = batch, model.draw(draw_key, batch["image"].shape[0], self.gamma)
        same = equal(batch["text"])

        def features(variables: Variables, examples: Any, key: PRNGKeyArray) -> tuple[Array, Array]:
            batch, (gamma_t, eps) = examples
            return model.features(variables, batch, gamma_t, eps, key)

        def loss(images: Array, texts: Array) -> Array:
            return jnp.mean(contrastive(logits_of(images, texts), same))

        def pulled_back(examples: Any, key: PRNGKeyArray) -> tuple[Variables, tuple[()]]:
            examples, by_features = examples
            _, pull_back = jax.vjp(lambda variables: features(variables, examples, key), variables)
            return pull_back(by_features)[0], ()

        # The backward pass has operations of its own, which are traced here.
        with precisions.products(model.precision):
            if num_parts == 1:
                of_whole = lambda variables: loss(*features(variables, examples, dropout_key))  # noqa: E731
                value, gradients = jax.value_and_grad(of_whole)(variables)
                return Loss(value), gradients, carried
            rest = dropout_key, num_parts, mesh
            _, found = in_parts(lambda *part: ({}, features(variables, *part)), {}, examples, *rest)
            value, by_features = jax.value_and_grad(loss, argnums=(0, 1))(*found)
            gradients, _ = in_parts(pulled_back, variables, (examples, by_features), *rest)
        return Loss(value), gradients, carried
