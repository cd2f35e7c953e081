"""Tables of the results are their data: pages, README and model card show what the files hold."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from benchmarks.measuring import page
from documentation import datafiles, views
from documentation.datafiles import Shown
from documentation.taking import take

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/results"
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
WITHOUT_DATA = {"| | `atypia` | `atypia-amibr` |", "| checked | how |"}
"""First lines of tables that describe and measure nothing."""
OWN_DATA = re.compile(r"<!-- data: .*?<!-- /data -->|<!-- speed history -->.*?<!-- /speed history -->", re.DOTALL)
"""Tables that are written from a file: of results, and of the benchmarks' history (`test_the_history_of_speed_is_the_file_s`)."""


@pytest.mark.parametrize("path", views.pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_is_as_its_data(path: Path) -> None:
    text = path.read_text("utf-8")
    assert views.filled(text) == text, "fix: python tools/results.py --write"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.md")), ids=lambda path: path.name)
def test_every_table_of_the_results_comes_from_data(path: Path) -> None:
    outside = OWN_DATA.sub("", path.read_text("utf-8"))
    assert {found[0].splitlines()[0] for found in TABLE.finditer(outside)} <= WITHOUT_DATA


def test_the_history_of_speed_is_the_file_s() -> None:
    assert page.table() in (RESULTS / "speed.md").read_text("utf-8"), "fix: python -m benchmarks --history"


def test_every_file_is_shown() -> None:
    shown = {name for path in views.pages() for name in views.marks(path.read_text("utf-8"))}
    assert set(datafiles.names()) == {name for name in shown if datafiles.csv_file(name).is_file()}
    files = {path.relative_to(datafiles.DATA).with_suffix("").as_posix() for path in datafiles.DATA.rglob("*.csv")}
    assert files == set(datafiles.names())


def test_readme_and_card_say_what_was_measured() -> None:
    readme, card = ((ROOT / name).read_text("utf-8") for name in ("README.md", "docs/modelcard.md"))
    for row in datafiles.read("model/tests").rows:
        ba, auroc = (f"{float(row[name]):.3f}" for name in ("balanced_accuracy", "auroc"))
        assert re.search(rf"\| {ba} \[[\d., ]+\] \| {auroc} \[", readme)
        said = re.sub(r"<!--.*?-->", "", card)
        assert f"BA {ba}, AUROC {auroc}" in said


@pytest.mark.parametrize("model", ["atypia", "atypia-amibr"])
def test_a_card_shows_the_same_figures(model: str) -> None:
    card = (ROOT / f"src/atypia/models/{model}/card.md").read_text("utf-8")
    for name in ("left-out",) if model == "atypia" else ("tests", "domains", "points", "uncertain"):
        assert datafiles.render(datafiles.read(f"model/{name}")) in card, "fix: python tools/model_report.py --card"


def test_a_changed_file_is_refused_until_it_is_recorded(tmp_path: Path) -> None:
    shutil.copytree(datafiles.DATA, tmp_path, dirs_exist_ok=True)
    name, shown = "studies/raters", (RESULTS / "studies.md").read_text("utf-8")
    assert datafiles.render(datafiles.read(name, tmp_path)) in shown
    file = datafiles.csv_file(name, tmp_path)
    file.write_text(file.read_text("utf-8").replace("0.554", "0.654"), "utf-8")
    with pytest.raises(SystemExit, match="not the file that was recorded"):
        datafiles.read(name, tmp_path)
    datafiles.record(name, tmp_path)
    assert datafiles.render(datafiles.read(name, tmp_path)) not in shown


@pytest.mark.parametrize("name", datafiles.names())
def test_a_table_that_is_taken_again_is_the_same(name: str) -> None:
    text = datafiles.render(datafiles.read(name))
    columns, rows = take(text)
    about = datafiles.About(of="", origin="", sha256="", columns=tuple(columns))
    assert datafiles.render(datafiles.Data(name, about, rows)) == text


def test_numbers_have_columns_of_their_own() -> None:
    columns, rows = take(
        "| model | BA | n (atypical) |\n|---|--:|---|\n| a | **0.70 ± 0.01** | 1,200 (40) |\n| b | −0.60 ± 0.02 | 9 (3) |\n"
    )
    assert [column.cell for column in columns] == ["{model}", "{ba_mean} ± {ba_sd}", "{n:,} ({atypical})"]
    assert columns[1] == Shown(title="BA", cell="{ba_mean} ± {ba_sd}", align="right", best="max")
    assert rows[0] == {"model": "a", "ba_mean": "0.70", "ba_sd": "0.01", "n": "1200", "atypical": "40"}
    assert rows[1]["ba_mean"] == "-0.60"


def test_a_mark_that_names_nothing_stops() -> None:
    with pytest.raises(SystemExit, match="no value 'nothing'"):
        views.filled("<!-- value: nothing -->1<!-- /value -->")
    with pytest.raises(SystemExit, match="no data of 'no/thing'"):
        views.filled("<!-- data: no/thing -->\n\n<!-- /data -->")
