"""In-domain, out-of-domain and the matrix of domains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from atypia.base import records as r
from atypia.evaluation import rows as e
from atypia.inference.predictions import PREDICTIONS_SCHEMA
from atypia.studies.plan import Plan
from atypia.studies.shift import IN_DOMAIN, OUT_OF_DOMAIN, domain_groups, matrix_rows, shift_rows, with_groups
from atypia.studies.table import decided_at, division

EMPTY = Plan("s", "full", {}, ("cross-domain", {"by": "domain"}), (), (), {}, {}, (), ("fixed",), None, {})


def rows(*lines: tuple[str, str | None, str, float]) -> pa.Table:
    """Result rows of balanced accuracy: fold, domain, part, value."""
    return pa.Table.from_pylist(
        [
            {e.MODEL: "m", r.FOLD: fold, r.DOMAIN: domain, r.PART: part, e.METRIC: "balanced_accuracy", e.VALUE: value,
             e.N: 10, e.N_POSITIVE: 3, e.PREDICTIONS: "x", r.RUN_ID: fold}
            for fold, domain, part, value in lines
        ],
        schema=e.RESULTS_SCHEMA,
    )  # fmt: skip


RESULTS = rows(
    ("scanner-a-repeat-1", "Scanner A", "test", 0.9),
    ("scanner-a-repeat-1", "Scanner B", "test", 0.6),
    ("scanner-b-repeat-1", "Scanner A", "test", 0.7),
    ("scanner-b-repeat-1", "Scanner B", "test", 0.8),
    ("scanner-b-repeat-1", "Scanner B", "val", 0.99),
    ("scanner-b-repeat-1", None, "test", 0.75),
    ("scanner-b-repeat-1", e.UNKNOWN, "test", 0.5),
)


def test_each_pair_of_domains_is_inside_or_outside() -> None:
    found = [(row[r.PART], row[e.VALUE], row[r.DOMAIN]) for row in shift_rows(RESULTS, EMPTY).to_pylist()]
    assert found == [
        (IN_DOMAIN, 0.9, None), (OUT_OF_DOMAIN, 0.6, None), (OUT_OF_DOMAIN, 0.7, None), (IN_DOMAIN, 0.8, None),
    ]  # fmt: skip
    matrix = {(row["trained_on"], row["tested_on"]): row[e.VALUE] for row in matrix_rows(RESULTS, EMPTY).to_pylist()}
    assert matrix == {
        ("Scanner A", "Scanner A"): 0.9, ("Scanner A", "Scanner B"): 0.6,
        ("Scanner B", "Scanner A"): 0.7, ("Scanner B", "Scanner B"): 0.8,
    }  # fmt: skip


def test_other_protocols_have_none(tmp_path: Path) -> None:
    plan = replace(EMPTY, protocol=("kfold", {}))
    assert shift_rows(RESULTS, plan).num_rows == matrix_rows(RESULTS, plan).num_rows == 0
    assert domain_groups(plan, tmp_path) == {}


def test_domains_are_grouped_and_decisions_moved() -> None:
    line = {r.FIGURE_ID: "f", r.P_ATYPICAL: 0.4, r.DECISION: 0, r.THRESHOLD: 0.5, r.DOMAIN: "d1"}
    table = pa.Table.from_pylist([line, {**line, r.FIGURE_ID: "g", r.DOMAIN: "d2"}], schema=PREDICTIONS_SCHEMA)
    assert with_groups(table, {"d1": "lung"})[r.DOMAIN].to_pylist() == ["lung", "d2"]
    moved = decided_at(table, 0.4)
    assert (moved[r.DECISION].to_pylist(), moved[r.THRESHOLD].to_pylist()) == ([1, 1], [0.4, 0.4])
    assert moved.schema == PREDICTIONS_SCHEMA


def test_fractions_are_told_apart() -> None:
    assert division("monte-carlo", "repeat-3-fraction-0.001") == "monte-carlo, 0.1 % of the data"
    assert division("ammeling-as-published", "seed-42-fraction-1") == "ammeling-as-published, 100 % of the data"
    assert division("kfold", "fold-1") == "kfold"
