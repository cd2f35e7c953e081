"""Figures of a shipped model for its card and its page: ``python tools/model_report.py --write docs/results/model.md``.

``atypia-amibr`` is used as ``atypia predict`` uses it, on test sets that nothing was chosen on. Each set is scored once; its
tables, by domain too, have 95 % intervals over cases (BCa). ``atypia`` was trained on these sets: its table tells what each
of the networks that it is the mean of gave in the laboratory that it had not seen. The model's card gets the same tables.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
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
from atypia.reports.drawing.listing import columns_table
from atypia.splits.protocol import make_split
from atypia.statistics.intervals import Bootstrap, Interval, metric_intervals
from atypia.statistics.metrics import UndefinedMetricWarning, auroc
from atypia.statistics.resampling import PredictedLabels

MARK = "<!-- tables -->"
CARDS = Path(__file__).with_name("cards")
TESTED_MODEL = "atypia-amibr"
TESTED = (("ami-br", "hold-out"), ("atnorm-br", "all"))
METRICS = ("auroc", "balanced_accuracy", "sensitivity", "specificity")


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


def shown(found: Interval) -> str:
    """Estimate and interval."""
    if np.isnan(found.estimate):
        return "n/a"
    return f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def row(test: Scored, rows: npt.NDArray[np.bool_], decided: npt.NDArray[np.int8] | None = None) -> list[str]:
    """Figures and metrics of some of a set's figures, at the model's threshold or as decided."""
    y, v = test.manifest.labels[rows], test.verdicts
    predicted = PredictedLabels(v.p[rows], (v.decision if decided is None else decided)[rows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        found = metric_intervals(y, predicted, test.manifest.cases[rows], METRICS, Bootstrap(draws=2000, seed=0))
    return [f"{len(y)} ({int(y.sum())})", *(shown(found[name]) for name in METRICS)]


def tables(classifier: Classifier, tests: list[Scored]) -> list[str]:
    """Everything that the page and the card say in numbers."""
    titles = ["test set", "figures (atypical)", "AUROC", "BA", "sensitivity", "specificity"]
    everything = [np.ones(len(test.manifest), dtype=bool) for test in tests]
    out = ["At the model's threshold, one forward pass:", ""]
    rows = [[test.name, *row(test, every)] for test, every in zip(tests, everything, strict=True)]
    out += [columns_table(titles, rows).render("markdown"), "", "By scanner and centre:", ""]
    rows = []
    for test in tests:
        domains = np.array(test.manifest.column(r.DOMAIN))
        rows += [[str(domain), *row(test, domains == domain)] for domain in sorted(set(domains.tolist()))]
    out += [columns_table(["domain", *titles[1:]], rows).render("markdown"), "", "Other operating points:", ""]
    decision = classifier.members[0].decision
    rows = []
    for test, every in zip(tests, everything, strict=True):
        for point, threshold in decision.points.items():
            decided = (test.verdicts.p >= threshold).astype(np.int8)
            found = row(test, every, decided)
            rows.append([test.name, point, f"{threshold:.3f}", *found[2:]])
    titles = ["test set", "point", "threshold", "BA", "sensitivity", "specificity"]
    out += [
        columns_table(titles, rows).render("markdown"),
        "",
        "Uncertain and refused figures, and errors of the certain calls (shares of the class; refused: of all figures):",
        "",
    ]
    rows = []
    for test in tests:
        calls, y = np.array(test.verdicts.call), test.manifest.labels
        kept = (calls != UNCERTAIN) & (calls != REFUSED)
        by_class = [f"{np.mean(calls[y == label] == UNCERTAIN):.3f}" for label in (0, 1)]
        wrong = [f"{np.mean(kept[y == label] & (test.verdicts.decision[y == label] != label)):.3f}" for label in (0, 1)]
        rows.append([test.name, *by_class, *wrong, f"{np.mean(calls == REFUSED):.4f}"])
    titles = ["test set", "normal: uncertain", "atypical: uncertain", "normal: called atypical",
              "atypical: called normal", "refused"]  # fmt: skip
    return [*out, columns_table(titles, rows).render("markdown")]


def left_out_table(model: str) -> list[str]:
    """What the members gave in laboratories that each was not trained on, at the model's threshold."""
    bundle = load_bundle(find_model(model))
    rows = []
    for one in (LeftOutRecord.from_dict(values) for values in bundle.decision.fitted[LEFT_OUT_KEY]):
        normal, atypical = (np.array(values) for values in one.scores)
        labels = np.repeat([0, 1], [len(normal), len(atypical)])
        ranking = auroc(labels, np.concatenate([normal, atypical]))
        balanced = (one.sensitivity + one.specificity) / 2
        values = (ranking, balanced, one.sensitivity, one.specificity)
        count = f"{one.atypical + one.normal} ({one.atypical})"
        rows.append([one.laboratory, count, *(f"{value:.3f}" for value in values)])
    measured = np.array([[float(cell) for cell in row[2:]] for row in rows])
    rows.append(["mean over laboratories", "", *(f"{value:.3f}" for value in measured.mean(axis=0))])
    rows.append(["least in each column", "", *(f"{value:.3f}" for value in measured.min(axis=0))])
    titles = ["laboratory left out", "figures (atypical)", "AUROC", "BA", "sensitivity", "specificity"]
    return [columns_table(titles, rows).render("markdown")]


