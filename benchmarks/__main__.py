"""Speed and memory, in one command: ``python -m benchmarks [NAME …]``.

Each module here has ``measure() -> dict`` (figures for scripts) and ``main()`` (the same for
people). Figures are medians of several runs, and ratios of things measured in the same run:
absolute times depend on the machine, ratios much less.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The benchmarks, in alphabetical order."""
    return sorted(m.name for m in iter_modules([str(FOLDER)]) if not m.name.startswith("_"))


def main() -> int:
    """Runs the benchmarks that were named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory of Atypia.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(names())}")
    asked = parser.parse_args().names or names()
    unknown = sorted(set(asked) - set(names()))
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; choices: {', '.join(names())}")
    for name in asked:
        print(f"== {name}", flush=True)
        import_module(f"benchmarks.{name}").main()
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
