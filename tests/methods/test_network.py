"""The network: what is refused, what is trained, and that its state goes round."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atypia.backbones.build import Encoder, architecture
from atypia.backbones.catalogue import BACKBONES
from atypia.base.errors import InputError
from atypia.methods.averaging import EMA
from atypia.methods.mixing import mix_style
from atypia.methods.network import Network, NetworkSpec, build_network, check_spec, stages

pytestmark = pytest.mark.usefixtures("one_thread")

CNN = NetworkSpec("tiny-cnn", 32, "full")
VIT = NetworkSpec("tiny-vit", 32, "full")
LORA = replace(VIT, adaptation="lora", lora_rank=4, lora_alpha=8.0)


def _build(spec: NetworkSpec, seed: int = 0) -> Network:
    return build_network(spec, pretrained=False, seed=seed)


def _images(side: int = 32, count: int = 3) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def _step(network: Network, lr: float = 0.1) -> None:
    network.train()
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=lr)
    out = network(_images())
    (out.logits.square().sum() + out.logits.sum()).backward()
    optimiser.step()
    optimiser.zero_grad()


# What cannot work is refused with its reason, before weights are looked for.
REFUSED = [
    (replace(CNN, adaptation="lora", lora_rank=4), r"`backbone` must be one that LoRA can adapt, got tiny-cnn \(convolutional"),
    (replace(LORA, lora_rank=0), r"`lora.rank` must be at least 1, got 0"),
    (replace(VIT, adaptation="frozen"), r"`adaptation` must be full, lora or partial, got frozen"),
    (replace(VIT, cbam=True), r"one with feature maps for cbam, got tiny-vit \(it has tokens\); fix: choose a conv"),
    (replace(VIT, mixstyle_stages=(0,)), r"one with feature maps for mixstyle, got tiny-vit"),
    (replace(VIT, cbam=True, mixstyle_stages=(0,)), r"feature maps for cbam and mixstyle"),
    (NetworkSpec("swin-b", 224, "full", cbam=True), r"maps \(b, c, h, w\) for cbam, got swin-b \(its maps have the channels"),
    (NetworkSpec("swin-b", 224, "full", mixstyle_stages=(1,)), r"maps \(b, c, h, w\) for mixstyle, got swin-b"),
    (replace(CNN, mixstyle_stages=(0, 5)), r"`mixstyle.stages` must be between 0 and 4, got \[0, 5\] for tiny-cnn"),
    (replace(CNN, mixstyle_stages=(-1,)), r"`mixstyle.stages` must be between 0 and 4"),
    (replace(VIT, adaptation="partial", train_last_blocks=7), r"`train_last_blocks` must be between 1 and 6, got 7"),
    (replace(VIT, adaptation="partial", train_last_blocks=0), r"`train_last_blocks` must be between 1 and 6, got 0"),
    (NetworkSpec("densenet121", 128, "full", drop_path=0.1), r"`drop_path` must be 0 where no block can be skipped"),
    (replace(CNN, drop_path=0.1), r"`drop_path` must be 0 where no block can be skipped, got 0.1 for tiny-cnn"),
    (replace(CNN, input_px=33), r"`input_px` must be a multiple of 32 for tiny-cnn, got 33; fix: use 32"),
    (replace(CNN, backbone="tiny-cmn"), r"unknown backbone 'tiny-cmn'; did you mean 'tiny-cnn'"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "reason"), REFUSED)
def test_what_cannot_work_is_refused(spec: NetworkSpec, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        check_spec(spec)
    with pytest.raises(InputError, match=reason):
        build_network(spec, pretrained=True)


@pytest.mark.parametrize(
    "spec",
    [
        CNN, VIT, LORA, replace(VIT, adaptation="partial"), replace(CNN, adaptation="partial", train_last_blocks=5),
        replace(CNN, hidden=(16, 8), dropout=0.2, cbam=True, mixstyle_stages=(0, 1), checkpointing=True),
        replace(LORA, hidden=(16,), checkpointing=True, drop_path=0.2),
    ],
)  # fmt: skip
def test_output_shapes(spec: NetworkSpec) -> None:
    network = _build(spec)
    width = BACKBONES[spec.backbone].feature_dim
    for mode in (True, False):
        out = network.train(mode)(_images())
        assert out.logits.shape == (3,)
        assert out.pooled.shape == (3, width)
        assert out.hidden.shape == (3, spec.hidden[-1] if spec.hidden else width)
        assert out.aligned.shape == ((3, width, 1, 1) if spec.cbam else (3, width))


def test_logit_is_the_head_of_the_hidden_layer() -> None:
    network = _build(replace(CNN, hidden=(16,), dropout=0.5)).eval()
    with torch.no_grad():
        out = network(_images())
        assert torch.allclose(network.head(out.hidden)[:, 0], out.logits)
        linear = network.hidden[0][1]  # pyright: ignore[reportIndexIssue]
        assert torch.allclose(nn.functional.gelu(linear(out.pooled)), out.hidden)
    assert float(network.head.bias.detach().abs().sum()) == 0


@pytest.mark.parametrize("name", ["tiny-cnn", "resnet50", "densenet121", "convnext-s", "efficientnet-lite0"])
def test_without_attention_the_neck_pools_as_the_backbone_does(name: str) -> None:
    """CBAM sits before the backbone's own pooling, and before the norm that some have after it."""
    entry = BACKBONES[name]
    torch.manual_seed(0)
    encoder = Encoder(architecture(entry), entry, 32).eval()
    with torch.no_grad():
        maps = encoder.net.forward_features(_images(32, 1))  # pyright: ignore[reportCallIssue]
        pooled = encoder.net.forward_head(maps, pre_logits=True)  # pyright: ignore[reportCallIssue]
        assert maps.shape[1] == entry.feature_dim
        assert torch.allclose(pooled, encoder(_images(32, 1)), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "count", "kind"),
    [
        ("resnet50", 4, "Sequential"), ("densenet121", 4, "DenseBlock"), ("convnext-s", 4, "ConvNeXtStage"),
        ("efficientnetv2-s", 6, "Sequential"), ("efficientnet-lite0", 7, "Sequential"),
        ("swin-b", 4, "SwinTransformerStage"), ("tiny-vit", 6, "Block"),
    ],
)  # fmt: skip
def test_stages_of_an_architecture(name: str, count: int, kind: str) -> None:
    with torch.device("meta"):
        net = architecture(BACKBONES[name])
    found = stages(net)
    assert len(found) == count
    assert {type(stage).__name__ for stage in found} == {kind}


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "convnext-s", "efficientnetv2-s", "efficientnet-lite0"])
def test_mixstyle_sees_maps_after_every_stage(name: str) -> None:
    net = architecture(BACKBONES[name]).eval()
    shapes: list[torch.Size] = []
    for stage in stages(net):
        stage.register_forward_hook(lambda module, inputs, out: shapes.append(out.shape))
    with torch.no_grad():
        net(_images(32, 1))
    assert len(shapes) == len(stages(net))
    assert all(len(shape) == 4 for shape in shapes)
    sides = [shape[-1] for shape in shapes]
    assert sides == sorted(sides, reverse=True)


