"""Whether a model of the leaderboard was trained on the test set, as far as files tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import AbsentError, InputError, LeakageError, count_noun
from atypia.base.files.regularfiles import read_regular
from atypia.base.files.structured import parse_json
from atypia.data.audit.contamination import PARTS_KEY, known_overlap
from atypia.data.audit.findings import CODES, ERROR
from atypia.data.audit.pairs import generator_findings, pair_findings
from atypia.data.manifest import Manifest
from atypia.data.pools import open_figures
from atypia.data.sources.catalogue import SOURCES
from atypia.data.sources.opening import parts_of
from atypia.evaluation.board.scores import BoardScores
from atypia.evaluation.board.testsets import BoardSet
from atypia.evaluation.fitted import fitted_to
from atypia.inference.bundles.bundle import MODEL_FILE, load_bundle
from atypia.inference.bundles.integrity import CONFIG_FILE
from atypia.inference.classifier import MODELS, find_model
from atypia.splits.split import Split

UNDECLARED: Final = "not declared"
MAX_CONFIG_BYTES: Final = 1 << 24
PART_OF: Final = ":"
"""Between a source and its part: ``ami-br:train``."""


@dataclass(frozen=True)
class TrainedOn:
    """What a row says of its model's training.

    Attributes:
        declared: What it was trained on, in words; :data:`UNDECLARED` where nothing is known.
        checked: How that was compared with the test set.
    """

    declared: str
    checked: str


def check_training(
    board_set: BoardSet,
    scores: Sequence[BoardScores],
    test: Manifest | None,
    trained_on: Iterable[str] = (),
    model: str | None = None,
    root: Path | None = None,
) -> TrainedOn:
    """Refuses a model that saw the test set.

    Args:
        board_set: The test set.
        scores: The predictions; they may name a model that ships.
        test: The test set's figures, where they are on this machine.
        trained_on: What it was trained on: a training's or a run's folder, a manifest, a CSV, a folder of crops, a source, or
            a source's part (``ami-br:train``).
        model: A shipped model's name or a bundle, where predictions do not name it.
        root: Data root.

    Raises:
        LeakageError: The training data hold figures, cases or crops of the test set, or are known to overlap with it.
        InputError: ``trained_on`` names nothing.
    """
    said, how = [], []
    for name, training in _recorded(scores, model).items():
        said.append(check_record(board_set, name, training))
        how.append("by what its bundle records")
    for one in scores:
        said_of_itself = [text for text in one.warnings if CODES.get(text.partition(":")[0], ("",))[0] == ERROR]
        if said_of_itself:
            raise LeakageError(
                f"{one.path.name} is refused, as it says of itself: {'; '.join(said_of_itself)}; "
                "fix: score with a model that has not seen the set"
            )
    for reference in trained_on:
        declared, compared = _check_declared(board_set, scores[0], test, reference, root)
        said.append(declared)
        how.append(compared)
    if not said:
        return TrainedOn(UNDECLARED, "nothing to compare")
    return TrainedOn("; ".join(dict.fromkeys(said)), "; ".join(dict.fromkeys(how)))


def _recorded(scores: Sequence[BoardScores], model: str | None) -> dict[str, Mapping[str, Any]]:
    """Name and training record of the bundles that made predictions: those that ship, and the one that is named."""
    found: dict[str, Mapping[str, Any]] = {}
    named = {text for one in scores for text in one.models}
    for folder in sorted(MODELS.glob("*/")):
        config = parse_json(read_regular(folder / CONFIG_FILE, MAX_CONFIG_BYTES), str(folder / CONFIG_FILE))
        training = config["training"]
        if named & {folder.name, str(config["fingerprint"]), str(training.get("run_id"))}:
            found[folder.name] = training
    if model is not None:
        path = find_model(model)
        if not (path / MODEL_FILE).is_file():
            raise InputError(f"--model must be a bundle's folder or a shipped model, got {model}; fix: leave it out")
        found[model] = load_bundle(path).training
    return found


def check_record(board_set: BoardSet, name: str, training: Mapping[str, Any]) -> str:
    """What a bundle's record says that it was trained on.

    Raises:
        LeakageError: The test set is among it.
    """
    data, protocol = str(training.get("data", "")), str(training.get("protocol", ""))
    parts = training.get(PARTS_KEY) or {}
    said = " ".join(f"part {' and '.join(parts[one])} of {one}," for one in data.split("+") if one in parts)
    for source in data.split("+"):
        # Protocols for the published hold-out keep it out; with any other the parts that were trained on tell.
        apart = protocol in board_set.disjoint or (source in parts and board_set.part not in parts[source])
        held = source == board_set.name and not (board_set.part and apart)
        overlap = known_overlap(source, board_set.name)
        if held or overlap:
            why = overlap.words if overlap else f"{board_set.title} was among its training figures"
            raise _seen(board_set, name, f"trained on {data} (protocol {protocol})", why)
    later = []
    for key, facts in fitted_to(training).items():
        for source in str(facts["data"]).split("+"):
            overlap = known_overlap(source, board_set.name)
            if source == board_set.name or overlap:
                why = overlap.words if overlap else f"which parts of {board_set.title} these are is not recorded"
                raise _seen(board_set, name, f"{key} by figures of {source}", why)
        later.append(f"; {key} by {facts['data']}")
    return f"{data} ({said + ' ' if said else ''}protocol {protocol}){''.join(later)}"


def _seen(board_set: BoardSet, name: str, how: str, why: str) -> LeakageError:
    return LeakageError(
        f"a row of {name} on {board_set.title} is refused: it was {how}; {why}; "
        "fix: score with a model that has not seen the set, for instance atypia-amibr"
    )


def _check_declared(
    board_set: BoardSet, scores: BoardScores, test: Manifest | None, reference: str, root: Path | None
) -> tuple[str, str]:
    """What is said to have been trained on, in words, and how it was compared."""
    train = _training_figures(reference, root)
    if train is None:
        return reference, _check_names(board_set, reference)
    if test is not None:
        found = [
            *pair_findings(train, test, None, root),
            *generator_findings(train, test, "generator-across-sets", root),
        ]
        errors = [finding.message for finding in found if finding.severity == ERROR]
        how = "no figure, case or image file in common"
    else:
        ids = {
            figure
            for figure, source in zip(train.ids, train.column(r.DATASET), strict=True)
            if source == board_set.name
        }
        shared = sorted(ids & set(scores.ids))
        cases = sorted(set(scores.cases or ()) & {str(case) for case in train.column(r.CASE_ID) if case is not None})
        errors = (
            [f"{count_noun(len(shared), 'figure of the test set is in', 'figures of the test set are in')} {reference}"]
            if shared
            else []
        )
        errors += (
            [f"{count_noun(len(cases), 'case of the test set is in', 'cases of the test set are in')} {reference}"]
            if cases
            else []
        )
        overlaps = [known_overlap(str(source), board_set.name) for source in set(train.column(r.DATASET))]
        errors += [overlap.words for overlap in overlaps if overlap is not None]
        how = "no figure or case id in common" if scores.cases else "no figure id in common"
    if errors:
        raise LeakageError(
            f"a row on {board_set.title} of a model that was trained on {reference} is refused: {'; '.join(errors)}; "
            "fix: train without them, or name the part that it was trained on (`ami-br:train`)"
        )
    # A path would tell about the machine; name, number and fingerprint tell about the figures.
    named = Path(reference).name if Path(reference).exists() else reference
    return f"{named} ({count_noun(len(train), 'figure')}, {train.fingerprint[:12]})", how


def _training_figures(reference: str, root: Path | None) -> Manifest | None:
    """The figures that were trained or selected on; None where a published source is not on this machine.

    Raises:
        InputError: The reference names nothing.
    """
    folder = Path(reference)
    around = (folder, *folder.resolve().parents[:2])
    training = next((one for one in around if (one / runs.TRAINING).is_file()), None) if folder.is_dir() else None
    if training is not None:
        manifest = Manifest.load(training / runs.MANIFEST)
        own = folder / runs.SPLIT if (folder / runs.SPLIT).is_file() else training / runs.SPLIT
        used = {figure for fold in Split.load(own).folds for figure in (*fold.train, *fold.val)}
        return manifest.take(np.isin(np.array(manifest.ids), list(used)))
    source, _, part = reference.partition(PART_OF)
    try:
        if part and source in SOURCES:
            manifest = open_figures(source, root)
            rows = np.array(manifest.column(r.PART) == part)
            if not rows.any():
                parts = ", ".join(sorted({str(one) for one in manifest.column(r.PART)}))
                raise InputError(
                    f"--trained-on {reference}: {source} has no part {part!r} (it has {parts}); fix: name one"
                )
            return manifest.take(rows)
        return open_figures(reference, root)
    except AbsentError:
        return None


def _check_names(board_set: BoardSet, reference: str) -> str:
    """As :func:`_check_declared` where only names of sources are known."""
    for one in parts_of(reference):
        source, _, part = one.partition(PART_OF)
        overlap = known_overlap(source, board_set.name)
        same = source == board_set.name and (board_set.part is None or part in ("", board_set.part))
        if same or overlap is not None:
            why = overlap.words if overlap is not None else f"{board_set.title} is of it"
            raise LeakageError(
                f"a row on {board_set.title} of a model that was trained on {reference} is refused: {why}; "
                "fix: name the part (`ami-br:train`), or have the data on this machine, so that figures can be compared"
            )
    return "by the names of the sets alone"
