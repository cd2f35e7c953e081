"""The case page: one HTML file with the summary of a case and its crops, sorted by probability.

The file is self-contained: crops are embedded, nothing is loaded from elsewhere, and a content
security policy allows only the page's own script and style. Names of figures and files come from
outside and are escaped wherever they appear. Crops are offered while they are classified; a
bounded selection is kept, so that memory does not depend on the size of the case.
"""

from __future__ import annotations

import base64
import heapq
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from atypia.base import records as r
from atypia.base.artifacts import atomic_file
from atypia.base.errors import InputError, must
from atypia.base.seeds import derive_seed
from atypia.base.version import VERSION
from atypia.data.slides.readas import ASSUMED
from atypia.inference import results as res
from atypia.reports.case.counts import Counts
from atypia.reports.case.histogram import BINS, STACKED, TITLES, bars, bin_rows, ticks
from atypia.reports.case.summary import CaseSummary, split_words
from atypia.reports.drawing.names import file_name, without_folders
from atypia.reports.drawing.page import render
from atypia.reports.drawing.values import format_value

if TYPE_CHECKING:
    from atypia.data.slides.streams import CropBatch
    from atypia.reports.case.corrected import RateCorrection

LIMIT: Final = 300
"""Default number of crops on a page: about 3.5 MB of HTML with crops of 128 px."""
MAX_LIMIT: Final = 5000
THUMBNAIL_PX: Final = 160
"""Larger crops are scaled down to this side in pixels; smaller ones are not changed."""
JPEG_QUALITY: Final = 90
SYMBOLS: Final = {
    res.CALLED_NORMAL: "○",
    res.CALLED_ATYPICAL: "▲",
    res.CALLED_UNCERTAIN: "?",
    res.CALLED_REFUSED: "✕",
}
"""Symbols beside the colour of each call, so that nothing depends on colour alone."""
BARS_UM: Final = (1, 2, 5, 10, 20, 50)
"""Lengths of scale bars."""
COLUMN_WORDS: Final = {
    "figures": "all figures of the row",
    "scored": "figures that the model classified",
    "refused": "figures that it did not classify, with the reason below; in no rate",
    "atypical": "scored figures whose probability reaches the threshold, certain or uncertain",
    "rate": "atypical of scored",
    "low, high": "ends of the exact 95 % interval of the rate",
    "uncertain": "scored figures whose call is left open",
    "share uncertain": "uncertain of scored",
}
"""What the columns of the table of counts mean."""


@dataclass(frozen=True, eq=False)
class ShownCrop:
    """A crop that may be shown.

    Attributes:
        row: Values of :data:`atypia.inference.results.RESULTS_SCHEMA`, None if unknown.
        uncertainty: Binary entropy of the probability in bits; None without a probability.
        pixels: RGB, uint8, shape (side, side, 3), at most :data:`THUMBNAIL_PX` a side.
        at: Its position in the input.
    """

    row: Mapping[str, Any]
    uncertainty: float | None
    pixels: npt.NDArray[np.uint8]
    at: int = 0


