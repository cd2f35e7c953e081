"""The report after review: joined table, final counts, JSON with its schema, a page to print."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atypia.base.errors import DataError, InputError
from atypia.cli.main import app
from atypia.reports.case.reviewed import FINAL, FIXED, report_schema
from atypia.review.decisions.intake import DecisionIntake
from atypia.review.figures.figures import ReviewFigures
from atypia.review.figures.opening import Opening, open_figures
from atypia.review.report.final import report_review
from atypia.statistics.rates import exact_interval

from .conftest import Client
from .regions import region_of


@pytest.fixture
def reviewed(tmp_path: Path) -> tuple[Opening, Path]:
    """24 figures of which two raters decided some, with one tie, one arbitration and one added mitosis."""
    figures = region_of(tmp_path)
    path = tmp_path / "board.sqlite"
    intake = DecisionIntake(path, figures)
    for name in ("Ada", "=Ben"):
        intake.join(name)
    for index in range(10):
        intake.decide("Ada", index, "normal" if index < 6 else "atypical")
    for index in range(4):
        intake.decide("=Ben", index, "normal")
    intake.decide("=Ben", 6, "atypical", "=1+1", tags=["lagging"])
    intake.decide("=Ben", 7, "normal")  # a tie
    intake.decide("=Ben", 8, "normal")
    intake.decide("Ada", 8, "atypical", arbitrate=True)
    intake.decide("Ada", 10, "not-mitosis")
    intake.decide("Ada", 11, "unsure")
    intake.decide("Ada", intake.add("Ada", 0, 333, 444), "atypical")
    intake.add("Ada", 0, 500, 500)
    intake.undo("Ada")
    intake.close()
    return Opening((str(tmp_path / "calls.parquet"),), slides=tmp_path / "slides"), path


def test_counts_follow_from_the_decisions(reviewed: tuple[Opening, Path]) -> None:
    case = report_review(*reviewed).case
    # Normal: 0 to 5. Atypical: 6, 8 (settled), 9, and the added one. A tie: 7. Not a mitosis: 10. Unsure: 11.
    assert case.counts == {"atypical": 4, "normal": 6, "not-mitosis": 1, "unsure": 1, "tie": 1, "undecided": 12}
    assert sum(case.counts.values()) == 25 == len(case.figures), "the withdrawn figure is not there"
    low, high = exact_interval(4, 10)
    assert case.rate == {"value": 0.4, "low": pytest.approx(low), "high": pytest.approx(high)}
    assert case.sentence().startswith("4 of 10 figures atypical by consensus (40.0 %, 95 % interval 12.2 to 73.8 %)")
    assert case.sentence().endswith("1 not a mitosis; 14 open")
    assert case.by_whom() == "reviewed by Ada (13 of 25), =Ben (7 of 25)"
    by_id = {one.figure_id: one for one in case.figures}
    assert by_id["region:08"].decided_by == "arbitration by Ada"
    assert (by_id["region:08"].consensus, by_id["region:08"].final) == ("tie", "atypical")
    assert by_id["region:00"].decided_by == "all 2: Ada, =Ben"
    assert by_id["region:09"].decided_by == "Ada alone"
    assert by_id["added-1"].added_by == "Ada" and by_id["added-1"].p_atypical is None
    assert (case.tags, case.models, case.mpp) == ({"lagging": 1}, ["probe"], "0.25")
    (area,) = case.density
    assert (area["image"], area["figures"], area["atypical"]) == ("region.tiff", 24, 4), (
        "what is no mitosis does not count"
    )
    assert " ".join(area["lines"]).count("14 of 24 figures are open") == 1, "said once"
    assert area["hotspot"]["figures"] == 24 and area["field"]["words"] == "2 mm²" and area["drawing"]["boxes"]
    assert "14 of 24 figures are open: they count as figures, and not as atypical." in area["notes"]
    assert sum(call == "refused" for *_, call in area["drawing"]["dots"]) == 14, "drawn in grey"
    assert case.changed == 3, "6, 8 and 9 are normal to the model, the added figure is unknown to it"


def test_files_are_valid_and_safe(reviewed: tuple[Opening, Path], tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    found = report_review(*reviewed, title="<b>case</b>")
    paths = found.write(tmp_path / "out")
    assert [path.name for path in paths] == ["report.html", "report.json", "report.csv"]
    page, written, table = (path.read_text(encoding="utf-8") for path in paths)
    jsonschema.validate(json.loads(written), report_schema(), jsonschema.Draft202012Validator)
    assert json.loads(written)["counts"] == found.case.counts
    assert "<b>case</b>" not in page and "reviewed by Ada" in page
    assert page.count('class="bar"') == len(found.crops) == 25, "each crop has its scale bar"
    rows = list(csv.reader(io.StringIO(table)))
    assert rows[0] == [*FIXED, "decision of Ada", "decision of =Ben"]
    assert len(rows) == 26
    row = dict(zip(rows[0], rows[7], strict=True))
    assert (row["figure_id"], row["final"], row["decision of =Ben"]) == ("region:06", "atypical", "atypical")
    assert row["notes"] == "'=Ben: =1+1", "a spreadsheet must not run it"


def test_the_command(reviewed: tuple[Opening, Path], tmp_path: Path, figures: ReviewFigures) -> None:
    (opening, path), run = reviewed, CliRunner().invoke
    words = ["report", *opening.what, "--decisions", str(path), "--slides", str(opening.slides)]
    told = run(app, [*words, "--out", str(tmp_path / "report")])
    assert told.exit_code == 0, told.output
    assert "4 of 10 figures atypical" in told.output and "reviewed by Ada" in told.output
    assert (tmp_path / "report" / "report.html").is_file()
    assert json.loads(run(app, [*words, "--json"]).stdout)["open"] == 14
    assert json.loads(run(app, ["report", "--schema"]).stdout) == report_schema()
    with pytest.raises(InputError, match="does not exist"):
        report_review(opening, tmp_path / "none.sqlite")
    with pytest.raises(InputError, match=r"figures of .* must be"):
        report_review(Opening((figures.source,)), path)


def test_area_and_field_are_those_asked_for(reviewed: tuple[Opening, Path], tmp_path: Path) -> None:
    (opening, path), run = reviewed, CliRunner().invoke
    corners = [[0, 0], [400, 0], [400, 900], [0, 900], [0, 0]]
    drawn = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [corners]}, "properties": {}}
    (tmp_path / "tumour.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [drawn]}))
    words = ["report", *opening.what, "--decisions", str(path), "--slides", str(opening.slides), "--json"]
    asked = run(app, [*words, "--region", str(tmp_path / "tumour.geojson"), "--field", "10xd0.04"])
    assert asked.exit_code == 0, asked.output
    (area,) = json.loads(asked.stdout)["density"]
    # In the two left columns of six, of four figures each, and the one that Ada added.
    assert (area["figures"], area["atypical"]) == (9, 2)
    assert area["area_mm2"] == pytest.approx(400 * 900 * 0.0625e-6)
    assert area["field"]["words"] == "10 fields of 0.04 mm diameter (0.0126 mm²)"
    gone = run(app, [*words, "--region", str(tmp_path / "none.geojson")])
    assert isinstance(gone.exception, DataError), "what was asked for is not left out"


def test_the_server_gives_the_same_report(reviewed: tuple[Opening, Path], reviewing: Callable[..., Client]) -> None:
    opening, path = reviewed
    client = reviewing(open_figures(opening), decisions=path.name)
    while_open = report_review(opening, path).case  # the file is in use
    served = client.get("/exports/report.json")
    assert served["counts"] == while_open.counts and set(served["counts"]) == set(FINAL)
    answer = client.http.get("/exports/report.html")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="report.html"'
    assert "4 of 10 figures atypical by consensus" in answer.text
