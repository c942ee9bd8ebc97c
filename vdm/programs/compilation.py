"""A cache of compiled programs on disk, from one process to the next, for GPUs and TPUs."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from vdm.files import cache_folder

MAX_BYTES = 4 << 30
"""Size limit of the cache folder; beyond it, the least recently used programs are deleted."""


def keep() -> None:
    """Cache compiled programs in the user's cache folder from now on, unless JAX_COMPILATION_CACHE_DIR names another.

    Call it once devices may be touched, before anything is compiled. It does nothing on a CPU, where compiling takes
    seconds: programs for a CPU depend on its exact instruction set, which is not part of jax's cache key, so in a home
    folder shared by several machines they may be refused with warnings or crash with SIGILL. It also does nothing if
    there is no cache folder and none can be made, or if JAX_ENABLE_COMPILATION_CACHE=0.
    """
    settings = jax.config.values
    given = settings["jax_compilation_cache_dir"] is not None or not settings["jax_enable_compilation_cache"]
    if given or jax.default_backend() == "cpu":
        return
    folder = cache_folder("programs")
    # jax needs filelock to limit the size.
    if folder is None or importlib.util.find_spec("filelock") is None:
        return
    if "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ:
        jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    jax.config.update("jax_compilation_cache_dir", str(folder))


@contextmanager
def counted_hits() -> Iterator[list[str]]:
    """Yield a list that grows by one for each program loaded from the cache instead of compiled."""
    hits: list[str] = []

    def listen(event: str, **_: str | int) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        yield hits
    finally:
        jax.monitoring.unregister_event_listener(listen)
