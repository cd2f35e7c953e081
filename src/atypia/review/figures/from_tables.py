"""Converts tables of figures to :class:`~atypia.review.figures.figures.ReviewFigures`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from atypia.base import records as r
from atypia.base.errors import AbsentError, DataError, count_noun
from atypia.data.manifest import Manifest
from atypia.data.points.base import BOUNDS
from atypia.data.points.names import match
from atypia.data.slides.readas import ASSUMED
from atypia.data.sources.catalogue import SOURCES
from atypia.data.sources.opening import figure_positions
from atypia.inference import results as res
from atypia.reports.drawing.names import short_names
from atypia.review.figures.figures import (
    UNKNOWN_LABEL,
    Coded,
    Codes,
    Floats,
    Places,
    ReviewFigures,
    Zeros,
    coded,
    floats,
    nothing_coded,
)
from atypia.review.figures.scores import Scores, positions

SAME_THRESHOLD: Final = 1e-6
"""Thresholds that differ by no more than this are equal: a CSV holds six decimals, and means are rounded."""


def from_manifest(
    manifest: Manifest,
    scored: Scores | None,
    slides: Path | None,
    source: str,
    run_folders: Sequence[Path] = (),
    root: Path | None = None,
) -> ReviewFigures:
    """The figures of a data set.

    Args:
        manifest: The data set.
        scored: Scores of its figures by trainings; None for none.
        slides: Folder of slides, if they are elsewhere than the manifest says. Published crops with known
        positions on slides are then shown on the slides in this folder.
        source: The input that was opened.
        run_folders: The trainings with the scores.
        root: Data root in which positions of published crops are searched.
    """
    t, n = manifest.table, len(manifest)
    places = Places(() if manifest.root is None else (manifest.root,), slides)
    x, y = floats(t[r.X_PX]), floats(t[r.Y_PX])
    cut = np.isfinite(x)
    files, on = _slides_of(t[r.IMAGE], cut, places)
    if slides is not None and not cut.any():
        files, on, x, y = _published_positions(manifest, slides, root)
    p, call, notes, threshold = np.full(n, np.nan), nothing_coded(n), list(manifest.notes), None
    if scored is not None:
        p, call = scored.p, call_names(scored.p, scored.thresholds)
        threshold, of_several = one_threshold(scored.thresholds)
        notes += of_several
        if scored.unknown:
            words = "prediction is of a figure that is", "predictions are of figures that are"
            notes.append(f"{count_noun(scored.unknown, *words)} not in {manifest.name}")
    return replace(
        _unclassified(manifest.name, source, t, places),
        slides=files,
        slide=on,
        x_px=x,
        y_px=y,
        cut=cut,
        mpp=floats(t[r.MPP]),
        side_px=np.fmin(floats(t[r.WIDTH_PX]), floats(t[r.HEIGHT_PX])),
        case=coded(t[r.CASE_ID]),
        domain=coded(t[r.DOMAIN]),
        call=call,
        p=p,
        label=_labels(t[r.LABEL]),
        votes=t[r.VOTES] if t[r.VOTES].null_count < n else None,
        threshold=threshold,
        held_out=scored is not None and scored.held_out,
        manifest=manifest,
        rows=np.arange(n, dtype=np.int64),
        runs=tuple(run_folders),
        notes=tuple(notes),
    )


def _unclassified(title: str, source: str, table: pa.Table, places: Places) -> ReviewFigures:
    """Figures of which only ids and images are known."""
    n = table.num_rows
    unknown = np.full(n, np.nan)
    return ReviewFigures(
        title=title,
        source=source,
        ids=table[r.FIGURE_ID],
        images=table[r.IMAGE],
        places=places,
        slides=(),
        slide=np.full(n, -1, np.int32),
        x_px=unknown,
        y_px=unknown,
        cut=np.zeros(n, np.bool_),
        mpp=unknown,
        side_px=unknown,
        case=nothing_coded(n),
        domain=nothing_coded(n),
        call=nothing_coded(n),
        p=unknown,
        novelty=unknown,
        label=np.full(n, UNKNOWN_LABEL, np.int8),
        threshold=None,
        rows=np.full(n, -1, np.int64),
    )


def from_results(
    tables: Sequence[tuple[Path, pa.Table]], manifest: Manifest | None, slides: Path | None, source: str
) -> ReviewFigures:
    """The figures of results, with information from a data set.

    Args:
        tables: Files, and the results in them.
        manifest: The data set, if given: figures are matched to it by their id, else by
        the file of their crop.
        slides: Folder of slides, if they are elsewhere than the results say.
        source: The input that was opened.

    Raises:
        DataError: There are no figures, ids are repeated, or none is in the data set.
    """
    table = pa.concat_tables([one for _, one in tables])
    if table.num_rows == 0:
        raise DataError(f"{source} holds no figures; fix: predict again")
    table = _unique_ids(table, source)
    folders = tuple(dict.fromkeys([Path.cwd(), *(path.parent.resolve() for path, _ in tables)]))
    places = Places(folders if manifest is None or manifest.root is None else (*folders, manifest.root), slides)
    x, y = floats(table[r.X_PX]), floats(table[r.Y_PX])
    cut = np.isfinite(x)
    files, on = _slides_of(table[r.IMAGE], cut, places)
    zeros = _zeros(table, files, on)
    x, y = x + zeros.x_px, y + zeros.y_px
    threshold, notes = one_threshold(floats(table[r.THRESHOLD]))
    title = tables[0][0].stem if len(tables) == 1 else f"{len(tables)} results"
    found = replace(
        _unclassified(title, source, table, places),
        slides=files,
        slide=on,
        x_px=x,
        y_px=y,
        cut=cut,
        mpp=floats(table[r.MPP]),
        assumed=~cut & _assumed(table),
        models=coded(table[res.MODEL]).names,
        case=_named_by_slide(files, on),
        call=coded(table[res.CALL]),
        p=floats(table[r.P_ATYPICAL]),
        novelty=floats(table[res.NOVELTY]),
        threshold=threshold,
        zeros=zeros,
        notes=notes,
    )
    return found if manifest is None else _with_data(found, manifest)


def _assumed(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Whose µm/px the model assumed, shape (n,)."""
    sources = coded(table[res.MPP_SOURCE])
    return sources.mask([name for name in sources.names if name.startswith(ASSUMED)])


