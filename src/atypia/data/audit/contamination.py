"""Known and detected overlaps between data sets: shared figures, cases or slides.

The published sources name cases consistently («MIDOG21/002» in every set that was cut from that slide),
so sets with known cases are compared row by row, and by position if positions are
published. Facts that no table contains are listed in :data:`OVERLAPS`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base.errors import AtypiaError, count_noun
from atypia.data.audit.findings import SAME_FIGURES, AuditFinding
from atypia.data.manifest import Manifest

POSITION_TOLERANCE_PX = 1.0
"""Largest distance, in pixels, between positions of one figure in two tables: MIDOG 2022 rounds box centres to half pixels."""


@dataclass(frozen=True)
class KnownOverlap:
    """Two published sets that share figures or slides.

    Attributes:
        first: Name of a source.
        second: Name of another.
        words: What they share.
        source: Evidence.
        first_prefix: Start of the ids of the affected figures of the first set, if not all figures
          are affected and their case may be unknown; empty for all.
    """

    first: str
    second: str
    words: str
    source: str
    first_prefix: str = ""


_AMI_BR_PAPER = "Bertram et al., BVM 2025 (AMi-Br)"
_MIDOGPP_PAPER = "Aubreville et al., Scientific Data 10 (2023), doi 10.1038/s41597-023-02327-4 (MIDOG++)"
_BANERJEE = "Banerjee et al., MELBA 2026, section 2.3: sampled from MIDOG++ except its human breast cancer"
_TABLES = "comparison of all positions in the published tables"

OVERLAPS: tuple[KnownOverlap, ...] = (
    KnownOverlap(
        "ami-br",
        "midog25-atypical",
        "all 1,721 MIDOG21 figures of AMi-Br are in the MIDOG 2025 training set, with the same majority labels",
        f"{_AMI_BR_PAPER}; {_TABLES}",
        "MIDOG21_",
    ),
    KnownOverlap(
        "ami-br",
        "midog2021",
        "AMi-Br labels the 1,721 mitotic figures of MIDOG 2021 again",
        _AMI_BR_PAPER,
        "MIDOG21_",
    ),
    KnownOverlap(
        "ami-br",
        "midog2022",
        "MIDOG 2022 contains MIDOG 2021, whose 1,721 mitotic figures are in AMi-Br",
        f"{_AMI_BR_PAPER}; {_TABLES}",
        "MIDOG21_",
    ),
    KnownOverlap(
        "ami-br",
        "midogpp",
        "MIDOG++ contains MIDOG 2021, whose 1,721 mitotic figures are in AMi-Br",
        f"{_AMI_BR_PAPER}; {_MIDOGPP_PAPER}; {_TABLES}",
        "MIDOG21_",
    ),
    KnownOverlap(
        "ami-br",
        "tupac16-al",
        "AMi-Br labels the 1,999 mitotic figures of the alternative TUPAC16 labels again",
        _AMI_BR_PAPER,
        "TUPAC16_",
    ),
    KnownOverlap("atnorm-md", "midogpp", "AtNorM-MD was cut from MIDOG++", _BANERJEE),
    KnownOverlap(
        "atnorm-md",
        "midog25-atypical",
        "AtNorM-MD was cut from MIDOG++, whose 11,937 mitotic figures are the MIDOG 2025 training set",
        f"{_BANERJEE}; {_TABLES}",
    ),
    KnownOverlap(
        "atnorm-md",
        "midog2022",
        "AtNorM-MD was cut from MIDOG++, which contains MIDOG 2022",
        f"{_BANERJEE}; {_MIDOGPP_PAPER}",
    ),
    KnownOverlap(
        "midog25-atypical",
        "midogpp",
        "the MIDOG 2025 training set is the 11,937 mitotic figures of MIDOG++",
        _TABLES,
    ),
    KnownOverlap(
        "midog25-atypical",
        "midog2022",
        "the 9,501 mitotic figures of MIDOG 2022 are in the MIDOG 2025 training set",
        _TABLES,
    ),
    KnownOverlap(
        "midog25-atypical",
        "midog2021",
        "the 1,721 mitotic figures of MIDOG 2021 are in the MIDOG 2025 training set",
        f"{_MIDOGPP_PAPER}; {_TABLES}",
    ),
    KnownOverlap("midog2021", "midog2022", "MIDOG 2022 contains the labelled slides of MIDOG 2021", _MIDOGPP_PAPER),
    KnownOverlap("midog2021", "midogpp", "MIDOG++ extends MIDOG 2021", _MIDOGPP_PAPER),
    KnownOverlap("midog2022", "midogpp", "MIDOG++ extends MIDOG 2022", f"{_MIDOGPP_PAPER}; {_TABLES}"),
    KnownOverlap(
        "omg-octo",
        "ccmct",
        "OMG-Octo has crops of slides that CCMCT has too",
        "comparison of the slide names in the published tables",
    ),
)
"""Known overlaps between published sets. The numbers under «comparison of the tables» were counted on
the published tables, positions no more than a pixel apart."""


def known_overlap(first: str, second: str) -> KnownOverlap | None:
    """The known overlap of two sources, in either order; None if none is known."""
    return next((o for o in OVERLAPS if {o.first, o.second} == {first, second}), None)


def datasets(manifest: Manifest) -> list[str]:
    """Names of the data sets whose rows a manifest holds, in order of appearance."""
    return [str(name) for name in manifest.table[r.DATASET].unique().to_pylist()]


def known_contamination(a: Manifest, b: Manifest, root: Path | None = None) -> list[AuditFinding]:
    """Known overlaps between two manifests of published sources.

    If the cases of both are known, the rows decide: a manifest without the shared slides
    is clean. Otherwise the published fact decides.

    Args:
        a: A manifest; its rows may come from several sources.
        b: Another.
        root: Data root with the sources' tables, for the positions of crops.

    Returns:
        One finding ``known-contamination`` for each pair of overlapping sources. ``facts`` has
        ``sets``, ``shared_cases``, ``figures`` (rows of ``a`` and of ``b`` that are affected)
        and ``same_position`` (rows of ``a`` that are rows of ``b``; None if unknown).
    """
    findings = []
    for first, second in product(datasets(a), datasets(b)):
        overlap = known_overlap(first, second)
        if overlap is None:
            continue
        own = a if datasets(a) == [first] else a.take(np.array(a.column(r.DATASET) == first))
        other = b if datasets(b) == [second] else b.take(np.array(b.column(r.DATASET) == second))
        finding = _contaminated(own, other, overlap, root)
        if finding is not None:
            findings.append(finding)
    return findings


PARTS_KEY: Final = "parts"
"""Key of :func:`published_parts` in what a bundle records of its training."""


def published_parts(manifest: Manifest) -> dict[str, list[str]]:
    """The publisher's parts that figures are of, for each set all of whose figures have one.

    >>> from atypia.data.pools import open_figures
    >>> published_parts(open_figures("mine.csv"))
    {}
    """
    parts: dict[str, set[str | None]] = {}
    for dataset, part in zip(manifest.table[r.DATASET].to_pylist(), manifest.table[r.PART].to_pylist(), strict=True):
        parts.setdefault(dataset, set()).add(part)
    return {name: sorted(map(str, found)) for name, found in sorted(parts.items()) if None not in found}


def named_contamination(train: str, manifest: Manifest) -> list[AuditFinding]:
    """As :func:`known_contamination`, for one side of which only the data set name is known.

    Args:
        train: Names of sources joined by ``+``, as a bundle records them.
        manifest: The other side.
    """
    findings = []
    for first, second in product(train.split("+"), datasets(manifest)):
        if first == second:
            message = f"{manifest.name} holds {second}, on which the classifier was trained"
            findings.append(AuditFinding(SAME_FIGURES, message, facts={"sets": [first, second]}))
        elif overlap := known_overlap(first, second):
            message = f"{first} and {second}: {overlap.words} ({overlap.source})"
            findings.append(AuditFinding("known-contamination", message, facts={"sets": [first, second]}))
    return findings


def shared_cases(a: Manifest, b: Manifest) -> set[str]:
    """Cases that both manifests name."""
    return _cases(a) & _cases(b)


def rows_of_shared_cases(a: Manifest, b: Manifest) -> npt.NDArray[np.bool_]:
    """Which rows of ``a`` belong to cases that are also in ``b``; ``a.take(~rows)`` has none of them.

    Returns:
        Mask of shape ``(len(a),)``.
    """
    return _in_cases(a, shared_cases(a, b))


def matching_positions(
    a: Manifest, b: Manifest, tolerance_px: float = POSITION_TOLERANCE_PX, root: Path | None = None
) -> list[tuple[str, str]] | None:
    """Figures of ``a`` and ``b`` at the same position of the same case.

    Args:
        a: Manifest of one published source.
        b: Of another.
        tolerance_px: Largest distance along each axis, in pixels of the slide.
        root: Data root with the sources' tables.

    Returns:
        Pairs of figure ids, at most one for each row of ``a`` (the nearest); None if the
        positions of one side are not known.
    """
    own, other = _positions(a, root), _positions(b, root)
    if not own or not other:
        return None
    there: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for figure, (case, x, y) in other.items():
        there[case].append((x, y, figure))
    arrays = {case: np.array([(x, y) for x, y, _ in rows]) for case, rows in there.items()}
    pairs = []
    for figure, (case, x, y) in own.items():
        if case in arrays:
            apart = np.abs(arrays[case] - (x, y)).max(axis=1)
            nearest = int(apart.argmin())
            if apart[nearest] <= tolerance_px:
                pairs.append((figure, there[case][nearest][2]))
    return pairs


def _contaminated(a: Manifest, b: Manifest, overlap: KnownOverlap, root: Path | None) -> AuditFinding | None:
    names = datasets(a)[0], datasets(b)[0]
    shared = shared_cases(a, b)
    blind = [
        _blind(m, overlap.first_prefix if name == overlap.first else "") for m, name in zip((a, b), names, strict=True)
    ]
    if not shared and not blind[0].any() and not blind[1].any():
        return None
    rows = [_in_cases(a, shared) | blind[0], _in_cases(b, shared) | blind[1]]
    # Rows that match a figure of unknown case cannot be identified.
    figures = [None if blind[1 - side].any() else int(rows[side].sum()) for side in (0, 1)]
    pairs = matching_positions(a, b, root=root)
    facts = {
        "sets": list(names),
        "shared_cases": len(shared),
        "figures": figures,
        "same_position": None if pairs is None else len(pairs),
        "source": overlap.source,
    }
    counts = [
        f"{'an unknown number' if n is None else f'{n:,}'} of {len(m):,} figures of {name}"
        for n, m, name in zip(figures, (a, b), names, strict=True)
    ]
    same = "" if pairs is None else f", {len(pairs):,} are at the same position (to {POSITION_TOLERANCE_PX:g} px)"
    message = (
        f"{overlap.words} ({overlap.source}); affected here: {' and '.join(counts)}: "
        f"{count_noun(len(shared), 'shared case')}{same}"
    )
    listed = [figure for figure, _ in pairs] if pairs else [a.ids[i] for i in np.flatnonzero(rows[0])]
    return AuditFinding("known-contamination", message, tuple(listed), facts)


def _blind(manifest: Manifest, prefix: str) -> npt.NDArray[np.bool_]:
    """Rows of unknown case, for which only the published overlap of their set counts."""
    rows = zip(manifest.column(r.CASE_ID), manifest.ids, strict=True)
    return np.array([case is None and figure.startswith(prefix) for case, figure in rows], dtype=bool)


def _cases(manifest: Manifest) -> set[str]:
    return set(manifest.table[r.CASE_ID].drop_null().unique().to_pylist())


def _in_cases(manifest: Manifest, cases: set[str]) -> npt.NDArray[np.bool_]:
    return np.array([case in cases for case in manifest.column(r.CASE_ID)], dtype=bool)


def _positions(manifest: Manifest, root: Path | None) -> Mapping[str, tuple[str, float, float]]:
    """Figure id → case and centre, for the rows whose case and position are known."""
    found: dict[str, tuple[str, float, float]] = {}
    columns = (manifest.ids, *(manifest.column(name) for name in (r.CASE_ID, r.X_PX, r.Y_PX)))
    published = _published_positions(manifest, root)
    for figure, case, x, y in zip(*columns, strict=True):
        if case is None:
            continue
        if x == x:  # not NaN: the row has a position on a slide
            found[figure] = (case, float(x), float(y))
        elif figure in published:
            found[figure] = (case, *published[figure][1:])
    return found


def _published_positions(manifest: Manifest, root: Path | None) -> Mapping[str, tuple[str, float, float]]:
    from atypia.data.sources.catalogue import SOURCES
    from atypia.data.sources.opening import figure_positions

    name = datasets(manifest)[0]
    if name not in SOURCES or not manifest.table[r.X_PX].null_count:
        return {}
    try:
        return figure_positions(name, root)
    except AtypiaError:
        return {}  # the table of positions is not on this machine: cases alone are compared
