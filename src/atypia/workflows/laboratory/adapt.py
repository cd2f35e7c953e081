"""A classifier fine-tuned on one's own figures, kept only where it does better on cases left out.

    from atypia.workflows.laboratory.adapt import adapt

    found = adapt("atypia", "my.csv", "runs/adapt")
    print(found.to_text())

Three things hold it back from forgetting: few small steps; distillation to the initial model on the same crops (Li and
Hoiem, Learning without Forgetting, ECCV 2016); and weights between the initial and the tuned ones (Wortsman et al., Robust
fine-tuning of zero-shot models, CVPR 2022), whose share is chosen on cases left out. The network that is written has the
mean of the folds' weights (Wortsman et al., Model soups, ICML 2022), so that every figure has taught it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base import runs
from atypia.base.artifacts import write_json
from atypia.base.errors import InputError, must
from atypia.base.process.progress import Progress, silent
from atypia.data.audit.findings import ERROR, check_codes
from atypia.data.audit.pairs import pair_findings
from atypia.data.crops.store import CropStore, open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.evaluation.external import check_set, open_target
from atypia.evaluation.fitted import ADAPTED, CV, HASHES, figure_hashes
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.bundles.calibration import Floats
from atypia.inference.classifier import find_model
from atypia.inference.export.compact import whole
from atypia.inference.export.derived import check_new
from atypia.methods.network import NetworkSpec
from atypia.splits.protocol import make_split
from atypia.splits.split import Split
from atypia.statistics.intervals import Bootstrap, Interval, difference_intervals, metric_intervals
from atypia.statistics.metrics import UndefinedMetricWarning
from atypia.statistics.resampling import PredictedLabels
from atypia.training.recipe import load_recipe, renewed_key
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest
from atypia.workflows.laboratory.own_figures import made_from, readable, without_copies
from atypia.workflows.laboratory.reasons import LEVEL, SetVerdicts, harm, judged, reason_to_stay, refusals
from atypia.workflows.laboratory.sets import PHANTOM, KeptSet, open_to_keep, own_geometry
from atypia.workflows.laboratory.told import given, interval_values, table_text
from atypia.workflows.laboratory.weights import between, drift, mean_of

METRICS: Final = ("balanced_accuracy", "sensitivity", "specificity", "auroc")
SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the tuned weights; 0 is the initial model."""
LEAST: Final = 10
"""Figures of either class that it takes."""
OF_MODEL: Final = frozenset(
    {"adaptation", "backbone", "decision", "geometry", "head", "init", "input_px", "threshold", "view"}
)
"""Keys of the recipe that the initial model decides."""
REPORT: Final = "adaptation.json"


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What adaptation gave on cases left out.

    Attributes:
        model: The initial model.
        data: The figures' name.
        figures: Normal and atypical ones.
        cases: Their cases.
        before: Metrics of the initial model, with 95 % intervals over cases.
        after: Of the adapted ones, each case by a network that did not learn from it, with a share of the tuned weights
            that the other folds chose.
        gain: Paired differences «after − before».
        share: Share of the tuned weights that all folds together choose.
        drift: Distance of the new weights from the initial ones, as a share of these.
        written: What the initial network and the mean of the folds' weights, which is written, make of all figures.
        forgotten: Gain in balanced accuracy and AUROC on the set that is to be kept; empty where none was named.
        kept: Why the initial model stays; None where the new one is written.
        out: The adapted bundle; None where the initial model stays.
        notes: What was left out, and warnings of the training.
    """

    model: str
    data: str
    figures: tuple[int, int]
    cases: int
    before: Mapping[str, Interval]
    after: Mapping[str, Interval]
    gain: Mapping[str, Interval]
    share: float
    drift: float
    written: tuple[SetVerdicts, SetVerdicts]
    forgotten: Mapping[str, Interval]
    kept: str | None
    out: Path | None
    notes: tuple[str, ...]

    def to_text(self) -> str:
        """What a person reads."""
        lines = [
            f"{self.model} adapted to {self.data}: {given(self.figures, self.cases)}",
            *table_text(
                ("cases left out", "as it was", "adapted", "difference"), METRICS, (self.before, self.after, self.gain)
            ),
            f"share of the tuned weights {self.share:g}; all weights moved by {self.drift:.2%}",
        ]
        if self.share:
            first, new = self.written
            lines.append(
                f"all figures, by the weights that all folds make: balanced accuracy {new.balanced_accuracy:.3f}, "
                f"{new.refused} refused; as it was {first.balanced_accuracy:.3f}, {first.refused}"
            )
        if self.forgotten:
            lines += table_text(("set to keep", "difference"), ("balanced_accuracy", "auroc"), (self.forgotten,))
        else:
            lines.append(
                "what it forgets elsewhere was not measured: name a labelled set of other laboratories with --keep, or "
                f"--keep {PHANTOM} where none is at hand"
            )
        lines.append(f"adapted: {self.out}" if self.kept is None else f"kept as it was: {self.kept}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; NaN becomes null."""
        values: dict[str, Any] = {
            key: getattr(self, key) for key in ("model", "data", "cases", "share", "drift", "kept", "notes")
        }
        for key in ("before", "after", "gain", "forgotten"):
            values[key] = interval_values(getattr(self, key))
        values["all_figures"] = {
            name: one._asdict() for name, one in zip(("before", "after"), self.written, strict=True)
        }
        out = None if self.out is None else str(self.out)
        return {**values, "figures": dict(zip(("normal", "atypical"), self.figures, strict=True)), "out": out}


