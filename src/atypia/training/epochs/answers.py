"""Scores of saved classifiers for a student's training figures: computed once, before the training, and cached.

Each teacher scores every figure in all requested variants (:class:`atypia.methods.options.Variants`): the eight
flips and quarter turns, each in the original stain and in several altered stains. Logits are kept in the folder
``<cache>/teachers/<fingerprint>/``, one file per block of figures, which is written when the block is done: a
stopped training continues with the next block, and another student, seed or fold of the same figures reads them. The
fingerprint covers the teacher, the crops, the rows and the variants.

Unlike a teacher that scores batches, such a teacher sees a figure with its own geometry and view, whatever the
student's are, and may be a probe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atypia.base.artifacts import atomic_file, fingerprint, lock, private_folder
from atypia.base.errors import InputError, must
from atypia.base.paths import cache_root
from atypia.base.process.progress import Progress, silent
from atypia.base.seeds import derive_seed
from atypia.data.augment.colour import jitter_stains
from atypia.data.crops.store import CropStore, open_store
from atypia.data.manifest import Manifest
from atypia.inference.bundles.bundle import Bundle
from atypia.inference.runtimes.torch_runtime import TorchRuntime
from atypia.inference.voting import VIEWS, dihedral_views
from atypia.methods.options import Variants
from atypia.methods.terms.distillation import teacher_logits

Crops = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

ANSWERS_VERSION: Final = 1
"""Raised when a change of the code gives other scores for the same inputs."""
FOLDER: Final = "teachers"
"""Kind of the cache (:data:`atypia.base.cachefiles.KINDS`)."""
PIECE: Final = 128
"""Figures in a file."""
WAIT_S: Final = 7 * 24 * 3600.0
"""How long a training waits for another one that computes the same scores: as long as a training may take."""
STRENGTH, OFFSET = 0.25, 0.03
"""Largest change of a stain, as a factor from 1 ± and in optical density: those of the augmentation ``robust``."""


@dataclass(frozen=True, eq=False)
class Figures:
    """The figures that teachers score.

    Attributes:
        manifest: All figures.
        store: Their crops, as the student's geometry cuts them.
        rows: Those that are scored, shape (n,).
    """

    manifest: Manifest
    store: CropStore
    rows: npt.NDArray[np.int64]


def mean_answers(
    bundles: Sequence[Bundle],
    figures: Figures,
    variants: Variants,
    device: torch.device | None = None,
    progress: Progress = silent,
) -> Tensor:
    """The teachers' combined score of each row, as a logit.

    The logits of one teacher are averaged over the variants of a figure, as ``predict --tta`` averages over views;
    several teachers are combined by their mean probability, as when they score batches.

    Args:
        bundles: The teachers.
        figures: The figures that they score.
        variants: The variants of each figure.
        device: Where they run; None: a GPU if there is one.
        progress: Told the number of crops that were scored.

    Returns:
        Shape (number of all rows,), float32; NaN for rows that were not scored.

    Raises:
        InputError: A teacher's geometry gives no crop of some of these figures.
        AbsentError: The backbone's weights of a teacher are not on this machine.
    """
    found = [answers(bundle, figures, variants, device, progress).mean(axis=1, dtype=np.float64) for bundle in bundles]
    told = torch.full((len(figures.manifest),), torch.nan)
    told[torch.from_numpy(figures.rows)] = teacher_logits([torch.from_numpy(mean) for mean in found]).float()
    return told


def answers(
    bundle: Bundle,
    figures: Figures,
    variants: Variants,
    device: torch.device | None = None,
    progress: Progress = silent,
    cache: Path | None = None,
) -> Floats:
    """One teacher's logits, shape (n, variants), from the cache if they are there; see :func:`mean_answers`."""
    store = _store_of(bundle, figures)
    usable = np.asarray(store.usable, dtype=bool)[figures.rows]
    if not usable.all():
        lost = figures.manifest.ids[int(figures.rows[~usable][0])]
        raise InputError(
            must(f"teacher {bundle.name}", "of a field that lies within all crops", f"none of {lost}",
                 "name a teacher of the student's geometry")
        )  # fmt: skip
    key = fingerprint(
        "answers", ANSWERS_VERSION, bundle.fingerprint, store.fingerprint, figures.rows.tolist(),
        [variants.views, variants.stains], PIECE,
    )  # fmt: skip
    folder = private_folder((cache or cache_root()) / FOLDER / key)
    pieces = [figures.rows[start : start + PIECE] for start in range(0, len(figures.rows), PIECE)]
    paths = [folder / f"logits-{number:05d}.npy" for number in range(len(pieces))]
    shapes = [(len(piece), len(variants)) for piece in pieces]
    total, done, network = len(figures.rows) * len(variants), 0, list[TorchRuntime]()
    what = f"crops scored by the teacher {bundle.name}"
    with lock(folder, WAIT_S):  # another training that needs the same scores waits, and then reads them
        kept = [_kept(path, shape) for path, shape in zip(paths, shapes, strict=True)]
        for number, piece in enumerate(pieces):
            if kept[number] is None:
                network = network or [TorchRuntime(bundle, None, device)]
                said = [network[0].run(form)[0] for form in forms(np.ascontiguousarray(store.crops[piece]), variants)]
                kept[number] = values = np.stack(said, axis=1)
                with atomic_file(paths[number], private=True) as file:
                    np.lib.format.write_array(file, values, allow_pickle=False)
            done += len(piece) * len(variants)
            progress(done, total, what)
    return np.concatenate([values for values in kept if values is not None])


def forms(crops: Crops, variants: Variants) -> Iterator[Crops]:
    """All variants of crops (n, s, s, 3): for each stain, the original one first, all views."""
    for number in range(1 + variants.stains):
        stained = crops if number == 0 else stain_variant(crops, number)
        yield from dihedral_views(stained) if variants.views == VIEWS else (stained,)


def stain_variant(crops: Crops, number: int) -> Crops:
    """Crops with an altered stain: the same change for all, determined by ``number``.

    The formula is that of :class:`atypia.data.augment.colour.StainJitter`. Each even number is the opposite of the odd
    one before it, so that an even count of altered stains is balanced between more and less stain.

    Args:
        crops: Shape (n, s, s, 3), uint8 RGB.
        number: From 1.
    """
    generator = torch.Generator().manual_seed(derive_seed(0, "teachers' stains", (number + 1) // 2))
    drawn = (torch.rand(2, 3, generator=generator) * 2 - 1) * (1 if number % 2 else -1)
    alpha, beta = 1 + STRENGTH * drawn[:1], OFFSET * drawn[1:]
    images = torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(255)
    changed = jitter_stains(images, alpha.expand(len(crops), 3), beta.expand(len(crops), 3))
    return np.ascontiguousarray(changed.mul_(255).round_().to(torch.uint8).permute(0, 2, 3, 1).numpy())


def _store_of(bundle: Bundle, figures: Figures) -> CropStore:
    """The figures' crops, cut with the teacher's geometry."""
    if bundle.geometry == figures.store.geometry:
        return figures.store
    return open_store(figures.manifest, bundle.geometry)


def _kept(path: Path, shape: tuple[int, int]) -> Floats | None:
    """The logits of a block; None if they are not there, or damaged."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return values if values.shape == shape and values.dtype == np.float32 and np.isfinite(values).all() else None
