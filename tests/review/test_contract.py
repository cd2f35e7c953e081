"""Requests made up from the API's own description find no server error and no answer that it does not describe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from atypia.review.figures.figures import ReviewFigures
from atypia.review.server.app import create_app
from atypia.review.server.safety import Access

schemathesis = pytest.importorskip("schemathesis")

TOKEN = "a token of forty characters, made for test"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "X-Atypia": "1"}


@pytest.fixture
def api(scored: ReviewFigures, reviewing: Callable) -> Any:
    """The API of a review with predictions and two raters; the token stands for any host."""
    client = reviewing(scored, "Ada", "Ben")
    app = create_app(client.review, Access("0.0.0.0", TOKEN))
    return schemathesis.openapi.from_asgi("/openapi.json", app, headers=HEADERS)


OPERATIONS = 27
"""Addresses and methods that are described."""


def test_no_server_error(api: Any) -> None:
    """Whatever is sent, the answer is one that is described."""
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

    checks = [not_a_server_error, response_schema_conformance, status_code_conformance]
    tried = []
    for result in api.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=6,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=operation.as_strategy())
        def sent(case: Any) -> None:
            case.call_and_validate(headers=HEADERS, checks=checks)

        sent()
        tried.append(operation.label)
    assert len(tried) == OPERATIONS, tried
