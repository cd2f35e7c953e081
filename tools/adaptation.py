"""Tables of trained folds for the documentation: ``python tools/adaptation.py RUNS… --write``.

Everything is computed from the predictions that training and ``atypia evaluate`` wrote: at the recipe's
threshold, and at the threshold of the best balanced accuracy on each fold's own validation figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from documentation.datafiles import write
from documentation.taking import take
from documentation.views import write_pages

from atypia.base import records as r
from atypia.base import runs
from atypia.base.artifacts import read_json
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.bundles.operating import balanced_point
from atypia.inference.predictions import read_predictions
from atypia.reports.drawing.listing import columns_table
from atypia.statistics import metrics
from atypia.statistics.differences.crossvalidation import mean_sd

Part = tuple[npt.NDArray[np.int8], npt.NDArray[np.float64], list[str]]


def parts_of(table: Mapping[str, list[object]]) -> dict[tuple[str, str], Part]:
    """Labels, probabilities and domains of each data set and part."""
    keys = list(zip(table[r.DATASET], table[r.PART], strict=True))
    found = {}
    for key in dict.fromkeys(keys):
        rows = [i for i, other in enumerate(keys) if other == key]
        y = np.array([table[r.LABEL][i] for i in rows], dtype=np.int8)
        p = np.array([table[r.P_ATYPICAL][i] for i in rows], dtype=np.float64)
        found[str(key[0]), str(key[1])] = (y, p, [str(table[r.DOMAIN][i]) for i in rows])
    return found


def folds_of(run: Path) -> dict[str, dict[tuple[str, str], Part]]:
    """For each fold of a training everything that its classifier predicted."""
    found = {}
    for folder in sorted(path.parent for path in run.glob(f"*/{runs.RUN}")):
        parts = parts_of(read_predictions(folder / runs.PREDICTIONS)[0].to_pydict())
        for file in sorted(run.glob(f"{runs.EVALUATIONS}/*/{folder.name}.parquet")):
            parts |= parts_of(read_predictions(file)[0].to_pydict())
        found[folder.name] = parts
    return found


def shown(values: Sequence[float]) -> str:
    """Mean ± population standard deviation."""
    found = mean_sd(values, ddof=0)
    return f"{found.mean:.3f} ± {found.sd:.3f}"


def rows_of(run: Path) -> list[list[str]]:
    """A row a data set and part: five folds' mean and spread, and the folds' mean probability."""
    folds = folds_of(run)
    bundle = load_bundle(run / next(iter(folds)) / runs.BUNDLE)
    name = f"{bundle.training['recipe']}, {bundle.backbone}, {bundle.input_px} px"
    chosen = {
        fold: next(balanced_point(y, p).threshold for (_, part), (y, p, _) in parts.items() if part == runs.VALIDATION)
        for fold, parts in folds.items()
    }
    out = []
    for key in next(iter(folds.values())):
        parts = [(fold, *found[key][:2]) for fold, found in folds.items()]
        ba = [metrics.balanced_accuracy(y, (p >= bundle.threshold).astype(np.int8)) for _, y, p in parts]
        fitted = [metrics.balanced_accuracy(y, (p >= chosen[fold]).astype(np.int8)) for fold, y, p in parts]
        auroc = [metrics.auroc(y, p) for _, y, p in parts]
        validation = key[1] == runs.VALIDATION
        together = ["", ""] if validation else _together([(y, p) for _, y, p in parts], list(chosen.values()))
        out.append([name, *key, shown(auroc), shown(ba), "" if validation else shown(fitted), *together])
    return out


def _together(
    parts: Sequence[tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]]], thresholds: Sequence[float]
) -> list[str]:
    """AUROC of the folds' mean probability, and balanced accuracy at the mean of their thresholds."""
    p, y = np.mean([p for _, p in parts], axis=0), parts[0][0]
    decided = (p >= np.mean(thresholds)).astype(np.int8)
    return [f"{metrics.auroc(y, p):.3f}", f"{metrics.balanced_accuracy(y, decided):.3f}"]


def domain_rows(run: Path) -> list[list[str]]:
    """A row a domain of the test parts: figures, and mean over the folds at their own thresholds."""
    folds = folds_of(run)
    bundle = load_bundle(run / next(iter(folds)) / runs.BUNDLE)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    counts: dict[tuple[str, str], str] = {}
    for parts in folds.values():
        threshold = next(balanced_point(y, p).threshold for (_, k), (y, p, _) in parts.items() if k == runs.VALIDATION)
        for (dataset, part), (y, p, domains) in parts.items():
            if part == runs.VALIDATION:
                continue
            for domain in sorted(set(domains)):
                chosen = np.array([d == domain for d in domains])
                key = (dataset, domain)
                decided = (p[chosen] >= threshold).astype(np.int8)
                pair = (metrics.auroc(y[chosen], p[chosen]), metrics.balanced_accuracy(y[chosen], decided))
                found.setdefault(key, []).append(pair)
                counts[key] = f"{chosen.sum()} ({int(y[chosen].sum())})"
    return [
        [str(bundle.training["recipe"]), *key, counts[key], *(shown([pair[i] for pair in pairs]) for i in (0, 1))]
        for key, pairs in found.items()
    ]


def tables(folders: Sequence[Path]) -> dict[str, str]:
    """Both tables as Markdown, by the names of their data files."""
    titles = ["recipe", "data", "part", "AUROC", "BA at 0.5", "BA at the validation threshold", "AUROC, mean of folds",
              "BA, mean of folds"]  # fmt: skip
    recipes = columns_table(titles, [row for run in folders for row in rows_of(run)])
    titles = ["recipe", "data", "domain", "figures (atypical)", "AUROC", "BA at the validation threshold"]
    domains = columns_table(titles, [row for run in folders for row in domain_rows(run)])
    return {"adaptation/recipes": recipes.render("markdown"), "adaptation/domains": domains.render("markdown")}


def facts_of(folders: Sequence[Path]) -> dict[str, str]:
    """Wall times, and the versions of the first run."""
    times = []
    for run in folders:
        seconds = [read_json(path)["seconds"] for path in sorted(run.glob(f"*/{runs.RUN}"))]
        times.append(f"{run.name} {', '.join(f'{value / 60:.0f}' for value in seconds)} min")
    versions = read_json(next(iter(sorted(folders[0].glob(f"*/{runs.ENVIRONMENT}")))))
    known = [f"{name} {versions[name]}" for name in ("python", "torch", "timm", "peft") if name in versions]
    return {"wall_time": "; ".join(times), "versions": ", ".join(known)}


def main() -> None:
    """Prints the tables, or writes them as data and into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--write", action="store_true", help="write docs/results/data/adaptation and the page")
    asked = parser.parse_args()
    found = tables(asked.runs)
    if not asked.write:
        sys.stdout.write("\n".join(found.values()))
        return
    facts: dict[str, Any] = {"seed": "0", "date": datetime.now(UTC).date().isoformat(), "origin": "written by the command",
             "command": f"python tools/adaptation.py {' '.join(map(str, asked.runs))} --write", **facts_of(asked.runs)}  # fmt: skip
    for name, text in found.items():
        columns, rows = take(text)
        write(name, columns, rows, of="adapted networks, five folds each", **facts)
    write_pages()


if __name__ == "__main__":
    main()