@dataclass(frozen=True, eq=False)
class _Begin:
    """The initial model, all its weights in it, how its crops are cut from these figures, and their hashes."""

    path: Path
    bundle: Bundle
    spec: NetworkSpec
    geometry: CropGeometry
    hashes: list[str]


def adapt(
    init: str | Path,
    data: str,
    out: str | Path,
    *,
    folds: int = 3,
    overrides: Sequence[str] = (),
    keep: str | None = None,
    seed: int = 0,
    allow: Iterable[str] = (),
    device: str = "auto",
    root: Path | None = None,
    progress: Progress = silent,
) -> Adaptation:
    """Fine-tunes a model on one's own figures and keeps it as it was where that does not help on cases left out.

    Args:
        init: A shipped model's name or the bundle of a network.
        data: Labelled figures; one network is tuned for each fold of their cases.
        out: Folder: ``cross-validation/`` (the folds, continued by the same call), ``adaptation.json``, ``bundle/``.
        folds: Parts of the cases, from 2.
        overrides: Changes of the recipe ``adapt``, ``key=value``, also of its distillation (``terms.distillation.weight=2``);
            none of :data:`OF_MODEL`.
        keep: Labelled data of other laboratories on which nothing may be lost
            (:data:`~atypia.workflows.laboratory.reasons.MOST_FORGOTTEN`); :data:`PHANTOM` for rendered figures, where no
            images of other laboratories are at hand.
        seed: Of folds, training and intervals.
        allow: Leakage findings that are named as exceptions.
        device: ``auto``, ``cpu`` or ``cuda``.
        root: Data root.
        progress: Told about crops and epochs.

    Raises:
        InputError: No finding has a code of ``allow``, an override is of what the model decides, the model is a probe, there are fewer than :data:`LEAST` figures of a class or too few cases, µm/px is
            known of some crops alone, or the set to keep has one class alone.
        DataError: A figure has no label, or none gives a crop.
        LeakageError: The initial model was trained on these figures, or adapted to them.
    """
    folder = Path(out)
    check_new(folder / runs.BUNDLE)
    path = find_model(init)
    first = load_bundle(path)
    if first.network is None:
        raise InputError(must("init", "a network", f"{first.name}, a probe", "train the probe again on all figures"))
    allowed = check_codes(allow)
    _check_overrides(overrides)
    manifest, notes = without_copies(open_data(data, root), progress)
    _check_enough(manifest)
    geometry = own_geometry(first, manifest)
    to_keep = None if keep is None else open_to_keep(first, keep, root, progress)
    checked = check_set(open_target(path), manifest, allowed, progress, own_crops=True)
    usable = np.flatnonzero((own := open_store(manifest, geometry, progress=progress)).usable)
    hashes = figure_hashes(checked.store, usable[checked.store.usable[usable]])
    manifest, lost = readable(manifest, own)
    _check_enough(manifest)
    notes = (*notes, *checked.warnings, *lost)
    if to_keep is not None:
        notes = (*notes, *_shared(manifest, to_keep.manifest, root))
    bundle = whole(first)
    assert bundle.network is not None
    begin = _Begin(path, bundle, NetworkSpec.from_dict(bundle.network), geometry, hashes)
    recipe = _recipe(begin, overrides)
    split = make_split("kfold", manifest, seed, folds=folds)
    job = TrainingRequest(
        "adapt", recipe, manifest, split, folder / CV, seed, (*allowed, "unknown-teacher"), None, (), device
    )
    notes = (*notes, *(text for text in train(job, progress).warnings if "unknown-teacher" not in text))
    return _judged(begin, job, split, to_keep, progress, notes)


