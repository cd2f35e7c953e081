"""The cases of a laboratory's own figures: those of its table, or the folders of its crops."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Literal
from unicodedata import normalize

import pyarrow as pa

from atypia.base import records as r
from atypia.base.errors import InputError, count_noun, must
from atypia.data.manifest import SCHEMA, Manifest
from atypia.data.sources.layouts import CLASS_WORDS

Cases = Literal["given", "folder"]
Parts = tuple[str, ...]
"""Names of the folders on the way from a manifest's root to a crop."""


def with_cases(manifest: Manifest, cases: Cases) -> tuple[Manifest, tuple[str, ...]]:
    """The figures with their cases, and a note where some are not known.

    Args:
        manifest: The figures.
        cases: ``given``, or ``folder``: a crop without a case is of the case that its folder is named after, a folder of a
            class («Atypical») apart: of the one that holds it.

    Raises:
        InputError: All crops are in one folder, class folders apart.
    """
    known = manifest.table[r.CASE_ID].to_pylist()
    if cases == "given":
        return manifest, _unknown(manifest)
    rows = [row for row, case in enumerate(known) if case is None]
    if not rows:
        return manifest, ("--cases folder changes nothing: every figure has a case",)
    images, labels = (manifest.table[column].to_pylist() for column in (r.IMAGE, r.LABEL))
    folders = {row: PurePosixPath(images[row]).parent.parts for row in rows}
    classes = _class_folders({row: (folders[row], labels[row]) for row in rows}, manifest.task)
    without = {row: _without(parts, classes) for row, parts in folders.items()}
    found = set(without.values())
    if len(rows) == len(known) and len(found) < 2:
        got = "class folders alone" if len(set(folders.values())) > 1 else "crops in one folder"
        fix = "leave the option out, or put the crops of each case into a folder"
        raise InputError(must("cases", "folders of two cases or more", got, fix))
    own = (manifest.root.name if manifest.root else "") or "."
    # As names of cases in tables are (NFC): a Mac's folders have «ä» as two characters.
    short = {parts: normalize("NFC", parts[-1] if parts else own) for parts in found}
    whole = {parts: normalize("NFC", "/".join(parts) or ".") for parts in found}
    names = short if len(set(short.values())) == len(found) else whole
    # Set as they are: read as cells of a table, folders called «NA» or «-» would be no cases.
    filled = [names[without[row]] if case is None else case for row, case in enumerate(known)]
    place = manifest.table.schema.get_field_index(r.CASE_ID)
    table = manifest.table.set_column(place, SCHEMA.field(r.CASE_ID), pa.array(filled, pa.string()))
    apart = ", class folders apart" if classes else ""
    said = (
        f"cases of {count_noun(len(rows), 'figure')} are the {count_noun(len(found), 'folder')} of their crops{apart}"
    )
    return replace(manifest, table=table), (said,)


def _unknown(manifest: Manifest) -> tuple[str, ...]:
    """A note where figures have neither a case nor a slide, which stands for one."""
    table = manifest.table
    known = zip(table[r.CASE_ID].to_pylist(), table[r.SLIDE_ID].to_pylist(), strict=True)
    missing = sum(case is None and slide is None for case, slide in known)
    if not missing or len(manifest) < 2:
        return ()
    if missing == len(manifest):
        which = "no case is known: each figure counts as a case of its own"
    else:
        have = count_noun(missing, "figure has no case and counts", "figures have no case and count each")
        which = f"{have} as a case of its own ({len(manifest):,} figures in all)"
    return (
        f"{which}, so intervals are too narrow where cases have several; fix: a column case_id, or --cases folder where each "
        "case has a folder",
    )


def _class_folders(figures: Mapping[int, tuple[Parts, int | None]], task: str) -> set[Parts]:
    """Folders that are named after a class, by their names from the root.

    «1» and «0» may also be numbers of cases: they are classes where no other folder lies beside them and no label contradicts.
    """
    beside: dict[Parts, dict[str, set[int | None]]] = defaultdict(lambda: defaultdict(set))
    for parts, label in figures.values():
        for depth, name in enumerate(parts):
            beside[parts[:depth]][name].add(label)
    words, found = CLASS_WORDS[task], set[Parts]()
    for parent, named in beside.items():
        numbers = all(name in ("0", "1") and labels <= {int(name), None} for name, labels in named.items())
        for name in named:
            if name.casefold() in words and (numbers or name not in ("0", "1")):
                found.add((*parent, name))
    return found


def _without(parts: Parts, classes: set[Parts]) -> Parts:
    return tuple(name for depth, name in enumerate(parts) if parts[: depth + 1] not in classes)
