"""Summary of a case: counts, exact intervals against SciPy's test, and what is undefined."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from atypia.base.errors import InputError
from atypia.reports.case import summary as case
from atypia.reports.case.counts import Counts, exact_interval
from atypia.reports.case.summary import summarise

from .rows import refusals, results


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
@settings(max_examples=50, deadline=None)
def test_interval_agrees_with_scipy(counts: tuple[int, int], confidence: float) -> None:
    true = binomtest(*counts).proportion_ci(confidence, method="exact")
    assert exact_interval(*counts, confidence) == pytest.approx((true.low, true.high), abs=1e-9)


def test_interval_by_hand() -> None:
    # Without a success the upper bound solves (1 - p)^n = 0.025; without a failure the lower mirrors it.
    upper = 1 - 0.025 ** (1 / 10)
    assert exact_interval(0, 10) == (0.0, pytest.approx(upper))
    assert exact_interval(10, 10) == (pytest.approx(1 - upper), 1.0)
    assert all(math.isnan(bound) for bound in exact_interval(0, 0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((3, 2), "`successes` must be from 0 to 2"), ((-1, 2), "`successes`"), ((1, 2, 1.0), "`confidence` must be")],
)
def test_interval_of_nonsense(arguments: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        exact_interval(*arguments)


def test_counts() -> None:
    calls = ["normal", "atypical", "uncertain", "uncertain", "refused"]
    summary = summarise([results([0.1, 0.9, 0.45, 0.6, 0.99], calls), refusals(["corrupt tile", "corrupt tile"])])
    t = summary.total
    assert (t.figures, t.scored, t.refused) == (7, 4, 3)
    assert (t.normal, t.atypical, t.uncertain) == (1, 1, 2)
    assert t.decided_atypical == 2  # 0.9 and the uncertain 0.6; the refused 0.99 is in no rate
    assert (t.rate, t.share_uncertain) == (0.5, 0.5)
    assert dict(summary.reasons) == {"corrupt tile": 2, "unlike the training data": 1}
    assert summary.sentence() == (
        "2 of 4 figures atypical (50.0 %, 95 % interval 6.8 to 93.2 %): 1 certain, 1 uncertain; "
        "2 of 4 normal: 1 certain, 1 uncertain; 3 refused"
    )


def test_novelty_that_was_not_measured_is_said() -> None:
    measured, without = results([0.1, 0.9], novelty=1.0), results([0.2, 0.8, 0.7])
    gone = refusals(["corrupt tile"])  # refused before it was scored: no novelty is missing

    assert not [note for note in summarise([measured, gone]).notes if "ovelty" in note]
    (said,) = [note for note in summarise([measured, without, gone]).notes if "ovelty" in note]
    assert said == "Of 3 figures no novelty was measured, as the model records none: unlike ones could not be refused."
    (said,) = [note for note in summarise([without]).notes if "ovelty" in note]
    assert said.startswith("Novelty was not measured of any figure, as the model records none")


def test_figures_are_counted_by_slide_stack_or_folder() -> None:
    stack = results([0.9, 0.1], image=None)
    stack = stack.set_column(1, stack.schema.field(1), pa.array(["a/s.tiff"] * 2))
    stack = stack.set_column(0, stack.schema.field(0), pa.array(["s.tiff#1", "s.tiff#2"]))
    summary = summarise(
        [results([0.9, 0.9]), results([0.1], image="b.svs"), results([0.1, 0.1], image=None), stack, results([0.1])]
    )
    assert {name: (c.figures, c.decided_atypical) for name, c in summary.images.items()} == {
        "slide.svs": (3, 2),
        "b.svs": (1, 0),
        "crops": (2, 0),
        "a/s.tiff": (2, 1),
    }
    rows = summary.table().rows
    assert [row[0] for row in rows] == ["slide.svs", "b.svs", "crops", "a/s.tiff", "all"]
    assert [row[1] for row in rows] == [3, 1, 2, 2, 8]


def test_table_of_one_slide_has_one_row() -> None:
    (row,) = summarise([results([0.9, 0.1, 0.2, 0.3])]).table().rows
    assert row[:6] == ["slide.svs", 4, 4, 0, 1, 0.25]
    assert row[6:8] == list(exact_interval(1, 4))


def test_text_fits_its_width_and_names_are_whole() -> None:
    long = "a-slide-with-a-name-of-forty-characters.svs"
    summary = summarise([results([0.9, 0.1], image=long), results([0.1], image="b.svs")])
    for width in (80, 100):
        lines = summary.to_text(width).splitlines()
        assert max(map(len, lines)) <= width and long in " ".join(lines)
    wide, narrow = (summary.to_text(width).splitlines() for width in (160, 80))
    assert narrow[4:6] == [long, "        2       2        0         1  0.500  0.013  0.987          0"]
    assert any(line.startswith(f"{long}  ") for line in wide), "in one line where there is room"


def test_no_figures_is_undefined_not_zero() -> None:
    summary = summarise([])
    assert math.isnan(summary.total.rate)
    assert math.isnan(summary.total.share_uncertain)
    assert summary.notes == ["No figures were given: the rate is undefined."]
    found = json.loads(summary.to_json())
    assert (found["figures"], found["rate"], found["rate_low"], found["share_uncertain"]) == (0, None, None, None)
    assert "n/a" in summary.to_text()
    assert "undefined" in summary.to_text()


def test_all_refused_is_undefined() -> None:
    summary = summarise([refusals(["no µm/px"])])
    assert math.isnan(summary.total.rate)
    assert summary.notes[0] == "Every figure was refused: the rate is undefined."
    assert summary.sentence() == "no figure classified, 1 refused"


def test_json_holds_the_numbers() -> None:
    found = json.loads(summarise([results([0.9, 0.1], ["atypical", "uncertain"])]).to_json())
    low, high = exact_interval(1, 2)
    numbers = {"figures": 2, "scored": 2, "refused": 0, "atypical": 1, "uncertain": 1, "rate": 0.5}
    assert found | numbers == found
    assert (found["rate_low"], found["rate_high"], found["share_uncertain"]) == (low, high, 0.5)
    assert found["calls"] == {"normal": 0, "atypical": 1, "uncertain": 1, "refused": 0}
    assert (found["models"], found["thresholds"]) == (["model-1"], [0.5])
    assert found["images"][0] | {"image": "slide.svs", "figures": 2, "atypical": 1} == found["images"][0]


def test_files(tmp_path: Path) -> None:
    summary = summarise([results([0.9, 0.1])])
    assert json.loads(summary.write(tmp_path / "case.json").read_text("utf-8")) == summary.as_dict()
    assert summary.write(tmp_path / "case.txt").read_text("utf-8") == summary.table().to_text()
    with open(summary.write(tmp_path / "case.csv"), newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["figures"], row["rate"], float(row["rate_low"])) == ("2", "0.5", exact_interval(1, 2)[0])
    with pytest.raises(InputError, match="must be a name ending in"):
        summary.write(tmp_path / "case.xlsx")


def test_images_and_reasons_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case, "MAX_IMAGES", 2)
    summary = summarise([results([0.9], image=f"{i}.svs") for i in range(5)])
    assert {name: counts.figures for name, counts in summary.images.items()} == {"0.svs": 1, "1.svs": 1, "others": 3}
    assert any("Beyond 2 images" in note for note in summary.notes)
    many = summarise([refusals([f"reason {i}" for i in range(case.MAX_REASONS + 5)])])
    assert len(many.reasons) == case.MAX_REASONS + 1
    assert many.reasons["others"] == 5


def test_figures_outside_the_slide_are_one_reason() -> None:
    outside = "`{}` must be inside a.svs (from 0 to below 500), got {}; fix: check the position and its unit"
    texts = [outside.format("x_px", value) for value in ("-93.7", "1.2e+06", "501")] + [outside.format("y_px", "-4")]
    summary = summarise([refusals(texts)])
    assert list(summary.reasons.values()) == [3, 1]
    assert [note for note in summary.notes if "Refused" in note] == [
        "Refused, and in no rate: `x_px` must be inside a.svs (from 0 to below 500); fix: check the position and its unit (3); "
        "`y_px` must be inside a.svs (from 0 to below 500); fix: check the position and its unit (1)."
    ]


@given(st.lists(st.sampled_from(["normal", "atypical", "uncertain", "refused"]), max_size=30), st.integers(1, 7))
@settings(deadline=None, max_examples=40)
def test_batches_make_no_difference(calls: list[str], size: int) -> None:
    p = [0.9 if call == "atypical" else 0.2 for call in calls]
    parts = [results(p[i : i + size], calls[i : i + size]) for i in range(0, len(calls), size)]
    assert summarise(parts).total == summarise([results(p, calls)]).total
    assert summarise(parts).total.figures == len(calls)


def test_refused_figures_count_for_nothing_else() -> None:
    counts = Counts()
    counts.add("refused", 1)
    assert (counts.figures, counts.scored, counts.decided_atypical) == (1, 0, 0)
