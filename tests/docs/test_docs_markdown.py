"""How docstrings, formulas and links become a page."""

import doctest
from xml.etree import ElementTree

import griffe
import pytest

from docs_hooks import docstrings, hooks, markup, mathematics, repository

MATHML = "{http://www.w3.org/1998/Math/MathML}"


@pytest.mark.parametrize("module", [docstrings, markup, mathematics])
def test_examples_of_docstrings_run(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_a_doctest_below_its_sentence_is_code():
    assert docstrings.markdown("A sum:\n>>> 1 + 1\n2") == "A sum:\n\n```pycon\n>>> 1 + 1\n2\n```"


def test_indented_blocks_stay_as_they_are():
    assert docstrings.markdown("Written\n\n    z_t = α x\n\n    z_s\n\nand so.") == (
        "Written\n\n    z_t = α x\n\n    z_s\n\nand so."
    )


def test_names_link_to_what_the_package_has():
    text = docstrings.markdown("`f` and `g(x)` and `numpy`", {"f": "vdm.f"}.get)
    assert text == '<autoref identifier="vdm.f" optional><code>f</code></autoref> and `g(x)` and `numpy`'


def test_shapes_are_as_written():
    """griffe alone reads "batch *data" as a product."""
    source = 'from jaxtyping import Array, Float\ndef f(x: Float[Array, "batch *data"]) -> Float[Array, " batch"]: ...'
    extensions = griffe.load_extensions(docstrings.Docstrings())
    function = griffe.visit("m", filepath=None, code=source, extensions=extensions)["f"]
    assert str(function.parameters["x"].annotation) == "Float[Array, 'batch *data']"
    assert str(function.returns) == "Float[Array, 'batch']"


def test_a_formula_is_mathml():
    """A fraction has two children, and what is not a formula stays."""
    page = r'<p>a <span class="arithmatex">\(\frac{1}{x &lt; 2}\)</span> b</p>'
    root = ElementTree.fromstring(mathematics.rendered(page))
    (fraction,) = root.iter(f"{MATHML}mfrac")
    assert len(fraction) == 2
    assert "".join(root.itertext()) == "a 1x<2 b"


def test_a_formula_of_unknown_commands_is_refused():
    with pytest.raises(ValueError, match="nosuch"):
        mathematics.mathml(r"\nosuch{x}")


def test_a_page_takes_what_a_generator_makes(monkeypatch):
    monkeypatch.setitem(hooks.GENERATORS, "mine", lambda: "here")
    assert hooks.on_page_markdown("a\n\n<!-- generated: mine -->\n", page=None) == "a\n\nhere\n"
    with pytest.raises(KeyError):
        hooks.on_page_markdown("<!-- generated: of_none -->", page=None)


def test_the_repositorys_pages_link_within_the_site():
    pages = repository.pages()
    assert set(pages) == set(repository.PAGES)
    assert not any("](docs/" in text for text in pages.values())
