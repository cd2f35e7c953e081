"""Test sets of the leaderboard, known by the hash of their figures and labels: they are checked without the data too."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base.errors import AbsentError, DataError
from atypia.base.registry import Registry
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.evaluation.published import FINAL_TEST, HIDDEN_TEST


@dataclass(frozen=True)
class BoardSet:
    """A test set.

    Attributes:
        name: Key in :data:`BOARD_SETS`; that of its data source, where it has one.
        title: For people.
        figures: Number of figures; None where it is not published.
        atypical: Number of atypical ones.
        part: Part of the source that it is; None: all of it.
        ids_sha256: :func:`digest` of the figures' ids; None where they could not be recorded.
        labels_sha256: Of ids with labels.
        cases_sha256: Of ids with cases; None where cases are not published.
        prefix: What the ids have before the name of a crop's file.
        disjoint: Protocols whose training and validation parts hold no figure of it.
        why_not: Why no row can be added; empty: rows can.
    """

    name: str
    title: str
    figures: int | None = None
    atypical: int | None = None
    part: str | None = None
    ids_sha256: str | None = None
    labels_sha256: str | None = None
    cases_sha256: str | None = None
    prefix: str = ""
    disjoint: tuple[str, ...] = ()
    why_not: str = ""


BOARD_SETS = Registry[BoardSet]("test set")
"""All test sets, by name."""

_HIDDEN: Final = "its figures and labels are not public; results come from the challenge's organisers alone"

for _set in (
    BoardSet(
        "ami-br",
        "AMi-Br, published hold-out",
        figures=826,
        atypical=184,
        part="test",
        ids_sha256="f5f0ef73efeecf57f058540061b21c16c8762015c92de21f904085fa6c09be59",
        labels_sha256="60bf2e1a7c8d816e9708d601a6c62bbb06e5d4c3d862be0f0370479ce5d2165f",
        cases_sha256="dab81a85e8d9ecd8e48ccb347880ddfacd11444b8bf5c5649b0ac60405b424c7",
        disjoint=("official", "final", "banerjee"),
    ),
    BoardSet(
        "atnorm-br",
        "AtNorM-Br",
        figures=746,
        atypical=128,
        ids_sha256="8aa578be978a0527e6b911208af78972dcaf8a20d668aeb8a127c5dddaa91a85",
        labels_sha256="071eff14b321e77329351fc5e89f4be8327674dc4e8600caf31d1033d4a849d1",
        prefix="AtNorM-Br_",
    ),
    BoardSet("atnorm-md", "AtNorM-MD", figures=2107, atypical=219),
    BoardSet(HIDDEN_TEST, "MIDOG 2025, preliminary hidden test set", why_not=_HIDDEN),
    BoardSet(FINAL_TEST, "MIDOG 2025, final hidden test set", why_not=_HIDDEN),
):
    BOARD_SETS.add(_set.name, _set)


def digest(ids: Sequence[str], values: Iterable[Any] | None = None) -> str:
    """SHA-256 of figures and a value of each, whatever their order.

    >>> digest(["b", "a"], [1, 0]) == digest(["a", "b"], [0, 1])
    True
    """
    shown = ids if values is None else [f"{figure}\t{value}" for figure, value in zip(ids, values, strict=True)]
    return hashlib.sha256("\n".join(sorted(shown)).encode()).hexdigest()


def board_figures(board_set: BoardSet, root: Path | None = None) -> Manifest | None:
    """A set's figures with labels and cases, in their published order; None where they are not on this machine.

    Raises:
        DataError: What is there is not what was published.
    """
    try:
        manifest = open_data(board_set.name, root)
    except AbsentError:
        return None
    if board_set.part is not None:
        manifest = manifest.take(np.array(manifest.column(r.PART) == board_set.part))
    labels: npt.NDArray[Any] = manifest.labels
    known = board_set.labels_sha256
    if len(manifest) != board_set.figures or int(labels.sum()) != board_set.atypical or (
        known is not None and digest(manifest.ids, labels.tolist()) != known
    ):  # fmt: skip
        raise DataError(
            f"{board_set.title} must be {board_set.figures} figures, {board_set.atypical} of them atypical, as published, got "
            f"{len(manifest)} and {int(labels.sum())}; fix: get the source again (`atypia data get {board_set.name}`)"
        )
    return manifest


def known_cases(board_set: BoardSet, manifest: Manifest | None) -> Sequence[str] | None:
    """The case of each figure of a manifest; None where the set's cases are not known here."""
    if manifest is None or manifest.table[r.CASE_ID].null_count:
        return None
    return [str(case) for case in manifest.column(r.CASE_ID)]
