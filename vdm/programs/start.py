"""--init_from: start a new run from the averaged weights of another one."""

from dataclasses import dataclass
from typing import Any

from jax.sharding import Mesh

from vdm import parallel, settings
from vdm.config import RunConfig
from vdm.errors import InputError
from vdm.model import Variables
from vdm.runs.open import open_run
from vdm.runs.places import PREFIX, split_checkpoint
from vdm.runs.records import weights_digest


@dataclass
class Start:
    """The averaged weights of another run, from which a new one starts."""

    record: dict[str, Any]
    """The entry in run.json."""
    variables: Variables | None
    """The averaged variables; None if the new run has begun already."""

    @classmethod
    def read(cls, text: str, config: RunConfig, model: Any, mesh: Mesh, begun: bool) -> "Start":
        """Read the weights of RUN or RUN:CHECKPOINT; `model` is the one given in place of the config's, or None.

        Raises `InputError` if there is no such checkpoint, or if it is of another model.
        """
        if not text:
            raise InputError("--init_from=: must be RUN or RUN:CHECKPOINT")
        path, which = split_checkpoint(text)
        run = str(path) if str(path).startswith(PREFIX) else str(path.absolute())
        record = {"run": run, "checkpoint": which}
        if begun:
            return cls(record, None)
        try:
            source = open_run(path, which, kind=type(config), mesh=mesh, model=model)
        except InputError as error:
            raise InputError(f"--init_from={text}: {error}") from error
        # The proposal belongs to the objective, and its state starts anew.
        differing = settings.differing(source.config, config, "model")
        differing.pop("objective.proposal", None)
        if differing:
            listed = ", ".join(f"{name} {there!r} there, {here!r} here" for name, (there, here) in differing.items())
            raise InputError(f"--init_from={text}: is of another model: {listed}")
        digest = weights_digest(parallel.to_host(source.variables))
        return cls(record | {"step": source.step, "weights": "ema", "weights_digest": digest}, source.variables)

    def __str__(self) -> str:
        return "from the averaged weights of {run}, step {step}".format(**self.record)
