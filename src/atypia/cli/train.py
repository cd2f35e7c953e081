"""``atypia train``: trains every fold of a protocol, resuming existing work; ``atypia recipes``: lists the recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atypia.base import runs
from atypia.base.extras import NETWORKS, require
from atypia.cli.shared.console import bars, counted, keeps, note, show_json, warn, width
from atypia.cli.shared.options import (
    Allow,
    Device,
    DropOverlap,
    DropRepeats,
    Json,
    Labels,
    Overrides,
    ProtocolSet,
    Root,
    Seed,
    SplitFile,
    Where,
)

EXAMPLE = (
    "Example: `atypia train probe --data ami-br --protocol official --backbone efficientnet-lite0 --out runs/probe`"
)


def register(app: typer.Typer) -> None:
    """Adds the verbs."""

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
                help="Figures to add only to training parts, for instance generated ones; `{fold}` stands "
                "for the fold's name; may be repeated.",
                show_default=False,
            ),
        ] = None,
        add_ratio: Annotated[
            float, typer.Option(help="Target number of positives per negative after adding figures.", min=0)
        ] = 1.0,
        add_count: Annotated[
            int | None,
            typer.Option(
                help="Positives added to each training part, whatever its classes are; instead of --add-ratio.",
                min=1,
                show_default=False,
            ),
        ] = None,
        add_negatives: Annotated[
            float, typer.Option(help="Added negatives, as a share of the real ones.", min=0)
        ] = 0.0,
        init: Annotated[
            str | None,
            typer.Option(
                help="With the recipe adapt: the model that is fine-tuned on these figures.", show_default=False
            ),
        ] = None,
        keep: Annotated[
            str | None,
            typer.Option(
                help="With --init: labelled data of other laboratories on which BA may not fall.", show_default=False
            ),
        ] = None,
        drop_overlap: DropOverlap = False,
        drop_repeats: DropRepeats = False,
        labels: Labels = "published",
        where: Where = None,
        root: Root = None,
        as_json: Json = False,
    ) -> None:
        """Train every fold of a protocol. Complete folds are kept; the same command continues."""
        if init is not None or keep is not None or recipe == "adapt":
            others = (backbone, protocol_set, split_file, weights, fold, add_data, drop_overlap, drop_repeats, where)
            if init is None or recipe != "adapt" or protocol != "official" or labels != "published" or any(others):
                raise typer.BadParameter(
                    "say: atypia train adapt --init MODEL --data MY --out FOLDER", param_hint="--init"
                )
            adapted(init, data, out, overrides or [], keep, seed, tuple(allow or ()), device, root, as_json)
            return
        from atypia.cli.shared.results import show_results
        from atypia.data.pools import Picked, filters_of
        from atypia.workflows.train import train as run

        keeps(counted(out, f"*/{runs.RUN}", "complete fold", "complete folds", f"*/{runs.CHECKPOINT}"))
        with bars() as progress:
            trained = run(
                recipe,
                data,
                out,
                backbone=backbone,
                overrides=overrides or (),
                protocol=protocol,
                protocol_settings=protocol_set or (),
                split=split_file,
                seed=seed,
                allow=allow or (),
                weights=weights,
                folds=fold or (),
                device=device,
                add_data=add_data or (),
                add_ratio=add_ratio,
                add_negatives=add_negatives,
                add_count=add_count,
                root=root,
                progress=progress,
                picked=Picked(drop_overlap, drop_repeats, labels, filters_of(where or ())),
            )
        for warning in trained.warnings:
            warn(warning)
        note(f"{trained.summary}, in {trained.seconds:.1f} s")
        show_results(trained.table(), as_json)
        note(f"files: {out}/ (one folder a fold; split.json, results.parquet)")

    @app.command("recipes", epilog="Example: `atypia recipes banerjee-lora`")
    def recipes(
        name: Annotated[str | None, typer.Argument(help="Show this recipe in full.", show_default=False)] = None,
        as_json: Json = False,
    ) -> None:
        """List the shipped recipes; with a name, print its file, a starting point for your own."""
        from atypia.reports.drawing.listing import columns_table
        from atypia.workflows.recipes import training_recipe_listing, training_recipe_text, training_recipes

        if name is not None:
            text = training_recipe_text(name)
            if as_json:
                show_json(training_recipes()[name].model_dump(mode="json"))
            else:
                print(text, end="")
            return
        if as_json:
            loaded = training_recipes()
            show_json([{"name": key, **recipe.model_dump(mode="json")} for key, recipe in loaded.items()])
            return
        rows = [list(line) for line in training_recipe_listing()]
        print(columns_table(["recipe", "adaptation", "backbone", "what"], rows).to_text(width()), end="")


def adapted(
    init: str, data: str, out: Path, overrides: list[str], keep: str | None, seed: int, allow: tuple[str, ...],
    device: str, root: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Fine-tunes a model on the user's own figures, and reports whether it became better."""
    require("`atypia train --init`", *NETWORKS)
    from atypia.workflows.laboratory.adapt import adapt

    keeps(counted(out, f"*/{runs.RUN}", "complete fold", "complete folds", f"*/{runs.CHECKPOINT}"))
    with bars() as progress:
        found = adapt(
            init, data, out, overrides=overrides, keep=keep, seed=seed, allow=allow, device=device, root=root,
            progress=progress,
        )  # fmt: skip
    for text in found.notes:
        warn(text)
    if as_json:
        show_json(found.as_dict())
    else:
        print(found.to_text())
    note(f"files: {out}/ (adaptation.json, cross-validation/{'' if found.out is None else ', bundle/'})")
