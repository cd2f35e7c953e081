"""The score of a set of generated crops: similarity to real crops, number of copies, recognised class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from atypia.backbones.features import open_features
from atypia.backbones.weights import require
from atypia.base import records as r
from atypia.base.artifacts import atomic_file, write_json
from atypia.base.errors import DataError, InputError, must
from atypia.base.process.progress import Progress, silent
from atypia.base.seeds import generator
from atypia.data.audit.provenance import generator_records
from atypia.data.crops.store import CropStore, open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest
from atypia.synthesis.measures.fidelity import Judgement, intended_classes, intended_probability, score_with_classifiers
from atypia.synthesis.measures.memorisation import Memorisation, memorisation
from atypia.synthesis.measures.quality import frechet_distance, kernel_distance, overlap
from atypia.synthesis.sheets import SCORED, save_sheet, score_sheet

BACKBONE: Final = "efficientnet-lite0"
"""Default backbone for features: its ImageNet weights come in a package, so nothing is downloaded."""
SCORE, TABLE, SHEET = "score.json", "score.md", "score.png"
SIDE_PX: Final = 128
"""Side, in pixels, to which generated and real crops are resized for the features."""
NEIGHBOURS: Final = 5
FEWEST: Final = 2 * (NEIGHBOURS + 1)
"""Least figures of each of two sets that are compared: half of them must have that many neighbours."""


@dataclass(frozen=True)
class ScoreJob:
    """What to score.

    Attributes:
        made: Generated crops.
        real: Real figures: those that the generator saw, ideally together with others.
        backbone: Backbone whose features are compared.
        bundles: Classifiers that predict the class.
        seed: Seed for drawing subsets.
    """

    made: Manifest
    real: Manifest
    backbone: str = BACKBONE
    bundles: tuple[Path, ...] = ()
    seed: int = 0


@dataclass(frozen=True, eq=False)
class GeneratedScore:
    """Results.

    Attributes:
        values: All values, JSON-like.
        copies: Which generated crops are copies of training crops, shape (n,); quarantined ones are False.
        judgements: Predictions of each classifier.
        seen: All figures that the generators saw; None if unknown.
        sheet: Real crops beside generated ones by class, and the nearest pairs; None if there is nothing to show.
    """

    values: dict[str, Any]
    copies: npt.NDArray[np.bool_]
    judgements: tuple[Judgement, ...]
    seen: Manifest | None
    sheet: Image.Image | None = None


def score_set(job: ScoreJob, progress: Progress = silent) -> GeneratedScore:
    """Scores a set of generated crops.

    Beside every distance stands the same distance between two halves of the real crops, of equal size. This
    is what a perfect generator would reach: distances of small sets are far from 0 by chance alone.

    Raises:
        AbsentError: The backbone's weights, or images, are not on this machine.
        InputError: No generated crops, too few real crops, or another task.
    """
    made, real = job.made, job.real
    if not made.synthetic.all():
        expected = "a set of generated crops"
        raise InputError(must(made.name, expected, "real figures", "give the --out folder of `atypia synth sample`"))
    if real.synthetic.any():
        raise InputError(must(real.name, "real figures", "generated ones among them", "name the real set"))
    require(job.backbone)
    seen = _seen(made)
    side = CropGeometry(out_px=SIDE_PX)
    made_store, real_store = open_store(made, side, progress=progress), open_store(real, side, progress=progress)
    made_rows = np.flatnonzero(made_store.usable)
    training, others = _sides(real, seen, real_store)
    vectors = (_vectors(made_store, job.backbone, progress), _vectors(real_store, job.backbone, progress))
    values: dict[str, Any] = {
        "set": made.name,
        "notes": list(made.notes),
        "generators": sorted(set(made.table[r.GENERATOR].to_pylist())),
        "guidance": sorted(set(made.table[r.GUIDANCE].to_pylist())),
        "real": real.name,
        "features": f"{job.backbone} at {vectors[0][1]} px",
        "figures": {"generated": len(made_rows), "training": len(training), "other": len(others)},
        "classes": {},
    }
    labels = [np.array([-1 if y is None else y for y in m.table[r.LABEL].to_pylist()]) for m in (made, real)]
    for label in (0, 1):
        rows = made_rows[labels[0][made_rows] == label]
        if not len(rows):
            continue
        sides = {
            "training": training[labels[1][training] == label],
            "other": others[labels[1][others] == label],
        }
        found = {name: _compared(vectors[1][0][there], vectors[0][0][rows], job.seed) for name, there in sides.items()}
        values["classes"][r.CLASS_NAMES[made.task][label]] = found
    memory = _memory(made_store, made_rows, real, real_store, training, progress)
    values["memorisation"] = None if memory is None else _told(memory, made, made_rows, real, training)
    copies = np.zeros(len(made), dtype=bool)
    if memory is not None:
        copies[made_rows] = memory.copies
    judgements = score_with_classifiers(made, job.bundles, seen, progress)
    values["label_fidelity"] = [one.as_dict(intended_classes(made, one.ids)) for one in judgements]
    stores, picked = (real_store.crops, made_store.crops), (training, made_rows)
    return GeneratedScore(values, copies, tuple(judgements), seen, _sheet(stores, picked, labels, memory, job))


def _sheet(
    crops: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]],
    rows: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    labels: Sequence[npt.NDArray[np.int64]],
    memory: Memorisation | None,
    job: ScoreJob,
) -> Image.Image | None:
    """Random training crops and generated crops of each class; then the generated crops nearest to a training crop."""
    rng = generator(job.seed, "sheet")
    (real, made), (training, generated) = crops, rows
    lines: list[tuple[str, int | None, npt.NDArray[np.uint8]]] = []
    for label in (0, 1):
        mine, theirs = generated[labels[0][generated] == label], training[labels[1][training] == label]
        if len(mine) and len(theirs):
            lines.append(("real", label, real[np.sort(rng.permutation(theirs)[:SCORED])]))
            lines.append(("generated", label, made[np.sort(rng.permutation(mine)[:SCORED])]))
    if memory is not None and lines:
        nearest = np.argsort(memory.distances, kind="stable")[:SCORED]
        lines.append(("nearest", None, made[generated[nearest]]))
        lines.append(("to this", None, real[training[memory.nearest[nearest]]]))
    return score_sheet(lines, job.made.name, job.made.task) if lines else None


def _seen(made: Manifest) -> Manifest | None:
    from atypia.data.audit.provenance import seen_table

    tables = [maker.seen for maker in generator_records(made)]
    known = [table for table in tables if table is not None]
    return seen_table(known, f"seen by the generators of {made.name}") if known and len(known) == len(tables) else None


def _sides(
    real: Manifest, seen: Manifest | None, store: CropStore
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of real figures that the generator saw, and of the others; if this is unknown, all count as seen."""
    usable = np.asarray(store.usable)
    if seen is None:
        return np.flatnonzero(usable), np.zeros(0, dtype=np.int64)
    known = set(zip(seen.table[r.DATASET].to_pylist(), seen.ids, strict=True))
    rows = zip(real.table[r.DATASET].to_pylist(), real.ids, strict=True)
    was_seen = np.array([row in known for row in rows], dtype=bool)
    if not (was_seen & usable).any():
        raise InputError(
            must(f"real figures {real.name}", "to include those that the generator learned from", "none of them",
                 "pass --data as in `atypia synth train`")
        )  # fmt: skip
    return np.flatnonzero(was_seen & usable), np.flatnonzero(~was_seen & usable)


