"""What the pages print: every command is one, Python runs, words are spelled, links lead somewhere."""

import os
import re
import shutil
import subprocess
import sys
import types
import unicodedata
from pathlib import Path

import jax
import pages
import parsing
import pytest
from pages import ROOT, RUN_ELSEWHERE, Block

import vdm

SHELL = ("sh", "bash", "console")
SCRIPTS = {f"{name}.py": name for name in ("train", "evaluate", "sample", "compare")}


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


def written(page: Path, language: str) -> list[Block]:
    """The page's blocks in a language, but those that are not run, or run elsewhere."""
    if ids(page) in RUN_ELSEWHERE:
        return []
    return [block for block in pages.blocks(page) if block.language == language and not block.exempt]


def check(words: list[str], page: Path) -> None:
    """AssertionError for a command of this repository that is none."""
    if words[0] == "vdm":
        check_vdm(words[1:])
    elif words[0].startswith("python") and words[1:2] == ["-m"]:
        if words[2] == "vdm":
            check_vdm(words[3:])
        elif words[2].startswith("vdm."):
            assert words[2] in parsing.MODULES, f"{words[2]}: is no program"
            parsing.command(parsing.MODULES[words[2]], words[3:])
        elif words[2] == "pytest":
            missing = [word for word in words[3:] if word.startswith("tests") and not (ROOT / word).exists()]
            assert not missing, missing
    elif words[0].startswith("python") and len(words) > 1 and words[1] in SCRIPTS:
        parsing.command(SCRIPTS[words[1]], words[2:])
    elif words[0].startswith("python") and len(words) > 1 and words[1].startswith(("examples/", "benchmarks/")):
        check_script(words[1], words[2:])
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M)
        assert {word for word in words[1:] if "=" not in word} <= set(targets), f"make has {targets}"
    elif words[:2] == ["pip", "install"]:
        extras = re.findall(r"\[([\w,]+)\]", " ".join(words[2:]))
        known = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), flags=re.M)
        assert {extra for each in extras for extra in each.split(",")} <= set(known), f"no such extra: {extras}"


def check_vdm(words: list[str]) -> None:
    if words[0] not in ("--help", "--version", "--helpfull"):
        parsing.command(words[0], words[1:])


def check_script(path: str, arguments: list[str]) -> None:
    """It is there, and its source, or that of its parts and of programs that it imports, has the flags."""
    file = ROOT / path
    assert file.is_file(), f"no {path}"
    imported = re.findall(r"^from (vdm\.programs[\w.]*) import", file.read_text(), flags=re.M)
    files = [file, *file.with_name(f"{file.stem}_parts").glob("*.py")]
    files += [ROOT / f"{module.replace('.', '/')}.py" for module in imported]
    source = "".join(each.read_text() for each in files if each.is_file())
    given = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
    unknown = {flag for flag in given if f'"{flag}"' not in source and not flag.startswith("--config")}
    assert not unknown, f"{path} has no {sorted(unknown)}"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to be in, with what a checkout has for commands to name."""
    for name in ("configs",):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_files(page: Path, folder: Path) -> None:
    """Python that begins with its own file's name: `# mine.py`."""
    for block in pages.blocks(page):
        if block.language == "python" and (name := re.match(r"# (\w+\.py)\n", block.code)):
            (folder / name[1]).write_text(block.code)


@pytest.mark.parametrize("page", [p for p in pages.pages() if ids(p) not in RUN_ELSEWHERE], ids=ids)
def test_every_command_is_one(page, folder):
    """Commands, flags, config files, fields and their values, parts: read by the real command line, not run."""
    write_files(page, folder)
    wrong = []
    for block in (block for language in SHELL for block in written(page, language)):
        for words in pages.commands(block.code):
            try:
                check(words, page)
            except AssertionError as error:
                wrong.append(f"{block.where}: {' '.join(str(error).split())[:400]}")
    assert not wrong, "\n" + "\n".join(wrong)


PYTHON = [page for page in pages.pages("README.md", "docs/learn/*.md", "docs/howto/*.md") if written(page, "python")]


