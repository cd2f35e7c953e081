"""Figures of a shipped model for its card and the pages: ``python tools/model_report.py --model atypia-amibr --card``.

``atypia-amibr`` is used as ``atypia predict`` uses it, on test sets that nothing was chosen on. Each set is scored once; its
tables, by domain too, have 95 % intervals over cases (BCa). ``atypia`` was trained on these sets: its table tells what each
of the networks that it is the mean of gave in the laboratory that it had not seen. The figures go into
``docs/results/data/model``; from there into every page that shows them, and into the model's card.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from documentation.board import add_model, add_raters
from documentation.datafiles import UNKNOWN, Shown, read, render, write
from documentation.views import write_pages

from atypia.base import records as r
from atypia.base.artifacts import environment
from atypia.data.crops.store import open_store
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.bundles.decision import REFUSED, UNCERTAIN, Verdicts
from atypia.inference.bundles.integrity import CARD_FILE, write_hashes
from atypia.inference.bundles.left_out import LEFT_OUT_KEY, LeftOutRecord
from atypia.inference.classifier import SHIPPED, Classifier, find_model
from atypia.inference.export.quantise import measure_loss
from atypia.inference.runtimes.torch_runtime import TorchRuntime
from atypia.splits.protocol import make_split
from atypia.statistics.intervals import Bootstrap, metric_intervals
from atypia.statistics.metrics import UndefinedMetricWarning, auroc
from atypia.statistics.resampling import PredictedLabels

MARK = "<!-- tables -->"
CARDS = Path(__file__).with_name("cards")
TESTED_MODEL = "atypia-amibr"
TESTED = (("ami-br", "hold-out"), ("atnorm-br", "all"))
METRICS = {"auroc": "AUROC", "balanced_accuracy": "BA", "sensitivity": "sensitivity", "specificity": "specificity"}
TEST_SET = Shown(title="test set", cell="{test_set}")
FIGURES = Shown(title="figures (atypical)", cell="{figures} ({atypical})")
INTERVALS = [
    Shown(title=title, cell=f"{{{name}:.3f}} [{{{name}_low:.3f}}, {{{name}_high:.3f}}]")
    for name, title in METRICS.items()
]
ROUNDING = {
    "balanced_accuracy_trained": ("BA as trained", 3),
    "balanced_accuracy": ("BA as shipped", 3),
    "auroc_trained": ("AUROC as trained", 4),
    "auroc": ("AUROC as shipped", 4),
    "decisions_changed": ("decisions changed", 3),
}
UNCERTAIN_SAID = (
    "Uncertain and refused figures, and errors of the certain calls (shares of the class; refused: of all figures)"
)


@dataclass(frozen=True, eq=False)
class Scored:
    """A test part and what the model says of it."""

    name: str
    manifest: Manifest
    crops: npt.NDArray[np.uint8]
    verdicts: Verdicts


def scored(classifier: Classifier, name: str, part: str) -> Scored:
    """A test set, scored; of AMi-Br the published hold-out alone."""
    manifest = open_data(name)
    if part == "hold-out":
        (fold,) = make_split("final", manifest).folds
        manifest = manifest.take(manifest.rows_of(fold.test))
    store = open_store(manifest, classifier.geometry)
    crops = np.ascontiguousarray(store.crops[np.arange(len(manifest))])
    return Scored(f"{name}, {part}", manifest, crops, classifier.judge(crops))


def measured(test: Scored, rows: npt.NDArray[np.bool_], decided: npt.NDArray[np.int8] | None = None) -> dict[str, str]:
    """Counts and metrics with intervals of some of a set's figures, at the model's threshold or as decided."""
    y, v = test.manifest.labels[rows], test.verdicts
    predicted = PredictedLabels(v.p[rows], (v.decision if decided is None else decided)[rows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        found = metric_intervals(y, predicted, test.manifest.cases[rows], METRICS, Bootstrap(draws=2000, seed=0))
    row = {"figures": str(len(y)), "atypical": str(int(y.sum()))}
    for name, one in found.items():
        row |= {name: number(one.estimate), f"{name}_low": number(one.low), f"{name}_high": number(one.high)}
    return row


def number(value: float, digits: int = 6) -> str:
    """A figure of a data file; empty where it is undefined."""
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def tables(classifier: Classifier, tests: list[Scored], facts: dict[str, Any]) -> None:
    """Writes everything that the page and the card say in numbers."""
    everything = [np.ones(len(test.manifest), dtype=bool) for test in tests]
    rows = [{"test_set": test.name, **measured(test, every)} for test, every in zip(tests, everything, strict=True)]
    write("model/tests", [TEST_SET, FIGURES, *INTERVALS], rows, of="metrics on the test sets", **facts)
    rows = []
    for test in tests:
        domains = np.array(test.manifest.column(r.DOMAIN))
        rows += [{"test_set": test.name, "domain": str(domain), **measured(test, domains == domain)}
                 for domain in sorted(set(domains.tolist()))]  # fmt: skip
    columns = [Shown(title="domain", cell="{domain}"), FIGURES, *INTERVALS]
    write("model/domains", columns, rows, of="metrics by scanner and centre", **facts)
    agreement_table(tests, facts)
    decision = classifier.members[0].decision
    rows = []
    for test, every in zip(tests, everything, strict=True):
        for point, threshold in decision.points.items():
            found = measured(test, every, (test.verdicts.p >= threshold).astype(np.int8))
            rows.append({"test_set": test.name, "point": point, "threshold": number(threshold), **found})
    columns = [TEST_SET, Shown(title="point", cell="{point}"), Shown(title="threshold", cell="{threshold:.3f}"),
               *INTERVALS[1:]]  # fmt: skip
    write("model/points", columns, rows, of="other operating points", **facts)
    rows = []
    for test in tests:
        calls, y = np.array(test.verdicts.call), test.manifest.labels
        kept = (calls != UNCERTAIN) & (calls != REFUSED)
        row = {"test_set": test.name}
        for label, name in ((0, "normal"), (1, "atypical")):
            wrong = kept[y == label] & (test.verdicts.decision[y == label] != label)
            row |= {f"{name}_uncertain": number(float(np.mean(calls[y == label] == UNCERTAIN))),
                    f"{name}_wrong": number(float(np.mean(wrong)))}  # fmt: skip
        rows.append({**row, "refused": number(float(np.mean(calls == REFUSED)))})
    columns = [TEST_SET, Shown(title="normal: uncertain", cell="{normal_uncertain:.3f}"),
               Shown(title="atypical: uncertain", cell="{atypical_uncertain:.3f}"),
               Shown(title="normal: called atypical", cell="{normal_wrong:.3f}"),
               Shown(title="atypical: called normal", cell="{atypical_wrong:.3f}"),
               Shown(title="refused", cell="{refused:.4f}")]  # fmt: skip
    write("model/uncertain", columns, rows, of="uncertain and refused figures, and errors of certain calls", **facts)


def agreement_table(tests: list[Scored], facts: dict[str, Any]) -> None:
    """Writes the metrics on figures on which all raters agree, and on the others; of sets with several raters."""
    rows = []
    for test in tests:
        if not (np.array(test.manifest.column(r.N_RATERS)) > 1).all():
            continue
        alike = np.isin(test.manifest.column(r.SOFT_LABEL), (0.0, 1.0))
        for title, chosen in (("agree", alike), ("do not", ~alike)):
            rows.append({"test_set": test.name, "raters": title, **measured(test, chosen)})
    columns = [TEST_SET, Shown(title="raters", cell="{raters}"), FIGURES, *INTERVALS]
    write("model/agreement", columns, rows, of="metrics by whether all raters agree", **facts)


def left_out_table(model: str, facts: dict[str, Any]) -> None:
    """Writes what the members gave in laboratories that each was not trained on, at the model's threshold."""
    bundle = load_bundle(find_model(model))
    rows = []
    for one in (LeftOutRecord.from_dict(values) for values in bundle.decision.fitted[LEFT_OUT_KEY]):
        normal, atypical = (np.array(values) for values in one.scores)
        labels = np.repeat([0, 1], [len(normal), len(atypical)])
        ranking = auroc(labels, np.concatenate([normal, atypical]))
        values = (ranking, (one.sensitivity + one.specificity) / 2, one.sensitivity, one.specificity)
        counts = {"figures": str(one.atypical + one.normal), "atypical": str(one.atypical)}
        rows.append({"laboratory": one.laboratory, **counts, **dict(zip(METRICS, map(number, values), strict=True))})
    values = np.array([[float(row[name]) for name in METRICS] for row in rows])
    for name, found in (("mean over laboratories", values.mean(axis=0)), ("least in each column", values.min(axis=0))):
        summary = dict(zip(METRICS, map(number, found), strict=True))
        rows.append({"laboratory": name, "figures": "", "atypical": "", **summary})
    columns = [Shown(title="laboratory left out", cell="{laboratory}"), FIGURES,
               *(Shown(title=title, cell=f"{{{name}:.3f}}") for name, title in METRICS.items())]  # fmt: skip
    write("model/left-out", columns, rows, of="laboratories left out of one member's training each", **facts)


