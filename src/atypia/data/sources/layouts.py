"""Readers of the layouts of published sets, shared by the sources and by users' data.

Three layouts cover them all: crops in one subfolder per class; a table of crops beside a folder
of images; points on slides, as CSV or as COCO-like JSON.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atypia.base import records as r
from atypia.base.artifacts import MAX_JSON_BYTES, file_sha256
from atypia.base.errors import DataError, must
from atypia.base.files.regularfiles import read_regular
from atypia.base.files.structured import parse_json
from atypia.data.images.decoding import read_header
from atypia.data.textfiles import number, read_table

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Suffixes of crops, in lower case."""

CLASS_WORDS: Mapping[str, Mapping[str, int]] = {
    r.ATYPICAL_TASK: {
        "0": 0,
        "normal": 0,
        "nmf": 0,
        "typical": 0,
        "1": 1,
        "atypical": 1,
        "amf": 1,
    },
    r.MITOSIS_TASK: {
        "0": 0,
        "look-alike": 0,
        "hard negative": 0,
        "not mitotic figure": 0,
        "non-mitotic figure": 0,
        "non mitotic figure": 0,
        "1": 1,
        "mitotic": 1,
        "mitotic figure": 1,
    },
}
"""Class words of each task with their label, in lower case."""


def class_label(text: str | None, task: str = r.ATYPICAL_TASK) -> int | None:
    """The label for a class word; None for an empty one.

    Raises:
        KeyError: The word is not known.

    >>> class_label("AMF"), class_label(" Normal "), class_label(""), class_label("1.0")
    (1, 0, None, 1)
    """
    word = (text or "").strip().casefold()
    if word in ("0.0", "1.0"):  # as pandas writes a column of 0 and 1 that has gaps
        word = word[0]
    return CLASS_WORDS[task][word] if word else None


def existing_paths(folder: Path, patterns: Iterable[str]) -> Iterator[Path]:
    """The paths below a folder that match one of the patterns, in the patterns' order."""
    for pattern in patterns:
        if any(sign in pattern for sign in "*?["):
            yield from sorted(folder.glob(pattern))
        elif (folder / pattern).exists():
            yield folder / pattern


def first_existing(folder: Path, patterns: Iterable[str]) -> Path | None:
    """The first of :func:`existing_paths`; None if there is none."""
    return next(existing_paths(folder, patterns), None)


def majority(votes: Iterable[int | None]) -> int | None:
    """The majority label of the raters; None if they are tied or absent.

    >>> majority([1, None, 1, 0]), majority([1, 0])
    (1, None)
    """
    counts = Counter(vote for vote in votes if vote is not None)
    return None if counts[0] == counts[1] else int(counts[1] > counts[0])


# Files ----------------------------------------------------------------------------------------


def walk_files(folder: Path) -> Iterator[Path]:
    """All files below a folder in a stable order, without hidden ones.

    Links to folders are followed, each folder once, so that a link to a parent folder does not loop.
    """
    seen: set[str] = set()
    for directory, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(directory)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if not name.startswith(".") and name != "Thumbs.db":
                yield Path(directory) / name


def class_crops(folder: Path, task: str = r.ATYPICAL_TASK) -> tuple[list[tuple[Path, int]], list[Path]]:
    """Crops in one subfolder per class, at any depth.

    Args:
        folder: The folder.
        task: Task whose class words name the subfolders; the innermost one counts.

    Returns:
        Pairs of image and label; and the files that are not images or not in a class folder.
    """
    words = CLASS_WORDS[task]
    crops: list[tuple[Path, int]] = []
    others: list[Path] = []
    for path in walk_files(folder):
        inside = [part.casefold() for part in path.relative_to(folder).parts[:-1]]
        label = next((words[part] for part in reversed(inside) if part in words), None)
        if label is None or path.suffix.lower() not in IMAGE_SUFFIXES:
            others.append(path)
        else:
            crops.append((path, label))
    return crops, others


