"""Code of the documentation's pages, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run_page(page: Path) -> dict[str, Any]:
    """Runs the ``python`` blocks of a page one after the other, in one namespace, and gives its names.

    A traceback names the page and the line in it.
    """
    text, names = page.read_text("utf-8"), dict[str, Any]()
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    assert blocks, f"{page} shows no Python"
    for block in blocks:
        before = "\n" * text.count("\n", 0, block.start(1))
        exec(compile(before + block[1], str(page.relative_to(ROOT)), "exec"), names)  # of this repository
    return names
