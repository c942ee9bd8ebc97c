"""Every test runs with shape annotations checked, silent broadcasting and silent dtype promotion refused."""

import os
import tempfile
from collections.abc import Iterator

# Compiled programs are shared between the workers of a session, and with the programs they start; between sessions too
# where JAX_COMPILATION_CACHE_DIR names a folder.
if "PYTEST_XDIST_WORKER" not in os.environ and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# Before jax is imported: eight CPU devices, each on one thread (see vdm.parallel). The rest is for compilers' time, which
# is most of the suite's: a third of that of XLA's defaults, which the programs in .ci/run have.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_cpu_multi_thread_eigen=false"
    " --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("vdm", "beartype.beartype")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True)
def promotion(request: pytest.FixtureRequest) -> Iterator[None]:
    """Optax mixes int32 counts with Python floats: standard promotion where it is used."""
    if request.path.parent.name in ("training", "programs", "runs", "comparisons"):
        with jax.numpy_dtype_promotion("standard"):
            yield
    else:
        yield
