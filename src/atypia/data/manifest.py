"""Manifest: one validated row per figure, saved as Parquet.

The table contains only facts. The folder of its images (``root``) is stored beside it and is not part of
its fingerprint, so the same data in another folder has the same fingerprint.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atypia.base import records as r
from atypia.base.artifacts import atomic_file, fingerprint
from atypia.base.errors import DataError, count_noun, must
from atypia.base.files.regularfiles import open_regular
from atypia.base.files.structured import parse_json
from atypia.base.files.table_hash import content_hashes
from atypia.data.textfiles import cleaned_text

SCHEMA = pa.schema(
    [
        pa.field(r.FIGURE_ID, pa.string(), nullable=False),
        pa.field(r.DATASET, pa.string(), nullable=False),
        pa.field(r.IMAGE, pa.string(), nullable=False),
        pa.field(r.X_PX, pa.float64()),
        pa.field(r.Y_PX, pa.float64()),
        pa.field(r.CASE_ID, pa.string()),
        pa.field(r.SLIDE_ID, pa.string()),
        pa.field(r.PART, pa.string()),
        pa.field(r.LABEL, pa.int8()),
        pa.field(r.SOFT_LABEL, pa.float64()),
        pa.field(r.VOTES, pa.list_(pa.int8())),
        pa.field(r.N_RATERS, pa.int16()),
        pa.field(r.PHASE, pa.list_(pa.string())),
        pa.field(r.SCANNER, pa.string()),
        pa.field(r.ORIGIN, pa.string()),
        pa.field(r.SPECIES, pa.string()),
        pa.field(r.TUMOUR, pa.string()),
        pa.field(r.DOMAIN, pa.string()),
        pa.field(r.MPP, pa.float64()),
        pa.field(r.WIDTH_PX, pa.int32()),
        pa.field(r.HEIGHT_PX, pa.int32()),
        pa.field(r.SHA256, pa.string()),
    ]
)
"""Columns, in order. ``image`` is a POSIX path below the manifest's root; with ``x_px, y_px`` it
names a slide and the figure's centre in pixels (x to the right, y down), otherwise a crop that
is centred on the figure. ``part`` is the publisher's division (``train``, ``test``), if
one exists. ``votes`` and ``phase`` have one element per rater, null if the rater is missing.
``width_px, height_px`` and ``sha256`` are those of the image file."""

SYNTHETIC_SCHEMA = pa.schema(
    [
        *SCHEMA,
        pa.field(r.SYNTHETIC, pa.bool_()),
        pa.field(r.GENERATOR, pa.string()),
        pa.field(r.GENERATOR_FOLD, pa.string()),
        pa.field(r.SEEN, pa.string()),
        pa.field(r.SAMPLE_SEED, pa.int64()),
        pa.field(r.SAMPLE_INDEX, pa.int64()),
        pa.field(r.GUIDANCE, pa.float64()),
    ]
)
"""Columns of a set with generated figures (``synthetic`` true); null in rows of real ones.

