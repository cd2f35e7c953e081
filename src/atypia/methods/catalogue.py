"""Registry of probes; an entry is a module in ``atypia.methods.probes``."""

from __future__ import annotations

from typing import Any

from atypia.base.registry import Registry
from atypia.methods.head import Probe

PROBES: Registry[Probe[Any]] = Registry("probe", "atypia.methods.probes", "probes")
