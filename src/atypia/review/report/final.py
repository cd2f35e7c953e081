"""The report of a review: decisions, model and positions joined, one row a figure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from atypia.base.errors import AtypiaError, DataError, InputError, must
from atypia.base.process.progress import Progress, silent
from atypia.reports.case.reviewed import FINAL, OPEN, PAGE_CROPS, FinalFigure, ReviewedCase, ShownFigure
from atypia.reports.drawing.names import without_folders
from atypia.review.decisions.consensus import consensus_report
from atypia.review.decisions.intake import decisions_file
from atypia.review.decisions.listing import rate_of
from atypia.review.decisions.log import Event
from atypia.review.decisions.reading import read_decisions_file
from atypia.review.decisions.state import DecisionState
from atypia.review.decisions.words import ARBITRATED, DECIDED, IMPORTED, TIE, UNDONE, decision_of
from atypia.review.figures.figures import UNKNOWN_LABEL, ReviewFigures
from atypia.review.figures.opening import Opening, open_figures
from atypia.review.media.crops import CropPictures
from atypia.review.media.sizes import finite_or_none, scale
from atypia.review.media.slides import OpenSlides
from atypia.review.report.whole import errors_of, whole_of
from atypia.statistics.error_rates import KnownErrors

if TYPE_CHECKING:
    from atypia.workflows.case.density import DensityOptions

CROP_PX: Final = 192
"""Side of the crops on the page, in pixels."""
MOST_SLIDES: Final = 20
"""Most slides whose area is looked at."""
NOT_MITOSIS: Final = FINAL[2]
TIED: Final = "tie"
UNDECIDED: Final = "undecided"


@dataclass(frozen=True)
class CaseReport:
    """A report and the crops that its page shows.

    Attributes:
        case: The report.
        crops: The figures that the page shows: atypical ones first, then open ones, then the others.
    """

    case: ReviewedCase
    crops: tuple[ShownFigure, ...]

    def write(self, folder: Path) -> list[Path]:
        """Writes ``report.html``, ``report.json`` and ``report.csv``.

        Raises:
            WorkError: They cannot be written.
        """
        return self.case.write(folder, self.crops)


def report_review(
    asked: Opening, decisions: Path | None = None, title: str | None = None, progress: Progress = silent,
    model: str | Path | None = None, density: DensityOptions | None = None,
) -> CaseReport:  # fmt: skip
    """The report of reviewed figures; the decisions file is only read, and may be in use.

    Args:
        asked: What was reviewed: the same as for ``atypia serve``.
        decisions: The decisions file; None for the default one of these figures.
        title: Name of the case; None for that of the opened data.
        progress: Told of each crop that is read.
        model: The model whose calls were reviewed, for the rate of all figures; None: a shipped one is found by its name.
        density: Area and field of the figures by area; None: the tissue, and fields of 2 mm².

    Raises:
        InputError: There is no decisions file, or it belongs to other figures; a region is given and there are several slides.
        DataError: Results, decisions or the region are damaged.

    Example::

        report = report_review(Opening(("calls.parquet",), slides=Path("slides")), Path("tumour-board.sqlite"))
        print(report.case.sentence())
        report.write(Path("report"))
    """
    figures = open_figures(asked)
    found = read_decisions_file(decisions or decisions_file(figures), figures)
    slides = OpenSlides(found.figures.slides)
    try:
        known = errors_of(found.figures, model)
        return make_report(found.figures, found.state, found.events, slides, title, progress, known, density)
    finally:
        slides.close()


def make_report(
    figures: ReviewFigures, state: DecisionState, events: Sequence[Event], slides: OpenSlides,
    title: str | None = None, progress: Progress = silent, known: KnownErrors | None = None,
    density: DensityOptions | None = None,
) -> CaseReport:  # fmt: skip
    """The report of an open review; see :func:`report_review`.

    ``known`` is what is known of the errors of the model; None: what its name tells.
    """
    gone = set(state.withdrawn)
    indices = [index for index in range(len(figures)) if index not in gone]
    rows = final_figures(figures, state, indices)
    counts = Counter(row.final for row in rows)
    undone = {event.undoes for event in events if event.kind == UNDONE}
    times = [event.time for event in events if event.kind in (DECIDED, ARBITRATED, IMPORTED) and event.id not in undone]
    agreement = consensus_report(state)
    notes = list(figures.notes)
    by_area = _densities(figures, slides, dict(zip(indices, rows, strict=True)), notes, progress, density)
    mpps = [value for index in indices if (value := scale(figures, slides, index)[0]) is not None]
    case = ReviewedCase(
        title=title or figures.title,
        made=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        first_decision=min(times, default=None),
        last_decision=max(times, default=None),
        raters=_raters(state),
        models=_models(figures),
        threshold=figures.threshold,
        mpp=_mpp_words(mpps, len(indices), figures),
        counts={name: counts[name] for name in FINAL},
        rate=rate_of(counts),
        whole=whole_of(figures, state, known or errors_of(figures)),
        agreement={"fleiss_kappa": agreement["fleiss_kappa"], "figures_with_two": agreement["figures_with_two"]},
        tags=dict(sorted(Counter(tag for row in rows for tag in row.all_tags()).items())),
        changed=sum(_unlike(figures, index, row.final) for index, row in zip(indices, rows, strict=True)),
        figures=rows,
        density=by_area,
        notes=notes,
    )
    order = sorted(zip(indices, rows, strict=True), key=lambda pair: _place(pair[1]))[:PAGE_CROPS]
    pictures = CropPictures(figures, slides)
    crops = []
    for number, (index, row) in enumerate(order):
        crops.append(_crop(figures, pictures, slides, index, row))
        progress(number + 1, len(order), "crops")
    return CaseReport(case, tuple(crops))


def final_figures(figures: ReviewFigures, state: DecisionState, indices: Sequence[int]) -> list[FinalFigure]:
    """One row a figure: the model, each rater, consensus, arbitration, and what it is in the end."""
    names = state.raters
    raw = _consensus_of_votes(state)
    rows = []
    for index in indices:
        decisions = state.others(None, index)
        settled = state.settled_as(index)
        majority = raw(index)
        final = settled or majority or UNDECIDED
        label = int(figures.label[index])
        notes = {name: text for name in names if (text := state.note(name, index))}
        on_slide = figures.slide[index] >= 0
        rows.append(
            FinalFigure(
                figure_id=figures.id(index),
                image=Path(str(figures.image(index)).replace("\\", "/")).name,
                x_px=finite_or_none(figures.x_px[index]) if on_slide else None,
                y_px=finite_or_none(figures.y_px[index]) if on_slide else None,
                case=figures.case.at(index),
                model_call=figures.call.at(index),
                p_atypical=finite_or_none(figures.p[index]),
                label=None if label == UNKNOWN_LABEL else label,
                decisions=decisions,
                tags=state.all_tags(index),
                notes=notes,
                consensus=majority,
                arbitration=settled,
                arbitrated_by=state.settled_by(index),
                final=final,
                decided_by=_decided_by(decisions, majority, settled, state.settled_by(index)),
                added_by=state.added_by(index),
                assigned_to=tuple(state.assigned(index)),
            )
        )
    return rows


def _densities(
    figures: ReviewFigures, slides: OpenSlides, rows: Mapping[int, FinalFigure], notes: list[str], progress: Progress,
    asked: DensityOptions | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Area, figures per mm² and hotspots of each slide, by what its figures are in the end; no mitosis does not count.

    What is not known of a slide is added to the notes.
    """
    from atypia.data.slides.readers import open_slide
    from atypia.data.slides.slidecrops import SlideReading
    from atypia.workflows.case.density import DensityOptions, area_of, slide_density

    found: list[dict[str, Any]] = []
    by_slide: dict[int, list[int]] = {}
    for index, row in rows.items():
        if figures.slide[index] >= 0 and row.final != NOT_MITOSIS:
            by_slide.setdefault(int(figures.slide[index]), []).append(index)
    if len(by_slide) > MOST_SLIDES:
        notes.append(f"Figures by area are given for the first {MOST_SLIDES} of {len(by_slide)} slides.")
    options = asked or DensityOptions()
    if options.region is not None and len(by_slide) != 1:
        got, fix = f"{len(by_slide)} slides with figures", "report each slide with its own"
        raise InputError(must("--region", "given where figures are of one slide", got, fix))
    for number in sorted(by_slide)[:MOST_SLIDES]:
        path, chosen = figures.slides[number], by_slide[number]
        mpp = next((value for i in chosen if (value := scale(figures, slides, i)[0]) is not None), slides.mpp(number))
        if mpp is None:
            notes.append(f"{path.name}: no figures by area, as its µm/px is not known.")
            continue
        try:
            with open_slide(path) as slide:
                area, overview = area_of(slide, mpp, options, SlideReading(), draw=True, progress=progress)
                one = slide_density(
                    path.name, figures.x_px[chosen], figures.y_px[chosen],
                    np.array([rows[index].final == FINAL[0] for index in chosen]), area, mpp, options.field,
                    mpp_source="results or slide", overview=overview, size=(slide.width_px, slide.height_px),
                    refused=np.array([rows[index].final in OPEN for index in chosen]), refused_words="are open",
                )  # fmt: skip
        except AtypiaError as error:
            if options.region is not None:  # what was asked for is not left out
                raise
            notes.append(f"{path.name}: no figures by area ({without_folders(str(error), path)}).")
            continue
        told = one.sentences(path.name)
        found.append({**one.as_dict(path.name), "image": path.name, "lines": told, "drawing": one.drawing})
    return found


