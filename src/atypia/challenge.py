"""Entry point for the MIDOG 2025 challenge, track 2: a stack of crops in, a list of classes out.

``python -m atypia.challenge --input DIR --output DIR [--model MODEL]`` reads the interface's files: the
stack, one figure a page, from the folder that ``inputs.json`` names for
``stacked-histopathology-roi-cropouts`` (``images/stacked-histopathology-roi-cropouts`` where there is no such
file), and writes ``multiple-mitotic-figure-classification.json``: in page order, one
``{"class": "normal" or "atypical", "confidence": probability of atypical}`` a page.

Exit code 0; 1 for work that failed; 2 for input that cannot be used. Nothing is written then.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from atypia.base.errors import DataError, InputError, count_noun, must
from atypia.base.files.regularfiles import read_regular
from atypia.base.files.structured import parse_json
from atypia.base.process.crashes import run_guarded
from atypia.inference.export.challenge import ANSWER_FILE, SLUG

DEFAULT_FOLDER: Final = f"images/{SLUG}"
"""Where the stack lies, below the input folder."""
INPUTS_FILE: Final = "inputs.json"
MAX_INPUTS_BYTES: Final = 1 << 20
SUFFIXES: Final = (".tif", ".tiff")
SHOWN: Final = 3
"""Reasons that a message repeats."""


def find_stack(folder: Path) -> Path:
    """Finds the stack in an input folder.

    Args:
        folder: What the challenge mounts as ``/input``. A stack that lies directly in it is found too.

    Raises:
        InputError: There is no such folder, no stack, or more than one; or ``inputs.json`` is damaged,
            names another interface, or a place outside the folder.
    """
    if not folder.is_dir():
        raise InputError(must("--input", "a folder", f"{folder}, which is none", "name the mounted input folder"))
    place = folder / _relative_path(folder)
    if place.is_file():
        return place
    for where in (place, folder):
        found = _tiffs(where)
        if len(found) > 1:
            names = ", ".join(path.name for path in found[:SHOWN])
            got = f"{len(found)} ({names}{' …' if found[SHOWN:] else ''})"
            raise InputError(must(str(where), "a folder with one stack", got, "run once a stack"))
        if found:
            return found[0]
    raise InputError(
        must(str(place), "a folder with a TIFF stack", "none", f"put the stack there, as {DEFAULT_FOLDER}/NAME.tiff")
    )


def classify(stack: Path, models: Sequence[str | Path] = ()) -> list[dict[str, Any]]:
    """Classifies the pages of a stack.

    Args:
        stack: A TIFF, one crop a page.
        models: Bundles' folders, exported networks or names of shipped models, averaged where there are
            several; none for the shipped one.

    Returns:
        In page order, ``class`` (the name of the decided class) and ``confidence`` (the calibrated
        probability of atypical, in [0, 1]). The interface has no place for «uncertain» or «refused».

    Raises:
        DataError: A page cannot be read, as the answer has no place for a figure without one.
        AbsentError: A model is not here.
    """
    from atypia.data.slides.stacks import stack_pages
    from atypia.inference.classifier import SHIPPED, Classifier

    classifier = Classifier.load(models or SHIPPED)
    answers: list[dict[str, Any]] = []
    refused = []
    for found in classifier.judged_crops(stack_pages(stack, classifier.geometry)):
        if not isinstance(found, tuple):
            refused.append(found.reason)
            continue
        _, verdicts = found
        answers += [
            {"class": classifier.classes[decision], "confidence": p}
            for decision, p in zip(verdicts.decision.tolist(), verdicts.p.tolist(), strict=True)
        ]
    if refused:
        raise DataError(
            f"{len(refused)} of {len(refused) + len(answers)} pages cannot be read, and the answer has no place for "
            f"a page without a class: {'; '.join(refused[:SHOWN])}"
        )
    return answers


def run(source: Path, target: Path, models: Sequence[str | Path] = ()) -> Path:
    """Reads the input folder and writes the answer.

    Args:
        source: The input folder.
        target: The output folder.
        models: As for :func:`classify`.

    Returns:
        The file written.

    Raises:
        AtypiaError: As :func:`find_stack` and :func:`classify`, or the answer cannot be written.
    """
    from atypia.base.artifacts import write_json
    from atypia.base.records import ATYPICAL, ATYPICAL_TASK, CLASS_NAMES

    answers = classify(find_stack(source), models)
    path = target / ANSWER_FILE
    write_json(path, answers)
    atypical = sum(answer["class"] == CLASS_NAMES[ATYPICAL_TASK][ATYPICAL] for answer in answers)
    sys.stderr.write(f"{count_noun(len(answers), 'figure')}, {atypical} of them atypical: {path}\n")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the entry point.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m atypia.challenge", description="Classify a stack of mitotic figures (MIDOG 2025, track 2)."
    )
    parser.add_argument("--input", type=Path, required=True, metavar="DIR", help="the mounted input folder")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the answer")
    parser.add_argument(
        "--model", action="append", default=[], metavar="MODEL",
        help="a bundle's folder, an exported network or a shipped model; may be repeated (default: the shipped one)",
    )  # fmt: skip
    given = parser.parse_args(arguments)

    def answer() -> int:
        run(given.input, given.output, given.model)
        return 0

    return run_guarded(answer)


def _relative_path(folder: Path) -> str:
    """Where the stack lies below the input folder."""
    file = folder / INPUTS_FILE
    if not file.exists():
        return DEFAULT_FOLDER
    try:
        listed = parse_json(read_regular(file, MAX_INPUTS_BYTES), INPUTS_FILE)
    except (OSError, DataError) as error:
        raise InputError(f"{file} is damaged ({error}); fix: mount the challenge's own file") from error
    try:
        places = {str(entry["interface"]["slug"]): str(entry["interface"]["relative_path"]) for entry in listed}
    except (KeyError, TypeError) as error:
        expected = "a list of inputs, each with interface.slug and interface.relative_path"
        raise InputError(must(str(file), expected, "something else", "mount the challenge's own file")) from error
    if SLUG not in places:
        got = ", ".join(sorted(places)) or "no input"
        raise InputError(must(str(file), f"a list with the input {SLUG}", got, "choose the algorithm of track 2"))
    place = PurePosixPath(places[SLUG])
    if place.is_absolute() or ".." in place.parts:
        raise InputError(must(f"{INPUTS_FILE} relative_path", "below the input folder", str(place), "correct it"))
    return str(place)


def _tiffs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
