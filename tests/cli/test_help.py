"""Help, speed of starting, completion, and exit codes that need a process of their own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer

from atypia import __version__
from atypia.cli import main as entry
from atypia.cli.main import app
from atypia.errors import DataError, WorkError

HEAVY = ("torch", "timm", "sklearn", "scipy", "matplotlib", "pyarrow", "torchvision", "pandas", "numpy", "PIL")


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb with the words that call it."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


VERBS = dict(commands())


def start(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(["-c", code] if code else ["-m", "atypia.cli.main"]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "120"})


def test_the_verbs_are_there() -> None:
    assert {" ".join(words) for words in VERBS} >= {
        "data list", "data get", "data import", "data info", "data audit", "data split", "data phantom",
        "train", "evaluate", "recipes", "doctor", "demo",
    }  # fmt: skip


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_verb_has_help_with_an_example(words: tuple[str, ...], atypia: Callable[..., Any]) -> None:
    ended = atypia(*words, "--help")

    assert ended.code == 0 and ended.err == ""
    assert f"Usage: atypia {' '.join(words)}" in " ".join(ended.out.split())
    assert f"Example: atypia {' '.join(words)}" in " ".join(ended.out.replace("`", "").split())
    assert atypia(*words, "-h").out == ended.out


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_option_and_argument_is_explained(words: tuple[str, ...]) -> None:
    for parameter in VERBS[words].params:
        assert getattr(parameter, "help", None), f"{' '.join(words)} {parameter.name} has no help"


def test_help_in_a_new_process_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom atypia.cli.main import main\nsys.argv = ['atypia', *sys.argv[1:]]\n"
        f"try:\n    main()\nfinally:\n    print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    spent = []
    for arguments in (("--help",), ("train", "--help"), ("data", "audit", "--help")):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        ended = start(*arguments, code=code)
        spent.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
        assert ended.returncode == 0 and "Usage: atypia" in ended.stdout
        assert ended.stderr.strip() == "[]", f"{arguments} loads {ended.stderr}"

    assert min(spent) < 1.0, f"user CPU seconds of three helps: {spent}"


def test_without_arguments_the_verbs_are_listed(atypia: Callable[..., Any]) -> None:
    ended = atypia()

    assert ended.code == 2
    assert "evaluate" in ended.out + ended.err


def test_version(atypia: Callable[..., Any]) -> None:
    assert atypia("--version").out == f"atypia {__version__}\n"


def test_completion_is_offered() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'atypia'; from atypia.cli.main import main; main()"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "_ATYPIA_COMPLETE": "complete_bash", "COMP_WORDS": "atypia tra", "COMP_CWORD": "1"},
    )  # fmt: skip

    assert ended.stdout.split() == ["train"]


# Exit codes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["trian"],
        ["train"],
        ["train", "probe", "--data", "x"],
        ["evaluate", "x"],
        ["data", "phantom", "--out", "x", "-n", "0"],
        ["data", "phantom", "--out", "x", "-n", "many"],
        ["recipes", "--yaml"],
    ],
)
def test_bad_usage_is_two(arguments: list[str], atypia: Callable[..., Any]) -> None:
    ended = atypia(*arguments)

    assert ended.code == 2
    assert ended.out == "" and "Error" in ended.err


@pytest.mark.parametrize(
    ("error", "code"), [(DataError("`x` must be y; fix: z"), 2), (WorkError("[bold]disk[/bold] full; fix: z"), 1)]
)
def test_an_error_is_one_message_and_its_code(
    error: Exception, code: int, atypia: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(entry, "app", fail)
    ended = atypia("doctor")

    assert ended.code == code and ended.out == ""
    assert ended.err == f"error: {error}\n"


def test_a_fault_of_the_program_is_not_hidden(atypia: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(entry, "app", fail)
    with pytest.raises(ZeroDivisionError):
        atypia("doctor")


def test_ctrl_c_says_that_the_work_can_go_on(atypia: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("atypia.training.recipe.shipped_recipes", stop)
    ended = atypia("recipes")

    assert ended.code == 130
    assert "stopped; what is complete was kept, the same command continues" in ended.err


def test_a_real_process_ends_with_the_code_and_a_message() -> None:
    ended = start("recipes", "no-such-recipe")

    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("error: unknown recipe 'no-such-recipe'; choices: ")
    assert "Traceback" not in ended.stderr
