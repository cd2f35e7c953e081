"""A study's page and tables: what stands in them, that nothing of the data can act, and that large ones stay small."""

from __future__ import annotations

import base64
import csv
import hashlib
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from atypia.reports.drawing.tables import Column, Table
from atypia.reports.drawing.values import Spread
from atypia.reports.study.html import table_html
from atypia.reports.study.literature import OURS, literature_table, paper_of
from atypia.reports.study.page import study_page
from atypia.reports.study.report import _more_tables, write_report
from atypia.reports.study.statistics import compared_table, p_text, place_table, statistics_tables
from atypia.reports.study.summary import headline_table
from atypia.reports.study.unseen import UNSEEN, unseen_table
from atypia.reports.study.words import (
    duration_text,
    overall_sentences,
    place_sentences,
    progress_sentence,
    warnings_of,
)
from atypia.studies.findings.schema import Findings

from .findings import NASTY, UNDEFINED, about, findings, score, unseen
from .html import Page

DRAWN = {"line", "path", "polyline"}
LOADS = {"src", "href", "action", "srcset", "xlink:href", "data", "poster"}


def spread(value: object) -> tuple[float, float]:
    """Mean and sd of a table's value."""
    assert isinstance(value, Spread)
    return value.mean, value.sd


def page_of(found: Findings) -> str:
    return study_page(about(), found, _more_tables(about(), found))


def test_page_stands_alone_and_runs_nothing_of_the_data() -> None:
    text = page_of(findings())
    page = Page(text)
    for _, attributes in page.elements:
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        for name in LOADS & set(attributes):
            assert attributes[name].startswith(("data:image/jpeg;base64,", "#"))
    assert "http://" not in text
    assert "https://" not in text
    scripts = [tag for tag, _ in page.elements if tag == "script"]
    assert len(scripts) == 1
    (policy,) = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    assert "default-src 'none'" in policy
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256("".join(page.text[kind]).encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert NASTY not in text
    assert "row &lt;script&gt;alert" in text
    assert "figure-&lt;1&gt;" in text
    assert "&lt;b&gt;no&lt;/b&gt;" in text


def test_page_holds_every_part() -> None:
    page = Page(page_of(findings()))
    headings = "".join(page.text["h2"])
    for part in ("Summary", "ami-br, test", "ami-br, validation", "Comparisons", "The human level",
                 "Beside the literature", "All tables", "How it was made", "Failed runs"):  # fmt: skip
        assert part in headings
    targets = {a["id"] for _, a in page.elements if "id" in a}
    assert len(targets) == len([a for _, a in page.elements if "id" in a])
    assert {a["href"][1:] for tag, a in page.elements if tag == "a"} <= targets
    charts = [a["aria-label"] for tag, a in page.elements if tag == "svg" and "aria-label" in a]
    for kind in ("ROC", "Precision and recall", "Reliability", "Balanced accuracy by domain", "Differences"):
        assert any(label.startswith(kind) for label in charts)
    assert len([a for tag, a in page.elements if tag == "img"]) == 1
    assert "".join(page.text["div"]).count("no image") == 1
    assert "2/3 raters: atypical" in page.text["span"]
    assert "atypia study run study.yaml --size cpu" in "".join(page.text["pre"])
    assert "2 rows wrong" not in page.text["span"]
    assert "2/3 rows wrong" in page.text["span"]


def test_page_of_a_hundred_rows_is_small_and_whole_without_its_script() -> None:
    text = page_of(findings(100))
    assert len(text) < 3_000_000
    assert "folded" not in re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.S)
    assert text.count('data-top="12"') >= 3
    assert "The best rows by balanced accuracy are drawn, 6 of 100; <code>--all</code> draws every one." in text


def test_page_of_undefined_values_says_so() -> None:
    bare = replace(
        score(0, 0, math.nan, common=False, drawn=False), pooled=dict.fromkeys(score(0, 0, 0.5).pooled, UNDEFINED)
    )
    found = Findings(findings().series[:1], findings().places[:1], (bare,))
    page = page_of(found)
    assert "n/a" in page
    assert place_sentences(found, 0) == []