def test_mixstyle_acts_in_training_only_and_not_in_the_average() -> None:
    network = _build(replace(CNN, mixstyle_stages=(0,), mixstyle_probability=1.0)).eval()
    seen: list[Any] = []
    stage = stages(network.encoder.net)[0]
    stage.register_forward_hook(lambda module, inputs, out: seen.append(out))
    with torch.no_grad():
        network(_images())
        plain = seen.pop()
        assert torch.equal(network(_images()).logits, _build(CNN).eval()(_images()).logits)
        ema = EMA(network)
        network.train()
        ema.network(_images())
        network.eval()
        stage.train()  # that stage alone is in training mode
        seen.clear()
        torch.manual_seed(5)
        network(_images())
    mixed = seen[0]
    assert mixed.shape == plain.shape
    assert not torch.allclose(mixed, plain, atol=1e-3)


def test_average_is_not_mixed_while_the_student_trains() -> None:
    network = _build(replace(CNN, mixstyle_stages=(0, 1), mixstyle_probability=1.0))
    ema = EMA(network)
    network.train()
    with torch.no_grad():
        assert torch.equal(ema.network(_images()).logits, ema.network(_images()).logits)
        assert torch.equal(ema.network(_images()).logits, _build(CNN).eval()(_images()).logits)


def test_mixstyle_acts_with_checkpointing_too() -> None:
    """timm then walks through the blocks of all stages and calls no stage."""
    logits = []
    for spec in (replace(MIXED, checkpointing=True), replace(CNN, checkpointing=True)):
        torch.manual_seed(0)
        logits.append(_build(spec).train()(_images(count=6)).logits.detach())
    assert not torch.allclose(*logits, atol=1e-4)


