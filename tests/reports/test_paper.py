"""Tables and figures of papers: numbers equal the published files, own rows stand beneath, labels differ, one layout is fixed."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from atypia.base.errors import InputError
from atypia.evaluation import rows as e
from atypia.evaluation.papers import PaperDifference, paper_text
from atypia.evaluation.published import DIFFERENCE, PAPERS, published_rows
from atypia.reports.drawing.tables import Table
from atypia.reports.drawing.values import Spread
from atypia.reports.paper.own import OURS, OwnStudy, PaperDeparture, RunCost
from atypia.reports.paper.papers import departures_table, document, paper_items
from atypia.reports.paper.write import write_paper
from atypia.studies.shift import MATRIX_SCHEMA
from atypia.studies.table import RUNS_SCHEMA, StudyResults

from .findings import findings
from .html import Page

EMPTY = e.RESULTS_SCHEMA.empty_table()


def tables(name: str, own: Sequence[OwnStudy] = ()) -> dict[str, Table]:
    return {item.number: table for item in paper_items(name, own) for table in item.tables if item.kind == "table"}


def shown_numbers(table: Table) -> list[tuple[float, float | None]]:
    """Every number of a table with its sd, smallest first."""
    found = []
    for row in table.rows:
        for value in row:
            if isinstance(value, Spread):
                found.append((round(value.mean, 9), None if math.isnan(value.sd) else round(value.sd, 9)))
            elif isinstance(value, float):
                found.append((round(value, 9), None))
    return sorted(found, key=str)


def own_study(backbone: str = "virchow2", dataset: str = "ami-br", **changes: object) -> OwnStudy:
    """A study of two rows and two folds: the same backbone as a paper's, and one that no paper has."""
    metrics = ("balanced_accuracy", "auroc", "sensitivity", "specificity", "f1", "weighted_f1")
    rows = [
        dict.fromkeys(e.RESULTS_SCHEMA.names) | {
            "run_id": f"{model}{fold}", "model": model, "backbone": one, "adaptation": "lora", "recipe": "banerjee-lora",
            "protocol": "official", "train_data": "ami-br", "dataset": dataset, "part": "test", "fold": fold,
            "metric": metric, "value": value, "n": 10, "n_positive": 3, "threshold": 0.5, "predictions": "x",
        }
        for model, one in (("mine · LoRA", backbone), ("other · LoRA", "tiny-vit"))
        for fold, value in (("fold-1", 0.7), ("fold-2", 0.8))
        for metric in metrics
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=e.RESULTS_SCHEMA)
    results = StudyResults(table, RUNS_SCHEMA.empty_table(), EMPTY, EMPTY, MATRIX_SCHEMA.empty_table(), ())
    cost = RunCost("mine · LoRA", "lora", backbone, 2, 1_300_000, 12.5, 900_000_000, "process")
    return replace(
        OwnStudy("banerjee-mine", "cpu", results, findings(20, every=True), [cost], ["1 run is open"]), **changes
    )  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("name", "number", "sources"),
    [("banerjee", "3", ["Table 3"]), ("ammeling", "3", ["Table 3"]), ("ammeling", "4", ["Table 4"]), ("ammeling", "5", ["Table 5"]),
     ("giedziun", "1", ["Table 1"]), ("giedziun", "domains", ["Results"]), ("benito", "1", ["Table 1"]), ("benito", "2", ["Table 2"]),
     ("atey", "1", ["Table 1"]), ("balezo", "results", ["MIDOG 2025 results (arXiv 2606.07368)", "arXiv 2508.21041v1, abstract"])],
)  # fmt: skip
def test_numbers_are_those_of_the_published_file(name: str, number: str, sources: list[str]) -> None:
    scale = 100 if name == "benito" else 1
    published = sorted(
        ((round(scale * row.value, 9), None if row.sd is None else round(scale * row.sd, 9))
         for row in published_rows([name]) if row.source in sources),
        key=str,
    )  # fmt: skip
    assert shown_numbers(tables(name)[number]) == published