``generator`` is the content hash of the generator's checkpoint, ``generator_fold`` the fold that it
was trained for, ``seen`` the fingerprint of the manifest of all figures that it learned from
(:mod:`atypia.data.audit.provenance`); ``sample_seed``, ``sample_index`` and ``guidance`` decide the sample.
Sets of real figures keep :data:`SCHEMA`, and their fingerprints."""

JUDGED_SCHEMA = pa.schema([*SYNTHETIC_SCHEMA, pa.field(r.JUDGED_P, pa.float64())])
"""Columns of a generated set that classifiers have picked from: ``judged_p`` is their probability, in [0, 1], of the class
that the figure was generated as. It is what ``sampler.curriculum`` goes by."""

SCHEMAS = (SCHEMA, SYNTHETIC_SCHEMA, JUDGED_SCHEMA)
"""Each with all columns of the one before; a table has the first one that holds all of its values."""

METADATA_KEY = b"atypia"
NOT_AT_HAND = "not at hand, only the table"
_DESCRIBING = frozenset({r.CASE_ID, r.SLIDE_ID, r.PART, *r.DOMAIN_PARTS, r.DOMAIN})


@dataclass(frozen=True, eq=False, repr=False)
class Manifest:
    """A table of figures with the folder of its images.

    Attributes:
        table: The rows (``docs/data.md`` lists the columns). Use :meth:`from_rows` to build a validated one.
        name: Its name in messages and tables.
        task: ``atypical``: class 1 is atypical, or ``mitosis``: class 1 is a mitotic figure.
        root: Folder that ``image`` is relative to; None if the images are not available.
        notes: Facts for reports, for instance how many files were quarantined and why.

    >>> Manifest.from_rows([{"figure_id": "a", "dataset": "mine", "image": "a.png", "label": 1}], "mine")
    <Manifest mine: 1 figure (1 atypical), 0 cases, 0 domains, images not at hand>
    """

    table: pa.Table
    name: str
    task: str = r.ATYPICAL_TASK
    root: Path | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[Mapping[str, Any]],
        name: str,
        task: str = r.ATYPICAL_TASK,
        root: Path | None = None,
        notes: Iterable[str] = (),
    ) -> Manifest:
        """Builds and validates a manifest from one mapping per figure; missing columns are null.

        ``domain`` is derived from scanner, origin, species and tumour if it is not given.
        ``n_raters`` and ``soft_label`` are derived from ``votes`` if they are not given. Words for «not known» and
        NaN, as data frames write them, become null in text columns: they never name a case. A name's «ä» is one character.

        Raises:
            DataError: As :meth:`validate`, or a value has the wrong type.
        """
        given = {key for row in rows for key in row}
        schema = next((one for one in SCHEMAS if given <= set(one.names)), JUDGED_SCHEMA)
        unknown = sorted(given - set(JUDGED_SCHEMA.names))
        if unknown:
            raise DataError(f"{name}: unknown columns {', '.join(unknown)}; known: {', '.join(SCHEMA.names)}")
        try:
            table = pa.Table.from_pylist([_completed(row) for row in rows], schema=schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"{name}: a value has the wrong type: {error}") from error
        manifest = cls(table, name, task, root, tuple(notes))
        manifest.validate()
        return manifest

    def validate(self) -> None:
        """Checks the table's own consistency.

        Raises:
            DataError: No rows; a null or duplicate figure id; an unknown label; a soft label
                outside [0, 1]; a half-given position; a µm/px that is not positive.
        """
        t = self.table
        if self.task not in r.CLASS_NAMES:
            raise DataError(must("task", " or ".join(r.CLASS_NAMES), self.task, "name one of them"))
        if not any(t.schema.equals(one) for one in SCHEMAS):
            raise DataError(f"{self.name}: the table has other columns than a manifest; fix: build it again")
        if t.num_rows == 0:
            raise DataError(f"{self.name}: no figures; fix: check the folder or table that it was read from")
        for column in (r.FIGURE_ID, r.DATASET, r.IMAGE):
            if t[column].null_count:
                raise DataError(f"{self.name}: {count_noun(t[column].null_count, 'row')} without `{column}`")
        counts = pc.value_counts(t[r.FIGURE_ID])  # pyright: ignore[reportAttributeAccessIssue]
        repeated = [c["values"] for c in counts.to_pylist() if c["counts"] > 1]
        if repeated:
            shown = ", ".join(sorted(repeated)[:5])
            raise DataError(f"{self.name}: {len(repeated)} duplicate figure ids ({shown}); fix: make ids unique")
        labels = set(t[r.LABEL].unique().to_pylist())
        if not labels <= {0, 1, None}:
            bad = sorted(labels - {0, 1, None})
            raise DataError(must("label", f"0 or 1 ({self._class_words()})", bad, "correct the label column"))
        self._check_range(r.SOFT_LABEL, 0.0, 1.0)
        self._check_range(r.MPP, 1e-3, 1e3)
        if not pc.all(pc.equal(t[r.X_PX].is_null(), t[r.Y_PX].is_null())).as_py():  # pyright: ignore[reportAttributeAccessIssue]
            raise DataError(f"{self.name}: rows with only one of `x_px` and `y_px`; fix: give both or none")

    def _class_words(self) -> str:
        zero, one = r.CLASS_NAMES[self.task]
        return f"0 {zero}, 1 {one}"

    def _check_range(self, column: str, low: float, high: float) -> None:
        values = self.table[column].drop_null().to_numpy()
        if len(values) and not bool(np.all((values >= low) & (values <= high))):
            bad = values[~((values >= low) & (values <= high))][0]
            raise DataError(must(column, f"between {low:g} and {high:g}", float(bad), "correct the column"))

    def __len__(self) -> int:
        return self.table.num_rows

    def __repr__(self) -> str:
        counts = Counter(self.table[r.LABEL].to_pylist())
        zero, one = r.CLASS_NAMES.get(self.task, ("0", "1"))
        parts = [f"{counts[label]:,} {word}" for label, word in ((1, one), (0, zero), (None, "without a label"))
                 if counts[label]]  # fmt: skip
        cases = len(set(self.table[r.CASE_ID].drop_null().to_pylist()))
        domains = len(set(self.table[r.DOMAIN].drop_null().to_pylist()))
        figures, *of = map(count_noun, (len(self), cases, domains), ("figure", "case", "domain"))
        return f"<Manifest {self.name}: {figures} ({', '.join(parts)}), {', '.join(of)}{', images not at hand' if self.root is None else ''}>"

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of the rows and the task, without name, notes and root."""
        return fingerprint(content_hashes(self.table), self.task)

    def column(self, name: str) -> npt.NDArray[Any]:
        """One column as a NumPy array; strings and lists as objects, null as None or NaN."""
        return self.table[name].to_numpy(zero_copy_only=False)

    @cached_property
    def ids(self) -> list[str]:
        """Figure ids in row order."""
        return self.table[r.FIGURE_ID].to_pylist()

    @property
    def labels(self) -> npt.NDArray[np.int8]:
        """Labels, shape (n,), 1 = positive class.

        Raises:
            DataError: A figure has no label.
        """
        missing = self.table[r.LABEL].null_count
        if missing:
            raise DataError(f"{self.name}: {missing} of {len(self)} figures have no label; fix: label or drop them")
        return self.table[r.LABEL].to_numpy().astype(np.int8)

    @property
    def synthetic(self) -> npt.NDArray[np.bool_]:
        """Which figures a generator made, shape (n,); all False if the table does not say."""
        if r.SYNTHETIC not in self.table.column_names:
            return np.zeros(len(self), dtype=bool)
        return np.array([made is True for made in self.table[r.SYNTHETIC].to_pylist()], dtype=bool)

    @property
    def cases(self) -> npt.NDArray[np.str_]:
        """Case of each figure: where it is unknown the slide, and a figure without either is a case of its own."""
        known = zip(self.table[r.CASE_ID].to_pylist(), self.table[r.SLIDE_ID].to_pylist(), self.ids, strict=True)
        return np.array(
            [
                case if case is not None else f"slide:{slide}" if slide is not None else f"figure:{figure}"
                for case, slide, figure in known
            ]
        )

    def take(self, rows: Sequence[int] | npt.NDArray[Any]) -> Manifest:
        """The rows at these positions, in this order (a boolean mask is accepted too)."""
        picked = np.asarray(rows)
        if picked.dtype == bool:
            picked = np.flatnonzero(picked)
        return replace(self, table=self.table.take(pa.array(picked.astype(np.int64))))

    def rows_of(self, figure_ids: Iterable[str]) -> npt.NDArray[np.int64]:
        """Row positions of figure ids.

        Raises:
            DataError: An id is not in the manifest.
        """
        index = self._row_index
        wanted = list(figure_ids)
        absent = [i for i in wanted if i not in index]
        if absent:
            raise DataError(f"{self.name} does not hold {count_noun(len(absent), 'figure')}, first {absent[0]!r}")
        return np.fromiter((index[i] for i in wanted), dtype=np.int64, count=len(wanted))

    @cached_property
    def _row_index(self) -> dict[str, int]:
        return {figure: row for row, figure in enumerate(self.ids)}

    @staticmethod
    def concat(manifests: Sequence[Manifest]) -> Manifest:
        """Rows of several manifests as one, images given by absolute paths.

        Where the images of one are not available, those of the pool are not, and a note says of which.

        Raises:
            DataError: Tasks differ, or a figure id occurs twice.
        """
        if len(manifests) == 1:
            return manifests[0]
        if len({m.task for m in manifests}) != 1:
            raise DataError("manifests of different tasks cannot be pooled; fix: pool one task at a time")
        tables = [m.table if m.root is None else _absolute(m) for m in manifests]
        name = "+".join(m.name for m in manifests)
        notes = tuple(note for m in manifests for note in m.notes)
        bare = [m.name for m in manifests if m.root is None]
        if 0 < len(bare) < len(manifests):
            notes = (*notes, f"the images of {', '.join(bare)} are {NOT_AT_HAND}")
        pooled = Manifest(
            pa.concat_tables(tables, promote_options="default"), name, manifests[0].task,
            None if bare else Path("/"), notes,
        )  # fmt: skip
        pooled.validate()
        return pooled

    def save(self, path: Path, private: bool = False) -> Path:
        """Writes the manifest as Parquet, atomically; ``private`` as for :func:`atypia.base.artifacts.atomic_file`."""
        meta = {"name": self.name, "task": self.task, "notes": list(self.notes), "fingerprint": self.fingerprint}
        if self.root is not None:
            inside = self.root == path.parent
            meta["root"] = "." if inside else str(self.root)
        table = self.table.replace_schema_metadata({METADATA_KEY: json.dumps(meta).encode()})
        with atomic_file(path, private=private) as file:
            pq.write_table(table, file, compression="zstd")
        return path

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Reads a manifest written by :meth:`save`.

        Raises:
            DataError: The file is absent, not a regular file, not a manifest, damaged, or its content differs from its
            fingerprint.
        """
        try:
            table = read_parquet(path)
        except FileNotFoundError:
            raise DataError(f"{path} does not exist; fix: check the path") from None
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is not a readable Parquet file ({error}); fix: build it again") from error
        raw = (table.schema.metadata or {}).get(METADATA_KEY)
        if raw is None or table.schema.names not in [one.names for one in SCHEMAS]:
            raise DataError(f"{path} is Parquet but not an Atypia manifest; fix: give a CSV, or import it")
        meta = _checked_metadata(raw, path)
        root = meta.get("root")
        manifest = cls(
            table.replace_schema_metadata(None),
            meta["name"],
            meta["task"],
            (path.parent if root == "." else Path(root)) if root else None,
            tuple(meta["notes"]),
        )
        try:
            manifest.validate()
            same = manifest.fingerprint == meta["fingerprint"]
        except (pa.ArrowException, UnicodeError) as error:  # texts that are not UTF-8, lists that leave their values
            raise DataError(f"{path} is damaged ({error}); fix: build it again") from error
        if not same:
            raise DataError(f"{path} was changed after it was written; fix: build it again")
        return manifest


def read_parquet(path: Path) -> pa.Table:
    """Reads a Parquet file whole, and only a regular file.

    Raises:
        DataError: It is not a regular file.
        OSError, pyarrow.ArrowException: It cannot be read, or is not Parquet.
    """
    with open_regular(path) as file:
        return pq.read_table(file)


def _checked_metadata(raw: bytes, path: Path) -> dict[str, Any]:
    """The metadata of a manifest's file, with types checked."""
    meta = parse_json(raw, f"the metadata of {path}", fix="build it again")
    if isinstance(meta, dict) and isinstance(meta.get("notes"), list):
        texts = [meta.get("name"), meta.get("task"), meta.get("fingerprint"), meta.get("root") or "", *meta["notes"]]
        if all(isinstance(text, str) and "\0" not in text for text in texts):
            return meta
    raise DataError(f"{path} is damaged (its metadata are not a manifest's); fix: build it again")


