"""Export and import of decisions: manifest, tables, GeoJSON, and other raters' files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from atypia.base import records as r
from atypia.base.errors import DataError, InputError, must
from atypia.base.files.spreadsheet import CsvLines
from atypia.data.sources.layouts import class_label
from atypia.data.textfiles import read_table
from atypia.inference import results as res
from atypia.reports.case import geojson
from atypia.review.decisions.intake import DecisionIntake, ImportedRow
from atypia.review.decisions.log import COLUMNS as LOG_COLUMNS
from atypia.review.decisions.log import Event
from atypia.review.decisions.words import (
    DECISIONS,
    IS_ATYPICAL,
    IS_NORMAL,
    IS_NOT_MITOSIS,
    IS_UNSURE,
    VOTES,
    decision_of,
    tags_of,
)
from atypia.review.figures.figures import FIELD_PX, FIELD_UM, ReviewFigures
from atypia.review.media.sizes import scale
from atypia.review.media.slides import OpenSlides

RATER, NOTE, TIME, TAGS = "rater", "note", "time", "tags"
DECISION_COLUMNS: Final = (r.FIGURE_ID, RATER, r.DECISION, NOTE, TIME, TAGS)
CONSENSUS: Final = "consensus"

_COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    IS_ATYPICAL: geojson.CALL_COLOURS[res.CALLED_ATYPICAL],
    IS_NORMAL: geojson.CALL_COLOURS[res.CALLED_NORMAL],
    IS_UNSURE: geojson.CALL_COLOURS[res.CALLED_UNCERTAIN],
    IS_NOT_MITOSIS: geojson.CALL_COLOURS[res.CALLED_REFUSED],
}


def decisions_csv(intake: DecisionIntake) -> str:
    """Every rater's current decisions and notes, one line each, with the time of the last change."""
    times = {event.id: event.time for event in intake.whole_log()}
    return _csv(DECISION_COLUMNS, _decision_rows(intake, times))


def _decision_rows(intake: DecisionIntake, times: dict[int, str]) -> Iterator[Sequence[Any]]:
    decision_state = intake.decision_state
    for rater in decision_state.raters:
        codes = decision_state.codes(rater)
        for index in sorted({*np.flatnonzero(codes >= 0).tolist(), *decision_state.noted(rater)}):
            note = decision_state.note(rater, index)
            time = times.get(decision_state.latest(rater, index) or 0)
            tags = decision_state.tag_text(rater, index)
            yield intake.figures.id(index), rater, decision_of(int(codes[index])), note, time, tags


def log_csv(intake: DecisionIntake) -> str:
    """The whole log, one line per event."""
    return _csv(LOG_COLUMNS, (_log_row(event) for event in intake.whole_log()))


def _log_row(event: Event) -> list[Any]:
    return list(asdict(event).values())


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    file = io.StringIO(newline="")
    lines = CsvLines(file)
    lines.write(columns)
    for row in rows:
        lines.write(row)
    return file.getvalue()


def decisions_geojson(
    figures: ReviewFigures, intake: DecisionIntake, shelf: OpenSlides, rater: str | None, slide: int | None
) -> str:
    """Decisions on one slide in the format that QuPath reads.

    Args:
        figures: The figures.
        desk: The decisions.
        shelf: The slides, for their µm/px.
        rater: The rater; None for the consensus.
        slide: Number of the slide; None if there is only one.

    Raises:
        InputError: No figure is on a slide, or there are several slides and none was named.
    """
    if not figures.slides:
        raise InputError(must("figures", "on slides for GeoJSON", "plain crops", "export decisions.csv"))
    if slide is None and len(figures.slides) > 1:
        raise InputError(must("slide", "named if there are several", "none", "add ?slide=0, see /slides"))
    number = slide or 0
    if not 0 <= number < len(figures.slides):
        raise InputError(must("slide", f"from 0 to {len(figures.slides) - 1}", number, "see /slides"))
    decision_state = intake.decision_state
    codes = decision_state.consensus() if rater is None else decision_state.codes(rater)
    features = []
    for index in range(len(figures)):
        decision = decision_of(int(codes[index]))
        if figures.slide[index] == number and decision is not None:
            features.append(_feature(figures, intake, shelf, index, decision, rater))
    return geojson.HEAD + ",\n".join(features) + geojson.TAIL


