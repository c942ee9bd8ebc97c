"""Compiled programs kept from one process to the next, for GPUs and TPUs."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from vdm.files import cache_folder

MAX_BYTES = 4 << 30
"""Of the folder; what was used last longest ago goes first."""


def keep() -> None:
    """Keeps programs in the user's cache folder from now on, unless JAX_COMPILATION_CACHE_DIR says where.

    To be called when devices may be touched, before anything is compiled. Not on a CPU: its programs are for the very
    instruction set, which jax's key does not tell, so that those of a home that machines share may be refused with
    warnings, or end in SIGILL; and they compile in seconds. Nothing is kept where there is no such folder, none can be
    made, or JAX_ENABLE_COMPILATION_CACHE=0 says so.
    """
    settings = jax.config.values
    given = settings["jax_compilation_cache_dir"] is not None or not settings["jax_enable_compilation_cache"]
    if given or jax.default_backend() == "cpu":
        return
    folder = cache_folder("programs")
    # jax needs filelock for a limit.
    if folder is None or importlib.util.find_spec("filelock") is None:
        return
    if "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ:
        jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    jax.config.update("jax_compilation_cache_dir", str(folder))


@contextmanager
def counted_hits() -> Iterator[list[str]]:
    """Grows by one for each program that comes from the cache instead of the compiler."""
    hits: list[str] = []

    def listen(event: str, **_: str | int) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        yield hits
    finally:
        jax.monitoring.unregister_event_listener(listen)