def rounding(classifier: Classifier, trained: Path, tests: list[Scored]) -> list[str]:
    """What the model's storage and arithmetic in 8-bit integers cost, against the bundle that was trained."""
    before, after = TorchRuntime(load_bundle(trained)), classifier.members[0].runtime
    lines = []
    for test in tests:
        loss = measure_loss(before, after, test.crops, test.manifest.labels)
        lines.append([test.name, f"{loss.balanced_accuracy_before:.3f}", f"{loss.balanced_accuracy:.3f}",
                      f"{loss.auroc_before:.4f}", f"{loss.auroc:.4f}", f"{loss.decisions_changed:.3f}"])  # fmt: skip
    titles = ["test set", "BA as trained", "BA as shipped", "AUROC as trained", "AUROC as shipped", "decisions changed"]
    return ["", "Effect of the 8-bit integers:", "", columns_table(titles, lines).render("markdown")]


def main() -> None:
    """Prints the tables, or writes them between the page's marks and into the model's card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=TESTED_MODEL, choices=(TESTED_MODEL, SHIPPED))
    parser.add_argument("--trained", type=Path, help="the bundle that it was made of; compared with it where given")
    parser.add_argument("--write", type=Path, help="a page with two marks")
    parser.add_argument("--card", action="store_true", help="write the model's card as well")
    asked = parser.parse_args()
    classifier = Classifier.load(asked.model, runtime="onnx")
    model = find_model(asked.model)
    tests = [scored(classifier, *which) for which in TESTED] if asked.model == TESTED_MODEL else []
    lines = tables(classifier, tests) if tests else left_out_table(asked.model)
    if asked.card:
        members = load_bundle(model).training.get("of", [])
        card = (CARDS / f"{asked.model}.md").read_text("utf-8").replace("@COUNT@", str(len(members)))
        before, _, after = card.split(MARK)
        text = "\n".join(lines)
        (model / CARD_FILE).write_text(f"{before}{text}\n{after}", "utf-8")
        write_hashes(model)
    text = "\n".join([*lines, *(rounding(classifier, asked.trained, tests) if asked.trained and tests else ())])
    if asked.write is None:
        sys.stdout.write(text + "\n")
        return
    mark = f"<!-- {asked.model} -->"
    before, _, after = asked.write.read_text("utf-8").split(mark)
    asked.write.write_text(f"{before}{mark}\n{text}\n{mark}{after}", "utf-8")


if __name__ == "__main__":
    main()
