"""The report of a reviewed case: final counts by consensus, who decided what, what is open; page, JSON and table.

Plain data comes in; nothing here knows of a decisions file or of a model.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from atypia.base.artifacts import atomic_file, disk_errors
from atypia.base.files.spreadsheet import CsvLines
from atypia.base.version import VERSION
from atypia.reports.case.whole import WholeRate
from atypia.reports.drawing.page import render

SCHEMA: Final = "atypia-report-1"
"""Name of the form of the JSON file; a change that breaks readers gets another number."""
FINAL: Final = ("atypical", "normal", "not-mitosis", "unsure", "tie", "undecided")
"""What a figure may be in the end; the last three are open."""
OPEN: Final = FINAL[3:]
WORDS: Final = {
    "atypical": "atypical", "normal": "normal", "not-mitosis": "not a mitosis", "unsure": "raters are unsure",
    "tie": "raters are evenly split", "undecided": "nobody decided",
}  # fmt: skip
SYMBOLS: Final = {"atypical": "▲", "normal": "○", "not-mitosis": "⊘", "unsure": "?", "tie": "=", "undecided": "·"}
PAGE_CROPS: Final = 120
"""Most crops on the page; the atypical ones first."""
PAGE_ROWS: Final = 600
"""Most rows of the table on the page; the CSV has all."""
FIXED: Final = (
    "figure_id", "image", "x_px", "y_px", "case", "model_call", "p_atypical", "final", "decided_by", "consensus",
    "arbitration", "arbitrated_by", "tags", "notes", "added_by", "assigned_to", "label",
)  # fmt: skip
"""Columns of the table that do not depend on the raters; «decision of NAME» follows for each."""


@dataclass(frozen=True)
class FinalFigure:
    """One figure after review; what is unknown is None.

    Attributes:
        figure_id: The figure.
        image: File name of its crop or slide.
        x_px: Centre, in level-0 pixels of the slide's canvas.
        y_px: Likewise, downwards.
        case: Its case.
        model_call: The model's call.
        p_atypical: The model's probability of *atypical*.
        label: Label of the opened data, 1 atypical.
        decisions: Decision of each rater who made one.
        tags: Tags of each rater who gave any.
        notes: Note of each rater who wrote one.
        consensus: Decision of most raters, «tie», or None without any.
        arbitration: What an arbitration settled.
        arbitrated_by: Who settled it.
        final: One of :data:`FINAL`.
        decided_by: How that came about, in words.
        added_by: Who added it on the slide.
        assigned_to: Raters to whom it was assigned.
    """

    figure_id: str
    image: str
    x_px: float | None
    y_px: float | None
    case: str | None
    model_call: str | None
    p_atypical: float | None
    label: int | None
    decisions: Mapping[str, str]
    tags: Mapping[str, Sequence[str]]
    notes: Mapping[str, str]
    consensus: str | None
    arbitration: str | None
    arbitrated_by: str | None
    final: str
    decided_by: str
    added_by: str | None = None
    assigned_to: Sequence[str] = ()

    def all_tags(self) -> list[str]:
        """Tags of all raters, sorted, each once."""
        return sorted({tag for tags in self.tags.values() for tag in tags})


@dataclass(frozen=True)
class ShownFigure:
    """A figure with its crop, for the page.

    Attributes:
        figure: The figure.
        jpeg: The crop; None where it cannot be read.
        width_um: Physical width of the crop; None if unknown.
        assumed: Whether that width was assumed by the model.
    """

    figure: FinalFigure
    jpeg: bytes | None
    width_um: float | None
    assumed: bool = False


@dataclass(frozen=True)
class ReviewedCase:
    """A reviewed case.

    Attributes:
        title: Its name.
        made: When the report was made: UTC, ISO 8601.
        first_decision: Time of the first decision; None without any.
        last_decision: Time of the last one.
        raters: One entry a rater: name, decided, counts by decision, rate, arbitrations.
        models: Name of each model and its threshold.
        mpp: µm/px of the images in words: one value, a range, or unknown.
        counts: Number of figures by :data:`FINAL`.
        rate: Share of atypical among atypical and normal ones: value, low, high; None without any.
        whole: Rate of all figures, those that nobody decided by the model; None without a model's probabilities.
        agreement: Fleiss' kappa and the number of figures with two votes.
        tags: Figures by tag.
        changed: Figures whose final class is not the model's.
        figures: All figures, in their order.
        density: What is known by area, one entry a slide.
        notes: Remarks.
    """

    title: str
    made: str
    first_decision: str | None
    last_decision: str | None
    raters: Sequence[Mapping[str, Any]]
    models: Sequence[str]
    threshold: float | None
    mpp: str
    counts: Mapping[str, int]
    rate: Mapping[str, float | None]
    agreement: Mapping[str, Any]
    tags: Mapping[str, int]
    changed: int
    figures: Sequence[FinalFigure]
    whole: WholeRate | None = None
    density: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = field(default_factory=list)

    @property
    def reviewed_by(self) -> list[str]:
        """Names of the raters who decided on any figure."""
        return [one["name"] for one in self.raters if one["decided"] or one["arbitrations"]]

    def sentence(self) -> str:
        """The result in one line.

        «12 of 40 figures atypical by consensus (30.0 %, 95 % interval 16.6 to 46.5 %); 3 not a mitosis; 5 open».
        """
        counts, scored = self.counts, self.counts["atypical"] + self.counts["normal"]
        still_open = sum(counts[name] for name in OPEN)
        rest = f"; {counts['not-mitosis']:,} not a mitosis; {still_open:,} open"
        if not scored or self.rate["value"] is None or self.rate["low"] is None or self.rate["high"] is None:
            return f"no figure is decided as atypical or normal{rest}"
        share = f"{100 * self.rate['value']:.1f} %, 95 % interval {100 * self.rate['low']:.1f} to {100 * self.rate['high']:.1f} %"
        return f"{counts['atypical']:,} of {scored:,} figures atypical by consensus ({share}){rest}"

    def by_whom(self) -> str:
        """«reviewed by Ada (40 of 45), Ben (38 of 45)»."""
        names = [
            f"{one['name']} ({one['decided']:,} of {len(self.figures):,})" for one in self.raters if one["decided"]
        ]
        return f"reviewed by {', '.join(names)}" if names else "nobody has reviewed it"

    def as_dict(self) -> dict[str, Any]:
        """JSON-able values in the form :data:`SCHEMA`; see :func:`report_schema`."""
        values = asdict(self)
        values["density"] = [{key: value for key, value in one.items() if key != "drawing"} for one in self.density]
        scored = self.counts["atypical"] + self.counts["normal"]
        return {
            "schema": SCHEMA,
            "software": {"name": "atypia", "version": VERSION},
            "research_use_only": True,
            "reviewed_by": self.reviewed_by,
            "decided": scored,
            "open": sum(self.counts[name] for name in OPEN),
            **values,
        }

    def to_json(self) -> str:
        """:meth:`as_dict` as indented JSON."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """The joined table: one line a figure, the columns :data:`FIXED` and one for each rater."""
        names = [one["name"] for one in self.raters]
        file = io.StringIO(newline="")
        lines = CsvLines(file)
        lines.write([*FIXED, *(f"decision of {name}" for name in names)])
        for one in self.figures:
            notes = "; ".join(f"{rater}: {text}" for rater, text in one.notes.items())
            lines.write([
                one.figure_id, one.image, one.x_px, one.y_px, one.case, one.model_call, one.p_atypical, one.final,
                one.decided_by, one.consensus, one.arbitration, one.arbitrated_by, "; ".join(one.all_tags()), notes,
                one.added_by, "; ".join(one.assigned_to), one.label, *(one.decisions.get(name) for name in names),
            ])  # fmt: skip
        return file.getvalue()

    def html(self, crops: Sequence[ShownFigure]) -> str:
        """The page, which prints on A4.

        Args:
            crops: Figures with their crops, at most :data:`PAGE_CROPS` are shown.
        """
        still_open = [one for one in self.figures if one.final in OPEN]
        return render(
            "reviewed",
            {
                "title": self.title,
                "case": self,
                "answer": self.sentence(),
                "version": VERSION,
                "tiles": [
                    {"kind": name, "symbol": SYMBOLS[name], "count": f"{self.counts[name]:,}", "what": WORDS[name]}
                    for name in FINAL
                    if self.counts[name] or name in FINAL[:2]
                ],
                "words": WORDS,
                "symbols": SYMBOLS,
                "still_open": still_open[:PAGE_ROWS],
                "n_open": len(still_open),
                "crops": [_shown(one) for one in crops[:PAGE_CROPS]],
                "not_shown": max(0, len(self.figures) - min(len(crops), PAGE_CROPS)),
                "rows": self.figures[:PAGE_ROWS],
                "more_rows": max(0, len(self.figures) - PAGE_ROWS),
                "names": [one["name"] for one in self.raters],
            },
        )

    def write(self, folder: Path, crops: Sequence[ShownFigure], name: str = "report") -> list[Path]:
        """Writes ``NAME.html``, ``NAME.json`` and ``NAME.csv`` into a folder, each atomically.

        Raises:
            WorkError: They cannot be written.
        """
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        texts = {"html": self.html(crops), "json": self.to_json(), "csv": self.to_csv()}
        written = []
        for suffix, text in texts.items():
            path = folder / f"{name}.{suffix}"
            with atomic_file(path, "w") as file:
                file.write(text)
            written.append(path)
        return written


def report_schema() -> dict[str, Any]:
    """The JSON schema of a report's JSON file."""
    text = (files("atypia.reports") / "templates" / "report.schema.json").read_text(encoding="utf-8")
    return json.loads(text)


BARS_UM: Final = (1, 2, 5, 10, 20, 50, 100)


def _shown(one: ShownFigure) -> dict[str, Any]:
    bar = None
    if one.width_um:
        um = max((length for length in BARS_UM if length <= one.width_um / 2.5), default=BARS_UM[0])
        assumed = " assumed" if one.assumed else ""
        bar = {"x": 4, "px": round(100 * um / one.width_um, 2), "text": f"{um} µm{assumed}"}
    source = None if one.jpeg is None else f"data:image/jpeg;base64,{base64.b64encode(one.jpeg).decode()}"
    return {
        "figure": one.figure,
        "source": source,
        "bar": bar,
        "alt": f"Crop of figure {one.figure.figure_id}: {WORDS[one.figure.final]}",
    }
