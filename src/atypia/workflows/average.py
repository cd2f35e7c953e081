"""The folds of a training made one classifier, by the mean of their weights: what ``atypia average`` does.

    averaged = average(["runs/labs"], "runs/average")
    print(averaged.to_text())              # the laboratories left out, and the decision that follows from them
    atypia.Classifier.load("runs/average")

With folds of protocol ``lodo`` no figure that chose a weight or an epoch has a part in the decision: each laboratory is
scored by the classifier that never saw it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import DataError, InputError, count_noun, must
from atypia.base.process.progress import Progress, silent
from atypia.base.seeds import generator
from atypia.data.audit.contamination import PARTS_KEY, published_parts
from atypia.data.crops.store import CropStore, open_store
from atypia.data.manifest import Manifest
from atypia.evaluation.laboratories import left_out, prior_of
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.bundles.decision import DEFAULT_COVERAGE, Decision, Verdicts, fit_decision
from atypia.inference.bundles.laboratory import LABORATORIES_KEY, prior_as_dict
from atypia.inference.bundles.left_out import LEFT_OUT_KEY, LeftOutRecord, recorded
from atypia.inference.bundles.novelty import fit_novelty
from atypia.inference.bundles.training_look import LOOK_KEY, look_at
from atypia.inference.export.average import average_bundles, check_alike, rescaled
from atypia.inference.export.derived import check_new
from atypia.inference.predictions import read_predictions
from atypia.splits.split import Split

SCALED_ON: Final = 512
"""Figures on which the scale of the average's logits is measured."""
ROWS_READ: Final = 512
"""Stored crops that are read at once."""
PARTS: Final = (runs.TEST, runs.VALIDATION)
DECIDE_ON_VALIDATION: Final = "pass --decide-on validation (part='val')"
AVERAGE: Final = "average"
"""Recipe that an averaged bundle's facts name; what it is an average of stands under ``of``."""


