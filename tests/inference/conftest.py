"""A probe's bundle on random features, and the graphs of two small networks."""

from __future__ import annotations

import logging
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atypia.data.images.geometry import CropGeometry
from atypia.inference.bundles.bundle import PROBE, Bundle, probe_tensors
from atypia.inference.bundles.decision import Decision
from atypia.inference.export.onnx import Traced, trace

from .exporting import CNN, VIT, with_novelty
from .graphs import network_bundle

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


@pytest.fixture(scope="session")
def bundles() -> dict[str, Bundle]:
    return {
        CNN: network_bundle(CNN, "full", with_novelty(), mixstyle_stages=(0,), checkpointing=True, dropout=0.5),
        VIT: network_bundle(VIT, "lora", hidden=(8,)),
    }


@pytest.fixture(scope="session")
def graphs(bundles: dict[str, Bundle]) -> dict[str, Traced]:
    """Both bundles' graphs; capturing one takes seconds, so it is done once."""
    logging.disable(logging.DEBUG)  # torch's own trace, which the test runner would format and keep
    try:
        return {name: trace(bundle) for name, bundle in bundles.items()}
    finally:
        logging.disable(logging.NOTSET)


@pytest.fixture
def quick(graphs: dict[str, Traced], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets what exports take those graphs instead of capturing them again."""

    def again(bundle: Bundle, weights_file: Path | None = None, half: bool = False, one_file: bool = True) -> Traced:
        known = graphs[bundle.backbone]
        return replace(known, model=deepcopy(known.model))

    for module in ("onnx", "openvino"):
        monkeypatch.setattr(f"atypia.inference.export.{module}.trace", again)
