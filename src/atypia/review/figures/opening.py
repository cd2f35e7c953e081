"""Opens the input of ``atypia serve``: results, predictions, data sets, trainings and studies, as :class:`ReviewFigures`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import DataError, InputError, brief, must
from atypia.base.files.regularfiles import open_regular
from atypia.base.files.spreadsheet import unescape_formula
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.inference.bundles.decision import CALLS
from atypia.inference.predictions import PREDICTIONS_SCHEMA
from atypia.inference.results import (
    CALL,
    CALLED_REFUSED,
    MODEL,
    MPP_SOURCE,
    NOVELTY,
    REASON,
    RESULTS_SCHEMA,
    is_results,
    with_all_columns,
)
from atypia.review.figures import scores
from atypia.review.figures.figures import ReviewFigures, coded, floats
from atypia.review.figures.from_json import JSON_RESULTS, read_json_results
from atypia.review.figures.from_tables import from_manifest, from_results

STUDY: Final = "plan.json"
OF_RESULTS: Final = frozenset({r.P_ATYPICAL, CALL, NOVELTY, r.THRESHOLD, REASON, MODEL, MPP_SOURCE})
"""Columns of results that no table of figures has."""
MOST_SHARED: Final = 3
"""From this many of them on a table is one of results."""
MANY: Final = "slides.csv"
RESULTS_NAME: Final = "results.parquet"
ROUNDING: Final = 1e-4
"""Probabilities this near to their threshold may lie on its other side in a file of rounded numbers."""


@dataclass(frozen=True)
class Opening:
    """What to open.

    Attributes:
        what: Files, folders and names of data sets.
        data: The data set of the predictions: gives images, labels and cases.
        slides: Folder of slides, if they are elsewhere than the data says.
        root: Folder of published data; None for the default.
    """

    what: tuple[str, ...]
    data: str | None = None
    slides: Path | None = None
    root: Path | None = None


def open_figures(asked: Opening) -> ReviewFigures:
    """Opens the figures to review.

    Raises:
        InputError: Nothing was given, or inputs that do not go together.
        DataError: A file is damaged, or predictions belong to another data set.
        AbsentError: A data set is not on this machine.
    """
    if asked.slides is not None and not asked.slides.is_dir():
        raise InputError(must("--slides", "a folder", str(asked.slides), "name the folder that holds the slide files"))
    kinds = [(kind_of(reference), reference) for reference in asked.what]
    named = [reference for kind, reference in kinds if kind == "data"]
    if asked.data is not None:
        named.append(asked.data)
    results = [reference for kind, reference in kinds if kind in ("results", "slides")]
    scored = [(kind, reference) for kind, reference in kinds if kind in ("predictions", "training", "study")]
    if results and scored:
        got = f"{results[0]} and {scored[0][1]}"
        raise InputError(must("what is opened", "results, or predictions of trainings", got, "open one of them"))
    if not kinds and not named:
        raise InputError("nothing to open; fix: `atypia serve FILE`, with results, a manifest, a data set or a run")
    manifest = _checked(open_data("+".join(named), asked.root)) if named else None
    source = ", ".join(asked.what) or str(asked.data)
    if results:
        files = list(chain.from_iterable(result_files(Path(reference)) for reference in results))
        return from_results([(path, read_results(path)) for path in files], manifest, asked.slides, source)
    if scored:
        return _from_scores([_found(kind, Path(reference)) for kind, reference in scored], manifest, asked, source)
    assert manifest is not None
    return from_manifest(manifest, None, asked.slides, source, root=asked.root)


def kind_of(reference: str) -> str:
    """The kind of an input: ``results``, ``slides``, ``predictions``, ``training``, ``study`` or ``data``."""
    path = Path(reference)
    if path.is_dir():
        if (path / STUDY).is_file():
            return "study"
        if (path / runs.RUN).is_file() or (path / runs.TRAINING).is_file():
            return "training"
        return "slides" if (path / MANY).is_file() else "data"
    suffix = path.suffix.lower()
    if suffix == ".parquet" and path.is_file():
        try:
            names = pq.read_schema(path).names
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path} is not a readable Parquet file ({error}); fix: make it again") from error
        if is_results(names):
            return "results"
        return "predictions" if names == PREDICTIONS_SCHEMA.names else "data"
    if suffix == ".csv" and path.is_file():
        return _kind_of_table(path)
    if suffix in JSON_RESULTS and path.is_file():
        return "results"
    return "data"


def _kind_of_table(path: Path) -> str:
    """``results`` or ``data``, by the titles of a CSV.

    Raises:
        DataError: They are those of results, but changed: opened as data, the model's calls would be lost without a word.
    """
    with open_regular(path) as file:
        header = file.readline(4096).replace(b"\0", b"").decode("utf-8-sig", errors="replace")
    header = header.strip("\ufffd \r\n")  # what is left of UTF-16's mark
    titles = {title.strip().strip('"') for title in header.split(",")}
    if {r.FIGURE_ID, r.P_ATYPICAL, CALL} <= titles:
        return "results"
    names = {title.strip().strip('"') for title in re.split("[,;\t]", header)}
    if len(names & OF_RESULTS) >= MOST_SHARED:
        lacks = sorted({r.FIGURE_ID, r.P_ATYPICAL, CALL} - names)
        got = f"a table without {', '.join(lacks)}" if lacks else "a table that is not separated by commas"
        fix = "name the file as `atypia predict` wrote it, or predict again"
        raise DataError(must(path.name, "results as `atypia predict` writes them, or a table of figures", got, fix))
    return "data"


def result_files(path: Path) -> list[Path]:
    """The results in a file, or of all slides in a folder.

    Raises:
        InputError: The folder contains none as Parquet.
    """
    if not path.is_dir():
        return [path]
    found = sorted(path.glob(f"*/{RESULTS_NAME}"))
    if not found:
        raise InputError(must(str(path), f"a folder with NAME/{RESULTS_NAME}", "none", "predict with --form parquet"))
    return found


def read_results(path: Path) -> pa.Table:
    """Reads results of ``atypia predict``: CSV, Parquet, JSON, JSON lines or GeoJSON.

    Raises:
        DataError: The file is damaged or contains something else; or a figure's values cannot be, as after a change by hand.
    """
    table = _read(path)
    p, threshold, decided = (floats(table[name]) for name in (r.P_ATYPICAL, r.THRESHOLD, r.DECISION))
    calls, known = coded(table[CALL]), ~np.isnan(p)
    strange = [name for name in calls.names if name not in CALLS]
    apart = np.abs(p - threshold) > ROUNDING
    for wrong, column, expected in (
        (calls.mask(strange), CALL, " or ".join(CALLS)),
        (known & ~((p >= 0) & (p <= 1)), r.P_ATYPICAL, "from 0 to 1"),
        (~known & ~calls.mask((CALLED_REFUSED,)), r.P_ATYPICAL, "known of a figure that is called"),
        (
            known & apart & (decided != (p >= threshold)),
            r.DECISION,
            "1 where the probability reaches the threshold, else 0",
        ),
    ):
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            got = f"{brief(table[column][at].as_py())} for {table[r.FIGURE_ID][at].as_py()}"
            fix = "predict again, or undo the change of this file"
            raise DataError(f"{path.name}: {must(column, expected, got, fix)}")
    return table


def _read(path: Path) -> pa.Table:
    try:
        if path.suffix.lower() in JSON_RESULTS:
            return read_json_results(path)
        if path.suffix.lower() == ".parquet":
            # Unlike `read_table`, it does not load pandas.
            with open_regular(path) as opened, pq.ParquetFile(opened) as file:
                return with_all_columns(file.read())
        from pyarrow import csv

        options = csv.ConvertOptions(
            column_types=RESULTS_SCHEMA,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        )
        parsing = csv.ParseOptions(newlines_in_values=True)
        with open_regular(path) as file:
            table = csv.read_csv(file, parse_options=parsing, convert_options=options)
        return with_all_columns(_bare(table))
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path} holds no whole results of `atypia predict` ({reason}); fix: predict again, or fetch the file again"
        ) from error


def _bare(table: pa.Table) -> pa.Table:
    """Removes the prefix that protects texts in spreadsheets."""
    for at, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            texts = [None if text is None else unescape_formula(text) for text in table.column(at).to_pylist()]
            table = table.set_column(at, field, pa.array(texts, field.type))
    return table


def _found(kind: str, path: Path) -> scores.FoundPredictions:
    by_kind = {"predictions": scores.found_file, "training": scores.found_training, "study": scores.found_study}
    return by_kind[kind](path)


def _from_scores(
    found: Sequence[scores.FoundPredictions], manifest: Manifest | None, asked: Opening, source: str
) -> ReviewFigures:
    if manifest is None:
        beside = list(dict.fromkeys(path.resolve() for one in found for path in one.manifests))
        if not beside:
            first = found[0].files[0]
            sets = next(iter(found[0].tables()))[r.DATASET].unique().to_pylist()
            known = ", ".join(str(name) for name in sets[:3])
            raise InputError(
                must("--data", f"given for {first}, whose figures belong to {known}", "none", "name the data set")
            )
        manifest = _checked(scores.join_manifests(beside))
    scored = scores.pooled_scores(manifest, chain.from_iterable(one.tables() for one in found))
    folders = tuple(run for one in found for run in one.runs)
    return from_manifest(manifest, scored, asked.slides, source, folders, asked.root)


def _checked(manifest: Manifest) -> Manifest:
    if manifest.task != r.ATYPICAL_TASK:
        what = "of the task `atypical`, which is what reviewers decide"
        raise InputError(must(f"task of {manifest.name}", what, repr(manifest.task), "open another data set"))
    return manifest