class _Highest:
    """The items with the highest keys, up to a number; ``tie`` orders equal keys."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._heap: list[tuple[float, int, int, ShownCrop]] = []
        self._offered = 0

    def takes(self, key: float, tie: int) -> bool:
        """Whether an item with this key would be kept now."""
        if self._room == 0:
            return False
        return len(self._heap) < self._room or (key, tie) > self._heap[0][:2]

    def put(self, key: float, tie: int, item: ShownCrop) -> None:
        self._offered += 1  # unique third element: a comparison never reaches the item
        entry = (key, tie, self._offered, item)
        if len(self._heap) < self._room:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def items(self) -> list[ShownCrop]:
        """Highest first."""
        return [entry[3] for entry in sorted(self._heap, key=lambda entry: entry[:3], reverse=True)]


class CasePage:
    """Collects the content of a case page while a case is classified.

    If there are more crops than ``limit``, half of those shown have the highest probability, a quarter are the
    most uncertain of the others, and the rest are drawn at random from all remaining crops (including refused
    ones). The draw depends on the seed and the figure ids, not on order or batch size.

    Args:
        title: Title of the page: the case or the slide.
        facts: Facts about the model from its card, by name.
        limit: Largest number of crops shown, from 0 to :data:`MAX_LIMIT`.
        seed: Seed of the random draw.
        correction: Corrects the rate for the classifier's errors; None: the page gives the raw one alone.
        field_um: Physical width of the crops, for their scale bars; None: no bars.

    Raises:
        InputError: The limit is out of range.
    """

    def __init__(
        self,
        title: str,
        facts: Mapping[str, str] | None = None,
        *,
        limit: int = LIMIT,
        seed: int = 0,
        correction: RateCorrection | None = None,
        field_um: float | None = None,
    ) -> None:
        if not 0 <= limit <= MAX_LIMIT:
            raise InputError(must("limit", f"from 0 to {MAX_LIMIT} crops", limit, "choose another number"))
        self.title = title
        self.facts = dict(facts or {})
        self.limit = limit
        self.seed = seed
        self.field_um = field_um
        self.summary = CaseSummary(correction)
        self.seen = 0
        """Number of crops offered."""
        self.histogram = {call: [0] * BINS for call in STACKED}
        """Classified figures of each call by probability, in equal bins from 0 to 1."""
        self._high, self._unsure = limit // 2, limit // 4
        self._by_probability = _Highest(self._high)
        self._by_uncertainty = _Highest(self._high + self._unsure)  # may include some of the first half
        self._by_chance = _Highest(limit)

    def add(self, crops: CropBatch | None, results: pa.RecordBatch) -> None:
        """Adds a batch.

        Args:
            crops: The crops, one per row; None for figures without a crop, which are only counted.
            results: With :data:`atypia.inference.results.RESULTS_SCHEMA`.

        Raises:
            InputError: Crops and rows differ in number.
        """
        if crops is not None:
            self.offer(crops, results)
        self.count(results)

    def count(self, results: pa.RecordBatch) -> None:
        """Counts rows, with or without crops; their order gives the order of images on the page."""
        self.summary.add(results)
        for row in res.rows_of(results):
            p = row[r.P_ATYPICAL]
            if p is not None and row[res.CALL] in self.histogram:
                self.histogram[row[res.CALL]][min(int(p * BINS), BINS - 1)] += 1

    def offer(self, crops: CropBatch, results: pa.RecordBatch) -> None:
        """Offers crops for the page, in any order; :meth:`count` counts their rows.

        Raises:
            InputError: Crops and rows differ in number.
        """
        if len(crops.crops) != results.num_rows:
            raise InputError(must("crops", f"one for each of {results.num_rows} rows", len(crops.crops), "pass both"))
        rows = res.rows_of(results)
        places = range(self.seen, self.seen + len(rows)) if crops.at is None else crops.at.tolist()
        for row, bits, pixels, at in zip(rows, res.uncertainty_of(rows), crops.crops, places, strict=True):
            self._offer(row, bits, pixels, at)

    def _offer(self, row: Mapping[str, Any], bits: float | None, pixels: npt.NDArray[np.uint8], at: int) -> None:
        self.seen += 1
        tie = derive_seed(self.seed, "case page", row[r.FIGURE_ID])
        keys = [(self._by_chance, float(tie))]
        if row[res.CALL] != res.CALLED_REFUSED and bits is not None:
            keys += [(self._by_probability, row[r.P_ATYPICAL]), (self._by_uncertainty, bits)]
        taking = [(heap, key) for heap, key in keys if heap.takes(key, tie)]
        if taking:
            item = ShownCrop(row, bits, _thumbnail(pixels), at)
            for heap, key in taking:
                heap.put(key, tie, item)

    def chosen(self) -> list[ShownCrop]:
        """The crops to show, by descending probability, ties in input order; crops without a probability come last."""
        if self.seen <= self.limit:
            picked = self._by_chance.items()
        else:
            picked = self._by_probability.items()
            for heap, room in ((self._by_uncertainty, self._unsure), (self._by_chance, self.limit)):
                taken = {id(crop) for crop in picked}
                rest = [crop for crop in heap.items() if id(crop) not in taken]
                picked += rest[: min(room, self.limit - len(picked))]
        return sorted(picked, key=lambda crop: (-_or(crop.row[r.P_ATYPICAL], -1.0), crop.at))

    def html(self) -> str:
        """The page as HTML."""
        crops = self.chosen()
        images, scales = ({crop.row[name] for crop in crops} for name in (r.IMAGE, r.MPP))
        varies = {"image": len(images) > 1, "µm/px": len(scales) > 1}  # what is the same of all stands elsewhere
        total = self.summary.total
        values = {
            "title": self.title,
            "answer": self.summary.sentence(),
            "corrected": self.summary.corrected_sentence(),
            "notes": self.summary.notes,
            "densities": [
                {"lines": one.sentences(file_name(one.image)), **one.drawing}
                for one in self.summary.densities or ()
                if one.drawing
            ],
            "table": _table_cells(self.summary),
            "columns": COLUMN_WORDS,
            "facts": {**self.facts, **self._made()},
            "tiles": _tiles(total),
            "calls": [{"name": call, "symbol": symbol, "title": TITLES[call]} for call, symbol in SYMBOLS.items()],
            "bars": bars(self.histogram),
            "ticks": ticks(self.histogram),
            "bins": bin_rows(self.histogram),
            "thresholds": [round(value * 100, 3) for value in sorted(self.summary.thresholds)],
            "cards": [_card(crop, self.field_um, varies) for crop in crops],
            "choice": self._choice(len(crops)),
        }
        return render("case", values)

    def write(self, path: Path) -> Path:
        """Writes the page, atomically.

        Raises:
            InputError: The name does not end in ``.html``.
            WorkError: The file cannot be written.
        """
        if path.suffix.lower() not in (".html", ".htm"):
            raise InputError(must(str(path), "a name ending in .html", path.suffix or "no suffix", "rename it"))
        page = self.html()
        with atomic_file(path, "w") as file:
            file.write(page)
        return path

    def _made(self) -> dict[str, str]:
        """When and by what the page was made, and the µm/px."""
        mpps = sorted({scale[0] for kept in self.summary.scales.values() for scale in kept if scale[0] is not None})
        sources = sorted({str(scale[1]) for kept in self.summary.scales.values() for scale in kept})
        words = "unknown" if not mpps else f"{mpps[0]:.4g}" if len(mpps) == 1 else f"{mpps[0]:.4g} to {mpps[-1]:.4g}"
        return {
            "µm/px": f"{words} ({', '.join(sources)})" if mpps and len(sources) <= 3 else words,
            "software": f"Atypia {VERSION}",
            "date": datetime.now(UTC).date().isoformat(),
        }

    def _choice(self, cards: int) -> str:
        if self.seen == 0:
            return "No crops are available."
        if self.seen == cards:
            return f"All {cards:,} crops are shown."
        return (
            f"{cards:,} of {self.seen:,} crops are shown: {self._high:,} with the highest probability, the "
            f"{self._unsure:,} most uncertain of the others, and the rest drawn at random (seed {self.seed}). "
            f"{self.seen - cards:,} are not shown; the results file lists all of them."
        )


def _tiles(total: Counts) -> list[dict[str, str]]:
    """The counts above the table, worded like the headline."""
    scored = f"of {total.scored:,}"
    tiles = [
        (
            res.CALLED_ATYPICAL,
            total.decided_atypical,
            f"{scored} atypical",
            split_words(total.atypical, total.uncertain_atypical),
        ),
        (
            res.CALLED_NORMAL,
            total.decided_normal,
            f"{scored} normal",
            split_words(total.normal, total.uncertain_normal),
        ),
        (
            res.CALLED_UNCERTAIN,
            total.uncertain,
            f"{scored} uncertain",
            f"among them {total.uncertain_atypical:,} atypical, {total.uncertain_normal:,} normal",
        ),
        (res.CALLED_REFUSED, total.refused, "refused", "in no rate"),
    ]
    return [
        {"call": call, "symbol": SYMBOLS[call], "count": f"{count:,}", "what": what, "split": split}
        for call, count, what, split in tiles
    ]


def _thumbnail(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A copy, scaled down if large, that does not keep its batch in memory."""
    if max(pixels.shape[:2]) <= THUMBNAIL_PX:
        return np.array(pixels)
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return np.asarray(image)


