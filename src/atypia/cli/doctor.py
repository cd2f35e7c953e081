"""``atypia doctor``: checks what works on this machine, with remedies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from atypia.cli.shared.console import show_json, width
from atypia.cli.shared.options import Json, Root

if TYPE_CHECKING:
    from atypia.workflows.installation import Check


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("doctor", epilog="Example: `atypia doctor --root ~/data`")
    def doctor(root: Root = None, as_json: Json = False) -> None:
        """Check devices, data, weights and optional parts, and show the remedy for each missing one.

        Exit code 1 if something is broken; absent optional parts do not count.
        """
        from atypia.workflows.installation import FAULT, check_installation

        checks = check_installation(root)
        if as_json:
            show_json([asdict(check) for check in checks])
        else:
            _print(checks)
        if any(check.state == FAULT for check in checks):
            raise typer.Exit(1)


FOOTNOTES = {"backbones": "A backbone that is absent here also loads from a local file: --weights FILE."}


def _print(checks: Sequence[Check]) -> None:
    from rich.console import Console

    console = Console(highlight=False, width=width())
    marks = {"ok": "[green]ok[/green]", "absent": "[yellow]absent[/yellow]", "fault": "[red]fault[/red]"}
    for area in dict.fromkeys(check.area for check in checks):
        table = Table(title=area, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for check in (c for c in checks if c.area == area):
            detail = escape(check.detail)
            if check.remedy and area not in FOOTNOTES:
                detail += f"\n[dim]→ {escape(check.remedy)}[/dim]"
            table.add_row(marks[check.state], check.name, detail)
        console.print(table)
        if area in FOOTNOTES:
            console.print(f"[dim]{FOOTNOTES[area]}[/dim]")
        console.print()
