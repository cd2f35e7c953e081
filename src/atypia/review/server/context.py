"""The state that all routes of the server share."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Annotated, cast

from fastapi import Depends, Request

from atypia.reports.case.whole import WholeRate
from atypia.review.decisions.intake import DecisionIntake, UnknownError
from atypia.review.figures.features import Values, find_features
from atypia.review.figures.figures import ReviewFigures
from atypia.review.figures.learning import LabelErrors, label_errors
from atypia.review.media.crops import CropPictures
from atypia.review.media.slides import OpenSlides
from atypia.review.report.calibration import NextCommand, next_command
from atypia.review.report.final import CaseReport, make_report
from atypia.review.report.whole import errors_of, whole_of
from atypia.review.server.monitoring import Counters
from atypia.review.server.predicting import Predictor
from atypia.statistics.error_rates import KnownErrors


class Review:
    """An open review: the figures, the decisions on them, and the image caches.

    Args:
        figures: The opened figures.
        decisions: The decisions file.
        predictor: Classifies uploads; None without a model.
        rater: The rater, if given at the start.

    Raises:
        InputError: The decisions file belongs to other figures.
        WorkError: The decisions file is not writable, or is in use.
    """

    def __init__(
        self, figures: ReviewFigures, decisions: Path, predictor: Predictor | None = None, rater: str | None = None
    ) -> None:
        self.predictor = predictor
        self.intake = DecisionIntake(decisions, figures)
        self.slides = OpenSlides(figures.slides)
        self.crops = CropPictures(self.figures, self.slides)
        self.counters = Counters()
        self.rater = rater
        self._learning = Lock()
        if rater is not None:
            self.intake.join(rater)

    @property
    def figures(self) -> ReviewFigures:
        """The figures, with those that raters added."""
        return self.intake.figures

    def add(self, rater: str, slide: int, x_px: float, y_px: float) -> int:
        """Adds a figure; see :meth:`atypia.review.decisions.intake.DecisionIntake.add`."""
        index = self.intake.add(rater, slide, x_px, y_px)
        self.crops.figures = self.figures
        return index

    @cached_property
    def features(self) -> Values | None:
        """Features of the figures' data set, if they are in the cache."""
        manifest = self.figures.manifest
        return None if manifest is None else find_features(manifest, self.figures.runs)

    @cached_property
    def _errors(self) -> LabelErrors:
        return label_errors(self.figures)

    def likely_errors(self) -> LabelErrors:
        """Likely label errors, computed once; see :func:`atypia.review.figures.learning.label_errors`."""
        with self._learning:
            return self._errors

    @cached_property
    def _model_errors(self) -> KnownErrors:
        return errors_of(self.figures, None if self.predictor is None else self.predictor.model)

    def whole_rate(self, rater: str | None) -> WholeRate | None:
        """The rate of all figures; see :func:`atypia.review.report.whole.whole_of`."""
        return whole_of(self.figures, self.intake.decision_state, self._model_errors, rater)

    def next_command(self) -> NextCommand:
        """The command that calibrates the model with the decisions."""
        model = None if self.predictor is None else self.predictor.model
        return next_command(self.figures, self.intake.decision_state, model)

    def report(self) -> CaseReport:
        """The report of the decisions so far; see :func:`atypia.review.report.final.make_report`."""
        intake = self.intake
        events = intake.whole_log()
        return make_report(self.figures, intake.decision_state, events, self.slides, known=self._model_errors)

    def checked(self, index: int) -> int:
        """Returns the index if there is such a figure.

        Raises:
            UnknownError: There is no such figure.
        """
        if not 0 <= index < len(self.figures):
            raise UnknownError(f"there is no figure {index}; the last is {len(self.figures) - 1}")
        return index

    def close(self) -> None:
        """Closes every file and ends the worker."""
        self.slides.close()
        self.intake.close()
        if self.predictor is not None:
            self.predictor.close()


def review_of(request: Request) -> Review:
    """The open review of the server that a request came to."""
    return cast(Review, request.app.state.review)


Open = Annotated[Review, Depends(review_of)]
"""Type of an argument that is the open review."""
