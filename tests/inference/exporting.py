"""Two small networks of which everything that exports is tested."""

from __future__ import annotations

import numpy as np
import torch

from atypia.inference.bundles.bundle import Bundle
from atypia.inference.bundles.decision import Decision
from atypia.inference.bundles.novelty import fit_novelty
from atypia.inference.runtimes.graph import deployable

CNN, VIT = "tiny-cnn", "tiny-vit"

FEATURES = 336
"""Of tiny-cnn: 256 pooled, and the channel means of two stages."""


def with_novelty() -> Decision:
    """A decision that refuses what is unlike random features."""
    rng = np.random.default_rng(0)
    train = rng.normal(size=(60, FEATURES)).astype(np.float32)
    novelty = fit_novelty(train, np.arange(60) % 2, rng.normal(size=(40, FEATURES)).astype(np.float32), k=4)
    return Decision(0.3, novelty=novelty)


def reference(bundle: Bundle, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and features of crops by torch."""
    with torch.inference_mode():
        logits, features = deployable(bundle)(torch.from_numpy(crops))
    return logits.numpy(), features.numpy()
