"""Hashes of a table's content, independent of its memory layout."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def content_hashes(table: pa.Table) -> dict[str, dict[str, str]]:
    """Hashes of each column's content, by column name; equal tables give equal hashes."""
    return {name: _content(table[name]) for name in table.column_names}


def _content(column: pa.ChunkedArray) -> dict[str, str]:
    """Hashes of a column's content: null mask, lengths, and values.

    Independent of Arrow's layout: a table read from a file has other chunks, bitmaps and
    offsets than an equal table built in memory.
    """
    digests: dict[str, Any] = defaultdict(lambda: hashlib.blake2b(digest_size=16))
    for chunk in column.chunks:
        _absorb(chunk, digests, "")
    return {key.strip(): digests[key].hexdigest() for key in sorted(digests)}


def _absorb(array: pa.Array, digests: dict[str, Any], key: str) -> None:
    digests[f"{key} valid"].update(array.is_valid().to_numpy(zero_copy_only=False).tobytes())
    present = array.drop_null()
    if pa.types.is_list(array.type):
        lengths = pc.list_value_length(present)  # pyright: ignore[reportAttributeAccessIssue]
        digests[f"{key} length"].update(lengths.to_numpy(zero_copy_only=False).tobytes())
        _absorb(present.flatten(), digests, f"{key} item")
    elif pa.types.is_string(array.type):
        lengths = pc.binary_length(present)  # pyright: ignore[reportAttributeAccessIssue]
        digests[f"{key} length"].update(lengths.to_numpy(zero_copy_only=False).tobytes())
        digests[f"{key} value"].update("".join(present.to_pylist()).encode())
    else:
        digests[f"{key} value"].update(present.to_numpy(zero_copy_only=False).tobytes())