def _zeros(table: pa.Table, files: Sequence[Path], on: Codes) -> Zeros:
    """Origin of positions; where it is the scanned area, and only its file says where that is, from the slide."""
    x, y = (floats(table[name]) for name in (res.ORIGIN_X_PX, res.ORIGIN_Y_PX))
    bounds = coded(table[res.ORIGIN]).mask((BOUNDS,))
    for slide in np.unique(on[bounds & np.isnan(x) & (on >= 0)]).tolist():
        corner, here = _corner(files[slide]), bounds & (on == slide) & np.isnan(x)
        x[here], y[here] = corner
    return Zeros(np.nan_to_num(x), np.nan_to_num(y), bounds)


def _corner(path: Path) -> tuple[float, float]:
    """Corner of a slide's scanned area; that of its canvas where the file states none or cannot be read."""
    from atypia.data.slides.readers import open_slide

    try:
        with open_slide(path) as slide:
            return (0.0, 0.0) if slide.facts.bounds is None else slide.facts.bounds[:2]
    except (DataError, AbsentError):
        return 0.0, 0.0  # shown as a slide that cannot be read


def _with_data(figures: ReviewFigures, manifest: Manifest) -> ReviewFigures:
    rows = positions(figures.ids, manifest.table[r.FIGURE_ID].combine_chunks())
    if (rows < 0).any() and manifest.root is not None:
        by_file = {str(manifest.root / name): row for row, name in enumerate(manifest.table[r.IMAGE].to_pylist())}
        for index in np.flatnonzero((rows < 0) & ~figures.cut).tolist():
            rows[index] = by_file.get(str(figures.image(index)), -1)
    known = rows >= 0
    if not known.any():
        fix = f"name the data set that was classified, not {manifest.name}"
        raise DataError(f"no figure of {figures.source} is in {manifest.name}; fix: {fix}")
    picked = manifest.table.take(pa.Array.from_buffers(pa.int64(), len(rows), _optional(rows, known)))
    missing = int(np.count_nonzero(~known))
    notes = (f"{count_noun(missing, 'figure is', 'figures are')} not in {manifest.name}",) if missing else ()
    return replace(
        figures,
        title=manifest.name,
        mpp=np.where(figures.cut & np.isfinite(figures.mpp), figures.mpp, floats(picked[r.MPP])),
        assumed=None,
        side_px=np.fmin(floats(picked[r.WIDTH_PX]), floats(picked[r.HEIGHT_PX])),
        case=coded(picked[r.CASE_ID]),
        domain=coded(picked[r.DOMAIN]),
        label=_labels(picked[r.LABEL]),
        votes=picked[r.VOTES] if picked[r.VOTES].null_count < len(rows) else None,
        manifest=manifest,
        rows=rows,
        notes=(*figures.notes, *notes),
    )


def one_threshold(thresholds: Floats) -> tuple[float | None, tuple[str, ...]]:
    """The decision threshold of all figures, and a note if there is none.

    The mean threshold of several models belongs to none of them: some figures would be classified differently.

    >>> one_threshold(np.array([0.4, np.nan, 0.4])), one_threshold(np.array([0.3, 0.5]))[0]
    ((0.4, ()), None)
    """
    known = thresholds[np.isfinite(thresholds)]
    if len(known) == 0:
        return None, ()
    low, high = float(known.min()), float(known.max())
    if high - low <= SAME_THRESHOLD:
        return low, ()
    return None, (
        f"thresholds from {low:.3f} to {high:.3f}: each figure is classified by the threshold of the models that scored it",
    )


