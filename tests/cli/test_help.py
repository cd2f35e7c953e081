"""Help, speed of starting, completion, and exit codes that need a process of their own."""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from atypia import __version__
from atypia.base.errors import DataError, WorkError
from atypia.base.process import crashes
from atypia.cli import main as entry
from atypia.cli.main import app

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


def start(
    *arguments: str, code: str | None = None, shell: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command in a process; ``shell`` is a line in which ``{}`` stands for it."""
    command = [sys.executable, *(["-c", code] if code else ["-m", "atypia.cli.main"]), *arguments]
    if shell is not None:
        command = ["sh", "-c", shell.format(shlex.join(command))]
    environment = {**os.environ, "COLUMNS": "120", **variables}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, errors="replace")


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


def test_a_fault_of_the_program_is_one_line_and_a_log(
    atypia: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("by\nnothing")

    line = fail.__code__.co_firstlineno + 1

    monkeypatch.setattr(entry, "app", fail)
    ended = atypia("doctor")
    (log,) = (own_home / "log").iterdir()

    assert ended.code == 1 and ended.out == ""
    assert ended.err == (
        f"error: something unexpected happened (ZeroDivisionError: by nothing, test_help.py:{line}); "
        f"the traceback is in {log}\n"
    )
    text = log.read_text("utf-8")
    assert "in fail" in text and "ZeroDivisionError: by" in text
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "error: the memory is exhausted; fix: ask for fewer crops at once"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), "error: the memory is exh"),
        (RecursionError("maximum recursion depth exceeded"), "error: something is nested too deeply; the traceback"),
        (OSError(28, "No space left on device", "/x"), "error: No space left on device: /x; fix: check the disk"),
        (TypeError("x" * 10_000), "error: something unexpected happened (TypeError: xxx"),
        (UnicodeEncodeError("ascii", "µ", 0, 1, "no"), "error: something unexpected happened (UnicodeEncodeError"),
    ],
)
def test_whatever_is_unexpected_is_one_short_line(
    error: Exception, said: str, atypia: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(entry, "app", fail)
    ended = atypia("doctor")

    assert ended.code == 1
    assert ended.err.startswith(said)
    assert ended.err.count("\n") == 1 and len(ended.err) < 600


def test_logs_do_not_pile_up(own_home: Path) -> None:
    for _ in range(crashes.KEPT_LOGS + 3):
        last = crashes.write_log(ValueError("x"))

    assert last is not None and last.exists()
    assert len(list((own_home / "log").iterdir())) == crashes.KEPT_LOGS


def test_a_log_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATYPIA_HOME", "/dev/null/no")

    assert crashes.log_and_describe(KeyError("x")).endswith("; no log could be written")


def test_ctrl_c_says_that_the_work_can_go_on(atypia: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("atypia.workflows.recipes.training_recipe_listing", stop)
    ended = atypia("recipes")

    assert ended.code == 130
    assert "stopped before the end; a file has its name only when it is complete" in ended.err


def test_a_stop_says_what_is_kept(atypia: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "slides.csv").write_text("slide,points\na.svs,a.csv\n", "utf-8")
    monkeypatch.setattr("atypia.workflows.slides.predict.predict_slides", stop)
    ended = atypia("predict", "--slides", tmp_path / "slides.csv", "--out", tmp_path / "out")

    assert ended.code == 130
    assert "stopped; no finished slide is there yet, the same command continues" in ended.err


def test_a_review_that_is_stopped_lost_nothing(atypia: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(_: object, ready: Callable[[str, Path], None]) -> None:
        ready("http://127.0.0.1:1/", Path("decisions.sqlite"))
        raise KeyboardInterrupt

    monkeypatch.setattr("atypia.review.server.serving.serve", serve)
    ended = atypia("serve", "mine.csv", "--no-open")

    assert ended.code == 130 and ended.out == "http://127.0.0.1:1/\n"
    assert "stopped; all decisions are kept, the same command continues" in ended.err


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "utf-8"])
def test_output_takes_every_code_page(encoding: str) -> None:
    commands = [("--help",), ("predict", "--help"), ("data", "list"), ("data", "list", "--json")]
    code = (
        f"import sys\nfrom atypia.cli.main import main\nfor words in {commands!r}:\n    sys.argv = ['atypia', *words]\n"
        "    try:\n        main()\n    except SystemExit as end:\n        assert not end.code, words\n    print('=' * 9)"
    )
    ended = start(code=code, PYTHONIOENCODING=encoding, PYTHONUTF8="0")

    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    help_, predict, listed, as_json, rest = ended.stdout.split("=" * 9 + "\n")
    assert "Usage: atypia" in help_ and "Usage: atypia predict" in predict and "midogpp" in listed and not rest
    assert json.loads(as_json)


def test_nobody_who_reads_on_is_no_fault() -> None:
    ended = start("data", "list", shell="{} | head -c 1")

    assert "Traceback" not in ended.stderr and "Exception ignored" not in ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
def test_a_closed_output_is_no_fault() -> None:
    ended = start("data", "list", "--json", shell="{} >&- 2>&-")

    assert ended.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_an_output_that_cannot_be_written_is_said() -> None:
    ended = start("data", "list", shell="{} >/dev/full")

    assert ended.returncode == 1
    assert ended.stderr.startswith("error: No space left on device") and ended.stderr.count("\n") == 1


def test_the_package_is_a_command() -> None:
    ended = subprocess.run([sys.executable, "-m", "atypia", "--version"], capture_output=True, text=True, check=False)

    assert ended.returncode == 0 and ended.stdout.startswith("atypia ")


def test_a_real_process_ends_with_the_code_and_a_message() -> None:
    ended = start("recipes", "no-such-recipe")

    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("error: unknown recipe 'no-such-recipe'; choices: ")
    assert "Traceback" not in ended.stderr
