"""Decisions as a manifest for training: votes, soft labels, corrected labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base.errors import InputError, count_noun, must
from atypia.data.manifest import Manifest
from atypia.data.sources.layouts import add_image_facts
from atypia.review.decisions.listing import scale
from atypia.review.decisions.state import DecisionState
from atypia.review.decisions.words import IS_NOT_MITOSIS, IS_UNSURE, NO_DECISION, TIE, VOTES, code_of
from atypia.review.figures.figures import UNKNOWN_LABEL, ReviewFigures
from atypia.review.media.slides import OpenSlides


@dataclass(frozen=True)
class DecisionManifest:
    """Result of an export.

    Attributes:
        manifest: The figures with a label.
        decided: Number of these with a label from reviewers.
        changed: Number of these with a changed label.
    """

    manifest: Manifest
    decided: int
    changed: int


def decision_manifest(
    figures: ReviewFigures, decision_state: DecisionState, shelf: OpenSlides, only_decided: bool = False
) -> DecisionManifest:
    """The figures with the reviewers' decisions.

    Training labels follow the decisions, whatever the data's own votes:

    * a figure settled by arbitration gets that label, and a soft label of 0 or 1;
    * any other figure with reviewers' decisions gets their majority as label, and the share of *atypical* among
      their votes, which is on the same side of 0.5, as soft label;
    * all other figures keep their label and soft label.

    ``votes`` records every opinion for statistics of agreement: the data's own votes, followed by
    one per reviewer in the order in which they joined, null for a reviewer without a vote.
    Left out are figures without any label, and figures on which reviewers are evenly split, are unsure, or
    which they call no mitosis; the manifest's notes give the numbers.

    Args:
        figures: The figures.
        board: The reviewers' decisions.
        shelf: The slides, for their µm/px.
        only_decided: Whether to leave out figures without a reviewer's decision as well.

    Raises:
        InputError: No figure is left, or their images cannot be read.
    """
    codes = decision_state.consensus()
    label_of = np.full(len(figures), UNKNOWN_LABEL, np.int8)
    for name, vote in VOTES.items():
        label_of[codes == code_of(name)] = vote
    untouched = codes == NO_DECISION
    labels = np.where(untouched, figures.label, label_of)
    keep = labels != UNKNOWN_LABEL
    if only_decided:
        keep &= ~untouched
    if not keep.any():
        raise InputError(
            must("figures to export", "with a decision or an original label", "none", "decide on some first")
        )
    chosen = np.flatnonzero(keep)
    reviewers = decision_state.vote_matrix()[chosen]
    voted = np.count_nonzero(~np.isnan(reviewers), axis=0) > 0
    reviewers = reviewers[:, voted]
    width = _own_width(figures)
    rows = _rows(figures, shelf, chosen)
    per_figure: list[list[float]] = reviewers.tolist()
    settled = decision_state.settled
    for index, row, votes in zip(chosen.tolist(), rows, per_figure, strict=True):
        own = row.get(r.VOTES) or []
        own = [*own, *[None] * (width - len(own))]
        both = [*own, *(None if vote != vote else int(vote) for vote in votes)]
        row |= {r.LABEL: int(labels[index]), r.VOTES: both if any(vote is not None for vote in both) else None}
        given = [vote for vote in votes if vote == vote]
        if given:
            row[r.N_RATERS] = None  # counted again from all votes
        if not untouched[index]:
            row[r.SOFT_LABEL] = float(labels[index]) if index in settled else sum(given) / len(given)
    known = figures.manifest is not None and bool((figures.rows[chosen] >= 0).all())
    root = figures.manifest.root if known and figures.manifest is not None else _absolute(rows, figures, chosen)
    decided = chosen[~untouched[chosen]]
    had = figures.label[decided]
    changed = int(np.count_nonzero((had != UNKNOWN_LABEL) & (had != labels[decided])))
    names = [name for column, name in enumerate(decision_state.raters) if voted[column]]
    notes = [f"labels of {count_noun(len(decided), 'figure')} by review, {changed} of them changed"]
    if names:
        last = "the last vote is" if len(names) == 1 else f"the last {len(names)} votes are"
        notes.append(f"{last} from: {', '.join(names)}")
    notes += _left_out(codes, figures)
    manifest = Manifest.from_rows(rows, f"{figures.title} (reviewed)", root=root, notes=notes)
    return DecisionManifest(manifest, len(decided), changed)


def _left_out(codes: npt.NDArray[np.int8], figures: ReviewFigures) -> list[str]:
    counts = {
        "reviewers are evenly split": int(np.count_nonzero(codes == TIE)),
        "reviewers are unsure": int(np.count_nonzero(codes == code_of(IS_UNSURE))),
        "reviewers call it no mitosis": int(np.count_nonzero(codes == code_of(IS_NOT_MITOSIS))),
        "it has no label": int(np.count_nonzero((codes == NO_DECISION) & (figures.label == UNKNOWN_LABEL))),
    }
    return [f"left out because {why}: {count_noun(count, 'figure')}" for why, count in counts.items() if count]


def _own_width(figures: ReviewFigures) -> int:
    """Number of raters in the data's own votes."""
    return max((len(votes) for votes in figures.votes.to_pylist() if votes), default=0) if figures.votes else 0


def _rows(figures: ReviewFigures, shelf: OpenSlides, chosen: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    """The figures' rows: from the data set, else from the results."""
    manifest, rows = figures.manifest, figures.rows[chosen]
    known = iter(manifest.take(rows[rows >= 0]).table.to_pylist() if manifest is not None else ())
    pairs = zip(chosen.tolist(), rows.tolist(), strict=True)
    return [next(known) if row >= 0 else _own_row(figures, shelf, index) for index, row in pairs]


def _own_row(figures: ReviewFigures, shelf: OpenSlides, index: int) -> dict[str, Any]:
    path = figures.image(index)
    row: dict[str, Any] = {r.FIGURE_ID: figures.id(index), r.DATASET: figures.title, r.IMAGE: str(path)}
    if figures.cut[index]:
        row |= {
            r.X_PX: float(figures.x_px[index]),
            r.Y_PX: float(figures.y_px[index]),
            r.SLIDE_ID: path.stem,
            r.MPP: scale(figures, shelf, index)[0],
        }
    return row


def _absolute(rows: list[dict[str, Any]], figures: ReviewFigures, chosen: npt.NDArray[np.int64]) -> Path:
    """Makes image paths absolute, and adds size and checksum where they are unknown."""
    root = Path(Path.cwd().anchor)
    own = figures.manifest.root if figures.manifest is not None else None
    for index, row in zip(chosen.tolist(), rows, strict=True):
        path = Path(row[r.IMAGE]) if own is None or figures.rows[index] < 0 else own / row[r.IMAGE]
        row[r.IMAGE] = path.resolve().relative_to(root).as_posix()
    bad = add_image_facts([row for row in rows if row.get(r.SHA256) is None], root)
    if bad:
        raise InputError(f"{count_noun(len(bad), 'image')} cannot be read; the first: {bad[0][1]}")
    return root