def _shared(manifest: Manifest, kept: Manifest, root: Path | None) -> list[str]:
    """That figures are in both sets: what was learned cannot show what is forgotten."""
    found = [one.message for one in pair_findings(manifest, kept, None, root) if one.severity == ERROR]
    return [f"the set to keep is to be of other laboratories: {message}" for message in found]


def _check_enough(manifest: Manifest) -> None:
    labels = manifest.labels
    counts = (int(np.count_nonzero(labels == 0)), int(np.count_nonzero(labels == 1)))
    if min(counts) < LEAST:
        got = f"{counts[0]} normal, {counts[1]} atypical"
        raise InputError(must("figures", f"at least {LEAST} of either class", got, "label more, or use calibrate"))


def _check_overrides(overrides: Sequence[str]) -> None:
    """Refuses a change of what the initial model decides: it would be without effect, or no longer be this model."""
    changed = {renewed_key(one).partition("=")[0].partition(".")[0] for one in overrides}
    if taken := sorted(changed & OF_MODEL):
        got, fix = ", ".join(taken), "leave it out, or train anew: `atypia train RECIPE`"
        raise InputError(must("--set with --init", "of what the initial model does not decide", got, fix))


def _recipe(begin: _Begin, overrides: Sequence[str]) -> Any:
    spec, cut = begin.spec, begin.geometry
    side = {} if cut.side_um is None else {"side_um": cut.side_um}
    side |= {} if cut.side_px is None else {"side_px": cut.side_px}
    where = str(begin.path.resolve())
    teacher = {"weight": 1.0, "temperature": 2.0, "warmup_epochs": 0.0, "teachers": [where]}
    distillation = f"terms.distillation={json.dumps(teacher, ensure_ascii=False)}"  # JSON is YAML
    _, recipe = load_recipe("adapt", [distillation, *overrides])
    values = recipe.model_dump(mode="json")
    values |= {
        "backbone": spec.backbone,
        "input_px": spec.input_px,
        "view": spec.view,
        "geometry": {"out_px": cut.out_px, **side, **({} if cut.stain is None else {"stain": cut.stain})},
        "head": {"hidden": list(spec.hidden), "dropout": spec.dropout},
        "init": where,
    }
    return type(recipe).model_validate(values)


