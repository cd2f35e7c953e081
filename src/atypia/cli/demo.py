"""``atypia demo``: a benchmark table in a few minutes, on real crops if they are on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atypia.base import runs
from atypia.cli.shared.console import bars, counted, keeps, note, warn
from atypia.cli.shared.options import Root


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("demo", epilog="Example: `atypia demo --out demo`")
    def demo(
        out: Annotated[Path, typer.Option(help="Folder to write; existing results are kept.")] = Path("demo"),
        backbone: Annotated[str, typer.Option(help="Backbone of the catalogue.")] = "efficientnet-lite0",
        phantom: Annotated[bool, typer.Option(help="Use the phantom set even if there are real crops.")] = False,
        root: Root = None,
    ) -> None:
        """Train a linear probe, cross-validated by case, and test it on held-out sets, from pixels to table.

        Uses the real AMi-Br and AtNorM-Br if they are under the data root, else a procedural phantom set.
        """
        from atypia.cli.shared.results import show_results
        from atypia.workflows.demo import TRAINED, demo_data
        from atypia.workflows.demo import demo as run

        data = demo_data(root, phantom)
        if data.folder is not None:
            note(f"real crops: {TRAINED} in {data.folder}")
        else:
            note("no real crops under the data root (see `atypia data list`): using the phantom set")
        keeps(counted(out, f"*/{runs.RUN}", "complete fold", "complete folds"))
        with bars() as progress:
            found = run(out, data, backbone=backbone, progress=progress)
        for warning in found.warnings:
            warn(warning)
        show_results(found.table, files=found.files)
        note(f"done in {found.seconds:.0f} s; files: {found.out}/ (table.md, results.parquet, one folder a fold)")
