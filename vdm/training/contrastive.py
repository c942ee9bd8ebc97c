"""What an image–text model is trained for: captions found by noisy images and images by captions, within a batch."""

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
    """Its only term, nats."""

    contrastive: Array


class Contrastive(NamedTuple):
    """`vdm.image_text.contrastive` of a batch, with stratified uniform times, whatever devices and parts it comes in.

    >>> objective = Contrastive(gamma=lambda t: 12.5 * t - 7.5)
    """

    gamma: Schedule
    """t -> γ(t), held fixed."""

    @property
    def terms(self) -> type[Loss]:
        """The contrastive loss alone."""
        return Loss

    @property
    def total(self) -> str:
        """What logs call it."""
        return "contrastive"

    @property
    def unit(self) -> str:
        """Its unit."""
        return "nats"

    def init(self) -> Any:
        """It carries nothing."""
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
        """(mean over the batch, its gradients, nothing); see `vdm.training.task.Objective`.

        Every image is told from all captions of the batch. In parts, all features come first, and each part's once more
        with the loss's gradient by them, which is pulled back (Gao et al. 2021): the same numbers, one pass more.
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

        # What the backward pass has of its own is traced here.
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
