"""Classifiers as they were before their files held hashes: every runtime reads them, and a note says so.

``python -m tests.inference.old_forms`` prints «read»; run by ``test_integrity.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.bundles.integrity import old_form
from atypia.inference.runtimes.catalogue import RUNTIMES, open_runtime

from .graphs import CONFIG, brightness_logits, probe_bundle, random_crops

GOLDEN = Path(__file__).parent / "golden" / "0.1.0"


def check() -> None:
    """Raises AssertionError where one is not read as it was written."""
    crops = random_crops(5)
    for path in (GOLDEN / "brightness.onnx", GOLDEN / "ir"):
        for runtime in ("onnx", "openvino") if path.is_file() else ("openvino",):
            opened = open_runtime(path, runtime)
            assert opened.config == CONFIG
            np.testing.assert_allclose(opened.run(crops)[0], brightness_logits(crops), atol=1e-5)
        note = old_form(path)
        assert note is not None and "before classifiers held hashes" in note and "fix:" in note
    bundle = load_bundle(GOLDEN / "bundle")
    assert bundle.fingerprint == probe_bundle("tiny-cnn").fingerprint
    for runtime in RUNTIMES:
        assert open_runtime(GOLDEN / "bundle", runtime).decision.threshold == 0.4
    assert "train or export it again" in (old_form(GOLDEN / "bundle") or "")


if __name__ == "__main__":
    check()
    print("read")
