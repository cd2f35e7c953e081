"""Finding and reading study files, and the names of what a study writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from atypia.config import parse, read_shipped, shipped_yaml
from atypia.studies.schema import StudyConfig

PLAN: Final = "plan.json"
RUNS: Final = "runs"
MANIFESTS: Final = "manifests"
SPLITS: Final = "splits"
RESULTS: Final = "results.parquet"
RUN_TABLE: Final = "runs.parquet"
DELTAS: Final = "deltas.parquet"
SHIFT: Final = "shift.parquet"
MATRIX: Final = "matrix.parquet"


def shipped_studies() -> dict[str, Path]:
    """Name and file of every study that ships with Atypia, in alphabetical order."""
    return shipped_yaml("studies", "library")


def load_study(reference: str, overrides: Sequence[str] = ()) -> StudyConfig:
    """Reads a study and applies ``key=value`` overrides to its file's values.

    Args:
        reference: A shipped study's name, or the path of a YAML file.
        overrides: As ``--set`` takes them, for instance ``seeds=[0, 1]``.

    Raises:
        InputError: No such study, or it is not valid.
    """
    _, values = read_shipped("study", reference, shipped_studies(), overrides)
    return parse(StudyConfig, values, f"study {reference}")
