"""``atypia paper`` as a user has it: published numbers at once, an own study beside, what differs; the page of the docs."""

from __future__ import annotations

import importlib
import json
import re
from operator import attrgetter
from pathlib import Path
from types import FunctionType
from typing import Any

from tests.studies.small import carried_out, plan_of, values
from typer.main import get_command
from typer.testing import CliRunner

from atypia.base.config import read_yaml
from atypia.cli.main import app
from atypia.evaluation.papers import paper_text, shipped_notes, value_at
from atypia.evaluation.published import PAPERS
from atypia.studies.files import load_study, shipped_studies
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
    page = (ROOT / "docs" / "papers.md").read_text("utf-8").partition("\n## atey\n")[2].partition("\n## ")[0]
    rows = paper("atey", out=tmp_path).differs.rows
    assert len(rows) > 10 and all(
        str(row[1])[1:] in page for row in rows
    )  # the box says what the page of the docs says
    order = [part.name for part in paper_text("atey").parts]
    places = [order.index(str(row[0])) for row in rows if row[0] in order]
    assert places == sorted(places)
    refused = CliRunner().invoke(app, ["paper", "atey", "--study", str(tmp_path / "none"), "--out", str(tmp_path)])
    assert refused.exit_code != 0 and "--study" in str(refused.exception)


def test_differences_follow_the_recipes() -> None:
    now = {one.part for one in departures("ammeling")}
    assert {"Patches", "Sampling", "Division"} <= now
    given = next(one for one in departures("giedziun") if one.part == "Not given by the paper")
    rank = load_recipe("giedziun")[1].model_dump()["lora"]["rank"]
    assert f"lora.rank {rank}" in given.text


def check_place(place: str) -> None:
    """A file or folder of the package, with a name of the module or a key of the YAML file; or a command with its options."""
    if place.startswith("`"):
        command: Any = get_command(app)
        first, *words = place.strip("`").split()
        assert first == "atypia"
        for word in words:
            if word.startswith("--"):
                assert any(word in parameter.opts for parameter in command.params), place
            elif hasattr(command, "commands"):
                command = command.commands[word]
        return
    path, _, name = place.partition(":")
    file = ROOT / "src" / "atypia" / path
    assert file.exists(), place
    if not name:
        return
    if file.suffix == ".py":
        module = importlib.import_module(f"atypia.{path.removesuffix('.py').replace('/', '.')}")
        found = attrgetter(name)(module)
        if isinstance(found, type | FunctionType):
            assert found.__module__ == module.__name__, place  # not another module's, imported there
    else:
        assert value_at(read_yaml(file), name) is not None, place


def test_every_place_that_the_page_names_is_there() -> None:
    places = {place for name in PAPERS for part in paper_text(name).parts for place in part.where if place != "–"}
    for place in places:
        check_place(place)
    named = {place.partition(":")[0] for place in places}
    for source, notes in shipped_notes().items():
        folder = "studies/library" if source in shipped_studies() else "recipes"
        assert f"{folder}/{source}.yaml" in named, f"no row of {notes.of} names {source}"


def test_each_difference_has_a_row_and_depends_on_what_there_is() -> None:
    """A difference of a part without a row, or with a misspelt key, would be said nowhere."""
    assert {notes.of for notes in shipped_notes().values()} == set(PAPERS)
    for source, notes in shipped_notes().items():
        parts = [part.name for part in paper_text(notes.of).parts]
        assert len(parts) == len(set(parts))
        loaded: Any = load_study(source) if source in shipped_studies() else load_recipe(source)[1]
        values = loaded.model_dump(mode="json")
        for one in notes.differs:
            assert one.part in parts, (source, one.part)
            for key in one.when:
                assert key.partition(".")[0] in values, (source, key)
        for key in notes.open:
            assert value_at(values, key) is not None, (source, key)


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
