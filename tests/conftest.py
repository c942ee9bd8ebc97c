"""Every test runs with shape annotations checked, silent broadcasting and silent dtype promotion refused."""

import gc
import importlib.metadata
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Compiled programs are shared between the workers of a session, and with the programs they start; between sessions too
# where JAX_COMPILATION_CACHE_DIR names a folder.
if "PYTEST_XDIST_WORKER" not in os.environ and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
# What else is kept is of this session: no test finds what another left in a user's folder.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _KEPT = tempfile.TemporaryDirectory()
    os.environ["VDM_CACHE"] = _KEPT.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Programs without the lines of Python that made them are lowered faster.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"

# Before jax is imported: eight CPU devices, each on one thread (see vdm.parallel). The rest makes compiling, which is
# much of what the suite does, three times as fast; the programs in .ci/run are compiled by the defaults.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0"
    " --xla_cpu_parallel_codegen_split_count=1"
)
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones have no other emitters, nor the flag
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

import jax
import jaxtyping
import pytest
import small
from jaxtyping import install_import_hook
from matplotlib.figure import Figure

install_import_hook("vdm", "beartype.beartype")

# Tracing makes many objects that live for long, and searching all of them for cycles is a tenth of the time.
gc.set_threshold(100_000, 50, 100)
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


def pytest_collection_finish() -> None:
    """What is there by now stays."""
    gc.collect()
    gc.freeze()


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
def small_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Of whole runs figures are made and written, but not drawn, which takes as long as to train: see small.py.

    Those of plots/ are drawn, those of comparisons in test_..._plot.py, those of programs in processes of their own.
    """
    if request.path.parent.name in RUNS and not request.path.stem.endswith("_plot"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Figure, "savefig", small.savefig)
            yield
    else:
        yield
