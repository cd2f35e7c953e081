"""Opens recipes and crops by names, paths or options as a user gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atypia.base.errors import InputError, must
from atypia.base.process.progress import Progress, silent

if TYPE_CHECKING:
    from atypia.data.crops.store import CropStore
    from atypia.data.images.geometry import CropGeometry
    from atypia.data.manifest import Manifest
    from atypia.inference.classifier import Classifier
    from atypia.training.schema import Recipe
    from atypia.training.sections import GeometryConfig


def load_recipe(reference: str | PathLike[str], changes: Mapping[str, Any] | Sequence[str] = (), **more: Any) -> Recipe:
    """Opens a recipe: everything that decides a training.

    Args:
        reference: A shipped recipe's name (``atypia recipes``), or the path of a YAML file.
        changes: Other values for its keys, dotted ones too: ``{"optimiser.lr": 1e-4}``, or as ``--set`` takes them.
        **more: Other values of keys without a dot.

    Returns:
        The recipe, which knows its name; its values are attributes.

    Raises:
        InputError: No such recipe, key or value; names all faults.

    >>> recipe = load_recipe("probe", {"geometry.out_px": 64}, backbone="tiny-cnn")
    >>> recipe.name, recipe.backbone, recipe.geometry.out_px
    ('probe', 'tiny-cnn', 64)
    """
    from atypia.base.config import read_shipped, with_overrides
    from atypia.training.recipe import for_backbone, parse_recipe, shipped_recipes

    name, values = read_shipped("recipe", str(reference), shipped_recipes())
    where = f"recipe {reference}"
    overrides, changes = ((), changes) if isinstance(changes, Mapping) else (changes, {})
    asked = {**with_overrides({}, [one for one in overrides if one.startswith("backbone=")]), **changes, **more}.get(
        "backbone"
    )
    values = with_overrides(for_backbone(values, where, asked if isinstance(asked, str) else None), overrides)
    for key, value in {**changes, **more}.items():
        _set(values, key, value)
    return parse_recipe(values, where).named(name)


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    node = values
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = {}
        node = node[parent]
        if not isinstance(node, dict):
            raise InputError(must("changes", f"keys below a mapping, {parent!r} is none", key, "see the recipe"))
    node[last] = value


def open_data(
    reference: str | PathLike[str],
    root: Path | None = None,
    *,
    drop_overlap: bool = False,
    drop_repeats: bool = False,
    labels: str = "published",
    where: Mapping[str, Sequence[str]] | None = None,
) -> Manifest:
    """Opens figures by what a person would type.

    Warns (RuntimeWarning) of a pool that holds figures twice, and names the remedy.

    Args:
        reference: The name of a published source; a ``.parquet`` manifest or a folder that holds ``manifest.parquet``; a
            ``.csv``; a folder with one subfolder per class; or several of these joined by ``+``, which are pooled.
        root: Data root in which sources are looked for; None for the default.
        drop_overlap: In a pool, leave out figures that an earlier set has too.
        drop_repeats: Of crops whose image files are the same, keep the first; of those with both labels, none.
        labels: ``published``, or ``votes`` for the majority of the raters' votes where there is one.
        where: Columns and the values to keep (``{"part": ["train"]}``); of the label the names of classes.

    Returns:
        A validated manifest; its notes say what was left out.

    Raises:
        InputError: The reference is nothing of the kind; lists the sources.
        AbsentError: A source is known but not on this machine; names the remedy.
        DataError: What is there is not what it should be; or sets overlap and it is not known in which figures.

    >>> open_data("mine.csv")
    <Manifest mine: 48 figures (16 atypical, 32 normal), 8 cases, 2 domains>
    """
    from atypia.data.pools import Picked, open_figures

    return open_figures(reference, root, Picked(drop_overlap, drop_repeats, labels, where or {}))


def open_crops(
    figures: Manifest,
    geometry: CropGeometry | GeometryConfig | Recipe | Classifier | int = 128,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> CropStore:
    """Opens the crops of figures; they are cut once and memory-mapped afterwards.

    Args:
        figures: The figures.
        geometry: How crops are cut: as a recipe or a classifier says, a :class:`atypia.data.images.geometry.CropGeometry`,
            or the side in pixels of whole crop images.
        cache: Folder of derived files; None for the usual one.
        workers: Threads that decode; None for one per core.
        progress: Told about crops while they are cut.

    Returns:
        ``.crops`` (n, side, side, 3) uint8 in the figures' order, ``.usable``, ``.quarantined``.

    Raises:
        AbsentError: The images are not at hand.
        DataError: No figure at all gives a crop.
        InputError: The geometry asks for whole crop images where figures are positions on slides, or is none.
        WorkError: The disk is full or cannot be written.

    >>> import atypia
    >>> open_crops(atypia.open_data("mine.csv"), atypia.load_recipe("probe", {"geometry.out_px": 32})).crops.shape
    (48, 32, 32, 3)
    """
    from atypia.data.crops.store import open_store
    from atypia.data.images.geometry import CropGeometry
    from atypia.training.sections import GeometryConfig

    found = CropGeometry(geometry) if isinstance(geometry, int) else getattr(geometry, "geometry", geometry)
    if isinstance(found, GeometryConfig):
        found = found.build()
    if not isinstance(found, CropGeometry):
        expected = "a side in pixels, a CropGeometry, a recipe or a classifier"
        raise InputError(must("geometry", expected, type(geometry).__name__, "for instance 128"))
    return open_store(figures, found, cache, workers, progress)
