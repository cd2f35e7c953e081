"""The published data sets: one frozen entry each.

An entry states what a set is, its origin and licence, how its published folder
is recognised and read, and its expected counts. Adding a source adds one module to
``atypia.data.sources`` and one fabricated-layout fixture to ``tests/fixtures/layouts``; no list
of names is kept anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atypia.base import records as r
from atypia.base.registry import Registry
from atypia.data.manifest import Manifest
from atypia.data.sources.layouts import first_existing


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Attributes:
        url: Its address (https).
        filename: Target below the source's folder; may contain ``/``.
        sha256: Published or verified checksum, 64 hex digits; None if none is known.
        size_bytes: Published or verified size; None if none is known.
    """

    url: str
    filename: str
    sha256: str | None = None
    size_bytes: int | None = None

    @property
    def is_archive(self) -> bool:
        """Whether the file is to be unpacked into the source's folder."""
        return self.filename.endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz"))


@dataclass(frozen=True)
class Expected:
    """Published counts; None means not published and not checked.

    Attributes:
        total: Figures.
        positive: Figures of class 1.
        cases: Distinct cases, checked where every figure's case is known.
        parts: For each of the publisher's parts the figures and those of class 1.
    """

    total: int | None = None
    positive: int | None = None
    cases: int | None = None
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def differences(self, manifest: Manifest) -> list[str]:
        """What differs from the published counts, one phrase each; empty if nothing does."""
        zero, one = r.CLASS_NAMES[manifest.task]
        labels = manifest.table[r.LABEL].to_pylist()
        parts = manifest.table[r.PART].to_pylist()
        counts: list[tuple[str, int | None, int]] = [
            ("figures", self.total, len(labels)),
            (one, self.positive, labels.count(1)),
        ]
        if self.total is not None and self.positive is not None:
            counts.append((zero, self.total - self.positive, labels.count(0)))
        if not manifest.table[r.CASE_ID].null_count:
            counts.append(("cases", self.cases, len(manifest.table[r.CASE_ID].unique())))
        for name, (total, positive) in self.parts.items():
            inside = [label for label, part in zip(labels, parts, strict=True) if part == name]
            counts.append((f"figures in part {name}", total, len(inside)))
            counts.append((f"{one} in part {name}", positive, inside.count(1)))
        return [
            f"published {published:,} {what}, found {found:,}"
            for what, published, found in counts
            if published is not None and published != found
        ]


@dataclass(frozen=True)
class SourceContents:
    """Result of reading a layout.

    Attributes:
        rows: One mapping per figure, keys are manifest columns; ``image`` is relative to ``root``.
        root: Folder of the images; None where only labels are available.
        notes: Remarks for reports.
        hints: Possible explanations of differing counts («no file for MIDOG21_7.png»).
        positions: For crops with a published position on a slide: figure id → slide file, and
            the figure's centre on it in pixels (x to the right, y down).
        task: Of the labels that were found, where a source may carry those of another task than its entry's; None for that.
    """

    rows: list[dict[str, Any]]
    root: Path | None = None
    notes: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    positions: Mapping[str, tuple[str, float, float]] = field(default_factory=dict)
    task: str | None = None


@dataclass(frozen=True)
class Source:
    """A published data set.

    Attributes:
        name: Its name in this catalogue.
        title: Short description.
        task: Key of :data:`atypia.base.records.CLASS_NAMES`.
        licence: As published.
        citation: The paper or record to cite.
        homepage: Its web page.
        folders: Names of the folder below the data root in which the published layout is
            looked for; a download goes to the first.
        marks: Paths below such a folder (patterns are allowed); any of them shows that the
            source is present.
        inputs: Paths below the folder (patterns are allowed, ``..`` too) whose names, sizes and
            times decide whether a manifest that was derived from them is still valid.
        read: Reads the folder.
        expected: Published counts.
        images: Whether crops are published; otherwise slides or regions with coordinates.
        by_hand: How to get it (or the rest of it) without ``atypia data get``.
        files: What ``atypia data get`` downloads; empty if no address could be verified.
        mpp: Published µm/px of its crops, as text because it may be a range or unknown.
        overlaps: Names of sources that hold the same figures or the same cases.
        version: Increased when the reader changes what it returns, so that derived manifests are
            built again.
    """

    name: str
    title: str
    task: str
    licence: str
    citation: str
    homepage: str
    folders: tuple[str, ...]
    marks: tuple[str, ...]
    inputs: tuple[str, ...]
    read: Callable[[Path], SourceContents]
    expected: Expected
    images: bool
    by_hand: str
    files: tuple[RemoteFile, ...] = ()
    mpp: str = "not published"
    overlaps: tuple[str, ...] = ()
    version: int = 1

    def is_at(self, folder: Path) -> bool:
        """Whether the published layout is in this folder."""
        return first_existing(folder, self.marks) is not None


SOURCES: Registry[Source] = Registry("data source", "atypia.data.sources.entries", "sources")
"""Every published source, by name."""


def markdown() -> str:
    """The catalogue as a Markdown table, and a list with the address and citation of each set."""
    table = [
        "| name | what | task | figures | class 1 | µm/px | licence | `atypia data get` |",
        "|---|---|---|---|---|---|---|---|",
    ]
    details = []
    for name, source in sorted(SOURCES.shipped().items()):
        counts = [source.expected.total, source.expected.positive]
        figures, positive = (f"{count:,}" if count is not None else "not known" for count in counts)
        cells = [f"`{name}`", source.title, source.task, figures, positive, source.mpp, source.licence]
        table.append(f"| {' | '.join(cells)} | {'yes' if source.files else 'no'} |")
        details.append(f"- **`{name}`**: <{source.homepage}>. Cite: {source.citation}. By hand: {source.by_hand}.")
    return "\n".join([*table, "", *details]) + "\n"


def add(source: Source) -> Source:
    """Adds an entry to :data:`SOURCES` under its own name."""
    return SOURCES.add(source.name, source)
