"""Runs the notebooks and writes them with their output as pages: ``python tools/documentation/notebooks.py [NAME…]``.

The sources are ``notebooks/NAME.py`` in the percent format (``# %%`` begins a cell, ``# %% [markdown]`` one of text), which
Jupyter with jupytext, VS Code, Spyder and PyCharm open as notebooks. The pages are ``docs/notebooks/NAME.md``. A cell's output
is what it prints, the value of its last line, and the plots and images that it leaves.
"""

from __future__ import annotations

import ast
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ROOT / "notebooks"
PAGES: Final = ROOT / "docs" / "notebooks"
DATA: Final = "ATYPIA_NOTEBOOK_DATA"
"""Variable that names a data set on which the notebooks run instead of the phantom set, where they can."""


@dataclass
class Cell:
    """A cell, and what came of running it."""

    kind: str
    text: str
    printed: str = ""
    value: str = ""
    images: list[bytes] = field(default_factory=list)


def cells_of(source: str) -> list[Cell]:
    """The cells of a notebook in the percent format."""
    found = []
    for head, body in re.findall(r"^# %%([^\n]*)\n(.*?)(?=^# %%|\Z)", source, re.DOTALL | re.MULTILINE):
        if "[markdown]" in head:
            lines = [re.sub(r"^# ?", "", line) for line in body.strip().splitlines()]
            found.append(Cell("markdown", "\n".join(lines)))
        elif body.strip():
            found.append(Cell("code", body.strip()))
    return found


def run(source: str, name: str) -> list[Cell]:
    """Runs every cell in one namespace, in a folder and with a cache of its own; the first error ends it."""
    cells = cells_of(source)
    names: dict[str, Any] = {"__name__": "__main__"}
    with _fresh_folder() as folder:
        for number, cell in enumerate(cells):
            if cell.kind == "code":
                _execute(cell, names, f"{name}, cell {number}")
                cell.printed, cell.value = (text.replace(f"{folder}/", "") for text in (cell.printed, cell.value))
    return cells


def page_of(cells: list[Cell], name: str, images: str = "images") -> tuple[str, Mapping[str, bytes]]:
    """The page with its outputs, and the images that it shows by their file name."""
    parts: list[str] = []
    files: dict[str, bytes] = {}
    for cell in cells:
        if cell.kind == "markdown":
            parts.append(cell.text)
            continue
        parts.append(f"```python\n{cell.text}\n```")
        if output := "\n".join(part for part in (cell.printed.rstrip(), cell.value) if part):
            parts.append(f"```text\n{output}\n```")
        for image in cell.images:
            file = f"{name}-{len(files) + 1}.png"
            files[file] = image
            parts.append(f"![Output of the cell above]({images}/{file})")
    title, rest = parts[0].partition("\n")[::2]
    source = f"*Made by running [`notebooks/{name}.py`](../../notebooks/{name}.py) on the rendered [phantom set](../phantom.md).*"
    return "\n\n".join([title, source, rest.strip(), *parts[1:]]) + "\n", files


def code_of(page: str) -> list[str]:
    """The code that a page shows, cell by cell."""
    return [block.strip() for block in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)]


def main() -> None:
    """Runs the named notebooks, or all, and writes their pages."""
    for name in sys.argv[1:] or sorted(path.stem for path in SOURCES.glob("*.py")):
        start = time.monotonic()
        text, images = page_of(run((SOURCES / f"{name}.py").read_text("utf-8"), name), name)
        (PAGES / "images").mkdir(parents=True, exist_ok=True)
        for old in (PAGES / "images").glob(f"{name}-*.png"):
            old.unlink()
        (PAGES / f"{name}.md").write_text(text, "utf-8")
        for file, data in images.items():
            (PAGES / "images" / file).write_bytes(data)
        print(f"{name}: {time.monotonic() - start:.0f} s")


@contextmanager
def _fresh_folder() -> Iterator[str]:
    """A folder to work in, and a cache in it, so that nothing of this machine enters the page."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        before = {key: os.environ.get(key) for key in ("ATYPIA_HOME", "ATYPIA_CACHE")}
        os.environ |= {"ATYPIA_HOME": str(Path(folder) / "home"), "ATYPIA_CACHE": str(Path(folder) / "cache")}
        try:
            yield str(Path(folder).resolve())
        finally:
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value


def _execute(cell: Cell, names: dict[str, Any], where: str) -> None:
    tree = ast.parse(cell.text, where)
    last = tree.body[-1] if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    if last is not None:
        del tree.body[-1]
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(tree, where, "exec"), names)  # noqa: S102  the notebooks of this repository
        if last is not None:
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)  # noqa: S307
            _show(cell, value)
    cell.printed = printed.getvalue()
    cell.images += _open_plots()


def _show(cell: Cell, value: Any) -> None:
    if value is None:
        return
    if hasattr(value, "save") and hasattr(value, "getpixel"):  # a Pillow image
        buffer = io.BytesIO()
        value.convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
        cell.images.append(buffer.getvalue())
    elif type(value).__module__.partition(".")[0] not in {"matplotlib"}:
        cell.value = value.to_string() if hasattr(value, "to_string") else repr(value)


def _open_plots() -> list[bytes]:
    """Every plot that is open, as PNG; they are closed."""
    if "matplotlib.pyplot" not in sys.modules:
        return []
    import matplotlib.pyplot as plt

    found = []
    for number in plt.get_fignums():
        buffer = io.BytesIO()
        plt.figure(number).savefig(buffer, format="png", dpi=100, bbox_inches="tight", facecolor="white")
        found.append(buffer.getvalue())
    plt.close("all")
    return found


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "Agg")
    main()
