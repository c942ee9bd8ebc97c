"""`vdm info`: collect what a bug report needs to know about an installation."""

import contextlib
import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

import jax

import vdm
from vdm import parallel, precisions
from vdm.config import TrainingConfig
from vdm.errors import one_line
from vdm.files import cache_path
from vdm.programs import compilation
from vdm.runs.records import git_revision, versions

MATTERING = ("VDM_", "JAX_", "XLA_", "TFDS_", "CUDA_", "NVIDIA_", "LIBTPU_", "ORBAX_", "WANDB_", "HF_", "OMP_", "XDG_",
             "PYTHONPATH")  # fmt: skip
"""Prefixes of the environment variables that affect what commands do."""

SECRET = re.compile("KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
"""Matches the names of environment variables whose values are not shown."""

IN_URL = re.compile(r"(?<=://)[^/@\s]+@")
"""Matches a user name and password in a URL."""


def collected() -> dict[str, dict[str, Any]]:
    """Return everything that `vdm info` prints: by group, numbers and texts by name."""
    environment = of_environment(dict(os.environ))  # before it is changed
    return {
        "versions": of_versions(),
        "machine": of_machine(),
        "devices": of_devices(),
        "caches": of_caches(),
        "extras": of_extras(),
        "environment": environment,
    }


def of_versions() -> dict[str, Any]:
    """Return the versions of vdm, its source, Python and the packages that results depend on."""
    return {
        "vdm": vdm.__version__,
        "git revision": git_revision(),
        "installed in": _shown(str(Path(vdm.__file__).parent)),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        **versions(),
    }


def of_machine() -> dict[str, Any]:
    """Return operating system, processor and memory."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "CPUs": f"{parallel.num_cores()} of {os.cpu_count()} may be used",
        "memory": _size(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
    }


def of_devices() -> dict[str, Any]:
    """Return the devices and the default precision, or the error that kept jax from finding a device."""
    try:
        parallel.setup()
        devices = jax.devices()
    except Exception as error:  # of drivers and plugins, whatever they raise
        return {"none": one_line(error)}
    first, default = devices[0], TrainingConfig().precision
    computed = precisions.AS_FLOAT32 if precisions.is_float32(default, first) else ""
    return {
        "platform": first.platform,
        "kind": first.device_kind,
        "number": len(devices),
        "runtime": " ".join(first.client.platform_version.split()),
        "default precision": f"{default}{computed}",
    }


def of_caches() -> dict[str, Any]:
    """Return the cache folders, with the size of their contents."""
    compilation.keep()
    tfds = os.environ.get("TFDS_DATA_DIR") or os.path.join("~", "tensorflow_datasets")
    own = cache_path("")
    folders = {
        "JAX programs": jax.config.values["jax_compilation_cache_dir"],
        "vdm (VDM_CACHE)": None if own is None else str(own),
        "data (TFDS_DATA_DIR)": os.path.expanduser(tfds),
    }
    return {name: _folder(path) for name, path in folders.items()}


def of_extras() -> dict[str, str]:
    """Return the optional groups of packages, with the installed version of each package."""
    try:
        names = importlib.metadata.metadata("vdm").get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        return {"unknown": "vdm runs from its source and is not installed"}
    return {
        extra: ", ".join(f"{name} {_installed(name, *inner)}" for name, *inner in _needed("vdm", extra))
        for extra in names
    }


def of_environment(variables: dict[str, str]) -> dict[str, str]:
    """Return the environment variables that affect commands, without secrets.

    >>> of_environment({"JAX_PLATFORMS": "cpu", "WANDB_API_KEY": "abc", "LANG": "C"})
    {'JAX_PLATFORMS': 'cpu', 'WANDB_API_KEY': '(set)'}
    """
    return {
        name: "(set)" if SECRET.search(name) else _shown(IN_URL.sub("…@", value))
        for name, value in sorted(variables.items())
        if name.startswith(MATTERING)
    }


def _needed(package: str, extra: str) -> list[tuple[str, ...]]:
    """Return the packages that an extra of an installed package needs: names, each with its own extra, if any."""
    pattern = rf"""([\w.-]+)(?:\[([\w-]+)\])?[^;]*;.*\bextra == ["']{re.escape(extra)}["']"""
    found = (re.match(pattern, requirement) for requirement in importlib.metadata.requires(package) or ())
    return list(dict.fromkeys(tuple(filter(None, match.groups())) for match in found if match))


def _installed(package: str, *extras: str) -> str:
    """Return a package's version, or "missing" if it or a package that its extras need is not installed."""
    try:
        version = importlib.metadata.version(package)
        for name, *_ in (needed for extra in extras for needed in _needed(package, extra)):
            importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
    return version


def _processor() -> str:
    """Return the processor's model name if the system tells it, else its architecture."""
    try:
        named = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), flags=re.M)
    except OSError:
        named = None
    return named[1].strip() if named else platform.processor() or platform.machine()


def _folder(path: str | None) -> str:
    if not path:
        return "none"
    if not os.path.isdir(path):
        return f"{_shown(path)}, not there"
    sizes = []
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):  # one that another program has just deleted
                sizes.append(os.lstat(os.path.join(folder, name)).st_size)
    return f"{_shown(path)}, {_size(sum(sizes))} in {len(sizes)} files"


def _size(num_bytes: int) -> str:
    """Format a number of bytes, such as 1.5 GiB."""
    value, unit = float(num_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.3g} {unit}"


def _shown(text: str) -> str:
    """Return text on one line, with ~ in place of the home folder."""
    home = os.path.expanduser("~")
    return " ".join((text if home in ("~", "/") else text.replace(home, "~")).split())
