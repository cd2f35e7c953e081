"""``atypia cache``: lists and deletes files that Atypia keeps on this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atypia.base.errors import count_noun
from atypia.cli.shared.console import note, show_json, warn, width
from atypia.cli.shared.options import Json

if TYPE_CHECKING:
    from atypia.base.cachefiles import CacheEntry

app = typer.Typer(
    help="Files that Atypia keeps on this machine: list, delete.",
    invoke_without_command=True,
    epilog="Example: `atypia cache clear --kind crops --older-than 30`",
)


@app.callback()
def show(context: typer.Context, as_json: Json = False) -> None:
    """List kept files by kind, with sizes; `atypia cache clear` deletes derived files."""
    if context.invoked_subcommand is not None:
        return
    from atypia.base.cachefiles import summary
    from atypia.reports.drawing.listing import columns_table

    rows = summary()
    if as_json:
        show_json(rows)
        return
    cells = [
        [row["name"], f"{row['entries']:,}", megabytes(row["size_bytes"]), "yes" if row["derived"] else "no",
         row["holds"] + (", of patients where the data are" if row["of_patients"] else "")]
        for row in rows
    ]  # fmt: skip
    print(columns_table(["kind", "entries", "MB", "can be cleared", "what"], cells).to_text(width()), end="")
    for folder in dict.fromkeys(row["folder"].rsplit(row["name"], 1)[0] for row in rows):
        note(f"in {folder}")


@app.command("clear", epilog="Example: `atypia cache clear --kind crops --kind features --older-than 30 --yes`")
def clear(
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Only this kind; may be repeated. Default: all derived files.", show_default=False),
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option(metavar="DAYS", help="Only files last written more than this many days ago.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete derived files; they are made again when needed. Decisions of reviewers are never deleted."""
    from atypia.base.cachefiles import delete_entries, entries_to_delete
    from atypia.base.errors import InputError, must

    found = entries_to_delete(kind or (), older_than)
    size = sum(entry.size_bytes for entry in found)
    if found and not yes:
        if not sys.stdin.isatty():
            raise InputError(must("--yes", "given where nobody can be asked", "no answer", "say --yes"))
        typer.confirm(
            f"Delete {count_noun(len(found), 'entry', 'entries')}, {megabytes(size)} MB?", abort=True, err=True
        )
    gone, left = delete_entries(found)
    for entry in left:
        warn(f"{entry.path} is in use and was kept")
    if as_json:
        show_json({"deleted": _facts(gone), "in_use": _facts(left)})
    note(
        f"{count_noun(len(gone), 'entry', 'entries')} deleted, {megabytes(sum(entry.size_bytes for entry in gone))} MB"
    )


def megabytes(size: int) -> str:
    """Bytes as megabytes, for people."""
    return f"{size / 1e6:,.1f}"


def _facts(found: Sequence[CacheEntry]) -> list[dict[str, Any]]:
    written = "%Y-%m-%dT%H:%M:%SZ"
    return [
        {"kind": one.kind, "path": str(one.path), "size_bytes": one.size_bytes,
         "written": time.strftime(written, time.gmtime(one.written))}
        for one in found
    ]  # fmt: skip
