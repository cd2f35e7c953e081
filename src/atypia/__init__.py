"""Atypia: classifies mitotic figures as atypical or normal, with calibrated probabilities."""

from atypia.base import telemetry as _telemetry

__version__ = "0.1.0"

_telemetry.switch_off()  # before any package that reports is imported