def published_crops(folder: Path, dataset: str) -> list[dict[str, Any]]:
    """Rows of a published set whose crops are in ``Atypical`` and ``Normal``.

    The figure id is the data set's name and the file's stem; where a stem occurs in both class
    folders the class is part of the id.
    """
    crops, _ = class_crops(folder)
    crops.sort(key=lambda crop: natural(crop[0].stem))
    repeated = {stem for stem, count in Counter(path.stem for path, _ in crops).items() if count > 1}
    return [
        {
            r.FIGURE_ID: f"{dataset}_{f'{path.parent.name}_' if path.stem in repeated else ''}{path.stem}",
            r.IMAGE: path.relative_to(folder).as_posix(),
            r.LABEL: label,
        }
        for path, label in crops
    ]


def natural(text: str) -> tuple[Any, ...]:
    """Sort key that puts 2 before 10.

    >>> sorted(["10", "2", "a1"], key=natural)
    ['2', '10', 'a1']
    """
    parts: list[tuple[int, int, str]] = []
    digits = ""
    for sign in text + "\0":
        if sign.isdecimal() and sign.isascii():
            digits += sign
            continue
        if digits:
            parts.append((0, int(digits), ""))
            digits = ""
        parts.append((1, 0, sign))
    return tuple(parts)


@dataclass(frozen=True)
class ImageFacts:
    """Facts about an image file, without decoding its pixels.

    Attributes:
        width_px: Width of its first page.
        height_px: Height of its first page.
        sha256: Of the file, 64 hex digits.
    """

    width_px: int
    height_px: int
    sha256: str


def image_facts(paths: Sequence[Path], workers: int | None = None) -> list[ImageFacts | str]:
    """Size and checksum of image files, in their order; a reason as text if there is none.

    Only the header is parsed: an image whose pixels are damaged is found by the crop store.
    """

    def facts(path: Path) -> ImageFacts | str:
        try:
            header = read_header(path)
            return ImageFacts(header.width_px, header.height_px, file_sha256(path))
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(workers or min(8, (os.cpu_count() or 1) * 2)) as pool:
        return list(pool.map(facts, paths))


def add_image_facts(rows: Sequence[dict[str, Any]], root: Path) -> list[tuple[int, str]]:
    """Fills size and checksum of crop rows from their files.

    Rows with a position are slides and are skipped: a slide is not read for hashing.

    Returns:
        Row position and reason for every image that cannot be read.
    """
    crops = [i for i, row in enumerate(rows) if row.get(r.X_PX) is None]
    bad: list[tuple[int, str]] = []
    for i, facts in zip(crops, image_facts([root / rows[i][r.IMAGE] for i in crops]), strict=True):
        if isinstance(facts, str):
            bad.append((i, facts))
        else:
            rows[i].update({r.WIDTH_PX: facts.width_px, r.HEIGHT_PX: facts.height_px, r.SHA256: facts.sha256})
    return bad


