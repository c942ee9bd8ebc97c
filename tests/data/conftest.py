import pytest

from vdm.config import DataConfig
from vdm.data import Dataset, load


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> str:
    """One folder of prepared data for all tests of this directory."""
    return str(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def digits(data_dir) -> Dataset:
    return load(DataConfig(name="digits", data_dir=data_dir))


@pytest.fixture(scope="session")
def photos32(data_dir) -> Dataset:
    return load(DataConfig(name="photos32", data_dir=data_dir))