def test_tables_of_a_page_sort_by_number_and_mark_the_best() -> None:
    table = Table("t", [Column("model"), Column("BA", align="right", best="max", spread=True), Column("n", align="right")],
                  [["a", Spread(0.5, 0.1), 1], ["b", Spread(0.75, math.nan), None], ["<c>", math.nan, 1234]])  # fmt: skip
    text = str(table_html(table, own="b"))
    Page(text)
    assert '<td class="number" data-v="0.75"><b>0.750</b></td>' in text
    assert '<td class="number" data-v="nan">n/a</td>' in text
    assert '<td class="number" data-v="1234">1,234</td>' in text
    assert '<tr class="own"><th scope="row">b</th>' in text
    assert "&lt;c&gt;" in text
    assert text.count('<button type="button">') == 3


def test_headline_has_the_best_row_first_and_no_validation_beside_tests() -> None:
    table = headline_table(findings())
    assert [row[0] for row in table.rows] == [NASTY, "second", "row 2"]
    assert [column.title for column in table.columns] == ["model", "BA: ami-br, test", "95 %", "AUROC: ami-br, test"]
    assert spread(table.rows[0][1]) == pytest.approx((0.79, 0.01))
    assert table.rows[0][2] == "0.740 to 0.840"
    assert table.best() == {(0, 1), (0, 3)}
    validation = replace(findings(), places=(replace(findings().places[0], part="val"), findings().places[1]))
    assert "BA: ami-br, validation" in [column.title for column in headline_table(validation).columns]


def test_place_table_tells_what_its_interval_is_about() -> None:
    test, validation = (place_table(findings(), place) for place in (0, 1))
    assert "of the mean over models" in test.notes[1]
    assert "from the model that held it out" in validation.notes[1]
    assert "optimistic" in validation.notes[2]
    assert test.notes[2].startswith("human level: 0.800 balanced accuracy")


def test_statistics_are_written_in_full(tmp_path: Path) -> None:
    tables = statistics_tables(findings(), "mine")
    assert list(tables) == [
        "intervals",
        "differences",
        "fold-differences",
        "ranks",
        "adaptations",
        "raters",
        "confusion",
    ]
    rows = list(csv.DictReader(tables["differences"].render("csv").splitlines()))
    assert (rows[0]["p_holm"], rows[0]["only_first"], rows[0]["p_mcnemar"]) == ("0.02", "3", "0.7")
    intervals = list(csv.DictReader(tables["intervals"].render("csv").splitlines()))
    assert {(row["of"], row["estimate"]) for row in intervals if row["metric"] == "BA" and row["model"] == "second"} == {
        ("mean over models", "0.785"), ("pooled probabilities", "0.795")
    }  # fmt: skip
    assert "population" not in tables["ranks"].notes[0]
    assert tables["ranks"].rows[0][:3] == ["a", "", pytest.approx(1.2)]
    units = [row[4] for row in tables["adaptations"].rows]
    assert units == ["fold", "row"]
    assert "not independent" in tables["adaptations"].notes[1]
    page = compared_table(findings(), "mine")
    assert [row[2] for row in page.rows] == ["ami-br, test"] * 2
    assert page.rows[0][5] == "0.020"


def test_sentences() -> None:
    found = findings()
    said = place_sentences(found, 0)
    assert said[0].startswith(
        f"On ami-br, test (100 figures, 30 atypical, 10 cases) the best row is {NASTY}: balanced accuracy 0.790"
    )
    assert said[1].startswith("2 of 2 rows can be told from")
    assert said[1].endswith("2 worse.")
    none = replace(found, differences=tuple(replace(d, p_holm=0.5) for d in found.differences))
    assert place_sentences(none, 0)[1].startswith("None of 2 rows can be told from")
    one = replace(found, differences=found.differences[:1])
    assert "p = 0.020 after Holm's correction: the data tell them apart" in place_sentences(one, 0)[1]
    overall = " ".join(overall_sentences(found))
    for words in ("favoured by chance", "0 of 1 differences", "the rows differ (Friedman", "end-to-end", "repeated measurements",
                  "single raters reach a balanced accuracy of 0.800"):  # fmt: skip
        assert words in overall
    assert progress_sentence(about()) == (
        "5 of 8 runs are complete (3 rows; protocol kfold (folds 2); 1.5 h of work). Others: 1 failed, 2 pending. "
        "3 more need data or weights that are not on this machine."
    )
    assert any("the case of 200 of 200 figures is unknown" in text for text in warnings_of(about(), found))
    assert (duration_text(30), duration_text(600), duration_text(7200)) == ("30 s", "10 min", "2.0 h")
    assert (p_text(0.0001), p_text(0.05), p_text(math.nan)) == ("< 0.001", "0.050", "n/a")