def test_mixed_maps_follow_the_formula() -> None:
    """The hook hands on what the formula gives for the draw that it makes."""
    network = _build(replace(CNN, mixstyle_stages=(0,), mixstyle_probability=1.0, mixstyle_alpha=0.5)).train()
    before: list[Tensor] = []
    net = network.encoder.net
    first: Any = stages(net)[0]
    first[-1].register_forward_hook(lambda module, inputs, out: before.append(out), prepend=True)
    after: list[Tensor] = []
    first.register_forward_hook(lambda module, inputs, out: after.append(out))
    with torch.no_grad():
        network(_images())
    stats = [maps.mean((2, 3)) for maps in (before[0], after[0])]
    own, mixed = mix_style(before[0], torch.tensor([0, 1, 2]), torch.ones(3, 1, 1, 1)), after[0]
    assert torch.allclose(own, before[0], atol=1e-5)
    assert mixed.shape == own.shape
    low, high = stats[0].amin(0), stats[0].amax(0)
    assert bool(((stats[1] >= low - 1e-4) & (stats[1] <= high + 1e-4)).all())  # means of the batch, mixed


ROUND_TRIPS = [CNN, LORA, replace(VIT, adaptation="partial"), replace(CNN, adaptation="partial", hidden=(8,)),
               replace(CNN, cbam=True, hidden=(8,))]  # fmt: skip


@pytest.mark.parametrize("spec", ROUND_TRIPS)
def test_trained_state_goes_round(spec: NetworkSpec) -> None:
    network = _build(spec)
    with torch.no_grad():
        start = network.eval()(_images()).logits
    _step(network)
    with torch.no_grad():
        trained = network.eval()(_images()).logits
        other = _build(spec)
        # The backbone starts alike; the new layers come from the state.
        other.load_trained(network.trained_state())
        assert torch.equal(other.eval()(_images()).logits, trained)
    assert (trained - start).abs().max() > 1e-3


@pytest.mark.parametrize("spec", ROUND_TRIPS)
def test_average_has_the_state_of_its_student(spec: NetworkSpec) -> None:
    network = _build(spec)
    ema = EMA(network, 0.0)
    _step(network)
    ema.update(network)
    state, averaged = network.trained_state(), ema.network.trained_state()
    assert set(state) == set(averaged)
    assert len(state) > 0
    other = _build(spec)
    other.load_trained(averaged)
    with torch.no_grad():
        assert torch.equal(other.eval()(_images()).logits, network.eval()(_images()).logits)


def test_state_is_a_copy() -> None:
    network = _build(CNN)
    state = network.trained_state()
    before = state["head.weight"].clone()
    _step(network)
    assert torch.equal(state["head.weight"], before)


def test_lora_keeps_a_small_state() -> None:
    network = _build(LORA)
    counts = network.parameter_counts()
    assert all("lora_" in name or name.startswith("head") for name in network.trained_state())
    assert sum(v.numel() for v in network.trained_state().values()) == counts["trained"]
    assert counts["trained"] < 0.2 * counts["parameters"]


def test_foreign_state_is_refused_and_nothing_is_loaded() -> None:
    network = _build(CNN)
    state = network.trained_state()
    kept = copy.deepcopy(state)
    del state["head.bias"]
    with pytest.raises(InputError, match=r"`weights` must be those of this network, got 1 missing .* head.bias; fix: "):
        network.load_trained(state)
    state = {name: value + 1 for name, value in kept.items()}
    state["head.weight"] = torch.zeros(1, 7)
    with pytest.raises(InputError, match=r"`head.weight` must be of shape \(1, 256\), got \(1, 7\)"):
        network.load_trained(state)
    for name, value in network.trained_state().items():
        assert torch.equal(value, kept[name])


