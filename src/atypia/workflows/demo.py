"""The demonstration: a benchmark table in a few minutes, on real crops if they are on disk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from atypia.base.extras import NETWORKS, require
from atypia.base.process.progress import Progress, silent

if TYPE_CHECKING:
    from atypia.data.manifest import Manifest
    from atypia.reports.drawing.tables import Table

PHANTOM_CROPS: Final = 2000
TRAINED, OTHER = "ami-br", "atnorm-br"
"""The training set, and the other laboratory's set, if both are on disk."""
TABLE_FORMS: Final = ("md", "csv", "tex", "json")


@dataclass(frozen=True)
class DemoData:
    """The data of a demonstration.

    Attributes:
        folder: The real crops' folder; None if it is the phantom set.
        root: Data root.
    """

    folder: Path | None
    root: Path | None = None


@dataclass(frozen=True)
class Demo:
    """The result of a demonstration.

    Attributes:
        out: The training's folder.
        table: Results on validation, test and the other set.
        files: Where the table goes: one per form.
        warnings: Sentences that belong under the table.
        seconds: Wall time.
    """

    out: Path
    table: Table
    files: tuple[Path, ...]
    warnings: tuple[str, ...]
    seconds: float


def demo_data(root: Path | None = None, phantom: bool = False) -> DemoData:
    """The real AMi-Br and AtNorM-Br if both are under the data root, else the phantom set."""
    from atypia.data.sources.opening import source_folder

    real = not phantom and all(source_folder(name, root) is not None for name in (TRAINED, OTHER))
    return DemoData(source_folder(TRAINED, root) if real else None, root)


def demo(
    out: Path, data: DemoData | None = None, *, backbone: str = "efficientnet-lite0", progress: Progress = silent
) -> Demo:
    """A linear probe, cross-validated by case and tested on another set; existing results are kept.

    Args:
        out: Folder to write.
        data: The data; None: real crops if they are on disk.
        backbone: Of the catalogue.
        progress: Told about crops, features and figures.

    Raises:
        AbsentError: The backbone's weights are not on this machine.
    """
    from atypia.data.sources.opening import open_data
    from atypia.training.recipe import load_recipe
    from atypia.training.train import check_recipe
    from atypia.workflows.evaluate import evaluate
    from atypia.workflows.train import train

    started = time.perf_counter()
    require("`atypia demo`", *NETWORKS)
    data = data or demo_data()
    check_recipe(load_recipe("probe", [f"backbone={backbone}"])[1])
    if data.folder is not None:
        training, other, runs = open_data(TRAINED, data.root), open_data(OTHER, data.root), out / "probe"
    else:
        training, other = phantom_sets(out / "phantom", progress)
        runs = out / "probe-phantom"
    trained = train("probe", training, runs, backbone=backbone, progress=progress)
    tested = evaluate(runs, [other], progress=progress)
    warnings = tuple(dict.fromkeys([*trained.warnings, *tested.warnings]))
    files = tuple(runs / f"table.{form}" for form in TABLE_FORMS)
    return Demo(runs, trained.table(), files, warnings, time.perf_counter() - started)


def phantom_sets(folder: Path, progress: Progress = silent) -> tuple[Manifest, Manifest]:
    """A phantom set to train on, and another one from other laboratories."""
    from atypia.data.phantom.dataset import write_phantom
    from atypia.data.phantom.domains import DOMAINS

    names = list(DOMAINS)
    training = write_phantom(folder / "training", PHANTOM_CROPS, 0, domains=names[:-1], progress=progress)
    other = write_phantom(folder / "elsewhere", PHANTOM_CROPS // 4, 1, domains=names[-1:], progress=progress)
    return training, other