def rounding(classifier: Classifier, trained: Path, tests: list[Scored], facts: dict[str, Any]) -> None:
    """Writes what the model's storage and arithmetic in 8-bit integers cost, against the bundle that was trained."""
    before, after = TorchRuntime(load_bundle(trained)), classifier.members[0].runtime
    rows = []
    for test in tests:
        loss = measure_loss(before, after, test.crops, test.manifest.labels)
        values = (loss.balanced_accuracy_before, loss.balanced_accuracy, loss.auroc_before, loss.auroc,
                  loss.decisions_changed)  # fmt: skip
        rows.append({"test_set": test.name, **dict(zip(ROUNDING, map(number, values), strict=True))})
    columns = [
        TEST_SET,
        *(Shown(title=title, cell=f"{{{name}:.{digits}f}}") for name, (title, digits) in ROUNDING.items()),
    ]
    write("model/rounding", columns, rows, of="effect of the 8-bit integers", **facts)


def card_tables(model: str) -> str:
    """The tables of a model's card, from the data files."""
    if model == SHIPPED:
        return render(read("model/left-out"))
    parts = (("At the model's threshold, one forward pass:", "tests"), ("By scanner and centre:", "domains"),
             ("Other operating points:", "points"), (f"{UNCERTAIN_SAID}:", "uncertain"))  # fmt: skip
    return "\n\n".join(f"{said}\n\n{render(read(f'model/{name}'))}" for said, name in parts)


