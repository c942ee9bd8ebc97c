"""The training objective of a `LatentModel`: the variational bound, with optional β, KL warm-up and free bits.

Equation numbers without a source are those of De Sousa Ribeiro & Glocker (2024).
"""

import functools
from collections import namedtuple
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray

from vdm import bounds, precisions
from vdm.predecessors.hierarchy import Path
from vdm.predecessors.latent import LatentModel
from vdm.training.accumulation import in_parts
from vdm.training.task import Batch, Terms, Variables


@functools.cache
def terms(num_layers: int) -> type[Terms]:
    """Return the named-tuple class of the bound's terms for a hierarchy of `num_layers` layers.

    >>> terms(2)._fields
    ('reconstruction', 'rate_1', 'rate_2')
    """
    names = ("reconstruction", *(f"rate_{t}" for t in range(1, num_layers + 1)))
    return namedtuple("Terms", names)


class LatentBound(NamedTuple):
    """−VLB of a `LatentModel`, Eq. 2.34, or a reweighted version of it: reconstruction + Σ_t w_t rate_t.

    The options change the gradients only: the terms reported are those of the bound itself, in bits/dim.

    >>> LatentBound(num_layers=2, beta=4.0).terms._fields
    ('reconstruction', 'rate_1', 'rate_2')
    """

    num_layers: int = 1
    beta: float = 1.0
    """Weight of every rate, as in a β-VAE (Higgins et al. 2017)."""
    warmup_steps: int = 0
    """Number of steps over which β grows linearly from 0 (Bowman et al. 2016; Sønderby et al. 2016)."""
    free_bits: float = 0.0
    """λ, in nats per layer: max(λ, batch mean of the rate) replaces the rate (Kingma et al. 2016, Eq. 15)."""

    @property
    def terms(self) -> type[Terms]:
        """Named-tuple class of the terms: the reconstruction and the rate of each layer."""
        return terms(self.num_layers)

    @property
    def total(self) -> str:
        """Name of the sum of the terms in logs."""
        return "bits_per_dim"

    @property
    def unit(self) -> str:
        """Unit of the terms."""
        return "bits/dim"

    def init(self) -> Any:
        """Return the initial state: the number of steps done, so that warm-up resumes where it stopped."""
        return {"step": jnp.zeros((), jnp.int32)}

    def weights(self, carried: Any, rates: Float[Array, " layers"]) -> Float[Array, " layers"]:
        """Return w_t at this step: β times the warm-up, or 0 where the batch mean of a rate, in nats, is below λ."""
        warm = jnp.minimum(carried["step"].astype(jnp.float32) / max(self.warmup_steps, 1), 1)
        beta = self.beta * warm if self.warmup_steps else jnp.float32(self.beta)
        return beta * (rates >= self.free_bits).astype(jnp.float32)

    def loss_and_gradients(
        self,
        model: LatentModel,
        variables: Variables,
        carried: Any,
        key: PRNGKeyArray,
        batch: Batch,
        num_parts: int = 1,
        mesh: Mesh | None = None,
    ) -> tuple[Terms, Variables, Any]:
        """Return (batch means of the terms, gradients of the loss in bits/dim, new state); see `task.Objective`."""
        draw_key, dropout_key = jax.random.split(key)
        # Drawn for the whole batch, so that the noise does not depend on the number of parts.
        examples = batch["image"], model.draw(draw_key, batch["image"].shape[0])

        def path(variables: Variables, examples: Any, dropout_key: PRNGKeyArray) -> Path:
            image, eps = examples
            return model.path(variables, image, eps, dropout_key)

        def forward(examples: Any, dropout_key: PRNGKeyArray) -> tuple[Any, Any]:
            return {}, path(variables, examples, dropout_key).rates

        # Free bits need means over the whole batch. With a single part, XLA merges this pass with the one below.
        rates = in_parts(forward, {}, examples, dropout_key, num_parts, mesh)[1] if self.free_bits else ()
        means = [jnp.mean(rate) for rate in rates] if self.free_bits else [jnp.float32(0)] * self.num_layers
        weights = self.weights(carried, jnp.stack(means))

        def backward(examples: Any, dropout_key: PRNGKeyArray) -> tuple[Variables, Any]:
            def loss(variables: Variables) -> tuple[Array, Any]:
                drawn = path(variables, examples, dropout_key)
                nats = self.terms(drawn.reconstruction, *drawn.rates)
                each = self.terms(*(bounds.bits_per_dim(term, model.num_dims) for term in nats))
                weighted = each[0] + sum(weights[t] * rate for t, rate in enumerate(each[1:]))
                return jnp.mean(weighted) / num_parts, each

            # Matrix products that only the backward pass contains are traced here.
            with precisions.products(model.precision):
                return jax.grad(loss, has_aux=True)(variables)

        gradients, each = in_parts(backward, variables, examples, dropout_key, num_parts, mesh)
        return self.terms(*map(jnp.mean, each)), gradients, {"step": carried["step"] + 1}
