"""One meaning of «atypical»: headline, tiles, table, JSON, the results themselves and ``slides.csv`` agree."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import asdict
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.reports.case.outputs import open_writer
from atypia.reports.case.page import CasePage
from atypia.reports.case.summary import summarise
from atypia.workflows.slides.jobs import SlideJob, SlideSettings
from atypia.workflows.slides.tasks import COLUMNS, DONE, SlideTask

from .rows import results

CALL = {True: ("atypical", "uncertain", "refused"), False: ("normal", "uncertain", "refused")}
FIGURES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2)), max_size=40)


def numbers(text: str) -> list[int]:
    """The whole numbers of a text."""
    return [int(found.replace(",", "")) for found in re.findall(r"\d[\d,]*", text)]


@given(FIGURES)
@settings(max_examples=60, deadline=None)
def test_everything_that_counts_agrees(tmp_path_factory, figures: list[tuple[float, int]]) -> None:
    folder: Path = tmp_path_factory.mktemp("agree")
    p = [value for value, _ in figures]
    batch = results(p, [CALL[value >= 0.5][kind] for value, kind in figures])
    summary = summarise([batch])
    page = CasePage("case", limit=0)
    page.add(None, batch)
    with open_writer(folder / "results.csv") as writer:
        writer.write(batch)
    with open(folder / "results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    # By the results alone: what a reader of the CSV would count.
    scored = [row for row in rows if row["call"] != "refused"]
    atypical = [row for row in scored if row["decision"] == "1"]
    certain = [row for row in atypical if row["call"] == "atypical"]
    expected = {
        "figures": len(rows),
        "scored": len(scored),
        "refused": len(rows) - len(scored),
        "atypical": len(atypical),
        "atypical_certain": len(certain),
        "atypical_uncertain": len(atypical) - len(certain),
        "normal": len(scored) - len(atypical),
        "normal_certain": sum(row["call"] == "normal" for row in scored),
        "normal_uncertain": sum(row["call"] == "uncertain" and row["decision"] == "0" for row in scored),
        "uncertain": sum(row["call"] == "uncertain" for row in scored),
    }
    found = json.loads(summary.to_json())
    assert {key: found[key] for key in expected} == expected
    assert found["rate"] == (None if not scored else len(atypical) / len(scored))

    html = page.html()
    tiles = [re.sub("<[^>]+>", " ", tile) for tile in re.findall(r'<li class="tile .*?</li>', html)]
    assert [numbers(tile) for tile in tiles] == [
        [expected["atypical"], expected["scored"], expected["atypical_certain"], expected["atypical_uncertain"]],
        [expected["normal"], expected["scored"], expected["normal_certain"], expected["normal_uncertain"]],
        [expected["uncertain"], expected["scored"], expected["atypical_uncertain"], expected["normal_uncertain"]],
        [expected["refused"]],
    ]
    if scored:
        split = f"{expected['atypical_certain']} certain, {expected['atypical_uncertain']} uncertain"
        assert f"{expected['atypical']} of {expected['scored']} figures atypical (" in summary.sentence()
        assert f"): {split}; {expected['normal']} of {expected['scored']} normal: " in summary.sentence()
        assert summary.sentence() in html and split in tiles[0]
    if rows:
        keys = [column.key or column.title for column in summary.table().columns]
        line = dict(zip(keys, summary.table().rows[-1], strict=True))
        shared = set(line) & set(expected)
        assert {key: line[key] for key in shared} == {key: expected[key] for key in shared}
        assert {"scored", "refused", "atypical", "atypical_certain", "atypical_uncertain", "uncertain"} <= shared

    outcome = SlideTask(
        SlideJob(Path("s.svs"), Path("p.csv"), "s"), folder, SlideSettings(("m",)), lambda *_: {}
    ).outcome(DONE, found, 1.0)  # fmt: skip
    line = asdict(outcome)
    assert {key: line[key] for key in line if key in expected} == {
        key: expected[key] for key in line if key in expected
    }
    assert {"figures", "scored", "refused", "atypical", "atypical_certain", "atypical_uncertain"} <= set(COLUMNS)


def test_look_alikes_are_warned_of() -> None:
    assert any("14 of 18 and 41 of 45" in line for line in summarise([results([0.9])]).notes)
    assert not any("look-alikes" in line for line in summarise([]).notes)
