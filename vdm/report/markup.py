"""Generation of HTML as text: every string is escaped unless it already is markup."""

import html
from typing import Any


class Html(str):
    """Text that already is markup and must not be escaped again."""

    __slots__ = ()


VOID = ("img", "input", "meta", "br")
"""Elements without an end tag."""


def tag(name: str, *children: Any, **attributes: Any) -> Html:
    """Return an element with its children; those that are None are left out.

    In the name of an attribute, `_` stands for `-`, and a trailing `_` is dropped. An attribute that is None or False
    is left out, and one that is True has no value.

    >>> tag("a", "1 < 2", href="#x", class_="small")
    '<a href="#x" class="small">1 &lt; 2</a>'
    """
    given = "".join(_attribute(key, value) for key, value in attributes.items() if value not in (None, False))
    return Html(f"<{name}{given}>" if name in VOID else f"<{name}{given}>{joined(*children)}</{name}>")


def joined(*children: Any) -> Html:
    """Concatenate children, leaving out those that are None.

    >>> joined("a & b", None, tag("b", 1))
    'a &amp; b<b>1</b>'
    """
    return Html("".join(escaped(child) for child in children if child is not None))


def escaped(value: Any) -> Html:
    """Escape a value for HTML; control characters, which HTML does not allow, are shown like \\x01."""
    if isinstance(value, Html):
        return value
    text = "".join(c if c.isprintable() or c in "\n\t\u00a0" else ascii(c)[1:-1] for c in str(value))
    return Html(html.escape(text))


def scrolling(label: str, *children: Any) -> Html:
    """Wrap content that may be wider than the page, so that it scrolls separately, also by the keyboard."""
    return tag("div", *children, class_="scroll", role="region", aria_label=label, tabindex="0")


def table(label: str, head: list[Any], rows: list[list[Any]], numbers: tuple[int, ...] = ()) -> Html:
    """Return a table whose first column holds row headings; columns with indices in `numbers` are right-aligned."""

    def cell(k: int, value: Any) -> Html:
        kind = "number" if k in numbers else None
        return tag("td", value, class_=kind) if k else tag("th", value, scope="row", class_=kind)

    columns = [tag("th", name, scope="col", class_="number" if k in numbers else None) for k, name in enumerate(head)]
    body = [tag("tr", *(cell(k, value) for k, value in enumerate(row))) for row in rows]
    return scrolling(label, tag("table", tag("thead", tag("tr", *columns)), tag("tbody", *body)))


def details(summary: Any, *children: Any) -> Html:
    """Return a section that opens on demand."""
    return tag("details", tag("summary", summary), *children)


def _attribute(key: str, value: Any) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escaped(value)}"'
