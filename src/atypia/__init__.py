"""Atypia: atypical or normal mitotic figure, and how sure."""

from atypia.base import telemetry as _telemetry

__version__ = "0.1.0"

_telemetry.switch_off()  # before any package that reports is imported