@dataclass(frozen=True, eq=False)
class AveragedModel:
    """A classifier that is the mean of others.

    Attributes:
        out: Its folder.
        bundle: Itself.
        members: The runs whose weights it is the mean of.
        decided_by: The runs that its decision and ``records`` are of: the members, or those that lack a laboratory each.
        part: ``test`` or ``val``: which part of these runs the decision was fitted on.
        figures: Normal and atypical figures of that part.
        records: What these runs gave in laboratories that they were not trained on.
        notes: What it does not record, and why.
    """

    out: Path
    bundle: Bundle
    members: tuple[str, ...]
    decided_by: tuple[str, ...]
    part: str
    figures: tuple[int, int]
    records: tuple[LeftOutRecord, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<AveragedModel {self.bundle.name}: {count_noun(len(self.members), 'network')}, threshold {self.bundle.threshold:.3f}>"

    def to_text(self) -> str:
        """What a person reads."""
        part = "test" if self.part == runs.TEST else "validation"
        lines = [
            f"{self.bundle.name}: the mean of {len(self.members)} networks",
            f"decision: threshold {self.bundle.threshold:.3f}, fitted on the {part} parts of the folds: "
            f"{count_noun(sum(self.figures), 'figure')} ({self.figures[1]} atypical), each scored by a network that did not see it",
        ]
        if self.decided_by != self.members:
            lines.append(
                f"these were scored by {count_noun(len(self.decided_by), 'other network')}, trained on less: expect no less of the mean"
            )
        for one in self.records:
            balanced = (one.sensitivity + one.specificity) / 2
            lines.append(
                f"{one.laboratory}: {count_noun(one.atypical + one.normal, 'figure')} ({one.atypical} atypical), sensitivity "
                f"{one.sensitivity:.3f}, specificity {one.specificity:.3f}, balanced accuracy {balanced:.3f}"
            )
        return "\n".join((*lines, *self.notes))


@dataclass(frozen=True, eq=False)
class _Member:
    """One complete run: its bundle, the figures that it saw, and those of its part that it did not."""

    name: str
    bundle: Bundle
    seen: frozenset[str]
    ids: tuple[str, ...]


def average(
    trainings: Iterable[str | Path],
    out: str | Path,
    *,
    weights_of: Iterable[str | Path] = (),
    name: str | None = None,
    part: str = runs.TEST,
    calibration: str = "platt",
    coverage: float = DEFAULT_COVERAGE,
    progress: Progress = silent,
) -> AveragedModel:
    """Averages the weights of all complete folds of one or several trainings on the same figures.

    Args:
        trainings: Output folders of ``atypia train``, of one recipe on the same figures.
        out: The new bundle's folder, which must not exist.
        weights_of: Other trainings by the same recipe on the same figures, whose weights are averaged in place of these. With
            ``lodo`` each network of ``trainings`` lacks a laboratory, which it needs to be judged there and misses elsewhere; those of a
            cross-validation by case know all laboratories. Empty: ``trainings`` give both.
        name: What the classifier is called; None: the name of ``out``.
        part: Part of the folds that the decision is fitted on: ``test`` (of protocol ``lodo``: each laboratory by the
            network that was not trained on it) or ``val`` (of a cross-validation).
        calibration: Kind of calibration.
        coverage: Of the prediction sets, in (0, 0.99].
        progress: Told how many figures are measured.

    Returns:
        The classifier. Besides its decision it records what its members gave in laboratories that were left out, how
        laboratories differ, and how its training looked. Its limit of novelty is the
        0.999 quantile of the averaged network's novelty in each laboratory, by a measure fitted on the other ones; that
        network was trained on all of them. What ``trainings`` gave in laboratories left out stands for networks that saw
        less than those of ``weights_of``.

    Raises:
        InputError: There are fewer than two runs, one is there twice, they cannot be averaged, ``out`` exists, or two members
            have a figure of their parts in common.
        DataError: A training is damaged, the trainings are of different figures, or a figure that decides can no longer be read.
        AbsentError: The backbone's weights are not here.
    """
    from atypia.inference.runtimes.torch_runtime import TorchRuntime

    folder, given = Path(out), [Path(one) for one in trainings]
    check_new(folder)
    if part not in PARTS:
        raise InputError(must("part", f"one of {', '.join(PARTS)}", part, "test for protocol lodo"))
    manifest, members = _members(given, part)
    wider = [Path(one) for one in weights_of]
    averaged_runs = _members(wider, None, manifest)[1] if wider else members
    check_alike([one.bundle for one in (*members, *averaged_runs)])
    plain = average_bundles([one.bundle for one in averaged_runs], members[0].bundle.decision, name or folder.name)
    ids = [figure for one in members for figure in one.ids]
    if len(set(ids)) != len(ids):
        other = f"{DECIDE_ON_VALIDATION}, or " if part == runs.TEST else ""
        fix = f"{other}name trainings whose parts do not overlap; further ones can give weights (--weights-of)"
        raise InputError(must(f"{part} parts", "of different figures", "a figure that two members share", fix))
    _check_once(averaged_runs)
    place = {figure: row for row, figure in enumerate(manifest.ids)}
    store = open_store(manifest, plain.geometry)
    usable = np.flatnonzero(store.usable)
    labels = np.array([-1 if label is None else label for label in manifest.table[r.LABEL].to_pylist()])
    own = [np.array([place[figure] for figure in one.ids]) for one in members]
    if lost := int(np.count_nonzero(~store.usable[np.concatenate(own)])):
        fix = "put their images back, or train again without them"
        raise DataError(
            f"{manifest.name}: {count_noun(lost, 'figure')} of the {part} parts cannot be read any more; fix: {fix}"
        )
    compared = generator(0, "logit scale").permutation(len(usable))[:SCALED_ON]
    # The networks' logits: a member's own predictions may be calibrated already.
    held_parts, compared_parts = [], []
    for one, mine in zip(members, own, strict=True):
        network = TorchRuntime(one.bundle)
        held_parts.append(network.run_rows(store.crops, mine, progress)[0])
        compared_parts.append(network.run_rows(store.crops, usable[compared], progress)[0])
    held = np.concatenate(held_parts).astype(np.float64)
    rows = np.concatenate(own)
    averaged, features = TorchRuntime(plain).run_rows(store.crops, usable, progress)
    wanted = np.stack(compared_parts).astype(np.float64).mean(axis=0)
    plain, scale = rescaled(plain, averaged[compared].astype(np.float64), wanted)
    novelty = _novelty_held_out(features, usable, labels, manifest, members)
    decision = fit_decision(
        held, labels[rows], features, labels[usable], None,
        calibration=calibration, coverage=coverage, novelty_held_out=novelty,
    )  # fmt: skip
    unseen = _unseen(manifest, members)
    records = recorded(unseen, labels[rows], decision.calibration.apply(held), decision.threshold)
    facts, notes = dict(decision.fitted), []
    if records:
        facts[LEFT_OUT_KEY] = [one.as_dict() for one in records]
        prior, why = _prior(given)
        notes += [why] if prior is None else []
        facts |= {} if prior is None else {LABORATORIES_KEY: prior}
    training = {**_facts(manifest, averaged_runs, members, part, len(usable)), "logit_scale": asdict(scale)}
    bundle = replace(plain, decision=replace(decision, fitted=facts), training=training)
    if any(domain is not None for domain in manifest.table[r.DOMAIN].to_pylist()):
        words = f"{len(usable):,} figures of {manifest.name}"
        logits = scale.factor * averaged.astype(np.float64) + scale.offset
        look = look_at(manifest.take(usable), _judged(store, usable, decision, logits, features), words)
        facts = {**facts, LOOK_KEY: look.as_dict()}
        bundle = replace(bundle, decision=replace(decision, fitted=facts))
    bundle.save(folder)
    atypical = int(labels[rows].sum())
    names, decided_by = (tuple(one.name for one in some) for some in (averaged_runs, members))
    return AveragedModel(
        folder, bundle, names, decided_by, part, (len(rows) - atypical, atypical), tuple(records), tuple(notes)
    )


def _members(folders: list[Path], part: str | None, manifest: Manifest | None = None) -> tuple[Manifest, list[_Member]]:
    """The complete runs of trainings on these figures, and the figures of their part; of none where no part is asked for."""
    members: list[_Member] = []
    for folder in folders:
        if not (folder / runs.TRAINING).is_file():
            raise InputError(must(str(folder), "a folder of `atypia train`", "another", "name its --out folder"))
        mine = Manifest.load(folder / runs.MANIFEST)
        if manifest is not None and mine.fingerprint != manifest.fingerprint:
            raise DataError(f"{folder} is trained on other figures than the rest; fix: name trainings of one data set")
        manifest = manifest or mine
        folds = {fold.name: fold for fold in Split.load(folder / runs.SPLIT).folds}
        for run in runs.run_folders(folder):
            fold = folds[run.name]
            table, _ = read_predictions(run / runs.PREDICTIONS)
            own = table.filter(np.array([one == part for one in table[r.PART].to_pylist()]))
            if part is not None and not own.num_rows:
                fix = DECIDE_ON_VALIDATION if part == runs.TEST else "train with a validation part"
                raise InputError(must(str(run), f"with a part {part}", "none", fix))
            seen = frozenset((*fold.train, *(fold.val if part == runs.TEST else ())))
            ids = tuple(own[r.FIGURE_ID].to_pylist())
            members.append(_Member(f"{folder.name}/{run.name}", load_bundle(run / runs.BUNDLE), seen, ids))
    if manifest is None or len(members) < 2:
        raise InputError(must("trainings", "at least two complete runs", len(members), "train more folds"))
    return manifest, members


def _check_once(averaged_runs: list[_Member]) -> None:
    """Refuses one network under two names: it would count twice."""
    first: dict[str, str] = {}
    for one in averaged_runs:
        if same := first.get(one.bundle.fingerprint):
            raise InputError(must("trainings", "each named once", f"{one.name}, which is {same}", "leave one out"))
        first[one.bundle.fingerprint] = one.name


def _judged(
    store: CropStore,
    rows: npt.NDArray[np.intp],
    decision: Decision,
    logits: npt.NDArray[np.float64],
    features: npt.NDArray[np.float32],
) -> Iterator[tuple[npt.NDArray[np.uint8], Verdicts]]:
    """Crops of these rows, a piece at a time, and what the decision makes of their logits (n,) and features (n, d)."""
    for start in range(0, len(rows), ROWS_READ):
        piece = slice(start, start + ROWS_READ)
        yield np.ascontiguousarray(store.crops[rows[piece]]), decision.apply(logits[piece], features[piece])


def _novelty_held_out(
    features: npt.NDArray[np.float32],
    usable: npt.NDArray[np.intp],
    labels: npt.NDArray[np.int64],
    manifest: Manifest,
    members: list[_Member],
) -> npt.NDArray[np.float64]:
    """Novelty of each member's own part by a measure that was fitted on the figures that it saw."""
    found = []
    at = {manifest.ids[row]: index for index, row in enumerate(usable.tolist())}
    for one in members:
        train = np.array(sorted(at[figure] for figure in one.seen if figure in at))
        own = np.array(sorted(at[figure] for figure in one.ids if figure in at))
        measure = fit_novelty(features[train], labels[usable][train], features[own])
        found.append(measure.apply(features[own]))
    return np.concatenate(found)


def _unseen(manifest: Manifest, members: list[_Member]) -> list[str | None]:
    """The laboratory of each figure of the members' parts; None where its member was trained on figures of it."""
    domain = dict(zip(manifest.ids, manifest.table[r.DOMAIN].to_pylist(), strict=True))
    found: list[str | None] = []
    for one in members:
        seen = {domain[figure] for figure in one.seen}
        found += [None if domain[figure] in seen else domain[figure] for figure in one.ids]
    return found


def _prior(trainings: list[Path]) -> tuple[dict[str, Any] | None, str]:
    """How much laboratories differ, for ``atypia calibrate``; or why it is not known."""
    try:
        found = left_out(trainings)
        known_from = f"{len({one.laboratory for one in found})} laboratories that were left out in turn"
        return prior_as_dict(prior_of(found), known_from), ""
    except InputError as error:
        return None, f"how much laboratories differ is not recorded: {error}"


def _facts(
    manifest: Manifest, averaged_runs: list[_Member], members: list[_Member], part: str, figures: int
) -> dict[str, Any]:
    first = averaged_runs[0].bundle.training
    apart = {} if averaged_runs is members else {"decided_by": [one.name for one in members]}
    return {
        "recipe": AVERAGE,
        "of": [one.name for one in averaged_runs],
        **apart,
        "recipe_of": first.get("recipe"),
        "protocol": first.get("protocol"),
        "decided_on": part,
        "data": manifest.name,
        "data_fingerprint": manifest.fingerprint,
        PARTS_KEY: published_parts(manifest),
        "figures": figures,
        "seeds": sorted({int(one.bundle.training.get("seed", 0)) for one in (*averaged_runs, *members)}),
    }
