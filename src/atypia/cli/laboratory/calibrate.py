"""``atypia calibrate``: fits a classifier's decision to the user's own laboratory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from atypia.base.errors import count_noun
from atypia.cli.shared.console import bars, note, show_json, warn
from atypia.cli.shared.options import Allow, Json, Root, Seed

EXAMPLE = "Example: `atypia calibrate atypia --on my.csv --out my-lab`"


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("calibrate", epilog=EXAMPLE)
    def calibrate(
        model: Annotated[str, typer.Argument(help="A shipped model's name, a bundle's folder, or one run's.")],
        on: Annotated[
            str, typer.Option(help="Your labelled figures: a CSV (image, label, case_id, mpp), a manifest, a folder.")
        ],
        out: Annotated[
            Path | None,
            typer.Option(help="Folder of the calibrated model. With --propose: a CSV.", show_default=False),
        ] = None,
        decisions: Annotated[
            Path | None,
            typer.Option(help="The review page's decisions.csv, for labels of these figures.", show_default=False),
        ] = None,
        cases: Annotated[
            Literal["given", "folder"],
            typer.Option(help="given: cases of the data. folder: each folder of crops is a case, class folders apart."),
        ] = "given",
        propose: Annotated[
            int | None,
            typer.Option(min=1, help="Instead: write the N figures that are most useful to label.", show_default=False),
        ] = None,
        prior: Annotated[
            Path | None,
            typer.Option(
                help="A training with protocol lodo: how much laboratories differ. Default: the model's own record.",
                show_default=False,
            ),
        ] = None,
        runtime: Annotated[
            str | None,
            typer.Option(help="onnx, openvino or torch. Default: the fastest that is installed.", show_default=False),
        ] = None,
        allow: Allow = None,
        seed: Seed = 0,
        root: Root = None,
        as_json: Json = False,
    ) -> None:
        """Measure a model on your own labelled figures, and fit its decision to them if they justify it.

        The network is not changed. If there are too few figures, nothing is changed and nothing is written.
        """
        from atypia.workflows.laboratory.calibrate import calibrate as run
        from atypia.workflows.laboratory.propose import propose as choose

        if propose is not None:
            others = {
                "--decisions": decisions,
                "--cases": cases != "given",
                "--prior": prior,
                "--allow": allow,
                "--seed": seed,
            }
            without = [name for name, value in others.items() if value]
            if out is None or without:
                # What changes nothing here is refused, so that nobody takes it for done.
                what = f"leave out {' and '.join(without)}, which it does not use" if without else "give --out FILE.csv"
                raise typer.BadParameter(what, param_hint="--propose")
            with bars() as progress:
                made = choose(model, on, propose, out, runtime=runtime, root=root, progress=progress)
            for text in made.notes:
                warn(text)
            if as_json:
                show_json(made.as_dict())
            note(
                f"file: {out} ({count_noun(made.figures, 'figure')}); fill in `label`, then: atypia calibrate {model} --on {out} "
                "--out my-lab"
            )
            return
        with bars() as progress:
            found = run(
                model,
                on,
                out,
                decisions=decisions,
                cases=cases,
                prior=prior,
                runtime=runtime,
                allow=allow or (),
                root=root,
                seed=seed,
                progress=progress,
            )
        for text in found.notes:
            warn(text)
        if as_json:
            show_json(found.as_dict())
        else:
            print(found.to_text())
        if found.out is not None:
            note(f"files: {found.out}/ (a model for --model; what it was made from is in its card.md)")
        elif out is not None:
            note(f"nothing was written to {out}")