def _feature(
    figures: ReviewFigures, intake: DecisionIntake, shelf: OpenSlides, index: int, decision: str, rater: str | None
) -> str:  # fmt: skip
    import json

    mpp, _ = scale(figures, shelf, index)
    if not figures.cut[index]:
        mpp = shelf.mpp(int(figures.slide[index])) or mpp
    known = {name: value if value == value else None for name, value in (
        (r.P_ATYPICAL, float(figures.p[index])), (res.NOVELTY, float(figures.novelty[index])),
    )}  # fmt: skip
    x, y = figures.in_qupath(index, _corner(shelf, int(figures.slide[index])))
    row = {
        r.FIGURE_ID: figures.id(index),
        r.X_PX: x,
        r.Y_PX: y,
        r.THRESHOLD: figures.threshold,
        r.IMAGE: figures.slides[figures.slide[index]].name,
        res.CLASS: None,
        res.CALL: res.CALLED_UNCERTAIN,  # replaced below: a reviewer's decision is not a classifier's decision
        res.MODEL: None,
        res.REASON: None,
        **known,
    }
    bits = float(figures.uncertainty[index])
    made = geojson.feature(row, bits if bits == bits else None, FIELD_PX if mpp is None else FIELD_UM / mpp)
    properties = made["properties"]
    properties["classification"] = {"name": decision, "color": list(_COLOURS[decision])}
    said = intake.decision_state.others(None, index) if rater is None else {rater: decision}
    properties["metadata"] |= {f"decision of {name}": word for name, word in said.items()}
    call, note = figures.call.at(index), intake.decision_state.note(rater, index)
    tags = intake.decision_state.all_tags(index) if rater is None else {rater: intake.decision_state.tags(rater, index)}
    named = ", ".join(sorted({tag for one in tags.values() for tag in one}))
    properties["metadata"] |= {key: text for key, text in ((res.CALL, call), (NOTE, note), (TAGS, named)) if text}
    return json.dumps(made, ensure_ascii=False, allow_nan=False)


def _corner(shelf: OpenSlides, slide: int) -> tuple[float, float]:
    """Corner of a slide's scanned area, QuPath's origin; the corner of its canvas if the file cannot be read."""
    try:
        return shelf.facts(slide).corner
    except DataError:
        return 0.0, 0.0


def decision_word(text: str) -> str | None:
    """The decision named in a table cell, in any usual spelling; None for an empty cell.

    Raises:
        KeyError: Not a decision.

    >>> decision_word("AMF"), decision_word("Not-mitosis"), decision_word("")
    ('atypical', 'not-mitosis', None)
    """
    word = text.strip().casefold()
    if word in DECISIONS:
        return word
    vote = class_label(word)
    return None if vote is None else next(name for name, value in VOTES.items() if value == vote)


def read_decisions(data: bytes, rater: str) -> list[ImportedRow]:
    """Decisions in a CSV: ``figure_id, decision`` and, if present, ``note``, ``tags`` and ``rater``.

    Args:
        data: The file's bytes.
        rater: Rater whose decisions are read if the file has several raters; from a file with one
        rater, or without raters, all are read.

    Returns:
        Figure id, decision, note and tags of each line.

    Raises:
        DataError: Not such a table, an unknown decision (with its line), or a figure twice.
        InputError: The file has several raters, and none with this name.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "the uploaded file"
        path.write_bytes(data)
        table = read_table(path)
    table.require(r.FIGURE_ID, r.DECISION)
    raters = {row.get(RATER, "") for row in table.rows}
    if len(raters) > 1 and rater not in raters:
        names = ", ".join(sorted(raters))
        raise InputError(must("rater", f"one of {names}, the raters in the file", rater, "import one at a time"))
    found: dict[str, ImportedRow] = {}
    for row, line in zip(table.rows, table.lines, strict=True):
        if len(raters) > 1 and row[RATER] != rater:
            continue
        figure, text = row[r.FIGURE_ID], row[r.DECISION]
        try:
            decision = decision_word(text)
        except KeyError:
            what = must(r.DECISION, " or ".join(DECISIONS), repr(text[:40]), "correct the cell")
            raise DataError(f"line {line}: {what}") from None
        if figure in found:
            raise DataError(f"line {line}: figure {figure!r} occurs twice; fix: keep one line per figure")
        note = row.get(NOTE, "")
        found[figure] = (figure, decision, note or None, tags_of(row.get(TAGS, "")) or None)
    return list(found.values())
