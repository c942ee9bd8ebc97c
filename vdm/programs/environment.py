"""The environment of a command: variables, the working directory, and the warnings and logs of libraries.

Only commands set it up: as a library, vdm leaves warnings and loggers to its caller.
"""

import logging
import os
import re
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vdm.errors import InputError, one_line

PATIENCE = 10
"""Seconds to wait for the child process that parses XLA's flags."""

VARIABLES = ("JAX_", "XLA_", "TF_", "MPL", "TFDS_", "LIBTPU_", "CUDA_", "ORBAX_")
"""Prefixes of the environment variables that libraries read."""

HELD = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_numpy_dtype_promotion": "standard",
    "jax_disable_jit": False,
}
"""Settings of jax that commands rely on, some of them for the random numbers that belong to a seed."""


def begin() -> None:
    """Set up warnings, logging and variables before libraries are imported.

    Raises `InputError` if the working directory no longer exists.
    """
    # "error" would turn warnings inside libraries into exceptions; data workers inherit both settings.
    os.environ.pop("PYTHONWARNINGS", None)
    sys.warnoptions[:] = ["ignore"]
    warnings.simplefilter("default")
    warnings.showwarning = _show_warning
    # Unhandled records would go to stderr, and the first call of `logging.warning` would add a handler for all loggers.
    logging.getLogger().addHandler(logging.NullHandler())
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # Figures need no backend, and matplotlib fails on an unknown one.
    os.environ["MPLBACKEND"] = "agg"
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(f"the working directory: {error.strerror}; change to a folder that is there") from error


def ready() -> None:
    """Check variables and silence loggers after libraries are imported, before they are used.

    Raises `InputError` for variables that change what commands rely on (`HELD`), and for XLA flags that XLA rejects.
    """
    import jax
    from absl import logging as absl_logging

    # Orbax and TFDS log internals, and exceptions that are caught here, as warnings and errors.
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    for name, value in HELD.items():
        given = os.environ.get(name.upper())
        if given is not None and getattr(jax.config, name) != value:
            raise InputError(f"{name.upper()}={given}: must not be set; runs are made with {value}")
    if os.environ.get("XLA_FLAGS", "").strip():
        _check_xla_flags()


def blamed(error: BaseException) -> str | None:
    """Return one line for an error that names an environment variable or comes from device setup; None for others."""
    said = one_line(error)
    for name, value in os.environ.items():
        if name.startswith(VARIABLES) and re.search(rf"\b{name}\b", said, re.IGNORECASE):
            return f"{name}={value}: {said}"
    frames = [frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)]
    if frames[-1:] == ["jax._src.xla_bridge"]:
        return f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}: no such devices can be used here: {said}"
    return None


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """Show warnings raised in this package as one line each; hide those of libraries, and deprecations."""
    ours = Path(filename).is_relative_to(Path(__file__).parents[1])
    if ours and not issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
        print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def _check_xla_flags() -> None:
    """Raise `InputError` for flags that XLA rejects: it kills the process that parses them, so a child tries first."""
    reader, writer = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # of a fork among threads: the child needs none of them
        child = os.fork()
    if child == 0:
        try:
            os.dup2(writer, 2)
            from jaxlib import _jax

            _ = _jax.CompileOptions().executable_build_options.debug_options
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb", buffering=0) as pipe:
        said = b"".join(_read(pipe)).decode(errors="replace")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if found := re.search(r"(?:Unknown flag|Couldn't interpret|Could not open file|Flag parsing failed)[^\n]*", said):
        raise InputError(f"XLA_FLAGS={os.environ['XLA_FLAGS']}: {found[0]}")


def _read(pipe: Any) -> Iterator[bytes]:
    deadline = time.monotonic() + PATIENCE
    while select.select([pipe], [], [], max(deadline - time.monotonic(), 0))[0] and (data := pipe.read(65536)):
        yield data
