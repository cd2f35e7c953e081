"""Training batches: augmented crops on the device, decided by a seed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atypia.backbones.catalogue import Backbone
from atypia.data.augment.pipeline import Pipeline
from atypia.inference.crops import DeviceCrops


class Feed(DeviceCrops):
    """Stored crops as training batches (augmented) and evaluation batches (plain).

    Args:
        crops: Shape (n, s, s, 3), uint8 RGB.
        backbone: Whose mean and standard deviation are used.
        input_px: Side at which crops enter the network.
        augment: Augmentation of training batches.
        device: Where batches go.
        channels_last: Whether batches are laid out channels-last.
    """

    def __init__(
        self,
        crops: npt.NDArray[np.uint8],
        backbone: Backbone,
        input_px: int,
        augment: Pipeline,
        device: torch.device | str = "cpu",
        channels_last: bool = True,
    ) -> None:
        super().__init__(crops, backbone, input_px, device, channels_last)
        self.augment = augment

    def training_batch(self, rows: npt.NDArray[np.int64], seed: int) -> Tensor:
        """Augmented, normalised crops (b, 3, input_px, input_px), float32; the seed decides the draw."""
        generator = torch.Generator().manual_seed(seed)
        images = self.augment(self.raw(rows).float().div_(255), generator)
        return self.normalised(images)
