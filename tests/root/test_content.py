"""Content hashes: equal tables are equal, however they are laid out."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base.files.table_hash import content_hashes

SCHEMA = pa.schema([("s", pa.string()), ("f", pa.float64()), ("i", pa.int8()), ("l", pa.list_(pa.string()))])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "s": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
            "f": st.none() | st.floats(allow_nan=False),
            "i": st.none() | st.integers(-128, 127),
            "l": st.none() | st.lists(st.none() | st.sampled_from(["", "a", "bc"]), max_size=3),
        }
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(ROWS, st.integers(0, 12))
def test_chunks_slices_copies_and_files_do_not_matter(rows: list[dict[str, object]], cut: int) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    expected = content_hashes(table)
    assert content_hashes(pa.concat_tables([table.slice(0, cut), table.slice(cut)])) == expected
    assert content_hashes(pa.concat_tables([table, table]).slice(len(rows))) == expected
    assert content_hashes(table.take(pa.array(range(len(rows))))) == expected
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=3)
    assert content_hashes(pq.read_table(sink)) == expected


@settings(max_examples=30, deadline=None)
@given(ROWS, ROWS)
def test_different_tables_have_different_hashes(a: list[dict[str, object]], b: list[dict[str, object]]) -> None:
    first, second = (pa.Table.from_pylist(rows, schema=SCHEMA) for rows in (a, b))
    assert (content_hashes(first) == content_hashes(second)) == (repr(first.to_pylist()) == repr(second.to_pylist()))


def test_what_lies_under_a_null_does_not_matter() -> None:
    valid = pa.array([True, False, True]).buffers()[1]
    hidden = pa.Array.from_buffers(pa.float64(), 3, [valid, pa.py_buffer(np.array([1.0, 7.0, 3.0]))])
    assert content_hashes(pa.table({"f": hidden})) == content_hashes(pa.table({"f": [1.0, None, 3.0]}))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (["ab", "c"], ["a", "bc"]),
        ([None, "a"], ["a", None]),
        (["", None], [None, ""]),
        ([["a"], ["b"]], [["a", "b"], []]),
    ],
)
def test_boundaries_and_nulls_count(a: list[object], b: list[object]) -> None:
    assert content_hashes(pa.table({"x": a})) != content_hashes(pa.table({"x": b}))
