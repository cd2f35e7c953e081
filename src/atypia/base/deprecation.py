"""How a name, option or key that goes away says so; how long it stays is in docs/stability.md."""

from __future__ import annotations

import warnings


class AtypiaDeprecationWarning(FutureWarning):
    """Something of the public interface that the next minor version does not have.

    A :class:`FutureWarning`, so that Python shows it to everybody and not to developers alone.
    """


def warn_deprecated(what: str, instead: str, removed_in: str, stacklevel: int = 2) -> None:
    """Warns that something goes away; what it did is done as before.

    Args:
        what: What was used, as its user wrote it.
        instead: What to write from now on.
        removed_in: The first version without it.
        stacklevel: Frames up to the code of the user; 2 for the caller of the function that warns.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always")
    ...     warn_deprecated("`predict_files`", "`predict`", "0.3")
    >>> str(told[0].message)
    '`predict_files` is deprecated and goes away in 0.3; fix: use `predict`'
    """
    text = f"{what} is deprecated and goes away in {removed_in}; fix: use {instead}"
    warnings.warn(text, AtypiaDeprecationWarning, stacklevel=stacklevel + 1)
