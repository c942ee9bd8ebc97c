"""`vdm push` and `vdm pull`: a released model by a folder, and by a hub on loopback, comes back file by file."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import fake_hub
import pytest
from commands import error_line
from released_runs import contents, finished

from vdm.files import write_json
from vdm.programs.commands import pull, push
from vdm.runs import hub
from vdm.runs.open import Run, open_run
from vdm.runs.places import known, pulled
from vdm.runs.records import weights_digest

LICENCES = ("--licence=Apache-2.0", "--data_licence=CC0-1.0")
FILES = {"README.md", "card.json", "config.json", "model.safetensors"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished(tmp_path_factory.mktemp("push") / "run")


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """No models but the test's own; the run opens without a checkpoint."""
    monkeypatch.setenv("VDM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("vdm.runs.places.PLACES", (pulled,))
    monkeypatch.setattr(push, "open_run", lambda path, *rest: run if path == run.path else open_run(path, *rest))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def the_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_hub.Hub]:
    pytest.importorskip("huggingface_hub")
    # Large files by the older protocol: the newer one asks for servers beside the hub.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with fake_hub.serving() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        monkeypatch.setenv("HF_TOKEN", "hf_none")
        yield served


def test_a_folder_and_back(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    push.main([str(run.path), "shared/mine", *LICENCES])
    (tmp_path / "shared" / "mine" / "evil.py").write_text("")
    pull.main(["shared/mine"])
    pull.main(["shared/mine", "other"])
    assert set(known()) == {"mine", "other"}
    wanted = {name: data for name, data in contents(tmp_path / "shared" / "mine").items() if name in FILES}
    for folder in known().values():
        assert contents(folder) == wanted
    assert weights_digest(open_run("vdm:mine").variables) == weights_digest(run.variables)
    capsys.readouterr()
    pull.main([])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["vdm:mine", "vdm:other"]


def test_a_hub_and_back(run: Run, the_hub: fake_hub.Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    push.main([str(run.path), "hf:me/mine", *LICENCES])
    assert f"wrote {the_hub.address}/me/mine" in capsys.readouterr().out
    assert FILES <= set(the_hub.repos["me/mine"]) <= FILES | {".gitattributes"}
    the_hub.repos["me/mine"]["evil.py"] = b"raise SystemExit"
    pull.main(["hf:me/mine"])
    assert contents(known()["mine"]) == {name: the_hub.repos["me/mine"][name] for name in FILES}
    assert weights_digest(open_run("vdm:mine").variables) == weights_digest(run.variables)
    # A released model keeps its files.
    push.main(["vdm:mine", "hf:me/again"])
    assert {name: the_hub.repos["me/again"][name] for name in FILES} == contents(known()["mine"])


def test_a_branch_of_a_hub(run: Run, the_hub: fake_hub.Hub) -> None:
    """The name in the card is that of the repository, without the revision."""
    push.main([str(run.path), "hf:me/mine@main", *LICENCES])
    assert json.loads(the_hub.repos["me/mine"]["card.json"])["name"] == "mine"


def test_pulling_again_mends_what_was_damaged(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    push.main([str(run.path), "mine", *LICENCES])
    pull.main(["mine"])
    kept = known()["mine"]
    with (kept / "model.safetensors").open("ab") as file:
        file.write(b"x")
    pull.main(["mine"])
    assert contents(kept) == contents(tmp_path / "mine")
    (kept / "card.json").write_text("{}")
    capsys.readouterr()
    pull.main([])
    assert "vdm:mine  is damaged" in capsys.readouterr().out
    assert "or damaged" in error_line(pull.main, ["mine"], capsys)
    pull.main(["mine", "--replace"])
    assert contents(kept) == contents(tmp_path / "mine")


def test_what_comes_damaged_from_a_hub_is_not_kept(
    run: Run, the_hub: fake_hub.Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    push.main([str(run.path), "hf:me/mine", *LICENCES])
    capsys.readouterr()
    the_hub.repos["me/mine"]["config.json"] += b" "
    assert "config.json: has " in error_line(pull.main, ["hf:me/mine"], capsys)
    assert known() == {}


def test_a_repository_that_is_not_there(the_hub: fake_hub.Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert "hf:me/nothing: RepositoryNotFoundError" in error_line(pull.main, ["hf:me/nothing"], capsys)


def test_without_the_client(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for main, arguments in ((pull.main, ["hf:me/mine"]), (push.main, [str(run.path), "hf:me/mine", *LICENCES])):
        assert "pip install 'vdm[hub]'" in error_line(main, arguments, capsys)


def test_another_model_of_the_name_is_not_lost(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    push.main([str(run.path), "mine", *LICENCES])
    pull.main(["mine"])
    card = json.loads((tmp_path / "mine" / "card.json").read_text())
    config = tmp_path / "mine" / "config.json"
    config.write_text(config.read_text() + "\n")
    card["files"]["config.json"] = {"sha256": push.cards.sha256(config), "bytes": config.stat().st_size}
    write_json(tmp_path / "mine" / "card.json", card)
    capsys.readouterr()
    assert "vdm:mine: is another model" in error_line(pull.main, ["mine"], capsys)
    pull.main(["mine", "--replace"])
    assert contents(known()["mine"]) == contents(tmp_path / "mine")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["RUN", "mine"], "--licence: must be given"),
        (["RUN", "mine", "--licence=MIT"], "--data_licence: must be given"),
        (["RUN", "mine", "--name=a/b", *LICENCES], "--name=a/b: must be letters"),
        (["RUN", ".", *LICENCES], "is there already; must be a new folder"),
        (["RUN", "hf:mine", *LICENCES], "must be hf:OWNER/NAME"),
        (["vdm:nothing", "mine", *LICENCES], "no such released model"),
    ],
)
def test_bad_pushes(run: Run, argv: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in error_line(push.main, [str(run.path) if word == "RUN" else word for word in argv], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", [*LICENCES, "--description=Other", "--machine=a GPU", "--name=other"])
def test_a_released_model_keeps_its_card(run: Run, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    push.main([str(run.path), "mine", *LICENCES])
    pull.main(["mine"])
    capsys.readouterr()
    says = error_line(push.main, ["vdm:mine", "again", flag], capsys)
    assert says.startswith(f"error: {flag.partition('=')[0]}: vdm:mine has a card, which says that already")
    assert "must be vdm:mine" in error_line(push.main, ["vdm:mine:3", "again"], capsys)
    assert not Path("again").exists()


def test_a_released_model_goes_to_a_folder_of_any_name(run: Run, tmp_path: Path) -> None:
    """Its name is in its card; a flag for another is refused."""
    push.main([str(run.path), "mine", *LICENCES])
    pull.main(["mine"])
    for _ in range(2):
        push.main(["vdm:mine", "my models, second try", "--replace"])
        assert contents(tmp_path / "my models, second try") == contents(tmp_path / "mine")


def test_what_is_no_released_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no card.json" in error_line(pull.main, [str(tmp_path)], capsys)
    assert "must be hf:OWNER/NAME" in error_line(pull.main, ["hf:../mine"], capsys)


def test_revisions() -> None:
    assert hub.repo_of("hf:me/mine@v1.0") == "me/mine@v1.0"
