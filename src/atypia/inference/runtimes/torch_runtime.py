"""A bundle's network through torch, on a GPU where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from atypia.base.process.progress import Progress, silent
from atypia.inference.bundles.bundle import Bundle
from atypia.inference.networks import best_device
from atypia.inference.runtimes.exported import BATCH, Floats, in_batches
from atypia.inference.runtimes.graph import deployable, exported_config, without_idle_tokens

DEVICE_BATCH = 256
"""Crops that a GPU takes at once."""
ROWS_READ = 512
"""Stored crops that are read at once."""


class TorchRuntime:
    """A :class:`atypia.inference.runtimes.catalogue.Runtime` through torch.

    Args:
        bundle: The classifier.
        weights_file: A file of the user with the backbone's weights.
        device: Where it runs; None: a GPU where there is one.

    Raises:
        AbsentError: The backbone's weights are not on this machine, or are others than the bundle was made with.
    """

    name = "torch"

    def __init__(self, bundle: Bundle, weights_file: Path | None = None, device: torch.device | None = None) -> None:
        self.device = device or best_device()
        # Convolutions of a CPU are far faster with the channels last.
        self.module = without_idle_tokens(deployable(bundle, weights_file)).to(self.device)
        self.module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.config = exported_config(bundle)
        self.decision = bundle.decision
        self.side_px = self.module.side_px

    def run(self, crops: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """See :meth:`atypia.inference.runtimes.catalogue.Runtime.run`."""
        batch = BATCH if self.device.type == "cpu" else DEVICE_BATCH
        return in_batches(crops, self.side_px, self.module.feature_dim, self._score, batch)

    def run_rows(
        self, crops: Any, rows: npt.NDArray[np.integer[Any]], progress: Progress = silent
    ) -> tuple[Floats, Floats]:
        """The same of some rows of stored crops, of which a piece at a time is read.

        Args:
            crops: Indexed by an array of rows, as the crops of a store.
            rows: Shape (n,).
            progress: Told how many figures are done.
        """
        found = []
        for start in range(0, len(rows), ROWS_READ):
            progress(start, len(rows), "figures")
            found.append(self.run(np.ascontiguousarray(crops[rows[start : start + ROWS_READ]])))
        return np.concatenate([z for z, _ in found]), np.concatenate([features for _, features in found])

    def _score(self, crops: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            logits, features = self.module(torch.from_numpy(crops).to(self.device))
        return logits.cpu().numpy(), features.cpu().numpy()
