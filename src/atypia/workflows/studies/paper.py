"""The papers' tables and figures, from published numbers and from one's own studies: what ``atypia paper`` does.

from atypia.workflows.studies.paper import paper

report = paper("banerjee", ["studies/banerjee-table3-cpu"])
print(report.tables["table-3"].to_text())
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from atypia.base.errors import AtypiaError, InputError

if TYPE_CHECKING:
    from atypia.reports.drawing.tables import Table
    from atypia.reports.paper.own import OwnStudy, PaperDeparture, RunCost
    from atypia.studies.plan import Plan

DEFAULT_FOLDER: Final = Path("papers")
"""Where papers go that are given no folder: ``papers/NAME``."""
UNSAID: Final = frozenset({"summary", "backbone", "adaptation"})
"""Keys of a recipe that are told elsewhere."""


@dataclass(frozen=True, eq=False)
class PaperReport:
    """A paper's tables and figures.

    Attributes:
        name: The paper.
        tables: By the names of their files, in the paper's order.
        differs: What differs from the paper.
        missing: What is not shown and why, by table or figure.
        page: The HTML page.
        markdown: All tables in one file.
        files: Every other file.
        warnings: What could not be written, and what to do.
    """

    name: str
    tables: Mapping[str, Table]
    differs: Table
    missing: Mapping[str, Sequence[str]]
    page: Path
    markdown: Path
    files: tuple[Path, ...]
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        return f"PaperReport({self.name}: {', '.join(self.tables)}; {self.page})"


def paper(
    name: str,
    studies: Iterable[str | PathLike[str]] = (),
    out: str | PathLike[str] | None = None,
    *,
    table: str | None = None,
    figure: str | None = None,
    metric: str = "auroc",
) -> PaperReport:
    """Writes each table and figure of a paper in its own layout, own studies beside. Nothing is trained.

    Args:
        name: Key of :data:`atypia.evaluation.published.PAPERS`.
        studies: Folders of one's own studies.
        out: Where files go; None for ``papers/NAME``.
        table: Number of the only table that is wanted.
        figure: Number of the only figure.
        metric: Of learning curves and heat maps: ``auroc``, as the papers draw them, or ``balanced_accuracy``.

    Raises:
        InputError: No such paper, table, figure, metric or study, or no run of the study is complete.
        DataError: A file of the study is damaged.

    >>> report = paper("atey", out="atey-page")
    >>> report.tables["table-1"].rows[1][0]
    "Ours (the paper's)"
    """
    from atypia.evaluation.published import PAPERS
    from atypia.reports.paper.papers import departures_table, paper_items
    from atypia.reports.paper.write import write_paper

    name = PAPERS[name].name
    _ = paper_items(name, (), table, figure)
    plans = [_plan(Path(folder)) for folder in studies]
    own = [_own(plan, Path(folder), metric) for plan, folder in zip(plans, studies, strict=True)]
    items = paper_items(name, own, table, figure)
    differs = departures_table(name, departures(name, plans))
    written = write_paper(name, items, differs, own, Path(out) if out else DEFAULT_FOLDER / name)
    return PaperReport(
        name,
        {item.name: one for item in items for one in item.tables},
        differs,
        {item.heading: item.notes for item in items if item.notes},
        written.page,
        written.markdown,
        written.files,
        written.notes,
    )


def departures(name: str, plans: Sequence[Plan] = ()) -> list[PaperDeparture]:
    """Where the shipped recipes and studies differ from a paper, or those of the plans; and these from the shipped ones.

    Args:
        name: The paper.
        plans: Of studies that were run; none: all recipes and studies that ship for the paper.
    """
    from atypia.evaluation.papers import shipped_notes
    from atypia.reports.paper.own import PaperDeparture
    from atypia.reports.paper.papers import NOT_GIVEN

    notes = {source: one for source, one in shipped_notes().items() if one.of == name}
    found: list[PaperDeparture] = []
    for plan in plans:
        found += _changed(plan)
    for source, values in _values(notes, plans):
        one = notes[source]
        found += [PaperDeparture(d.part, d.text, source) for d in one.differs if d.holds(values)]
        if one.open:
            from atypia.evaluation.papers import value_at

            given = ", ".join(f"{key} {value_at(values, key)}" for key in one.open)
            found.append(PaperDeparture(NOT_GIVEN, f"Atypia's own: {given}", source))
    # One line for what several recipes say alike.
    merged: dict[tuple[str, str], list[str]] = {}
    for one in found:
        sources = merged.setdefault((one.part, one.text), [])
        if one.source not in sources:
            sources.append(one.source)
    return [PaperDeparture(part, text, ", ".join(sources)) for (part, text), sources in merged.items()]


def papers_document() -> str:
    """The tables of ``docs/papers.md``."""
    from atypia.evaluation.published import PAPERS
    from atypia.reports.paper.papers import document

    return document({name: departures(name) for name in PAPERS})


def _values(notes: Mapping[str, Any], plans: Sequence[Plan]) -> list[tuple[str, Mapping[str, Any]]]:
    """Recipes and studies that say something, each with the values by which it is decided whether that is so."""
    from atypia.studies.files import load_study, shipped_studies
    from atypia.training.recipe import load_recipe

    if plans:
        of_recipe = {cell.recipe_name: cell.recipe for plan in plans for cell in plan.trainings}
        of_study = {plan.name: plan.study for plan in plans}
        kept = {key: values for key, values in {**of_study, **of_recipe}.items() if key in notes}
        return [(key, {**values, "backbone": _backbone(values.get("backbone"))}) for key, values in kept.items()]
    studies = shipped_studies()
    loaded = (
        (key, (load_study(key) if key in studies else load_recipe(key)[1]).model_dump(mode="json")) for key in notes
    )
    return [(key, {**values, "backbone": _backbone(values.get("backbone"))}) for key, values in loaded]


def _backbone(name: object) -> Mapping[str, Any]:
    """Of a recipe's backbone what differences may depend on."""
    from atypia.backbones.catalogue import BACKBONES

    if not isinstance(name, str) or name not in BACKBONES:
        return {}
    return {"name": name, "mean": list(BACKBONES[name].mean)}


