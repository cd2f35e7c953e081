"""The notebooks: by the public face alone, shown as they are, and they run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from documentation import notebooks

import atypia

NAMES = sorted(path.stem for path in notebooks.SOURCES.glob("*.py"))
ON_REAL_DATA = ("compare", "domains")
OTHERS = {"atypia", "csv", "dataclasses", "matplotlib", "numpy", "os", "PIL", "scipy", "shutil"}


def source(name: str) -> str:
    return (notebooks.SOURCES / f"{name}.py").read_text("utf-8")


def test_there_are_six() -> None:
    assert len(NAMES) == 6
    index = (notebooks.PAGES / "index.md").read_text("utf-8")
    assert all(f"]({name}.md)" in index for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_uses_the_public_face_alone(name: str) -> None:
    tree = ast.parse(source(name))
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imported += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [one for one in imported if one.startswith("atypia.")]
    assert {one.partition(".")[0] for one in imported} <= OTHERS
    used = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "atypia"
    }
    assert used and used <= set(atypia.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_its_page_shows_the_code_as_it_is(name: str) -> None:
    page = (notebooks.PAGES / f"{name}.md").read_text("utf-8")
    cells = notebooks.cells_of(source(name))
    assert notebooks.code_of(page) == [cell.text for cell in cells if cell.kind == "code"], "fix: make notebooks"
    assert page.startswith(cells[0].text.partition("\n")[0])
    assert "Traceback" not in page and "/tmp/" not in page


def test_a_cell_shows_what_it_prints_its_value_and_its_images() -> None:
    text = "# %% [markdown]\n# # Title\n#\n# Words.\n\n# %%\nimport numpy as np\nfrom PIL import Image\n\nprint(1)\n2 + 2\n\n"
    text += "# %%\nImage.fromarray(np.zeros((4, 4, 3), np.uint8))\n\n# %%\nquiet = 1\n"
    page, images = notebooks.page_of(notebooks.run(text, "made"), "made")
    assert page.startswith("# Title\n\n*Made by running") and "```text\n1\n4\n```" in page
    assert list(images) == ["made-1.png"] and "![Output of the cell above](images/made-1.png)" in page
    assert page.rstrip().endswith("```python\nquiet = 1\n```")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.delenv(notebooks.DATA, raising=False)
    cells = notebooks.run(source(name), name)
    assert all(
        cell.printed or cell.value or cell.images for cell in cells if cell.kind == "code" and "print(" in cell.text
    )


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("name", ON_REAL_DATA)
def test_a_notebook_runs_on_ami_br(name: str, monkeypatch: pytest.MonkeyPatch, real_root: Path) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv(notebooks.DATA, "ami-br")
    monkeypatch.setenv("ATYPIA_DATA", str(real_root))
    first = next(cell for cell in notebooks.run(source(name), name) if cell.kind == "code")
    assert "ami-br" in first.printed
