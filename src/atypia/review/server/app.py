"""The server's application: routes, access control, and errors as ``{"detail": text}``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from atypia.base.errors import AbsentError, AtypiaError, InputError, WorkError
from atypia.base.version import VERSION
from atypia.review.decisions.intake import ConflictError, UnknownError
from atypia.review.server.context import Review
from atypia.review.server.monitoring import Counting
from atypia.review.server.predicting import DiedError
from atypia.review.server.routes import decisions, exchange, figures, page, predict, slides
from atypia.review.server.safety import Access, Guard
from atypia.review.server.schemas import Problem

STATIC: Final = Path(__file__).parents[1] / "static"
REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        400: "The body cannot be read",
        401: "A token is needed",
        403: "A change requested from another site",
        404: "Not found",
        405: "Method not allowed",
        408: "The body took too long to arrive",
        409: "The data has changed in between, or this is not available here",
        413: "The request is too large",
        421: "The host name is not this machine's",
        422: "The request is not valid",
        503: "Work failed; nothing was changed",
    }.items()
}
STATUS: Final[dict[type[AtypiaError], int]] = {
    UnknownError: 404,
    ConflictError: 409,
    AbsentError: 409,
    DiedError: 503,
    WorkError: 503,
    InputError: 422,
    AtypiaError: 503,
}
"""Status of each kind of error, the most specific first."""


def create_app(review: Review, access: Access) -> FastAPI:
    """The application.

    Args:
        review: The open review; the caller closes it.
        access: Access control.
    """

    app = FastAPI(
        title="Atypia review",
        version=VERSION,
        description="Figures, decisions of several raters, slides and exports. The page uses only this API.",
        # The interactive documentation pages load scripts from other sites; /openapi.json is available.
        docs_url=None,
        redoc_url=None,
        responses=REFUSALS,
        middleware=[Middleware(Counting, counters=review.counters), Middleware(Guard, access=access)],
    )
    app.state.review = review
    for part in (page, figures, decisions, slides, exchange, predict):
        app.include_router(part.router)
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False), name="static")
    app.add_exception_handler(AtypiaError, _refused)
    app.add_exception_handler(StarletteHTTPException, _refused_by_framework)
    app.add_exception_handler(RequestValidationError, _not_valid)
    return app


async def _refused(request: Request, error: Exception) -> JSONResponse:
    status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    return JSONResponse({"detail": _sayable(str(error))}, status)


async def _refused_by_framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException | HTTPException)
    return JSONResponse({"detail": _sayable(str(error.detail))}, error.status_code, error.headers)


async def _not_valid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [
        f"`{'.'.join(str(part) for part in fault['loc'][1:]) or 'body'}`: {fault['msg']}" for fault in error.errors()
    ]
    return JSONResponse({"detail": _sayable("; ".join(faults))}, 422)


def _sayable(text: str) -> str:
    """The text with characters replaced that UTF-8 cannot encode: file names may contain them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