@pytest.mark.parametrize("page", PYTHON, ids=ids)
def test_python_runs(page, folder, monkeypatch, capsys):
    """In order, in one namespace, as if typed."""
    write_files(page, folder)
    module = types.ModuleType("a_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in written(page, "python"):
            lines = "\n" * (block.line - 1)
            exec(compile(lines + block.code, str(page), "exec"), module.__dict__)


@pytest.mark.skipif(shutil.which("codespell", path=os.path.dirname(sys.executable)) is None, reason="no codespell")
def test_words_are_spelled():
    """By codespell, as pyproject.toml sets it up: pages, docstrings, comments."""
    command = [str(Path(sys.executable).with_name("codespell")), *map(ids, pages.pages()), "vdm", "configs", "examples"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "")


def slug(heading: str) -> str:
    """A heading's anchor on GitHub."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading).strip().lower()
    return "".join("-" if c == " " else c for c in text if c in " -_" or unicodedata.category(c)[0] in "LNM")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, flags=re.M)}


def links(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    in_markdown = re.findall(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)", re.sub(r"`[^`\n]*`", "", text))
    return in_markdown + re.findall(r"(?:href|src|srcset)=\"([^\"]+)\"", text)


@pytest.mark.parametrize("page", pages.pages("*.md", "models/*.md", "models/*/*.md", ".github/**/*.md"), ids=ids)
def test_links_lead_somewhere(page):
    """Files, pictures and anchors; `mkdocs build --strict` looks at those of docs/."""
    wrong = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists():
            wrong.append(f"{link}: no such file")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            wrong.append(f"{link}: no such heading")
    assert not wrong, wrong


def test_the_reader_of_pages_sees_what_it_should(tmp_path):
    """Or else the tests above would hold of nothing."""
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: why -->\n\n```sh\nvdm no\n```\n\n    ```sh\n    A=1 vdm train --x='a b' \\\n      --y > z # ok\n"
        "    vdm a && vdm b | cat; done\n    ```\n"
    )
    first, second = pages.blocks(page)
    assert (first.exempt, first.line, second.exempt) == (True, 4, False)
    assert list(pages.commands(second.code)) == [
        ["vdm", "train", "--x=a b", "--y"], ["vdm", "a"], ["vdm", "b"], ["cat"]
    ]  # fmt: skip
    assert slug("Own data: `npz` files") == "own-data-npz-files"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["vdm", "trian"], "no such command"),
        (["vdm", "train", "--config=digitz"], "no such file, and no config of that name"),
        (["vdm", "train", "--nonsense=1"], "nonsense"),
        (["vdm", "train", "--config.training.stepz=1"], "no such field"),
        (["vdm", "train", "--config.training.steps=0"], "must be 1 or more"),
        (["vdm", "train", "--config.training.loggers=('nonsense',)"], "must be one of jsonl, tensorboard"),
        (["vdm", "compare", "--by=codec", "--comparison.depths=(2,)"], "no such field"),
        (["vdm", "compress", "--run=runs/digits"], "required: --out"),
        (["python", "-m", "vdm.nonsense"], "is no program"),
        (["python", "benchmarks/kills.py", "--nonsense"], "has no"),
        (["make", "nonsense"], "make has"),
        (["pip", "install", "vdm[nonsense]"], "no such extra"),
    ],
)
def test_what_is_no_command_is_found(words, says, folder):
    with pytest.raises(AssertionError, match=re.escape(says)):
        check(words, ROOT / "README.md")


def test_citation_and_changelog_are_of_this_version():
    citation, project = (ROOT / "CITATION.cff").read_text(), (ROOT / "pyproject.toml").read_text()
    said = dict(re.findall(r"^([\w-]+): (.*)$", citation, flags=re.M))
    assert {"cff-version", "message", "title", "type"} <= set(said)
    assert said["version"] == vdm.__version__
    assert f'license = "{said["license"]}"' in project
    versions = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert vdm.__version__ in versions[:2]
