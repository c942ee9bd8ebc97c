"""Find config files by path or by name, and load them; those that come with vdm are in configs/.

A config file is a Python file with `get_config() -> Config`, or `-> PredecessorConfig`, and, for `vdm compare`,
`get_comparison()`. It may import other config files, from its own folder or among those that come with vdm, by
`from configs import digits`.
"""

import difflib
import importlib.util
import re
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from vdm.config import Config
from vdm.errors import InputError

_PACKAGE = Path(__file__).parents[1]
FOLDER = next(filter(Path.is_dir, (_PACKAGE / "configs", _PACKAGE.parent / "configs")), _PACKAGE / "configs")
"""Folder of the configs that come with vdm: inside the package in a wheel, beside it in a checkout."""


# Python's error for a config file of an earlier version that sets this field.
_OLD_DTYPE = re.compile("unexpected keyword argument 'dtype'|'NetworkConfig' object has no attribute 'dtype'")


class Loaded(NamedTuple):
    """What a config file returns."""

    config: Any
    comparison: Any
    """The value of its `get_comparison()`; None if it has none."""


def names() -> list[str]:
    """Return the names of the configs that come with vdm."""
    return sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


def find(text: str) -> Path:
    """Return the file that --config=`text` means. Raises `InputError` unless it is a path or one of `names`."""
    if Path(text).is_file():
        return Path(text)
    if text in names():
        return FOLDER / f"{text}.py"
    near = difflib.get_close_matches(Path(text).stem, names(), n=5, cutoff=0.4) or names()[:5]
    raise InputError(f"--config={text}: no such file, and no config of that name; valid: {', '.join(near)}, …")


def load(path: Path, kinds: Sequence[type] = (Config,)) -> Loaded:
    """Run a config file. Raises `InputError` for whatever it raises, and for a config of none of these classes."""
    spec = importlib.util.spec_from_file_location(f"configs.{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"--config={path}: must be a Python file, NAME.py")
    module = importlib.util.module_from_spec(spec)
    try:
        with _importable(path.parent):
            spec.loader.exec_module(module)
            loaded = Loaded(module.get_config(), getattr(module, "get_comparison", lambda: None)())
    except InputError:
        raise
    except Exception as error:  # whatever a user's config file raises
        hint = "; network.dtype is now training.precision" * bool(_OLD_DTYPE.search(str(error)))
        raise InputError(f"--config={path}: {type(error).__name__}: {error}{hint}") from error
    if not isinstance(loaded.config, tuple(kinds)):
        what, wanted = type(loaded.config).__name__, " or ".join(kind.__name__ for kind in kinds)
        raise InputError(f"--config={path}: get_config() returned {what}, not vdm's {wanted}")
    return loaded


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Make `configs` a package of the files in `folder` and those that come with vdm, hiding any other of that name."""

    def modules() -> dict[str, types.ModuleType]:
        return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "configs"}

    before = modules()
    for name in before:
        del sys.modules[name]
    package = sys.modules["configs"] = types.ModuleType("configs")
    package.__path__ = [str(folder.absolute()), str(FOLDER)]
    try:
        yield
    finally:
        for name in modules():
            del sys.modules[name]
        sys.modules.update(before)
