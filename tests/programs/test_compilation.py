"""Where compiled programs are kept, by what the environment says; nothing is compiled here."""

import os
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from vdm.programs import compilation

NAMES = ("jax_compilation_cache_dir", "jax_compilation_cache_max_size", "jax_enable_compilation_cache")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if there were a GPU, and no folder was named."""
    before = {name: jax.config.values[name] for name in NAMES}
    monkeypatch.delenv("VDM_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_MAX_SIZE", raising=False)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def kept() -> str | None:
    compilation.keep()
    folder: str | None = jax.config.values["jax_compilation_cache_dir"]
    return folder


def test_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kept() == str(tmp_path / ".cache" / "vdm" / "programs")
    # Who may write there may run what he likes.
    assert os.stat(tmp_path / ".cache" / "vdm" / "programs").st_mode & 0o777 == 0o700
    assert jax.config.values["jax_compilation_cache_max_size"] == 4 << 30


def test_in_the_cache_folder_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", "1000")
    jax.config.update("jax_compilation_cache_max_size", 1000)
    assert kept() == str(tmp_path / "vdm" / "programs")
    assert jax.config.values["jax_compilation_cache_max_size"] == 1000


def test_in_the_folder_of_all_that_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setenv("VDM_CACHE", str(tmp_path))
    assert kept() == str(tmp_path / "programs")
    assert not (tmp_path / "other").exists()


def test_where_jax_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    assert kept() == str(tmp_path)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("home", ["file", "/proc/nothing", "not/absolute"])
def test_nowhere_without_a_folder(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "file") if home == "file" else home)
    assert kept() is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_not_on_a_cpu_nor_where_it_is_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_enable_compilation_cache", False)
    assert kept() is None
    jax.config.update("jax_enable_compilation_cache", True)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert kept() is None
    assert list(tmp_path.iterdir()) == []
