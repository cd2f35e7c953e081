"""Every entry says the truth about its network: checked by building it, without memory, for all of them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from atypia.backbones.build import Encoder, architecture, resize_input
from atypia.backbones.catalogue import (
    BACKBONES,
    HubWeights,
    PackageWeights,
    RandomWeights,
    check_input_px,
    markdown_notes,
    markdown_table,
    nearest_input_px,
)
from atypia.base.errors import InputError

DOCS = Path(__file__).parents[2] / "docs" / "backbones.md"
NAMES = list(BACKBONES)


@cache
def on_meta(name: str) -> Encoder:
    """The network with shapes and no memory, at its own input side."""
    entry = BACKBONES[name]
    with torch.device("meta"):
        return Encoder(architecture(entry), entry, entry.input_px).eval()


@pytest.mark.parametrize("name", NAMES)
def test_lora_adapts_attention_and_mlp_only(name: str) -> None:
    entry = BACKBONES[name]
    encoder = on_meta(name)
    if entry.lora_targets is None:
        assert entry.lora_reason
        return
    hits = {n: m for n, m in encoder.named_modules() if re.fullmatch(entry.lora_targets, n)}
    assert all(isinstance(module, nn.Linear) for module in hits.values())
    assert not any("patch_embed" in n or "head" in n or "downsample" in n for n in hits)
    # Four linear layers a block, five where the MLP's gate is one of its own; a block is what has an attention.
    blocks = sum(n.endswith(".attn") for n, _ in encoder.named_modules())
    assert blocks > 0
    assert len(hits) == (5 if any(n.endswith("fc1_g") for n in hits) else 4) * blocks
    # The same names without the wrapper, as a plain timm network has them.
    assert all(re.fullmatch(entry.lora_targets, n.removeprefix("net.")) for n in hits)
    assert not re.fullmatch(entry.lora_targets, "patch_embed.proj")


@pytest.mark.parametrize("name", NAMES)
def test_entry_matches_its_network(name: str) -> None:
    """Parameters at the native side; the width of features at a side that crops of 128 px are moved to."""
    entry = BACKBONES[name]
    encoder = on_meta(name)
    size = sum(p.numel() for p in encoder.parameters()) / 1e6
    assert size == pytest.approx(entry.params_m, rel=0.02)
    side = nearest_input_px(entry, 128)
    with torch.device("meta"), torch.inference_mode():
        resize_input(encoder.net, entry, side)
        assert encoder(torch.empty(2, 3, side, side)).shape == (2, entry.feature_dim)


@pytest.mark.parametrize("name", NAMES)
def test_entry_is_well_formed(name: str) -> None:
    entry = BACKBONES[name]
    assert entry.name == name
    assert re.fullmatch(r"[a-z0-9-]+", name)
    assert all(0 < value < 1 for value in entry.mean + entry.std)
    assert entry.paper.url.startswith("https://")
    assert entry.licence
    if entry.pooling != "avg":
        assert entry.input_px % entry.multiple_px == 0
    match entry.weights:
        case HubWeights(repo=repo, filename=filename, revision=revision):
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", repo)
            assert filename.endswith((".safetensors", ".bin"))
            assert revision is None or re.fullmatch(r"[0-9a-f]{40}", revision)
        case PackageWeights(file=file):
            assert file.endswith((".pth", ".onnx", ".keras"))
        case RandomWeights():
            assert "random" in entry.title


def test_statistics_are_those_of_timm_where_timm_has_the_weights() -> None:
    import timm

    checked = 0
    for entry in BACKBONES.values():
        if isinstance(entry.weights, HubWeights) and entry.weights.repo.startswith("timm/"):
            published = timm.get_pretrained_cfg(entry.weights.repo.removeprefix("timm/"))
            assert published is not None
            assert published.hf_hub_id == entry.weights.repo
            assert (tuple(published.mean), tuple(published.std)) == (entry.mean, entry.std), entry.name
            assert published.input_size[1] == entry.input_px, entry.name
            checked += 1
    assert checked >= 15


def test_models_that_the_papers_name_are_there() -> None:
    named = {
        "efficientnetv2-s", "efficientnetv2-m", "vit-b16", "vit-b16-in21k", "resnet50-tv2", "vit-l16", "vit-h14", "swin-b", "convnext-s", "resnet50",
        "densenet121", "uni", "uni2-h", "virchow", "virchow2", "prov-gigapath", "h-optimus-0", "h-optimus-1",
        "h0-mini", "phikon", "lunit-s16", "dinov2-s14", "dinov2-b14", "dinov2-l14", "dinov3-s16", "dinov3-b16",
        "dinov3-l16", "efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "vit-s14-focus",
        "densenet121-capricorn",
    }  # fmt: skip
    assert named <= set(BACKBONES)
    assert "DINO" not in BACKBONES["vit-s14-focus"].title


def test_unpinned_revisions_are_few_and_known() -> None:
    unpinned = {n for n, e in BACKBONES.items() if isinstance(e.weights, HubWeights) and e.weights.revision is None}
    assert unpinned == {
        "vit-l16",
        "dinov3-h16plus",
        "vit-b16-in21k",
        "resnet50-tv2",
        "efficientnetv2-m-in1k",
        "h0-mini",
        "lunit-s16",
        "inception-v3",
    }


def test_unknown_backbone_lists_the_choices() -> None:
    with pytest.raises(
        InputError, match=r"unknown backbone 'virchow3'; did you mean 'virchow2?'\? choices: .*resnet50"
    ):
        BACKBONES["virchow3"]


@pytest.mark.parametrize(
    ("name", "asked", "nearest"),
    [("vit-s14-focus", 128, 126), ("efficientnet-lite0", 100, 96), ("uni", 1, 16), ("swin-b", 112, 128)],
)
def test_wrong_side_names_the_nearest(name: str, asked: int, nearest: int) -> None:
    with pytest.raises(
        InputError, match=rf"`input_px` must be a multiple of \d+ for {name}, got {asked}; fix: use {nearest}"
    ):
        check_input_px(BACKBONES[name], asked)


@given(name=st.sampled_from(NAMES), side=st.integers(1, 2000))
def test_nearest_side_is_valid_and_nearest(name: str, side: int) -> None:
    entry = BACKBONES[name]
    near = nearest_input_px(entry, side)
    assert check_input_px(entry, near) == near
    others = [k * entry.multiple_px for k in range(1, 2 + side // entry.multiple_px + 1)]
    assert abs(near - side) == min(abs(other - side) for other in others)


@pytest.mark.parametrize("part", [markdown_table, markdown_notes])
def test_docs_do_not_drift(part: Callable[[], str]) -> None:
    assert part() in DOCS.read_text("utf-8"), f"put the output of {part.__name__}() into docs/backbones.md"


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from atypia.backbones.catalogue import BACKBONES; "
        "from atypia.backbones.weights import availability; "
        "[availability(name) for name in BACKBONES]; "
        "print(sorted({'torch', 'timm', 'huggingface_hub', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
