"""Frozen teachers of a distillation: which bundles, whether they may be used for this fold, how they score its batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atypia.backbones.catalogue import Backbone
from atypia.base import runs
from atypia.base.errors import DataError, InputError, count_noun, must
from atypia.data.audit.findings import AuditFinding, list_figures
from atypia.data.manifest import Manifest
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.networks import load_network
from atypia.methods.network import Network, NetworkSpec, Output
from atypia.splits.split import Fold, Split

FOLD: Final = "{fold}"
"""Stands for the fold's name in the path of a teacher: each fold then learns from its own."""


class Teacher(nn.Module):
    """A network that scores a student's batches, whose normalisation and size may differ from its own.

    Args:
        network: The teacher, in evaluation mode.
        student: The student's backbone, with the normalisation of its batches.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Network, student: Backbone) -> None:
        super().__init__()
        self.network = network
        entry = network.spec.entry
        scale = torch.tensor(student.std) / torch.tensor(entry.std)
        shift = (torch.tensor(student.mean) - torch.tensor(entry.mean)) / torch.tensor(entry.std)
        self.register_buffer("scale", scale[None, :, None, None])
        self.register_buffer("shift", shift[None, :, None, None])

    def forward(self, images: Tensor) -> Output:
        """Scores images (b, 3, s, s) that were normalised for the student."""
        side = self.network.spec.input_px
        seen = images * self.scale + self.shift
        if seen.shape[-1] != side:
            seen = F.interpolate(seen, (side, side), mode="bilinear", antialias=True, align_corners=False)
        return self.network(seen)


def teacher_paths(teachers: Sequence[str], fold: Fold) -> list[Path]:
    """The teachers' folders for one fold."""
    return [Path(path.replace(FOLD, fold.name)) for path in teachers]


def load_teachers(paths: Sequence[Path], spec: NetworkSpec | None) -> list[Bundle]:
    """Reads teachers.

    Args:
        paths: Their folders.
        spec: The student, whose batches they score; None if they score the figures themselves.

    Raises:
        DataError: One is not a bundle.
        InputError: One that scores batches is a probe, or sees another part of the crop than the student.
    """
    found = []
    for path in paths:
        bundle = load_bundle(path)
        if spec is None:
            found.append(bundle)
            continue
        if bundle.network is None:
            raise InputError(
                must(f"teacher {path}", "a network", bundle.adaptation, "name a full or LoRA bundle, or set `views`")
            )
        view = NetworkSpec.from_dict(bundle.network).view
        if view != spec.view:
            raise InputError(
                must(f"teacher {path}", f"of the student's view, {spec.view:g}", f"{view:g}", "set `view`, or `views`")
            )
        found.append(bundle)
    return found


def as_teachers(bundles: Sequence[Bundle], student: Backbone) -> list[Teacher]:
    """Networks of bundles, ready to score batches that are normalised for a student's backbone."""
    return [Teacher(load_network(bundle), student).eval() for bundle in bundles]


def leakage_of_teachers(
    paths: Sequence[Path], bundles: Sequence[Bundle], fold: Fold, manifest: Manifest
) -> list[AuditFinding]:
    """Whether a teacher was trained on figures that the student is validated or tested on.

    The run folder that contains a bundle records its training figures. For a bundle without it, or of another data
    set, they are unknown, which counts as leakage until the user allows it.
    """
    found = []
    measured = {*fold.val, *fold.test}
    for path, bundle in zip(paths, bundles, strict=True):
        try:
            (trained,) = Split.load(path.parent / runs.SPLIT).folds
        except (DataError, ValueError):
            trained = None
        if trained is None or bundle.training.get("data_fingerprint") != manifest.fingerprint:
            found.append(
                AuditFinding("unknown-teacher", f"{path} does not record which of {manifest.name} it was trained on")
            )
            continue
        shared = sorted(measured & set(trained.train))
        if shared:
            said = f"{path} was trained on {count_noun(len(shared), 'figure')} that {fold.name} is measured on ({list_figures(shared)})"
            found.append(AuditFinding("teacher-across-parts", said, tuple(shared)))
    return found