def _vectors(store: CropStore, backbone: str, progress: Progress) -> tuple[npt.NDArray[np.float64], int]:
    features = open_features(store, backbone, progress=progress)
    return np.asarray(features.values, dtype=np.float64), features.input_px


def _compared(real: npt.NDArray[np.float64], made: npt.NDArray[np.float64], seed: int) -> dict[str, Any] | None:
    """All distances between two sets, and between halves of the real one; None if there are too few figures."""
    n = min(len(real), len(made))
    if n < FEWEST:
        return None
    rng = generator(seed, "score")
    own, other = real[rng.permutation(len(real))[:n]], made[rng.permutation(len(made))[:n]]
    half = n // 2
    floor = real[rng.permutation(len(real))[: 2 * half]]
    return {
        "figures": n,
        **_distances(own, other, seed),
        "half": {"figures": half, **_distances(own[:half], other[:half], seed)},
        "real_halves": {"figures": half, **_distances(floor[:half], floor[half:], seed)},
    }


def _distances(real: npt.NDArray[np.float64], made: npt.NDArray[np.float64], seed: int) -> dict[str, Any]:
    kernel = kernel_distance(real, made, seed=seed)
    return {
        "fid": frechet_distance(real, made),
        "kid": kernel.mean,
        "kid_sd": kernel.sd,
        "kid_subset": kernel.subset,
        **asdict(overlap(real, made, NEIGHBOURS)),
    }


def _memory(
    made_store: CropStore,
    made_rows: npt.NDArray[np.int64],
    real: Manifest,
    real_store: CropStore,
    training: npt.NDArray[np.int64],
    progress: Progress,
) -> Memorisation | None:
    cases = real.cases[training]
    if len(training) < 2 or len(set(cases.tolist())) < 2:
        return None
    return memorisation(made_store.crops[made_rows], real_store.crops[training], cases, progress)


