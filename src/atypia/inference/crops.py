"""Crops on their way into a network: from stored uint8 to normalised batches on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atypia.backbones.catalogue import Backbone
from atypia.backbones.preparation import seen_px

DEVICE_SHARE = 0.2
"""Share of the free device memory up to which all crops are kept on the device."""
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Frame:
    """Which part of a crop enters a network, and at which size.

    Attributes:
        input_px: Side at which crops enter the network.
        view: Share of the crop's side that is shown, from its middle, in (0, 1].
    """

    input_px: int
    view: float = 1.0

    def seen_px(self, side: int) -> int:
        """Pixels of a crop's side that are shown: as even or odd as the side, so that the middle stays the middle.

        >>> Frame(128, 0.6).seen_px(128)
        76
        """
        return seen_px(side, self.view)

    def cut(self, images: Tensor, moves: npt.NDArray[np.int64] | None = None) -> Tensor:
        """The part of images (b, c, s, s) that is shown: (b, c, seen_px, seen_px).

        ``moves`` (b, 2): by how many px to the right and down the part lies from the middle; it stays inside the image.
        Not copied without them.
        """
        side = images.shape[-1]
        seen = self.seen_px(side)
        edge = (side - seen) // 2
        if moves is not None:
            places = np.clip(edge + moves, 0, side - seen).tolist()
            return torch.stack(
                [image[..., y : y + seen, x : x + seen] for image, (x, y) in zip(images, places, strict=True)]
            )
        return images[..., edge : edge + seen, edge : edge + seen]


class DeviceCrops:
    """Stored crops as normalised batches.

    Crops stay memory-mapped on the CPU; for a GPU they are copied there once, if they fit.

    Args:
        crops: Shape (n, s, s, 3), uint8 RGB.
        backbone: Its mean and standard deviation are used.
        frame: Which part of them enters the network, and at which size.
        device: Where batches go.
        channels_last: Whether batches are laid out channels-last.
    """

    def __init__(
        self,
        crops: npt.NDArray[np.uint8],
        backbone: Backbone,
        frame: Frame,
        device: torch.device | str = "cpu",
        channels_last: bool = True,
    ) -> None:
        self.device = torch.device(device)
        self.frame = frame
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.mean = torch.tensor(backbone.mean, device=self.device)[None, :, None, None]
        self.std = torch.tensor(backbone.std, device=self.device)[None, :, None, None]
        self.crops = crops
        self.on_device: Tensor | None = None
        if self.device.type == "cuda" and crops.nbytes < DEVICE_SHARE * torch.cuda.mem_get_info(self.device)[0]:
            self.on_device = torch.from_numpy(np.ascontiguousarray(crops)).to(self.device)

    def raw(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Crops as they are stored: shape (b, 3, s, s), uint8, on the device."""
        if self.on_device is not None:
            batch = self.on_device[torch.from_numpy(np.ascontiguousarray(rows)).to(self.device)]
        else:
            batch = torch.from_numpy(self.crops[rows]).to(self.device, non_blocking=True)
        return batch.permute(0, 3, 1, 2)

    def plain_batch(self, rows: npt.NDArray[np.int64], moves: npt.NDArray[np.int64] | None = None) -> Tensor:
        """Normalised crops (b, 3, input_px, input_px), float32; ``moves`` as :meth:`Frame.cut`."""
        return self.normalised(self.frame.cut(self.raw(rows), moves).float().div_(255))

    def normalised(self, images: Tensor) -> Tensor:
        """Images (b, 3, s, s) in [0, 1], resized (bilinear, antialiased) and normalised for the backbone."""
        side = self.frame.input_px
        if images.shape[-1] != side:
            images = F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)
        return ((images - self.mean) / self.std).contiguous(memory_format=self.format)

    def probabilities(
        self,
        network: nn.Module,
        rows: npt.NDArray[np.int64],
        amp: torch.dtype | None = None,
        batch_size: int = EVALUATION_BATCH,
        moves: npt.NDArray[np.int64] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Sigmoid of :meth:`logits`, in float64."""
        return torch.sigmoid(torch.from_numpy(self.logits(network, rows, amp, batch_size, moves))).numpy()

    def logits(
        self,
        network: nn.Module,
        rows: npt.NDArray[np.int64],
        amp: torch.dtype | None = None,
        batch_size: int = EVALUATION_BATCH,
        moves: npt.NDArray[np.int64] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Logits of the positive class for these rows, shape (m,), in evaluation mode.

        ``moves`` as :meth:`Frame.cut`, shape (m, 2).

        The network's mode is restored; it must give an output with ``logits`` of shape (b,).
        """
        was_training = network.training
        network.eval()
        found: list[Tensor] = []
        with torch.inference_mode(), torch.autocast(self.device.type, dtype=amp, enabled=amp is not None):
            for start in range(0, len(rows), batch_size):
                part = slice(start, start + batch_size)
                out: Any = network(self.plain_batch(rows[part], None if moves is None else moves[part]))
                found.append(out.logits.float())
        network.train(was_training)
        if not found:
            return np.empty(0)
        return torch.cat(found).double().cpu().numpy()
