"""The demonstration: an honest benchmark table in a few minutes, on real crops where they are on disk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from atypia.base.process.progress import Progress, silent

if TYPE_CHECKING:
    from atypia.data.manifest import Manifest
    from atypia.reports.drawing.tables import Table

PHANTOM_CROPS: Final = 2000
TRAINED, OTHER = "ami-br", "atnorm-br"
"""What is trained on, and the other laboratory's set, where both are on disk."""
TABLE_FORMS: Final = ("md", "csv", "tex", "json")


@dataclass(frozen=True)
class DemoData:
    """What a demonstration is run on.

    Attributes:
        folder: The real crops' folder; None where it is the phantom set.
        root: Data root.
    """

    folder: Path | None
    root: Path | None = None


@dataclass(frozen=True)
class Demo:
    """What a demonstration came to.

    Attributes:
        out: The training's folder.
        table: Results on validation, test and the other set.
        files: Where the table goes: one a form.
        warnings: What the table has to say.
        seconds: Wall time.
    """

    out: Path
    table: Table
    files: tuple[Path, ...]
    warnings: tuple[str, ...]
    seconds: float


def demo_data(root: Path | None = None, phantom: bool = False) -> DemoData:
    """The real AMi-Br and AtNorM-Br where both are under the data root, else the phantom set."""
    from atypia.data.sources.opening import source_folder

    real = not phantom and all(source_folder(name, root) is not None for name in (TRAINED, OTHER))
    return DemoData(source_folder(TRAINED, root) if real else None, root)


def demo(
    out: Path, data: DemoData | None = None, *, backbone: str = "efficientnet-lite0", progress: Progress = silent
) -> Demo:
    """A linear probe, cross-validated by case and tested on another set; what is there already is kept.

    Args:
        out: Folder to write.
        data: What it is run on; None for what is there.
        backbone: Of the catalogue.
        progress: Told about crops, features and figures.

    Raises:
        AbsentError: The backbone's weights are not here.
    """
    from atypia.data.sources.opening import open_data
    from atypia.training.recipe import load_recipe
    from atypia.training.train import check_recipe
    from atypia.workflows.evaluate import evaluate
    from atypia.workflows.train import train

    started = time.perf_counter()
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
    """A phantom set to train on, and one from laboratories that it does not hold."""
    from atypia.data.phantom.dataset import write_phantom
    from atypia.data.phantom.domains import DOMAINS

    names = list(DOMAINS)
    training = write_phantom(folder / "training", PHANTOM_CROPS, 0, domains=names[:-1], progress=progress)
    other = write_phantom(folder / "elsewhere", PHANTOM_CROPS // 4, 1, domains=names[-1:], progress=progress)
    return training, other