def _changed(plan: Plan) -> list[PaperDeparture]:
    """Where a study that was run differs from the shipped one at full size, and its recipes from the shipped ones."""
    from atypia.reports.paper.own import PaperDeparture
    from atypia.studies.files import load_study, shipped_studies
    from atypia.studies.schema import StudyConfig
    from atypia.studies.trainings import requested_trainings
    from atypia.training.recipe import load_recipe, shipped_recipes

    source = f"{plan.name}, size {plan.size}"
    found: list[PaperDeparture] = []
    if plan.name in shipped_studies():
        whole, here = load_study(plan.name).sized("full"), StudyConfig.model_validate(dict(plan.study)).sized(plan.size)
        pairs = {
            "Data trained on": [[one.shown for one in sized.data.train] for sized in (here, whole)],
            "Data tested on": [[one.shown for one in sized.data.tests] for sized in (here, whole)],
            "Protocol": [[_protocol(sized.protocol.model_dump())] for sized in (here, whole)],
            "Seeds": [[str(seed) for seed in sized.seeds] for sized in (here, whole)],
        }
        found += [
            PaperDeparture(part, f"{', '.join(ours) or 'none'}; the full study has {', '.join(theirs) or 'none'}", source)
            for part, (ours, theirs) in pairs.items() if ours != theirs
        ]  # fmt: skip
        wanted = list(dict.fromkeys(wish.label for wish in requested_trainings(whole)))
        ran = list(dict.fromkeys(cell.label for cell in plan.trainings if not cell.lacks))
        absent, more = [one for one in wanted if one not in ran], [one for one in ran if one not in wanted]
        found += [PaperDeparture("Rows of the paper that are not there", ", ".join(absent), source)] if absent else []
        found += [PaperDeparture("Rows beyond the paper's", ", ".join(more), source)] if more else []
    shipped = shipped_recipes()
    for recipe in dict.fromkeys(cell.recipe_name for cell in plan.trainings if cell.recipe_name in shipped):
        standard = _flat(load_recipe(recipe)[1].model_dump(mode="json"))
        changes: dict[str, list[str]] = {}
        for cell in (cell for cell in plan.trainings if cell.recipe_name == recipe):
            own = _flat(cell.recipe)
            different = [key for key in {**standard, **own} if standard.get(key) != own.get(key)]
            told = [f"{key} {own.get(key)} instead of {standard.get(key)}" for key in different if key not in UNSAID]
            if told:
                labels = changes.setdefault("; ".join(told), [])
                labels += [cell.label] if cell.label not in labels else []
        found += [PaperDeparture(f"Settings of {recipe}", f"{told} ({', '.join(labels)})", source)
                  for told, labels in changes.items()]  # fmt: skip
    return found


