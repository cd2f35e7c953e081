"""``atypia average``: the folds of a training made one classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atypia.base.extras import NETWORKS, require
from atypia.cli.shared.console import bars, note

EXAMPLE = "Example: `atypia average runs/labs --out runs/averaged`"
PARTS = {"test": "test", "validation": "val"}


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("average", epilog=EXAMPLE)
    def average(
        trainings: Annotated[
            list[Path],
            typer.Argument(help="Output folders of `atypia train`, on the same figures.", show_default=False),
        ],
        out: Annotated[Path, typer.Option(help="Folder of the classifier, which must not exist.", show_default=False)],
        decide_on: Annotated[
            str,
            typer.Option(help="Part of the folds that the decision is fitted on: test (protocol lodo) or validation."),
        ] = "test",
        weights_of: Annotated[
            list[Path] | None,
            typer.Option(
                help="Average the weights of these trainings instead, which saw all laboratories; the decision is still of "
                "the ones named first. May be repeated.",
                show_default=False,
            ),
        ] = None,
        name: Annotated[
            str | None, typer.Option(help="Its name. Default: that of the folder.", show_default=False)
        ] = None,
    ) -> None:
        """Make one classifier of all folds of a training: the mean of their weights, at the cost of one.

        For networks that began at the same weights, as those tuned by one recipe do. Its decision is fitted on figures
        that each fold did not see: with protocol lodo on laboratories that were left out. Networks that each lack a laboratory
        judge best and know least; with --weights-of they only judge.
        """
        require("`atypia average`", *NETWORKS)
        from atypia.base.errors import InputError, must
        from atypia.workflows.average import average as run

        if decide_on not in PARTS:
            raise InputError(must("--decide-on", f"one of {', '.join(PARTS)}", decide_on, "test for protocol lodo"))
        with bars() as progress:
            averaged = run(
                trainings, out, weights_of=weights_of or (), name=name, part=PARTS[decide_on], progress=progress
            )
        print(averaged.to_text())
        note(f"file: {averaged.out}")
