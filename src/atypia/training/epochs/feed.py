"""Training batches: augmented crops on the device, decided by a seed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atypia.backbones.catalogue import Backbone
from atypia.data.augment.pipeline import Pipeline
from atypia.data.augment.spatial import Seen
from atypia.inference.crops import DeviceCrops, Frame


class Feed(DeviceCrops):
    """Stored crops as training batches (augmented) and evaluation batches (plain).

    Args:
        crops: Shape (n, s, s, 3), uint8 RGB.
        backbone: Its mean and standard deviation are used.
        frame: Which part of the crops enters the network, and at which size.
        augment: Augmentation of training batches.
        device: Where batches go.
        channels_last: Whether batches are laid out channels-last.
    """

    def __init__(
        self,
        crops: npt.NDArray[np.uint8],
        backbone: Backbone,
        frame: Frame,
        augment: Pipeline,
        device: torch.device | str = "cpu",
        channels_last: bool = True,
    ) -> None:
        super().__init__(crops, backbone, frame, device, channels_last)
        self.augment = augment

    def training_batch(
        self, rows: npt.NDArray[np.int64], seed: int, moves: npt.NDArray[np.int64] | None = None
    ) -> Tensor:
        """Augmented, normalised crops (b, 3, input_px, input_px), float32; the seed decides the draw.

        ``moves`` (b, 2): where the middle of what is shown lies, in px to the right and down of the crop's own.
        """
        generator = torch.Generator().manual_seed(seed)
        at = None if moves is None else torch.from_numpy(moves)
        images = self.augment(self.raw(rows).float().div_(255), generator, self.seen(), at)
        return self.normalised(images)

    def seen(self) -> Seen | None:
        """The part of a crop that the augmentation shows: the view, at the network's resolution or more."""
        side = self.crops.shape[1]
        seen = self.frame.seen_px(side)
        return None if seen == side else Seen(seen / side, max(seen, self.frame.input_px))