def test_literature_stands_beside_the_rows_of_the_same_data() -> None:
    assert paper_of("banerjee-table3") == "banerjee"
    assert paper_of("what-matters") is None
    table = literature_table(findings(), "banerjee-table3", "mine")
    names = [column.name for column in table.columns]
    ours = [row for row in table.rows if row[0] == OURS]
    assert [row[1] for row in ours] == [NASTY, "second", "row 2"]
    assert spread(ours[0][names.index("balanced_accuracy")]) == pytest.approx((0.79, 0.01))
    theirs = {(row[1], row[2]): row for row in table.rows if row[0] == "banerjee" and row[3] == "ami-br"}
    assert len(theirs) == 17
    virchow2 = theirs["Virchow2", "LoRA"][names.index("balanced_accuracy")]
    assert isinstance(virchow2, Spread)
    assert round(virchow2.mean, 2) == 0.81
    assert any("doi 10.59275" in note for note in table.notes)
    # Another study is placed beside every paper that reports on its data; without any there is no table.
    assert literature_table(findings(), "mine", "mine").rows
    lodo = literature_table(findings(), "mine", "mine", "lodo (by domain)")
    assert {row[4] for row in lodo.rows if row[0] == OURS} == {"test of lodo"}
    assert any("the figures differ" in note for note in lodo.notes)
    assert not any("the figures differ" in note for note in table.notes)
    elsewhere = replace(findings(), places=tuple(replace(p, dataset="own") for p in findings().places))
    assert literature_table(elsewhere, "mine", "mine").rows == []
    far = literature_table(elsewhere, "banerjee-mine", "mine")
    assert "other data than this study's" in far.notes[-1]


def test_report_writes_page_tables_figures_and_study_file(tmp_path: Path) -> None:
    results = Table("results", [Column("model")], [["a"]])
    written = write_report(about(), findings(), {"results": results}, tmp_path, "abc: why")
    assert (tmp_path / "report" / "results.csv").is_file()
    assert written.page == tmp_path / "report" / "index.html"
    assert written.notes == ()
    for name in ("headline", "intervals", "differences", "literature", "raters", "confusion"):
        for suffix in (".md", ".csv", ".tex"):
            assert (tmp_path / "report" / f"{name}{suffix}").stat().st_size > 100
    assert (tmp_path / "report" / "study.yaml").read_text("utf-8") == "name: banerjee-mine\n"
    assert "abc: why" in written.markdown.read_text("utf-8")
    names = {path.name for path in written.figures}
    for stem in ("roc-ami-br-test", "pr-ami-br-test", "reliability-ami-br-val", "domains-ami-br-test",
                 "confusion-ami-br-test", "differences-balanced-accuracy"):  # fmt: skip
        assert {f"{stem}.svg", f"{stem}.png"} <= names
    assert all(path.stat().st_size > 1000 for path in written.figures)


def test_domains_left_out_stand_first_among_comparisons() -> None:
    found = findings(2, unseen=(unseen(0, 0.7, 0.8, 0.6), unseen(1, 0.65, 0.8, 0.5, reference=0)))
    table = unseen_table(found, "t")
    names = [column.name for column in table.columns]
    at = {name: names.index(name) for name in ("left_out", "auroc", "auroc_interval", "balanced_accuracy", "n_cases")}
    rows = {(str(row[0]), str(row[at["left_out"]])): row for row in table.rows}
    assert [label for _, label in rows][:5] == ["scanner 0", "scanner 1", "scanner 2", "mean", "worst"]
    first, mean, worst = (rows[NASTY, name] for name in ("scanner 0", "mean", "worst"))
    assert first[at["auroc_interval"]] == "n/a" and first[at["n_cases"]] == 5
    assert mean[at["balanced_accuracy"]] == pytest.approx(0.7) and mean[at["auroc"]] == pytest.approx(0.8)
    assert worst[at["balanced_accuracy"]] == 0.6 and worst[at["auroc"]] == pytest.approx(0.7)
    assert worst[at["auroc_interval"]] == "0.650 to 0.750" and worst[at["n_cases"]] is None
    (gain,) = [row for (_, name), row in rows.items() if name == f"mean, minus that of {NASTY}"]
    assert gain[0] == "second" and gain[at["balanced_accuracy"]] == -0.02
    text = page_of(found)
    assert "<script>alert" not in text
    assert text.index("Domains left out") < text.index("Differences") and UNSEEN in _more_tables(about(), found)
    assert "Domains left out" not in page_of(findings()) and UNSEEN not in _more_tables(about(), findings())
