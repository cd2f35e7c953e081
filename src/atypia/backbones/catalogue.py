"""Catalogue of backbones: one frozen entry each, and nothing about a backbone said anywhere else.

Entries live in ``atypia.backbones.entries``; adding a timm backbone means adding one entry there.
Nothing here imports torch, so that listings and checks are instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from atypia.base.errors import InputError, must
from atypia.base.registry import Registry

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
HALF: Final = (0.5, 0.5, 0.5)

Pooling = Literal["cls", "cls+mean", "avg"]
"""How tokens or maps become one vector.

``cls``: the class token after the last norm. ``cls+mean``: the class token followed by the mean of
the patch tokens, register tokens left out (twice the width). ``avg``: the global average that the
network itself ends with (convolutional networks, Swin).
"""

TRANSFORMER_LORA: Final = r"(?:.*\.)?blocks\.\d+\.(?:attn\.(?:qkv|proj)|mlp\.(?:fc1|fc2))"
"""Full-match pattern of the layers that LoRA adapts: the attention's and the MLP's linear layers,
never the patch embedding (whose projection also ends in ``proj``)."""

NO_LORA_CNN: Final = "convolutional: no attention to adapt; tune it in full"


@dataclass(frozen=True)
class HubWeights:
    """Weights on the Hugging Face hub.

    Attributes:
        repo: Repository, ``owner/name``.
        filename: File in it: safetensors, or a PyTorch file that is read without unpickling code.
        revision: Commit, 40 hex digits. None where none could be verified: the branch ``main`` is
            then resolved to a commit when it is downloaded, that commit is recorded with whatever
            is made from it, and what was downloaded once is used from then on.
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
    """Weights that come inside a Python package.

    Attributes:
        distribution: What is installed with pip.
        module: Top-level module of the package.
        file: Path of the file inside the module's folder.
        loader: Which converter reads it: a key of ``atypia.backbones.checkpoints.LOADERS``.
    """

    distribution: str
    module: str
    file: str
    loader: str


@dataclass(frozen=True)
class RandomWeights:
    """No pretrained weights: drawn from a seed derived from the backbone's name. For tests."""


Weights = HubWeights | PackageWeights | RandomWeights


@dataclass(frozen=True)
class Paper:
    """Where a backbone is described."""

    citation: str
    url: str


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network and all that is needed to use it rightly.

    Attributes:
        name: Key in the catalogue.
        title: What tables call it.
        timm_name: Architecture in timm, without a pretrained tag.
        weights: Where its weights are.
        feature_dim: Length of the feature vector under ``pooling``.
        params_m: Millions of parameters, without a classifier.
        input_px: Side of the square input it was trained at.
        multiple_px: Other sides must be multiples of this (patch size, or total stride).
        mean: Per-channel mean of RGB in [0, 1] that inputs are normalised with.
        std: Per-channel standard deviation, likewise.
        pooling: See :data:`Pooling`.
        licence: SPDX identifier where there is one.
        paper: Where it is described.
        model_args: Names and values of arguments of the architecture; layers are named by strings.
        lora_targets: Full-match pattern of module names that LoRA adapts; None where there are none.
        lora_reason: Why there are none.
        gated: Whether the weights are given only to people who accepted the licence.
        pathology: Whether it was trained on histology rather than on natural images.
        note: What a user should know.
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

    @property
    def model_kwargs(self) -> dict[str, Any]:
        """:attr:`model_args` as a new dictionary."""
        return dict(self.model_args)

    @property
    def facts(self) -> dict[str, Any]:
        """What changes its output, weights apart: goes into fingerprints."""
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

    Takes the fields of :class:`Backbone`, and ``model_kwargs``, a mapping, in place of ``model_args``.
    """
    entry = Backbone(model_args=tuple(facts.pop("model_kwargs", {}).items()), **facts)
    return BACKBONES.add(entry.name, entry)


def nearest_input_px(entry: Backbone, side_px: int) -> int:
    """The side nearest to ``side_px`` that the backbone takes; the larger of two equally near.

    >>> nearest_input_px(BACKBONES["vit-s14-focus"], 128)
    126
    """
    steps = int(side_px / entry.multiple_px + 0.5)
    return max(1, steps) * entry.multiple_px


def check_input_px(entry: Backbone, side_px: int) -> int:
    """Returns ``side_px`` if the backbone takes inputs of that side.

    Raises:
        InputError: It is no positive multiple of the patch size or stride.
    """
    if side_px < 1 or side_px % entry.multiple_px:
        near = nearest_input_px(entry, side_px)
        raise InputError(
            must("input_px", f"a multiple of {entry.multiple_px} for {entry.name}", side_px, f"use {near}, the nearest")
        )
    return side_px


def markdown_table() -> str:
    """The catalogue as a Markdown table; the documentation holds it and a test compares the two."""
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
