"""``atypia recipes``: what `atypia train` can be asked for."""

from __future__ import annotations

from typing import Annotated

import typer

from atypia.cli.console import show_json, width
from atypia.cli.options import Json


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("recipes", epilog="Example: `atypia recipes banerjee-lora`")
    def recipes(
        name: Annotated[str | None, typer.Argument(help="Show this recipe in full.", show_default=False)] = None,
        as_json: Json = False,
    ) -> None:
        """The shipped recipes; with a name, the file, from which an own recipe can be made."""
        from atypia.base.errors import InputError
        from atypia.reports.drawing.listing import columns_table
        from atypia.training.recipe import load_recipe, shipped_recipes

        shipped = shipped_recipes()
        if name is not None:
            if name not in shipped:
                raise InputError(f"unknown recipe {name!r}; choices: {', '.join(shipped)}")
            if as_json:
                show_json(load_recipe(name)[1].model_dump(mode="json"))
            else:
                print(shipped[name].read_text("utf-8"), end="")
            return
        loaded = [(key, load_recipe(key)[1]) for key in shipped]
        if as_json:
            show_json([{"name": key, **recipe.model_dump(mode="json")} for key, recipe in loaded])
            return
        rows = [[key, recipe.adaptation, recipe.backbone, recipe.summary] for key, recipe in loaded]
        print(columns_table(["recipe", "adaptation", "backbone", "what"], rows).to_text(width()), end="")