def call_names(p: Floats, threshold: float | Floats) -> Coded:
    """Class names by a threshold, one for all or one per figure; unknown without a probability."""
    names = (res.CALLED_ATYPICAL, res.CALLED_NORMAL)
    codes = np.where(np.isnan(p), -1, np.where(p >= threshold, 0, 1)).astype(np.int32)
    return Coded(names, codes)


def _labels(column: pa.ChunkedArray) -> npt.NDArray[np.int8]:
    values = floats(column)
    return np.where(np.isnan(values), UNKNOWN_LABEL, values).astype(np.int8)


def _optional(rows: npt.NDArray[np.int64], known: npt.NDArray[np.bool_]) -> list[Any]:
    """Buffers of an Arrow array in which unknown values are null."""
    return [pa.py_buffer(np.packbits(known, bitorder="little")), pa.py_buffer(np.where(known, rows, 0))]


def _slides_of(images: pa.ChunkedArray, cut: npt.NDArray[np.bool_], places: Places) -> tuple[tuple[Path, ...], Codes]:
    """The slides from which figures are cut, and the slide number of each figure."""
    if not cut.any():
        return (), np.full(len(cut), -1, np.int32)
    names = coded(images)
    used = np.unique(names.codes[cut])
    rank = np.full(len(names.names), -1, np.int32)
    rank[used] = np.arange(len(used), dtype=np.int32)
    return tuple(places.path(names.names[code]) for code in used), np.where(cut, rank[names.codes], -1).astype(np.int32)


def _named_by_slide(files: tuple[Path, ...], on: Codes) -> Coded:
    """Slides as cases, because results do not name cases."""
    shown = _slide_names([str(file) for file in files])
    names = [shown[str(file)] for file in files]
    cases = sorted(set(names))
    rank = np.array([*(cases.index(name) for name in names), -1], np.int32)
    return Coded(tuple(cases), rank[on])


def _slide_names(images: Sequence[str]) -> dict[str, str]:
    """Name of each slide: its stem if that is unique, else as much of its path as makes it unique."""
    stems = {image: Path(image).stem for image in dict.fromkeys(images)}
    return stems if len(set(stems.values())) == len(stems) else short_names(stems)


def _unique_ids(table: pa.Table, source: str) -> pa.Table:
    """Ids that occur on several slides are prefixed with the slide's name."""
    counts = pc.count_distinct(table[r.FIGURE_ID]).as_py()  # pyright: ignore[reportAttributeAccessIssue]
    if counts == table.num_rows:
        return table
    images = table[r.IMAGE].to_pylist()
    shown = _slide_names(images)
    ids = [f"{shown[image]}#{figure}" for figure, image in zip(table[r.FIGURE_ID].to_pylist(), images, strict=True)]
    repeated = [figure for figure, count in Counter(ids).items() if count > 1]
    if repeated:
        shown = ", ".join(repeated[:3])
        raise DataError(f"{source}: {len(repeated)} figure ids occur twice ({shown}); fix: open each result once")
    position = table.schema.get_field_index(r.FIGURE_ID)
    return table.set_column(position, table.schema.field(r.FIGURE_ID), pa.array(ids, pa.string()))


def _published_positions(
    manifest: Manifest, slides: Path, root: Path | None
) -> tuple[tuple[Path, ...], Codes, Floats, Floats]:
    """Positions of published crops on the slides in a folder."""
    n = len(manifest)
    on, x, y = np.full(n, -1, np.int32), np.full(n, np.nan), np.full(n, np.nan)
    known: dict[str, tuple[str, float, float]] = {}
    for name in manifest.table[r.DATASET].unique().to_pylist():
        if name in SOURCES:
            try:
                known.update(figure_positions(name, root))
            except AbsentError:
                continue
    there = {path.name: path for path in sorted(slides.iterdir()) if path.is_file()} if known else {}
    found = {name: _one_slide(name, there) for name in {place[0] for place in known.values()}}
    files: dict[Path, int] = {}
    for row, figure in enumerate(manifest.ids if known else ()):
        place = known.get(figure)
        path = None if place is None else found[place[0]]
        if place is not None and path is not None:
            on[row], x[row], y[row] = files.setdefault(path, len(files)), place[1], place[2]
    return tuple(files), on, x, y


def _one_slide(name: str, there: Mapping[str, Path]) -> Path | None:
    """The file in a folder that matches a slide name of a published table; None if there is none.

    Raises:
        DataError: Several files match equally.
    """
    found = match(name, there)
    return None if found is None else there[found.name]
