"""Audit: checks data sets alone, in pairs, and divided by a split.

:func:`audit` makes the full report. :func:`check_training`, :func:`check_parts` and
:func:`check_pair` are the cheap checks that run before training and evaluation; they
raise on an error unless its code is allowed. Codes and severities are in
:data:`atypia.data.audit.findings.CODES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from atypia.base import records as r
from atypia.base.errors import AbsentError, DataError, InputError, count_noun
from atypia.base.process.progress import Progress, silent
from atypia.data.audit.contamination import datasets, known_contamination, named_contamination
from atypia.data.audit.duplicates import (
    Copies,
    Pixels,
    across_findings,
    conflict_findings,
    file_copies,
    find_copies,
    part_findings,
    within_findings,
)
from atypia.data.audit.findings import AuditFinding, AuditReport, by_severity, raise_leakage
from atypia.data.audit.inspection import image_findings, table_findings
from atypia.data.audit.pairs import generator_findings, measured_findings, pair_findings, shared_rows
from atypia.data.manifest import Manifest

AUDIT_PX = 128
"""Side of the compared crops in pixels, equal to the published ones, which are therefore not resampled."""

Parts = Mapping[str, Iterable[str]]
StoreOpener = Callable[[Manifest, Progress], Any]


def open_audit_store(manifest: Manifest, progress: Progress = silent) -> Any:
    """The crop store that an audit reads: whole crops, or fields of 128 px around positions."""
    from atypia.data.crops.store import open_store
    from atypia.data.images.geometry import CropGeometry

    on_slides = manifest.table[r.X_PX].null_count < len(manifest)
    geometry = CropGeometry(out_px=AUDIT_PX, side_px=AUDIT_PX if on_slides else None)
    return open_store(manifest, geometry, progress=progress)


def audit(
    manifests: Sequence[Manifest],
    splits: Iterable[tuple[str, Parts]] = (),
    store_opener: StoreOpener = open_audit_store,
    near: bool = True,
    progress: Progress = silent,
    root: Path | None = None,
) -> AuditReport:
    """Searches for what would spoil a result: damaged images, copies, contradicting labels, unknown cases, leakage.

    Every code that a finding may have: :data:`atypia.data.audit.findings.CODES`, and ``docs/data.md``.

    Args:
        manifests: The sets; they may be training and test data.
        splits: Splits of the first set: name in messages, and figure ids by part.
        store_opener: Opens the crops of a set.
        near: Whether to search near-duplicates.
        progress: Receives progress: decoding, hashing and comparing.
        root: Data root with the sources' tables of positions.

    Returns:
        The report. Sets whose images are not on this machine are audited by their tables.

    Raises:
        InputError: No set is given, or two sets have one name.

    >>> from atypia import open_data
    >>> [finding.code for finding in audit([open_data("mine.csv")]).findings]
    []
    """
    _check_names(manifests)
    findings: list[AuditFinding] = []
    pixels: dict[int, Pixels] = {}
    described = []
    for number, manifest in enumerate(manifests):
        findings += table_findings(manifest)
        store, found = _inspect(manifest, store_opener, progress)
        findings += found
        if store is not None:
            pixels[number] = Pixels.of_store(manifest, store)
        described.append(
            {
                "name": manifest.name,
                "task": manifest.task,
                "figures": len(manifest),
                "images": store is not None,
                "fingerprint": manifest.fingerprint,
            }
        )
    copies = _renumbered(find_copies(list(pixels.values()), near, progress), list(pixels))
    findings += within_findings(copies, manifests)
    findings += conflict_findings(copies, manifests)
    findings += across_findings(copies, manifests)
    for manifest in manifests:
        findings += _pooled_contamination(manifest, root)
    for first, second in combinations(manifests, 2):
        findings += shared_rows(first, second, root)
        findings += generator_findings(first, second, "generator-saw-set", root)
        findings += generator_findings(second, first, "generator-saw-set", root)
    for name, parts in splits:
        findings += part_findings(name, parts, manifests[0], copies)
        for other in manifests:
            findings += measured_findings(name, parts, manifests[0], other, root)
    return AuditReport(tuple(described), by_severity(findings))


def check_training(
    manifest: Manifest, store: Any = None, allow: Iterable[str] = (), root: Path | None = None
) -> list[str]:
    """Checks that a set can be trained on.

    Errors: copies with different labels; pooled sources that have the same crops or are known to
    overlap.

    Args:
        manifest: The figures.
        store: Their crop store; pixels are compared. None: checksums of files are compared.
        allow: Codes of findings that the user allows.
        root: Data root with the sources' tables of positions.

    Returns:
        Messages of warnings and of allowed errors, for logs and tables.

    Raises:
        LeakageError: States what was found and the option that allows it.
    """
    copies = _certain_copies(manifest, store)
    findings = within_findings(copies, [manifest]) + conflict_findings(copies, [manifest])
    findings += _pooled_contamination(manifest, root)
    names = datasets(manifest)
    if len(names) > 1:
        order = {name: number for number, name in enumerate(names)}
        sources = [order[name] for name in manifest.column(r.DATASET)]
        views = [_named(manifest, name) for name in names]
        spread = [Copies(c.kind, tuple((sources[row], row) for _, row in c.members)) for c in copies]
        findings += across_findings(spread, views)
    return raise_leakage(findings, allow, f"training on {manifest.name}")


def check_parts(
    parts: Parts, manifest: Manifest, store: Any = None, allow: Iterable[str] = (), name: str = "split"
) -> list[str]:
    """Checks that no figure, case or image is in two parts of a split.

    Args:
        parts: Figure ids by part.
        manifest: The set that is divided.
        store: Its crop store; None: checksums of files are compared.
        allow: Codes of findings that the user allows.
        name: Name of the split in messages.

    Returns:
        Messages of warnings and of allowed errors.

    Raises:
        LeakageError: States what was found and the option that allows it.
    """
    findings = part_findings(name, parts, manifest, _certain_copies(manifest, store))
    return raise_leakage(findings, allow, f"the division of {manifest.name}")


def check_pair(
    train: Manifest,
    test: Manifest,
    allow: Iterable[str] = (),
    stores: tuple[Any, Any] | None = None,
    root: Path | None = None,
) -> list[str]:
    """Checks that a classifier trained on one set may be tested on the other.

    Args:
        train: The training data.
        test: The test data.
        allow: Codes of findings that the user allows.
        stores: Crop stores of both, with the same crop size; pixels are compared, including flips and rotations.
          None: checksums of files are compared.
        root: Data root with the sources' tables of positions.

    Returns:
        Messages of warnings and of allowed errors.

    Raises:
        LeakageError: States what was found and the option that allows it.
    """
    findings = pair_findings(train, test, stores, root)
    findings += generator_findings(train, test, "generator-across-sets", root)
    if test.synthetic.any():
        message = f"{count_noun(int(test.synthetic.sum()), 'figure')} of {test.name} are generated"
        findings.append(AuditFinding("synthetic-measured", message))
    return raise_leakage(findings, allow, f"testing on {test.name} what was trained on {train.name}")


def check_pair_names(train: str, test: Manifest, allow: Iterable[str] = ()) -> list[str]:
    """As :func:`check_pair`, if only the name of the training data is known.

    Args:
        train: Names of sources joined by ``+``; unknown names are not compared.
        test: The test data.
        allow: Codes of findings that the user allows.
    """
    return raise_leakage(named_contamination(train, test), allow, f"testing on {test.name} what was trained on {train}")


def identical_groups(manifest: Manifest, store: Any = None) -> list[tuple[str, ...]]:
    """Figures with the same pixels, including flips and rotations: a split should keep them together.

    Args:
        manifest: The set.
        store: Its crop store; None: checksums of files are compared.

    Returns:
        Groups of two or more figure ids.
    """
    groups: dict[int, tuple[int, ...]] = {}
    for copies in _certain_copies(manifest, store):
        rows = tuple(row for _, row in copies.members)
        for row in rows:
            groups[row] = max(groups.get(row, ()), rows, key=len)
    return [tuple(manifest.ids[row] for row in rows) for rows in sorted(set(groups.values()))]


def _check_names(manifests: Sequence[Manifest]) -> None:
    if not manifests:
        raise InputError("an audit needs at least one set; fix: name a source, a manifest, a CSV or a folder")
    names = [manifest.name for manifest in manifests]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two sets are called {twice[0]}; fix: name each set once, or rename one's folder or file")


def _inspect(manifest: Manifest, opener: StoreOpener, progress: Progress) -> tuple[Any, list[AuditFinding]]:
    try:
        store = opener(manifest, progress)
    except AbsentError:
        message = f"{manifest.name}: its images are not on this machine; only its table was checked"
        return None, [AuditFinding("no-images", message)]
    except DataError as error:
        message = f"{manifest.name}: no image can be used ({error})"
        return None, [AuditFinding("unreadable-image", message, tuple(manifest.ids), {"n": len(manifest)})]
    return store, image_findings(manifest, store.quarantined)


def _certain_copies(manifest: Manifest, store: Any) -> list[Copies]:
    if store is None:
        return file_copies([manifest])
    return find_copies([Pixels.of_store(manifest, store)], near=False)


def _renumbered(copies: list[Copies], numbers: Sequence[int]) -> list[Copies]:
    """Copies in the sets with images, renumbered for the list of all sets."""
    return [Copies(c.kind, tuple((numbers[number], row) for number, row in c.members)) for c in copies]


def _named(manifest: Manifest, name: str) -> Manifest:
    return Manifest(manifest.table, name, manifest.task, manifest.root)


def _only(manifest: Manifest, dataset: str) -> Manifest:
    rows = np.array(manifest.column(r.DATASET) == dataset)
    return _named(manifest.take(rows), dataset)


def _pooled_contamination(manifest: Manifest, root: Path | None) -> list[AuditFinding]:
    """Known overlaps among the sources that one manifest pools."""
    names = datasets(manifest)
    findings = []
    for first, second in combinations(names, 2):
        for finding in known_contamination(_only(manifest, first), _only(manifest, second), root):
            if finding.facts["same_position"] == 0:
                continue  # figures of the same slides, which a division by case keeps together, but none is there twice
            said = f"{finding.message}; fix: --drop-overlap leaves figures out that are there twice"
            findings.append(replace(finding, message=said))
    return findings
