"""The page of the command line, from the commands themselves: ``docs/reference/commands.md``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import typer
from typer.core import TyperGroup

from atypia.cli.main import app

HEAD = """# Command line

Every command with its arguments and options, written from the code by `make docs`; `atypia COMMAND --help` says the same.
Exit codes: 0 done, 1 work that failed, 2 bad usage or bad input, 130 stopped.
"""
GUIDES = {
    "predict": "predict.md", "train": "training.md", "evaluate": "training.md", "calibrate": "calibrate.md", "drift": "drift.md",
    "export": "export.md", "serve": "serve.md", "report": "review.md", "detect": "detect.md", "qupath": "qupath.md", "average": "training.md", "paper": "papers.md", "data": "data.md", "study": "studies.md",
    "synth": "synthesis.md", "cache": "privacy.md", "recipes": "training.md",
    "leaderboard": "results/leaderboard.md", "doctor": "install.md", "demo": "real-data.md",
}  # fmt: skip
"""The page that explains a command or group, by its name."""


def commands_page() -> str:
    """The page, as Markdown."""
    parts = [HEAD]
    for names, command in walk():
        level = "#" * (1 + len(names))
        title = " ".join(names)
        parts.append(f"{level} atypia {title}\n\n{_text(command.help)}\n")
        if not hasattr(command, "commands"):
            parts.append(f"```text\n{_usage(title, command)}\n```\n")
            if rows := [_row(one) for one in command.params if not one.hidden]:
                parts.append("\n".join(["| option | what it does | default |", "|---|---|---|", *rows]) + "\n")
            if command.epilog:
                parts.append(f"{_text(command.epilog)}\n")
        if len(names) == 1 and (guide := GUIDES.get(names[0])):
            parts.append(f"How to use it: [{guide}](../{guide})\n")
    return "\n".join(parts)


def walk(group: Any = None, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group, with the words after ``atypia``."""
    for name, command in (group or cast(TyperGroup, typer.main.get_command(app))).commands.items():
        if not command.hidden:
            yield (*before, name), command
            if hasattr(command, "commands"):
                yield from walk(command, (*before, name))


def _usage(title: str, command: Any) -> str:
    words = ["atypia", title]
    for one in command.params:
        if one.param_type_name == "argument":
            name = (one.metavar or one.name).upper() + ("..." if one.nargs == -1 else "")
            words.append(name if one.required else f"[{name}]")
        elif one.required:
            words += [one.opts[0], _kind(one)]
    return " ".join([*words, "[OPTIONS]"])


def _row(one: Any) -> str:
    if one.param_type_name == "argument":
        name = f"`{(one.metavar or one.name).upper()}`"
    else:
        spelled = ", ".join(f"`{word}`" for word in [*one.opts, *one.secondary_opts])
        name = spelled if one.is_flag else f"{spelled} {_kind(one)}"
    repeated = " May be repeated." if one.multiple and "repeated" not in (one.help or "") else ""
    default = one.default
    if one.required:
        shown = "*required*"
    elif default is None or default == [] or one.is_flag or not one.show_default:
        shown = ""
    else:
        shown = f"`{default}`"
    return f"| {name} | {_cell(one.help or '')}{repeated} | {shown} |"


def _kind(one: Any) -> str:
    """What stands after an option, in capitals: its metavar, else the type of its value."""
    if one.metavar:
        return one.metavar
    kind = one.type_descriptor.annotation
    kind = next(iter(getattr(kind, "__args__", ())), kind)
    return {str: "TEXT", int: "N", float: "NUMBER", Path: "PATH"}.get(kind, "TEXT")


def _cell(text: str) -> str:
    return " ".join(_text(text).split()).replace("|", "\\|")


def _text(text: str | None) -> str:
    """Help as Markdown: marks of typer's own are taken away."""
    return re.sub(r"\[/?(?:bold|dim|italic)\]", "", (text or "").replace("\b", "")).strip()
