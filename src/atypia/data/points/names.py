"""Assigns points to slides: one rule for tables, databases and folders of points.

The first rule that finds a match decides:

1. the full path;
2. the relative path: the whole name in the file, including folders, is the end of the slide's path; the longest match;
3. the file name, in other folders than stated; the match that shares most of the path;
4. «name - series», as written by QuPath, by the rules above;
5. the same without an image suffix (``.svs``, ``.ome.tif``; ``S21-100.2`` has none).

If nothing matches, case and Unicode form (é as one character or two) are ignored. If several names match equally, the
points are refused and the names listed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import walk
from pathlib import Path, PurePosixPath
from typing import Final

from atypia.base.errors import DataError, InputError, must
from atypia.data.points.zarrfolders import PLACES, arrays_in, is_zarr

IMAGE_SUFFIXES: Final = (
    ".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi", ".png",
    ".jpg", ".jpeg", ".bmp", ".webp", ".jp2", ".isyntax", ".qptiff", ".vsi", ".lif", ".nd2", ".zarr", ".gif", ".btf",
)  # fmt: skip
"""Suffixes that a slide's name may have; anything else after a dot belongs to the name."""
POINTS_SUFFIXES: Final = (
    ".geojson",
    ".json",
    ".csv",
    ".tsv",
    ".txt",
    ".sqlite",
    ".sqlite3",
    ".db",
    ".xml",
    ".ndpa",
    ".zarr",
)
"""Suffixes of files of points."""
SERIES: Final = " - "
SHOWN_NAMES: Final = 5

Parts = tuple[str, ...]
Fold = Callable[[str], str]


@dataclass(frozen=True)
class Match:
    """The name that matches a slide.

    Attributes:
        name: As given.
        exact: Whether it is the slide's path, its end, or its name without suffix; otherwise a note is shown.
    """

    name: str
    exact: bool


def bare_stem(name: str) -> str:
    """A file's name without its image suffix.

    >>> bare_stem("a.ome.tif"), bare_stem("S21-100.2"), bare_stem("S21-100.2.SVS")
    ('a', 'S21-100.2', 'S21-100.2')
    """
    lower = name.casefold()
    for suffix in IMAGE_SUFFIXES:
        if lower.endswith(suffix) and len(name) > len(suffix):
            cut = name[: -len(suffix)]
            return cut[:-4] if cut.casefold().endswith(".ome") and len(cut) > 4 else cut
    return name


def match(slide: str | Path, names: Iterable[str], beside: Sequence[str | Path] = ()) -> Match | None:
    """The name that matches a slide; None if none does.

    Args:
        slide: The slide's path; a relative path is below the current folder.
        names: Slide names in a file of points: names or paths, with ``/`` or ``\\``.
        beside: Other slides that the names may match; a name that matches one of them better belongs to it.

    Raises:
        DataError: Several names match equally; lists them.
    """
    distinct = list(dict.fromkeys(names))
    parts = {name: _parts(name) for name in distinct}
    own = [_rank(slide, parts, fold) for fold in (_as_is, loose)]
    for ranks, exact in zip(own, (True, False), strict=True):
        theirs = [_rank(other, parts, _as_is if exact else loose) for other in beside]
        free = {n: rank for n, rank in ranks.items() if all(rank <= other[n] for other in theirs if n in other)}
        best = min(free.values(), default=None)
        if best is None:
            continue
        fitting = [name for name, rank in free.items() if rank == best]
        # «./a.svs» and «a.svs» are one name.
        if len({parts[name] for name in fitting}) > 1:
            raise DataError(must(f"slide of the points on {slide}", "one", _listed(fitting), "rename all but one"))
        return Match(fitting[0], exact and best[1] <= _RELATIVE)
    return None


def matching(slide: str | Path, names: Sequence[str], beside: Sequence[str | Path] = ()) -> tuple[list[bool], Match]:
    """Which of many names, one per figure, stand for a slide.

    Returns:
        One truth value a name, and what they match.

    Raises:
        DataError: None or several of the names match; lists some of them.
    """
    found = match(slide, names, beside)
    if found is None:
        there = sorted(set(names))
        shown = _listed(there)
        name = Path(slide).name
        fix = "use the slide's file name in the file of points"
        raise DataError(f"no point is on {name!r}; the points are on {len(there)} others: {shown}; fix: {fix}")
    wanted = _parts(found.name)
    same = {name: _parts(name) == wanted for name in dict.fromkeys(names)}
    return [same[name] for name in names], found


