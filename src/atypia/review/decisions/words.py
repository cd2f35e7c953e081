"""Decisions of a reviewer: their names and stored codes, defined once."""

from __future__ import annotations

from collections.abc import Iterable
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

Kind = Literal["decision", "arbitration", "import", "undo", "assignment", "addition"]
DECIDED, ARBITRATED, IMPORTED, UNDONE, ASSIGNED, ADDED = KINDS = get_args(Kind)
"""Kinds of log events."""
TAGS: Final = ("multipolar", "lagging", "bridge", "ring", "asymmetric", "other")
"""Types of atypia that the page offers as tags; a rater may write others."""
TAG_SEPARATOR: Final = ";"

ADDED_PREFIX: Final = "added-"
"""Beginning of the id of a figure that a rater added."""
NAME_CHARACTERS: Final = 64
NOTE_CHARACTERS: Final = 2000
TAG_CHARACTERS: Final = 40
TAGS_A_FIGURE: Final = 12


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


def tags_of(text: str | None) -> list[str]:
    """The tags in a text of the log, or in a cell of a table.

    >>> tags_of("bridge;lagging"), tags_of(None)
    (['bridge', 'lagging'], [])
    """
    return [tag.strip() for tag in (text or "").split(TAG_SEPARATOR) if tag.strip()]


def tag_text(tags: Iterable[str]) -> str | None:
    """Tags as the log keeps them: sorted, each once; None for none.

    >>> tag_text(["lagging", "bridge", "lagging"])
    'bridge;lagging'
    """
    return TAG_SEPARATOR.join(sorted(set(tags))) or None