def main() -> None:
    """Measures, writes the data files, and from them the model's card and every page that shows them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=TESTED_MODEL, choices=(TESTED_MODEL, SHIPPED))
    parser.add_argument("--trained", type=Path, help="the bundle that it was made of; compared with it where given")
    parser.add_argument("--write", help="a page: as before data files are written and every page that shows them")
    parser.add_argument("--card", action="store_true", help="write the model's card as well")
    asked = parser.parse_args()
    began = time.perf_counter()
    classifier = Classifier.load(asked.model, runtime="onnx")
    model = find_model(asked.model)
    bundle = load_bundle(model)
    tests = [scored(classifier, *which) for which in TESTED] if asked.model == TESTED_MODEL else []
    inputs = [f"bundle {bundle.fingerprint[:12]}", *(f"{one.name} {one.manifest.fingerprint[:12]}" for one in tests)]
    versions = {**environment(), "onnxruntime": version("onnxruntime")}
    facts = {
        "command": f"python tools/model_report.py --model {asked.model}",
        "seed": "0 (bootstrap)" if tests else "none is drawn",
        "versions": ", ".join(f"{name} {versions[name]}" for name in ("python", "atypia", "numpy", "onnxruntime")),
        "inputs": "; ".join(inputs),
        "date": datetime.now(UTC).date().isoformat(),
        "origin": "written by the command",
    }
    if tests:
        tables(classifier, tests, facts | {"wall_time": f"{time.perf_counter() - began:.0f} s with scoring"})
        for test in tests:
            add_model(
                test.manifest, test.verdicts.p, bundle.threshold, bundle.fingerprint, asked.model, facts["command"]
            )
        add_raters(tests[0].manifest, facts["command"])
        if asked.trained:
            facts["command"] += " --trained RUN"
            rounding(classifier, asked.trained, tests, facts | {"wall_time": UNKNOWN})
    else:
        left_out_table(asked.model, facts | {"wall_time": f"{time.perf_counter() - began:.0f} s"})
    if asked.card:
        card = (CARDS / f"{asked.model}.md").read_text("utf-8")
        for said, key in (("@COUNT@", "of"), ("@JUDGES@", "decided_by")):
            card = card.replace(said, str(len(bundle.training[key])))
        before, _, after = card.split(MARK)
        (model / CARD_FILE).write_text(f"{before}{card_tables(asked.model)}\n{after}", "utf-8")
        write_hashes(model)
    for page in write_pages():
        sys.stdout.write(f"{page}\n")


if __name__ == "__main__":
    main()
