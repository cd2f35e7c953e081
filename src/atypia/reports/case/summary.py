"""Summary of a case: number of figures, number of atypical figures, and the confidence interval of their share.

*Atypical* has one meaning in every count: the probability reached the threshold (``decision`` 1); *normal*
likewise. Each is divided into *certain*, where the call is that class, and *uncertain*, where the call is
*uncertain*. Refused figures are in no denominator.

Results are added in record batches; only counts are kept.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from atypia.base import records as r
from atypia.base.artifacts import atomic_file
from atypia.base.errors import first_of
from atypia.data.slides.readas import ASSUMED
from atypia.inference import results as res
from atypia.reports.case.counts import CONFIDENCE, Counts
from atypia.reports.case.density import SlideDensity, add_density_columns
from atypia.reports.drawing.names import common_reason, short_names
from atypia.reports.drawing.tables import TEXT_WIDTH, Column, Table, wrapped_notes
from atypia.reports.drawing.values import Value

if TYPE_CHECKING:
    from atypia.reports.case.corrected import RateCorrection

MAX_IMAGES: Final = 1000
"""Largest number of images listed separately; figures of further images are counted together."""
MAX_REASONS: Final = 20
SHOWN_COLUMNS: Final = 9
"""Columns of the table as text: as many as a terminal has room for."""
MAX_SCALES: Final = 4
"""Largest number of µm/px values listed per image (crops of several sizes have several)."""
OTHERS: Final = "others"
LOOK_ALIKES: Final = (
    "Every figure must be a mitosis: non-mitotic look-alikes are mostly called atypical (by an earlier shipped "
    "model 14 of 18 and 41 of 45 dark non-mitotic figures, in two trials)."
)
STACKS: Final = (".tif", ".tiff")
"""Files that may contain many crops, whose figures are then their pages; other crops are counted by folder."""
_PAGE = re.compile(r"#\d+(~\d+)?$")
"""What the id of a page ends in."""

_Scale = tuple[float | None, str | None, str | None]
"""µm/px, its source, and the origin of positions."""


class CaseSummary:
    """Counts the figures of a case from its results, batch by batch.

    Attributes:
        total: All figures.
        correction: Corrects the rate for the classifier's errors; None: the raw rate alone is given.
        images: Figures by image, in order of first appearance: the slide or region
            of figures with positions, the TIFF stack, or the folder of other crops.
        reasons: Refused figures by reason without what differs between figures (:func:`common_reason`), at most :data:`MAX_REASONS` and :data:`OTHERS`.
        scales: µm/px by image, each with its source and the origin of positions; at most :data:`MAX_SCALES` per image.
        models, thresholds: Names of the classifiers, and their decision thresholds.
        run_by: What computed their networks, where that is known.
        unmeasured: Scored figures of which the classifier gave no novelty.
        densities: Figures by area, where that was asked for; None where it was not.
    """

    def __init__(self, correction: RateCorrection | None = None) -> None:
        self.correction = correction
        self.total = Counts()
        self.images: dict[str, Counts] = {}
        self.reasons: Counter[str] = Counter()
        self.scales: dict[str, dict[_Scale, None]] = {}
        self.models: set[str] = set()
        self.run_by = ""
        self.unmeasured = 0
        self.thresholds: set[float] = set()
        self.densities: list[SlideDensity] | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts the figures of a batch.

        Raises:
            InputError: It does not have :data:`atypia.inference.results.RESULTS_SCHEMA`.
        """
        res.check_results(batch)
        unscored = batch.column(r.P_ATYPICAL).null_count
        self.unmeasured += max(0, batch.column(res.NOVELTY).null_count - unscored)
        names = (r.FIGURE_ID, res.CALL, r.DECISION, r.IMAGE, r.X_PX, res.REASON, r.MPP, res.MPP_SOURCE, res.ORIGIN)
        if self.correction is not None:
            calls, given = (batch.column(name).to_pylist() for name in (res.CALL, r.P_ATYPICAL))
            self.correction.add(p for call, p in zip(calls, given, strict=True) if call != res.CALLED_REFUSED)
        columns = [batch.column(name).to_pylist() for name in names]
        for figure, call, decision, image, x, reason, *scale in zip(*columns, strict=True):
            self.total.add(call, decision)
            name = self._name(image if x is not None else _group(image, figure))
            self.images[name].add(call, decision)
            kept = self.scales.setdefault(name, {})
            if scale[1] is not None and len(kept) <= MAX_SCALES:
                kept[(scale[0], scale[1], scale[2])] = None
            if call == res.CALLED_REFUSED:
                reason = common_reason(reason, image)
                known = reason in self.reasons or len(self.reasons) < MAX_REASONS
                self.reasons[reason if known else OTHERS] += 1
        self.models.update(batch.column(res.MODEL).unique().to_pylist())
        self.thresholds.update(batch.column(r.THRESHOLD).unique().to_pylist())

    def _name(self, image: str) -> str:
        """Name under which figures of an image are counted."""
        if image not in self.images and len(self.images) >= MAX_IMAGES:
            image = OTHERS
        self.images.setdefault(image, Counts())
        return image

    @property
    def notes(self) -> list[str]:
        """Remarks for reading the numbers."""
        t = self.total
        notes = []
        if t.figures == 0:
            notes.append("No figures were given: the rate is undefined.")
        elif t.scored == 0:
            notes.append("Every figure was refused: the rate is undefined.")
        else:
            at = f" ({', '.join(f'{value:.3g}' for value in sorted(self.thresholds))})"
            notes.append(
                f"Atypical: the probability reaches the threshold{at}. Certain: called atypical; uncertain: the call "
                "is left open. Refused figures are in no denominator."
            )
            notes.append(
                f"Exact {100 * CONFIDENCE:.0f} % interval (Clopper-Pearson): it covers sampling of figures, "
                "not errors of the classifier."
            )
        if t.scored and self.correction is not None:
            notes += self.correction.notes(t.decided_atypical, t.scored)
        if t.scored:
            notes.append(LOOK_ALIKES)
        if t.refused:
            reasons = "; ".join(f"{reason} ({n:,})" for reason, n in self.reasons.most_common())
            notes.append(f"Refused, and in no rate: {reasons}.")
        if self.unmeasured:
            what = (
                "Novelty was not measured of any figure"
                if self.unmeasured == t.scored
                else f"Of {self.unmeasured:,} figures no novelty was measured"
            )
            notes.append(f"{what}, as the model records none: unlike ones could not be refused.")
        notes += self._sizes()
        if OTHERS in self.images:
            notes.append(f"Beyond {MAX_IMAGES:,} images, figures are counted together as «{OTHERS}».")
        if self.models:
            notes.append(f"Model: {', '.join(sorted(self.models))}. Research use only; not a medical device.")
        return notes

    def _sizes(self) -> list[str]:
        """The µm/px used with their sources, and the origin of positions; equal images are combined."""
        alike: dict[tuple[_Scale, ...], list[str]] = {}
        for image, kept in self.scales.items():
            if kept:
                alike.setdefault(tuple(kept), []).append(PurePosixPath(image.replace("\\", "/")).name or image)
        notes = []
        for scales, images in list(alike.items())[:MAX_REASONS]:
            few, more = scales[:MAX_SCALES], " and others" if len(scales) > MAX_SCALES else ""
            sizes = "; ".join(f"{mpp:.4g}, {source}" for mpp, source, _ in few if mpp is not None) + more
            origins = sorted({origin for *_, origin in few if origin})
            what = first_of(images)
            words = f"; positions are relative to the slide's {' and '.join(origins)}" if origins else ""
            guess = "; --mpp or --magnification overrides this" if ASSUMED in sizes else ""
            notes.append(f"µm/px of {what}: {sizes}{words}{guess}.")
        return notes

    def table(self) -> Table:
        """One row per image, and one for all figures if there are several."""
        columns = [
            Column("image"),
            Column("figures", align="right"),
            Column("scored", align="right"),
            Column("refused", align="right"),
            Column("atypical", align="right"),
            Column("rate", align="right"),
            Column("low", "rate_low", align="right"),
            Column("high", "rate_high", align="right"),
            Column("uncertain", align="right"),
            Column("share uncertain", "share_uncertain", align="right"),
            Column("atypical, certain", "atypical_certain", align="right"),
            Column("atypical, uncertain", "atypical_uncertain", align="right"),
        ]
        shown = short_names(self.images)
        rows = [_row(shown[name], counts) for name, counts in self.images.items()]
        if len(rows) != 1:
            rows.append(_row("all", self.total))
        if self.densities is not None:
            add_density_columns(columns, rows, list(self.images), self.densities)
        told = [text for text in [self.corrected_sentence()] if text]
        return Table(
            "Atypical mitotic figures of the case", columns, rows, [*told, *self.density_sentences(), *self.notes]
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-able values; undefined values are None."""
        t, shown = self.total, short_names(self.images)
        return {
            **_facts(self.total),
            "confidence": CONFIDENCE,
            **({} if self.correction is None else {"corrected": self.correction.as_dict(t.decided_atypical, t.scored)}),
            "calls": {
                res.CALLED_NORMAL: self.total.normal,
                res.CALLED_ATYPICAL: self.total.atypical,
                res.CALLED_UNCERTAIN: self.total.uncertain,
                res.CALLED_REFUSED: self.total.refused,
            },
            "reasons": dict(self.reasons.most_common()),
            "models": sorted(self.models),
            "thresholds": sorted(self.thresholds),
            **({"run_by": self.run_by} if self.run_by else {}),
            "images": [
                {r.IMAGE: shown[name], **_facts(counts), **_scale_facts(self.scales.get(name, {}))}
                for name, counts in self.images.items()
            ],
            **({"density": [d.as_dict(shown[d.image]) for d in self.densities]} if self.densities is not None else {}),
            "notes": self.notes,
        }

    def density_sentences(self) -> list[str]:
        """What is said of figures by area; empty where it was not asked for."""
        if self.densities is None:
            return []
        shown = short_names(self.images)
        return [line for one in self.densities for line in one.sentences(shown[one.image])]

    def to_json(self) -> str:
        """:meth:`as_dict` as indented JSON, with a final newline."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_text(self, width: int = TEXT_WIDTH) -> str:
        """The table and its notes as plain text of a width; further columns are in the files, and names are never broken.

        Where name and numbers are wider together, each name has a line of its own.
        """
        whole = self.table()
        shown = Table(whole.heading, whole.columns[:SHOWN_COLUMNS], [row[:SHOWN_COLUMNS] for row in whole.rows])
        text = shown.to_text(width + max((len(str(row[0])) for row in shown.rows), default=0))
        if max(len(line) for line in text.splitlines()) > width:
            head, rule, *rows = (
                Table("", shown.columns[1:], [row[1:] for row in shown.rows]).to_text(10 * width).splitlines()
            )
            named = [
                line for row, numbers in zip(shown.rows, rows, strict=True) for line in (str(row[0]), f"  {numbers}")
            ]
            text = "\n".join([shown.heading, "", f"  {head}", f"  {rule}", *named]) + "\n"
        return f"{text}\n{wrapped_notes(whole.notes, width)}\n" if whole.notes else text

    def sentence(self) -> str:
        """The result in one line.

        «22 of 59 figures atypical (37.3 %, 95 % interval 25.0 to 50.9 %): 15 certain, 7 uncertain; 37 of 59 normal:
        30 certain, 7 uncertain; 1 refused».
        """
        t = self.total
        if t.scored == 0:
            return f"no figure classified, {t.refused:,} refused"
        low, high = t.interval()
        return (
            f"{t.decided_atypical:,} of {t.scored:,} figures atypical ({100 * t.rate:.1f} %, "
            f"{100 * CONFIDENCE:.0f} % interval {100 * low:.1f} to {100 * high:.1f} %): {split_words(t.atypical, t.uncertain_atypical)}; "
            f"{t.decided_normal:,} of {t.scored:,} normal: {split_words(t.normal, t.uncertain_normal)}; {t.refused:,} refused"
        )

    def corrected_sentence(self) -> str | None:
        """The corrected rate in one line; None where it was not asked for."""
        t = self.total
        return None if self.correction is None else self.correction.sentence(t.decided_atypical, t.scored)

    def write(self, path: Path) -> Path:
        """Writes the summary, atomically: ``.json`` in full, ``.txt``, ``.csv``, ``.md`` or ``.tex`` as a table.

        Raises:
            InputError: Another suffix.
        """
        from atypia.reports.drawing.tables import write_table

        if path.suffix.lower() != ".json":
            return write_table(self.table(), path)
        with atomic_file(path, "w") as file:
            file.write(self.to_json())
        return path


def split_words(certain: int, uncertain: int) -> str:
    """The numbers of certain and uncertain figures of a class, worded the same everywhere.

    >>> split_words(15, 7)
    '15 certain, 7 uncertain'
    """
    return f"{certain:,} certain, {uncertain:,} uncertain"


def summarise(batches: Iterable[pa.RecordBatch]) -> CaseSummary:
    """The summary of all batches."""
    summary = CaseSummary()
    for batch in batches:
        summary.add(batch)
    return summary


def _group(image: str, figure: str) -> str:
    """Name under which a crop without a position is counted: its stack, of which it is a page, or its folder."""
    path = PurePosixPath(image.replace("\\", "/"))
    return image if path.suffix.lower() in STACKS and _PAGE.search(figure) else str(path.parent)


def _scale_facts(kept: Mapping[_Scale, None]) -> dict[str, Any]:
    """µm/px, its source and the origin of positions; None if unknown, or if there are several."""
    one = next(iter(kept)) if len(kept) == 1 else (None, None, None)
    return dict(zip((r.MPP, res.MPP_SOURCE, res.ORIGIN), one, strict=True))


def _row(name: str, counts: Counts) -> list[Value]:
    low, high = counts.interval()
    sizes: list[Value] = [counts.figures, counts.scored, counts.refused, counts.decided_atypical]
    return [name, *sizes, counts.rate, low, high, counts.uncertain, counts.share_uncertain, counts.atypical,
            counts.uncertain_atypical]  # fmt: skip


def _facts(counts: Counts) -> dict[str, Any]:
    low, high = counts.interval()
    numbers = {
        "rate": counts.rate,
        "rate_low": low,
        "rate_high": high,
        "share_uncertain": counts.share_uncertain,
    }
    return {
        "figures": counts.figures,
        "scored": counts.scored,
        "refused": counts.refused,
        "atypical": counts.decided_atypical,
        "atypical_certain": counts.atypical,
        "atypical_uncertain": counts.uncertain_atypical,
        "normal": counts.decided_normal,
        "normal_certain": counts.normal,
        "normal_uncertain": counts.uncertain_normal,
        "uncertain": counts.uncertain,
        **{name: None if math.isnan(value) else value for name, value in numbers.items()},
    }
