"""Tables as pandas data frames, where pandas is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atypia.base.errors import AbsentError

if TYPE_CHECKING:
    import pyarrow as pa


def data_frame(table: pa.Table) -> Any:
    """A ``pandas.DataFrame`` of a table; null becomes None or NaN.

    Raises:
        AbsentError: pandas is not installed.

    >>> import pyarrow as pa
    >>> list(data_frame(pa.table({"p_atypical": [0.5, 0.25]})).columns)
    ['p_atypical']
    """
    try:
        import pandas  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise AbsentError("pandas is not installed, and a data frame needs it; fix: pip install pandas") from None
    return table.to_pandas()
