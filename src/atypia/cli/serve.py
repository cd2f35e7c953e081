"""``atypia serve``: the review page and its API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atypia.base.errors import InputError, count_noun, must
from atypia.cli.shared.console import keeps, note
from atypia.cli.shared.options import Root

if TYPE_CHECKING:
    from atypia.review.figures.opening import Opening

EXAMPLE = "Example: `atypia serve calls.parquet --data ami-br --rater first`"


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("serve", epilog=EXAMPLE)
    def serve(
        what: Annotated[
            list[str] | None,
            typer.Argument(
                help="Results of `atypia predict` (.parquet, .csv, .json, .jsonl, .geojson), predictions, a data set, a training or a study.",
                show_default=False,
            ),
        ] = None,
        data: Annotated[
            str | None,
            typer.Option(help="The data set of the results or predictions: images, labels.", show_default=False),
        ] = None,
        slides: Annotated[
            Path | None, typer.Option(help="Folder of the slides with the figures.", show_default=False)
        ] = None,
        decisions: Annotated[
            Path | None,
            typer.Option(help="Decisions file (.sqlite). Default: one in Atypia's home folder.", show_default=False),
        ] = None,
        model: Annotated[
            str | None,
            typer.Option(
                help="Bundle or exported file for uploads, and for the rate of all figures. Default: the shipped model.",
                show_default=False,
            ),
        ] = None,
        host: Annotated[
            str, typer.Option(help="Address to listen on; beyond loopback a token is needed.")
        ] = "127.0.0.1",
        port: Annotated[int, typer.Option(help="Port; 0 for any free port.", min=0, max=65535)] = 8470,
        token: Annotated[
            str | None,
            typer.Option(
                help="Token that clients must send; other users of this machine can see it in the process list. "
                "Default: $ATYPIA_TOKEN; beyond loopback one is generated.",
                show_default=False,
            ),
        ] = None,
        token_file: Annotated[
            Path | None, typer.Option(help="File with the token, instead of --token.", show_default=False)
        ] = None,
        no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the page in a browser.")] = False,
        rater: Annotated[str | None, typer.Option(help="Name of the rater.", show_default=False)] = None,
        blind: Annotated[
            bool,
            typer.Option("--blind", help="Open the page in blind mode: no predictions, labels, other raters or names."),
        ] = False,
        rescue: Annotated[
            Path | None,
            typer.Option(help="Do not serve; copy the readable part of a damaged decisions file.", show_default=False),
        ] = None,
        to: Annotated[
            Path | None, typer.Option(help="With --rescue: the new decisions file.", show_default=False)
        ] = None,
        root: Root = None,
    ) -> None:
        """Review figures in a browser: check, decide, compare, export for training. Works offline."""
        from atypia.review.figures.opening import Opening
        from atypia.review.server.serving import Serving, chosen_token
        from atypia.review.server.serving import serve as run

        if rescue is not None or to is not None:
            rescued(rescue, to, Opening(tuple(what or ()), data, slides, root))
            return

        def ready(address: str, file: Path) -> None:
            print(address, flush=True)
            note(f"decisions: {file}")
            note("stop with Ctrl-C; every decision is already on disk")
            keeps("all decisions")
            if not no_open:
                import threading
                import webbrowser

                # The port is open: the browser waits there until the server answers.
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        opening = Opening(tuple(what or ()), data, slides, root)
        run(Serving(opening, decisions, model, host, port, chosen_token(token, token_file), rater, blind), ready)


def rescued(old: Path | None, new: Path | None, opening: Opening) -> None:
    """Copies a damaged decisions file, and reports what is lost."""
    from atypia.review.decisions.rescue import rescue
    from atypia.review.figures.opening import open_figures

    if old is None or new is None:
        got = "only one of them"
        raise InputError(must("--rescue and --to", "given together", got, "atypia serve WHAT --rescue OLD --to NEW"))
    named = bool(opening.what) or opening.data is not None
    found = rescue(old, new, open_figures(opening) if named else None)
    copied = f"{count_noun(found.events, 'event')} of {count_noun(found.raters, 'rater')} copied"
    print(f"{copied}, {found.lost} lost, {count_noun(found.undone, 'undoing')} left out")
    for line in found.notes:
        note(line)
    note(f"open it with: atypia serve WHAT --decisions {new}")
