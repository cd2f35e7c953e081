"""Results of training on one domain and testing on all: in-domain, out-of-domain, and the matrix of both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from atypia.base import records as r
from atypia.base import runs
from atypia.data.manifest import Manifest
from atypia.evaluation import rows as e
from atypia.splits.catalogue import PROTOCOLS
from atypia.splits.foldnames import domain_of
from atypia.splits.protocols.domains import fold_names
from atypia.studies import files
from atypia.studies.plan import Plan

CROSS_DOMAINS: Final = frozenset({"cross-domain", "ammeling-domains-as-published"})
"""Protocols whose folds each train on one domain."""
LODO: Final = "lodo"
IN_DOMAIN, OUT_OF_DOMAIN = "in-domain", "out-of-domain"
"""Values of ``part`` in shift rows."""

MATRIX_SCHEMA = pa.schema(
    [
        pa.field(e.MODEL, pa.string(), nullable=False),
        pa.field(e.TRAIN_DATA, pa.string()),
        pa.field(e.METRIC, pa.string(), nullable=False),
        pa.field("trained_on", pa.string(), nullable=False),
        pa.field("tested_on", pa.string(), nullable=False),
        pa.field(r.PART, pa.string(), nullable=False),
        pa.field(r.FOLD, pa.string(), nullable=False),
        pa.field(e.VALUE, pa.float64(), nullable=False),
        pa.field(e.N, pa.int64(), nullable=False),
        pa.field(e.N_POSITIVE, pa.int64(), nullable=False),
    ]
)
"""One line per model, metric, fold and test domain; the matrix shows means over the folds of a training domain."""


def domain_groups(plan: Plan, out: Path) -> dict[str, str]:
    """Domain → the value by which the protocol divides (``by: tumour``), if that is not the domain itself.

    Domains with several such values in the study's training sets (``by: dataset``) are left out.
    """
    protocol, options = plan.protocol
    if protocol not in (*CROSS_DOMAINS, LODO):
        return {}
    by = options.get("by", PROTOCOLS[protocol].options.model_fields["by"].default)
    if by == r.DOMAIN:
        return {}
    found: dict[str, set[str]] = {}
    for fingerprint in {training.manifest for training in plan.trainings if training.manifest}:
        table = Manifest.load(out / files.MANIFESTS / f"{fingerprint}.parquet").table
        pairs = table.group_by([r.DOMAIN, by]).aggregate([])
        for domain, value in zip(pairs[r.DOMAIN].to_pylist(), pairs[by].to_pylist(), strict=True):
            if domain is not None and value is not None:
                found.setdefault(domain, set()).add(value)
    return {domain: values.pop() for domain, values in found.items() if len(values) == 1}


def with_groups(predictions: pa.Table, groups: Mapping[str, str]) -> pa.Table:
    """The predictions with domains replaced by their groups."""
    position = predictions.schema.get_field_index(r.DOMAIN)
    named = [groups.get(domain, domain) for domain in predictions[r.DOMAIN].to_pylist()]
    return predictions.set_column(position, predictions.schema.field(position), pa.array(named, pa.string()))


def shift_rows(rows: pa.Table, plan: Plan) -> pa.Table:
    """Test rows of single domains as in-domain or out-of-domain results; each is a separate result.

    ``fold`` then names the training's fold and the test domain, so that a summary averages over all
    pairs, as Ammeling et al. do in Table 5.
    """
    found = []
    for row, trained_on in _pairs(rows, plan):
        inside = trained_on == row[r.DOMAIN]
        found.append(
            {
                **row,
                r.PART: IN_DOMAIN if inside else OUT_OF_DOMAIN,
                r.DOMAIN: None,
                r.FOLD: f"{row[r.FOLD]} on {row[r.DOMAIN]}",
            }
        )
    return pa.Table.from_pylist(found, schema=e.RESULTS_SCHEMA)


def matrix_rows(rows: pa.Table, plan: Plan) -> pa.Table:
    """One line for each fold and test domain; with :data:`MATRIX_SCHEMA`."""
    kept = (e.MODEL, e.TRAIN_DATA, e.METRIC, r.FOLD, e.VALUE, e.N, e.N_POSITIVE)
    found = [
        {
            **{name: row[name] for name in kept},
            "trained_on": trained_on,
            "tested_on": row[r.DOMAIN],
            r.PART: IN_DOMAIN if trained_on == row[r.DOMAIN] else OUT_OF_DOMAIN,
        }
        for row, trained_on in _pairs(rows, plan)
    ]
    return pa.Table.from_pylist(found, schema=MATRIX_SCHEMA)


def _pairs(rows: pa.Table, plan: Plan) -> list[tuple[dict[str, Any], str]]:
    """Test rows of single domains, each with its training domain; empty for other protocols."""
    if plan.protocol[0] not in CROSS_DOMAINS:
        return []
    domains = sorted({d for d in rows[r.DOMAIN].to_pylist() if d is not None and d != e.UNKNOWN})
    trained = dict(zip(fold_names(domains), domains, strict=True))
    found = []
    for row in rows.to_pylist():
        if row[r.DOMAIN] in (None, e.UNKNOWN) or row[r.PART] != runs.TEST:
            continue
        slug = domain_of(row[r.FOLD])
        if slug is not None and slug in trained:
            found.append((row, trained[slug]))
    return found
