"""Classifying uploaded crops."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from fastapi import APIRouter, File, UploadFile

from atypia.base.errors import AbsentError, InputError, must
from atypia.review.server.context import Open
from atypia.review.server.predicting import MAX_FILES
from atypia.review.server.schemas import Predicted, PredictedRow

router = APIRouter(tags=["predict"])
NAME_CHARACTERS = 120


@router.post("/predict")
def predict(review: Open, files: Annotated[list[UploadFile], File()]) -> Predicted:
    """Classifies crops: PNG, JPEG and TIFF files, a TIFF page by page. Uploads are not kept."""
    if review.predictor is None:
        raise AbsentError("the server has no model; fix: `atypia serve --model BUNDLE`")
    if len(files) > MAX_FILES:
        raise InputError(must("files", f"at most {MAX_FILES}", len(files), "send fewer at once, or stacks"))
    with TemporaryDirectory(prefix="atypia-upload-") as folder:
        waiting: list[tuple[Path, str]] = []
        names: set[str] = set()
        for number, upload in enumerate(files, 1):
            path = (
                Path(folder) / f"upload-{number:04d}"
            )  # our own file name: the uploaded name is displayed, never used as a path
            with open(path, "wb") as file:
                shutil.copyfileobj(upload.file, file)
            name = shown_name(upload.filename, number)
            while name in names:
                name = f"{name}~{number}"
            names.add(name)
            waiting.append((path, name))
        about, rows = review.predictor.rows(waiting)
    return Predicted(model=about.name, threshold=about.threshold, rows=[PredictedRow(**row) for row in rows])


def shown_name(given: str | None, number: int) -> str:
    """An uploaded file's own name, without folders and without invisible characters.

    >>> shown_name("../../etc/passwd", 1), shown_name("", 2)
    ('passwd', 'file 2')
    """
    last = (given or "").replace("\\", "/").rsplit("/", 1)[-1]
    seen = "".join(sign for sign in last if not unicodedata.category(sign).startswith("C")).strip()
    return seen[:NAME_CHARACTERS] or f"file {number}"
