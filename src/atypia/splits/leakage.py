"""Leakage in splits: found and raised as an error unless the user allows it by its code.

The codes are those of the audit (:data:`atypia.data.audit.findings.CODES`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
import numpy.typing as npt

from atypia.base.errors import LeakageError, count_noun, must
from atypia.data.manifest import Manifest
from atypia.splits.split import PARTS, Fold, Split

CASE_ACROSS_PARTS = "case-across-parts"
"""Code that allows figures of one case in two parts of a fold."""

IDENTICAL_ACROSS_PARTS = "identical-across-parts"
"""Code that allows one image, under several figure ids, in two parts of a fold."""

_WORDS = {CASE_ACROSS_PARTS: ("case", "cases"), IDENTICAL_ACROSS_PARTS: ("image", "images")}
_FIXES = {
    CASE_ACROSS_PARTS: "use a protocol that keeps cases together (kfold, official, …)",
    IDENTICAL_ACROSS_PARTS: "remove the copies, or give them one case",
}


@dataclass(frozen=True)
class LeakageFinding:
    """Leakage of one kind between two parts, over all folds.

    Attributes:
        code: :data:`CASE_ACROSS_PARTS` or :data:`IDENTICAL_ACROSS_PARTS`.
        sides: The two parts.
        folds: Names of the folds with this leakage.
        shared: Cases or images in both parts, in the worst fold.
        figures: Figures of the second part that are affected, in the worst fold.
        of: Figures of the second part in that fold.
        example: One such case, or one figure with such an image.
    """

    code: str
    sides: tuple[str, str]
    folds: tuple[str, ...]
    shared: int
    figures: int
    of: int
    example: str

    def text(self) -> str:
        """The finding as a sentence."""
        word = _WORDS[self.code][self.shared > 1]
        one, other = self.sides
        where = self.folds[0] if len(self.folds) == 1 else f"{len(self.folds)} folds, first {self.folds[0]}"
        return (
            f"leakage ({self.code}): up to {self.shared:,} {word} in both {one} and {other} of {where}; "
            f"{self.figures:,} of {self.of:,} {other} figures are affected (for instance {self.example!r})"
        )


def check_split(
    split: Split, manifest: Manifest, allow: Iterable[str] = (), groups: Iterable[Sequence[str]] | None = None
) -> list[str]:
    """Checks that no case and no image is in two parts of a fold.

    Args:
        split: The split.
        manifest: The figures that it divides.
        allow: Codes that the user allows: :data:`CASE_ACROSS_PARTS`, :data:`IDENTICAL_ACROSS_PARTS`. Codes of
        other checks are ignored.
        groups: Disjoint groups of ids of figures that show the same image, for instance of equal
            :func:`atypia.data.audit.hashes.pixel_hash`. Ids outside the manifest are ignored.

    Returns:
        One warning for each allowed finding; every table made with the split shows it.

    Raises:
        LeakageError: A case or an image is in two parts of a fold and this was not allowed; or a
        figure is placed twice or is not in the manifest, which cannot be allowed.
    """
    allowed = set(allow)
    found = find_leakage(split, manifest, groups)
    barred = [finding for finding in found if finding.code not in allowed]
    if barred:
        codes = list(dict.fromkeys(finding.code for finding in barred))
        fixes = [_FIXES[code] for code in codes]
        exceptions = " ".join(f"--allow {code}" for code in codes)
        raise LeakageError(
            must(
                f"split {split.protocol}",
                "without leakage",
                "; ".join(finding.text() for finding in barred),
                f"{'; '.join(fixes)}; or allow it: {exceptions}",
            )
        )
    return [f"allowed {finding.text()}" for finding in found]


def find_leakage(
    split: Split, manifest: Manifest, groups: Iterable[Sequence[str]] | None = None
) -> list[LeakageFinding]:
    """All leakage in a split, without raising for it.

    Arguments and errors as :func:`check_split`; a figure that is placed twice or unknown raises.
    """
    _check_placement(split, manifest)
    names, cases = np.unique(manifest.cases, return_inverse=True)
    kinds: list[tuple[str, npt.NDArray[np.int64], npt.NDArray[np.str_]]] = [
        (CASE_ACROSS_PARTS, cases.astype(np.int64), names)
    ]
    if groups is not None:
        images, examples = _image_numbers(manifest, groups)
        kinds.append((IDENTICAL_ACROSS_PARTS, images, examples))
    rows = {fold.name: {part: manifest.rows_of(ids) for part, ids in fold.parts().items()} for fold in split.folds}
    findings = []
    for code, unit_of, unit_names in kinds:
        for sides in combinations(PARTS, 2):
            finding = _between(code, sides, rows, unit_of, unit_names)
            if finding is not None:
                findings.append(finding)
    return findings


def _between(
    code: str,
    sides: tuple[str, str],
    rows: dict[str, dict[str, npt.NDArray[np.int64]]],
    unit_of: npt.NDArray[np.int64],
    names: npt.NDArray[np.str_],
) -> LeakageFinding | None:
    """What two parts share, over all folds; the numbers are those of the worst fold."""
    folds: list[str] = []
    worst = (0, 0, 0, "")
    for name, parts in rows.items():
        one, other = unit_of[parts[sides[0]]], unit_of[parts[sides[1]]]
        shared = np.intersect1d(one[one >= 0], other[other >= 0])
        if not len(shared):
            continue
        folds.append(name)
        touched = int(np.isin(other, shared).sum())
        if len(shared) > worst[0]:
            worst = (len(shared), touched, len(other), str(names[shared[0]]))
    return LeakageFinding(code, sides, tuple(folds), *worst) if folds else None


def _image_numbers(
    manifest: Manifest, groups: Iterable[Sequence[str]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.str_]]:
    """Group number of each row, -1 for none; and one figure id per group."""
    position = {figure: row for row, figure in enumerate(manifest.ids)}
    numbers = np.full(len(manifest), -1, dtype=np.int64)
    examples = []
    for group in groups:
        inside = [position[figure] for figure in group if figure in position]
        if len(inside) > 1:
            numbers[inside] = len(examples)
            examples.append(manifest.ids[inside[0]])
    return numbers, np.array(examples, dtype=str)


def _check_placement(split: Split, manifest: Manifest) -> None:
    known = set(manifest.ids)
    for fold in split.folds:
        placed = list(chain.from_iterable(fold.parts().values()))
        unknown = [figure for figure in placed if figure not in known]
        if unknown:
            raise LeakageError(
                must(
                    f"split {split.protocol}, {fold.name}",
                    f"made of the figures of {manifest.name}",
                    f"{count_noun(len(unknown), 'unknown figure')}, first {unknown[0]!r}",
                    "make a new split from this data",
                )
            )
        if len(set(placed)) != len(placed):
            _raise_twice(split, fold)


def _raise_twice(split: Split, fold: Fold) -> None:
    counts = Counter(chain.from_iterable(fold.parts().values()))
    twice = [figure for figure, count in counts.items() if count > 1]
    where = [part for part, ids in fold.parts().items() for figure in ids if figure == twice[0]]
    raise LeakageError(
        must(
            f"split {split.protocol}, {fold.name}",
            "one that places every figure at most once",
            f"{count_noun(len(twice), 'figure')} placed twice, first {twice[0]!r} in {' and '.join(where)}",
            "make a new split; this cannot be allowed",
        )
    )
