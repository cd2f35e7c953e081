"""Draws figures for raters: a random number of each domain, without labels, as AtNorM-MD was drawn (Banerjee et al., 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa

from atypia.base import records as r
from atypia.base.errors import InputError, count_noun, must
from atypia.base.seeds import generator
from atypia.data.manifest import Manifest

GROUPS: Final = (r.DOMAIN, *r.DOMAIN_PARTS)
"""Columns by which figures can be drawn and chosen."""
HIDDEN: Final = (r.PART, r.LABEL, r.SOFT_LABEL, r.VOTES, r.N_RATERS, r.PHASE)
"""Columns that raters must not know of; they are null in what is drawn."""


@dataclass(frozen=True)
class RatingDraw:
    """Figures to rate.

    Attributes:
        manifest: The figures in random order, of the task atypical or normal, without labels.
        counts: Figures drawn of each group, and how many there were.
        warnings: Groups that hold fewer figures than were asked for.
    """

    manifest: Manifest
    counts: dict[str, tuple[int, int]]
    warnings: tuple[str, ...] = ()


def draw_for_rating(
    manifest: Manifest,
    each: int,
    by: str = r.DOMAIN,
    only: Sequence[tuple[str, str]] = (),
    without: Sequence[tuple[str, str]] = (),
    seed: int = 0,
) -> RatingDraw:
    """Draws figures at random, the same number of each group, without replacement.

    Of a set of mitotic figures and look-alikes mitotic figures alone are drawn. A figure's place in the set, and in which
    order the set holds its rows, changes nothing of the draw.

    Args:
        manifest: The set.
        each: Figures of each group.
        by: Column whose values are the groups, of :data:`GROUPS`; figures without a value are not drawn.
        only: Columns of :data:`GROUPS` with the values that figures must have (one column several times: any of them).
        without: Columns with values that they must not have.
        seed: Decides the draw.

    Raises:
        InputError: No such column, a value that no figure has, or no figure is left.

    >>> rows = [{"figure_id": f"{i}", "dataset": "d", "image": f"{i}.png", "label": i % 2, "tumour": "ab"[i % 2]} for i in range(8)]
    >>> drawn = draw_for_rating(Manifest.from_rows(rows, "mine"), 3, by="tumour")
    >>> drawn.counts, set(drawn.manifest.table["label"].to_pylist())
    ({'a': (3, 4), 'b': (3, 4)}, {None})
    """
    groups = _values(manifest, by)
    keep = np.array([value is not None for value in groups])
    if manifest.task == r.MITOSIS_TASK:
        keep &= np.array([label == 1 for label in manifest.table[r.LABEL].to_pylist()])
    for column in dict.fromkeys(column for column, _ in only):
        wanted = {value for name, value in only if name == column}
        keep &= _have(manifest, column, wanted)
    for column, value in without:
        keep &= ~_have(manifest, column, {value})
    if not keep.any():
        raise InputError(
            must("figures to draw from", "at least one", "none", f"see `atypia data info`, or --by {r.TUMOUR}")
        )
    rows: list[int] = []
    counts, warnings = {}, []
    for group in sorted({str(value) for value, kept in zip(groups, keep, strict=True) if kept}):
        found = [row for row in np.flatnonzero(keep).tolist() if groups[row] == group]
        found.sort(key=lambda row: manifest.ids[row])
        chosen = generator(seed, "rating", by, group).permutation(len(found))[:each]
        rows += [found[place] for place in chosen.tolist()]
        counts[group] = (len(chosen), len(found))
        if len(found) < each:
            warnings.append(f"{group}: all {count_noun(len(found), 'figure')}, {each} were asked for")
    rows.sort(key=lambda row: manifest.ids[row])
    order = generator(seed, "rating order").permutation(len(rows))
    drawn = manifest.take([rows[place] for place in order.tolist()])
    told = ", ".join(f"{name} {got}" for name, (got, _) in counts.items())
    note = f"drawn for rating from {manifest.name} ({manifest.fingerprint[:12]}), {each} by {by}, seed {seed}: {told}"
    blank = replace(
        drawn, table=_without_labels(drawn.table), name=f"{manifest.name} for rating", task=r.ATYPICAL_TASK,
        notes=(*manifest.notes, note),
    )  # fmt: skip
    blank.validate()
    return RatingDraw(blank, counts, tuple(warnings))


def _values(manifest: Manifest, column: str) -> list[str | None]:
    if column not in GROUPS:
        raise InputError(must("column", f"one of {', '.join(GROUPS)}", column, "name one of them"))
    return manifest.table[column].to_pylist()


def _have(manifest: Manifest, column: str, wanted: set[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    values = _values(manifest, column)
    known = sorted({value for value in values if value is not None})
    if unknown := sorted(wanted - set(known)):
        raise InputError(must(column, f"one that figures have ({'; '.join(known)})", unknown[0], "correct the value"))
    return np.array([value in wanted for value in values])


def _without_labels(table: pa.Table) -> pa.Table:
    for column in HIDDEN:
        place = table.schema.get_field_index(column)
        field = table.schema.field(place)
        table = table.set_column(place, field, pa.nulls(table.num_rows, field.type))
    return table
