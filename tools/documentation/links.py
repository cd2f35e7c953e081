"""Follows every link of a built site, and finds what would be asked from another server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

LOADED: Final = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}
"""Elements that a browser loads by itself, and the attribute that says from where."""
STYLES: Final = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "shortcut"}


class _Page(HTMLParser):
    """The links and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag in LOADED and LOADED[tag] in values:
            self.loaded.append(values[LOADED[tag]])
        elif tag == "link" and STYLES & set(values.get("rel", "").split()):
            self.loaded.append(values.get("href", ""))


def faults(folder: Path) -> Iterator[str]:
    """Links of the pages below ``folder`` that lead nowhere, and what would be loaded from elsewhere; one line each."""
    for path in sorted(folder.rglob("*.html")):
        name = path.relative_to(folder).as_posix()
        if name.startswith("_static/"):  # templates of the theme
            continue
        page = _read(path)
        for target in [*page.links, *page.loaded]:
            if fault := _fault(path, target, target in page.loaded):
                yield f"{name}: {target}: {fault}"
    for path in sorted(folder.rglob("*.css")):
        for target in re.findall(
            r"(?:url\(\s*['\"]?|@import\s+['\"])(https?:[^)'\"]+)", path.read_text("utf-8", "replace")
        ):
            yield f"{path.relative_to(folder).as_posix()}: {target}: loaded from another server"


@cache
def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text("utf-8"))
    return page


def _fault(page: Path, target: str, loaded: bool) -> str | None:
    parts = urlsplit(target)
    if parts.scheme == "data" or (parts.scheme in {"http", "https", "mailto"} and not loaded):
        return None
    if parts.scheme or parts.netloc:
        return "loaded from another server"
    file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not file.is_file():
        return "no such file"
    if parts.fragment and file.suffix == ".html" and unquote(parts.fragment) not in _read(file).anchors:
        return "no such anchor"
    return None