@pytest.mark.parametrize("name", list(PAPERS))
def test_each_paper_is_written_and_no_two_rows_read_alike(name: str, tmp_path: Path) -> None:
    for own in ([], [own_study()]):
        items = paper_items(name, own)
        for item in items:
            for table in item.tables:
                first = 1 if table.columns[0].title == "from" else 0
                keys = [tuple(str(v) for v in row[: first + (2 if item.number == "4" and name == "banerjee" else 1)])
                        for row in table.rows]  # fmt: skip
                assert len(set(keys)) == len(keys)
            assert item.tables or item.plots or item.notes
        differs = departures_table(name, [PaperDeparture("<b>", "why & how", "a recipe")])
        written = write_paper(name, items, differs, own, tmp_path / name)
        page = Page(written.page.read_text("utf-8"))
        assert not any("style" in attributes for _, attributes in page.elements)
        assert "why &amp; how" in written.page.read_text("utf-8") and not written.notes
        assert all(path.stat().st_size > 0 for path in written.files)
        text = written.markdown.read_text("utf-8")
        assert all(item.heading in text for item in items)
    assert "mine · LoRA" in text and "1 run is open" in text


def test_tables_of_an_earlier_run_do_not_stay_beside_another_page(tmp_path: Path) -> None:
    differs, out = departures_table("banerjee", []), tmp_path / "page"
    _ = write_paper("banerjee", paper_items("banerjee", [own_study()]), differs, [own_study()], out)
    mine = out / "table-mine.md"
    mine.write_text("kept")
    assert (out / "table-1.csv").exists() and (out / "table-costs.tex").exists()
    written = write_paper("banerjee", paper_items("banerjee", table="3"), differs, [], out)
    left = {path.name for path in out.iterdir() if path.stem.startswith(("table", "differs"))} - {mine.name}
    assert left == {path.name for path in written.files} and mine.read_text() == "kept"


def test_own_rows_stand_beneath_the_same_backbone_or_at_the_end_of_their_group() -> None:
    table = tables("banerjee", [own_study()])["3"]
    names = [(row[0], row[1]) for row in table.rows]
    at = names.index(("paper", "Virchow2 (LoRA)"))
    assert names[at + 1] == (OURS, "mine · LoRA") and names[-1] == (OURS, "other · LoRA")
    value = table.rows[at + 1][2]
    assert isinstance(value, Spread) and (value.mean, value.sd) == (pytest.approx(0.75), pytest.approx(0.05))
    # Own rows do not take the paper's bold.
    assert (at, 2) in table.best()


def test_data_sets_that_the_paper_does_not_have_are_columns_of_their_own() -> None:
    titles = [column.title for column in tables("banerjee", [own_study(dataset="phantom")])["3"].columns]
    assert titles[-2:] == ["phantom BA", "phantom AUROC"] and "AtNorM-MD AUROC" in titles


def test_doubts_stand_where_own_rows_do_and_what_has_no_number_is_named() -> None:
    found = tables("giedziun", [own_study()])
    assert not found["1"].warnings and not found["domains"].warnings and found["costs"].warnings == ("1 run is open",)
    assert tables("banerjee", [own_study()])["3"].warnings == ("1 run is open",)
    items = {item.number: item for item in paper_items("giedziun", [own_study()])}
    assert (items["domains"].short, items["domains"].heading) == ("Domains", "Results by domain left out")
    assert items["1"].heading.startswith("Table 1: ")


def test_all_curves_are_drawn() -> None:
    figure = next(
        item for item in paper_items("banerjee", [own_study(findings=findings(17, scores=drawn(17)))], figure="2")
    )
    curves = [plot for plot in figure.plots if hasattr(plot, "curves")]
    assert len(curves) == 1 and len(curves[0].curves) == 17  # pyright: ignore[reportAttributeAccessIssue]
    assert len({curve.name for curve in curves[0].curves}) == 17  # pyright: ignore[reportAttributeAccessIssue]
    published = figure.plots[0]
    assert len(published.rows) == 17  # pyright: ignore[reportAttributeAccessIssue]


def drawn(rows: int) -> tuple[object, ...]:
    from .findings import score

    return tuple(score(s, p, 0.8 - s / 200, not p, True) for p in range(2) for s in range(rows))


def test_costs_have_parameters_seconds_and_memory() -> None:
    (row,) = tables("banerjee", [own_study()])["costs"].rows
    assert row == ["mine · LoRA", "LoRA", "virchow2", 2, 1_300_000, 12.5, 900.0, "process"]
    (item,) = paper_items("atey", table="costs")
    assert not item.tables and "--study" in item.notes[0]


def test_an_unknown_table_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(InputError, match=r"`?--table`? must be one that benito has \(1, 2, costs\), got '?7"):
        paper_items("benito", table="7")
    with pytest.raises(InputError, match="unknown paper 'banerje'"):
        paper_items("banerje")


