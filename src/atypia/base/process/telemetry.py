"""Switches off reports of other packages to their makers: nothing leaves the machine.

Packages check their settings at import or start, so :func:`switch_off` runs when ``atypia`` is imported, which every
entry point, worker process and exported container does first. It overrides the environment.
"""

from __future__ import annotations

import os
import sys
from typing import Final

SWITCHES: Final = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime: a device id and events in the home, sent to its maker's host
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, diffusers, transformers: who downloads what
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray: size and libraries of a cluster, once an hour
    "DO_NOT_TRACK": "1",  # the convention that others follow
}
"""Environment variables that switch reports off."""
REPORTERS: Final = ("openvino_telemetry",)
"""Packages that only report and have no such variable: OpenVINO's sends an event at every import of OpenVINO,
and OpenVINO works without it."""


def switch_off() -> None:
    """Sets :data:`SWITCHES`, which processes started from this one inherit, and makes :data:`REPORTERS` unavailable."""
    os.environ.update(SWITCHES)
    for package in REPORTERS:
        if package not in sys.modules:
            sys.modules[package] = None  # pyright: ignore[reportArgumentType]  # Python's way to say «not importable»
