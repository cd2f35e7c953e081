"""Decisions of a reviewer: their names and stored codes, defined once."""

from __future__ import annotations

from typing import Final, Literal, get_args

from atypia.base.records import ATYPICAL, NORMAL

DecisionName = Literal["atypical", "normal", "unsure", "not-mitosis"]
DECISIONS: Final[tuple[str, ...]] = get_args(DecisionName)
"""In the order of their codes, 0 to 3."""
IS_ATYPICAL, IS_NORMAL, IS_UNSURE, IS_NOT_MITOSIS = DECISIONS
NO_DECISION: Final = -1
"""Code of a figure without a decision, or with a cleared one."""
TIE: Final = -2
"""Code of a figure whose raters are evenly split and that is not settled."""
UNDECIDED: Final = "none"
"""Filter value for figures without a decision."""
VOTES: Final[dict[str, int]] = {IS_ATYPICAL: ATYPICAL, IS_NORMAL: NORMAL}
"""The decisions that count as votes on the class; *unsure* and *not-mitosis* do not."""

Kind = Literal["decision", "arbitration", "import", "undo"]
DECIDED, ARBITRATED, IMPORTED, UNDONE = KINDS = get_args(Kind)
"""Kinds of log events."""

NAME_CHARACTERS: Final = 64
NOTE_CHARACTERS: Final = 2000


def code_of(decision: str | None) -> int:
    """The code of a decision.

    >>> code_of("normal"), code_of(None)
    (1, -1)
    """
    return NO_DECISION if decision is None else DECISIONS.index(decision)


def decision_of(code: int) -> str | None:
    """The decision of a code; None for an undecided or evenly split figure.

    >>> decision_of(3), decision_of(NO_DECISION)
    ('not-mitosis', None)
    """
    return DECISIONS[code] if code >= 0 else None