def test_the_layout_of_benitos_first_table() -> None:
    assert (
        tables("benito")["1"].to_text()
        == """\
benito, table 1: AUROC of five folds, real figures alone and with generated ones

model                           F1     F2     F3     F4     F5     mean ± sd
---------------------------  -----  -----  -----  -----  -----  ------------
ConvNeXt-Small (real)        93.84  94.74  93.63  95.68  95.21  94.62 ± 0.78
ConvNeXt-Small (real+synth)  93.55  94.40  93.74  95.22  94.96  94.37 ± 0.65
Lunit SSL (real)             94.22  94.97  94.13  95.25  95.31  94.78 ± 0.50
Lunit SSL (real+synth)       93.83  94.49  93.96  95.08  94.78  94.43 ± 0.48

AUROC in per cent; mean ± population sd (ddof 0) over the folds
"""
    )


def test_own_folds_stand_in_benitos_first_table_in_order_with_mean_and_population_sd() -> None:
    study = own_study("convnext-s")
    rows = []
    for model, values in (("ConvNeXt-S · real only", (0.91, 0.95, 0.92, 0.97, 0.9)),
                          ("ConvNeXt-S · real and synthetic", (0.93, 0.94, 0.9, 0.96, 0.92))):  # fmt: skip
        first = study.results.rows.slice(0, 1).to_pylist()[0] | {"model": model, "metric": "auroc"}
        rows += [
            first | {"fold": f"fold-{n}", "value": value, "run_id": f"{model}{n}"} for n, value in enumerate(values, 1)
        ]
    rows.reverse()
    table = tables(
        "benito", [replace(study, results=replace(study.results, rows=pa.Table.from_pylist(rows, e.RESULTS_SCHEMA)))]
    )["1"]
    shown = [(str(row[0]), str(row[1]), row[2:]) for row in table.rows]
    names = [(of, name) for of, name, _ in shown]
    for name, theirs, values, mean, sd in (
        ("ConvNeXt-S · real only, on ami-br", "ConvNeXt-Small (real)", [91, 95, 92, 97, 90], 93, 2.607681),
        ("ConvNeXt-S · real and synthetic, on ami-br", "ConvNeXt-Small (real+synth)", [93, 94, 90, 96, 92], 93, 2),
    ):
        at = names.index((OURS, name))
        assert names[at - 1] == ("paper", theirs)
        *folds, spread = shown[at][2]
        assert folds == pytest.approx(values) and isinstance(spread, Spread)
        assert (spread.mean, spread.sd) == (pytest.approx(mean), pytest.approx(sd, abs=1e-6))


def test_bold_is_within_each_group_as_the_paper_prints_it() -> None:
    table = tables("banerjee")["3"]
    bold = {(str(table.rows[i][0]), table.columns[j].title) for i, j in table.best()}
    assert {name for name, column in bold if column == "AMi-Br BA"} == {
        "Swin Transformer (Baseline)",
        "UNI",
        "Virchow2 (LoRA)",
    }
    signed = next(row for row in tables("giedziun")["1"].rows if row[0] == "medium")[1]
    assert isinstance(signed, Spread) and signed.signed
    differences = [row for row in published_rows(["giedziun"]) if row.kind == DIFFERENCE]
    assert len(differences) == 60


def test_a_difference_ends_with_its_reason() -> None:
    one = PaperDifference(part="EMA", text="…", when={"ema.debias": False, "terms.kd.weight": 0.5})
    assert one.holds({"ema": {"debias": False}, "terms": [{"name": "kd", "weight": 0.5}]})
    assert not one.holds({"ema": {"debias": True}, "terms": [{"name": "kd", "weight": 0.5}]})
    assert not one.holds({"ema": None, "terms": []})


def test_the_document_has_a_line_for_each_part() -> None:
    text = document({"atey": [PaperDeparture("CBAM", "it is | other", "atey")]})
    assert text.count("\n| ") == len(paper_text("atey").parts) + 1
    opened = document({"atey": [PaperDeparture("Not given by the paper", "Atypia's own: epochs 60", "atey")]})
    assert opened.splitlines()[-1] == "| Not given by the paper | `recipes/atey.yaml` | Atypia's own: epochs 60 |"
    assert "| CBAM | `methods/attention.py:CBAM` | It is \\| other (`atey`) |" in text


def test_csv_holds_means_and_spreads_in_full(tmp_path: Path) -> None:
    items = paper_items("banerjee", table="3")
    write_paper("banerjee", items, departures_table("banerjee", []), [], tmp_path)
    with (tmp_path / "table-3.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 17
    first = {key: value for key, value in lines[0].items() if key.startswith("ami-br_balanced_accuracy")}
    assert list(first.values()) == ["0.7474", "0.0167"]
