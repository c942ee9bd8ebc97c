"""Where `vdm:NAME` is: in the first of four places, or nowhere, which is one line with the nearest name."""

import sys
from pathlib import Path

import pytest

from vdm.errors import InputError
from vdm.runs import places
from vdm.runs.places import home, known, located, name_of, split_checkpoint


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "card.json").write_text("{}")
    return folder


@pytest.fixture
def four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The four places: a folder that is given, the cache, the installed package, the checkout."""
    folders = [
        tmp_path / "given",
        tmp_path / "cache" / "models",
        tmp_path / "site" / "vdm_models",
        tmp_path / "checkout",
    ]
    monkeypatch.setenv("VDM_MODELS", str(folders[0]))
    monkeypatch.setenv("VDM_CACHE", str(tmp_path / "cache"))
    folders[2].mkdir(parents=True)
    (folders[2] / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "vdm_models", raising=False)
    monkeypatch.setattr(places, "_CHECKOUT", folders[3])
    return folders


def test_the_first_place_that_has_it(four: list[Path]) -> None:
    for folder in reversed(four):
        make(folder, "digits")
        assert located("vdm:digits") == folder / "digits"
        assert name_of(folder / "digits") == "vdm:digits"
    assert name_of(four[3] / "digits") == str(four[3] / "digits")


def test_all_of_them_are_known(four: list[Path]) -> None:
    for number, folder in enumerate(four):
        make(folder, f"model_{number}")
    (four[0] / "no_model").mkdir()
    assert list(known()) == [f"model_{number}" for number in range(4)]


def test_places_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VDM_MODELS", raising=False)
    monkeypatch.setenv("VDM_CACHE", str(tmp_path / "nothing"))
    monkeypatch.setattr(places, "_CHECKOUT", tmp_path / "nothing")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"vdm:digits: no such released model; here are none: pip install \./models"):
        located("vdm:digits")
    assert not (tmp_path / "nothing").exists()


def test_an_unknown_name_has_the_nearest_beside_it(four: list[Path]) -> None:
    make(four[0], "digits", "toy")
    with pytest.raises(InputError, match=r"vdm:digit: no such .* did you mean vdm:digits\? here are digits, toy"):
        located("vdm:digit")
    with pytest.raises(InputError, match=r"vdm:zebra: no such released model; here are digits, toy"):
        located("vdm:zebra")
    make(four[0].parent, "secret")
    for name in ("vdm:../secret", "vdm:", f"vdm:{four[0]}/digits"):
        with pytest.raises(InputError, match="no such released model"):
            located(name)


def test_a_path_is_itself(tmp_path: Path) -> None:
    assert located(tmp_path / "run") == tmp_path / "run"
    assert home(tmp_path / "run") == tmp_path / "run"
    assert name_of(tmp_path / "run") == str(tmp_path / "run")


def test_runs_with_checkpoints(tmp_path: Path) -> None:
    assert split_checkpoint("vdm:digits:best") == (Path("vdm:digits"), "best")
    assert split_checkpoint("runs/digits") == (Path("runs/digits"), "latest")
    (tmp_path / "a:b").mkdir()
    assert split_checkpoint(f"{tmp_path}/a:b") == (tmp_path / "a:b", "latest")
    assert split_checkpoint(f"{tmp_path}/a:b:3") == (tmp_path / "a:b", "3")
