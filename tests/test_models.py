"""The released models in models/: each opens, is as its card says, and measures as its card says."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import jax
import pytest

import vdm
from vdm.evaluation.bound import Evaluator
from vdm.keys import Stream
from vdm.runs.card_text import as_markdown
from vdm.runs.released import ALL, MAX_BYTES, WEIGHTS, check_files, read_card

MODELS = Path(__file__).parents[1] / "models"
NAMES = sorted(path.parent.name for path in MODELS.glob("*/card.json"))


@pytest.fixture(autouse=True)
def _these(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VDM_MODELS", str(MODELS))
    monkeypatch.chdir(tmp_path)


def test_there_are_some() -> None:
    assert {"digits", "toy"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_and_is_as_its_card_says(name: str) -> None:
    """Hash, size, step, parameters and data; no data are read for it."""
    card = check_files(MODELS / name)
    run = vdm.open_run(f"vdm:{name}")
    assert card["name"] == name
    assert card["step"] == run.step == run.config.training.steps
    assert card["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(run.variables))
    assert card["data"]["name"] == run.config.data.name
    assert tuple(card["data"]["shape"]) == run.config.data.shape == run.model.shape
    assert card["data"]["levels"] == run.config.data.levels
    assert card["training"]["seed"] == run.config.seed
    assert (MODELS / name / WEIGHTS).stat().st_size < MAX_BYTES
    assert not any(Path().iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_its_card_has_what_it_must(name: str) -> None:
    card = read_card(MODELS / name)
    assert card["licence"] == "Apache-2.0"
    for said in (card["data_licence"], card["description"], card["training"]["machine"], card["data"]["version"]):
        assert said
    assert re.fullmatch("[0-9a-f]{40}", card["training"]["git_revision"])
    assert {"jax", "flax"} <= set(card["training"]["versions"])
    assert {(bound["kind"], bound["T"]) for bound in card["bounds"]} >= {("variational", None)}
    for measured in (*card["bounds"], *card["metrics"]):
        assert measured["command"].startswith(("vdm ", "python "))
        assert measured["stderr"] > 0
    assert (MODELS / name / "README.md").read_text() == as_markdown(card)


@pytest.mark.parametrize("name", NAMES)
def test_no_path_of_a_machine_is_in_it(name: str) -> None:
    for file in ("card.json", "config.json", "README.md"):
        text = (MODELS / name / file).read_text()
        assert not re.search(r"(?<![\w.:/])/(home|tmp|root|Users|usr|work|var|opt|mnt|data)\b", text), file


@pytest.mark.parametrize(("name", "draws", "max_images"), [("digits", 2, 300), ("toy", 10, 2000)])
def test_its_bound_is_that_of_its_card(name: str, draws: int, max_images: int) -> None:
    """Of other draws, within four standard errors of both together."""
    card = read_card(MODELS / name)
    said = next(bound for bound in card["bounds"] if bound["kind"] == "variational" and bound["T"] is None)
    run = vdm.open_run(f"vdm:{name}")
    run = replace(run, config=replace(run.config, seed=1))
    evaluate = Evaluator(run.model, run.mesh, batch_size=100)
    found = evaluate(run.variables, run.dataset.test, run.key(Stream.EVALUATION), draws, max_images=max_images)
    allowed = 4 * (found.stderr**2 + said["stderr"] ** 2) ** 0.5
    assert abs(found.total - said["bits_per_dim"]) < allowed
    assert allowed < 0.5, "or else it says nothing"


def test_the_package_has_all_of_them(tmp_path: Path) -> None:
    """A wheel, built as pip does; installed elsewhere, vdm finds the models in it."""
    pytest.importorskip("setuptools", minversion="77")
    shutil.copytree(MODELS, tmp_path / "models", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=tmp_path / "models", check=True)
    [wheel] = tmp_path.glob("vdm_models-*.whl")
    wanted = {f"vdm_models/{name}/{file}" for name in NAMES for file in ALL if (MODELS / name / file).exists()}
    with zipfile.ZipFile(wheel) as file:
        assert {each for each in file.namelist() if ".dist-info/" not in each} == {*wanted, "vdm_models/__init__.py"}
        file.extractall(tmp_path / "site")
    program = (
        "from vdm.runs.places import known; import json; print(json.dumps({k: str(v) for k, v in known().items()}))"
    )
    alone = {"VDM_MODELS": "", "VDM_CACHE": str(tmp_path / "cache")}
    path = os.pathsep.join([str(tmp_path / "site"), str(MODELS.parent)])
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | alone | {"PYTHONPATH": path},
    )
    folders = {name: str(tmp_path / "site" / "vdm_models" / name) for name in NAMES}
    assert json.loads(found.stdout.splitlines()[-1]) == folders
