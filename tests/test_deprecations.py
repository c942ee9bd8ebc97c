"""What is deprecated is an error in the tests where a line of ours asks for it: the filters of conftest.py."""

import warnings

import pytest

CATEGORIES = [DeprecationWarning, PendingDeprecationWarning, FutureWarning]


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize(
    "module", ["vdm", "vdm.model", "configs.digits", "networks.test_unet", "test_pipeline", "tiny"]
)
def test_ours_is_an_error(module: str, category: type[Warning]) -> None:
    with pytest.raises(category, match="old"):
        warnings.warn_explicit("old", category, "file.py", 1, module=module)


@pytest.mark.parametrize("category", CATEGORIES)
def test_this_line_is_ours(category: type[Warning]) -> None:
    with pytest.raises(category, match="old"):
        warnings.warn("old", category, stacklevel=1)


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("module", ["jax._src.core", "vdmx", "networkx.utils", "tinycss"])
def test_a_librarys_is_not(module: str, category: type[Warning]) -> None:
    with pytest.warns(category, match="old"):
        warnings.warn_explicit("old", category, "file.py", 1, module=module)
