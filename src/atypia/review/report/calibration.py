"""The command that calibrates the model with what was decided: the review page names it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from atypia.inference.bundles.bundle import Bundle
from atypia.inference.bundles.laboratory import LEAST
from atypia.review.decisions.state import DecisionState
from atypia.review.decisions.words import IS_ATYPICAL, IS_NORMAL, code_of
from atypia.review.figures.figures import ReviewFigures
from atypia.review.report.whole import model_of

PLACEHOLDER: Final = "MODEL"


@dataclass(frozen=True)
class NextCommand:
    """What to run after an export of decided figures.

    Attributes:
        command: The command, for the folder in which the file was saved.
        file: Name under which the page saves the decided figures.
        atypical: Decided as atypical by consensus.
        normal: Decided as normal.
        notes: What is missing, or must be known.
    """

    command: str
    file: str
    atypical: int
    normal: int
    notes: tuple[str, ...]


def next_command(figures: ReviewFigures, state: DecisionState, model: str | Path | None = None) -> NextCommand:
    """The command for these decisions.

    Args:
        figures: The figures.
        state: The decisions.
        model: Where the model may be that made the results.
    """
    codes = state.consensus()
    counts = [int(np.count_nonzero(codes == code_of(word))) for word in (IS_ATYPICAL, IS_NORMAL)]
    found = model_of(figures, model) if len(figures.models) == 1 else "the results are not those of one named model"
    name, notes = (PLACEHOLDER, [f"{PLACEHOLDER}: {found}"]) if isinstance(found, str) else _first(*found)
    for word, count in zip((IS_ATYPICAL, IS_NORMAL), counts, strict=True):
        if count < LEAST:
            notes.append(f"at least {LEAST} {word} figures are needed, {LEAST - count} more")
    file = f"{re.sub(r'[^A-Za-z0-9_-]+', '-', figures.title).strip('-')[:60] or 'figures'}-decided.parquet"
    words = ["atypia", "calibrate", name, "--on", file, "--out", "my-lab"]
    if not figures.case.names:
        notes.append(
            "the cases of these figures are not known; add --cases folder where the crops of each case have a folder"
        )
    return NextCommand(shlex.join(words), file, counts[0], counts[1], tuple(notes))


def _first(name: str, bundle: Bundle) -> tuple[str, list[str]]:
    """The model to calibrate: of one that was calibrated, which is refused, the one that it was made from."""
    from atypia.workflows.laboratory.calibrate import CALIBRATED

    if CALIBRATED not in bundle.training:
        return name, []
    made_from = str(bundle.training[CALIBRATED].get("from", PLACEHOLDER))
    return made_from, [
        f"{bundle.name} is calibrated already; calibrate {made_from}, which it was made from, on all figures together, those of "
        "before too"
    ]
