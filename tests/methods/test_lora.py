"""Low-rank adaptation: where it starts, what it touches, and that merging changes nothing."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import nn

from atypia.backbones.build import architecture
from atypia.backbones.catalogue import BACKBONES, TRANSFORMER_LORA
from atypia.base.errors import InputError
from atypia.methods.lora import add_lora, merge_lora

pytestmark = pytest.mark.usefixtures("one_thread")

RANK = 4


@pytest.fixture
def trunk() -> nn.Module:
    torch.manual_seed(0)
    return architecture(BACKBONES["tiny-vit"]).eval()


def _images() -> torch.Tensor:
    return torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))


def _stir(trunk: nn.Module) -> None:
    """As training would: adapters that no longer are zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in trunk.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.05)


def test_starts_as_the_pretrained_network(trunk: nn.Module) -> None:
    with torch.no_grad():
        before = trunk(_images())
        add_lora(trunk, TRANSFORMER_LORA, RANK, 16.0, 0.1)
        assert torch.equal(trunk(_images()), before)


def test_adapts_attention_and_mlp_and_never_the_patch_embedding(trunk: nn.Module) -> None:
    blocks = len(trunk.blocks)  # pyright: ignore[reportArgumentType]
    shapes = {n: m.weight.shape for n, m in trunk.named_modules() if isinstance(m, nn.Linear)}
    adapted = add_lora(trunk, TRANSFORMER_LORA, RANK, 16.0, 0.0)
    assert len(adapted) == 4 * blocks
    assert {name.split(".", 2)[2] for name in adapted} == {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}
    trained = {n: p for n, p in trunk.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trained)
    assert not any("patch_embed" in name for name in trained)
    # r (in + out) for each adapted map
    assert sum(p.numel() for p in trained.values()) == sum(RANK * sum(shapes[name]) for name in adapted)


@pytest.mark.parametrize("name", [n for n, e in BACKBONES.items() if e.lora_targets and e.params_m < 120])
def test_targets_of_the_catalogue_match(name: str) -> None:
    entry = BACKBONES[name]
    with torch.device("meta"):
        net = architecture(entry)
    linear = [n for n, m in net.named_modules() if isinstance(m, nn.Linear)]
    chosen = [n for n in linear if re.fullmatch(entry.lora_targets or "", n)]
    assert chosen
    assert all("blocks." in n and (".attn." in n or ".mlp." in n) for n in chosen)


@pytest.mark.parametrize(("parts", "names"), [(("q", "v"), {"attn.qkv.q", "attn.qkv.v"}), (("qkv",), {"attn.qkv"}),
                                              (("v", "mlp"), {"attn.qkv.v", "mlp.fc1", "mlp.fc2"})])  # fmt: skip
def test_parts_alone_are_adapted(trunk: nn.Module, parts: tuple[str, ...], names: set[str]) -> None:
    """Query and value by adapters of their own: the same network at the start, r (c + c) numbers each, and one map again."""
    clone, width = copy.deepcopy(trunk), 64
    with torch.no_grad():
        before = trunk(_images())
        adapted = add_lora(trunk, TRANSFORMER_LORA, RANK, 16.0, 0.0, parts)
        assert torch.allclose(trunk(_images()), before, atol=1e-5)
        assert {name.split(".", 2)[2] for name in adapted} == names
        trained = {n: p for n, p in trunk.named_parameters() if p.requires_grad}
        if parts == ("q", "v"):
            assert sum(p.numel() for p in trained.values()) == len(trunk.blocks) * 2 * RANK * 2 * width  # type: ignore
            key = {n: m for n, m in trunk.named_modules() if n.endswith("qkv.k")}
            assert all(isinstance(module, nn.Linear) and not module.weight.requires_grad for module in key.values())
        _stir(trunk)
        changed = trunk(_images())
        merged = merge_lora(copy.deepcopy(trunk))
        assert (changed - before).abs().max() > 1e-3
        assert (merged(_images()) - changed).abs().max() < 1e-5 * max(1.0, float(changed.abs().max()))
        assert [n for n, _ in merged.named_parameters()] == [n for n, _ in clone.named_parameters()]
        if parts == ("q", "v"):
            rows = merged.blocks[0].attn.qkv.weight, clone.blocks[0].attn.qkv.weight  # type: ignore
            same = [bool(torch.equal(rows[0][i : i + width], rows[1][i : i + width])) for i in (0, width, 2 * width)]
            assert same == [False, True, False]


def test_parts_that_a_backbone_lacks_are_refused() -> None:
    net = nn.ModuleDict({"blocks": nn.ModuleList([nn.ModuleDict({"mlp": nn.ModuleDict({"fc1": nn.Linear(4, 4)})})])})
    with pytest.raises(InputError, match=r"a transformer for LoRA, got none of q, v; fix: "):
        add_lora(net, TRANSFORMER_LORA, 2, 4.0, 0.0, ("q", "v"))


def test_update_is_scaled_by_alpha_over_rank() -> None:
    torch.manual_seed(0)
    net = nn.ModuleDict({"map": nn.Linear(5, 3)})
    add_lora(net, "map", 2, 8.0, 0.0)
    _stir(net)
    module: Any = net["map"]
    x = torch.randn(4, 5)
    a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
    base = module.get_base_layer()
    assert a.shape == (2, 5)
    assert b.shape == (3, 2)
    assert torch.allclose(module(x), base(x) + (8 / 2) * x @ a.T @ b.T, atol=1e-6)


def test_merged_gives_the_adapted_outputs(trunk: nn.Module) -> None:
    add_lora(trunk, TRANSFORMER_LORA, RANK, 16.0, 0.3)
    with torch.no_grad():
        start = trunk(_images())
        _stir(trunk)
        adapted = trunk.eval()(_images())
        clone = copy.deepcopy(trunk)
        merged = merge_lora(clone)(_images())
        assert (adapted - start).abs().max() > 1e-2
        assert (merged - adapted).abs().max() < 1e-5 * max(1.0, float(adapted.abs().max()))
        assert not any("lora" in name for name, _ in clone.named_modules())
        assert torch.equal(trunk(_images()), adapted)  # the copy was merged, not this one


def test_only_the_adapters_get_gradients(trunk: nn.Module) -> None:
    add_lora(trunk, TRANSFORMER_LORA, RANK, 16.0, 0.0)
    trunk.train()(_images()).square().sum().backward()
    with_gradient = {n for n, p in trunk.named_parameters() if p.grad is not None}
    assert with_gradient == {n for n, p in trunk.named_parameters() if "lora_" in n}


@pytest.mark.parametrize("targets", [None, "no such layer"])
def test_nothing_to_adapt_is_refused(trunk: nn.Module, targets: str | None) -> None:
    with pytest.raises(
        InputError, match=r"`backbone` must be a transformer for LoRA, got .*; fix: use adaptation: full"
    ):
        add_lora(trunk, targets, RANK, 16.0, 0.0)
    assert all(p.requires_grad for p in trunk.parameters())
