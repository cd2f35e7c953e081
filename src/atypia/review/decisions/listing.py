"""Selects and sorts figures for the page, and describes each of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.review.decisions.state import DecisionState
from atypia.review.decisions.words import IS_ATYPICAL, IS_NORMAL, NO_DECISION, UNDECIDED, VOTES, code_of
from atypia.review.figures.figures import UNKNOWN_LABEL, ReviewFigures
from atypia.review.media.sizes import beyond, finite_or_none, scale
from atypia.review.media.slides import OpenSlides
from atypia.statistics.rates import exact_interval

SortName = Literal["index", "p", "uncertainty", "label-disagreement", "rater-disagreement", "novelty", "case"]
SORTS: Final[tuple[str, ...]] = get_args(SortName)
PATIENCE_S: Final = 0.5
"""Seconds that a list may spend opening slides for their µm/px; figures on slides not opened yet have none."""
BLIND_SORTS: Final = ("index", "case")
"""Sort orders that reveal neither predictions nor other raters' decisions."""


@dataclass(frozen=True)
class FigureQuery:
    """Filters and sort order.

    Attributes:
        sort: One of :data:`SORTS`; figures with an unknown value come last.
        descending: Whether the largest comes first.
        cases: Only these cases; empty for all.
        domains: Only these domains.
        calls: Only figures with this decision of the classifier.
        decisions: Only figures with this decision of ``rater``; ``none`` for those without a decision.
        rater: The rater.
        undecided: Only figures without a decision of ``rater``.
        tags: Only figures to which ``rater`` gave one of these tags.
        assigned: Only figures that are assigned to ``rater``.
        blind: Whether predictions and other raters' decisions are hidden.
    """

    sort: str = "index"
    descending: bool = False
    cases: tuple[str, ...] = field(default_factory=tuple)
    domains: tuple[str, ...] = field(default_factory=tuple)
    calls: tuple[str, ...] = field(default_factory=tuple)
    decisions: tuple[str, ...] = field(default_factory=tuple)
    rater: str | None = None
    undecided: bool = False
    blind: bool = False
    tags: tuple[str, ...] = field(default_factory=tuple)
    assigned: bool = False


def select(figures: ReviewFigures, decision_state: DecisionState, wanted: FigureQuery) -> npt.NDArray[np.int64]:
    """Indices of the selected figures, in order.

    Raises:
        InputError: In blind mode, an order or filter that would reveal hidden values.
    """
    if wanted.blind and (wanted.sort not in BLIND_SORTS or wanted.calls):
        got = "a filter by call" if wanted.calls else wanted.sort
        raise InputError(must("sort", f"{' or '.join(BLIND_SORTS)} in blind mode", got, "leave blind mode"))
    keep = np.ones(len(figures), bool)
    for column, names in ((figures.case, wanted.cases), (figures.domain, wanted.domains), (figures.call, wanted.calls)):
        if names:
            keep &= column.mask(names)
    if wanted.undecided or wanted.decisions:
        codes = decision_state.codes(wanted.rater)[: len(figures)]
        if wanted.undecided:
            keep &= codes == NO_DECISION
        if wanted.decisions:
            picked = [NO_DECISION if name == UNDECIDED else code_of(name) for name in wanted.decisions]
            keep &= np.isin(codes, np.array(picked, np.int8))
    if wanted.tags:
        keep &= _among(decision_state.tagged(wanted.rater or "", wanted.tags), len(figures))
    if wanted.assigned:
        keep &= _among(decision_state.assigned_to(wanted.rater or ""), len(figures))
    keep[[index for index in decision_state.withdrawn if index < len(figures)]] = False
    found = np.flatnonzero(keep)
    ranks = figures.shuffled if wanted.blind else np.arange(len(figures))
    return found[_order(_keys(figures, decision_state, wanted.sort)[found], ranks[found], wanted)]


