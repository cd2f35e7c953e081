"""What is said of a model on one's own figures: metrics before and after, and what was done and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from atypia.base.errors import count_noun
from atypia.inference.bundles.laboratory import (
    CONTRADICTED,
    MOVED,
    NO_EVIDENCE,
    NOT_TOLD_APART,
    UNCHECKED,
    Calibrated,
)
from atypia.statistics.intervals import Interval

TITLES: Final = {
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "auroc": "AUROC",
}


def table_text(titles: Sequence[str], names: Sequence[str], columns: Sequence[Mapping[str, Interval]]) -> list[str]:
    """Lines of a table of metrics: a row a metric, a column a mapping; the last column holds differences."""
    rows = [list(titles)]
    for name in names:
        shown = [interval_text(found.get(name), at == len(columns) - 1) for at, found in enumerate(columns)]
        rows.append([TITLES.get(name, name), *shown])
    widths = [max(len(row[at]) for row in rows) for at in range(len(titles))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def interval_text(found: Interval | None, signed: bool = False) -> str:
    """«0.812 [0.75, 0.87]»; – for what is undefined."""
    sign = "+" if signed else ""
    if found is None:
        return ""
    if found.estimate != found.estimate:
        return "–"
    ends = "–" if found.low != found.low else f"{found.low:{sign}.3f}, {found.high:{sign}.3f}"
    return f"{found.estimate:{sign}.3f} [{ends}]"


def interval_values(found: Mapping[str, Interval]) -> dict[str, list[float | None]]:
    """Estimate, lower and upper end of each metric, JSON-able; NaN becomes null."""
    ends = {name: (one.estimate, one.low, one.high) for name, one in found.items()}
    return {name: [None if value != value else value for value in values] for name, values in ends.items()}


def given(figures: tuple[int, int], cases: int) -> str:
    """«48 figures (16 atypical), 8 cases», of normal and atypical figures."""
    return f"{count_noun(sum(figures), 'figure')} ({figures[1]} atypical), {count_noun(cases, 'case')}"


def counted(normal: int, atypical: int) -> str:
    """«3 more atypical figures and 2 more normal ones»."""
    one = count_noun(atypical, "more atypical figure") if atypical else ""
    other = count_noun(normal, "more normal figure") if normal else ""
    return " and ".join(text for text in (one, other) if text)


def outcome_text(result: Calibrated, threshold: tuple[float, float]) -> list[str]:
    """What was done and why, one sentence a line."""
    judged = result.judged
    before, after = threshold
    if judged.outcome == MOVED:
        lines = [
            f"the threshold moves: figures that the model as it is gives {after:.3f} or more are atypical from here on, "
            f"until now {before:.3f} or more",
            "probabilities are calibrated anew, so the new model's threshold reads as before",
        ]
    elif judged.outcome == NO_EVIDENCE:
        more = counted(*judged.more)
        why = f"about {more} like these would tell" if more else "these figures lie where they are expected"
        lines = [f"not enough to move the threshold: {why}"]
    elif judged.outcome == CONTRADICTED:
        lines = ["the threshold stays: moved by some of these cases, it does worse on the others"]
    elif judged.outcome == NOT_TOLD_APART:
        return ["nothing is changed: the model does not tell these classes apart; look at the labels, and at µm/px"]
    elif judged.outcome == UNCHECKED:
        return [
            "nothing is changed: with any one case left out, too few figures of a class are left, so no change can be checked; "
            "label both classes in more cases, or tell the cases of these figures apart (a column case_id, or --cases folder)"
        ]
    else:
        return [f"not enough to change anything: it takes {counted(*judged.more)}"]
    own = [name for name, mine in zip(("normal", "atypical"), result.sets, strict=True) if mine]
    if own:
        lines.append(f"prediction sets: limits of {' and '.join(own)} by these figures")
    if result.novelty:
        lines.append("refusals: the limit is raised, as more of these figures were refused than chance explains")
    return lines
