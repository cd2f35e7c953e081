"""Speed and memory, in one command: ``python -m benchmarks [NAME …] [--record]``.

Each module here has ``measure() -> dict``, and ``lines(found)`` where its figures need more words than their names.
Figures are medians of several runs, and ratios of things measured in the same run: absolute times depend on the machine,
ratios much less. ``["pairs"]`` are the ratios that are kept: name to the values of each round, more is faster.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from benchmarks.measuring import page
from benchmarks.measuring.history import append, load, run_of, watched
from benchmarks.measuring.running import run

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The benchmarks, in alphabetical order."""
    return sorted(m.name for m in iter_modules([str(FOLDER)]) if not (m.ispkg or m.name.startswith("_")))


def main() -> int:
    """Runs the benchmarks that were named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory of Atypia.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(names())}")
    parser.add_argument(
        "--record", action="store_true", help="add the ratios to benchmarks/history.jsonl, and say what became slower"
    )
    parser.add_argument("--history", action="store_true", help="show what was recorded, and measure nothing")
    parser.add_argument("--write", action="store_true", help="write table and plot of docs/results/speed.md anew")
    given = parser.parse_args()
    asked = given.names or names()
    unknown = sorted(set(asked) - set(names()))
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; choices: {', '.join(names())}")
    if given.write:
        page.write()
    if given.history:
        print(page.table())
    if given.write or given.history:
        return 0
    with watched() as machine:
        pairs, failed = measured(asked)
    if given.record:
        record(pairs, machine.get("others"))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def measured(asked: Iterable[str]) -> tuple[dict[str, list[float]], list[str]]:
    """The ratios of these benchmarks, and the names of those that failed; one that fails costs the others nothing."""
    pairs: dict[str, list[float]] = {}
    failed = []
    for name in asked:
        print(f"== {name}", flush=True)
        try:
            pairs |= run(import_module(f"benchmarks.{name}")).get("pairs", {})
        except Exception:  # noqa: BLE001 - whatever it is, the others go on, and the exit says it
            traceback.print_exc()
            failed.append(name)
        print()
    return pairs, failed


def record(pairs: dict[str, list[float]], others: float | None) -> None:
    """Adds a run to the history, writes its page anew, and prints what became slower."""
    earlier, now = load(), run_of(pairs, others)
    if not pairs:
        print("nothing to record: these benchmarks have no ratio")
        return
    append(now)
    page.write()
    print(f"recorded: {len(pairs)} ratios at {now.commit}, in benchmarks/history.jsonl and docs/results/speed.md")
    print(page.verdict(now, earlier))


if __name__ == "__main__":
    sys.exit(main())
