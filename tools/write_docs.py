"""Writes the generated parts of the documentation again: ``python tools/write_docs.py``.

The references of command line and Python are generated whole (``docs/reference/``). A generated part of another page stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``; tests compare it with
the registries, so documentation that lags behind fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from documentation.commands import commands_page
from documentation.interface import interface_pages

from atypia.backbones.catalogue import markdown_notes, markdown_table
from atypia.data.audit.findings import markdown as audit_codes
from atypia.data.sources.catalogue import markdown
from atypia.methods.catalogue import losses_table, samplers_table, terms_table
from atypia.workflows.studies.paper import papers_document

DOCS = Path(__file__).parents[1] / "docs"
PARTS: Final[dict[str, dict[str, Callable[[], str]]]] = {
    "data.md": {"sources": markdown, "audit codes": audit_codes},
    "training.md": {"terms": terms_table, "losses": losses_table, "samplers": samplers_table},
    "backbones.md": {"backbones": markdown_table, "backbone notes": markdown_notes},
    "papers.md": {"papers": papers_document},
}


def main() -> None:
    """Rewrites every part."""
    for page, parts in PARTS.items():
        path = DOCS / page
        text = path.read_text("utf-8")
        for name, make in parts.items():
            pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
            found = pattern.search(text)
            if found is None:
                raise SystemExit(f"{path}: the marks of «{name}» are not there")
            text = f"{text[: found.start()]}{found[1]}\n{make().strip()}\n{found[2]}{text[found.end() :]}"
        path.write_text(text, "utf-8")
    for place, text in references().items():
        path = DOCS / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def references() -> dict[str, str]:
    """Pages that are generated whole: place below ``docs/`` to text."""
    python = {f"reference/python/{name}": text for name, text in interface_pages().items()}
    return {"reference/commands.md": commands_page(), **python}


if __name__ == "__main__":
    main()
