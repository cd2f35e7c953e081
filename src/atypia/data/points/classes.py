"""Selects classes from a file of points; figures of several classes are never mixed silently."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base.errors import InputError, first_of, must
from atypia.data.sources.layouts import CLASS_WORDS
from atypia.data.textfiles import cleaned_text

ALL: Final = "all"
"""Selects figures of every class."""
UNCLASSIFIED: Final = "unclassified"
"""QuPath's word for figures without a class."""
EXACTLY: Final = "="
"""Prefix of a name: exactly this class, without derived ones."""
DERIVED: Final = ":"
"""QuPath's separator between a class and a derived class («Mitosis: Positive»)."""
SHOWN_CLASSES: Final = 8
_LOOK_ALIKES = frozenset(
    {word for word, label in CLASS_WORDS[r.MITOSIS_TASK].items() if label == 0 and not word.isdecimal()}
    | {"non-mitosis", "non mitosis", "nonmitosis", "not mitosis", "no mitosis", "hard negative look-alike"}
)

Classes = Sequence[str | None]


def class_name(value: Any) -> str | None:
    """The name of a class, in any form used by exports; None if there is none.

    Accepted are names, QuPath's objects (``{"name": …}``, ``{"names": […]}``), and either as JSON in a text, which is
    the form written by GeoPandas.

    >>> class_name('{"name": "Mitosis", "color": [200, 0, 0]}'), class_name({"names": ["Mitosis", "Positive"]})
    ('Mitosis', 'Mitosis: Positive')
    """
    if isinstance(value, str):
        text = value.strip()
        unpacked = unpack(text)
        return class_name(unpacked) if isinstance(unpacked, dict) else cleaned_text(text)
    if isinstance(value, dict):
        names = value.get("names")
        if isinstance(names, list) and names:
            return cleaned_text(f"{DERIVED} ".join(str(name) for name in names))
        return class_name(str(value["name"])) if value.get("name") is not None else None
    if value is None or isinstance(value, list | bool) or value != value:
        return None
    return cleaned_text(str(value))


def unpack(text: str) -> Any:
    """The value of JSON in a text, also with Python's quotes; the text itself if it is not JSON."""
    if not text.startswith(("{", "[")):
        return text
    for attempt in (text, text.replace("'", '"').replace(": None", ": null")):
        try:
            return json.loads(attempt)
        except (ValueError, RecursionError):
            continue
    return text


def class_key(name: str | None) -> str:
    """Normalised key of a class, equal for its different spellings.

    >>> class_key("Mitosis:Positive") == class_key("mitosis: positive"), class_key(None)
    (True, 'unclassified')
    """
    if name is None:
        return UNCLASSIFIED
    text = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    return DERIVED.join(part.strip() for part in text.split(DERIVED))


def is_derived(name: str, of: str) -> bool:
    """Whether a key equals another key or belongs to a class derived from it.

    >>> is_derived("mitosis:positive", "mitosis"), is_derived("mitosis", "mitosis"), is_derived("mitoses", "mitosis")
    (True, True, False)
    """
    return name == of or name.startswith(of + DERIVED)


def wanted_figures(classes: Classes, wanted: Collection[str]) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """Selects figures by class.

    Args:
        classes: The class of each figure; None if it has none, which counts as a class of its own.
        wanted: Names in any case, each with its derived classes; ``=NAME`` for exactly this class, ``all``,
            ``unclassified``; may be empty if there is only one class.

    Returns:
        One truth value per figure, and notes.

    Raises:
        InputError: Several classes and none is selected; a name that no figure has; ``all`` if that is also the
            name of a class.
    """
    keys = [class_key(name) for name in classes]
    counts = Counter(keys)
    spelled = {key: name for key, name in zip(reversed(keys), reversed(classes), strict=True) if name is not None}
    if not wanted:
        if len(counts) > 1:
            named = [key for key, _ in counts.most_common() if key != UNCLASSIFIED]
            first = next((key for key in named if key not in _LOOK_ALIKES), named[0])  # what a hurried user will copy
            fix = f"pass --class {_quoted(spelled[first])} (it may be repeated), or --class {ALL}"
            raise InputError(must("class", "named where points are of several", _counted(counts, spelled), fix))
        return np.ones(len(keys), bool), _look_alike(counts, spelled)
    names = [name.strip() for name in wanted]
    if [name.casefold() for name in names] == [ALL]:
        if ALL in counts and len(counts) > 1:
            fix = f"pass --class {EXACTLY}{ALL} for that class, or name each class"
            raise InputError(must("class", f"another word: the points have a class «{ALL}»", ALL, fix))
        several = [f"all {len(counts)} classes are taken: {_counted(counts, spelled)}"] if len(counts) > 1 else []
        return np.ones(len(keys), bool), several
    taken: set[str] = set()
    notes: list[str] = []
    for name in names:
        key = class_key(name.removeprefix(EXACTLY))
        found = {other for other in counts if (other == key if name.startswith(EXACTLY) else is_derived(other, key))}
        if not found:
            fix = f"name one of: {_counted(counts, spelled)}"
            raise InputError(must("class", "among those of the points", name, fix))
        taken |= found
        derived = Counter({other: counts[other] for other in sorted(found - {key})})
        if derived:
            notes.append(f"class {name} also takes {_counted(derived, spelled)}")
    return np.array([key in taken for key in keys], bool), notes


def _look_alike(counts: Counter[str], spelled: dict[str, str]) -> list[str]:
    """A note if the only class is a look-alike class."""
    only = next(iter(counts), UNCLASSIFIED)
    if only not in _LOOK_ALIKES:
        return []
    return [f"all points have the class {spelled[only]}, which by its name is not a mitotic figure"]


def _counted(counts: Counter[str], spelled: dict[str, str]) -> str:
    shown = [f"{n:,} {spelled.get(key) or f'without a class ({UNCLASSIFIED})'}" for key, n in counts.most_common()]
    return first_of(shown, SHOWN_CLASSES)


def _quoted(name: str) -> str:
    return f"'{name}'" if not name.replace("-", "").replace("_", "").isalnum() else name
