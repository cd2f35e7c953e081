"""Training every fold of a protocol: what ``atypia train`` does.

from atypia.workflows.train import train

trained = train("probe", "ami-br", "runs/probe", backbone="efficientnet-lite0")
print(trained.table())
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atypia.base.errors import InputError, count_noun, must
from atypia.base.extras import NETWORKS, require
from atypia.base.process.progress import Progress, silent
from atypia.base.runs import BUNDLE
from atypia.workflows.dividing import Settings, chosen_split, usable_and_divided
from atypia.workflows.results import FolderResults

if TYPE_CHECKING:
    from atypia.data.manifest import Manifest
    from atypia.data.pools import Picked
    from atypia.inference.classifier import Classifier
    from atypia.splits.split import Split
    from atypia.training.schema import Recipe


@dataclass(frozen=True, repr=False)
class TrainedFolds(FolderResults):
    """What a training came to.

    Attributes:
        out: Its folder.
        folds: Run folders of all folds.
        trained: Names of the folds that were trained now; the others were complete.
        warnings: What every table of its results has to say.
        seconds: Wall time.
    """

    out: Path
    folds: tuple[Path, ...]
    trained: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float

    @property
    def kept(self) -> int:
        """Folds that were complete from an earlier call."""
        return len(self.folds) - len(self.trained)

    def classifier(self, fold: str | None = None, **options: Any) -> Classifier:
        """The classifier of one fold, opened; see :meth:`atypia.inference.classifier.Classifier.load`.

        Args:
            fold: Its name; None for the first.
            **options: Of ``Classifier.load``: ``point``, ``coverage``, ``threshold``, ``runtime``, ``tta``.

        Raises:
            InputError: There is no such fold.
        """
        from atypia.inference.classifier import Classifier

        known = {folder.name: folder for folder in self.folds}
        if fold is not None and fold not in known:
            raise InputError(must("fold", f"one of {', '.join(known)}", fold, "name one of them"))
        return Classifier.load((self.folds[0] if fold is None else known[fold]) / BUNDLE, **options)

    def __repr__(self) -> str:
        warned = f", {count_noun(len(self.warnings), 'warning')}" if self.warnings else ""
        return f"<TrainedFolds: {self.summary}{warned}; in {self.out}>"

    @property
    def summary(self) -> str:
        """How many folds were trained and kept, in words."""
        n = len(self.trained)
        return f"{count_noun(n, 'fold')} trained, {self.kept} kept"


def train(
    recipe: str | PathLike[str] | Recipe,
    data: str | PathLike[str] | Manifest,
    out: str | PathLike[str],
    *,
    backbone: str | None = None,
    overrides: Sequence[str] = (),
    protocol: str = "official",
    protocol_settings: Settings = (),
    split: Split | Path | None = None,
    seed: int = 0,
    allow: Sequence[str] = (),
    weights: Path | None = None,
    folds: Sequence[str] = (),
    device: str = "auto",
    add_data: Sequence[str] = (),
    add_ratio: float = 1.0,
    add_negatives: float = 0.0,
    add_count: int | None = None,
    name: str | None = None,
    root: Path | None = None,
    progress: Progress = silent,
    picked: Picked | None = None,
) -> TrainedFolds:
    """Trains every fold of a protocol that is not complete yet; the same call continues.

    Args:
        recipe: A shipped recipe's name, the path of a YAML file, or a recipe.
        data: The figures: an opened manifest, or what :func:`atypia.data.sources.opening.open_data` takes.
        out: Output folder.
        backbone: Instead of the recipe's.
        overrides: Changes of the recipe, ``key=value``; not with an opened recipe.
        protocol: How the data is divided (``docs/protocols.md``).
        protocol_settings: Its options.
        split: A saved split, instead of a protocol.
        seed: Master seed.
        allow: Leakage findings that are named as exceptions.
        weights: A file of the user with the backbone's weights.
        folds: Train these folds only; empty for all.
        device: ``auto``, ``cpu`` or ``cuda``.
        add_data: Sets whose figures are added to training parts only, for instance generated ones; ``{fold}`` stands
            for the fold's name.
        add_ratio: Positives for each negative that added figures shall lead to.
        add_negatives: Added negatives, as a share of the real ones.
        add_count: Positives added to each training part, instead of what ``add_ratio`` leads to.
        name: What the recipe is called in tables; None for its own name, its file's.
        root: Data root; None for the user's setting.
        progress: Told about crops, features and epochs.
        picked: Which of the figures that ``data`` names are taken, and with which labels; not with an opened manifest.

    Raises:
        InputError: The recipe, protocol or an option is not valid, or ``out`` holds another training.
        AbsentError: The data or the backbone's weights are not on this machine; raised before any work starts.
        LeakageError: Figures, cases or images leak between the parts of a fold.

    >>> import atypia
    >>> recipe = atypia.load_recipe("probe", {"geometry.out_px": 32}, backbone="tiny-cnn")
    >>> trained = train(recipe, "mine.csv", "runs/probe", protocol="lodo")
    >>> trained
    <TrainedFolds: 2 folds trained, 0 kept; in runs/probe>
    >>> trained.predictions("test")
    <Predictions of 48 figures by probe · tiny-cnn, 2 models: 16 atypical, 32 normal; 48 labelled>
    """
    from atypia.data.audit.findings import check_codes
    from atypia.data.pools import Picked, open_figures
    from atypia.training.additions import Addition, add_figures
    from atypia.training.train import check_recipe
    from atypia.training.train import train as fit_folds
    from atypia.training.trainer import TrainingRequest

    allowed, warnings = check_codes(allow), []
    started = time.perf_counter()
    require("`atypia train`", *NETWORKS)
    own, loaded = _recipe(recipe, [*overrides, *([f"backbone={backbone}"] if backbone else [])])
    chosen = chosen_split(protocol, protocol_settings, split, seed)
    check_recipe(loaded, weights, device)
    if isinstance(data, str | PathLike):
        manifest = open_figures(data, root, picked or Picked())
    elif picked is None:
        manifest = data
    else:
        raise InputError(must("picked", "left out with an opened manifest", picked, "give it to open_figures"))
    if add_data:
        addition = Addition(tuple(add_data), add_ratio, add_negatives, seed, add_count)
        given = usable_and_divided(manifest, chosen, loaded, progress)
        manifest, chosen, warnings = add_figures(*given, addition, folds, root, allowed)
    job = TrainingRequest(
        name or own, loaded, manifest, chosen, Path(out), seed, allowed, weights, tuple(folds), device
    )
    fitted = fit_folds(job, progress)
    seconds = time.perf_counter() - started
    return TrainedFolds(Path(out), fitted.folds, fitted.fitted, (*warnings, *fitted.warnings), seconds)


def _recipe(given: str | PathLike[str] | Recipe, changes: Sequence[str]) -> tuple[str, Recipe]:
    from atypia.training.recipe import load_recipe

    if isinstance(given, str | PathLike):
        return load_recipe(str(given), changes)
    if changes:
        fix = "change the recipe itself, or name it"
        raise InputError(must("overrides", "left out with an opened recipe", ", ".join(changes), fix))
    return given.name, given