def _trained_parts(spec: NetworkSpec) -> set[str]:
    names = {
        n.removeprefix("encoder.net.") for n, p in _build(spec).encoder.named_parameters("encoder") if p.requires_grad
    }
    return {".".join(name.split(".")[:2]) if name.startswith(("blocks", "features", "layers")) else name.split(".")[0]
            for name in names}  # fmt: skip


def test_partial_trains_the_last_blocks_and_what_follows_them() -> None:
    partial = {"adaptation": "partial", "train_last_blocks": 2}
    assert _trained_parts(replace(VIT, **partial)) == {"blocks.4", "blocks.5", "norm"}
    assert _trained_parts(replace(CNN, **partial)) == {"blocks.3", "blocks.4", "conv_head", "bn2"}
    dense = _trained_parts(NetworkSpec("densenet121", 32, **partial))
    assert dense == {"features.denseblock3", "features.transition3", "features.denseblock4", "features.norm5"}


def test_partial_leaves_frozen_parts_bit_for_bit_statistics_included() -> None:
    network = _build(replace(CNN, adaptation="partial", train_last_blocks=1))
    before = copy.deepcopy(network.state_dict())
    for _ in range(2):
        _step(network)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= network.trained_names
    assert any(name.endswith("running_mean") for name in changed)
    assert not any(
        ".blocks.0." in name or "conv_stem" in name or ".bn1." in name.split("blocks")[0] for name in changed
    )


def test_merged_network_gives_the_same_outputs_without_adapters() -> None:
    network = _build(LORA)
    _step(network)
    with torch.no_grad():
        adapted = network.eval()(_images()).logits
        merged = copy.deepcopy(network).merged().eval()
        assert (merged(_images()).logits - adapted).abs().max() < 1e-5
    assert not any("lora_" in name for name in merged.state_dict())
    assert set(merged.trained_state()) == {"head.weight", "head.bias"}
    assert merged.parameter_counts()["parameters"] == _build(replace(VIT)).parameter_counts()["parameters"]


MIXED = replace(CNN, mixstyle_stages=(0, 1), mixstyle_probability=1.0)


@pytest.mark.parametrize("spec", [CNN, VIT, LORA, MIXED])
def test_checkpointing_changes_no_gradient(spec: NetworkSpec) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(3)  # of MixStyle's draws
        network = _build(replace(spec, checkpointing=checkpointing)).train()
        if spec.adaptation == "lora":  # at the start B is zero and A gets no gradient
            with torch.no_grad():
                for name, parameter in network.named_parameters():
                    if "lora_B" in name:
                        parameter.fill_(0.01)
        network(_images()).logits.square().sum().backward()
        gradients.append({n: p.grad for n, p in network.named_parameters() if p.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert gradient is not None
        assert torch.allclose(gradient, gradients[1][name], atol=1e-6), name


@pytest.mark.parametrize("spec", [NetworkSpec("efficientnet-lite0", 32, "full"), VIT])
def test_stochastic_depth_grows_with_depth_and_acts_in_training(spec: NetworkSpec) -> None:
    from timm.layers.drop import DropPath

    network = _build(replace(spec, drop_path=0.4))
    rates = [module.drop_prob for module in network.modules() if isinstance(module, DropPath)]
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0.4)
    assert rates == sorted(rates)
    with torch.no_grad():
        assert torch.equal(network.eval()(_images()).logits, _build(spec).eval()(_images()).logits)
        torch.manual_seed(0)
        first, second = network.train()(_images()).pooled, network(_images()).pooled
    assert not torch.allclose(first, second, atol=1e-4)


def test_seed_decides_the_new_layers_and_leaves_the_global_generator() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first, same, other = _build(CNN, 1), _build(CNN, 1), _build(CNN, 2)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.head.weight, same.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_spec_goes_round() -> None:
    spec = replace(CNN, hidden=(4, 5), mixstyle_stages=(0, 2), dropout=0.1)
    import json

    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec
