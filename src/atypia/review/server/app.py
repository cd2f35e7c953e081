"""The server's application: addresses, guards, and errors as ``{"detail": text}``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from atypia import __version__
from atypia.base.errors import AbsentError, AtypiaError, InputError, WorkError
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
        403: "A write from elsewhere",
        404: "There is no such thing",
        405: "Not with this method",
        408: "The body took too long",
        409: "Something else happened in between, or it is not to be had here",
        413: "Too much at once",
        421: "Not this machine's name",
        422: "What was asked for is not valid",
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
"""Status of each kind of error, the most particular first."""


def create_app(review: Review, access: Access) -> FastAPI:
    """The application.

    Args:
        review: What is reviewed; who made it closes it.
        access: Who may call it.
    """

    app = FastAPI(
        title="Atypia review",
        version=__version__,
        description="Figures, decisions of several raters, slides and exports. Everything the page does goes through it.",
        # The interactive pages load scripts from elsewhere; /openapi.json is there.
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
    """What UTF-8 can say: file names need not be text."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
