"""Sampling: writes generated crops as an ordinary data set; resumable, in constant memory.

A set's folder contains ``normal/*.png``, ``atypical/*.png`` (``unlabelled/`` for crops without a class),
``seen.parquet``, ``sampling.json`` (the request) and, written last, ``manifest.parquet``.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from PIL import Image

from atypia.base import records as r
from atypia.base.artifacts import atomic_file, fingerprint, lock, read_json, write_json
from atypia.base.errors import DataError, InputError, must
from atypia.base.process.progress import Progress, silent
from atypia.base.seeds import derive_seed
from atypia.data.audit.provenance import DATASET_NAME, SEEN_NAME
from atypia.data.images.pngfiles import whole_png
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import MANIFEST_NAME
from atypia.inference.networks import device_of
from atypia.synthesis.generator import Generator, GeneratorSampler
from atypia.synthesis.model.diffusion import SamplingConfig
from atypia.synthesis.schema import DOMAIN, PHASE
from atypia.synthesis.training.train import check_space
from atypia.training.identity import refuse_other

ASKED: Final = "sampling.json"
SAMPLING_VERSION: Final = 1
"""Increased when a change makes samples from the same inputs different."""
UNLABELLED: Final = "unlabelled"


@dataclass(frozen=True)
class SamplingRequest:
    """What to sample.

    Attributes:
        normal: Crops of class 0; None for the default, none.
        atypical: Crops of class 1; None for the default: as many as are needed to balance the classes of the
        generator's training part.
        unlabelled: Crops without a class.
        settings: Guidance, steps and sampler.
        seed: Master seed.
        batch: Crops drawn at once. Batch size changes a crop only by rounding (at most one grey level in
        few pixels); with the same batch size, machine and number of threads, crops are identical to the last bit.
    """

    normal: int | None = None
    atypical: int | None = None
    unlabelled: int = 0
    settings: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int = 0
    batch: int = 64

    def __post_init__(self) -> None:
        for name in ("normal", "atypical", "unlabelled"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InputError(must(name, "0 or more", value, "for instance 500"))
        if self.batch < 1:
            raise InputError(must("batch", "at least 1", self.batch, "for instance 64"))


def counts_of(wanted: SamplingRequest, generator: Generator) -> tuple[int, int, int]:
    """Numbers of crops of class 0, of class 1, and without a class.

    Raises:
        InputError: Classes were asked for, but the generator was trained without them; or no crops were asked for.
    """
    facts = generator.facts
    normal = wanted.normal or 0
    atypical = wanted.atypical
    if atypical is None:
        # Synthetic negatives are only made if asked for; by default, positives balance the classes.
        plain = facts.labelled and wanted.normal is None and not wanted.unlabelled
        atypical = max(0, facts.counts[0] - facts.counts[1]) if plain else 0
    if not facts.labelled and (normal or atypical):
        expected = "one trained with classes, to sample crops of a class"
        raise InputError(must(f"generator {generator.folder}", expected, "an unlabelled one", "pass --unlabelled N"))
    counts = (normal, atypical, wanted.unlabelled)
    if not sum(counts):
        said = f"none: its training part has {facts.counts[0]} and {facts.counts[1]} figures"
        raise InputError(must("crops wanted", "at least one", said, "pass --atypical N, --normal N or --unlabelled N"))
    return counts


def sample_set(
    generator: Generator, out: Path, wanted: SamplingRequest, device: str = "auto", progress: Progress = silent
) -> Manifest:
    """Writes a set of generated crops, or its missing crops.

    A crop depends only on the generator, the settings, the seed, its class and its index. Crops are
    drawn in batches of equal size at multiples of that size, so that a resumed call writes exactly the
    files of an uninterrupted one.

    Args:
        generator: A trained generator.
        out: The set's folder; an existing set is completed if it has the same settings and no more crops per class.
        wanted: How many crops, and how.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: Receives the number of crops done.

    Returns:
        The manifest: ``synthetic`` true, the class as label, with provenance in every row.

    Raises:
        InputError: The generator cannot make this set, or the folder contains something else.
        WorkError: The disk is full, or samples are not finite.
    """
    counts = counts_of(wanted, generator)
    asked = _identity(generator, wanted)
    out = Path(out).resolve()
    total = sum(counts)
    side = generator.recipe.geometry.out_px
    with lock(out / ASKED):
        _check_folder(out, asked, counts)
        finished = _finished(out, asked, counts)
        if finished is not None:
            progress(total, total, "crops generated")
            return finished
        check_space(out, total * side * side * 3)
        generator.seen().save(out / SEEN_NAME)
        write_json(out / ASKED, {**asked, "counts": list(counts)})
        where = device_of(device)
        sampler = GeneratorSampler(generator, where, wanted.settings)
        rows: list[dict[str, Any]] = []
        for label, count in zip((0, 1, None), counts, strict=True):
            for batch in _batches(label, count, wanted, generator):
                rows += _write_batch(out, batch, sampler, asked["key"], wanted)
                progress(len(rows), total, "crops generated")
        manifest = Manifest.from_rows(rows, _set_name(generator, wanted), generator.facts.task, out, [_note(generator)])
        manifest.save(out / MANIFEST_NAME)
        return manifest


@dataclass(frozen=True)
class _Batch:
    """Crops that are drawn together; those beyond ``kept`` only fill the batch and are discarded."""

    label: int | None
    indices: tuple[int, ...]
    seeds: tuple[int, ...]
    kept: int


def _batches(label: int | None, count: int, wanted: SamplingRequest, generator: Generator) -> Iterator[_Batch]:
    name = _class_name(label, generator.facts.task)
    for start in range(0, count, wanted.batch):
        # Always a full batch: the rounding of a matrix product may depend on its size.
        indices = tuple(range(start, start + wanted.batch))
        seeds = tuple(derive_seed(wanted.seed, "sample", name, index) for index in indices)
        yield _Batch(label, indices, seeds, min(wanted.batch, count - start))


def _write_batch(
    out: Path, batch: _Batch, sampler: GeneratorSampler, key: str, wanted: SamplingRequest
) -> list[dict[str, Any]]:
    """Writes a batch unless all of its files are complete; returns their rows."""
    facts = sampler.facts
    name = _class_name(batch.label, facts.task)
    side = sampler.generator.recipe.geometry.out_px
    stems = [f"syn-{key[:10]}-{name[:1]}{index:07d}" for index in batch.indices[: batch.kept]]
    paths = [out / name / f"{stem}.png" for stem in stems]
    there = [whole_png(path, side) for path in paths]
    if any(data is None for data in there):
        crops = sampler.draw([batch.label] * len(batch.indices), batch.seeds)
        for position, path in enumerate(paths):
            if there[position] is None:
                there[position] = _png(crops[position])
                with atomic_file(path) as file:
                    file.write(there[position] or b"")
    told = sampler.conditions([batch.label] * batch.kept, batch.seeds[: batch.kept])
    rows = []
    for position, stem in enumerate(stems):
        row: dict[str, Any] = {
            r.FIGURE_ID: stem,
            r.DATASET: DATASET_NAME,
            r.IMAGE: f"{name}/{stem}.png",
            r.LABEL: batch.label,
            r.MPP: facts.mpp,
            r.WIDTH_PX: side,
            r.HEIGHT_PX: side,
            r.SHA256: hashlib.sha256(there[position] or b"").hexdigest(),
            r.SYNTHETIC: True,
            r.GENERATOR: sampler.generator.fingerprint,
            r.GENERATOR_FOLD: facts.fold,
            r.SEEN: facts.seen,
            r.SAMPLE_SEED: wanted.seed,
            r.SAMPLE_INDEX: batch.indices[position],
            r.GUIDANCE: wanted.settings.guidance,
        }
        if DOMAIN in told:
            row[r.DOMAIN] = told[DOMAIN][position]
        if PHASE in told and told[PHASE][position] is not None:
            row[r.PHASE] = [told[PHASE][position]]
        rows.append(row)
    return rows


def _class_name(label: int | None, task: str) -> str:
    return UNLABELLED if label is None else r.CLASS_NAMES[task][label]


def _identity(generator: Generator, wanted: SamplingRequest) -> dict[str, Any]:
    """What identifies this set, apart from the number of crops."""
    settings = {**asdict(wanted.settings), "batch": wanted.batch}
    values = {"version": SAMPLING_VERSION, "generator": generator.fingerprint, "seed": wanted.seed, **settings}
    return {**values, "key": fingerprint(values)}


def _check_folder(out: Path, asked: dict[str, Any], counts: Sequence[int]) -> None:
    remedy = "choose another --out, or delete it"
    if out.exists() and not out.is_dir():
        raise InputError(must("out", "a folder", f"the file {out}", remedy))
    path = out / ASKED
    if path.exists():
        there = read_json(path)
        if not isinstance(there, dict) or there.get("key") != asked["key"]:
            old = there if isinstance(there, dict) else {}
            differs = [key for key in asked if key != "key" and old.get(key) != asked[key]]
            refuse_other(out, differs or ["key"], "set of samples")
        if any(old > new for old, new in zip(there.get("counts", (0, 0, 0)), counts, strict=True)):
            raise InputError(f"{out} holds more crops of a class ({there['counts']}) than are asked for; fix: {remedy}")
    elif any(entry for entry in out.iterdir() if not entry.name.startswith(".")) if out.is_dir() else False:
        raise InputError(f"{out} holds something other than a set of samples; fix: {remedy}")


def _finished(out: Path, asked: dict[str, Any], counts: Sequence[int]) -> Manifest | None:
    try:
        manifest = Manifest.load(out / MANIFEST_NAME)
        if read_json(out / ASKED) != {**asked, "counts": list(counts)} or len(manifest) != sum(counts):
            return None
    except (DataError, OSError):
        return None
    images = manifest.table[r.IMAGE].to_pylist()
    return replace(manifest, root=out) if all((out / image).is_file() for image in images) else None


def _set_name(generator: Generator, wanted: SamplingRequest) -> str:
    fold = f"-{generator.facts.fold}" if generator.facts.fold else ""
    return f"{DATASET_NAME}-{generator.facts.name}{fold}-g{wanted.settings.guidance:g}"


def _note(generator: Generator) -> str:
    where = f", {generator.facts.fold}" if generator.facts.fold else ""
    said = f"generated by {generator.fingerprint[:8]} ({generator.facts.name}, {generator.facts.data}{where}): no real figures"
    taught = generator.recipe.autoencoder.perceptual
    if taught is None:
        return said
    return f"{said}; trained with a loss on features of {taught.backbone}, so distances on these features are too optimistic"


def _png(crop: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, "PNG")
    return buffer.getvalue()
