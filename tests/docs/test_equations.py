"""The index of equations: every citation parses and exists, and every equation is implemented or said not to be."""

import pkgutil
import re
from pathlib import Path

import pytest

from docs_hooks import citations, equations, numbering
from docs_hooks.citations import SPECIFICATION, Docstring

ROOT = Path(__file__).parents[2]
DOCSTRINGS = list(citations.docstrings(ROOT / "vdm"))
CITED = citations.of_package(ROOT / "vdm")
OURS = {citation.number for citation in CITED if citation.document == SPECIFICATION}
THEIRS = {int(citation.number) for citation in CITED if citation.document == equations.KINGMA}
SEEDS = sorted((ROOT.parent / "shared" / "seeds").glob("003_*.txt"))


def between(first: str, last: str) -> set[str]:
    return set(citations.spelled_out(f"{first}-{last}"))


def of_chapters(*chapters: str) -> set[str]:
    return {f"{chapter}.{k}" for chapter in chapters for k in range(1, numbering.EQUATIONS[chapter] + 1)}


@pytest.mark.skipif(not SEEDS, reason="the specification is not part of the repository")
def test_the_numbering_is_that_of_the_specification():
    found = re.findall(r"\((?:\\text\{)?([234A])\.(\d+)\}?\)|\\tag\{([234A])\.(\d+)\}", SEEDS[0].read_text())
    assert {f"{a or c}.{b or d}" for a, b, c, d in found} == of_chapters("2", "3", "4", "A")


def test_every_mention_of_an_equation_is_a_citation():
    for docstring in DOCSTRINGS:
        mentioned = len(re.findall(r"\b(?:Eqs?\.|[Ee]quations? \(?[\dA]+[.)])", docstring.text))
        assert mentioned == len(citations.CITATION.findall(docstring.text)), docstring


def test_every_equation_cited_exists():
    assert of_chapters("2", "3", "4", "A") | set(numbering.TABLES) >= OURS
    assert set(numbering.KINGMA) >= THEIRS


def test_the_equations_that_the_code_is_made_of_are_implemented():
    """Whoever drops a citation, or adds one, says in the index what the equation is."""
    assert set(numbering.MEANINGS) == OURS
    assert set(numbering.KINGMA) - set(numbering.KINGMA_NOT_FUNCTIONS) == THEIRS


def test_every_other_equation_says_why_it_is_no_function():
    listed = [number for first, last, _ in numbering.NOT_FUNCTIONS for number in between(first, last)]
    assert len(listed) == len(set(listed))
    assert set(listed) == of_chapters("3", "4", "A") - OURS


def test_misprints_are_cited_as_corrected():
    corrected = {citation.number for citation in CITED if citation.corrected and citation.document == SPECIFICATION}
    assert corrected == {"3.104", "4.46", "4.65", "4.150", "Table 4.2"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Eq. 3.32 of De Sousa Ribeiro & Glocker (2024).", [(SPECIFICATION, "3.32", False)]),
        ("As De Sousa Ribeiro & Glocker (2024), Eq. A.4 says", [(SPECIFICATION, "A.4", False)]),
        ("Kingma et al. (2021), Eq. 12.", [("Kingma et al. (2021)", "12", False)]),
        ("the rule (Kingma et al. 2021, Eq. 12 and 14)", [("Kingma et al. (2021)", n, False) for n in ("12", "14")]),
        ("(Song, Meng & Ermon 2021, Eq. 12; Wang, Eq. 5–6)", [
            ("Song, Meng & Ermon (2021)", "12", False), ("Wang", "5", False), ("Wang", "6", False)]),
        ("Eq. 8 of Burda et al. (2016), with the other sign", [("Burda et al. (2016)", "8", False)]),
        ("Eq. 3.104, corrected: √", [(SPECIFICATION, "3.104", True)]),
        ("Table 4.2 of De Sousa Ribeiro & Glocker (2024), corrected", [(SPECIFICATION, "Table 4.2", True)]),
        ("Karras et al. 2022, Table 1", []),
    ],
)  # fmt: skip
def test_citations_are_read_off_a_text(text, found):
    docstring = Docstring("vdm.here", text, module="Bare numbers are those of De Sousa Ribeiro & Glocker (2024).")
    assert [citation[:3] for citation in citations.of_text(docstring)] == found


def test_a_number_of_no_document_is_refused():
    with pytest.raises(ValueError, match=r"vdm\.here: 'Eq\. 3\.1' is of no document"):
        list(citations.of_text(Docstring("vdm.here", "A draw, Eq. 3.1.", module="")))


@pytest.mark.parametrize("where", sorted({citation.where for citation in CITED}))
def test_what_is_listed_can_be_imported(where):
    assert pkgutil.resolve_name(where) is not None


def test_the_page_has_every_equation_once_in_each_table():
    page = equations.equations()
    ours = page[: page.index("## Kingma")]
    for number in OURS:
        assert len(re.findall(rf"^\| {re.escape(number)}(?:, corrected)? \|", ours, re.MULTILINE)) == 1, number
    assert (
        "| 3.104, corrected | the same from ε̂ | [`gaussian.posterior_from_eps`][vdm.gaussian.posterior_from_eps]"
        in ours
    )
    assert "`verify.checks.bound`" in ours
    assert "[vdm.verify" not in page  # no part of the API's pages, so nothing to link to
