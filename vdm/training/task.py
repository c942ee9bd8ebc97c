"""What a training step asks of the thing that it trains: a model, and an objective that knows its loss.

The step, the loop around it, checkpoints, logs and resuming know no more than this of a diffusion model with its bound
(`vdm.training.objective`), of a classifier (`vdm.training.classification`), or of what comes next.
"""

from typing import Any, Protocol, runtime_checkable

from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

Variables = dict[str, Any]
Batch = dict[str, Array]
Terms = Any
"""A NamedTuple of scalars, the terms of a loss by their names: `model.Bound`, for example."""


@runtime_checkable
class Trainable(Protocol):
    """What has variables: {"network": …, …}, of which the config's optimiser moves the network's, and Adam others'."""

    @property
    def precision(self) -> str:
        """One of `precisions.PRECISIONS`: what it computes in."""

    def init(self, key: PRNGKeyArray, /) -> Variables:
        """Fresh variables."""


@runtime_checkable
class Objective(Protocol):
    """What is minimised of a model of its own kind."""

    @property
    def terms(self) -> type[Terms]:
        """The NamedTuple of its terms; a term that is not finite is reported by its name."""

    @property
    def total(self) -> str:
        """What logs call the sum of the terms: bits_per_dim."""

    @property
    def unit(self) -> str:
        """Of the terms, in words: bits/dim."""

    def init(self) -> Any:
        """What it carries from step to step, at first: a pytree, {} for nothing."""

    def loss_and_gradients(
        self,
        model: Any,
        variables: Variables,
        carried: Any,
        key: PRNGKeyArray,
        batch: Batch,
        num_parts: int = 1,
        mesh: Mesh | None = None,
        /,
    ) -> tuple[Terms, Variables, Any]:
        """(batch means of the terms, gradients like the variables, what it carries next).

        With `num_parts`, a divisor of the batch, memory is that of one part after another and the numbers are the same
        but for dropout; a batch on a mesh needs the mesh.
        """
