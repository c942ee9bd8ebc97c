"""The interface between training and what is trained: a model, and an objective that computes its loss.

Training step, loop, checkpoints, logs and resuming use only this interface, be it for a diffusion model with its bound
(`vdm.training.objective`), a classifier (`vdm.training.classification`), or any other task.
"""

from typing import Any, Protocol, runtime_checkable

from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

Variables = dict[str, Any]
Batch = dict[str, Array]
Terms = Any
"""A NamedTuple of scalars, the named terms of a loss, e.g. `model.Bound`."""


@runtime_checkable
class Trainable(Protocol):
    """A model with variables {"network": …, …}; the config's optimizer updates the network, Adam everything else."""

    @property
    def precision(self) -> str:
        """Precision of the computation, one of `precisions.PRECISIONS`."""

    def init(self, key: PRNGKeyArray, /) -> Variables:
        """Initialize the variables."""


@runtime_checkable
class Objective(Protocol):
    """The loss that training minimizes, for one kind of model."""

    @property
    def terms(self) -> type[Terms]:
        """The NamedTuple type of the loss terms; a non-finite term is reported by its name."""

    @property
    def total(self) -> str:
        """The name of the sum of the terms in logs, e.g. "bits_per_dim"."""

    @property
    def unit(self) -> str:
        """The unit of the terms in words, e.g. "bits/dim"."""

    def init(self) -> Any:
        """Return the initial state that is carried from step to step: a pytree, {} if there is none."""

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
        """Return (batch means of the terms, gradients in the structure of the variables, the next carried state).

        With `num_parts`, a divisor of the batch size, only the memory for one part at a time is needed, and the result
        is the same except for dropout. A batch on a mesh needs the mesh.
        """
