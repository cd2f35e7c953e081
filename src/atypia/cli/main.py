"""Entry point of the command ``atypia``: parse, call, print."""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Final

import typer

from atypia import __version__
from atypia.cli import cache, data, demo, doctor, evaluate, export, predict, recipes, serve, study, synth, train
from atypia.cli.console import messages
from atypia.errors import AtypiaError

app = typer.Typer(
    name="atypia",
    help="Tells atypical from normal mitotic figures in H&E histology, and proves how well.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.add_typer(cache.app, name="cache")
app.add_typer(study.app, name="study")
app.add_typer(synth.app, name="synth")
train.register(app)
evaluate.register(app)
predict.register(app)
export.register(app)
serve.register(app)
recipes.register(app)
doctor.register(app)
demo.register(app)


STOPPED: Final = 130
"""What typer exits with after Ctrl-C: 128 and the number of the signal."""


def _version(asked: bool) -> None:
    if asked:
        print(f"atypia {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options that come before a verb."""


def main() -> None:
    """Runs the command line; errors become one message and an exit code (1 work, 2 input, 130 Ctrl-C or SIGTERM)."""
    # Schedulers stop jobs with SIGTERM, which by itself would leave a study's workers behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except AtypiaError as error:
        messages.print(f"error: {error}", style="bold red", markup=False)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == STOPPED:
            messages.print("stopped; what is complete was kept, the same command continues", style="yellow")
        raise


if __name__ == "__main__":
    main()
