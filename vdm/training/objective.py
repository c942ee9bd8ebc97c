"""The training objective and its gradients: the weighted bound, and the second moment that the schedule minimizes."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from vdm import bounds, precisions, proposals, schedules, timesteps, weightings
from vdm.config import Config
from vdm.model import Batch, Bound, Model, Variables
from vdm.parts import make
from vdm.proposals import NoiseLevels, Proposal
from vdm.training.accumulation import in_parts
from vdm.weightings import Weighting

LEAST_SCALE = 2.0**-64
"""Least weight w(λ) of an example in the backward pass through the network; smaller weights, and 0, are raised to it.

Gradients are linear in this weight, so dividing by it gives ∂L/∂γ at every noise level. It adds 5·10⁻²⁰ of the gradient
of L to that of the network, which is negligible compared with the 10⁻⁸ that Adam adds to the size of a gradient.
"""


class Objective(NamedTuple):
    """How the bound of a model becomes a training loss; none of this affects the bound itself.

    >>> objective = Objective(weightings.sigmoid(2.0), proposal=proposals.adaptive())
    """

    weighting: Weighting = weightings.elbo()
    """Weight w(λ) of the diffusion loss."""
    loss_space: str = "eps"
    """The quantity whose squared error is the loss, one of `predictions.KINDS`: see `bounds.diffusion_loss_at`."""
    proposal: Proposal = proposals.uniform()
    """Distribution from which the noise levels of a batch are drawn."""
    stratified: bool = True
    """Whether the times of a batch are stratified, with one shared uniform offset, or drawn independently."""

    @property
    def terms(self) -> type[Bound]:
        """The type of the loss terms: those of the bound."""
        return Bound

    @property
    def total(self) -> str:
        """The name of the sum of the terms in logs."""
        return "bits_per_dim"

    @property
    def unit(self) -> str:
        """The unit of the terms."""
        return "bits/dim"

    def init(self) -> Any:
        """Return the initial state of the proposal."""
        return self.proposal.init()

    def loss_and_gradients(self, model: Model, *arguments: Any) -> tuple[Bound, Variables, Any]:
        """Call the function `loss_and_gradients` of this module for this objective."""
        return loss_and_gradients(model, self, *arguments)


def from_config(config: Config) -> Objective:
    """Make the objective that a config describes."""
    c = config.objective
    weighting, proposal = make("weighting", c.weighting), make("proposal", c.proposal)
    return Objective(weighting, c.loss_space, proposal, c.stratified)


def loss_and_gradients(
    model: Model,
    objective: Objective,
    variables: Variables,
    proposal: Any,
    key: PRNGKeyArray,
    batch: Batch,
    num_parts: int = 1,
    mesh: Mesh | None = None,
) -> tuple[Bound, Variables, Any]:
    """Return (batch means of the bound's terms in bits/dim, gradients for all variables, next state of the proposal).

    `proposal` is the current state of the objective's proposal. Not all variables minimize the same quantity:

    The network minimizes the bound with its diffusion loss L weighted by w(λ), Eq. 4.90 of De Sousa Ribeiro & Glocker
    (2024). The schedule's end points and the likelihood minimize the bound itself. The shape of a learned schedule
    minimizes the second moment of the weighted loss of one draw, E[(w L)²] = E[w L]² + Var[w L]. In continuous time the
    shape does not affect E[w L], so this is the gradient of the variance (Kingma et al. 2021, §I.2). In discrete time
    the shape affects both terms: the gradient is 2 E[w L] times that of E[w L] + Var[w L]/(2 E[w L]), with E[w L] in
    the denominator held fixed. What the shape can improve in the bound falls as 1/T, so for large T the variance
    dominates. (The gradient of the bound alone would then be pure noise, and Adam would make a random walk away from
    shapes with low variance: docs/results/discrete_vs_continuous.md.)

    The batch mean of (w L)² needs only ∂L_i/∂γ_i and ∂L_i/∂(weight_i), which the single backward pass through the
    network gives for each example. They are weighted with 2 w_i L_i and pulled back through the schedule. Weights w_i
    below `LEAST_SCALE` are replaced by it in that pass.

    With `num_parts`, a divisor of the batch size, the passes through the network are made for one part after another,
    and the rest for the whole batch. The result is the same except for dropout, as each part has its own masks. A batch
    on a mesh needs the `mesh`: each part is then spread over all of it.
    """
    draw_key, dropout_key = jax.random.split(key)
    # Drawn for the whole batch, so that they do not depend on the number of parts.
    batch = model.with_dropped(batch, jax.random.fold_in(key, 2))
    times = timesteps.stratified if objective.stratified else timesteps.iid
    draws = model.draw(draw_key, batch["image"].shape[0], times)
    schedule = variables["schedule"]

    def levels_of(schedule: Any) -> tuple[tuple[Array, Array], NoiseLevels]:
        gamma = functools.partial(model.schedule.gamma, schedule)
        levels = objective.proposal.draw(proposal, draws.t, gamma, model.num_steps)
        return (levels.gamma, levels.weight), levels

    (gamma_t, weight), pull_back, levels = jax.vjp(levels_of, schedule, has_aux=True)
    w, w_slope = schedules.value_and_slope(lambda gamma: objective.weighting.weight(-gamma), gamma_t)

    scale = jnp.maximum(w, LEAST_SCALE)

    def backward(examples: tuple[Any, ...], dropout_key: PRNGKeyArray) -> tuple[Variables, tuple[Array, Array, Bound]]:
        """The gradient, summed over some examples, and ∂/∂γ, ∂/∂weight and the bound for each of them."""
        batch, draws, gamma_t, weight, scale = examples

        def loss(variables: Variables, gamma_t: Array, weight: Array) -> tuple[Array, Bound]:
            bound = model.bound_at(variables, batch, draws, gamma_t, weight, dropout_key, objective.loss_space)
            bound = Bound(*(bounds.bits_per_dim(term, model.num_dims) for term in bound))
            return jnp.mean(bound.reconstruction + bound.prior + scale * bound.diffusion) / num_parts, bound

        # The backward pass has operations of its own, in a network's custom_vjp, which are traced here.
        with precisions.products(model.precision):
            (gradients, *by), bound = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(variables, gamma_t, weight)
        return gradients, (*by, bound)

    examples = (batch, draws, gamma_t, weight, scale)
    gradients, (by_gamma, by_weight, bound) = in_parts(backward, variables, examples, dropout_key, num_parts, mesh)
    by_gamma, by_weight = by_gamma / scale, by_weight / scale
    (through_levels,) = pull_back((by_gamma, by_weight))
    of_schedule = jax.tree.map(jnp.add, gradients["schedule"], through_levels)
    if "shape" in schedule:
        twice = 2 * w * bound.diffusion
        of_weighted = w * by_gamma + w_slope * bound.diffusion / w.size
        (of_second_moment,) = pull_back((twice * of_weighted, twice * (w * by_weight)))
        of_schedule |= {"shape": of_second_moment["shape"]}
    gradients = {**gradients, "schedule": of_schedule}
    proposal = objective.proposal.update(proposal, levels, w * bound.diffusion)
    return Bound(*(jnp.mean(term) for term in bound)), gradients, proposal
