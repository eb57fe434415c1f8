"""Building HTML so that nothing reaches the page unescaped.

A plain string is text and is escaped; only :class:`Html`, which these functions return, passes
as it is.
"""

from __future__ import annotations

import html
from collections.abc import Iterable


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def escape(text: str) -> Html:
    """Return `text` as markup; `Html` is left as it is."""
    return text if isinstance(text, Html) else Html(html.escape(text))


def join(parts: Iterable[str | None], separator: str = "") -> Html:
    """Put parts one after the other, escaping plain strings and leaving out ``None``."""
    return Html(separator.join(escape(part) for part in parts if part is not None))


def tag(name: str, *children: str | None, **attributes: str | int | bool | None) -> Html:
    """Make one element.

    Attribute names lose a final underscore and have inner ones turned into hyphens (``class_``,
    ``aria_label``); ``True`` writes a bare attribute, ``False`` and ``None`` write none.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        written.append(
            f" {attribute}" if value is True else f' {attribute}="{html.escape(str(value))}"'
        )
    return Html(f"<{name}{''.join(written)}>{join(children)}</{name}>")


def rows(cells: Iterable[Iterable[str]], header: bool = False) -> Html:
    """Make table rows; the first cell of a body row is its header."""
    made = []
    for row in cells:
        first, *rest = row
        if header:
            made.append(tag("tr", *(tag("th", cell, scope="col") for cell in (first, *rest))))
        else:
            made.append(tag("tr", tag("th", first, scope="row"), *(tag("td", c) for c in rest)))
    return join(made, "\n")
