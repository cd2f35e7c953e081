"""Results as JSON, JSON lines and GeoJSON open as the same figures as Parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from atypia.base.errors import DataError
from atypia.reports.case.outputs import open_writer
from atypia.review.figures.opening import Opening, open_figures

from .regions import region_of


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".geojson"])
def test_the_same_figures(tmp_path: Path, suffix: str) -> None:
    wanted = region_of(tmp_path)
    path = tmp_path / f"again{suffix}"
    with open_writer(path) as writer:
        for batch in pq.read_table(tmp_path / "calls.parquet").to_batches():
            writer.write(batch)
    found = open_figures(Opening((str(path),), slides=tmp_path / "slides"))
    assert found.ids.to_pylist() == wanted.ids.to_pylist()
    for name in ("x_px", "y_px", "p"):
        assert getattr(found, name).tolist() == pytest.approx(getattr(wanted, name).tolist()), name
    assert [found.call.at(i) for i in range(24)] == [wanted.call.at(i) for i in range(24)]
    assert (found.slides, found.threshold, found.fingerprint) == (wanted.slides, 0.5, wanted.fingerprint)


@pytest.mark.parametrize("text", ["[1]", "{}", '{"features": [{}]}', '[{"figure_id": "a"}]', "["])
def test_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(DataError, match="fix: "):
        open_figures(Opening((str(path),)))
