"""Conditions of a generator: class, domain and phase of a figure as codes, and how often they occur together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.data.manifest import Manifest
from atypia.data.phases import named_phases
from atypia.synthesis.schema import CLASS, CONDITIONS, DOMAIN, PHASE

Words = Mapping[str, tuple[str, ...]]
"""For each condition its values, in the order of their codes; the code after the last means «not told»."""

Joint = tuple[tuple[int, tuple[str | None, ...], int], ...]
"""Label, values of the other conditions, and number of training figures that have them."""


def condition_words(manifest: Manifest, conditions: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The values of each condition among figures; always both classes."""
    found = {}
    for name in CONDITIONS:
        if name not in conditions:
            continue
        if name == CLASS:
            found[name] = r.CLASS_NAMES[manifest.task]
        else:
            found[name] = tuple(sorted({value for value in condition_values(manifest, name) if value is not None}))
    return found


def condition_values(manifest: Manifest, name: str) -> list[str | None]:
    """The value of a condition for each figure; None if unknown.

    The phase is the one that most raters named; None if two were named equally often.
    """
    if name == CLASS:
        classes = r.CLASS_NAMES[manifest.task]
        return [None if label is None else classes[label] for label in manifest.table[r.LABEL].to_pylist()]
    if name == DOMAIN:
        return manifest.table[r.DOMAIN].to_pylist()
    assert name == PHASE
    return [_majority(phases) for phases in named_phases(manifest)]


def _majority(phases: Sequence[str]) -> str | None:
    ranked = Counter(phases).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def codes_of(values: Mapping[str, Sequence[str | None]], words: Words) -> npt.NDArray[np.int64]:
    """Codes of values, shape (n, conditions); unknown values and values without a code become «not told»."""
    columns = []
    for name, known in words.items():
        index = {word: code for code, word in enumerate(known)}
        columns.append([len(known) if value is None else index.get(value, len(known)) for value in values[name]])
    return np.array(columns, dtype=np.int64).T.reshape(-1, len(words))


def manifest_codes(manifest: Manifest, words: Words, labelled: bool) -> npt.NDArray[np.int64]:
    """Codes of figures, shape (n, conditions).

    Args:
        manifest: The figures.
        words: The generator's words.
        labelled: Whether classes are told; False for the unlabelled stage, even if labels are known.
    """
    values = {name: condition_values(manifest, name) for name in words}
    if not labelled:
        values[CLASS] = [None] * len(manifest)
    return codes_of(values, words)


def joint_counts(manifest: Manifest, words: Words) -> Joint:
    """How often each combination of label and other conditions occurs among labelled figures."""
    others = [name for name in words if name != CLASS]
    values = [condition_values(manifest, name) for name in others]
    labels = manifest.table[r.LABEL].to_pylist()
    rows = [(label, tuple(column[i] for column in values)) for i, label in enumerate(labels) if label is not None]
    counts = Counter(rows)
    return tuple((label, rest, counts[label, rest]) for label, rest in sorted(counts, key=str))


def drawn_values(joint: Joint, label: int, rng: np.random.Generator) -> tuple[str | None, ...]:
    """Values of the other conditions for a figure of this class, drawn with their frequency in training."""
    rows = [(rest, count) for own, rest, count in joint if own == label]
    if not rows:
        return tuple(None for _ in (joint[0][1] if joint else ()))
    weights = np.array([count for _, count in rows], dtype=np.float64)
    return rows[int(rng.choice(len(rows), p=weights / weights.sum()))][0]
