"""A probe's bundle on random features."""

from __future__ import annotations

import numpy as np
import pytest

from atypia.data.images.geometry import CropGeometry
from atypia.inference.bundles.bundle import PROBE, Bundle, probe_tensors
from atypia.inference.bundles.decision import Decision

DIM = 256
"""Feature dimension of the backbone ``tiny-cnn``."""


@pytest.fixture
def bundle() -> Bundle:
    """A bundle whose head is ``linspace(-1, 1)`` with bias 0.25."""
    return Bundle(
        name="probe-tiny",
        task="atypical",
        adaptation=PROBE,
        backbone="tiny-cnn",
        weights_sha256=None,
        input_px=32,
        geometry=CropGeometry(out_px=32),
        tensors=probe_tensors(np.linspace(-1, 1, DIM), 0.25),
        decision=Decision(0.4),
        training={"recipe": "probe", "data": "made up", "seed": 3, "info": {"strength": 0.1}},
    )