def make_unique(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Numbers repeated figure ids (``id``, ``id~2``, ``id~3``) and returns those that were repeated."""
    seen: Counter[str] = Counter()
    repeated: list[str] = []
    for row in rows:
        figure = row[r.FIGURE_ID]
        seen[figure] += 1
        if seen[figure] == 2:
            repeated.append(figure)
        if seen[figure] > 1:
            row[r.FIGURE_ID] = f"{figure}~{seen[figure]}"
    return repeated


# Points on slides -----------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelledPoint:
    """A labelled figure on a slide: file name, centre in pixels, label of the mitosis task.

    ``size_px`` is the slide's width and height where the annotations give it.
    """

    slide: str
    x_px: float
    y_px: float
    label: int
    size_px: tuple[int, int] | None = None


def points_csv(path: Path, labels: Mapping[str, int]) -> list[LabelledPoint]:
    """Points of a table with the columns ``x, y, label, filename``; x and y are centres in pixels.

    Args:
        path: The table.
        labels: Label of the mitosis task for each label code of the table.

    Raises:
        DataError: A column is missing, a position is not a number, a label code is not known.
    """
    table = read_table(path)
    table.require("x", "y", "label", "filename")
    points = []
    for row, line in zip(table.rows, table.lines, strict=True):
        where = f"{path.name}, line {line}"
        if row["label"] not in labels:
            raise DataError(f"{where}: {must('label', ' or '.join(labels), row['label'], 'check the file')}")
        x, y = number(row["x"], "x", where), number(row["y"], "y", where)
        points.append(LabelledPoint(row["filename"], x, y, labels[row["label"]]))
    return points


def points_coco(path: Path, task: str = r.MITOSIS_TASK) -> list[LabelledPoint]:
    """Points of COCO-like JSON as the MIDOG sets use it.

    A box is given by its corners (left, top, right, bottom), not by a corner and a size as in
    COCO; its centre is the figure's. Category names tell mitotic figures from look-alikes.

    Args:
        path: The file.
        task: Whose classes the categories are. Of the atypical task, categories that are none of its classes are left out:
            look-alikes, and mitotic figures that nobody has told normal from atypical.

    Raises:
        DataError: The file is no such JSON, or names a category or image that it does not list.
    """
    try:
        content = parse_json(read_regular(path, MAX_JSON_BYTES), path.name, fix="get the file again")
        images = {image["id"]: image for image in content["images"]}
        names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        if task == r.ATYPICAL_TASK:
            names = {number: name for number, name in names.items() if name.strip().casefold() in CLASS_WORDS[task]}
        categories = {number: class_label(name, task) for number, name in names.items()}
        points = []
        for note in content["annotations"]:
            if task == r.ATYPICAL_TASK and note["category_id"] not in categories:
                continue
            left, top, right, bottom = (float(side) for side in note["bbox"])
            image = images[note["image_id"]]
            label = categories[note["category_id"]]
            if label is None:
                raise DataError(f"{path.name}: a category without a name; fix: get the file again")
            size = (int(image["width"]), int(image["height"])) if "width" in image else None
            centre = ((left + right) / 2, (top + bottom) / 2)
            points.append(LabelledPoint(image["file_name"], *centre, label, size))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; fix: check the path") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path.name} is not in the published form ({error!r}); fix: get the file again") from error
    return points


def has_categories_of(path: Path, task: str) -> bool:
    """Whether COCO-like JSON has a category that is a class of a task.

    Raises:
        DataError: As :func:`points_coco`.
    """
    content = parse_json(read_regular(path, MAX_JSON_BYTES), path.name, fix="get the file again")
    entries = content.get("categories", ()) if isinstance(content, dict) else ()
    return any(str(entry.get("name", "")).strip().casefold() in CLASS_WORDS[task] for entry in entries)


def slide_root(folder: Path, slides: Iterable[str], subfolders: Sequence[str] = (".",)) -> Path | None:
    """The first subfolder with at least one of the slides; None if none does."""
    names = list(dict.fromkeys(slides))
    for sub in subfolders:
        root = folder if sub == "." else folder / sub
        if root.is_dir() and any((root / name).is_file() for name in names):
            return root
    return None


def slide_number(file_name: str, known: Container[int]) -> int:
    """The number that a slide's file name is (``007.tiff`` → 7).

    Raises:
        DataError: Not a number, or an unknown one.
    """
    stem = file_name.partition(".")[0]
    if not (stem.isascii() and stem.isdecimal()) or int(stem) not in known:
        raise DataError(f"slide {file_name!r} is none of the published ones; fix: get the annotations again")
    return int(stem)


def point_rows(points: Iterable[LabelledPoint], dataset: str) -> list[dict[str, Any]]:
    """Manifest rows of points: slide, centre, label and the slide's size where known.

    The figure id is the data set, the slide and the figure's number on it in the file's order,
    which is equal in the JSON and the table of a set (their positions differ by half a pixel).
    """
    counts: Counter[str] = Counter()
    rows = []
    for point in points:
        counts[point.slide] += 1
        width, height = point.size_px or (None, None)
        rows.append(
            {
                r.FIGURE_ID: f"{dataset}_{point.slide.rpartition('.')[0] or point.slide}_{counts[point.slide]}",
                r.IMAGE: point.slide,
                r.SLIDE_ID: point.slide,
                r.X_PX: point.x_px,
                r.Y_PX: point.y_px,
                r.LABEL: point.label,
                r.WIDTH_PX: width,
                r.HEIGHT_PX: height,
            }
        )
    return rows
