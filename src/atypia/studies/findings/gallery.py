"""Figures that rows classify wrongly with high confidence, with their crops; and the human level on the same figures."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from atypia.base import records as r
from atypia.base.errors import AtypiaError
from atypia.data.images.decoding import read_rgb
from atypia.data.images.geometry import CropGeometry, apply, resize
from atypia.data.slides.readers import open_slide
from atypia.statistics.agreement import agreement, majority_of_others, vote_matrix
from atypia.statistics.intervals import Bootstrap, Interval, bootstrap_intervals
from atypia.statistics.metrics import UndefinedMetricWarning
from atypia.studies.findings.pooling import ManifestFigures
from atypia.studies.findings.scoring import BA, ScoredRow, codes_of, draws_for, rate_statistic
from atypia.studies.findings.single_figures import Gallery, Raters, WrongCrop

SHOWN: Final = 8
"""Number of crops for each kind of error on a place."""
FIELD_UM: Final = 32.0
"""Field in µm of crops cut from slides, as in the published sets."""
FIELD_PX: Final = 128
"""The same in pixels if the µm/px is unknown; also the largest displayed side."""
QUALITY: Final = 88


def gallery(place: int, entries: Sequence[ScoredRow], figures: ManifestFigures) -> Gallery | None:
    """The most confidently wrong figures of the best row of a place.

    Args:
        place: Its position.
        entries: Rows, best first.
        figures: Of the place's manifest.

    Returns:
        The gallery; None if the row makes no error.
    """
    best = entries[0].sample
    wrong = best.decisions != best.labels
    if not wrong.any():
        return None
    counts = np.zeros(len(figures.labels), dtype=np.int64)
    for one in entries:
        counts[one.sample.rows[one.sample.decisions != one.sample.labels]] += 1
    missed, alarms = (np.flatnonzero(wrong & mask) for mask in (best.labels, ~best.labels))
    missed = missed[np.argsort(best.p[missed], kind="stable")]
    alarms = alarms[np.argsort(-best.p[alarms], kind="stable")]
    shown = np.concatenate([missed[:SHOWN], alarms[:SHOWN]])
    table = figures.manifest.table.take(pa.array(best.rows[shown])).to_pylist()
    crops, absent = _crops(figures, table)
    found = [
        WrongCrop(
            row[r.FIGURE_ID],
            row[r.DOMAIN],
            int(row[r.LABEL]),
            tuple(row[r.VOTES] or ()),
            float(best.p[position]),
            int(counts[best.rows[position]]),
            crops.get(row[r.FIGURE_ID], ""),
        )
        for row, position in zip(table, shown, strict=True)
    ]
    split = min(SHOWN, len(missed))
    return Gallery(
        entries[0].series, place, tuple(found[:split]), tuple(found[split:]), len(missed), len(alarms), len(entries),
        absent,
    )  # fmt: skip


def _crops(figures: ManifestFigures, table: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], str]:
    """Crops as base64 JPEG by figure id, and the reason for missing ones."""
    manifest = figures.manifest
    if manifest.root is None or not manifest.root.is_dir():
        return {}, f"the images of {manifest.name} are not on this machine"
    found, reasons = {}, []
    for row in table:
        try:
            found[row[r.FIGURE_ID]] = _jpeg(_crop(manifest.root / row[r.IMAGE], row))
        except AtypiaError:
            reasons.append(row[r.FIGURE_ID])
    if not reasons:
        return found, ""
    return found, f"{len(reasons)} of {len(table)} images cannot be read, first that of {reasons[0]}"


def _crop(path: Any, row: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    if row[r.X_PX] is None:
        image = read_rgb(path)
        return apply(image, CropGeometry(out_px=min(FIELD_PX, *image.shape[:2])))
    with open_slide(path) as slide:
        mpp = row[r.MPP] if row[r.MPP] is not None else slide.mpp
        side = FIELD_PX if mpp is None else CropGeometry(side_um=FIELD_UM).source_side_px(mpp) or FIELD_PX
        return resize(slide.read(row[r.X_PX], row[r.Y_PX], side), FIELD_PX)


def _jpeg(pixels: npt.NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return base64.b64encode(buffer.getvalue()).decode()


def raters(place: int, rows: npt.NDArray[np.int64], figures: ManifestFigures) -> Raters | None:
    """The human level on a place's figures; None if fewer than two raters voted.

    Args:
        place: Its position.
        rows: The figures, positions in the manifest.
        figures: Of the place's manifest.
    """
    votes = figures.manifest.table[r.VOTES].take(pa.array(rows)).to_pylist()
    lengths = {len(vote) for vote in votes if vote is not None}
    if len(lengths) != 1 or lengths.pop() < 2:
        return None
    matrix = vote_matrix(votes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # shows as n/a
        found = agreement(matrix)
        intervals = tuple(_interval(matrix, rater, figures.cases[rows]) for rater in range(found.raters))
    return Raters(
        place, found.n, found.unanimous_share, found.fleiss, found.scores, intervals, found.human_level
    )  # fmt: skip


def _interval(matrix: npt.NDArray[np.float64], rater: int, cases: npt.NDArray[np.int64]) -> Interval:
    others = majority_of_others(matrix, rater)
    usable = ~np.isnan(others) & ~np.isnan(matrix[:, rater])
    if not usable.any():
        return Interval(float("nan"), float("nan"), float("nan"), 0.95, "none", float("nan"), 0, 0)
    codes, n_cases = codes_of(cases[usable])
    statistic = rate_statistic(BA, others[usable] == 1, matrix[usable, rater], codes)
    options = Bootstrap(draws=draws_for(n_cases, matrix.shape[1]))
    return bootstrap_intervals({BA: statistic}, int(usable.sum()), n_cases, options)[BA]