def real_and_made(
    made: Manifest, real: Manifest, progress: Progress = silent
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Crops of generated and of real figures at one size, in the order of their manifests."""
    side = CropGeometry(out_px=SIDE_PX)
    return open_store(made, side, progress=progress).crops, open_store(real, side, progress=progress).crops


def _told(
    memory: Memorisation,
    made: Manifest,
    made_rows: npt.NDArray[np.int64],
    real: Manifest,
    training: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """Report of memorisation, with the ids of the nearest pairs."""
    order = np.argsort(memory.distances, kind="stable")[:20]
    pairs = [
        {
            "figure": made.ids[int(made_rows[i])],
            "training_figure": real.ids[int(training[memory.nearest[i]])],
            "distance": float(memory.distances[i]),
            "copy": bool(memory.copies[i]),
        }
        for i in order
    ]
    return {**memory.as_dict(), "nearest_pairs": pairs}


def write_score(score: GeneratedScore, folder: Path) -> tuple[Path, ...]:
    """Writes ``score.json``, ``score.md`` and, where there is a picture, ``score.png``, which shows crops of the data.

    Returns:
        The files, in this order.

    Raises:
        WorkError: The disk is full or cannot be written.
    """
    write_json(folder / SCORE, _plain(score.values))
    with atomic_file(folder / TABLE, "w") as file:
        file.write(score_text(score.values))
    if score.sheet is None:
        (folder / SHEET).unlink(missing_ok=True)  # of an earlier score
        return folder / SCORE, folder / TABLE
    save_sheet(score.sheet, folder / SHEET)
    return folder / SCORE, folder / TABLE, folder / SHEET


def score_text(values: dict[str, Any]) -> str:
    """The score as Markdown."""
    lines = [f"# {values['set']}", "", f"Features: {values['features']}. Real: {values['real']}.", ""]
    lines += [line for note in values["notes"] for line in (f"Note: {note}.", "")]
    lines += [
        line
        for name, sides in values["classes"].items()
        for side, found in sides.items()
        if found is None and (side == "training" or values["figures"][side])
        for line in (f"No distances of {name} to real figures ({side}): at least {FEWEST} of each are needed.", "")
    ]
    lines += ["| class | against | figures | FID | KID | precision | recall | density | coverage |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for name, sides in values["classes"].items():
        for side, found in sides.items():
            if found is None:
                continue
            lines.append(_line(name, f"real, {side}", found))
            lines.append(_line(name, f"real, {side}, half", found["half"]))
            lines.append(_line("real", f"real, {side}, halves", found["real_halves"]))
    memory = values["memorisation"]
    if memory is None:
        lines += ["", "Copies were not looked for: that needs training figures of two cases or more."]
    else:
        q = "q0.5"
        lines += [
            "",
            f"Copies of training crops: {memory['copies']} ({100 * memory['share']:.1f} %; among new real crops "
            f"{100 * memory['expected_share']:g} % would count as copies). Median distance to the nearest training crop "
            f"{memory['generated_to_training'][q]:.1f} grey levels; between real crops of different cases "
            f"{memory['real_to_real'][q]:.1f}.",
        ]
    for one in values["label_fidelity"]:
        parts = [f"{key} {one[key]:.3f}" for key in ("sensitivity", "specificity", "auroc") if one[key] is not None]
        shared = one["shared_training_figures"]
        known = "its training figures are unknown" if shared is None else f"{shared} training figures shared"
        lines += ["", f"Recognised by {one['classifier']}: {', '.join(parts)} ({known})."]
    return "\n".join(lines) + "\n"


def _line(name: str, against: str, found: dict[str, Any]) -> str:
    shown = [f"{found['fid']:.2f}", f"{found['kid']:.4f}"]
    shown += [f"{found[key]:.2f}" for key in ("precision", "recall", "density", "coverage")]
    return f"| {name} | {against} | {found['figures']} | {' | '.join(shown)} |"


def _plain(value: Any) -> Any:
    """Replaces NaN, which JSON lacks, with null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def open_samples(reference: Path) -> Manifest:
    """Opens a set of generated crops.

    Raises:
        InputError: The folder contains none.
        DataError: It is damaged.
    """
    from atypia.data.sources.opening import MANIFEST_NAME

    path = reference / MANIFEST_NAME
    if not path.is_file():
        expected = "a folder of `atypia synth sample`"
        raise InputError(
            must("samples", expected, f"{reference} (no {MANIFEST_NAME})", "wait until sampling is complete")
        )
    manifest = Manifest.load(path)
    if not manifest.synthetic.any():
        raise DataError(must(str(reference), "a set of generated crops", "real figures", "give another folder"))
    return manifest


def kept_rows(score: GeneratedScore, made: Manifest, drop_copies: bool, min_p: float | None) -> npt.NDArray[np.bool_]:
    """Which crops pass: no copies, and the mean probability of their class is at least ``min_p``.

    Args:
        score: The set's score.
        made: The set.
        drop_copies: Whether copies are left out.
        min_p: Least probability of the intended class, the mean over classifiers; None for no minimum.

    Raises:
        InputError: A probability is asked for without a classifier, or is not in [0, 1].
    """
    kept = np.ones(len(made), dtype=bool) if not drop_copies else ~score.copies
    if min_p is None:
        return kept
    if not 0 <= min_p <= 1:
        raise InputError(must("min_p", "between 0 and 1", min_p, "for instance 0.5"))
    return kept & (intended_probability(score.judgements, made) >= min_p)
