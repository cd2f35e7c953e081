"""Writes the tables of the results from their data files: ``python tools/results.py --write``.

``docs/results/data/PAGE/TABLE.csv`` holds a table's figures, ``PAGE.yaml`` beside it what made them. Another table comes in by

    python tools/results.py --take studies/mine table.md --of "what it holds" --command "atypia study report …" --seed 0

where ``table.md`` is Markdown as commands write it; then put ``<!-- data: studies/mine -->`` and ``<!-- /data -->`` into the page.
``--record NAME`` records a file that was changed on purpose.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from documentation import datafiles
from documentation.datafiles import ROOT, UNKNOWN
from documentation.taking import take
from documentation.views import filled, pages, write_pages


def main() -> None:
    """Writes, checks, takes a table in, or records a changed file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="write every page anew")
    what.add_argument("--check", action="store_true", help="name pages that differ from their data; exit code 1 then")
    what.add_argument("--take", nargs=2, metavar=("PAGE/TABLE", "FILE"), help="take a table in Markdown as data")
    what.add_argument("--record", metavar="PAGE/TABLE", help="record a data file that was changed")
    for name, said in (("of", "what it holds"), ("command", "what made it"), ("seed", "of that command"),
                       ("versions", "of Python and packages"), ("wall-time", "how long it took"),
                       ("inputs", "fingerprints of what it was made from"), ("date", "day of the measurement"),
                       ("origin", "where the figures come from")):  # fmt: skip
        parser.add_argument(f"--{name}", help=said)
    asked = parser.parse_args()
    facts = {key: value for key in ("of", "command", "seed", "versions", "wall_time", "inputs", "date", "origin")
             if (value := getattr(asked, key)) is not None}  # fmt: skip
    if asked.check:
        stale = [path for path in pages() if filled(text := path.read_text("utf-8")) != text]
        if stale:
            raise SystemExit(
                f"{', '.join(str(p.relative_to(ROOT)) for p in stale)}: not as the data; fix: python tools/results.py --write"
            )
        return
    if asked.take:
        name, file = asked.take
        columns, rows = take(Path(file).read_text("utf-8"))
        today = datetime.now(UTC).date().isoformat()
        datafiles.write(
            name, columns, rows, **{"of": UNKNOWN, "origin": f"taken from {Path(file).name}, {today}", **facts}
        )
    if asked.record:
        datafiles.record(asked.record, **facts)
    for path in write_pages():
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
