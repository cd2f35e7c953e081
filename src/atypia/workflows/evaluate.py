"""The work of ``atypia evaluate``: predictions and metrics on other data sets.

from atypia.workflows.evaluate import evaluate

found = evaluate("runs/probe", ["atnorm-br"])
print(found.table())
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from atypia.base import runs
from atypia.base.extras import NETWORKS, require
from atypia.base.process.progress import Progress, silent
from atypia.base.runs import EXTERNAL
from atypia.workflows.results import FolderResults

if TYPE_CHECKING:
    from atypia.data.manifest import Manifest


@dataclass(frozen=True)
class EvaluatedSet:
    """One data set of an evaluation.

    Attributes:
        name: Of the data set.
        figures: Number of its figures.
        left_out: How many of them cannot be read and are left out of all results.
        predictions: Files of the predictions, one per fold.
        warnings: Sentences that belong under its tables.
    """

    name: str
    figures: int
    left_out: int
    predictions: tuple[Path, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Evaluation(FolderResults):
    """The result of an evaluation.

    Attributes:
        target: Folder of what was evaluated.
        out: Where ``evaluations/`` and ``results.parquet`` are.
        sets: One per data set, in the order in which they were named.
    """

    usual_part: ClassVar[str] = EXTERNAL
    target: Path
    out: Path
    sets: tuple[EvaluatedSet, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of all sets, each once."""
        return tuple(dict.fromkeys(text for one in self.sets for text in one.warnings))

    @property
    def about(self) -> Path:
        """What was evaluated."""
        return self.target

    def __repr__(self) -> str:
        names = ", ".join(one.name for one in self.sets)
        return f"<Evaluation of {self.target} on {names}; in {self.out}>"


def evaluate(
    target: str | PathLike[str],
    on: str | PathLike[str] | Manifest | Sequence[str | PathLike[str] | Manifest],
    *,
    out: Path | None = None,
    allow: Sequence[str] = (),
    weights: Path | None = None,
    device: str = "auto",
    root: Path | None = None,
    progress: Progress = silent,
    on_warning: Callable[[str], None] | None = None,
) -> Evaluation:
    """Scores data sets with every fold's classifier; existing valid predictions are kept.

    Args:
        target: A training's folder, one run's, a bundle, or a shipped model's name.
        on: One or several: opened manifests, or what :func:`atypia.data.sources.opening.open_data` takes.
        out: Folder of predictions and metrics; None for the training's own, of a bundle ``evaluations/NAME-HASH``.
        allow: Leakage findings that are named as exceptions.
        weights: A file of the user with the backbone's weights.
        device: ``auto``, ``cpu`` or ``cuda``.
        root: Data root; None for the user's setting.
        progress: Told about crops, features and figures.
        on_warning: Told each warning as soon as it is known.

    Raises:
        InputError: The target is no training, run or classifier; a data set has no labels or is of another task.
        AbsentError: A data set or the backbone's weights are not on this machine.
        LeakageError: A data set shares figures, images or cases with the training data.

    >>> evaluate("atypia", "mine.csv", out=Path("evaluated"))
    <Evaluation of ... on mine; in evaluated>
    """
    from atypia.data.audit.findings import check_codes
    from atypia.data.pools import open_figures
    from atypia.evaluation.external import check_set, open_target
    from atypia.evaluation.external import evaluate as score_set

    allowed = check_codes(allow)
    several = on if isinstance(on, Sequence) and not isinstance(on, str) else [on]
    opened = open_target(target if isinstance(target, str) else Path(target), out)
    if not (
        opened.out / runs.EVALUATIONS
    ).is_dir():  # else predictions may be there, and only metrics are to be computed
        require("`atypia evaluate`, which scores through torch alone, so that results can be compared,", *NETWORKS)
    manifests = [open_figures(str(one), root) if isinstance(one, str | PathLike) else one for one in several]
    sets = []
    for manifest in manifests:
        checked = check_set(opened, manifest, allowed, progress)
        files, warnings = score_set(opened, manifest, allowed, weights, progress, checked, device)
        if on_warning is not None:
            for text in warnings:
                on_warning(text)
        sets.append(EvaluatedSet(manifest.name, len(manifest), checked.left_out, tuple(files), tuple(warnings)))
    return Evaluation(opened.folder, opened.out, tuple(sets))
