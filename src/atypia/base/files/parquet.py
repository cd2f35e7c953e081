"""Parquet files that somebody names."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from atypia.base.errors import DataError
from atypia.base.files.regularfiles import open_regular


def read_parquet(path: Path, fix: str) -> pa.Table:
    """Reads a whole table.

    Args:
        path: The file.
        fix: How to come by a file that can be read, for messages.

    Raises:
        DataError: The file is absent, no regular file, or no readable Parquet.
    """
    try:
        with open_regular(path) as file:
            return pq.read_table(file)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; fix: check the path") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error}); fix: {fix}") from error
