"""What a study says of single figures: the human level on them, and those that a row decides most confidently wrongly."""

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
        scores: One a rater.
        intervals: Of each rater's balanced accuracy, case-clustered.
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
    """A figure that a row decided wrongly.

    Attributes:
        figure_id: Its id.
        domain: None where unknown.
        label: 0 or 1.
        votes: The raters' votes; empty where unknown.
        p: Pooled probability of the positive class.
        also_wrong: Number of rows, this one among them, that decided it wrongly.
        jpeg: The crop, base64; empty where its image is not at hand.
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
        n_missed: All of the first kind.
        n_alarms: All of the second kind.
        n_rows: Rows that scored the place.
        absent: Why crops cannot be shown; empty where they can.
    """

    series: int
    place: int
    missed: tuple[WrongCrop, ...]
    alarms: tuple[WrongCrop, ...]
    n_missed: int
    n_alarms: int
    n_rows: int
    absent: str = ""
