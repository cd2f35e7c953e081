"""Serves a review: one process, one port."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from atypia.base.errors import AbsentError, InputError, WorkError, must

if TYPE_CHECKING:
    from atypia.review.figures.opening import Opening
    from atypia.review.server.predicting import Predictor

TOKEN_VARIABLE: Final = "ATYPIA_TOKEN"  # noqa: S105 - its name
BLIND_VIEW: Final = "#gallery?blind=1"
"""End of an address that opens the page in blind mode."""


@dataclass(frozen=True)
class Serving:
    """Options of the server.

    Attributes:
        opening: What to open.
        decisions: The decisions file; None for the default place.
        model: Bundle, exported file or shipped name; None for the shipped model, if there is one.
        host: Address to listen on.
        port: Port; 0 for any free port.
        token: Token that clients must send; None: a token is generated if the host is beyond loopback.
        rater: The rater, if known.
        blind: Whether the address opens the page in blind mode.
    """

    opening: Opening
    decisions: Path | None = None
    model: str | None = None
    host: str = "127.0.0.1"
    port: int = 8470
    token: str | None = None
    rater: str | None = None
    blind: bool = False


def serve(asked: Serving, ready: Callable[[str, Path], None]) -> None:
    """Serves until it is stopped.

    Args:
        asked: Options.
        ready: Called with the page's address and the decisions file, once the port is open.

    Raises:
        AbsentError: No such model or data set.
        InputError: The port is in use, the token too short, or the opened data is not valid.
        WorkError: The decisions file is in use or is not writable.
    """
    from atypia.review.decisions.intake import decisions_file
    from atypia.review.figures.opening import open_figures
    from atypia.review.server.app import create_app
    from atypia.review.server.connections import BACKLOG, make_server
    from atypia.review.server.context import Review
    from atypia.review.server.safety import Access, is_loopback

    token = asked.token or (None if is_loopback(asked.host) else secrets.token_urlsafe(24))
    access = Access(asked.host, token)
    predictor = _predictor(asked.model)
    with _listening(asked.host, asked.port, BACKLOG) as sock:
        figures = open_figures(asked.opening)
        path = asked.decisions or decisions_file(figures)
        review = Review(figures, path, predictor, asked.rater)
        try:
            port = sock.getsockname()[1]
            query = f"?token={token}" if token else ""
            ready(f"http://{_shown_host(asked.host)}:{port}/{query}{BLIND_VIEW if asked.blind else ''}", path)
            make_server(create_app(review, access)).run(sockets=[sock])
        finally:
            review.close()


def chosen_token(given: str | None, file: Path | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """The token that the user gave: directly, in a file, or in the environment (``ATYPIA_TOKEN``).

    Args:
        given: The token itself, which every user of the machine can see in the process list.
        file: A file with the token as its only line.
        environ: The environment, used if neither is given.

    Raises:
        InputError: Both were given, or the file cannot be read or does not have exactly one line.
    """
    if given is not None and file is not None:
        raise InputError(must("token", "given once", "--token and --token-file", "leave one of them out"))
    if file is None:
        return given or environ.get(TOKEN_VARIABLE) or None
    try:
        lines = file.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise InputError(
            must("--token-file", "a file with the token", f"{file} ({reason})", "check the path")
        ) from error
    if len(lines) != 1:
        got = f"{len(lines)} words in {file}"
        raise InputError(must("--token-file", "a file with one word, the token", got, "write it there alone"))
    return lines[0]


def _predictor(model: str | None) -> Predictor | None:
    from atypia.inference.classifier import SHIPPED, find_model
    from atypia.review.server.predicting import Predictor

    try:
        find_model(model or SHIPPED)
    except AbsentError:
        if model is not None:
            raise
        return None
    return Predictor(model or SHIPPED)


def _listening(host: str, port: int, backlog: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise InputError(must("--host", "an address of this machine", f"{host} ({error})", "try 127.0.0.1")) from error
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        got = f"{port} ({error.strerror})"
        raise WorkError(must("--port", f"free on {host}", got, "choose another, or 0 for any")) from error
    return sock


def _shown_host(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - the user asked for it
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
