"""Entry point of the command ``atypia``: parse, call, print."""

from __future__ import annotations

import signal
import sys
import warnings
from typing import Annotated

import typer

from atypia.base.errors import AtypiaError
from atypia.base.extras import absent
from atypia.base.process import crashes
from atypia.base.version import VERSION
from atypia.cli import (
    average,
    cache,
    data,
    demo,
    detect,
    doctor,
    evaluate,
    export,
    leaderboard,
    predict,
    qupath,
    report,
    serve,
    study,
    synth,
    train,
)
from atypia.cli.laboratory import calibrate, drift
from atypia.cli.shared import console
from atypia.cli.shared.console import keeps, messages, one_line_warnings, stopped

app = typer.Typer(
    name="atypia",
    help="Classify atypical and normal mitotic figures in H&E histology, and measure how well.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.add_typer(cache.app, name="cache")
app.add_typer(study.app, name="study")
app.add_typer(synth.app, name="synth")
app.add_typer(leaderboard.app, name="leaderboard")
study.register(app)
train.register(app)
average.register(app)
evaluate.register(app)
detect.register(app)
predict.register(app)
calibrate.register(app)
drift.register(app)
export.register(app)
qupath.register(app)
serve.register(app)
report.register(app)
doctor.register(app)
demo.register(app)


def _version(asked: bool) -> None:
    if asked:
        print(f"atypia {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options before a command."""


def main() -> None:
    """Runs the command line; every end is a message and an exit code, never a traceback.

    0 success; 1 work that failed, whatever the reason; 2 bad usage or bad input; 130 Ctrl-C or SIGTERM.
    """
    console.prepare()
    # Schedulers stop jobs with SIGTERM, which by itself would leave a study's workers behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with warnings.catch_warnings():
        one_line_warnings()
        keeps("")
        code = _run()
    if code:
        console.flush_or_drop()
        sys.exit(code)


def _run() -> int:
    try:
        try:
            app()
        except SystemExit as end:
            console.flush()
            if end.code != crashes.STOPPED:
                return _code(end)
            raise KeyboardInterrupt from None
        console.flush()
    except AtypiaError as error:
        messages.print(f"error: {error}", style="bold red", markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        messages.print(stopped(), style="yellow", markup=False)
        return crashes.STOPPED
    except BrokenPipeError:
        console.silence()  # nobody reads on (`| head`)
        return crashes.FAILED
    except ModuleNotFoundError as error:
        missing = absent(_command(), error)  # the net below the checks that commands make before they start
        if missing is None:
            crashes.write_stderr(crashes.log_and_describe(error))
            return crashes.FAILED
        messages.print(f"error: {missing}", style="bold red", markup=False)
        return missing.exit_code
    except Exception as error:  # noqa: BLE001  the last resort: nothing may end in a traceback
        crashes.write_stderr(crashes.log_and_describe(error))
        return crashes.FAILED
    return 0


def _command() -> str:
    """«`atypia study plan`»: the command that runs, for messages."""
    words = sys.argv[1:3]
    groups = {group.name for group in app.registered_groups}
    return f"`atypia {' '.join(words if words[:1] and words[0] in groups else words[:1])}`"


def _code(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    crashes.write_stderr(str(end.code))
    return crashes.FAILED


if __name__ == "__main__":
    main()
