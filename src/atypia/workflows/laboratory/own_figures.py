"""A laboratory's own figures: labels from its table or its review, and what a classifier says of each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base.errors import DataError, InputError, count_noun, must
from atypia.base.process.cores import core_count
from atypia.base.process.progress import Progress, silent
from atypia.base.version import VERSION
from atypia.data.audit.hashes import dihedral_hash
from atypia.data.crops.store import CropStore, open_store
from atypia.data.images.decoding import read_rgb
from atypia.data.manifest import Manifest
from atypia.data.slides.streams import CropBatch, crop_files
from atypia.data.sources.layouts import class_label
from atypia.data.textfiles import read_table
from atypia.inference.bundles.bundle import Bundle
from atypia.inference.classifier import Classifier
from atypia.inference.results import is_results

RATER, DECISION = "rater", "decision"
"""Columns of the review page's ``decisions.csv``, beside the figure's id."""
NO_VOTES: Final = ("", "unsure", "not-mitosis")
MOST_SHOWN: Final = 3
MOST_THREADS: Final = 8


@dataclass(frozen=True, eq=False)
class ScoredOwnFigures:
    """Figures and what a classifier's network gives for them.

    Attributes:
        manifest: Those that could be read, in the order of the data.
        logits: Shape (n,).
        features: Shape (n, d).
        notes: What was left out, in words.
    """

    manifest: Manifest
    logits: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    notes: tuple[str, ...]


def made_from(bundle: Bundle, manifest: Manifest) -> dict[str, Any]:
    """What a bundle that is fitted to own figures records: from which model, on which figures, when and by which version."""
    return {
        "from": bundle.name,
        "from_fingerprint": bundle.fingerprint,
        "data": manifest.name,
        "data_fingerprint": manifest.fingerprint,
        "when": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "atypia": VERSION,
    }


def with_decisions(manifest: Manifest, path: Path) -> tuple[Manifest, tuple[str, ...]]:
    """The figures on which reviewers decided, with their majority as label.

    Decisions on results of ``atypia predict FOLDER`` name a crop by its file, with its suffix: so a figure is found by its id, else
    by the end of its image's path where only one ends so.

    Args:
        manifest: The figures that were reviewed.
        path: The review page's ``decisions.csv``: ``figure_id, decision`` and, where there are several, ``rater``.

    Returns:
        The figures with a majority, and notes. Abstentions (unsure, not a mitosis) are no votes.

    Raises:
        DataError: No such table, an unknown word, or no decision is on a figure of the data.
    """
    table = read_table(path)
    table.require(r.FIGURE_ID, DECISION)
    votes: dict[str, Counter[int]] = defaultdict(Counter)
    seen: set[tuple[str, str]] = set()
    for row, line in zip(table.rows, table.lines, strict=True):
        word, figure, rater = row[DECISION].strip().casefold(), row[r.FIGURE_ID], row.get(RATER, "")
        if (figure, rater) in seen:
            raise DataError(f"{path.name}, line {line}: figure {figure!r} occurs twice; fix: keep one line a rater")
        seen.add((figure, rater))
        if word in NO_VOTES:
            continue
        try:
            label = class_label(word)
        except KeyError:
            label = None
        if label is None:
            fix = "correct the cell, or export decisions.csv anew"
            raise DataError(f"{path.name}, line {line}: {must(DECISION, 'a class', repr(word[:40]), fix)}")
        votes[figure][label] += 1
    votes = _by_id(votes, manifest)
    rows, labels, ties = [], [], 0
    for row, figure in enumerate(manifest.ids):
        count = votes.get(figure, Counter())
        if count[0] == count[1]:
            ties += bool(count)
            continue
        rows.append(row)
        labels.append(int(count[1] > count[0]))
    if not rows:
        fix = "name with --on what was reviewed"
        raise DataError(must(path.name, f"decisions on figures of {manifest.name}", "none", fix))
    notes = [f"labels of {count_noun(len(rows), 'figure')} by the decisions in {path.name}"]
    if ties:
        notes.append(f"{count_noun(ties, 'figure')} left out on which reviewers are evenly split")
    strangers = len(set(votes) - set(manifest.ids))
    if strangers:
        words = f"figure of {path.name} is", f"figures of {path.name} are"
        notes.append(f"{count_noun(strangers, *words)} not in {manifest.name}")
    found = []
    for one, label in zip(manifest.take(np.array(rows)).table.to_pylist(), labels, strict=True):
        found.append({**one, r.LABEL: label, r.SOFT_LABEL: None, r.VOTES: None, r.N_RATERS: None})
    return Manifest.from_rows(found, manifest.name, manifest.task, manifest.root, manifest.notes), tuple(notes)


def _by_id(votes: Mapping[str, Counter[int]], manifest: Manifest) -> dict[str, Counter[int]]:
    """The votes by the figures' ids, where those are told; others keep their names."""
    ids = set(manifest.ids)
    files: dict[str, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
    for figure, image in zip(manifest.ids, manifest.table[r.IMAGE].to_pylist(), strict=True):
        place = PurePath(image)
        files[place.name].append((figure, place.parts))
    found: dict[str, Counter[int]] = defaultdict(Counter)
    for name, count in votes.items():
        parts = PurePath(name).parts
        ending = [one for one, place in files[parts[-1]] if place[-len(parts) :] == parts] if parts else []
        found[ending[0] if name not in ids and len(ending) == 1 else name] += count
    return found


def labelled(on: str | PathLike[str]) -> str | PathLike[str]:
    """What was named as labelled figures, where it is not a file of a review or of predictions by mistake.

    Raises:
        InputError: It holds decisions without crops, or calls without labels.
    """
    path = Path(on)
    if not path.is_file() or path.suffix.lower() not in (".csv", ".parquet"):
        return on
    if path.suffix.lower() == ".csv":
        columns = list(read_table(path).columns)
    else:
        import pyarrow.parquet as pq

        columns = pq.read_schema(path).names
    if r.FIGURE_ID in columns and DECISION in columns and r.IMAGE not in columns:
        fix = "export «Decided figures» under Files on the review page and name that file; or name the reviewed crops "
        raise InputError(must("on", "labelled figures with their crops", f"{path}, the decisions of a review",
                              f"{fix}with --on and this file with --decisions"))  # fmt: skip
    if is_results(columns):
        fix = f"decide figures with `atypia serve {path}`, then export «Decided figures» under Files and name that file"
        raise InputError(must("on", "labelled figures", f"{path}, results of `atypia predict`", fix))
    return on


def without_copies(manifest: Manifest, progress: Progress = silent) -> tuple[Manifest, tuple[str, ...]]:
    """The figures without those whose image is the same as another's: copies are no further evidence.

    Crops are the same by their pixels, also flipped or turned, in whatever file they are; figures on slides by slide and
    position. Of copies with one label one is kept, the same in whatever order they are: one with a label, with a case, the
    first by name. Copies with different labels say nothing and are all left out.

    Args:
        manifest: The figures, with or without labels.
        progress: Told how many images are compared.

    Raises:
        DataError: None is left.
    """
    table = manifest.table
    labels, known = (table[column].to_pylist() for column in (r.LABEL, r.CASE_ID))
    cases, ids = manifest.cases.tolist(), manifest.ids
    groups: dict[Any, list[int]] = defaultdict(list)
    for row, key in enumerate(_image_keys(manifest, progress)):
        groups[row if key is None else key].append(row)
    keep: list[int] = []
    conflicting = 0
    for rows in groups.values():
        if len({labels[i] for i in rows} - {None}) > 1:
            conflicting += len(rows)
        else:
            keep.append(min(rows, key=lambda i: (labels[i] is None, known[i] is None, cases[i], ids[i])))
    copies = len(manifest) - len(keep) - conflicting
    notes = [f"{count_noun(copies, 'figure')} left out: their images are copies of others'"] if copies else []
    if conflicting:
        notes.append(f"{count_noun(conflicting, 'figure')} left out: the same image with different labels")
    if not keep:
        raise DataError(f"{manifest.name}: all figures are copies with different labels; fix: correct the labels")
    return (manifest if len(keep) == len(manifest) else manifest.take(np.array(sorted(keep)))), tuple(notes)


def _image_keys(manifest: Manifest, progress: Progress) -> list[tuple[Any, ...] | None]:
    """What is equal for figures whose image is the same; None where an image can be told by nothing."""
    table = manifest.table
    images, sums, xs, ys = (table[column].to_pylist() for column in (r.IMAGE, r.SHA256, r.X_PX, r.Y_PX))
    found: list[tuple[Any, ...] | None] = []
    with ThreadPoolExecutor(min(MOST_THREADS, core_count())) as pool:
        crops = [
            manifest.root / image if manifest.root and x is None else None for image, x in zip(images, xs, strict=True)
        ]
        for pixels, image, checksum, x, y in zip(pool.map(_pixel_key, crops), images, sums, xs, ys, strict=True):
            if x is not None:
                found.append((image, x, y))
            else:
                found.append((pixels or checksum,) if pixels or checksum else None)
            progress(len(found), len(images), f"images of {manifest.name} compared")
    return found


def _pixel_key(path: Path | None) -> str | None:
    """The hash of a crop's pixels; None where it cannot be read, which is told where it is scored."""
    try:
        return None if path is None else dihedral_hash(read_rgb(path))
    except DataError:
        return None


def scored(manifest: Manifest, classifier: Classifier, progress: Progress = silent) -> ScoredOwnFigures:
    """What a classifier's one network gives for figures whose crops are cut as ``atypia predict`` cuts them.

    Args:
        manifest: The figures; µm/px of crops is the column ``mpp``, else what their files state.
        classifier: Of one member.
        progress: Told how many are done.

    Raises:
        DataError: No figure gives a crop.
        InputError: There are several members, or figures lie on slides and the model does not say its field.
    """
    if len(classifier.members) != 1 or classifier.tta:
        raise InputError(must("model", "one network", classifier.name, "name one model"))
    runtime = classifier.members[0].runtime
    logits: dict[int, np.float32] = {}
    features: dict[int, npt.NDArray[np.float32]] = {}
    reasons: dict[int, str] = {}
    for rows, crops in _crops(manifest, classifier, reasons):
        z, f = runtime.run(crops)
        logits.update(zip(rows, z, strict=True))
        features.update(zip(rows, f, strict=True))
        progress(len(logits), len(manifest), f"figures scored by {classifier.name}")
    if not logits:
        first = next(iter(reasons.values()), "there is none")
        raise DataError(
            f"{manifest.name}: none of the {len(manifest)} figures gives a crop, the first because: {first}"
        )
    rows = sorted(logits)
    usable = manifest if len(rows) == len(manifest) else manifest.take(np.array(rows))
    notes = _left_out(manifest, {manifest.ids[i]: reasons[i] for i in sorted(reasons)})
    return ScoredOwnFigures(usable, np.array([logits[i] for i in rows]), np.stack([features[i] for i in rows]), notes)


def readable(manifest: Manifest, store: CropStore) -> tuple[Manifest, tuple[str, ...]]:
    """The figures that give a crop, and which do not.

    Args:
        manifest: All.
        store: Their crops.
    """
    usable = np.asarray(store.usable, dtype=bool)
    return (manifest if usable.all() else manifest.take(np.flatnonzero(usable))), _left_out(manifest, store.quarantined)


def _left_out(manifest: Manifest, reasons: Mapping[str, str]) -> tuple[str, ...]:
    """How many figures of a set give no crop, and why the first do not; reasons by their ids."""
    if not reasons:
        return ()
    some = "; ".join(f"{figure}: {why}" for figure, why in list(reasons.items())[:MOST_SHOWN])
    return (f"{len(reasons)} of {len(manifest)} figures left out, they give no crop ({some})",)


def _crops(
    manifest: Manifest, classifier: Classifier, reasons: dict[int, str]
) -> Iterator[tuple[list[int], npt.NDArray[np.uint8]]]:
    """Rows and their crops, batch by batch; the reasons of those that give none are filled in."""
    table = manifest.table
    if manifest.root is None:
        raise DataError(f"{manifest.name}: its images are not at hand; fix: name data with images")
    on_slide = [x is not None for x in table[r.X_PX].to_pylist()]
    slides = [i for i, cut in enumerate(on_slide) if cut]
    if slides:
        part = manifest.take(np.array(slides))
        store = open_store(part, classifier.slide_geometry)
        reasons.update({slides[part.ids.index(figure)]: why for figure, why in store.quarantined.items()})
        for rows, crops in store.batches():
            yield [slides[i] for i in rows.tolist()], crops
    by_mpp: dict[float | None, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    images = zip(table[r.IMAGE].to_pylist(), table[r.MPP].to_pylist(), on_slide, strict=True)
    for row, (image, mpp, cut) in enumerate(images):
        if not cut:
            by_mpp[mpp][str(manifest.root / image)].append(row)
    for mpp, files in by_mpp.items():
        yield from _files(files, mpp, classifier, reasons)


def _files(
    files: dict[str, list[int]], mpp: float | None, classifier: Classifier, reasons: dict[int, str]
) -> Iterator[tuple[list[int], npt.NDArray[np.uint8]]]:
    geometry = classifier.geometry if mpp is None or classifier.field_um is None else classifier.slide_geometry
    paths: Sequence[str] = [path for path in files if Path(path).is_file()]
    for path in set(files) - set(paths):
        reasons.update(dict.fromkeys(files[path], f"{path} does not exist"))
    if not paths:
        return
    stream = crop_files(paths, geometry, mpp=mpp, given_as="column `mpp`", assumed_um=classifier.field_um)
    for item in stream:
        if isinstance(item, CropBatch):
            places = [(row, at) for at, image in enumerate(item.images) for row in files[image]]
            yield [row for row, _ in places], item.crops[[at for _, at in places]]
        else:
            reasons.update(dict.fromkeys(files[item.image], item.reason))