def _consensus_of_votes(state: DecisionState) -> Callable[[int], str | None]:
    """Decision of most raters on a figure, before arbitration; «tie», or None without any."""
    codes = state.majority()

    def of(index: int) -> str | None:
        code = int(codes[index])
        return TIED if code == TIE else decision_of(code)

    return of


def _decided_by(decisions: dict[str, str], majority: str | None, settled: str | None, by: str | None) -> str:
    """How the final class came about.

    >>> _decided_by({"Ada": "normal", "Ben": "normal", "Eve": "atypical"}, "normal", None, None)
    'majority: Ada, Ben of 3'
    """
    if settled is not None:
        return f"arbitration by {by}"
    if majority is None:
        return ""
    if majority == TIED:
        return "evenly split: " + ", ".join(f"{name} {decision}" for name, decision in decisions.items())
    agreeing = [name for name, decision in decisions.items() if decision == majority]
    if len(decisions) == 1:
        return f"{agreeing[0]} alone"
    if len(agreeing) == len(decisions):
        return f"all {len(decisions)}: {', '.join(agreeing)}"
    return f"majority: {', '.join(agreeing)} of {len(decisions)}"


def _raters(state: DecisionState) -> list[dict[str, Any]]:
    settled = Counter(state.settled_by(index) for index in state.settled)
    found = []
    for name in state.raters:
        counts = state.counts(name)
        found.append(
            {"name": name, "decided": sum(counts.values()), "counts": counts, "rate": rate_of(counts),
             "arbitrations": settled[name]}
        )  # fmt: skip
    return found


