"""Reviews of small sets, and clients of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from atypia.review.figures.figures import ReviewFigures
from atypia.review.figures.from_tables import call_names
from atypia.review.figures.opening import Opening, open_figures
from atypia.review.server.app import create_app
from atypia.review.server.context import Review
from atypia.review.server.predicting import Predictor
from atypia.review.server.safety import Access

from .browser import chromium, serving  # noqa: F401  fixtures of the tests in a browser

ADDRESS = "http://127.0.0.1:8470"


class Client:
    """A client that says what a page of ours says."""

    def __init__(self, http: TestClient, review: Review) -> None:
        self.http = http
        self.review = review

    def get(self, path: str, **options: Any) -> Any:
        """The JSON of an address that must answer."""
        answer = self.http.get(path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, status: int = 201, **options: Any) -> Any:
        """The JSON of a write that must have this status."""
        answer = self.http.post(path, json=body, headers={"X-Atypia": "1"}, **options)
        assert answer.status_code == status, answer.text
        return answer.json()

    def decide(self, rater: str, index: int, decision: str | None, **more: Any) -> Any:
        """Takes in a decision."""
        return self.post("/decisions", {"rater": rater, "index": index, "decision": decision, **more})


@pytest.fixture
def reviewing(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Opens a review of figures, with a client; several may be opened one after the other."""
    with ExitStack() as stack:

        def opened(
            figures: ReviewFigures,
            *raters: str,
            decisions: str = "decisions.sqlite",
            predictor: Predictor | None = None,
            access: Access | None = None,
        ) -> Client:
            review = Review(figures, tmp_path / decisions, predictor)
            stack.callback(review.close)
            app = create_app(review, access or Access("127.0.0.1"))
            http = stack.enter_context(TestClient(app, base_url=ADDRESS))
            client = Client(http, review)
            for rater in raters:
                review.intake.join(rater)
            return client

        yield opened


@pytest.fixture
def figures(small_csv: Path) -> ReviewFigures:
    """80 crops of 32 px of 8 cases in 2 domains, with labels."""
    return open_figures(Opening((str(small_csv),)))


@pytest.fixture
def scored(figures: ReviewFigures) -> ReviewFigures:
    """The same with predictions: 0.8 and 0.2, falling by 0.001 a figure, wrong on every tenth; none of the last."""
    index = np.arange(80)
    p = np.where(figures.label == 1, 0.8, 0.2) - 0.001 * index
    p = np.where(index % 10 == 5, 1 - p, p)
    p[-1] = np.nan
    return replace(figures, p=p, call=call_names(p, 0.5), threshold=0.5, held_out=True)


@pytest.fixture
def client(figures: ReviewFigures, reviewing: Callable[..., Client]) -> Client:
    """A client of a review of :func:`figures` with two raters."""
    return reviewing(figures, "Ada", "Ben")
