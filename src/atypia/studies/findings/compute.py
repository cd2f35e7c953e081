"""Computes a study's findings from predictions and result rows, cached by the content of both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
import yaml
from pydantic import TypeAdapter, ValidationError

from atypia.base import runs
from atypia.base.artifacts import atomic_file, file_sha256, fingerprint, read_json
from atypia.base.errors import AtypiaError, InputError, must
from atypia.data.manifest import Manifest
from atypia.statistics.metrics import METRICS
from atypia.studies import files
from atypia.studies.findings.about import Failure, StudyAbout
from atypia.studies.findings.comparisons import corrected, is_baseline, place_differences, reference_of
from atypia.studies.findings.effects import place_effects
from atypia.studies.findings.fold_tests import FoldResults, adaptation_tests, fold_differences, ranks
from atypia.studies.findings.gallery import gallery, raters
from atypia.studies.findings.keys import PlaceKey, RowKey, locator
from atypia.studies.findings.pooling import Pool
from atypia.studies.findings.schema import COMMON, RANKED_BY, Difference, Effect, Findings, Place, PlaceScore, Series
from atypia.studies.findings.scoring import DRAWN, DRAWS, ScoredRow, place_scores, scored_row
from atypia.studies.findings.unseen import unseen_domains
from atypia.studies.ledger import Ledger
from atypia.studies.plan import Plan
from atypia.studies.run import Status
from atypia.studies.shift import domain_groups
from atypia.studies.table import StudyResults, collect_study, evaluations

VERSION: Final = 7
"""Increased when the same predictions give other findings, or the layout changes."""
KEPT: Final = "findings.json"
TABLES: Final = (files.RESULTS, files.RUN_TABLE, files.DELTAS, files.SHIFT, files.MATRIX)
"""In the order of :class:`atypia.studies.table.StudyResults`."""
SHOWN_PLACES: Final = 12
"""Largest number of places that are scored; a study with more gets a note."""


def study_findings(
    plan: Plan, out: Path, metric: str = RANKED_BY[0], every: bool = False
) -> tuple[StudyResults, Findings]:
    """Computes a study's tables and findings in one pass over the predictions.

    Findings are kept in the study's folder, named by the content of plan, predictions and manifests, and read
    again while these are the same.

    Args:
        plan: The study's plan.
        out: Its folder.
        metric: By which rows are ordered, drawn and ranked, one of :data:`RANKED_BY`.
        every: Whether every row is drawn, with curves and domains; else the best on each place, and the baseline.

    Returns:
        The tables, which are written as :func:`atypia.studies.table.collect_study` does; and the findings.

    Raises:
        InputError: No run is complete yet, or the metric is none of these.
        DataError: A file of predictions is damaged.
    """
    if metric not in RANKED_BY:
        raise InputError(must("metric", " or ".join(RANKED_BY), metric, "choose one of them"))
    key = fingerprint(findings_key(plan, out), metric, every)
    kept = _kept(out, key)
    if kept is not None:
        return kept
    pool = Pool(plan, out, domain_groups(plan, out))
    results = collect_study(plan, out, watch=pool.add)
    found = compute(pool, results, metric, every)
    value = {"key": key, "tables": _table_hashes(out), "warnings": list(results.warnings), "findings": asdict(found)}
    with atomic_file(out / KEPT, "w") as file:
        json.dump(value, file)
    return results, found


def findings_key(plan: Plan, out: Path) -> str:
    """Content hash of everything that tables and findings depend on."""
    ledger = Ledger(out)
    states = ledger.states({run.id for run in plan.runs}, plan.tests)
    content = []
    for run in plan.runs:
        folder = ledger.folder(run.id)
        if plan.trainings[run.training].lacks or ledger.done(run.id) is None:
            content.append([run.id, states[run.id]])
            continue
        paths = [folder / run.fold / runs.PREDICTIONS, *(path for _, path in evaluations(folder, plan.tests))]
        content.append([run.id, states[run.id], *(file_sha256(path) for path in paths if path.is_file())])
    there = {
        key: (root := Manifest.load(path).root) is not None and root.is_dir()
        for key in sorted({training.manifest for training in plan.trainings if training.manifest} | set(plan.tests))
        if (path := out / files.MANIFESTS / f"{key}.parquet").is_file()
    }
    asked = [
        [
            training.label,
            training.data,
            training.seed,
            dict(training.factors),
            training.recipe_name,
            training.backbone,
            training.adaptation,
            training.lacks,
        ]
        for training in plan.trainings
    ]
    return fingerprint(
        VERSION, version("atypia"), list(METRICS), content, asked, plan.protocol[0], dict(plan.protocol[1]), list(plan.decisions), plan.baseline,
        dict(plan.tests), there, DRAWS, DRAWN,
    )  # fmt: skip


def _kept(out: Path, key: str) -> tuple[StudyResults, Findings] | None:
    """Cached results, if none of their inputs and no table has changed."""
    try:
        value = json.loads((out / KEPT).read_text("utf-8"))
        if value["key"] != key or value["tables"] != _table_hashes(out):
            return None
        found = TypeAdapter(Findings).validate_python(value["findings"])
        rows, about, deltas, shift, matrix = (
            pq.read_table(out / name).replace_schema_metadata(None) for name in TABLES
        )
        return StudyResults(rows, about, deltas, shift, matrix, tuple(value["warnings"])), found
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None  # absent, damaged or of another version: computed again


def _table_hashes(out: Path) -> dict[str, str]:
    return {name: file_sha256(out / name) for name in TABLES}


def compute(pool: Pool, results: StudyResults, metric: str = RANKED_BY[0], every: bool = False) -> Findings:
    """The findings from pooled predictions and their result rows."""
    plan, limits = pool.plan, list[str]()
    named = pool.series()
    series = tuple(named.values())
    position = {row: number for number, row in enumerate(named)}
    places = pool.places()
    if len(places) > SHOWN_PLACES:
        limits.append(f"{SHOWN_PLACES} of {len(places)} parts and data sets: tests first")
        places = dict(list(places.items())[:SHOWN_PLACES])
    scores: list[PlaceScore] = []
    differences: list[Difference] = []
    effects: list[Effect] = []
    crossed = any(one.factors for one in series)
    galleries, humans = [], []
    for number, (key, place) in enumerate(places.items()):
        entries = _entries(pool, key, place, position, metric)
        figures, title = pool.figures(key.manifest), f"{place.dataset} ({place.part})"
        drawn = frozenset(one.series for one in entries) if every else _drawn(entries, series, plan.baseline)
        scores += place_scores(number, entries, figures, drawn, limits, title)
        references = reference_of(entries, series, plan.baseline)
        differences += place_differences(number, entries, references, series, figures, limits, title)
        if crossed:
            effects += place_effects(number, entries, series, figures, limits, title)
        shown = gallery(number, entries, figures) if key.part != runs.VALIDATION or len(places) == 1 else None
        galleries += [] if shown is None else [shown]
        scored = np.unique(np.concatenate([one.sample.rows for one in entries]))
        human = raters(number, scored, figures)
        humans += [] if human is None else [human]
    folds = FoldResults(results.rows, tuple(places.values()), locator(plan, results.runs, position, places))
    return Findings(
        series=series,
        places=tuple(places.values()),
        scores=tuple(replace(one, runs=folds.spread(one.place, one.series)) for one in scores),
        differences=corrected(differences),
        folds=fold_differences(folds, series, results.runs, plan.baseline),
        ranks=ranks(folds, series, metric),
        adaptations=adaptation_tests(folds, series),
        effects=tuple(effects),
        unseen=tuple(unseen_domains(pool, tuple(places), series, limits)),
        raters=tuple(humans),
        galleries=tuple(galleries),
        baseline=plan.baseline is not None,
        draws=DRAWS,
        limits=tuple(dict.fromkeys(limits)),
        metric=metric,
        every=every,
    )


def _entries(pool: Pool, key: PlaceKey, place: Place, position: Mapping[RowKey, int], metric: str) -> list[ScoredRow]:
    """Rows on a place, best first."""
    found = []
    for row, number in position.items():
        sample = pool.sample(row, key)
        if sample is not None:
            found.append(scored_row(number, sample, place.pooling == COMMON, metric))
    return sorted(found, key=lambda one: -one.order)


def _drawn(entries: Sequence[ScoredRow], series: Sequence[Series], baseline: str | None) -> frozenset[int]:
    """Rows shown in plots: the best, and the baseline."""
    best = [one.series for one in entries[:DRAWN]]
    named = [one.series for one in entries if baseline is not None and is_baseline(series[one.series], baseline)][:1]
    return frozenset(best[: DRAWN - len(set(named) - set(best))]) | frozenset(named)


def about_study(plan: Plan, out: Path, status: Status, warnings: Sequence[str] = ()) -> StudyAbout:
    """Facts about a study for its report.

    Args:
        plan: Its plan.
        out: Its folder.
        status: Its progress.
        warnings: Reasons to doubt its numbers.
    """
    ledger = Ledger(out)
    failures = [
        Failure(label, fold, run, reason, str((ledger.failure(run) or {}).get("traceback", "")))
        for label, fold, run, reason in status.failures
    ]
    seconds, environments = 0.0, dict[str, tuple[dict[str, str], int]]()
    for run in plan.to_do():
        facts = ledger.done(run.id)
        if facts is None:
            continue
        seconds += float(facts["seconds"])
        versions = _environment(ledger.folder(run.id) / run.fold / runs.ENVIRONMENT)
        known, count = environments.get(fingerprint(versions), (versions, 0))
        environments[fingerprint(versions)] = (known, count + 1)
    options = ", ".join(f"{name} {value}" for name, value in plan.protocol[1].items() if value is not None)
    where = f"--size {plan.size} --out {plan.name}-{plan.size}"
    return StudyAbout(
        name=plan.name,
        size=plan.size,
        summary=_summary(plan),
        source=str(plan.study.get("source") or ""),
        protocol=f"{plan.protocol[0]} ({options})" if options else plan.protocol[0],
        counts=dict(status.counts),
        seconds=seconds,
        n_rows=len({training.label for training in plan.trainings}),
        trained_on=tuple(dict.fromkeys(training.data for training in plan.trainings)),
        tested_on=tuple(plan.tests.values()),
        baseline=plan.baseline,
        failures=tuple(failures),
        lacking={text: tuple(labels) for text, labels in status.lacking.items()},
        absent_tests=dict(status.absent_tests),
        environments=tuple(sorted(environments.values(), key=lambda pair: -pair[1])),
        commands=(f"atypia study run study.yaml {where}", f"atypia study report study.yaml {where}"),
        study_yaml=yaml.safe_dump(_plain(plan.study), sort_keys=False, allow_unicode=True),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _summary(plan: Plan) -> str:
    """The summary of the study and of its size, which may use other data and models."""
    own = str(plan.study.get("summary") or "")
    size = (plan.study.get("sizes") or {}).get(plan.size) or {}
    told = str(size.get("summary") or "")
    return f"{own}. At this size: {told}" if own and told else own or told


def _environment(path: Path) -> dict[str, str]:
    try:
        return {str(name): str(value) for name, value in read_json(path).items()}
    except (AtypiaError, OSError, AttributeError):
        return {}


def _plain(value: Any) -> Any:
    """Values as plain types for YAML."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
