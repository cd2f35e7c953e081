"""Findings on single figures: the human level, and a row's most confident errors."""

from __future__ import annotations

from dataclasses import dataclass

from atypia.statistics.agreement import RaterScore
from atypia.statistics.intervals import Interval


@dataclass(frozen=True)
class Raters:
    """The human level on a place: each rater against the majority of the others.

    Attributes:
        place: Position of the place.
        n: Figures with at least two votes.
        unanimous: Share of the figures with all votes on which all raters agree.
        fleiss: Fleiss' kappa.
        scores: One per rater.
        intervals: Case-clustered interval of each rater's balanced accuracy.
        level: Mean of the raters' balanced accuracy.
    """

    place: int
    n: int
    unanimous: float
    fleiss: float
    scores: tuple[RaterScore, ...]
    intervals: tuple[Interval, ...]
    level: float


@dataclass(frozen=True)
class WrongCrop:
    """A figure that a row classified wrongly.

    Attributes:
        figure_id: Its id.
        domain: None if unknown.
        label: 0 or 1.
        votes: The raters' votes; empty if unknown.
        p: Pooled probability of the positive class.
        also_wrong: Number of rows, including this one, that classified it wrongly.
        jpeg: The crop, base64; empty if its image is not available.
    """

    figure_id: str
    domain: str | None
    label: int
    votes: tuple[int | None, ...]
    p: float
    also_wrong: int
    jpeg: str = ""


@dataclass(frozen=True)
class Gallery:
    """The most confidently wrong figures of a row on a place.

    Attributes:
        series: Position of the row.
        place: Position of the place.
        missed: Positives decided negative, lowest probability first.
        alarms: Negatives decided positive, highest probability first.
        n_missed: Number of all missed figures.
        n_alarms: Number of all false alarms.
        n_rows: Rows that scored the place.
        absent: Reason why crops cannot be shown; else empty.
    """

    series: int
    place: int
    missed: tuple[WrongCrop, ...]
    alarms: tuple[WrongCrop, ...]
    n_missed: int
    n_alarms: int
    n_rows: int
    absent: str = ""
