"""``atypia study report`` on predictions that are there: page, tables, figures, and the study file to do it again."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from atypia.cli.study import app
from atypia.studies.files import load_study
from atypia.studies.ledger import Ledger

from .predicted import complete_study, figures


def test_report_is_written_from_predictions(tmp_path: Path) -> None:
    study = load_study("banerjee-table3", ["seeds=[7]"]).model_dump(mode="json")
    own, other = figures("ami-br", 120, 0), figures("other", 60, 1, cases=None)
    plan = complete_study(tmp_path, own, [other], name="banerjee-table3", study=study)
    broken = plan.runs[0].id
    (Ledger(tmp_path).folder(broken) / "done.json").unlink()
    Ledger(tmp_path).fail(broken, "ValueError: too large", "Traceback: here")

    ran = CliRunner().invoke(app, ["report", "banerjee-table3", "--out", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    page = (tmp_path / "report" / "index.html").read_text("utf-8")
    for words in ("8 of 9 runs are complete", "1 failed", "ValueError: too large", "Traceback: here", "Virchow2",
                  "the case of 60 of 60 figures is unknown", "of a row&#39;s 2 to 3 fold models"):  # fmt: skip
        assert words in page
    assert str(tmp_path) not in page
    assert "ValueError: too large" in (tmp_path / "report" / "report.md").read_text("utf-8")
    for name in ("headline.tex", "differences.csv", "literature.md", "figures/roc-ami-br-test.svg",
                 "figures/domains-ami-br-test.png"):  # fmt: skip
        assert (tmp_path / "report" / name).is_file()
    again = load_study(str(tmp_path / "report" / "study.yaml"))
    assert again.model_dump(mode="json") == study
    assert again.seeds == (7,)
