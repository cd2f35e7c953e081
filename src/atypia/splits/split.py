"""Folds as data: the figures of training, validation and test, saved as a readable JSON file.

A split names its manifest by fingerprint. Redundant entries of the file (counts of
figures and of positives, its own fingerprint) are verified on reading, so that a split that
was edited by hand, or that belongs to other data, is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from atypia.base import records as r
from atypia.base.artifacts import canonical_json, fingerprint, read_json, write_json
from atypia.base.config import StrictModel, parse
from atypia.base.errors import DataError, InputError, WorkError, count_noun, must
from atypia.data.manifest import Manifest

FORMAT = "atypia split 1"
"""Format name in a split file; it changes with the layout."""

PARTS = ("train", "val", "test")
"""The parts of a fold, in the order of tables."""

SHOWN_FOLDS = 3
"""Folds, and warnings, that the ``repr`` of a split shows."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
_NAME_RULE = "a name of at most 120 letters, digits, '.', '_' and '-', starting with a letter or digit"


@dataclass(frozen=True, repr=False)
class Fold:
    """One division of the figures.

    Attributes:
        name: Also the name of the run folder, so letters, digits, ``.``, ``_`` and ``-`` only.
        train: Ids of the figures that a model learns from.
        val: Ids of those used for selection (epoch, regularisation, threshold); never part of a result.
        test: Ids of those used for results; may be empty.
    """

    name: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()

    def parts(self) -> dict[str, tuple[str, ...]]:
        """The three parts by their names, in the order of :data:`PARTS`."""
        return {part: getattr(self, part) for part in PARTS}

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(ids):,} {part}" for part, ids in self.parts().items())
        return f"<Fold {self.name}: {counts}>"


