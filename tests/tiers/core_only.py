"""The command line as the core has it: optional packages cannot be imported. ``core_only.py COMMAND… [-- COMMAND…]``.

Prints nothing of its own; ends with the exit code of the first command that does not end with 0.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from atypia.base.extras import PARTS

BEYOND = frozenset({*PARTS, "pandas"})


class CoreFinder(PathFinder):
    """Finds what Python finds, without the packages of extras: as if they were not installed."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return None if fullname.partition(".")[0] in BEYOND else super().find_spec(fullname, path, target)


def hide() -> None:
    """Hides the packages of extras from this process."""
    sys.meta_path[:] = [CoreFinder if finder is PathFinder else finder for finder in sys.meta_path]


def run(commands: Sequence[Sequence[str]]) -> int:
    """Runs commands one after the other until one fails; its exit code, or 0."""
    from atypia.cli.main import main

    for words in commands:
        sys.argv = ["atypia", *words]
        try:
            main()
        except SystemExit as end:
            if end.code:
                return int(end.code)
    return 0


def chain(words: Sequence[str]) -> list[list[str]]:
    """Commands that are separated by ``--``."""
    found: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            found.append([])
        else:
            found[-1].append(word)
    return found


if __name__ in (
    "__main__",
    "__mp_main__",
):  # also in processes that multiprocessing starts; not where pytest imports it
    hide()
if __name__ == "__main__":
    code = run(chain(sys.argv[1:]))
    loaded = sorted(BEYOND & {name.partition(".")[0] for name in sys.modules})
    if loaded:
        raise SystemExit(f"loaded, though not of the core: {', '.join(loaded)}")
    sys.exit(code)
