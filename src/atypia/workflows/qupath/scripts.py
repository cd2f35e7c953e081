"""The scripts for QuPath, complete for this installation: what ``atypia qupath`` prints and writes.

print(qupath_script("classify"))       # to paste into QuPath's script editor
write_scripts("scripts")               # both as files, which the editor opens
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from atypia.base.artifacts import atomic_file
from atypia.base.errors import InputError, must
from atypia.base.version import VERSION

SCRIPTS: Final = {
    "export": "writes the figures of the open image to a file for `atypia predict --points`",
    "classify": "runs Atypia on the figures of the open image and shows its calls on them",
}
"""The scripts and what each does."""
_SUFFIX: Final = ".groovy"


def own_command() -> tuple[str, ...]:
    """The command that starts this installation of Atypia: its full path, or its Python with ``-m atypia``."""
    beside = shutil.which("atypia", path=str(Path(sys.executable).parent))
    return (beside,) if beside else (sys.executable, "-m", "atypia")


def qupath_script(name: str, command: Sequence[str] | None = None) -> str:
    """A script for QuPath 0.4 or later, complete for one installation.

    Args:
        name: One of :data:`SCRIPTS`.
        command: What starts Atypia; None: this installation.

    Raises:
        InputError: There is no such script, or ``command`` is empty.

    >>> print(qupath_script("classify", ["/opt/atypia/bin/atypia"]).splitlines()[12])
    def ATYPIA = ['/opt/atypia/bin/atypia']   // the command and its first arguments
    """
    if name not in SCRIPTS:
        raise InputError(must("script", f"one of {', '.join(SCRIPTS)}", name, "`atypia qupath` lists them"))
    words = own_command() if command is None else tuple(command)
    if not words or not all(words):
        raise InputError(must("command", "what starts Atypia", words, "leave it out for this installation"))
    text = _resource(name).replace("@FIGURES@", _resource("figures").rstrip())
    return text.replace("@VERSION@", VERSION).replace("@COMMAND@", f"[{', '.join(map(_groovy_text, words))}]")


def write_scripts(folder: str | Path, command: Sequence[str] | None = None) -> list[Path]:
    """Writes every script into a folder, as ``atypia-NAME.groovy``; what is there by these names is replaced.

    Raises:
        InputError: As :func:`qupath_script`.
        WorkError: The folder cannot be written.
    """
    written = []
    for name in SCRIPTS:
        path = Path(folder) / f"atypia-{name}{_SUFFIX}"
        with atomic_file(path, "w") as file:
            file.write(qupath_script(name, command))
        written.append(path)
    return written


def _resource(name: str) -> str:
    return files("atypia.workflows.qupath").joinpath(name + _SUFFIX).read_text("utf-8")


def _groovy_text(word: str) -> str:
    r"""A text as Groovy writes it: in single quotes, in which only these two characters mean something.

    >>> print(_groovy_text(r"C:\it's"))
    'C:\\it\'s'
    """
    return "'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'"
