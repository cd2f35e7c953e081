"""Finding and reading study files, and the names of what a study writes."""

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
    """Name and file of every study that ships with Atypia, in alphabetical order."""
    return shipped_yaml("studies", "library")


def load_study(reference: str, overrides: Sequence[str] = ()) -> StudyConfig:
    """Reads a study and applies ``key=value`` overrides to its file's values.

    Args:
        reference: A shipped study's name, or the path of a YAML file.
        overrides: As ``--set`` takes them, for instance ``seeds=[0, 1]``. They hold for every size: where a size has a
            value of its own for a key that is set, the override wins.

    Raises:
        InputError: No such study, or it is not valid.
    """
    _, values = read_shipped("study", reference, shipped_studies(), overrides)
    sizes = values.get("sizes")
    if not isinstance(sizes, dict):
        sizes = {}  # what else it is, the schema says
    for override in overrides:
        section = override.partition("=")[0].partition(".")[0]
        # What a user asks for holds at every size: a size's own value would silently win.
        for name, size in sizes.items():
            if section in _OF_SIZES and isinstance(size, dict) and size.get(section) is not None:
                sizes[name] = with_overrides(size, [override])
    return parse(StudyConfig, values, f"study {reference}")
