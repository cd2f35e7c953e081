"""Figures that raters add on a slide: mitoses that the opened data does not have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from atypia.review.figures.figures import UNKNOWN_LABEL, Coded, ReviewFigures, Zeros


@dataclass(frozen=True)
class AddedPlace:
    """Where a figure was added.

    Attributes:
        slide: File name of the slide.
        number: Its position among the slides when the figure was added.
        x_px: Centre on the slide's canvas, in its level-0 pixels.
        y_px: Likewise, downwards.
    """

    slide: str
    number: int
    x_px: float
    y_px: float


def with_added(figures: ReviewFigures, figure_id: str, place: AddedPlace) -> ReviewFigures:
    """The figures and one more, after them; nothing but its place is known.

    It gets the case, the stated µm/px and the origin of positions that the other figures of its slide share. Where the
    slide is not among the opened ones, the figure has no image.
    """
    slide = _slide_of(figures, place)
    beside = np.flatnonzero(figures.slide == slide) if slide >= 0 else np.empty(0, np.int64)
    like = int(beside[0]) if len(beside) else None
    zeros = figures.zeros
    if zeros is not None:
        x, y, bounds = (
            (0.0, 0.0, False) if like is None else (zeros.x_px[like], zeros.y_px[like], zeros.from_bounds[like])
        )
        zeros = Zeros(_more(zeros.x_px, x), _more(zeros.y_px, y), _more(zeros.from_bounds, bounds))
    image = str(figures.slides[slide]) if slide >= 0 else place.slide
    mpp = figures.mpp[like] if like is not None and bool(figures.cut[like]) else np.nan
    return replace(
        figures,
        ids=_more_texts(figures.ids, figure_id),
        images=_more_texts(figures.images, image),
        slide=_more(figures.slide, slide),
        x_px=_more(figures.x_px, place.x_px),
        y_px=_more(figures.y_px, place.y_px),
        cut=_more(figures.cut, slide >= 0),
        mpp=_more(figures.mpp, mpp),
        side_px=_more(figures.side_px, np.nan),
        case=_more_coded(figures.case, like),
        domain=_more_coded(figures.domain, like),
        call=_more_coded(figures.call, None),
        p=_more(figures.p, np.nan),
        novelty=_more(figures.novelty, np.nan),
        label=_more(figures.label, UNKNOWN_LABEL),
        votes=None
        if figures.votes is None
        else pa.chunked_array([*figures.votes.chunks, pa.nulls(1, figures.votes.type)]),
        rows=_more(figures.rows, -1),
        assumed=None if figures.assumed is None else _more(figures.assumed, False),
        zeros=zeros,
        opened=figures.opened or figures,
    )


def _slide_of(figures: ReviewFigures, place: AddedPlace) -> int:
    named = [number for number, path in enumerate(figures.slides) if path.name == PurePath(place.slide).name]
    return place.number if place.number in named else named[0] if len(named) == 1 else -1


def _more(values: npt.NDArray[Any], value: object) -> npt.NDArray[Any]:
    return np.concatenate([values, np.array([value], values.dtype)])


def _more_texts(texts: pa.ChunkedArray, text: str) -> pa.ChunkedArray:
    return pa.chunked_array([*texts.chunks, pa.array([text], texts.type)])


def _more_coded(column: Coded, like: int | None) -> Coded:
    return Coded(column.names, _more(column.codes, -1 if like is None else column.codes[like]))
