"""``atypia train``: every fold of a protocol, resuming what is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atypia.cli.console import bars, keeps, note, warn
from atypia.cli.options import Allow, Device, Json, Overrides, ProtocolSet, Root, Seed, SplitFile

if TYPE_CHECKING:
    from atypia.base.progress import Progress
    from atypia.data.manifest import Manifest
    from atypia.splits.split import Split
    from atypia.training.schema import Recipe

EXAMPLE = (
    "Example: `atypia train probe --data ami-br --protocol official --backbone efficientnet-lite0 --out runs/probe`"
)


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("train", epilog=EXAMPLE)
    def train(
        recipe: Annotated[str, typer.Argument(help="A shipped recipe (`atypia recipes`), or a YAML file.")],
        data: Annotated[str, typer.Option(help="A source, a manifest, a CSV or a folder; `a+b` pools two.")],
        out: Annotated[Path, typer.Option(help="Output folder; the same command continues there.")],
        backbone: Annotated[
            str | None, typer.Option(help="Backbone, instead of the recipe's.", show_default=False)
        ] = None,
        protocol: Annotated[
            str, typer.Option(help="How the data is divided (`atypia data split --help`).")
        ] = "official",
        protocol_set: ProtocolSet = None,
        split_file: SplitFile = None,
        overrides: Overrides = None,
        seed: Seed = 0,
        allow: Allow = None,
        weights: Annotated[
            Path | None, typer.Option(help="The backbone's weights in a local file.", show_default=False)
        ] = None,
        fold: Annotated[
            list[str] | None, typer.Option(help="Train this fold only; may be repeated.", show_default=False)
        ] = None,
        device: Device = "auto",
        add_data: Annotated[
            list[str] | None,
            typer.Option(
                help="Figures that are added to training parts only, for instance generated ones; `{fold}` stands "
                "for the fold's name; may be repeated.",
                show_default=False,
            ),
        ] = None,
        add_ratio: Annotated[
            float, typer.Option(help="Positives for each negative that added figures shall lead to.", min=0)
        ] = 1.0,
        add_negatives: Annotated[
            float, typer.Option(help="Added negatives, as a share of the real ones.", min=0)
        ] = 0.0,
        root: Root = None,
        as_json: Json = False,
    ) -> None:
        """Train every fold of a protocol. Complete folds are kept; the same command continues."""
        from atypia.cli.results import show_results
        from atypia.data.sources.opening import open_data
        from atypia.training.added import Addition, with_added
        from atypia.training.fit import check_recipe
        from atypia.training.fit import train as run
        from atypia.training.fitted import Training
        from atypia.training.recipe import load_recipe

        started = time.perf_counter()
        changes = [*(overrides or []), *([f"backbone={backbone}"] if backbone else [])]
        name, loaded = load_recipe(recipe, changes)
        chosen = chosen_split(protocol, protocol_set or [], split_file, seed)
        check_recipe(loaded, weights, device)
        manifest = open_data(data, root)
        allowed, warnings = tuple(allow or ()), []
        keeps("folds that are complete, and checkpoints,")
        with bars() as progress:
            if add_data:
                addition = Addition(tuple(add_data), add_ratio, add_negatives, seed)
                given = divided(manifest, chosen, loaded, progress)
                manifest, chosen, warnings = with_added(*given, addition, fold or (), root, allowed)
            job = Training(name, loaded, manifest, chosen, out, seed, allowed, weights, tuple(fold or ()), device)
            trained = run(job, progress)
        for warning in warnings:
            warn(warning)
        for warning in trained.warnings:
            warn(warning)
        kept = len(trained.folds) - len(trained.fitted)
        note(f"{len(trained.fitted)} folds trained, {kept} kept, in {time.perf_counter() - started:.1f} s")
        show_results(out, as_json)
        note(f"files: {out}/ (one folder a fold; split.json, results.parquet)")


def divided(
    manifest: Manifest, chosen: Split | Callable[[Manifest], Split], recipe: Recipe, progress: Progress
) -> tuple[Manifest, Split]:
    """The figures and folds of a training to which others are to be added: those that it would have without them.

    Figures whose images cannot be used are left out before a protocol divides the rest, as in any training.
    """
    from atypia.data.crops.store import open_store
    from atypia.splits.split import Split

    if isinstance(chosen, Split):
        chosen.check_manifest(manifest)
        return manifest, chosen
    store = open_store(manifest, recipe.geometry.build(), progress=progress)
    usable = manifest if store.usable.all() else manifest.take(store.usable)
    return usable, chosen(usable)


def chosen_split(
    protocol: str, settings: list[str], split_file: Path | None = None, seed: int = 0
) -> Split | Callable[[Manifest], Split]:
    """A saved split, or the function that divides a manifest; what was asked for is checked before any work.

    Raises:
        InputError: No such protocol or setting, a setting for a saved split, or a damaged file.
    """
    from atypia.base.config import parse, with_overrides
    from atypia.base.errors import InputError
    from atypia.splits.catalogue import PROTOCOLS
    from atypia.splits.protocol import make_split
    from atypia.splits.split import Split

    if split_file is not None:
        if settings:
            raise InputError("`--protocol-set` does not go with `--split`: the folds are saved; fix: leave one out")
        return Split.load(split_file)
    params = with_overrides({}, settings)
    parse(PROTOCOLS[protocol].options, params, f"protocol {protocol}")
    return lambda manifest: make_split(protocol, manifest, seed, **params)
