"""What programs make of their surroundings: variables, the working directory, and what libraries say beside them.

For programs alone: a library leaves warnings and loggers to its caller.
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
"""Seconds to wait for a child that parses XLA's flags."""

VARIABLES = ("JAX_", "XLA_", "TF_", "MPL", "TFDS_", "LIBTPU_", "CUDA_", "ORBAX_")
"""What the names of variables begin with that libraries read."""

HELD = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_numpy_dtype_promotion": "standard",
    "jax_disable_jit": False,
}
"""Settings of jax that programs rely on, some for the numbers that a seed gives."""


def begin() -> None:
    """Before libraries are imported. Raises `InputError` if there is no working directory."""
    # With "error" they would be exceptions in libraries; processes of data workers inherit both.
    os.environ.pop("PYTHONWARNINGS", None)
    sys.warnoptions[:] = ["ignore"]
    warnings.simplefilter("default")
    warnings.showwarning = _show_warning
    # What no handler takes would go to stderr, and the first to log by `logging.warning` would make one for all.
    logging.getLogger().addHandler(logging.NullHandler())
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # Figures are drawn on canvases of their own; matplotlib fails on a name of no backend.
    os.environ["MPLBACKEND"] = "agg"
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(f"the working directory: {error.strerror}; change to a folder that is there") from error


def ready() -> None:
    """After they are imported, before they are used. Raises `InputError` for variables that cannot be worked with."""
    import jax
    from absl import logging as absl_logging

    # Orbax and TFDS report their inner workings, and what we catch, as warnings and errors.
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    for name, value in HELD.items():
        given = os.environ.get(name.upper())
        if given is not None and getattr(jax.config, name) != value:
            raise InputError(f"{name.upper()}={given}: must not be set; runs are made with {value}")
    if os.environ.get("XLA_FLAGS", "").strip():
        _check_xla_flags()


def blamed(error: BaseException) -> str | None:
    """One line on an error that names a variable of the environment, or is of devices; None if it is of others."""
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
    """Those of this package's own lines, in one line; of libraries, and of what will change in them, none."""
    ours = Path(filename).is_relative_to(Path(__file__).parents[1])
    if ours and not issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
        print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def _check_xla_flags() -> None:
    """XLA ends the process for a flag that it does not know: a child asks it first."""
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
