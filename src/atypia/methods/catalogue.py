"""Registry of probes; an entry is a module in ``atypia.methods.probes``."""

from __future__ import annotations

from typing import Any

from atypia.methods.head import Probe
from atypia.registry import Registry

PROBES: Registry[Probe[Any]] = Registry("probe", "atypia.methods.probes")