def _judged(
    begin: _Begin, job: TrainingRequest, split: Split, to_keep: KeptSet | None, progress: Progress, notes: tuple[str, ...]
) -> Adaptation:  # fmt: skip
    manifest, tuned = job.manifest, [load_bundle(job.out / fold.name / runs.BUNDLE) for fold in split.folds]
    store, every = open_store(manifest, begin.geometry), np.arange(len(manifest))
    parts = [manifest.rows_of(fold.val) for fold in split.folds]
    initial = _outputs(begin.bundle, store, every, job.device)
    found: dict[float, list[Floats]] = {}
    for done, share in enumerate(SHARES):
        found[share] = [
            _outputs(between(begin.bundle, bundle, share), store, rows, job.device)[0] if share else initial[0][rows]
            for bundle, rows in zip(tuned, parts, strict=True)
        ]
        progress(done + 1, len(SHARES), "shares of the tuned weights compared")
    rows = np.concatenate(parts)
    labels, cases = manifest.labels[rows] == 1, manifest.cases[rows]
    chosen = [_best_share(found, parts, manifest.labels, without=fold) for fold in range(len(parts))]
    decision = begin.bundle.decision
    one = _predicted(decision, np.concatenate(found[0.0]))
    two = _predicted(decision, np.concatenate([found[share][fold] for fold, share in enumerate(chosen)]))
    share = _best_share(found, parts, manifest.labels)
    final = between(begin.bundle, mean_of(tuned), share)
    gain = _differences(labels, two, one, cases, METRICS, job.seed)
    written = (
        judged(decision.apply(*initial), manifest.labels),
        judged(decision.apply(*_outputs(final, store, every, job.device)), manifest.labels),
    )
    forgotten, refused = ({}, None) if to_keep is None else _forgotten((begin.bundle, final), to_keep, job)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        before, after = (metric_intervals(labels, p, cases, METRICS, Bootstrap(seed=job.seed)) for p in (one, two))
        sure = difference_intervals(labels, two, one, cases, METRICS[:1], Bootstrap(level=LEVEL, seed=job.seed))
    kept = reason_to_stay(sure[METRICS[0]], share, forgotten) or refused or harm(*written)
    out = None if kept is not None else job.out.parent / runs.BUNDLE
    report = Adaptation(
        begin.bundle.name,
        manifest.name,
        (int(np.count_nonzero(~labels)), int(np.count_nonzero(labels))),
        len(np.unique(cases)),
        before,
        after,
        gain,
        share,
        drift(begin.bundle, final),
        written,
        forgotten,
        kept,
        out,
        notes,
    )
    if out is not None:
        earlier = begin.bundle.training.get(ADAPTED, {}).get(HASHES, ())  # of a model that was adapted before
        learned = sorted({*begin.hashes, *earlier})
        facts = {**made_from(begin.bundle, manifest), "share": share, HASHES: learned}
        replace(final, name=f"{begin.bundle.name}-adapted", training={**final.training, ADAPTED: facts}).save(out)
    write_json(job.out.parent / REPORT, report.as_dict())
    return report


def _outputs(bundle: Bundle, store: CropStore, rows: npt.NDArray[np.int64], device: str) -> tuple[Floats, Floats]:
    """A network's logits and features."""
    from atypia.inference.networks import device_of
    from atypia.inference.runtimes.torch_runtime import TorchRuntime

    logits, features = TorchRuntime(bundle, None, device_of(device)).run_rows(store.crops, rows)
    return logits.astype(np.float64), features.astype(np.float64)


def _best_share(
    found: Mapping[float, Sequence[Floats]], parts: Sequence[npt.NDArray[np.int64]], labels: npt.NDArray[np.int8],
    without: int | None = None,
) -> float:  # fmt: skip
    """The share with the least log loss over the folds, classes weighted alike; the smallest of equals."""
    folds = [i for i in range(len(parts)) if i != without]
    y = np.concatenate([labels[parts[i]] for i in folds]) == 1

    def loss(share: float) -> float:
        z = np.concatenate([found[share][i] for i in folds])
        lost = np.logaddexp(0, np.where(y, -z, z))
        return float(np.mean(lost[y]) + np.mean(lost[~y]))

    return min(found, key=lambda share: (round(loss(share), 6), share))


def _predicted(decision: Any, logits: Floats) -> PredictedLabels:
    verdicts = decision.apply(logits)
    return PredictedLabels(verdicts.p, verdicts.decision)


def _differences(
    labels: npt.NDArray[np.bool_], two: PredictedLabels, one: PredictedLabels, cases: npt.NDArray[np.str_], names: Sequence[str], seed: int
) -> dict[str, Interval]:  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # shown as –
        return difference_intervals(labels, two, one, cases, names, Bootstrap(seed=seed))


def _forgotten(
    pair: tuple[Bundle, Bundle], kept: KeptSet, job: TrainingRequest
) -> tuple[dict[str, Interval], str | None]:
    """Gains on the set to keep, and that much more of it is refused."""
    manifest = kept.manifest.take(kept.rows)
    decision = pair[0].decision
    verdicts = [decision.apply(*_outputs(bundle, kept.store, kept.rows, job.device)) for bundle in pair]
    one, two = (PredictedLabels(v.p, v.decision) for v in verdicts)
    gain = _differences(manifest.labels == 1, two, one, manifest.cases, ("balanced_accuracy", "auroc"), job.seed)
    was, new = (judged(v, manifest.labels) for v in verdicts)
    return gain, refusals(was, new, "the set to keep's")
