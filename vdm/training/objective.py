"""What training minimises, and its gradients: the weighted bound, and the second moment that the shape follows."""

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
"""What an example's loss counts in the pass through the network where its weight w(λ) is less, or 0.

Its gradients are linear in this, so ∂L/∂γ is a division away at every noise level. What it adds to the network's
gradient is 5·10⁻²⁰ of L's own: nothing beside the 10⁻⁸ that Adam adds to a gradient's size.
"""


class Objective(NamedTuple):
    """How the bound of a model becomes a training loss; the bound itself depends on none of it.

    >>> objective = Objective(weightings.sigmoid(2.0), proposal=proposals.adaptive())
    """

    weighting: Weighting = weightings.elbo()
    """w(λ) on the diffusion loss."""
    loss_space: str = "eps"
    """Whose error is squared, one of `predictions.KINDS`: see `bounds.diffusion_loss_at`."""
    proposal: Proposal = proposals.uniform()
    """Noise levels of a batch."""
    stratified: bool = True
    """Whether a batch shares one uniform offset of its times, or draws them independently."""

    @property
    def terms(self) -> type[Bound]:
        """Those of the bound."""
        return Bound

    @property
    def total(self) -> str:
        """What logs call their sum."""
        return "bits_per_dim"

    @property
    def unit(self) -> str:
        """That of the terms."""
        return "bits/dim"

    def init(self) -> Any:
        """The state of the proposal."""
        return self.proposal.init()

    def loss_and_gradients(self, model: Model, *arguments: Any) -> tuple[Bound, Variables, Any]:
        """See `loss_and_gradients`."""
        return loss_and_gradients(model, self, *arguments)


def from_config(config: Config) -> Objective:
    """The objective that a config describes."""
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
    """(batch means of the bound's terms in bits/dim, gradients of what each variable minimises, proposal's next state).

    `proposal` is the state of the objective's proposal.

    The network follows the bound with its diffusion loss L weighted by w(λ), Eq. 4.90 of De Sousa Ribeiro & Glocker
    (2024). The schedule's end points and the likelihood follow the bound itself. The shape of a learned schedule
    follows the second moment of one draw's weighted loss, E[(w L)²] = E[w L]² + Var[w L]. In continuous time it does
    not move E[w L], so that is the gradient of the variance (Kingma et al. 2021, §I.2). In discrete time the shape
    moves both: the gradient is 2 E[w L] times that of E[w L] + Var[w L]/(2 E[w L]), with E[w L] in the denominator held
    fixed. Both pull; what the shape can win of the bound falls as 1/T, and from some T on the variance decides. (The
    gradient of the bound alone is then all noise, and Adam a random walk, away from where training is quiet:
    docs/results/discrete_vs_continuous.md.)

    The batch's mean of (w L)² needs only ∂L_i/∂γ_i and ∂L_i/∂(weight_i), which the one backward pass through the
    network gives, example by example; they are weighted with 2 w_i L_i and pulled back through the schedule. Where w_i
    is below `LEAST_SCALE` the pass takes that.

    With `num_parts`, a divisor of the batch, the passes through the network are over one part after another, and the
    rest over the whole batch: the same numbers but for dropout, whose masks are each part's own. A batch on a mesh
    needs the `mesh`: each part is then spread over all of it.
    """
    draw_key, dropout_key = jax.random.split(key)
    # Of the whole batch, whatever parts it is computed in.
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
        """Of some examples: the gradient, a sum over them; ∂/∂γ, ∂/∂weight and the bound, one by one."""
        batch, draws, gamma_t, weight, scale = examples

        def loss(variables: Variables, gamma_t: Array, weight: Array) -> tuple[Array, Bound]:
            bound = model.bound_at(variables, batch, draws, gamma_t, weight, dropout_key, objective.loss_space)
            bound = Bound(*(bounds.bits_per_dim(term, model.num_dims) for term in bound))
            return jnp.mean(bound.reconstruction + bound.prior + scale * bound.diffusion) / num_parts, bound

        # What the backward pass has of its own, in a network's custom_vjp, is traced here.
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