def _among(indices: Iterable[int], count: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(count, bool)
    mask[[index for index in indices if index < count]] = True
    return mask


def _keys(figures: ReviewFigures, decision_state: DecisionState, sort: str) -> npt.NDArray[np.float64]:
    if sort == "index":
        return np.zeros(len(figures))
    if sort == "case":
        return np.where(figures.case.codes < 0, np.nan, figures.case.codes)
    if sort == "rater-disagreement":
        return rater_disagreement(figures, decision_state)
    return {
        "p": figures.p,
        "uncertainty": figures.uncertainty,
        "label-disagreement": figures.label_disagreement,
        "novelty": figures.novelty,
    }[sort]


def _order(
    keys: npt.NDArray[np.float64], ranks: npt.NDArray[np.int64], wanted: FigureQuery
) -> npt.NDArray[np.int64]:  # fmt: skip
    """Sorts by key, unknown keys last in either direction, then by rank."""
    if wanted.sort == "index":
        return np.argsort(-ranks if wanted.descending else ranks, kind="stable")
    signed = -keys if wanted.descending else keys
    return np.lexsort((ranks, signed))  # NaN sorts last


def rater_disagreement(figures: ReviewFigures, decision_state: DecisionState) -> npt.NDArray[np.float64]:
    """Disagreement of the votes on each figure (the data's and the reviewers'): 0 all agree, 1 evenly split.

    ``1 − |2m − 1|`` with m the share of votes for *atypical*; NaN with fewer than two votes.
    """
    ones, given = (counts.astype(np.float64) for counts in figures.vote_counts)
    tally = decision_state.tally()[: len(figures)]
    for decision, vote in VOTES.items():
        votes = tally[:, code_of(decision)]
        ones, given = ones + vote * votes, given + votes
    share = np.divide(ones, given, out=np.full(len(figures), np.nan), where=given >= 2)
    return 1 - np.abs(2 * share - 1)


def described(
    figures: ReviewFigures, decision_state: DecisionState, shelf: OpenSlides, indices: Sequence[int], rater: str | None, blind: bool = False,
    everyone: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """Descriptions of figures for the page.

    Args:
        figures: The figures.
        board: The reviewers' decisions.
        shelf: The slides, for their µm/px.
        indices: Which figures.
        rater: Rater whose decision is listed separately; None for none.
        blind: Whether predictions, other raters' decisions and figure names are hidden.
        everyone: Whether the rater's own decision is also included in ``others``.
    """
    found = []
    until = time.monotonic() + PATIENCE_S
    for i in indices:
        slide = int(figures.slide[i])
        mpp, width_um = scale(figures, shelf, i, until)
        label = int(figures.label[i])
        one: dict[str, Any] = {
            "index": i,
            "figure_id": figures.blind_name(i) if blind else figures.id(i),
            "case": figures.case.at(i),
            "domain": figures.domain.at(i),
            "slide": None if slide < 0 else slide,
            "x_px": finite_or_none(figures.x_px[i]),
            "y_px": finite_or_none(figures.y_px[i]),
            "mpp": mpp,
            "width_um": width_um,
            "decision": decision_state.decision(rater, i),
            "note": decision_state.note(rater, i),
            "tags": decision_state.tags(rater, i),
            "event": decision_state.latest(rater, i),
            "assigned": decision_state.assigned(i),
            "added": decision_state.added_by(i) is not None,
            "mpp_assumed": figures.assumed is not None and bool(figures.assumed[i]),
            "beyond": beyond(figures, shelf, i, until),
        }
        hidden: dict[str, Any] = {
            "p": finite_or_none(figures.p[i]),
            "call": figures.call.at(i),
            "uncertainty": finite_or_none(figures.uncertainty[i]),
            "novelty": finite_or_none(figures.novelty[i]),
            "label": None if label == UNKNOWN_LABEL else label,
            "votes": figures.votes_of(i),
            "disagreement": finite_or_none(figures.label_disagreement[i]),
            "others": decision_state.others(None if everyone else rater, i),
            "settled": decision_state.settled_as(i),
            "others_tags": {
                name: tags for name, tags in decision_state.all_tags(i).items() if everyone or name != rater
            },
        }
        if blind:
            hidden = {**dict.fromkeys(hidden), "others": {}, "others_tags": {}}
        found.append({**one, **hidden})
    return found


def progress(decision_state: DecisionState) -> list[dict[str, Any]]:
    """Progress of each rater."""
    counts = {rater: decision_state.counts(rater) for rater in decision_state.raters}
    return [
        {"name": rater, "decided": sum(found.values()), "counts": found, "rate": rate_of(found),
         "assigned": len(decision_state.assigned_to(rater))}
        for rater, found in counts.items()
    ]  # fmt: skip


def rate_of(counts: Mapping[str, int]) -> dict[str, float | None]:
    """Share of *atypical* among the decisions *atypical* and *normal*, with its exact interval.

    >>> rate_of({"atypical": 0, "normal": 0})
    {'value': None, 'low': None, 'high': None}
    """
    atypical, normal = counts.get(IS_ATYPICAL, 0), counts.get(IS_NORMAL, 0)
    if not atypical + normal:
        return {"value": None, "low": None, "high": None}
    low, high = exact_interval(atypical, atypical + normal)
    return {"value": atypical / (atypical + normal), "low": low, "high": high}
