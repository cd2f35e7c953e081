"""Numbers in the site's tables stay in one line: an extension of Sphinx that marks them for the stylesheet.

«0.864 [0.839, 0.892]» or «-0.010» would else be broken at a space or a hyphen where a column is narrow, as on a telephone; wide tables scroll
sideways instead.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBER: Final = re.compile(r"[+\-−±]?\d[\d.,]*(?:[ \u00a0]?%)?(?: ± \d[\d.]*)?(?: \[[^\[\]]{1,40}\])?")
"""A number with its sign, per cent and interval."""
MARK: Final = "number"
"""Class of a marked number in the page; the stylesheet lets it not break."""


def parts(text: str) -> Iterator[tuple[str, bool]]:
    """The parts of a text, each with whether it is a number.

    >>> list(parts("BA 0.864 [0.839, 0.892], -0.01"))
    [('BA ', False), ('0.864 [0.839, 0.892]', True), (', ', False), ('-0.01', True)]
    """
    end = 0
    for found in NUMBER.finditer(text):
        if found.start() and (text[found.start() - 1].isalnum() or text[found.start() - 1] in "-_/."):
            continue  # a part of a name: ViT-S/14, AMi-Br2
        number = found.group().rstrip(".,")
        if found.start() > end:
            yield text[end : found.start()], False
        yield number, True
        end = found.start() + len(number)
    if end < len(text):
        yield text[end:], False


def mark(app: Any, doctree: Any, page: str) -> None:
    """Marks the numbers of a page's tables."""
    from docutils import nodes

    for table in doctree.findall(nodes.table):
        for text in list(table.findall(nodes.Text)):
            if isinstance(text.parent, nodes.literal | nodes.raw | nodes.math):
                continue
            found = [
                nodes.inline("", part, classes=[MARK]) if number else nodes.Text(part) for part, number in parts(text)
            ]
            if any(isinstance(one, nodes.inline) for one in found):
                text.parent.replace(text, found)


def setup(app: Any) -> dict[str, bool]:
    """Registers the extension."""
    app.connect("doctree-resolved", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
