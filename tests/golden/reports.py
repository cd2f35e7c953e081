"""``python -m tests.golden.reports``: writes the golden example of ``report.json`` and its JSON schema anew.

Do so where the form of a report changes on purpose, and raise its ``schema`` where a program that reads the former form
would no longer work.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "report"
FIXED: Final = {"made": "2026-01-01T00:00:00Z", "first_decision": "2026-01-01T00:00:00Z",
                "last_decision": "2026-01-01T00:00:00Z"}  # fmt: skip
"""Times, which are others at each call."""


def example(folder: Path) -> dict[str, Any]:
    """A report with every part: raters that agree and do not, a tie, an arbitration, tags, notes, an added figure.

    Args:
        folder: Where its slide, results and decisions are made.
    """
    from tests.review.regions import region_of

    from atypia.review.decisions.intake import DecisionIntake
    from atypia.review.figures.opening import Opening
    from atypia.review.report.final import report_review

    intake = DecisionIntake(folder / "board.sqlite", region_of(folder))
    for name in ("Ada", "Ben"):
        intake.join(name)
    for index in range(10):
        intake.decide("Ada", index, "normal" if index < 6 else "atypical")
    for index in range(6):
        intake.decide("Ben", index, "normal")
    intake.decide("Ben", 6, "atypical", "both centrosomes", tags=["lagging"])
    for index in (7, 8):
        intake.decide("Ben", index, "normal")
    intake.decide("Ada", 8, "atypical", arbitrate=True)
    intake.decide("Ada", 10, "not-mitosis")
    intake.assign("Ada", [12], ["Ben"])
    intake.decide("Ada", intake.add("Ada", 0, 333, 444), "atypical")
    intake.close()
    opened = Opening((str(folder / "calls.parquet"),), slides=folder / "slides")
    report = report_review(opened, folder / "board.sqlite", title="golden").case.as_dict()
    return json.loads(json.dumps({**report, **FIXED, "software": {**report["software"], "version": "0"}}))


def main() -> None:
    """Writes both files."""
    from atypia.reports.case.reviewed import report_schema

    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        written = {"report.json": example(Path(folder)), "schema.json": report_schema()}
    for name, value in written.items():
        (FOLDER / name).write_text(json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
    sys.stdout.write(f"{', '.join(written)} in {FOLDER}\n")


if __name__ == "__main__":
    main()
