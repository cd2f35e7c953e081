"""From rows of the crop store to batches on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atypia.data.augment.pipeline import Pipeline

DEVICE_SHARE = 0.2
"""Share of the free device memory up to which all crops are kept on the device."""
EVALUATION_BATCH = 256


class Feed:
    """Batches of normalised crops, augmented for training and plain for evaluation.

    Crops stay memory-mapped on the CPU; on a GPU they are copied there once, where they fit.

    Args:
        crops: Shape (n, s, s, 3), uint8 RGB.
        mean: Channel means of the backbone, of images in [0, 1].
        std: Channel deviations of the backbone.
        input_px: Side at which crops enter the network.
        augment: Augmentation of training batches.
        device: Where batches go.
        channels_last: Whether batches are laid out channels-last.
    """

    def __init__(
        self,
        crops: npt.NDArray[np.uint8],
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        input_px: int,
        augment: Pipeline,
        device: torch.device | str = "cpu",
        channels_last: bool = True,
    ) -> None:
        self.device = torch.device(device)
        self.input_px, self.augment = input_px, augment
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.mean = torch.tensor(mean, device=self.device)[None, :, None, None]
        self.std = torch.tensor(std, device=self.device)[None, :, None, None]
        self.crops = crops
        self.on_device: Tensor | None = None
        if self.device.type == "cuda" and crops.nbytes < DEVICE_SHARE * torch.cuda.mem_get_info(self.device)[0]:
            self.on_device = torch.from_numpy(np.asarray(crops)).to(self.device)

    def raw(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Crops as they are stored: shape (b, 3, s, s), uint8, on the device."""
        if self.on_device is not None:
            batch = self.on_device[torch.from_numpy(np.ascontiguousarray(rows)).to(self.device)]
        else:
            batch = torch.from_numpy(self.crops[rows]).to(self.device, non_blocking=True)
        return batch.permute(0, 3, 1, 2)

    def training_batch(self, rows: npt.NDArray[np.int64], seed: int) -> Tensor:
        """Augmented, normalised crops (b, 3, input_px, input_px), float32; the seed decides the draw."""
        generator = torch.Generator().manual_seed(seed)
        images = self.augment(self.raw(rows).float().div_(255), generator)
        return self._normalised(images)

    def plain_batch(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Normalised crops (b, 3, input_px, input_px), float32."""
        return self._normalised(self.raw(rows).float().div_(255))

    def probabilities(
        self, network: nn.Module, rows: npt.NDArray[np.int64], amp: torch.dtype | None = None
    ) -> npt.NDArray[np.float64]:
        """Probability of the positive class for these rows, shape (m,), in evaluation mode.

        The network's mode is restored; it must give an output with ``logits`` of shape (b,).
        """
        was_training = network.training
        network.eval()
        found: list[Tensor] = []
        with torch.inference_mode(), torch.autocast(self.device.type, dtype=amp, enabled=amp is not None):
            for start in range(0, len(rows), EVALUATION_BATCH):
                out: Any = network(self.plain_batch(rows[start : start + EVALUATION_BATCH]))
                found.append(out.logits.float())
        network.train(was_training)
        if not found:
            return np.empty(0)
        return torch.sigmoid(torch.cat(found).double()).cpu().numpy()

    def _normalised(self, images: Tensor) -> Tensor:
        if images.shape[-1] != self.input_px:
            images = F.interpolate(
                images, (self.input_px, self.input_px), mode="bilinear", antialias=True, align_corners=False
            )
        return ((images - self.mean) / self.std).contiguous(memory_format=self.format)
