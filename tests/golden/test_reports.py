"""The form of ``report.json``, which programs of laboratories read: it changes on purpose or not at all."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from atypia.reports.case.reviewed import SCHEMA, report_schema

from .reports import FOLDER, example

ANEW = "the form of report.json changed: if on purpose, run `python -m tests.golden.reports` (see there)"


def golden(name: str) -> Any:
    return json.loads((FOLDER / name).read_text("utf-8"))


def shape(value: Any) -> Any:
    """Names and types of a JSON value; of a list, those of its different items."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(shape(inner), sort_keys=True) for inner in value})
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def rounded(value: Any) -> Any:
    """Numbers to nine digits: versions of scipy differ in the last ones."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def test_a_report_has_the_form_and_the_values_of_the_golden_one(tmp_path: Path) -> None:
    want, got = golden("report.json"), example(tmp_path)

    assert shape(got) == shape(want), ANEW
    # What the tissue's outline gives may differ in the last digits between processors.
    for report in (got, want):
        report.pop("density")
    assert rounded(got) == rounded(want), ANEW


def test_the_schema_is_the_golden_one_and_takes_the_golden_report() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert report_schema() == golden("schema.json"), ANEW
    assert golden("report.json")["schema"] == SCHEMA
    check = jsonschema.Draft202012Validator(report_schema())
    assert not list(check.iter_errors(golden("report.json")))
    for name in ("counts", "figures", "rate"):
        without = copy.deepcopy(golden("report.json"))
        del without[name]
        assert list(check.iter_errors(without)), f"a report without {name} must not pass"