def points_file(points: Path, slide: str | Path) -> Path:
    """The file of points of a slide: ``NAME.geojson`` or ``NAME.EXT.geojson`` (or ``.csv`` …) where a folder is given.

    Files at the top of the folder take precedence over those in folders below, where the path counts as for names in tables.
    A Zarr folder that holds points counts as a file.

    Args:
        points: A file or a Zarr folder, which is given back; or a folder of such.
        slide: The slide's path.

    Raises:
        InputError: There is none, or several; lists them.
    """
    if not points.is_dir() or is_zarr(points):
        return points
    folder = points
    top = sorted(
        path.name for path in folder.iterdir() if (path.is_file() or _holds(path)) and not path.name.startswith(".")
    )
    for listed in (lambda: top, lambda: _below(folder)):
        found = _of_slide(slide, listed())
        if len(found) > 1:
            got = _listed(found)
            raise InputError(must(f"points of {Path(slide).name} in {folder}", "one file", got, "keep one of them"))
        if found:
            return folder / found[0]
    name = Path(slide).name
    expected = f"a file named {bare_stem(name)}.geojson or {name}.geojson (or .csv, .json …)"
    raise InputError(must(f"points in {folder}", expected, f"none of {len(top)} files", "rename it"))


def _of_slide(slide: str | Path, files: Sequence[str]) -> list[str]:
    """The files whose name without the points suffix is the slide's name, in file order."""
    bases = {file: file[: -len(suffix)] for file in files if (suffix := _points_suffix(file)) is not None}
    own = Path(slide).name
    for fold in (_as_is, loose):
        wanted = {fold(own), fold(bare_stem(own))}
        plain = [file for file, base in bases.items() if fold(_parts(base)[-1]) in wanted]
        folders = {base.rpartition("/")[0] for file, base in bases.items() if file in plain}
        if plain and len(folders) == 1:
            return plain  # «HE.svs.geojson» beside «HE.geojson»: ambiguous
    try:
        found = match(slide, bases.values())
    except DataError:
        return [file for file, base in bases.items() if match(slide, [base])]
    return [] if found is None else [file for file, base in bases.items() if base == found.name]


def _points_suffix(file: str) -> str | None:
    lower = file.casefold()
    return next((suffix for suffix in POINTS_SUFFIXES if lower.endswith(suffix) and len(file) > len(suffix)), None)


def _below(folder: Path) -> list[str]:
    found: list[Path] = []
    for at, folders, names in walk(folder):
        zarr = [name for name in folders if is_zarr(Path(at, name))]
        folders[:] = [name for name in folders if name not in zarr]  # their files are parts of arrays
        found += [Path(at, name) for name in (*names, *(name for name in zarr if _holds(Path(at, name))))]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _holds(path: Path) -> bool:
    """Whether a path is a Zarr folder with points, not with an image."""
    return is_zarr(path) and arrays_in(path).issuperset(PLACES)


Rank = tuple[int, int, int]
"""How well a name matches, lower is better: whether suffixes were removed, the rule, minus the number of equal path parts."""
_FULL, _RELATIVE, _NAME, _SERIES = range(4)


def _rank(slide: str | Path, names: dict[str, Parts], fold: Fold) -> dict[str, Rank]:
    """How well each name matches a slide, for matching names only."""
    full = tuple(fold(part) for part in _parts(str(Path(slide).absolute())))
    bare = (*full[:-1], bare_stem(full[-1]))
    ranks: dict[str, Rank] = {}
    for name, parts in names.items():
        own = tuple(fold(part) for part in parts)
        if not own:
            continue
        if own == full:
            ranks[name] = (0, _FULL, 0)
        elif (fits := _by_path(full, own)) is not None:
            ranks[name] = (0, *fits)
        elif (fits := _by_path(bare, (*own[:-1], bare_stem(own[-1])))) is not None:
            rule, common = fits
            suffix = bare_stem(own[-1]) != own[-1]  # a suffix other than the slide's
            ranks[name] = (1, max(rule, _NAME) if suffix else rule, common)
    return ranks


def _by_path(slide: Parts, name: Parts) -> tuple[int, int] | None:
    """The rule by which a name matches, and minus the number of equal parts."""
    series = name[-1].startswith(slide[-1] + SERIES)
    if name[-1] != slide[-1] and not series:
        return None
    common = 1
    while common < min(len(name), len(slide)) and name[-1 - common] == slide[-1 - common]:
        common += 1
    return (_SERIES if series else _RELATIVE if common == len(name) else _NAME), -common


def _parts(name: str) -> Parts:
    return tuple(part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in (".", "/"))


def _as_is(text: str) -> str:
    return text


def loose(text: str) -> str:
    """Text without case and in one Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN_NAMES])
    return f"{shown} …" if len(names) > SHOWN_NAMES else shown
