"""Reads a page of a report as its elements."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from html.parser import HTMLParser


class Page(HTMLParser):
    """Elements with their attributes, and the text of each kind of element.

    Fails where tags do not match, or an attribute is given twice.

    Args:
        text: The page.
        void: Elements that the page may have without an end tag.
    """

    def __init__(self, text: str, void: AbstractSet[str] = frozenset({"meta", "img", "br"})) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, list[str]] = {}
        self._void, self._open = void, list[str]()
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self._void:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        assert len({name for name, _ in attrs}) == len(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self._open[-1] if self._open else "", []).append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every element of a kind, in order."""
        return [attributes for name, attributes in self.elements if name == tag]
