"""Every test runs with shape annotations checked, silent broadcasting and silent dtype promotion refused."""

import importlib.metadata
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

# Compiled programs are shared between the workers of a session, and with the programs they start; between sessions too
# where JAX_COMPILATION_CACHE_DIR names a folder.
if "PYTEST_XDIST_WORKER" not in os.environ and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# Before jax is imported: eight CPU devices, each on one thread (see vdm.parallel). The rest makes compiling, which is
# much of what the suite does, three times as fast; the programs in .ci/run are compiled by the defaults.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0"
)
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones have no other emitters, nor the flag
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

import jax
import jaxtyping
import pytest
from jaxtyping import install_import_hook
from matplotlib.figure import Figure
from PIL import Image

install_import_hook("vdm", "beartype.beartype")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


# Of whole runs, whose optimiser mixes int32 counts with Python floats.
RUNS = ("training", "programs", "runs", "comparisons")


def pytest_configure(config: pytest.Config) -> None:
    """What is deprecated is an error where a line of ours asks for it; what libraries ask of each other is theirs."""
    tests = Path(__file__).parent
    names = {path.relative_to(tests).parts[0].removesuffix(".py") for path in tests.rglob("*.py")}
    names |= {path.stem for path in tests.rglob("test_*.py")}  # those of folders that are no packages
    ours = "|".join(map(re.escape, sorted(names | {"vdm", "configs", "benchmarks", "examples"})))
    for category in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"):
        config.addinivalue_line("filterwarnings", rf"error::{category}:({ours})(\.|$)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long files first: the last to be handed out keep no worker when the other is done. Slow ones if asked for."""
    if "slow" not in config.option.markexpr:
        items[:] = [item for item in items if item.get_closest_marker("slow") is None]
    items.sort(key=lambda item: item.path.parent.name not in RUNS)


@pytest.fixture(autouse=True)
def promotion(request: pytest.FixtureRequest) -> Iterator[None]:
    """Standard promotion where Optax is used."""
    if request.path.parent.name in RUNS:
        with jax.numpy_dtype_promotion("standard"):
            yield
    else:
        yield


@pytest.fixture
def unannotated() -> Iterator[None]:
    """As outside of pytest, where no annotation is checked: for what the package itself must refuse."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True, scope="module")
def blank_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where whole runs are compared, figures are made and written, but not drawn: that takes longer than to train.

    Those of plots/ and programs/ are, and those of comparisons in test_..._plot.py.
    """

    def savefig(self: Figure, file: BinaryIO, **kwargs: Any) -> None:
        Image.new("RGB", (8, 8)).save(file, format="PNG")

    if request.path.parent.name in ("training", "comparisons") and not request.path.stem.endswith("_plot"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Figure, "savefig", savefig)
            yield
    else:
        yield
