"""Examples in docstrings are run, and every public constructor has one."""

import doctest
import importlib
import pkgutil
from types import ModuleType

import jax
import pytest

import vdm
from vdm import parts

MODULES = [m.name for m in pkgutil.walk_packages(vdm.__path__, "vdm.") if not m.name.endswith("__main__")]


def examples(module: ModuleType) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    runner = doctest.DocTestRunner(optionflags=doctest.REPORT_ONLY_FIRST_FAILURE)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for test in examples(importlib.import_module(name)):
            runner.run(test)
    assert runner.failures == 0


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in parts.PARTS if kind not in ("source", "metric") for name in parts.names(kind)],
)
def test_every_part_has_an_example(kind, name):
    """Those without read data, or images."""
    assert ">>> " in (parts.constructor(kind, name).__doc__ or ""), name