def _models(figures: ReviewFigures) -> list[str]:
    return list(figures.models) or (["unknown"] if figures.has("p") else [])


def _mpp_words(values: Sequence[float], figures: int, opened: ReviewFigures) -> str:
    if not values:
        return "unknown"
    low, high = min(values), max(values)
    words = f"{low:.4g}" if math.isclose(low, high, rel_tol=1e-4) else f"{low:.4g} to {high:.4g}"
    if opened.assumed is not None and bool(opened.assumed.any()):
        words += ", assumed by the model"
    return words if len(values) == figures else f"{words} (known of {len(values):,} of {figures:,} figures)"


def _unlike(figures: ReviewFigures, index: int, final: str) -> bool:
    p, threshold = float(figures.p[index]), figures.threshold
    if final not in FINAL[:2] or not math.isfinite(p) or threshold is None:
        return False
    return (final == FINAL[0]) != (p >= threshold)


def _place(row: FinalFigure) -> tuple[int, float]:
    """Order on the page: atypical, open, normal, not a mitosis; within each by descending probability."""
    order = ("atypical", "tie", "unsure", "undecided", "normal", "not-mitosis")
    return order.index(row.final), -(row.p_atypical if row.p_atypical is not None else math.inf)


def _crop(
    figures: ReviewFigures, pictures: CropPictures, slides: OpenSlides, index: int, row: FinalFigure
) -> ShownFigure:
    try:
        data: bytes | None = pictures.picture(index, "rgb", CROP_PX).data
    except DataError:
        data = None  # shown as a crop that cannot be read
    mpp, width_um = scale(figures, slides, index)
    assumed = figures.assumed is not None and bool(figures.assumed[index])
    if width_um is None and mpp is not None and data is not None:
        width_um = mpp * len(pictures.pixels(index))
    return ShownFigure(row, data, width_um, assumed)
