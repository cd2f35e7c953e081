"""Builds backbones: from a name to a network that maps crops to feature vectors."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
from timm.layers.mlp import SwiGLUPacked
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from atypia.backbones.catalogue import Backbone, Pooling, check_input_px
from atypia.backbones.checkpoints import load_weights
from atypia.backbones.preparation import Preparation, seen_px
from atypia.backbones.weights import locate
from atypia.base.errors import InputError, must

LAYERS = {"SwiGLUPacked": SwiGLUPacked, "SiLU": nn.SiLU}
"""Layer classes that entries refer to by name."""


class Encoder(nn.Module):
    """A backbone with its pooling.

    Attributes:
        net: The timm network, without a classifier.
        entry: Its catalogue entry.
        pooling: How its output is reduced to one vector.
        feature_dim: Length of that vector.
        input_px: Side of the square input in pixels.
    """

    def __init__(self, net: nn.Module, entry: Backbone, input_px: int) -> None:
        super().__init__()
        self.net = net
        self.entry = entry
        self.input_px = input_px
        self.pooling: Pooling = entry.pooling
        self.feature_dim = entry.feature_dim

    def forward(self, images: Tensor) -> Tensor:
        """Features of a batch.

        Args:
            images: Normalised RGB, shape (b, 3, input_px, input_px), float.

        Returns:
            Shape (b, feature_dim).
        """
        if self.pooling == "avg":
            return self.net(images)
        return self.pooled(self.net.forward_features(images))  # pyright: ignore[reportCallIssue]

    def pooled(self, tokens: Tensor) -> Tensor:
        """Pools a transformer's last tokens after the norm, (b, t, c), into features, (b, feature_dim)."""
        classes = tokens[:, 0]
        if self.pooling == "cls":
            return classes
        registers = self.pooling == "cls+mean"  # which are left out
        prefix = int(self.net.num_prefix_tokens) if registers else 1  # pyright: ignore[reportArgumentType]
        return torch.cat([classes, tokens[:, prefix:].mean(1)], dim=1)


def build(
    name: str, img_px: int | None = None, weights_file: Path | None = None, pooling: Pooling | None = None
) -> Encoder:
    """Builds a backbone with its weights.

    Args:
        name: Name of a catalogue entry.
        img_px: Side of the input in pixels; None: the side used in pretraining. Position embeddings for
        another side are resampled once, here.
        weights_file: A local weights file; None to look in packages and the model hub.
        pooling: Overrides the entry's pooling.

    Returns:
        The network in evaluation mode on the CPU, in single precision; its parameters require
        gradients as usual.

    Raises:
        InputError: Unknown backbone, an input side or pooling that it does not support,
        or weights that do not fit.
        AbsentError: The weights are not on this machine and cannot be downloaded.
    """
    entry = Preparation(pooling=pooling).entry(name)
    side = entry.input_px if img_px is None else check_input_px(entry, img_px)
    located = locate(name, weights_file)
    net = architecture(entry)
    load_weights(net, entry, located)
    resize_input(net, entry, side)
    return Encoder(net, entry, side).eval()


def architecture(entry: Backbone) -> nn.Module:
    """The network of an entry without weights or classifier, on the default device (meta included)."""
    kwargs: dict[str, Any] = {
        key: LAYERS[value] if isinstance(value, str) and value in LAYERS else value
        for key, value in entry.model_kwargs.items()
    }
    if entry.pooling != "avg":
        kwargs["global_pool"] = "token"  # keeps the last norm before pooling, where `forward` needs it
    return timm.create_model(entry.timm_name, pretrained=False, num_classes=0, **kwargs)


def resize_input(net: nn.Module, entry: Backbone, side_px: int) -> None:
    """Sets a transformer to another input side; networks without position embeddings accept any side."""
    resize = getattr(net, "set_input_size", None)
    if side_px != entry.input_px and resize is not None:
        resize(img_size=(side_px, side_px))


def preprocess(crops: npt.NDArray[np.uint8] | Tensor, entry: Backbone, input_px: int, view: float = 1.0) -> Tensor:
    """Resizes and normalises crops for a backbone.

    Args:
        crops: RGB, shape (b, h, w, 3), uint8.
        entry: Catalogue entry of the backbone; its mean and standard deviation are used.
        input_px: Side of the result in pixels.
        view: Share of the crop's side that is shown, from its middle.

    Returns:
        Shape (b, 3, input_px, input_px), float32, normalised, in channels-last memory order.
        Resampling is bilinear and antialiased; crops that already have the right size are not resampled.

    Raises:
        InputError: The crops are not uint8 RGB.
    """
    raw = torch.from_numpy(np.ascontiguousarray(crops)) if isinstance(crops, np.ndarray) else crops
    if raw.dtype != torch.uint8 or raw.ndim != 4 or raw.shape[3] != 3:
        got = f"{tuple(raw.shape)} {raw.dtype}"
        raise InputError(must("crops", "of shape (b, h, w, 3), uint8", got, "give RGB crops"))
    if view != 1:
        side = raw.shape[1]
        seen = seen_px(side, view)
        edge = (side - seen) // 2
        raw = raw[:, edge : edge + seen, edge : edge + seen]
    # The pixels are already stored with channels last; a permuted view keeps this order.
    images = raw.permute(0, 3, 1, 2).to(torch.float32)
    if images.shape[2:] != (input_px, input_px):
        images = functional.interpolate(
            images, (input_px, input_px), mode="bilinear", align_corners=False, antialias=True
        )
    mean = torch.tensor(entry.mean, device=images.device).mul_(255).view(1, 3, 1, 1)
    std = torch.tensor(entry.std, device=images.device).mul_(255).view(1, 3, 1, 1)
    return images.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


def folded(encoder: Encoder, tolerance: float = 1e-4) -> Encoder:
    """A copy for inference in which batch norms are folded into the convolutions before them.

    Pairs are found by the order of the modules, which may be wrong, so the result is compared
    with the original on random input; if they differ, the original is returned.

    Args:
        encoder: In evaluation mode.
        tolerance: Largest difference allowed, relative to the largest feature.

    Returns:
        The folded copy, or ``encoder`` itself if there is nothing to fold or folding changes its output.
    """
    if not any(True for _ in _pairs(encoder)):
        return encoder
    clone = copy.deepcopy(encoder)
    for module, name, conv, norm in list(_pairs(clone)):
        assert norm.running_mean is not None and norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        # timm's norm layers include the activation, which must stay.
        setattr(module, name, getattr(norm, "act", nn.Identity()))
    device = next(encoder.parameters()).device
    sample = torch.randn(2, 3, encoder.input_px, encoder.input_px, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        want, have = encoder(sample.to(device)), clone(sample.to(device))
    scale = want.abs().max().clamp(min=1e-12)
    return clone if float((want - have).abs().max() / scale) <= tolerance else encoder


def _pairs(encoder: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Conv2d, nn.BatchNorm2d]]:
    """Batch norms that follow a convolution of the same width inside a module, with that module and their name."""
    for module in encoder.modules():
        children = list(module.named_children())
        for (_, conv), (name, norm) in pairwise(children):
            if not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
                continue
            if norm.num_features == conv.out_channels and norm.track_running_stats:
                yield module, name, conv, norm
