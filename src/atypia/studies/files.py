"""Finds and reads study files, and defines the names of a study's output files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from atypia.base.config import parse, read_shipped, shipped_yaml, with_overrides
from atypia.studies.schema import SizeConfig, StudyConfig

PLAN: Final = "plan.json"
RUNS: Final = "runs"
MANIFESTS: Final = "manifests"
SPLITS: Final = "splits"
RESULTS: Final = "results.parquet"
RUN_TABLE: Final = "runs.parquet"
DELTAS: Final = "deltas.parquet"
SHIFT: Final = "shift.parquet"
MATRIX: Final = "matrix.parquet"

_OF_SIZES: Final = frozenset(StudyConfig.model_fields) & frozenset(SizeConfig.model_fields) - {"summary"}


def shipped_studies() -> dict[str, Path]:
    """Name and file of every shipped study, in alphabetical order."""
    return shipped_yaml("studies", "library")


def load_study(reference: str, overrides: Sequence[str] = ()) -> StudyConfig:
    """Reads a study and applies ``key=value`` overrides to its file's values.

    Args:
        reference: A shipped study's name, or the path of a YAML file.
        overrides: In the form of ``--set``, for instance ``seeds=[0, 1]``. They apply to every size: if a size has a
            value of its own for an overridden key, the override wins.

    Raises:
        InputError: No such study, or an invalid one.
    """
    _, values = read_shipped("study", reference, shipped_studies(), overrides)
    sizes = values.get("sizes")
    if not isinstance(sizes, dict):
        sizes = {}  # other types are refused by the schema
    for override in overrides:
        section = override.partition("=")[0].partition(".")[0]
        # Overrides apply to every size; otherwise a size's own value would silently win.
        for name, size in sizes.items():
            if section in _OF_SIZES and isinstance(size, dict) and size.get(section) is not None:
                sizes[name] = with_overrides(size, [override])
    return parse(StudyConfig, values, f"study {reference}")
