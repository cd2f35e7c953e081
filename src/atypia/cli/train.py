"""``atypia train``: every fold of a protocol, resuming what is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atypia.cli.console import bars, note, warn
from atypia.cli.options import Allow, Json, Overrides, Root, Seed

if TYPE_CHECKING:
    from atypia.data.manifest import Manifest
    from atypia.splits.split import Split

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
        protocol_set: Annotated[
            list[str] | None,
            typer.Option("--protocol-set", metavar="KEY=VALUE", help="Parameter of the protocol.", show_default=False),
        ] = None,
        split_file: Annotated[
            Path | None, typer.Option("--split", help="A saved split, instead of a protocol.", show_default=False)
        ] = None,
        overrides: Overrides = None,
        seed: Seed = 0,
        allow: Allow = None,
        weights: Annotated[
            Path | None, typer.Option(help="The backbone's weights in a local file.", show_default=False)
        ] = None,
        fold: Annotated[
            list[str] | None, typer.Option(help="Train this fold only; may be repeated.", show_default=False)
        ] = None,
        device: Annotated[str, typer.Option(help="Where networks are trained: auto, cpu or cuda.")] = "auto",
        root: Root = None,
        as_json: Json = False,
    ) -> None:
        """Train every fold of a protocol. Complete folds are kept; the same command continues."""
        from atypia.cli.results import show_results
        from atypia.data.opening import open_data
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
        with bars() as progress:
            job = Training(
                name, loaded, manifest, chosen, out, seed, tuple(allow or ()), weights, tuple(fold or ()), device
            )
            trained = run(job, progress)
        for warning in trained.warnings:
            warn(warning)
        kept = len(trained.folds) - len(trained.fitted)
        note(f"{len(trained.fitted)} folds trained, {kept} kept, in {time.perf_counter() - started:.1f} s")
        show_results(out, as_json)
        note(f"files: {out}/ (one folder a fold; split.json, results.parquet)")


def chosen_split(
    protocol: str, settings: list[str], split_file: Path | None = None, seed: int = 0
) -> Split | Callable[[Manifest], Split]:
    """A saved split, or the function that divides a manifest; what was asked for is checked before any work.

    Raises:
        InputError: No such protocol or setting, a setting for a saved split, or a damaged file.
    """
    from atypia.config import parse, with_overrides
    from atypia.errors import InputError
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
