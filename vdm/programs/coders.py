"""A run's lossless coders, one per device, and a stopwatch that separates their time from the network's."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jax

from vdm import likelihoods, parallel
from vdm.codec.chain import Chain, timed
from vdm.config import Config
from vdm.errors import InputError
from vdm.evaluation.coding import chain_of
from vdm.programs import compilation
from vdm.runs.open import Run, open_run


def opened(path: Path, checkpoint: str) -> Run:
    """Open a run on this process's first device. Raises `InputError` for a model of real numbers."""
    parallel.setup()
    compilation.keep()
    run = open_run(path, checkpoint, kind=Config, mesh=parallel.make_mesh(1))
    if run.model.levels == likelihoods.REAL:
        raise InputError(f"--run={path}: the model is of real numbers; only integers can be coded without loss")
    return run


def coders(run: Run, num_steps: int, batch_size: int, bins: float, most: int) -> list[Chain]:
    """Return the model's chain of `num_steps` steps on each device of this process, `most` of them at most.

    Raises `InputError` for a T that the model was not trained for, and for a model conditioned on more than labels.
    """
    devices = jax.local_devices()[: max(most, 1)]
    try:
        return [chain_of(run.model, run.variables, num_steps, batch_size, bins, device=device) for device in devices]
    except InputError:
        raise
    except ValueError as error:
        name = "--T" if str(error).startswith(("num_steps", "gammas")) else "--run"
        raise InputError(f"{name}={num_steps if name == '--T' else run.path}: {error}") from error


class Stopwatch:
    """Measure the seconds spent coding, summed over threads, and how many of them the networks take.

    with watch():
        encode_chunk(chain, images)
    """

    def __init__(self, chains: Sequence[Chain]):
        self._network, self._all = list[float](), list[float]()
        for chain in chains:
            chain.predict = timed(chain.predict, self._network)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._all.append(time.perf_counter() - start)

    @property
    def share(self) -> float:
        """Fraction of the time that the coders took themselves, without their networks."""
        return 1 - sum(self._network) / sum(self._all) if self._all else 0.0
