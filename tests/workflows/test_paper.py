"""``atypia paper`` as a user has it: published numbers at once, an own study beside, what differs; the page of the docs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.studies.small import carried_out, plan_of, values
from typer.testing import CliRunner

from atypia.cli.main import app
from atypia.studies.files import load_study
from atypia.studies.plan import Plan
from atypia.training.identity import recipe_identity
from atypia.training.recipe import load_recipe
from atypia.workflows.studies.paper import departures, paper, papers_document

ROOT = Path(__file__).parents[2]


def smoke(tmp_path: Path, small_csv: Path) -> tuple[Plan, Path]:
    """A study of seconds whose network follows one of the papers' recipes."""
    given = values(small_csv, [])
    given["models"] = [
        {"recipe": "banerjee-e2e", "backbones": ["tiny-cnn"], "label": "network",
         "set": {"epochs": 1, "batch_size": 8, "augment": "none"}},
    ]  # fmt: skip
    given["name"] = "banerjee-table3"
    plan, out = plan_of(given, tmp_path)
    carried_out(plan, out)
    return plan, out


def test_a_studys_output_stands_beside_the_paper(tmp_path: Path, small_csv: Path) -> None:
    _, study = smoke(tmp_path, small_csv)
    ran = CliRunner().invoke(app, ["paper", "banerjee", "--study", str(study), "--out", str(tmp_path / "page")])
    assert ran.exit_code == 0, ran.output
    assert "this study" in ran.output and "Virchow2 (LoRA)" in ran.output
    report = paper("banerjee", [study], tmp_path / "page")
    assert ["this study", "network"] in [list(row[:2]) for row in report.tables["table-3"].rows]
    (cost,) = report.tables["table-costs"].rows
    assert isinstance(cost[4], int) and cost[4] > 0 and isinstance(cost[6], float) and cost[6] > 0
    said = {(row[0], str(row[1])) for row in report.differs.rows}
    settings = next(text for part, text in said if part == "Settings of banerjee-e2e")
    assert "epochs 1 instead of 100" in settings and "optimiser" not in settings
    assert any(part == "Rows of the paper that are not there" and "virchow2 · LoRA" in text for part, text in said)
    assert any(path.name.startswith("figure-2-banerjee-table3") for path in report.files)
    assert str(tmp_path) not in report.page.read_text("utf-8")


def test_without_a_study_the_published_numbers_are_there_at_once(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["paper", "atey", "--json", "--out", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert set(found) == {"table-1", "differs"}
    refused = CliRunner().invoke(app, ["paper", "atey", "--study", str(tmp_path / "none"), "--out", str(tmp_path)])
    assert refused.exit_code != 0 and "--study" in str(refused.exception)


def test_differences_follow_the_recipes() -> None:
    now = {one.part for one in departures("ammeling")}
    assert {"Patches", "Sampling", "Division"} <= now
    given = next(one for one in departures("giedziun") if one.part == "Not given by the paper")
    rank = load_recipe("giedziun")[1].model_dump()["lora"]["rank"]
    assert f"lora.rank {rank}" in given.text


def test_what_a_recipe_says_of_its_paper_is_no_part_of_it() -> None:
    name, recipe = load_recipe("banerjee-e2e")
    assert "paper" not in recipe_identity(recipe) and "paper" not in recipe.model_dump()
    assert "paper" not in load_study("banerjee-table3").model_dump()
    text = (ROOT / "src/atypia/recipes" / f"{name}.yaml").read_text("utf-8")
    assert text.count("\npaper:\n") == 1


def test_the_page_of_the_docs_is_generated() -> None:
    page = (ROOT / "docs" / "papers.md").read_text("utf-8")
    found = re.search(r"<!-- papers -->\n(.*?)\n<!-- /papers -->", page, re.DOTALL)
    assert found is not None and found[1].strip() == papers_document().strip(), "run: python tools/write_docs.py"
