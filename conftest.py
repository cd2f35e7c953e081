"""Examples in docstrings run in a folder of their own, which holds a small data set of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CROPS, PER_CASE, SIDE_PX = 48, 6, 32


@pytest.fixture(scope="session")
def example_crops() -> list[tuple[str, str, Image.Image]]:
    """Name, line of the table and pixels of each crop: atypical ones are striped downwards."""
    rng = np.random.default_rng(0)
    stripes = 60 * (np.arange(SIDE_PX) // 4 % 2)
    found = []
    for number in range(CROPS):
        case, label = number // PER_CASE, int(number % 3 == 0)
        pixels = rng.integers(80, 160, (SIDE_PX, SIDE_PX, 3))
        pixels += (stripes[:, None] if label else stripes[None, :])[..., None]
        line = f"crops/{number:02}.png,{label},case {case},laboratory {case % 2}"
        found.append((f"{number:02}.png", line, Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))))
    return found


@pytest.fixture(autouse=True)
def example_folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For an example: ``crops/``, their table ``mine.csv``, and a home that no other example reads."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    folder: Path = request.getfixturevalue("tmp_path")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ATYPIA_HOME", str(folder / "home"))
    monkeypatch.setenv("ATYPIA_CACHE", str(folder / "home" / "cache"))
    if not any("mine.csv" in example.source or "crops" in example.source for example in request.node.dtest.examples):
        return
    crops = request.getfixturevalue("example_crops")
    (folder / "crops").mkdir()
    for name, _, image in crops:
        image.save(folder / "crops" / name)
    lines = ["image,label,case_id,scanner", *(line for _, line, _ in crops)]
    (folder / "mine.csv").write_text("\n".join(lines) + "\n", "utf-8")
