"""Plans a study: its runs, each one fold of one training, identified by the content of their inputs.

A plan is a file (``plan.json``) beside the manifests and splits that it names, so that workers and
``status`` read the plan without opening data sets again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from atypia.backbones.weights import availability, locate
from atypia.base.artifacts import fingerprint, read_json, write_json
from atypia.base.config import parse
from atypia.base.errors import AbsentError, AtypiaError, InputError, WorkError
from atypia.base.process.progress import Progress, silent
from atypia.data.audit.findings import check_codes
from atypia.data.crops.store import images_absent
from atypia.data.manifest import Manifest
from atypia.splits.catalogue import PROTOCOLS
from atypia.splits.leakage import check_split
from atypia.splits.protocol import make_split
from atypia.splits.split import Split
from atypia.studies import files
from atypia.studies.datasets import open_set
from atypia.studies.identity import PlannedFold, first_run_id, ids_of_first, is_first, planned_folds, run_id
from atypia.studies.schema import DataConfig, Sized
from atypia.studies.shifted import planned_shifts
from atypia.studies.trainings import RequestedTraining, requested_trainings
from atypia.training.additions import subset_of_positives
from atypia.training.possible import check_field, check_folds, check_options
from atypia.training.schema import NetworkRecipe

FORMAT: Final = 1
"""Increased when the layout of ``plan.json`` changes."""

KNOWN: Final = "known"
"""Key of :attr:`Plan.known` in ``plan.json``; absent in plans of version 0.1."""

Opener = Callable[[DataConfig], Manifest]


@dataclass(frozen=True)
class PlannedTraining:
    """A training of all folds: a line of the plan.

    Attributes:
        label: Name in tables.
        model: The model's label without its levels.
        factors: Name of each factor and the label of its level.
        recipe_name: Name of the recipe.
        recipe: The validated recipe, as JSON-like values.
        manifest: Fingerprint of the training set; empty if it is not on this machine.
        data: Name of the training set.
        split: Key of the split file; empty without one.
        seed: Master seed.
        weights_sha256: Checksum of the backbone's weights; None if none are used.
        lacks: Why it cannot be trained here, with the remedies, one a line; empty if it can.
        synthetic: Generated figures that are added, as :func:`atypia.studies.synthetic.planned_values` gives them; None
            for none.
        positives: Share of the positives of each training part that is used.
    """

    label: str
    model: str
    factors: Mapping[str, str]
    recipe_name: str
    recipe: Mapping[str, Any]
    manifest: str
    data: str
    split: str
    seed: int
    weights_sha256: str | None = None
    lacks: str = ""
    synthetic: Mapping[str, Any] | None = None
    positives: float = 1.0

    @property
    def backbone(self) -> str:
        """Entry of the backbone catalogue."""
        return str(self.recipe["backbone"])

    @property
    def adaptation(self) -> str:
        """How the backbone is adapted."""
        return str(self.recipe["adaptation"])


@dataclass(frozen=True)
class Run:
    """One fold of a cell.

    Attributes:
        id: Content hash of the recipe values that affect the result, the fold's figures in their manifest, seed and
            weights (:mod:`atypia.studies.identity`); for a run planned by an earlier version, its existing id.
        cell: Position of the cell in the plan.
        fold: Name of the fold.
        sizes: Figures in its training, validation and test part.
    """

    id: str
    training: int
    fold: str
    sizes: tuple[int, int, int]


@dataclass(frozen=True)
class Plan:
    """The plan of a study.

    Attributes:
        name: The study's name.
        size: Its size.
        study: The study file's values, for the record.
        protocol: Name of the protocol, and its options.
        cells: Trainings, in the order of the table.
        runs: Their folds; two cells with the same content share runs with the same id.
        tests: Fingerprint and name of each set that every classifier is tested on.
        absent_tests: Name of each missing test set, and the reason.
        allow: Named leakage exceptions.
        decisions: Thresholds at which results are reported.
        baseline: Label of the reference model.
        weights: Local weights files by backbone.
        known: Current id to existing id, for runs that exist under another id.
        shifts: Fingerprint and change of each of ``tests`` that is the training set under a change of its crops.
    """

    name: str
    size: str
    study: Mapping[str, Any]
    protocol: tuple[str, Mapping[str, Any]]
    trainings: tuple[PlannedTraining, ...]
    runs: tuple[Run, ...]
    tests: Mapping[str, str]
    absent_tests: Mapping[str, str]
    allow: tuple[str, ...]
    decisions: tuple[str, ...]
    baseline: str | None
    weights: Mapping[str, str]
    known: Mapping[str, str] = field(default_factory=dict)
    shifts: Mapping[str, str] = field(default_factory=dict)

    def to_do(self) -> list[Run]:
        """The runs that can be done on this machine, each id once."""
        return list({run.id: run for run in self.runs if not self.trainings[run.training].lacks}.values())

    def lacking(self) -> dict[str, list[str]]:
        """Missing requirements, and the labels of the cells that need them."""
        found: dict[str, list[str]] = {}
        for training in self.trainings:
            for reason in training.lacks.splitlines():
                if training.label not in found.setdefault(reason, []):
                    found[reason].append(training.label)
        return found

    def save(self, out: Path) -> Path:
        """Writes ``plan.json``."""
        value = asdict(self)
        value["cells"] = value.pop("trainings")  # the name that plans have had since version 0.1
        value["runs"] = [[run.id, run.training, run.fold, *run.sizes] for run in self.runs]
        write_json(out / files.PLAN, {"format": FORMAT, **value})
        return out / files.PLAN

    @classmethod
    def load(cls, out: Path) -> Plan:
        """Reads a plan written by :meth:`save`.

        Raises:
            InputError: The folder holds no study.
            WorkError: The file is damaged, or of another version.
        """
        path = out / files.PLAN
        if not path.is_file():
            raise InputError(f"{out} holds no study; fix: give the --out folder of `atypia study run`")
        value = read_json(path)
        try:
            if value.pop("format") != FORMAT:
                raise WorkError(f"{path} was written by another version; fix: run the study again")
            trainings = tuple(PlannedTraining(**training) for training in value.pop("cells"))
            runs = tuple(Run(i, training, fold, (a, b, c)) for i, training, fold, a, b, c in value.pop("runs"))
            name, options = value.pop("protocol")
            for key in ("allow", "decisions"):
                value[key] = tuple(value[key])
            return cls(**value, trainings=trainings, runs=runs, protocol=(name, options))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WorkError(f"{path} is damaged ({error}); fix: run the study again") from error


def make_plan(
    study: Sized, out: Path, root: Path | None = None, fetch: bool = False, opener: Opener | None = None,
    progress: Progress = silent,
) -> Plan:  # fmt: skip
    """Plans a study: opens its data, divides it, and derives the id of every run from its content.

    Missing data sets and weights are recorded in the cells that need them; nothing is trained.

    Args:
        study: The study at a size.
        out: Its folder; manifests and splits are written there.
        root: Data root in which sources are looked for.
        fetch: Whether missing weights may be downloaded.
        opener: Opens a data set; None for :func:`atypia.studies.datasets.open_set`.
        progress: Receives progress: rendered figures and divided data sets.

    Raises:
        InputError: A recipe, protocol, option or allowed finding is not valid; data cannot be divided in this way; or a run could not be
            done with them: a field that figures cannot give, folds on which a recipe cannot select.
        LeakageError: The folds share cases, and the study does not allow it.
    """
    check_codes(study.data.allow)  # not as the file is read: one of an earlier version may name what had no effect
    asked = requested_trainings(study)
    parse(PROTOCOLS[study.protocol.name].options, study.protocol.options, f"protocol {study.protocol.name}")
    for requested in asked:
        check_options(requested.recipe)
    maker = _Maker(study, out, opener or (lambda data: open_set(data, root, progress)), fetch)
    trainings, runs = [], []
    for number, requested in enumerate(asked):
        training = maker.training(requested)
        trainings.append(training)
        if training.split:
            runs += maker.runs(training, number)
        progress(number + 1, len(asked), "trainings planned")
    tests, absent = maker.tests()
    shifts = planned_shifts(study.data, maker.open(study.data.train[0]), out) if study.data.shifts else {}
    return Plan(
        name=study.study.name,
        size=study.size,
        study=study.study.model_dump(mode="json"),
        protocol=(study.protocol.name, study.protocol.options),
        trainings=tuple(trainings),
        runs=tuple(runs),
        tests={**tests, **{key: name for key, (name, _) in shifts.items()}},
        absent_tests=absent,
        allow=study.data.allow,
        decisions=study.study.decisions,
        baseline=study.baseline,
        weights=study.study.weights,
        known=maker.known,
        shifts={key: shift for key, (_, shift) in shifts.items()},
    )


class _Maker:
    """Opens each data set, split and checksum once, whatever the number of cells that use it."""

    def __init__(self, study: Sized, out: Path, opener: Opener, fetch: bool) -> None:
        self.study, self.out, self.opener, self.fetch = study, out, opener, fetch
        self.known = known_ids(out)
        self._opened: dict[str, Manifest | str] = {}
        self._divided: dict[str, list[PlannedFold]] = {}
        self._weights: dict[str, tuple[str | None, str]] = {}

    def open(self, data: DataConfig) -> Manifest | str:
        """A data set, saved under its fingerprint; or the reason why it is missing."""
        key = data.model_dump_json()
        if key not in self._opened:
            try:
                manifest = self.opener(data)
            except AbsentError as error:
                self._opened[key] = str(error)
            else:
                path = self.out / files.MANIFESTS / f"{manifest.fingerprint}.parquet"
                manifest.save(path)
                self._opened[key] = manifest
        return self._opened[key]

    def training(self, requested: RequestedTraining) -> PlannedTraining:
        """The cell of a wish, with what it lacks."""
        opened = self.open(requested.data)
        sha256, missing = self.weights(requested)
        training = PlannedTraining(
            label=requested.label,
            model=requested.model,
            factors=requested.factors,
            recipe_name=requested.recipe_name,
            recipe=requested.recipe.model_dump(mode="json"),
            manifest="",
            data=requested.data.shown,
            split="",
            seed=requested.seed,
            weights_sha256=sha256,
            lacks=missing,
        )
        training = self.with_synthetic(training, requested)
        if absent := self.absent(requested.data):
            training = _lacking(training, absent)
        if isinstance(opened, str):
            return training
        check_field(requested.recipe, opened, f"geometry of «{requested.label}»")
        split = self.split_key(opened, requested.seed, requested.positives)
        check_folds(requested.recipe, [(one.name, one.sizes[1], one.val_classes) for one in self._divided[split]])
        return replace(training, manifest=opened.fingerprint, data=opened.name, split=split)

    def with_synthetic(self, training: PlannedTraining, requested: RequestedTraining) -> PlannedTraining:
        """The cell with the generated figures for its training parts, and what is missing for them."""
        training = replace(training, positives=requested.positives)
        if requested.synthetic is None:
            return training
        from atypia.studies.synthetic import planned_values

        data = requested.synthetic.pretrain
        pretrain = None if data is None else self.open(data)
        known = pretrain.fingerprint if isinstance(pretrain, Manifest) else None
        training = replace(training, synthetic=planned_values(requested.synthetic, known))
        return training if data is None else _lacking(training, self.absent(data))

    def absent(self, data: DataConfig) -> str:
        """Why a data set cannot be trained on here, with the remedy; empty if it can."""
        opened = self.open(data)
        return opened if isinstance(opened, str) else images_absent(opened)

    def weights(self, requested: RequestedTraining) -> tuple[str | None, str]:
        """Checksum of a recipe's weights, and what is missing."""
        if isinstance(requested.recipe, NetworkRecipe) and not requested.recipe.pretrained:
            return None, ""
        name = requested.recipe.backbone
        if name not in self._weights:
            own = self.study.study.weights.get(name)
            path = Path(own) if own else None
            there = availability(name, path)
            try:
                if not there.ok and not self.fetch:
                    self._weights[name] = (None, f"weights of {name}: {there.reason}; fix: {there.remedy}")
                else:
                    self._weights[name] = (locate(name, path).sha256, "")
            except AbsentError as error:
                self._weights[name] = (None, str(error))
        return self._weights[name]

    def split_key(self, manifest: Manifest, seed: int, positives: float = 1.0) -> str:
        """Name of the split file, which is created if missing."""
        protocol = self.study.protocol
        fixed = PROTOCOLS[protocol.name].fixed_seed
        used = seed if fixed is None else fixed
        share = [] if positives == 1 else [positives, seed]
        key = fingerprint("split", protocol.name, protocol.options, used, manifest.fingerprint, *share)
        if key not in self._divided:
            split = self._split(key, manifest, used, positives, seed)
            check_split(split, manifest, self.study.data.allow)
            self._divided[key] = planned_folds(split, manifest)
        return key

    def _split(self, key: str, manifest: Manifest, used: int, positives: float, seed: int) -> Split:
        path = self.out / files.SPLITS / f"{key}.json"
        if path.is_file():
            try:
                return Split.load(path).for_manifest(manifest)
            except AtypiaError:
                path.unlink()  # damaged: the same split is made again
        split = make_split(self.study.protocol.name, manifest, used, **self.study.protocol.options)
        split = subset_of_positives(split, manifest, positives, seed)
        split.save(path)
        return split

    def runs(self, training: PlannedTraining, number: int) -> list[Run]:
        """The runs of a cell."""
        allow, found = self.study.data.allow, []
        for name, sizes, content, _ in self._divided[training.split]:
            new = run_id(training, allow, name, content)
            if new not in self.known and is_first(training.recipe):
                first = first_run_id(training, allow, name, content)
                if (self.out / files.RUNS / first).is_dir() and not (self.out / files.RUNS / new).is_dir():
                    self.known[new] = first
            found.append(Run(self.known.get(new, new), number, name, sizes))
        return found

    def tests(self) -> tuple[dict[str, str], dict[str, str]]:
        """Fingerprint and name of the available test sets, and name and reason for the others."""
        here, absent = dict[str, str](), dict[str, str]()
        for data in self.study.data.tests:
            opened = self.open(data)
            if isinstance(opened, str):
                absent[data.shown] = opened
            elif missing := images_absent(opened):
                absent[opened.name] = missing
            else:
                here[opened.fingerprint] = opened.name
        return here, absent


def _lacking(training: PlannedTraining, reason: str) -> PlannedTraining:
    return replace(training, lacks="\n".join(text for text in (training.lacks, reason) if text))


def known_ids(out: Path) -> dict[str, str]:
    """Runs in a study's folder with ids of earlier versions: current id to existing id.

    Empty if the folder contains no readable plan.
    """
    try:
        plan = Plan.load(out)
        is_of_today = KNOWN in read_json(out / files.PLAN)
    except AtypiaError:
        return {}
    if is_of_today:
        return dict(plan.known)
    asked = [(plan.trainings[run.training], run.fold, run.id) for run in plan.runs]
    return ids_of_first(asked, plan.allow, out / files.SPLITS)