def _data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _card(crop: ShownCrop, field_um: float | None, varies: Mapping[str, bool]) -> dict[str, Any]:
    row, call = crop.row, crop.row[res.CALL]
    p, novelty = row[r.P_ATYPICAL], row[res.NOVELTY]
    figure = format_value(row[r.FIGURE_ID])
    known = f"probability of atypical {p:.3f}" if p is not None else "no probability"
    bits = crop.uncertainty
    lines = [] if row[res.CLASS] is None else [(res.CLASS, format_value(row[res.CLASS]))]
    if novelty is not None:
        lines.append((res.NOVELTY, f"{novelty:.2f}"))
    if row[r.X_PX] is not None and row[r.Y_PX] is not None:
        counted = f" ({row[res.ORIGIN]})" if row[res.ORIGIN] else ""
        place = f"{row[r.X_PX]:.1f}, {row[r.Y_PX]:.1f} px{counted}"
        lines += [("x, y", place), ("image", format_value(file_name(row[r.IMAGE])))]
    if row[r.MPP] is not None:
        lines.append(("µm/px", f"{row[r.MPP]:.4g}, {row[res.MPP_SOURCE]}"))
    if row[res.REASON] is not None:
        lines.append((res.REASON, format_value(without_folders(row[res.REASON], row[r.IMAGE]))))
    return {
        "figure": figure,
        "call": call,
        "symbol": SYMBOLS[call],
        "p": "" if p is None else f"{p:.6g}",
        "p_text": "no probability" if p is None else f"{p:.3f}",
        "uncertainty": "" if bits is None else f"{bits:.6g}",
        "novelty": "" if novelty is None else f"{novelty:.6g}",
        "lines": [(name, text) for name, text in lines if varies.get(name, True)],
        "alt": f"Crop of figure {figure}: called {call}, {known}",
        "source": _data_uri(crop.pixels),
        "bar": _bar(row, field_um),
        "width": crop.pixels.shape[1],
        "height": crop.pixels.shape[0],
    }


def _bar(row: Mapping[str, Any], field_um: float | None) -> dict[str, Any] | None:
    """A scale bar in hundredths of a crop's width; None where its scale is not known."""
    if field_um is None or row[r.MPP] is None:
        return None
    um = max((length for length in BARS_UM if length <= field_um / 2.5), default=BARS_UM[0])
    assumed = " assumed" if str(row[res.MPP_SOURCE]).startswith(ASSUMED) else ""
    return {"width": round(100 * um / field_um, 2), "text": f"{um} µm{assumed}"}


def _table_cells(summary: CaseSummary) -> dict[str, Any]:
    table = summary.table()
    rows = [
        [format_value(value, column.digits) for value, column in zip(row, table.columns, strict=True)]
        for row in table.rows
    ]
    return {"titles": [column.title for column in table.columns], "rows": rows}


def _or(value: float | None, other: float) -> float:
    return other if value is None else value
