"""Known overlaps between sets: by published fact, by case, by position."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atypia.base import records as r
from atypia.data.audit import contamination as c
from atypia.data.manifest import Manifest
from atypia.data.sources.catalogue import SOURCES
from atypia.data.sources.opening import published_manifest


@cache
def real(name: str, root: Path) -> Manifest:
    """A real set's manifest, read once for all tests of this module."""
    return published_manifest(name, root)


def made(dataset: str, rows: list[dict[str, Any]], task: str = r.ATYPICAL_TASK) -> Manifest:
    full = [{r.DATASET: dataset, r.IMAGE: f"{row[r.FIGURE_ID]}.png", **row} for row in rows]
    return Manifest.from_rows(full, dataset, task)


def on_slide(figure: str, case: str, x: float, y: float) -> dict[str, Any]:
    return {r.FIGURE_ID: figure, r.CASE_ID: case, r.X_PX: x, r.Y_PX: y, r.LABEL: 1}


def crop(figure: str, case: str | None) -> dict[str, Any]:
    return {r.FIGURE_ID: figure, r.CASE_ID: case, r.LABEL: 0}


def test_facts_name_sources_that_exist_and_agree_with_their_entries():
    pairs = {frozenset((o.first, o.second)) for o in c.OVERLAPS}
    assert len(pairs) == len(c.OVERLAPS)
    entries = {frozenset((name, other)) for name, entry in SOURCES.items() for other in entry.overlaps}
    assert pairs == entries
    assert all(len(o.words) > 20 and len(o.source) > 20 for o in c.OVERLAPS)


def test_an_overlap_is_found_in_either_order():
    assert c.known_overlap("midogpp", "atnorm-md") is c.known_overlap("atnorm-md", "midogpp") is not None
    assert c.known_overlap("ami-br", "atnorm-br") is None


def test_rows_decide_where_cases_are_known():
    a = made(
        "ami-br", [crop("MIDOG21_1", "MIDOG21/002"), crop("TUPAC16_1", "TUPAC16/01"), crop("TUPAC16_2", "TUPAC16/01")]
    )
    b = made("midog25-atypical", [crop("MIDOG25_1", "MIDOG21/002"), crop("MIDOG25_2", "MIDOG++/201")])
    (finding,) = c.known_contamination(a, b)
    assert finding.code == "known-contamination"
    assert finding.severity == "error"
    assert finding.facts["shared_cases"] == 1
    assert finding.facts["figures"] == [1, 1]
    assert finding.figures == ("MIDOG21_1",)
    assert "1 of 3 figures of ami-br and 1 of 2 figures of midog25-atypical: 1 shared case" in finding.message
    assert c.rows_of_shared_cases(a, b).tolist() == [True, False, False]
    assert c.known_contamination(a.take(~c.rows_of_shared_cases(a, b)), b) == []


def test_facts_decide_where_cases_are_unknown():
    blind = made("ami-br", [crop("MIDOG21_1", None), crop("TUPAC16_1", None)])
    midog = made("midogpp", [on_slide("m", "MIDOG21/002", 1, 1)], r.MITOSIS_TASK)
    (finding,) = c.known_contamination(blind, midog)
    assert finding.figures == ("MIDOG21_1",)
    assert finding.facts["figures"] == [1, None]
    assert "an unknown number of 1 figures of midogpp" in finding.message
    assert c.known_contamination(blind.take([1]), midog) == []
    unnamed = made("atnorm-md", [crop("AtNorM-MD_1", None)])
    (finding,) = c.known_contamination(midog, unnamed)
    assert "AtNorM-MD was cut from MIDOG++" in finding.message
    assert finding.facts["sets"] == ["midogpp", "atnorm-md"]


def test_pooled_manifests_are_compared_source_by_source():
    pooled = Manifest.concat(
        [made("ami-br", [crop("MIDOG21_1", "MIDOG21/002")]), made("atnorm-md", [crop("AtNorM-MD_1", None)])]
    )
    other = made("midog25-atypical", [crop("MIDOG25_1", "MIDOG21/002")])
    found = [finding.facts["sets"] for finding in c.known_contamination(pooled, other)]
    assert found == [["ami-br", "midog25-atypical"], ["atnorm-md", "midog25-atypical"]]
    assert c.known_contamination(made("mine", [crop("1", "MIDOG21/002")]), other) == []


def test_positions_match_within_a_pixel_on_the_same_case():
    a = made("midog2021", [on_slide("a", "MIDOG21/001", 10, 10), on_slide("b", "MIDOG21/001", 50, 50)], r.MITOSIS_TASK)
    b = made(
        "midog2022",
        [
            on_slide("p", "MIDOG21/001", 10.5, 9.0),
            on_slide("q", "MIDOG21/001", 10.0, 10.5),
            on_slide("s", "MIDOG21/001", 51.5, 50),
            on_slide("t", "MIDOG21/002", 50, 50),
        ],
        r.MITOSIS_TASK,
    )
    assert c.matching_positions(a, b) == [("a", "q")]  # the nearest, and nothing on another slide
    assert c.matching_positions(a, b, tolerance_px=2) == [("a", "q"), ("b", "s")]
    assert c.matching_positions(a, made("mine", [crop("1", "MIDOG21/001")])) is None


def test_names_alone_tell_what_is_published():
    test = made("midog25-atypical", [crop("MIDOG25_1", "MIDOG++/201")])
    (finding,) = c.named_contamination("mine+ami-br", test)
    assert finding.code == "known-contamination"
    (finding,) = c.named_contamination("midog25-atypical", test)
    assert finding.code == "figure-across-sets"
    assert c.named_contamination("mine", test) == []


@pytest.mark.real
@pytest.mark.parametrize(
    ("first", "second", "same", "cases"),
    [
        ("ami-br", "midog25-atypical", 1721, 135),
        ("ami-br", "midogpp", 1721, 135),
        ("midog25-atypical", "midogpp", 11937, 475),
        ("midog2022", "midog25-atypical", 9501, 332),
    ],
)
def test_published_tables_overlap_as_the_facts_say(real_root: Path, first: str, second: str, same: int, cases: int):
    a, b = real(first, real_root), real(second, real_root)
    (finding,) = c.known_contamination(a, b, real_root)
    assert finding.facts["same_position"] == same
    assert finding.facts["shared_cases"] == cases
    assert f"{same:,}" in finding.message


@pytest.mark.real
def test_figures_at_the_same_place_carry_the_same_label(real_root: Path):
    a, b = real("ami-br", real_root), real("midog25-atypical", real_root)
    pairs = c.matching_positions(a, b, root=real_root)
    assert pairs is not None
    own, other = zip(*pairs, strict=True)
    assert len(set(other)) == len(set(own)) == 1721
    assert np.array_equal(a.labels[a.rows_of(own)], b.labels[b.rows_of(other)])
    assert all(figure.startswith("MIDOG21_") for figure in own)


@pytest.mark.real
def test_the_slides_of_omg_octo_that_ccmct_has(real_root: Path):
    a, b = real("omg-octo", real_root), real("ccmct", real_root)
    (finding,) = c.known_contamination(a, b, real_root)
    assert (finding.facts["shared_cases"], finding.facts["figures"][0]) == (20, 796)
    assert finding.facts["same_position"] is None


@pytest.mark.real
def test_the_two_breast_test_sets_are_clean(real_root: Path):
    assert c.known_contamination(real("ami-br", real_root), real("atnorm-br", real_root)) == []
