"""The process that decodes and classifies uploads: ``python -m atypia.review.server.worker MODEL``.

It speaks JSON lines: a first line describes the model, then each request and each answer is one line.
It may crash on a file: the server then starts another.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from atypia.base.errors import AtypiaError, DataError
from atypia.base.process.crashes import run_guarded

if TYPE_CHECKING:
    from atypia.inference.classifier import Classifier

MEMORY_BYTES: Final = 8 << 30
"""Memory limit of the process in bytes: a file that needs more ends the process, not the server."""


CROP_PX: Final = 96
"""Largest side of the crops that an answer shows, in pixels."""


def main(arguments: Sequence[str]) -> int:
    """Answers requests until there are no more."""
    # Output that libraries print must not mix with the answers.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _limit()
    from atypia.inference.classifier import Classifier

    try:
        classifier = Classifier.load(arguments[0])
    except AtypiaError as error:
        _say(out, {"error": str(error)})
        return 1
    about = {"model": classifier.name, "threshold": classifier.threshold, "field_um": classifier.field_um}
    _say(out, about)
    for line in sys.stdin:
        request = json.loads(line)
        rows = classify_files(classifier, request["files"], int(request["most"]))
        _say(out, {"rows": rows} if rows is not None else {"too_many": True})
    return 0


def classify_files(classifier: Classifier, files: Sequence[Sequence[str]], most: int) -> list[dict[str, Any]] | None:
    """Rows of all crops in files, in order; None if there are more than ``most``.

    Args:
        classifier: Classifies them.
        files: Path and displayed name of each.
        most: Largest number of crops.
    """
    rows: list[dict[str, Any]] = []
    for path, name in files:
        try:
            for row in _rows(classifier, Path(path), most):
                row["figure_id"] = row["figure_id"].replace(Path(path).name, name, 1)
                if row["reason"]:
                    row["reason"] = row["reason"].replace(path, name).replace(Path(path).name, name)
                rows.append(row)
                if len(rows) > most:
                    return None
        except AtypiaError as error:
            reason = str(error).replace(path, name).replace(Path(path).name, name)
            rows.append(
                {
                    "figure_id": name,
                    "p_atypical": None,
                    "call": "refused",
                    "novelty": None,
                    "reason": reason,
                    "crop": None,
                }
            )
    return rows


def _rows(classifier: Classifier, path: Path, most: int) -> Iterator[dict[str, Any]]:
    from atypia.data.images.decoding import image_format
    from atypia.data.slides.stacks import stack_pages
    from atypia.data.slides.streams import crop_files
    from atypia.inference.results import rows_of

    with open(path, "rb") as file:
        kind = image_format(file.read(16))
    if kind is None:
        raise DataError(f"{path} is not a PNG, JPEG or TIFF; fix: upload crops in one of these formats")
    if kind == "TIFF":
        # The pages of any TIFF are classified one by one, each under the size limits of a crop.
        items = stack_pages(path, classifier.geometry, max_pages=most)
    else:
        items = crop_files([path], classifier.geometry, workers=1)
    wanted = ("figure_id", "p_atypical", "call", "novelty", "reason")
    for crops, batch in classifier.judged(items):
        pixels = getattr(crops, "crops", None)  # a refusal has none
        for number, row in enumerate(rows_of(batch)):
            yield {key: row[key] for key in wanted} | {"crop": None if pixels is None else _thumbnail(pixels[number])}


def _thumbnail(pixels: Any) -> str:
    """A crop as the text of a JPEG that a page can show."""
    import base64
    import io

    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((CROP_PX, CROP_PX))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _say(out: Any, value: dict[str, Any]) -> None:
    out.write(json.dumps(value, allow_nan=False) + "\n")
    out.flush()


def _limit() -> None:
    try:
        import resource
    except ImportError:
        return  # not available on this system
    for what, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_DATA, MEMORY_BYTES)):
        _, hard = resource.getrlimit(what)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (limit, hard))


if __name__ == "__main__":
    sys.exit(run_guarded(lambda: main(sys.argv[1:])))