def domain_name(scanner: str | None, origin: str | None, species: str | None, tumour: str | None) -> str | None:
    """Name of a domain: its known parts joined by « | »; None if nothing is known.

    >>> domain_name("Aperio CS2", "UMC Utrecht", "human", "breast cancer")
    'Aperio CS2 | UMC Utrecht | human | breast cancer'
    """
    known = [part for part in (scanner, origin, species, tumour) if part]
    return " | ".join(known) or None


def _completed(row: Mapping[str, Any]) -> dict[str, Any]:
    full = {key: _known(key, value) for key, value in row.items()}
    votes = full.get(r.VOTES)
    if votes is not None:
        given = [vote for vote in votes if vote is not None]
        if full.get(r.N_RATERS) is None:
            full[r.N_RATERS] = len(given)
        if full.get(r.SOFT_LABEL) is None and given:
            full[r.SOFT_LABEL] = sum(given) / len(given)
    if full.get(r.DOMAIN) is None:
        full[r.DOMAIN] = domain_name(*(full.get(part) for part in r.DOMAIN_PARTS))
    return full


def _known(column: str, value: Any) -> Any:
    if column not in _DESCRIBING:
        return value
    if isinstance(value, float) and math.isnan(value):
        return None
    return cleaned_text(unicodedata.normalize("NFC", value)) if isinstance(value, str) else value


def _absolute(manifest: Manifest) -> pa.Table:
    assert manifest.root is not None
    paths = [str((manifest.root / image).resolve().relative_to("/")) for image in manifest.table[r.IMAGE].to_pylist()]
    position = manifest.table.schema.get_field_index(r.IMAGE)
    return manifest.table.set_column(position, SCHEMA.field(r.IMAGE), pa.array(paths, pa.string()))
