"""Formulas as MathML, which browsers render without scripts and screen readers can read."""

import html
import re

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
"""The output of `pymdownx.arithmatex` for $…$ and $$…$$."""


def rendered(page: str) -> str:
    """Convert every formula in a page's HTML to MathML. Raises ValueError for an unknown LaTeX command."""
    return FORMULA.sub(lambda found: mathml(html.unescape(found[2]), block=found[1] == "div"), page)


FUNCTION = r"<mi>(?:log|ln|exp|max|min|tanh|tan|sin|cos)</mi>"

SPACING = [
    (r"<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>"),  # ∼ is a relation
    # A minus without a left operand is a sign.
    (r"(<mrow>|<mo[^>]*>(?:&#x00028;|&#x0005B;|&#x0003D;|&#x0002C;|&#x02264;|&#x02265;|,)</mo>)<mo>&#x02212;</mo>",
     r'\1<mo form="prefix">&#x02212;</mo>'),
    (rf"({FUNCTION})(?=<mi|<msub|<msup|<mn|<mrow)", r'\1<mspace width="0.17em"/>'),
]  # fmt: skip
"""Patterns in the converter's MathML, with replacements for which the spacing of browsers matches that of TeX."""


def mathml(latex: str, block: bool = False) -> str:
    """Convert a LaTeX formula to MathML.

    >>> mathml("x^2").startswith('<math xmlns="http://www.w3.org/1998/Math/MathML" display="inline">')
    True
    """
    made = convert(latex, display="block" if block else "inline")
    if unknown := re.search(r"\\[A-Za-z]+", made):
        raise ValueError(f"{latex}: {unknown[0]} is not known to latex2mathml")
    for pattern, spaced in SPACING:
        made = re.sub(pattern, spaced, made)
    return f'<div class="formula">{made}</div>' if block else made
