"""Overlaps of two sets, and whether the generator of one saw the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from atypia.base import records as r
from atypia.base.errors import count_noun
from atypia.data.audit.contamination import datasets, known_contamination
from atypia.data.audit.duplicates import Pixels, across_findings, case_scope, file_copies, find_copies
from atypia.data.audit.findings import ERROR, SAME_FIGURES, AuditFinding
from atypia.data.audit.provenance import generator_records
from atypia.data.manifest import Manifest


def pair_findings(
    train: Manifest, test: Manifest, stores: tuple[Any, Any] | None = None, root: Path | None = None
) -> list[AuditFinding]:
    """Overlaps of two sets: figures, cases, pixels, and known overlaps of their sources.

    Args:
        train: The training data.
        test: The test data.
        stores: Crop stores of both, with the same crop size; pixels are compared, including flips and rotations.
          None: checksums of files are compared.
        root: Data root with the sources' tables of positions.
    """
    findings = shared_rows(train, test, root)
    pair = [train, test]
    if stores is None:
        copies = file_copies(pair)
    else:
        copies = find_copies([Pixels.of_store(m, s) for m, s in zip(pair, stores, strict=True)], near=False)
    if not any(finding.code == SAME_FIGURES for finding in findings):
        # The same figures have the same pixels: do not report them twice.
        findings += across_findings(copies, pair)
    return findings


def generator_findings(
    made: Manifest, measured: Manifest, code: str = "generator-across-parts", root: Path | None = None
) -> list[AuditFinding]:
    """Checks whether generators learned from figures, cases or files of the data that a classifier is measured on.

    Args:
        made: Figures, generated ones among them.
        measured: Real figures.
        code: Code of the findings: ``generator-across-parts``, ``generator-across-sets`` or ``generator-saw-set``.
        root: Data root with the sources' tables of positions.

    Returns:
        One finding per generator that saw any of it, or that does not record what it saw.
    """
    findings = []
    for maker in generator_records(made):
        if maker.seen is None:
            message = f"{maker.shown} in {made.name} does not record what it learned from (its seen.parquet is missing)"
            if code != "generator-saw-set":
                findings.append(AuditFinding("unknown-generator", message, maker.figures))
            continue
        shared = [found for found in pair_findings(maker.seen, measured, root=root) if found.severity == ERROR]
        if shared:
            message = f"{maker.shown} saw what is in {measured.name}: {'; '.join(found.message for found in shared)}"
            findings.append(AuditFinding(code, message, shared[0].figures))
    return findings


def measured_findings(
    name: str, parts: Mapping[str, Iterable[str]], manifest: Manifest, made: Manifest, root: Path | None = None
) -> list[AuditFinding]:
    """Checks a split for generated figures that are measured on, or made by a model that saw measured figures.

    Args:
        name: Name of the split or fold in messages.
        parts: Figure ids by part; those of ``train`` are not measured on.
        manifest: The set that is divided.
        made: Figures that are trained on, generated ones among them; may be the same set.
        root: Data root with the sources' tables of positions.
    """
    known = set(manifest.ids)
    ids = [figure for part, figures in parts.items() if part != "train" for figure in figures if figure in known]
    if not ids:
        return []
    measured = replace(manifest.take(manifest.rows_of(ids)), name=f"the validation and test part of {name}")
    findings, generated = [], measured.synthetic
    if generated.any() and made is manifest:
        said = [figure for figure, is_made in zip(measured.ids, generated, strict=True) if is_made]
        message = f"{count_noun(len(said), 'generated figure')} in {measured.name}"
        findings.append(AuditFinding("synthetic-measured", message, tuple(said)))
    if made is manifest and made.synthetic.any():
        trained = [figure for figure in parts.get("train", ()) if figure in known]
        made = manifest.take(manifest.rows_of(trained))
    real = measured.take(~generated)
    return findings + (generator_findings(made, real, root=root) if len(real) else [])


def shared_rows(a: Manifest, b: Manifest, root: Path | None = None) -> list[AuditFinding]:
    """Figures and cases that two sets share by name, and known overlaps of their sources."""
    findings = known_contamination(a, b, root)
    known = {frozenset(finding.facts["sets"]) for finding in findings}
    same = _same_figures(a, b)
    if same:
        message = f"{a.name} and {b.name} share {count_noun(len(same), 'figure')}"
        findings.append(AuditFinding(SAME_FIGURES, message, tuple(same), {"n": len(same)}))
    same_rows = set(same)
    other_sets = {dataset for dataset in datasets(b) if _contradicted(a, b, dataset)}
    cases: dict[str, set[str]] = {"certain": set(), "by name": set()}
    figures: dict[str, list[str]] = {"certain": [], "by name": []}
    own: dict[str, dict[str, str]] = {}  # case → scope → the data set that names it there
    for dataset, case in _case_pairs(a):
        own.setdefault(case, {})[case_scope(dataset, case)] = dataset
    rows = zip(b.ids, b.column(r.DATASET), b.column(r.CASE_ID), strict=True)
    for figure, dataset, case in rows:
        if case is None or case not in own or figure in same_rows:
            continue
        scope = case_scope(dataset, case)
        if scope in own[case]:
            if frozenset((own[case][scope], dataset)) in known or dataset in other_sets:
                continue
            kind = "certain"
        else:
            kind = "by name"
        cases[kind].add(case)
        figures[kind].append(figure)
    for kind, code in (("certain", "case-across-sets"), ("by name", "same-case-names")):
        if cases[kind]:
            findings.append(_case_finding(code, a, b, sorted(cases[kind]), figures[kind]))
    return findings


def _case_finding(code: str, a: Manifest, b: Manifest, cases: list[str], figures: list[str]) -> AuditFinding:
    shown = ", ".join(cases[:5]) + (", …" if len(cases) > 5 else "")
    message = f"{a.name} and {b.name} share {count_noun(len(cases), 'case')} ({shown}): {count_noun(len(figures), 'figure')} of {b.name}"
    if code == "same-case-names":
        message = (
            f"{a.name} and {b.name} use the same names for {count_noun(len(cases), 'case')} ({shown}); fix: if they are the "
            "same patients do not test one on the other, else rename them"
        )
    return AuditFinding(code, message, tuple(figures), {"n_cases": len(cases), "cases": cases})


def _case_pairs(manifest: Manifest) -> set[tuple[str, str]]:
    pairs = zip(manifest.column(r.DATASET), manifest.column(r.CASE_ID), strict=True)
    return {(str(dataset), str(case)) for dataset, case in pairs if case is not None}


def _keys(manifest: Manifest) -> dict[tuple[str, str], str | None]:
    rows = zip(manifest.column(r.DATASET), manifest.ids, manifest.column(r.SHA256), strict=True)
    return {(str(dataset), figure): checksum for dataset, figure, checksum in rows}


def _same_figures(a: Manifest, b: Manifest) -> list[str]:
    """Figures of one data set that are in both; not figures with different files, which only share an id."""
    own, other = _keys(a), _keys(b)
    return [key[1] for key in other if key in own and _may_be_same(own[key], other[key])]


def _contradicted(a: Manifest, b: Manifest, dataset: str) -> bool:
    """Whether two sets of one name are different sets: they use the same ids for different files."""
    own, other = _keys(a), _keys(b)
    common = [key for key in other if key[0] == dataset and key in own]
    return bool(common) and not any(_may_be_same(own[key], other[key]) for key in common)


def _may_be_same(first: str | None, second: str | None) -> bool:
    return first is None or second is None or first == second
