"""Metrics, intervals and tests: pure functions of arrays.

Its modules are loaded when they are first used: ``atypia.statistics.delong.auroc_interval`` needs no import of its own.

>>> import atypia
>>> atypia.statistics.multiple.holm([0.01, 0.04]).tolist()
[0.02, 0.04]
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from atypia.statistics import agreement as agreement
    from atypia.statistics import casestats as casestats
    from atypia.statistics import comparison as comparison
    from atypia.statistics import confusion as confusion
    from atypia.statistics import crossvalidation as crossvalidation
    from atypia.statistics import delong as delong
    from atypia.statistics import groups as groups
    from atypia.statistics import intervals as intervals
    from atypia.statistics import metrics as metrics
    from atypia.statistics import multiple as multiple
    from atypia.statistics import paired as paired
    from atypia.statistics import ranks as ranks
    from atypia.statistics import resampling as resampling

__all__ = [
    "agreement",
    "casestats",
    "comparison",
    "confusion",
    "crossvalidation",
    "delong",
    "groups",
    "intervals",
    "metrics",
    "multiple",
    "paired",
    "ranks",
    "resampling",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'atypia.statistics' has no attribute {name!r}; modules: {', '.join(__all__)}")
    return _import_module(f"atypia.statistics.{name}")


def __dir__() -> list[str]:
    return list(__all__)