def _protocol(values: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key} {value}" for key, value in (values.get("options") or {}).items())
    return f"{values['name']} ({options})" if options else str(values["name"])


def _flat(values: Any, stem: str = "") -> dict[str, Any]:
    """Nested values by dotted key; elements of lists of named things by their names."""
    if isinstance(values, Mapping):
        inner = values.items()
    elif isinstance(values, list | tuple) and values and all(isinstance(v, Mapping) and "name" in v for v in values):
        inner = ((value["name"], value) for value in values)
    else:
        return {stem: list(values) if isinstance(values, tuple) else values}
    return {
        key: value for name, one in inner for key, value in _flat(one, f"{stem}.{name}" if stem else str(name)).items()
    }


def _plan(folder: Path) -> Plan:
    from atypia.studies.plan import Plan

    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; fix: give the --out folder of `atypia study run` as --study")
    return Plan.load(folder)


def _own(plan: Plan, folder: Path, metric: str) -> OwnStudy:
    from atypia.reports.paper.own import OwnStudy
    from atypia.studies.findings.compute import study_findings
    from atypia.workflows.studies.study import PlannedStudy, doubts_of

    results, found = study_findings(plan, folder, metric, True)
    doubts = [*doubts_of(PlannedStudy(plan, folder).status()), *results.warnings]
    return OwnStudy(plan.name, plan.size, results, found, _costs(plan, folder), tuple(dict.fromkeys(doubts)))


def _costs(plan: Plan, folder: Path) -> list[RunCost]:
    """What the complete runs of each row cost."""
    from atypia.base import runs
    from atypia.base.artifacts import read_json
    from atypia.reports.paper.own import RunCost
    from atypia.studies.ledger import Ledger

    ledger = Ledger(folder)
    of_row: dict[str, list[tuple[float, Mapping[str, Any]]]] = {}
    cells = {cell.label: cell for cell in plan.trainings}
    for run in plan.runs:
        done = None if plan.trainings[run.training].lacks else ledger.done(run.id)
        if done is None:
            continue
        try:
            facts = dict(read_json(ledger.folder(run.id) / run.fold / runs.RUN))
        except (AtypiaError, TypeError, ValueError):
            facts = {}  # counted as a run that does not say
        of_row.setdefault(plan.trainings[run.training].label, []).append((float(done["seconds"]), facts))
    costs = []
    for label, found in of_row.items():
        parameters = [facts["parameters_trained"] for _, facts in found if facts.get("parameters_trained")]
        memory = [facts["peak_memory_bytes"] for _, facts in found if facts.get("peak_memory_bytes")]
        kinds = sorted({str(facts["peak_memory_of"]) for _, facts in found if facts.get("peak_memory_of")})
        costs.append(
            RunCost(label, cells[label].adaptation, cells[label].backbone, len(found), max(parameters, default=None),
                 sum(seconds for seconds, _ in found) / len(found), max(memory, default=None), " and ".join(kinds))
        )  # fmt: skip
    return costs
