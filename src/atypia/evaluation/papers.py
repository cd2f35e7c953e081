"""What the papers print beside results, what of them is where in the code, and where Atypia differs and why.

A paper's own file (``literature/NAME.yaml``) has the tables that are no results (counts, models, p-values) and one line
per part of its system, table and figure. What a recipe or a study does otherwise stands in its own file, under the key
``paper``, as data: the box of ``atypia paper`` and ``docs/papers.md`` are written from it. A difference that depends on
a value of the recipe states the value (``when``) and disappears by itself when the recipe changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from atypia.base.config import PAPER, StrictModel, parse, read_yaml, shipped_yaml
from atypia.base.files.structured import parse_yaml
from atypia.evaluation.published import PAPERS

RECIPE_FILES: Final = ("recipes",)
STUDY_FILES: Final = ("studies", "library")


class PaperDifference(StrictModel):
    """What a recipe or a study does otherwise than its paper.

    Attributes:
        part: Part of the paper's system, an item of :attr:`PaperText.parts`.
        text: What the paper says, what is done here, and why.
        when: Values, by dotted key, with which it is so; empty: always.
    """

    part: str
    text: str
    when: dict[str, Any] = Field(default_factory=dict)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is so with the values of a recipe or study.

        >>> PaperDifference(part="a", text="b", when={"ema.debias": False}).holds({"ema": {"debias": True}})
        False
        """
        return all(value_at(values, key) == value for key, value in self.when.items())


class PaperNotes(StrictModel):
    """What a recipe or study says of its paper.

    Attributes:
        of: Key of :data:`atypia.evaluation.published.PAPERS`.
        open: Keys of the recipe whose values the paper does not give: they are Atypia's.
        differs: What is done otherwise.
    """

    of: str
    open: tuple[str, ...] = ()
    differs: tuple[PaperDifference, ...] = ()


class PaperPart(StrictModel):
    """A part of a paper: of its system, a table or a figure.

    Attributes:
        name: What it is called; differences name it.
        where: Files or folders below ``src/atypia``; with a name of the module or a key of the YAML file after a colon
            (``methods/mixing.py:MixStyle``, ``recipes/atey.yaml:loss``); or commands in backticks; «–» where there is none.
        text: What differs, where no recipe or study is the place to say it; empty: nothing.
    """

    name: str
    where: tuple[str, ...]
    text: str = ""


class PrintedTable(StrictModel):
    """A table of a paper that holds no results of classifiers.

    Attributes:
        title: One line.
        columns: Headings.
        rows: As printed.
        notes: What is known about the numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


class PaperText(StrictModel):
    """A paper's own file.

    Attributes:
        parts: Its system's parts, tables and figures.
        tables: Number to table, of those without results.
    """

    parts: tuple[PaperPart, ...]
    tables: dict[str, PrintedTable] = Field(default_factory=dict)


@cache
def paper_text(name: str) -> PaperText:
    """A paper's own file.

    Raises:
        InputError: No such paper.
    """
    place = f"literature/{PAPERS[name].name}.yaml"
    return parse(PaperText, parse_yaml(files("atypia.evaluation").joinpath(place).read_text("utf-8"), place), place)


@cache
def shipped_notes() -> Mapping[str, PaperNotes]:
    """What shipped recipes and studies say of their papers, by the name of the file."""
    found: dict[str, Path] = {**shipped_yaml(*RECIPE_FILES), **shipped_yaml(*STUDY_FILES)}
    noted = {name: read_yaml(path).get(PAPER) for name, path in found.items()}
    return {
        name: parse(PaperNotes, values, f"`{PAPER}` of {name}") for name, values in noted.items() if values is not None
    }


def value_at(values: Mapping[str, Any], key: str) -> Any:
    """A value by its dotted key; an element of a list of named things by its name; None where there is none.

    >>> value_at({"terms": [{"name": "contrastive", "weight": 0.5}]}, "terms.contrastive.weight")
    0.5
    """
    node: Any = values
    for part in key.split("."):
        if isinstance(node, list | tuple):
            node = next((one for one in node if isinstance(one, Mapping) and one.get("name") == part), None)
        else:
            node = node.get(part) if isinstance(node, Mapping) else None
        if node is None:
            return None
    return list(node) if isinstance(node, tuple) else node
