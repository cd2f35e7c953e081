"""What pages show of several data files together, and single figures inside sentences.

A page has ``<!-- data: NAME -->`` … ``<!-- /data -->`` around a table and ``<!-- value: NAME -->`` … ``<!-- /value -->`` in a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from atypia.backbones.catalogue import BACKBONES
from atypia.evaluation.board.rows import read_rows, shipped_file
from atypia.evaluation.board.testsets import BOARD_SETS
from atypia.evaluation.published import MEAN, PublishedRow, published_rows
from atypia.workflows.leaderboard import leaderboard_table
from documentation.datafiles import ROOT, UNKNOWN, Data, cell, markdown, names, read, render

HOLD_OUT: Final = "ami-br, hold-out"
ATNORM: Final = "atnorm-br, all"
SETS: Final = {HOLD_OUT: ("AMi-Br hold-out", "ami-br"), ATNORM: ("AtNorM-Br", "atnorm-br")}
METRICS: Final = {"balanced_accuracy": "BA", "auroc": "AUROC"}
GOALS: Final = {(HOLD_OUT, "balanced_accuracy"): 0.87, (HOLD_OUT, "auroc"): 0.945,
                (ATNORM, "balanced_accuracy"): 0.84, (ATNORM, "auroc"): 0.915}  # fmt: skip
"""Set before the networks of the model that ships were trained."""
_TABLE: Final = re.compile(r"(<!-- data: ([\w/-]+) -->\n).*?(\n<!-- /data -->)", re.DOTALL)
_VALUE: Final = re.compile(r"(<!-- value: ([\w -]+) -->).*?(<!-- /value -->)", re.DOTALL)


def published_best(dataset: str, metric: str) -> PublishedRow:
    """The best published mean over folds of a single model."""
    return max(published_rows(dataset=dataset, metric=metric, kind=MEAN), key=lambda row: row.value)


def headline() -> str:
    """The shipped model's twin on the test sets, beside the best published results."""
    lines = [
        [
            "`atypia-amibr` on a test set, one forward pass, threshold from laboratories that were left out",
            "BA",
            "AUROC",
            "best published single models: BA, AUROC",
        ]
    ]
    for part, (title, dataset) in SETS.items():
        row = read("model/tests").one(test_set=part)
        shown = [_interval(row, metric) for metric in METRICS]
        best = [f"{published_best(dataset, metric).value:.3f}" for metric in METRICS]
        lines.append([f"{title}, {row['figures']} figures", *shown, ", ".join(best)])
    return markdown(lines, ["---"] * 4)


def goals() -> str:
    """Goals, what was reached, and the best published result."""
    lines = [["", "goal", "`atypia-amibr`", "best published"]]
    for (part, metric), goal in GOALS.items():
        title, dataset = SETS[part]
        reached, best = float(read("model/tests").one(test_set=part)[metric]), published_best(dataset, metric)
        text = f"{reached:.3f}"
        size = BACKBONES[best.backbone].params_m if best.backbone else None
        lines.append([f"{title}, {METRICS[metric]}", f"{goal:g}", f"**{text}**" if round(reached, 3) >= goal else text,
                      f"{best.value:.4f} ({best.model}{f', {size:.0f} M parameters' if size else ''})"])  # fmt: skip
    return markdown(lines, ["---"] * 4)


def rounding() -> str:
    """What the integers cost, where it was measured for the model that ships now."""
    data = read("model/rounding")
    return render(data) if _same_bundle(data, read("model/tests")) else "Not measured for this version of the model."


def provenance() -> str:
    """Where every table of the results comes from."""
    lines = [["table", "of", "command", "seed", "versions", "wall time", "made from", "date", "origin"]]
    for name in names():
        a = read(name).about
        command = UNKNOWN if a.command == UNKNOWN else " ; ".join(f"`{line}`" for line in a.command.splitlines())
        lines.append([f"`{name}.csv`", a.of, command, a.seed, a.versions, a.wall_time, a.inputs, a.date, a.origin])
    return markdown(lines, ["---"] * len(lines[0]))


def board_provenance() -> str:
    """What is known of the rows that were checked."""
    lines = [["test set", "row", "cases", "bundle", "predictions (SHA-256)", "command", "seed", "versions", "date"]]
    for row in read_rows(shipped_file()):
        sha = f"{row.predictions_sha256[:12]}…" if row.predictions_sha256 else ""
        lines.append([row.test_set, row.name, str(row.cases or "not known"), row.bundle[:12], sha, f"`{row.command}`",
                      str(row.seed), row.versions, row.date])  # fmt: skip
    return markdown(lines, ["---"] * len(lines[0]))