@dataclass(frozen=True, repr=False)
class Split:
    """The folds that a protocol made from a manifest.

    Attributes:
        protocol: Name of the protocol in :data:`atypia.splits.catalogue.PROTOCOLS`.
        params: Options of the protocol, JSON-like, with defaults filled in.
        seed: Master seed.
        manifest: Fingerprint of the manifest.
        folds: The folds, in order; their names differ.
        warnings: Warnings for every table made with this split.
        positives: For each fold the numbers of positives of its parts (train, val, test), stored as a check.

    >>> from pathlib import Path
    >>> split = Split("by hand", {}, 0, "0" * 32, (Fold("one", ("a", "b"), ("c",)),))
    >>> Split.load(split.save(Path("split.json"))) == split
    True
    """

    protocol: str
    params: dict[str, Any]
    seed: int
    manifest: str
    folds: tuple[Fold, ...]
    warnings: tuple[str, ...] = ()
    positives: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.folds:
            raise InputError(must("folds", "at least one fold", "none", "make a new split"))
        repeated = [name for name, count in Counter(fold.name for fold in self.folds).items() if count > 1]
        if repeated:
            raise InputError(must("folds", "folds of different names", f"{repeated[0]!r} twice", "rename one"))
        for fold in self.folds:
            # A fold name becomes a folder name: a separator or leading dot could escape the output folder.
            if not _NAME.fullmatch(fold.name):
                raise InputError(must("fold", _NAME_RULE, fold.name, "rename the fold"))

    def __repr__(self) -> str:
        params = ", ".join(f"{name}={value}" for name, value in self.params.items())
        shown = [f"  {fold!r}" for fold in self.folds[:SHOWN_FOLDS]]
        more = (
            [f"  … and {count_noun(len(self.folds) - SHOWN_FOLDS, 'more fold')}"]
            if len(self.folds) > SHOWN_FOLDS
            else []
        )
        warned = [f"  warning: {text}" for text in self.warnings[:SHOWN_FOLDS]]
        head = f"<Split {self.protocol}({params}), seed {self.seed}: {count_noun(len(self.folds), 'fold')}>"
        return "\n".join([head, *shown, *more, *warned])

    @property
    def fingerprint(self) -> str:
        """Content hash of everything that affects a training: not of warnings and counts."""
        folds = [[fold.name, fold.train, fold.val, fold.test] for fold in self.folds]
        return fingerprint(FORMAT, self.protocol, self.params, self.seed, self.manifest, folds)

    def named(self, names: Sequence[str]) -> list[Fold]:
        """The folds with these names, in their order; all where none is named.

        Raises:
            InputError: There is no fold of a name.
        """
        known = {fold.name: fold for fold in self.folds}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InputError(must("fold", f"one of {', '.join(known)}", unknown[0], "name a fold of this protocol"))
        return [known[name] for name in names] if names else list(self.folds)

    def check_manifest(self, manifest: Manifest) -> None:
        """Checks that this split belongs to this manifest.

        Raises:
            DataError: The manifest is another one, or the counts of positives disagree.
        """
        if manifest.fingerprint != self.manifest:
            raise DataError(
                must(
                    "split",
                    f"one of the manifest {manifest.name} ({manifest.fingerprint[:12]})",
                    f"one of another manifest ({self.manifest[:12]}; protocol {self.protocol})",
                    "make a new split from this data, or give the data that it was made from",
                )
            )
        for name, counts in count_positives(self.folds, manifest).items():
            if name in self.positives and tuple(self.positives[name]) != counts:
                raise DataError(
                    must(
                        f"positives of {name}",
                        f"{counts} in train, val and test",
                        str(tuple(self.positives[name])),
                        "the split file was edited; make a new one",
                    )
                )

    def for_manifest(self, manifest: Manifest) -> Split:
        """Returns this split after :meth:`check_manifest` has passed; for use in expressions."""
        self.check_manifest(manifest)
        return self

    def save(self, path: Path) -> Path:
        """Writes the split as indented JSON, atomically."""
        folds = []
        for fold in self.folds:
            positives = self.positives.get(fold.name, (None, None, None))
            counts = {
                part: {"figures": len(ids), "positives": positive}
                for (part, ids), positive in zip(fold.parts().items(), positives, strict=True)
            }
            folds.append({"name": fold.name, "counts": counts, **{p: list(ids) for p, ids in fold.parts().items()}})
        content = {
            "format": FORMAT,
            "protocol": self.protocol,
            "params": self.params,
            "seed": self.seed,
            "manifest": self.manifest,
            "fingerprint": self.fingerprint,
            "warnings": list(self.warnings),
            "folds": folds,
        }
        write_json(path, content)
        return path

    @classmethod
    def load(cls, path: Path) -> Split:
        """Reads what :meth:`save` wrote and verifies its counts and fingerprint.

        :meth:`check_manifest` checks whether it belongs to a manifest.

        Raises:
            DataError: The file is absent, damaged, not a split, or was edited after it was written.
        """
        try:
            content = read_json(path)
        except WorkError as error:
            raise DataError(str(error)) from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DataError(must(str(path), f"a split file ({FORMAT})", "another file", "make one: atypia data split"))
        read = parse(_File, content, f"split {path}")
        for fold in read.folds:
            for part in PARTS:
                stated, found = getattr(fold.counts, part).figures, len(getattr(fold, part))
                if stated != found:
                    raise DataError(
                        must(f"{path}: {fold.name[:80]}, {part}", f"{stated} figures", f"{found}", "make a new split")
                    )
        split = cls(
            read.protocol,
            read.params,
            read.seed,
            read.manifest,
            tuple(Fold(fold.name, fold.train, fold.val, fold.test) for fold in read.folds),
            read.warnings,
            {fold.name: counts for fold in read.folds if (counts := fold.counts.positives()) is not None},
        )
        if split.fingerprint != read.fingerprint:
            raise DataError(f"{path} was changed after it was written; fix: make a new split")
        return split


def count_positives(folds: tuple[Fold, ...], manifest: Manifest) -> dict[str, tuple[int, int, int]]:
    """Number of positives (class 1) of each fold in train, val and test.

    Raises:
        DataError: A figure of a fold is not in the manifest.
    """
    positive = np.array([label == 1 for label in manifest.table[r.LABEL].to_pylist()], dtype=bool)

    def count(figure_ids: tuple[str, ...]) -> int:
        return int(positive[manifest.rows_of(figure_ids)].sum())

    return {fold.name: (count(fold.train), count(fold.val), count(fold.test)) for fold in folds}


def plain_params(options: StrictModel) -> dict[str, Any]:
    """A protocol's options as JSON-like values, defaults filled in."""
    params = options.model_dump(mode="json")
    canonical_json(params)
    return params


class _PartCounts(StrictModel):
    figures: int
    positives: int | None


class _Counts(StrictModel):
    train: _PartCounts
    val: _PartCounts
    test: _PartCounts

    def positives(self) -> tuple[int, int, int] | None:
        train, val, test = self.train.positives, self.val.positives, self.test.positives
        return None if train is None or val is None or test is None else (train, val, test)


class _FileFold(StrictModel):
    name: str
    counts: _Counts
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


class _File(StrictModel):
    format: Literal["atypia split 1"]
    protocol: str
    params: dict[str, Any]
    seed: int
    manifest: str
    fingerprint: str
    warnings: tuple[str, ...]
    folds: tuple[_FileFold, ...]
