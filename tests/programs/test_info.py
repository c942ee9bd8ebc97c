"""`vdm info`: what a bug report needs is there, and nothing that nobody should see."""

import importlib.metadata
import json
import os
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import vdm
from vdm.programs import info
from vdm.programs.commands import info as command


def test_it_says_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["versions", "machine", "devices", "caches", "extras", "environment"]
    expected = {"vdm": vdm.__version__, "jax": jax.__version__, "numpy": np.__version__}
    assert expected.items() <= found["versions"].items()
    assert found["versions"]["python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert {"flax", "optax", "orbax-checkpoint", "jaxlib", "git revision"} <= set(found["versions"])
    device = jax.devices()[0]
    assert (found["devices"]["kind"], found["devices"]["number"]) == (device.device_kind, len(jax.devices()))
    assert found["devices"]["default precision"] == "tf32, as float32 on this device"
    command.main([])
    lines = capsys.readouterr().out.splitlines()
    for group, values in found.items():
        assert group in lines
        for name, value in values.items():
            shown = "" if group == "caches" else str(value)  # which other tests add to meanwhile
            assert any(line.startswith(f"  {name}") and shown in line for line in lines), name


def test_secrets_and_homes_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    found = info.of_environment(
        {
            "WANDB_API_KEY": "abc", "HF_TOKEN": "def", "JAX_PASSWORD": "ghi", "SHELL": "/bin/sh",
            "VDM_CACHE": "/home/someone/cache", "WANDB_BASE_URL": "https://me:secret@there.example/a",
        }
    )  # fmt: skip
    assert found == {
        "HF_TOKEN": "(set)", "JAX_PASSWORD": "(set)", "VDM_CACHE": "~/cache", "WANDB_API_KEY": "(set)",
        "WANDB_BASE_URL": "https://…@there.example/a",
    }  # fmt: skip


def test_devices_that_cannot_be_used_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("no such devices\nand more")

    monkeypatch.setattr(jax, "devices", fail)
    assert info.of_devices() == {"none": "no such devices"}


def test_sizes_of_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept" / "inside").mkdir(parents=True)
    for name in ("kept/a", "kept/inside/b"):
        (tmp_path / name).write_bytes(bytes(3 << 19))
    monkeypatch.setenv("VDM_CACHE", str(tmp_path / "kept"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
    found = info.of_caches()
    assert found["vdm (VDM_CACHE)"] == f"{tmp_path}/kept, 3 MiB in 2 files"
    assert found["data (TFDS_DATA_DIR)"] == f"{tmp_path}/nothing, not there"


def test_extras_are_read_from_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {
        "vdm": [
            "jax>=0.10",
            'jax[cuda12]>=0.10; extra == "cuda"',
            "numpy ; extra == 'text'",
            'nothing; extra == "text"',
        ],
        "jax": ['no-plugin==1; extra == "cuda12"', "numpy"],
    }

    class Metadata:
        def get_all(self, name: str) -> list[str]:
            return ["cuda", "text"]

    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: Metadata())
    monkeypatch.setattr(importlib.metadata, "requires", needed.get)
    found = info.of_extras()
    assert found == {"cuda": "jax missing", "text": f"numpy {np.__version__}, nothing missing"}


def test_it_is_not_the_first_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that another program empties meanwhile."""
    (tmp_path / "a").write_bytes(b"a")
    real = os.lstat

    def gone(path: str) -> os.stat_result:
        if str(path).endswith("/a"):
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(os, "lstat", gone)
    assert info._folder(str(tmp_path)) == f"{tmp_path}, 0 B in 0 files"
