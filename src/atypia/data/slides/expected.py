"""How many figures are to come, as far as that is known before they are read: for progress bars."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from atypia.data.sources.layouts import IMAGE_SUFFIXES, walk_files

MOST_COUNTED: Final = 200_000
"""Files that are counted in folders beforehand; where there are more, their number stays open."""


@dataclass
class FiguresToCome:
    """Figures of the inputs that were opened so far.

    Attributes:
        figures: Their number.
        is_open: Whether there are inputs whose figures are not counted yet.
        uncounted: Whether there was one whose figures are too many to count beforehand.
    """

    figures: int = 0
    is_open: bool = True
    uncounted: bool = False

    @property
    def total(self) -> int:
        """All figures; 0 while that is not known."""
        return 0 if self.is_open else self.figures

    def add(self, figures: int | None, last: bool) -> None:
        """Counts an input.

        Args:
            figures: Its figures; None where they were not counted, which leaves the total open for good.
            last: Whether no other input follows.
        """
        self.figures += figures or 0
        self.uncounted = self.uncounted or figures is None
        self.is_open = not last or self.uncounted


def count_images(inputs: Iterable[str]) -> int | None:
    """The image files that inputs name, by their suffixes, without opening them; None for more than :data:`MOST_COUNTED`."""
    count = 0
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            files = (file for file in walk_files(path) if file.suffix.lower() in IMAGE_SUFFIXES)
        elif path.exists():
            files = iter([path])
        else:
            files = (file for name in glob.iglob(given, recursive=True) if (file := Path(name)).is_file())  # noqa: PTH207
        count += sum(1 for _ in islice(files, MOST_COUNTED + 1 - count))
        if count > MOST_COUNTED:
            return None
    return count
