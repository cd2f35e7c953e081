"""Explanations: which places of a crop speak for the positive class, and which against it.

Two methods, both with captum on the torch network that makes the calls:

``gradcam``
    Gradient-weighted class activation (Selvaraju et al. 2017) of the last feature map; of a transformer, of the
    patch tokens that enter its last attention. Coarse, robust. The sign is kept: the rectified map of the paper is
    its positive part.
``integrated-gradients``
    Integrated gradients (Sundararajan et al. 2017) from empty glass to the crop: fine, noisy; the sum over the
    pixels is the difference of the two logits.

A map shows what this network reacts to. It does not show that the reaction is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.artifacts import atomic_file, disk_errors
from atypia.base.errors import AbsentError, DataError, InputError, must
from atypia.base.extras import NETWORKS, require
from atypia.base.process.progress import Progress, silent
from atypia.base.records import CLASS_NAMES
from atypia.base.registry import Registry
from atypia.base.runs import safe_name
from atypia.inference.runtimes.catalogue import ONNX_FILE
from atypia.inference.saliency_picture import picture

if TYPE_CHECKING:
    from torch import Tensor, nn

    from atypia.inference.runtimes.graph import Deployable

Floats = npt.NDArray[np.float32]

GRADCAM: Final = "gradcam"
INTEGRATED: Final = "integrated-gradients"
LIMIT: Final = 200
"""Largest number of crops in one call: the pictures are for a person to look at."""
BATCH: Final = 8
STEPS: Final = 64
"""Points of the path of integrated gradients (Gauss-Legendre)."""


@dataclass(frozen=True)
class Method:
    """A way to explain.

    Attributes:
        name: Key in :data:`METHODS`.
        summary: For documentation.
        maps: From the module and normalised images (b, 3, p, p) to maps (b, h, w), positive where
            something speaks for the positive class.
        blur: Share of the field over which a map is averaged before it is shown.
    """

    name: str
    summary: str
    maps: Callable[[Deployable, Tensor], Tensor]
    blur: float = 0.0


METHODS = Registry[Method]("method of explanation")
"""Methods by name."""


def explain(
    model_path: str | Path,
    crops: npt.NDArray[np.uint8],
    ids: Sequence[str],
    out_dir: Path,
    method: str = GRADCAM,
    *,
    weights_file: Path | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Writes a picture for each crop: the crop, the map over it in grey, and the scale of colours.

    Args:
        model_path: A bundle's folder, or the name of a shipped model.
        crops: RGB, shape (n, s, s, 3), uint8, of the model's side.
        ids: Figure ids, one per crop.
        out_dir: Folder of the pictures, ``0001-ID.METHOD.png`` in the order of the crops.
        method: Name in :data:`METHODS`.
        weights_file: A file of the user with the backbone's weights.
        progress: Told about crops explained.

    Returns:
        The files, one per crop.

    Raises:
        AbsentError: captum or the backbone's weights are not on this machine, or the model is an exported network only.
        DataError: The bundle is damaged.
        InputError: No such method, more than :data:`LIMIT` crops, or crops that do not fit the model or the ids.
    """
    chosen = METHODS[method]
    require_captum()
    if len(ids) != len(crops):
        raise InputError(must("ids", f"one for each of {len(crops)} crops", len(ids), "pass both"))
    if len(crops) > LIMIT:
        raise InputError(must("crops", f"at most {LIMIT} to explain", len(crops), "choose some of them"))
    from atypia.inference.bundles.bundle import load_bundle
    from atypia.inference.networks import best_device
    from atypia.inference.runtimes.graph import deployable

    bundle = load_bundle(_folder(model_path))
    side = bundle.geometry.out_px
    if crops.dtype != np.uint8 or crops.shape[1:] != (side, side, 3):
        expected = f"of shape (n, {side}, {side}, 3), uint8"
        raise InputError(must("crops", expected, f"{crops.shape} {crops.dtype}", "cut RGB crops of that side"))
    module = deployable(bundle, weights_file).to(best_device())
    with disk_errors(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
    positive = CLASS_NAMES[bundle.task][1]
    written = []
    for start in range(0, len(crops), BATCH):
        piece = np.ascontiguousarray(crops[start : start + BATCH])
        maps = saliency(module, piece, method)
        logits, features = _scores(module, piece)
        verdicts = bundle.decision.apply(logits, features)
        for i, one in enumerate(maps):
            number, figure = start + i + 1, ids[start + i]
            lines = (figure, f"p({positive}) {verdicts.p[i]:.3f}, {verdicts.call[i]}; {chosen.name}, {bundle.name}")
            image = picture(piece[i], one, lines, CLASS_NAMES[bundle.task])
            path = out_dir / f"{number:04d}-{safe_name(figure)}.{chosen.name}.png"
            with atomic_file(path) as file:
                image.save(file, format="PNG")
            written.append(path)
        progress(len(written), len(crops), "crops explained")
    return written


def saliency(module: Deployable, crops: npt.NDArray[np.uint8], method: str = GRADCAM) -> Floats:
    """Maps of the evidence for the positive class, at the places of the crops.

    Args:
        module: The classifier; for a transformer it may be changed in its structure, not in its answers.
        crops: RGB, shape (b, s, s, 3), uint8.
        method: Name in :data:`METHODS`.

    Returns:
        Shape (b, s, s): positive where something speaks for the positive class, negative where against it, NaN
        where the network does not look. Comparable within a crop only.

    Raises:
        AbsentError: captum is not installed.
        InputError: No such method, or the network has no feature map.
    """
    import torch
    import torch.nn.functional as F

    chosen = METHODS[method]
    require_captum()
    for layer in module.modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False  # pyright: ignore[reportArgumentType] - else it overwrites what gradients need
    device = module.scale.device
    images = module.normalised(torch.from_numpy(crops).to(device)).detach()
    maps = chosen.maps(module, images).detach().float()[:, None]
    seen = module.end - module.first
    if chosen.blur:
        reach = max(1, round(chosen.blur * maps.shape[-1] / 2))
        for _ in range(2):  # two boxes are a tent
            maps = F.avg_pool2d(maps, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
    shrinks = maps.shape[-1] > seen
    maps = F.interpolate(maps, (seen, seen), mode="bilinear", align_corners=False, antialias=shrinks)
    placed = np.full((len(crops), module.side_px, module.side_px), np.nan, np.float32)
    placed[:, module.first : module.end, module.first : module.end] = maps[:, 0].cpu().numpy()
    return placed


def gradcam(module: Deployable, images: Tensor) -> Tensor:
    """Grad-CAM with its sign: Σ_k mean(∂logit/∂A_k) · A_k over the channels k of the feature map A.

    Args:
        module: The classifier.
        images: Normalised, shape (b, 3, p, p).

    Returns:
        Shape (b, h, w), of the feature map.

    Raises:
        InputError: The network has no feature map of more than one pixel.
    """
    from captum.attr import LayerGradCam

    layer = feature_map(module.scorer, images[:1])
    found: Any = LayerGradCam(_logits(module), layer).attribute(images.requires_grad_())
    return found[:, 0]


def integrated_gradients(module: Deployable, images: Tensor) -> Tensor:
    """Integrated gradients from empty glass (white), summed over the colours.

    Args:
        module: The classifier.
        images: Normalised, shape (b, 3, p, p).

    Returns:
        Shape (b, p, p); the sum over the pixels is the logit minus that of the glass.
    """
    import torch
    from captum.attr import IntegratedGradients

    white = torch.full((1, module.side_px, module.side_px, 3), 255, dtype=torch.uint8, device=images.device)
    glass = module.normalised(white).expand_as(images)
    found: Any = IntegratedGradients(_logits(module)).attribute(
        images, glass, n_steps=STEPS, internal_batch_size=max(BATCH, len(images))
    )
    return found.sum(1)


METHODS.add(GRADCAM, Method(GRADCAM, "the last feature map, weighted by its gradient", gradcam))
METHODS.add(INTEGRATED, Method(INTEGRATED, "gradients from empty glass to the crop", integrated_gradients, 0.05))


def feature_map(scorer: nn.Module, image: Tensor) -> nn.Module:
    """The layer whose output is the last feature map (b, c, h, w); tokens are laid out as one.

    Args:
        scorer: From normalised images to logits. In a transformer a layer is wrapped, which changes no number.
        image: One normalised image, shape (1, 3, p, p).

    Raises:
        InputError: There is none of more than one pixel.
    """
    import torch

    from atypia.backbones.build import Encoder

    encoder = next((part for part in scorer.modules() if isinstance(part, Encoder)), None)
    if encoder is not None:
        net: Any = encoder.net
        if encoder.pooling != "avg":
            return _tokens_as_map(net)
        if str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC"):
            return _channels_first(net)
    found: list[nn.Module] = []

    def note(layer: nn.Module, inputs: object, out: object) -> None:
        if isinstance(out, torch.Tensor) and out.ndim == 4 and min(out.shape[2:]) > 1:
            found.append(layer)

    hooks = [layer.register_forward_hook(note) for layer in scorer.modules()]
    try:
        with torch.no_grad():
            scorer(image)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise InputError(
            must("method", f"one without feature maps for {type(scorer).__name__}", GRADCAM, f"use {INTEGRATED}")
        )
    return found[-1]


def _channels_first(net: Any) -> nn.Module:
    """Wraps the last norm of a network whose maps have the channels last."""
    if not hasattr(net.norm, "map"):
        net.norm = _as_map(net.norm, lambda out: out.permute(0, 3, 1, 2), lambda out, _: out.permute(0, 2, 3, 1))
    return net.norm.map


def _tokens_as_map(net: Any) -> nn.Module:
    """Wraps the norm before the last attention, behind which every pooling reads all patches."""
    import torch

    first, grid = int(net.num_prefix_tokens), tuple(net.patch_embed.grid_size)
    block: Any = net.blocks[-1]
    if not hasattr(block.norm1, "map"):
        block.norm1 = _as_map(
            block.norm1,
            lambda out: out[:, first:].transpose(1, 2).unflatten(2, grid),
            lambda out, tokens: torch.cat([tokens[:, :first], out.flatten(2).transpose(1, 2)], 1),
        )
    return block.norm1.map


def _as_map(layer: nn.Module, to_map: Callable[[Tensor], Tensor], from_map: Callable[[Tensor, Tensor], Tensor]) -> Any:
    """The layer, its output laid out as (b, c, h, w) on the way through ``map``, where it can be hooked."""
    from torch import nn

    class AsMap(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer
            self.map = nn.Identity()

        def forward(self, inputs: Tensor) -> Tensor:
            out = self.layer(inputs)
            return from_map(self.map(to_map(out)), out)

    return AsMap()


def require_captum() -> None:
    """Raises if captum is missing.

    Raises:
        AbsentError: It is not installed.
    """
    require("a saliency overlay", *NETWORKS, "captum")


def _logits(module: Deployable) -> Callable[[Tensor], Tensor]:
    return lambda images: module.scorer(images)[0]


def _scores(module: Deployable, crops: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    import torch

    with torch.inference_mode():
        logits, features = module(torch.from_numpy(crops).to(module.scale.device))
    return logits.cpu().numpy(), features.cpu().numpy()


def _folder(model_path: str | Path) -> Path:
    """The bundle's folder; an exported network alone has no gradients."""
    from atypia.inference.bundles.bundle import MODEL_FILE
    from atypia.inference.classifier import find_model

    path = find_model(model_path)
    if path.is_file() or ((path / ONNX_FILE).is_file() and not (path / MODEL_FILE).is_file()):
        expected, fix = "a bundle's folder with its weights", "name the bundle that it was exported from"
        raise AbsentError(must(str(model_path), expected, "an exported network, which has no gradients", fix))
    if not path.is_dir():
        raise DataError(must(str(model_path), "a bundle's folder", "something else", "name a trained bundle"))
    return path