def leaderboard(on: str) -> Callable[[], str]:
    """The leaderboard of a test set, from the rows that ship and the published ones."""
    return lambda: leaderboard_table(on, own=False).render("markdown").strip()


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "headline": headline,
    "goals": goals,
    "model/rounding": rounding,
    "provenance": provenance,
    **{f"leaderboard/{name}": leaderboard(name) for name in BOARD_SETS},
    "leaderboard/rows": board_provenance,
}
"""Tables that are no file's own, by the name in the mark."""


def _interval(row: Mapping[str, str], metric: str) -> str:
    return cell(f"{{{metric}:.3f}} [{{{metric}_low:.3f}}, {{{metric}_high:.3f}}]", row)


def _same_bundle(one: Data, other: Data) -> bool:
    bundles = [re.search(r"bundle \w+", data.about.inputs) for data in (one, other)]
    return None not in bundles and len({found[0] for found in bundles if found}) == 1


def _tested(part: str, metric: str) -> Callable[[], str]:
    return lambda: f"{float(read('model/tests').one(test_set=part)[metric]):.3f}"


def _scanner(choose: Callable[..., Mapping[str, str]]) -> Callable[[], str]:
    def text() -> str:
        rows = [row for row in read("model/domains").rows if row["test_set"] == HOLD_OUT]
        row = choose(rows, key=lambda row: float(row["balanced_accuracy"]))
        named = row["domain"].split(" | ")[:-2]  # without species and tumour; two centres may have the same scanner
        return f"{float(row['balanced_accuracy']):.3f} ({', '.join(named)})"

    return text


def _left_out(metric: str) -> list[float]:
    return [float(row[metric]) for row in read("model/left-out").rows if row["figures"]]


def _gap() -> str:
    values = _left_out("balanced_accuracy")
    return f"{sum(values) / len(values) - min(values):.3f}"


def _lowest(metric: str) -> Callable[[], str]:
    def text() -> str:
        rows = [row for row in read("model/left-out").rows if row["figures"]]
        row = min(rows, key=lambda row: float(row[metric]))
        named = row["laboratory"].split(" | ")[:-2]  # without species and tumour
        return f"{', '.join(named)} ({float(row[metric]):.3f})"

    return text


def _met() -> str:
    short = {
        key: goal - round(float(read("model/tests").one(test_set=key[0])[key[1]]), 3) for key, goal in GOALS.items()
    }
    missed = [f"{SETS[part][0]}, {METRICS[metric]} (by {by:.3f})" for (part, metric), by in short.items() if by > 0]
    said = f"{len(GOALS) - len(missed)} of {len(GOALS)} goals are met"
    return f"{said}; missed: {'; '.join(missed)}" if missed else said


def _rounded() -> str:
    data = read("model/rounding")
    if not _same_bundle(data, read("model/tests")):
        return "a share that was not measured for this version"
    return " and ".join(
        f"{100 * float(row['decisions_changed']):.1f} % ({SETS[row['test_set']][0]})" for row in data.rows
    )


VALUES: Final[Mapping[str, Callable[[], str]]] = {
    **{f"{SETS[part][1]} {metric}": _tested(part, metric) for part in SETS for metric in METRICS},
    "weakest scanner": _scanner(min),
    "best scanner": _scanner(max),
    "gap of the worst laboratory": _gap,
    "lowest auroc": _lowest("auroc"),
    "lowest balanced accuracy": _lowest("balanced_accuracy"),
    "laboratories left out": lambda: str(len(_left_out("auroc"))),
    "goals met": _met,
    "decisions changed by rounding": _rounded,
}
"""Figures in sentences, by the name in the mark."""


def table(name: str) -> str:
    """The table of a mark."""
    return TABLES[name]() if name in TABLES else render(read(name))


def filled(text: str) -> str:
    """A page's text with its tables and values written anew.

    Raises:
        SystemExit: A mark names nothing.
    """
    text = _TABLE.sub(lambda found: f"{found[1]}\n{table(found[2])}\n{found[3]}", text)
    return _VALUE.sub(lambda found: f"{found[1]}{_value(found[2])}{found[3]}", text)


def marks(text: str) -> Iterator[str]:
    """Names of a page's tables."""
    return (found[2] for found in _TABLE.finditer(text))


def pages() -> list[Path]:
    """Pages that may have marks."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def write_pages() -> list[Path]:
    """Writes every page's tables and values anew; the pages that changed."""
    changed = []
    for path in pages():
        before = path.read_text("utf-8")
        if (after := filled(before)) != before:
            path.write_text(after, "utf-8", newline="\n")
            changed.append(path)
    return changed


def _value(name: str) -> str:
    if name not in VALUES:
        raise SystemExit(f"no value {name!r}; fix: name one of {', '.join(VALUES)}")
    return VALUES[name]()
