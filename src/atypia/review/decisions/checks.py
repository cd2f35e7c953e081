"""What reviewers give, checked: names, decisions, notes, tags."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from atypia.base.errors import InputError, must
from atypia.review.decisions.words import (
    DECISIONS,
    NAME_CHARACTERS,
    NOTE_CHARACTERS,
    TAG_CHARACTERS,
    TAG_SEPARATOR,
    TAGS_A_FIGURE,
    tag_text,
)


def checked_name(name: str) -> str:
    """A rater's name without surrounding spaces, in Unicode's composed form (NFC).

    Raises:
        InputError: It is empty, too long, or has invisible characters.
    """
    found = unicodedata.normalize("NFC", name).strip()
    visible = all(not unicodedata.category(sign).startswith("C") for sign in found)
    if not found or len(found) > NAME_CHARACTERS or not visible:
        expected = f"1 to {NAME_CHARACTERS} visible characters"
        raise InputError(must("rater", expected, repr(name[: NAME_CHARACTERS + 8]), "give a name"))
    return found


def checked_note(note: str | None) -> str | None:
    """Returns the note if it is valid.

    Raises:
        InputError: It is too long, or is not valid text.
    """
    if note is None:
        return None
    if len(note) > NOTE_CHARACTERS:
        raise InputError(must("note", f"at most {NOTE_CHARACTERS} characters", len(note), "shorten it"))
    if any(unicodedata.category(sign) == "Cs" or sign == "\0" for sign in note):
        raise InputError(must("note", "text", "invalid characters", "remove them"))
    return note


def checked_decision(decision: str | None) -> None:
    """Refuses what is no decision.

    Raises:
        InputError: It is none of :data:`~atypia.review.decisions.words.DECISIONS`.
    """
    if decision is not None and decision not in DECISIONS:
        raise InputError(must("decision", " or ".join(DECISIONS), decision, "choose one of them"))


def checked_tags(tags: Sequence[str] | None) -> str | None:
    """Tags as the log keeps them, an empty text for none; None for None.

    Raises:
        InputError: There are too many, or one is empty, too long or has characters that cannot be kept.
    """
    if tags is None:
        return None
    found = [unicodedata.normalize("NFC", tag).strip() for tag in tags]
    if len(set(found)) > TAGS_A_FIGURE:
        raise InputError(must("tags", f"at most {TAGS_A_FIGURE} a figure", len(set(found)), "remove some"))
    for tag in found:
        visible = all(not unicodedata.category(sign).startswith("C") for sign in tag)
        if not tag or len(tag) > TAG_CHARACTERS or TAG_SEPARATOR in tag or not visible:
            expected = f"1 to {TAG_CHARACTERS} visible characters without «{TAG_SEPARATOR}»"
            raise InputError(must("tag", expected, repr(tag[: TAG_CHARACTERS + 8]), "write another"))
    return tag_text(found) or ""
