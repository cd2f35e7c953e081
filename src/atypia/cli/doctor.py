"""``atypia doctor``: checks what works on this machine, with remedies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from atypia.base.errors import count_noun
from atypia.cli.shared.console import bars, show_json, warn, width
from atypia.cli.shared.options import Json, Root

if TYPE_CHECKING:
    from atypia.workflows.installation import Check


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("doctor", epilog="Example: `atypia doctor --root ~/data`")
    def doctor(
        root: Root = None,
        tune: Annotated[
            bool,
            typer.Option(
                "--tune", help="Time the installed runtimes for a model (a few seconds) and keep the fastest."
            ),
        ] = False,
        model: Annotated[str, typer.Option(help="With --tune: a bundle's folder or exported file.")] = "atypia",
        as_json: Json = False,
    ) -> None:
        """Check devices, data, weights and optional parts, and show the remedy for each missing one.

        Exit code 1 if something is broken; absent optional parts do not count.
        """
        if tune:
            _tune(model, as_json)
            return
        from atypia.workflows.installation import FAULT, check_installation

        checks = check_installation(root)
        if as_json:
            show_json([asdict(check) for check in checks])
        else:
            _print(checks)
        if any(check.state == FAULT for check in checks):
            raise typer.Exit(1)


def _tune(model: str, as_json: bool) -> None:
    """Times runtimes and says which one is used from now on."""
    from atypia.workflows.tuning import tune

    with bars() as progress:
        found = tune(model, progress=progress)
    if as_json:
        show_json({**asdict(found), "model": str(found.model)})
        return
    for timing in found.timings:
        rate = f"{timing.crops_per_s:.0f} crops/s" if timing.crops_per_s else "does not run it"
        print(f"{timing.runtime}: {rate}{f' ({timing.reason})' if timing.reason else ''}")
    if not found.chosen:
        warn(f"no runtime that is installed runs {model}")
        raise typer.Exit(1)
    print(f"{found.chosen} is used for {model} on this machine; --runtime NAME overrides it")


DATA = "data"
ABSENT_DATA = "atypia data list names them; atypia data get NAME, or atypia data import NAME --from DIR, brings one"
FOOTNOTES = {"backbones": "A backbone that is absent here also loads from a local file: --weights FILE."}


def _print(checks: Sequence[Check]) -> None:
    from rich.console import Console

    console = Console(highlight=False, width=width())
    marks = {"ok": "[green]ok[/green]", "absent": "[yellow]absent[/yellow]", "fault": "[red]fault[/red]"}
    training = any(check.name == "torch" and check.state == "ok" for check in checks)
    for area in dict.fromkeys(check.area for check in checks):
        if area in FOOTNOTES and not training:  # nothing that this installation can use
            names = sum(check.area == area for check in checks)
            console.print(f"[bold]{area}[/bold]\n[dim]{names}, for training: listed where PyTorch is installed[/dim]\n")
            continue
        table = Table(title=area, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        absent = [check.name for check in checks if check.area == area and check.state == "absent"]
        shown = [check for check in checks if check.area == area and not (area == DATA and check.name in absent)]
        for check in shown:
            detail = escape(check.detail)
            if check.remedy and area not in FOOTNOTES:
                detail += f"\n[dim]→ {escape(check.remedy)}[/dim]"
            table.add_row(marks[check.state], check.name, detail)
        if area == DATA and absent:
            table.add_row(
                marks["absent"], "", f"{count_noun(len(absent), 'published set')}\n[dim]→ {ABSENT_DATA}[/dim]"
            )
        console.print(table)
        if area in FOOTNOTES:
            console.print(f"[dim]{FOOTNOTES[area]}[/dim]")
        console.print()
