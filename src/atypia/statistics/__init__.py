"""Metrics, intervals and tests: pure functions of arrays.

Its modules are loaded when they are first used, those of the room ``differences`` too:
``atypia.statistics.delong.auroc_interval`` and ``atypia.statistics.ranks`` need no import of their own.

>>> import atypia
>>> atypia.statistics.multiple.holm([0.01, 0.04]).tolist()
[0.02, 0.04]
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from atypia.statistics import agreement as agreement
    from atypia.statistics import casestats as casestats
    from atypia.statistics import confusion as confusion
    from atypia.statistics import delong as delong
    from atypia.statistics import density as density
    from atypia.statistics import detection as detection
    from atypia.statistics import drift as drift
    from atypia.statistics import error_rates as error_rates
    from atypia.statistics import intervals as intervals
    from atypia.statistics import labelling as labelling
    from atypia.statistics import laboratories as laboratories
    from atypia.statistics import metrics as metrics
    from atypia.statistics import rates as rates
    from atypia.statistics import resampling as resampling
    from atypia.statistics import reviewed as reviewed
    from atypia.statistics.differences import comparison as comparison
    from atypia.statistics.differences import crossvalidation as crossvalidation
    from atypia.statistics.differences import groups as groups
    from atypia.statistics.differences import multiple as multiple
    from atypia.statistics.differences import paired as paired
    from atypia.statistics.differences import ranks as ranks

__all__ = [
    "agreement",
    "casestats",
    "comparison",
    "confusion",
    "crossvalidation",
    "delong",
    "density",
    "detection",
    "drift",
    "error_rates",
    "groups",
    "intervals",
    "labelling",
    "laboratories",
    "metrics",
    "multiple",
    "paired",
    "ranks",
    "rates",
    "resampling",
    "reviewed",
]
_DIFFERENCES = frozenset({"comparison", "crossvalidation", "groups", "multiple", "paired", "ranks"})


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'atypia.statistics' has no attribute {name!r}; modules: {', '.join(__all__)}")
    room = "differences." if name in _DIFFERENCES else ""
    return _import_module(f"atypia.statistics.{room}{name}")


def __dir__() -> list[str]:
    return list(__all__)
