"""Attention of feature maps: CBAM (Woo et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelAttention(nn.Module):
    """Channel attention of CBAM: one MLP on average- and on max-pooled features, summed (Woo et al. 2018, eq. 2)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Scales maps (b, c, h, w) by a gate (b, c, 1, 1) in (0, 1)."""
        gate = torch.sigmoid(self.mlp(maps.mean((2, 3))) + self.mlp(maps.amax((2, 3))))
        return maps * gate[:, :, None, None]


class SpatialAttention(nn.Module):
    """Spatial attention of CBAM: a convolution over channel mean and maximum (Woo et al. 2018, eq. 3)."""

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Scales maps (b, c, h, w) by a gate (b, 1, h, w) in (0, 1)."""
        pooled = torch.cat([maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)], dim=1)
        return maps * torch.sigmoid(self.conv(pooled))


class CBAM(nn.Sequential):
    """Convolutional block attention: channel, then spatial (Woo et al. 2018). Maps (b, c, h, w) keep their shape."""

    def __init__(self, channels: int, reduction: int = 16, kernel: int = 7) -> None:
        super().__init__(ChannelAttention(channels, reduction), SpatialAttention(kernel))
