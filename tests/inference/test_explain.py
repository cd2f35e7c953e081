"""Saliency: in the right place, the numbers of the published formulas, and pictures that are written."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from atypia.backbones.build import build
from atypia.backbones.catalogue import BACKBONES
from atypia.base.errors import AbsentError, InputError
from atypia.data.images.geometry import CropGeometry
from atypia.inference.bundles.bundle import Bundle
from atypia.inference.crops import Frame
from atypia.inference.explain import (
    GRADCAM,
    INTEGRATED,
    LIMIT,
    METHODS,
    explain,
    gradcam,
    integrated_gradients,
    saliency,
)
from atypia.inference.runtimes.graph import Deployable, ProbeScorer, Scorer
from atypia.inference.saliency_picture import AGAINST, FOR, STRENGTH, blended, picture

pytest.importorskip("captum", reason="needs the extra `explain`")

HALF = (0.5, 0.5, 0.5)


class Quadrant(Scorer):
    """Its logit is the mean brightness of one quadrant of what it sees, times a sign."""

    def __init__(self, rows: slice, columns: slice, input_px: int, sign: float = 1.0) -> None:
        super().__init__()
        self.feature_dim = 1
        self.register_buffer("mask", torch.zeros(input_px, input_px))
        self.mask: Tensor
        self.mask[rows, columns] = 1
        self.local = nn.Conv2d(3, 2, 4, stride=4, bias=False)
        nn.init.constant_(self.local.weight, 1 / 48)
        self.act = nn.ReLU(inplace=True)
        self.sign = sign

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.sign * self.act(self.local(images * self.mask)).mean((1, 2, 3))
        return logits, logits[:, None]


def bright(n: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(150, 250, (n, side, side, 3), np.uint8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("view", [1.0, 0.5])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_saliency_lies_on_the_quadrant_that_decides(method: str, view: float, sign: float) -> None:
    side, frame = 64, Frame(64, view)
    # Below the middle and left of it.
    module = Deployable(
        Quadrant(slice(32, 64), slice(0, 32), 64, sign), frame, side, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    ).eval()
    crops = bright(3, side)
    maps = saliency(module, crops, method)
    seen, edge = frame.seen_px(side), (side - frame.seen_px(side)) // 2
    assert maps.shape == (3, side, side)
    inside = np.zeros((side, side), bool)
    inside[edge : edge + seen, edge : edge + seen] = True
    assert np.array_equal(~np.isnan(maps), np.broadcast_to(inside, maps.shape))
    there = np.zeros((side, side), bool)
    there[edge + seen // 2 : edge + seen, edge : edge + seen // 2] = True
    for one in maps:
        strength = np.nan_to_num(np.abs(one))
        assert strength[there].sum() > 0.9 * strength.sum() > 0
        # Glass is brighter than these crops: less brightness than glass speaks against.
        expected = sign if method == GRADCAM else -sign
        assert np.sign(np.nansum(one)) == expected


def test_integrated_gradients_add_up_to_the_difference_from_glass() -> None:
    torch.manual_seed(0)
    scorer = ProbeScorer(build("tiny-cnn", 64), np.linspace(-1, 1, 256), 0.25)
    module = Deployable(scorer, Frame(64, 0.75), 96, HALF, HALF).eval().requires_grad_(False)
    crops = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 96, 96, 3), np.uint8))
    maps = integrated_gradients(module, module.normalised(crops))
    with torch.no_grad():
        gap = module(crops)[0] - module(torch.full_like(crops, 255))[0]
    assert maps.shape == (2, 64, 64)
    assert maps.sum((1, 2)).numpy() == pytest.approx(gap.numpy(), rel=0.02, abs=2e-3)


@pytest.mark.parametrize("name", ["tiny-cnn", "tiny-vit"])
def test_gradcam_is_what_the_formula_says(name: str) -> None:
    encoder = build(name, 160)
    scorer = ProbeScorer(encoder, np.cos(np.arange(encoder.feature_dim)), 0.0)
    entry = BACKBONES[name]
    module = Deployable(scorer, Frame(160), 160, entry.mean, entry.std).eval().requires_grad_(False)
    crops = np.random.default_rng(2).integers(0, 256, (2, 160, 160, 3), np.uint8)
    images = module.normalised(torch.from_numpy(crops))
    kept: list[Tensor] = []
    net = encoder.net
    layer = net.blocks[-1].norm1 if name == "tiny-vit" else net.bn2  # pyright: ignore
    hook = layer.register_forward_hook(lambda _, __, out: kept.append(out))  # pyright: ignore
    logits = module.scorer(images.clone().requires_grad_())[0]
    hook.remove()
    (gradient,) = torch.autograd.grad(logits.sum(), kept[0])
    acts = kept[0].detach()
    if name == "tiny-vit":
        first = net.num_prefix_tokens  # pyright: ignore
        acts, gradient = (t[:, first:].transpose(1, 2).unflatten(2, (10, 10)) for t in (acts, gradient))
    expected = (gradient.mean((2, 3), keepdim=True) * acts).sum(1)
    found = gradcam(module, images)
    again = gradcam(module, images)
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-6)
    with torch.no_grad():  # what was wrapped answers as before
        torch.testing.assert_close(module.scorer(images)[0], logits.detach())


def test_maps_with_the_channels_last_are_turned() -> None:
    class Swinlike(nn.Module):
        output_fmt = "NHWC"

        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(3)

        def forward(self, images: Tensor) -> Tensor:
            return self.norm(nn.functional.avg_pool2d(images, 8).permute(0, 2, 3, 1)).mean((1, 2))

    encoder = build("tiny-cnn", 32)
    encoder.net, encoder.feature_dim = Swinlike(), 3
    module = Deployable(ProbeScorer(encoder, np.array([1.0, 2.0, -1.0]), 0.0), Frame(32), 32, HALF, HALF).eval()
    images = module.normalised(torch.from_numpy(bright(2, 32)))
    maps = gradcam(module, images)
    acts = nn.functional.layer_norm(nn.functional.avg_pool2d(images.detach(), 8).permute(0, 2, 3, 1), (3,))
    torch.testing.assert_close(maps, (acts * torch.tensor([1.0, 2.0, -1.0]) / 16).sum(-1), rtol=1e-4, atol=1e-6)


def test_no_map_no_gradcam() -> None:
    class Flat(Scorer):
        feature_dim = 1

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images.mean((1, 2, 3)), images.mean((2, 3))

    module = Deployable(Flat(), Frame(32), 32, HALF, HALF).eval()
    with pytest.raises(InputError, match="feature maps for Flat, got gradcam; fix: use integrated-gradients"):
        saliency(module, bright(1, 32))
    assert np.isfinite(saliency(module, bright(1, 32), INTEGRATED)).all()


# Pictures -------------------------------------------------------------------------------------


def test_colours_say_the_sign_and_darkness_what_is_not_seen() -> None:
    crop = np.full((2, 2, 3), (200, 100, 150), np.uint8)
    grey = 0.299 * 200 + 0.587 * 100 + 0.114 * 150
    shown = blended(crop, np.array([[2.0, -1.0], [0.0, np.nan]]))
    assert shown[0, 0] == pytest.approx((1 - STRENGTH) * grey + STRENGTH * np.array(FOR), abs=1)
    half = STRENGTH / 2
    assert shown[0, 1] == pytest.approx((1 - half) * grey + half * np.array(AGAINST), abs=1)
    assert shown[1, 0] == pytest.approx(np.full(3, grey), abs=1)
    assert shown[1, 1] == pytest.approx(np.full(3, grey / 2), abs=1)
    assert (blended(crop, np.zeros((2, 2))) == round(grey)).all()  # a map without any signal


def test_a_long_name_stays_on_the_page() -> None:
    values = np.zeros((32, 32), np.float32)
    pages = [picture(bright(1, 32)[0], values, (text, "second"), ("normal", "atypical")) for text in ("a", "b\n" * 900)]
    assert pages[0].size == pages[1].size
    edge = np.asarray(pages[1])[:, -8:]
    assert (edge == 255).all()


def test_pictures_are_written(bundle: Bundle, tmp_path: Path) -> None:
    folder = replace(bundle, geometry=CropGeometry(out_px=64), input_px=64).save(tmp_path / "bundle")
    crops, ids, told = bright(9, 64), [f"a/{i}.png" for i in range(9)], []

    def progress(done: int, total: int, what: str) -> None:
        told.append((done, total, what))

    files = explain(folder, crops, ids, tmp_path / "out", progress=progress)
    assert [file.name for file in files[:2]] == ["0001-a_0.png.gradcam.png", "0002-a_1.png.gradcam.png"]
    assert len(set(files)) == 9 and told[-1] == (9, 9, "crops explained")
    with Image.open(files[8]) as image:
        pixels = np.asarray(image)
    assert pixels.shape[1] > 2 * 256 and np.ptp(pixels) > 100
    assert explain(folder, crops[:0], [], tmp_path / "none") == []


def test_what_cannot_be_explained(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundle.save(tmp_path / "bundle")
    with pytest.raises(InputError, match="unknown method of explanation 'grad'"):
        explain(folder, bright(1, 32), ["a"], tmp_path, "grad")
    with pytest.raises(InputError, match="`ids` must be one for each of 1 crops, got 2"):
        explain(folder, bright(1, 32), ["a", "b"], tmp_path)
    with pytest.raises(InputError, match=f"`crops` must be at most {LIMIT} to explain, got {LIMIT + 1}; fix: choose"):
        explain(folder, np.zeros((LIMIT + 1, 32, 32, 3), np.uint8), ["a"] * (LIMIT + 1), tmp_path)
    with pytest.raises(InputError, match=r"`crops` must be of shape \(n, 32, 32, 3\), uint8"):
        explain(folder, bright(1, 64), ["a"], tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"")
    for exported in (tmp_path / "model.onnx", tmp_path):
        with pytest.raises(AbsentError, match="which has no gradients; fix: name the bundle"):
            explain(exported, bright(1, 32), ["a"], tmp_path)
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.delitem(sys.modules, "captum.attr", raising=False)
    with pytest.raises(
        AbsentError, match=r"needs .*captum, which .* not installed; fix: pip install 'atypia\[.*explain.*\]'"
    ):
        explain(folder, bright(1, 32), ["a"], tmp_path)
