"""The pages that people read, and the blocks of code in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
"""On the line before a block: nobody runs it, and why."""

RUN_ELSEWHERE = ("docs/howto/own_parts.md",)
"""Whose commands and code tests/test_examples.py runs as they stand."""

BETWEEN = ("&&", "||", "|", ";", "&", "do", "then", "done", "fi")
"""Words of the shell between commands."""


class Block(NamedTuple):
    """Code between two lines of ```."""

    page: Path
    line: int
    """Of its first line of code, from 1."""
    language: str
    code: str
    exempt: bool
    """Whether it says that it is not run."""

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages(*patterns: str) -> list[Path]:
    """Pages in order; by default all that people write."""
    given = patterns or ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md", "models/*/README.md")
    return sorted({path for pattern in given for path in ROOT.glob(pattern)})


def blocks(page: Path) -> list[Block]:
    """Those of a page, also where they are indented."""
    found = []
    lines = page.read_text().splitlines()
    start, opened = 0, None
    for number, line in enumerate(lines):
        fence = re.match(r"\s*```\s*(\w*)", line)
        if fence and opened is None:
            start, opened = number, fence[1]
        elif fence:
            code = lines[start + 1 : number]
            indent = re.match(r"\s*", lines[start])[0]
            before = next((text for text in reversed(lines[:start]) if text.strip()), "")
            text = "".join(f"{line.removeprefix(indent)}\n" for line in code)
            found.append(Block(page, start + 2, opened, text, bool(NOT_RUN.search(before))))
            opened = None
    assert opened is None, f"{page}: a block has no end"
    return found


def commands(code: str) -> Iterator[list[str]]:
    """The words of each command of a shell's text: without comments, variables before it, and what it is written to."""
    for line in code.replace("\\\n", " ").splitlines():
        reader = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        reader.whitespace_split = True
        words: list[str] = []
        for word in [*reader, ";"]:
            if word in BETWEEN:
                yield from _command(words)
                words = []
            else:
                words.append(word)


def _command(words: list[str]) -> Iterator[list[str]]:
    while words and re.fullmatch(r"\w+=.*|env|time|\$|-u", words[0]):
        words = words[1:]
    end = next((k for k, word in enumerate(words) if set(word) <= set("<>&")), len(words))
    if words[:end]:
        yield words[:end]
