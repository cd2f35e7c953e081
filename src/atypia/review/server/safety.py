"""Access control for every request: who may connect, from which site, how much may be sent; and response headers.

* On loopback, only the loopback names are accepted in ``Host``, so that a name of another site cannot be
  made to point here (DNS rebinding). Beyond loopback, every path except ``/health`` needs the token; a
  browser sends our cookie to no other name.
* Requests that change something need the header ``X-Atypia: 1``, which other sites cannot set; if the
  browser states the origin of the request, it must be this server.
* The size of a body is checked while it is received; it is refused when it is too large or too slow.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atypia.base.errors import InputError, must

MARK: Final = "X-Atypia"
"""Header required for every request that changes something."""
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_PATHS: Final = frozenset({"/health"})
"""Paths that need no token."""
TOKEN_CHARACTERS: Final = 16
"""Fewest characters of a token."""
COOKIE_S: Final = 7 * 24 * 3600
"""Lifetime of the cookie, in seconds."""
MAX_JSON_BYTES: Final = 1 << 20
MAX_IMPORT_BYTES: Final = 32 << 20
MAX_UPLOAD_BYTES: Final = 256 << 20
BODY_LIMITS: Final = {"/predict": MAX_UPLOAD_BYTES, "/imports": MAX_IMPORT_BYTES}
"""Largest request body in bytes, by path; for others :data:`MAX_JSON_BYTES`."""
BODY_S: Final = 20.0
"""Seconds that any body may take; large bodies get more, at :data:`BODY_BYTES_A_S`."""
BODY_BYTES_A_S: Final = 32 << 10
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True)
class Access:
    """Who may call the server.

    Attributes:
        host: Address that it listens on.
        token: Token that clients must send; None on loopback for no token.

    Raises:
        InputError: The host is beyond loopback without a token, or the token is short.
    """

    host: str
    token: str | None = None

    def __post_init__(self) -> None:
        if self.token is None and not self.is_loopback:
            raise InputError(must("token", f"given where the host is {self.host}", "none", "pass --token-file"))
        if self.token is not None and (len(self.token) < TOKEN_CHARACTERS or not self.token.isascii()):
            expected = f"at least {TOKEN_CHARACTERS} plain characters"
            raise InputError(must("token", expected, len(self.token), "omit it to have one generated"))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)

    @property
    def cookie(self) -> str:
        """Value of the cookie that stands for the token, which itself is stored nowhere."""
        return hashlib.sha256(f"atypia review {self.token}".encode()).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own.

    >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """The middleware that checks access.

    Args:
        app: The application behind it.
        access: Who may call.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                # Browsers may cache the page's files but must revalidate them, so that an update is visible.
                headers.setdefault("Cache-Control", "no-cache" if scope["path"].startswith("/static/") else "no-store")
                if message["status"] == 408:
                    headers["Connection"] = "close"  # do not wait for the rest of the body
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, with_headers)
            return
        limit = BODY_LIMITS.get(scope["path"], MAX_JSON_BYTES)
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > limit:
            await _said(413, _too_large(limit))(scope, receive, with_headers)
            return
        await self.app(scope, _counted(receive, limit), with_headers)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if self.access.is_loopback and self.access.token is None and not _names_loopback(host):
            return _said(421, f"`Host` must be this machine, got {host[:80]!r}; fix: open http://127.0.0.1")
        if self.access.token is not None and scope["path"] not in OPEN_PATHS:
            answer = self._token_answer(scope, headers)
            if answer is not None:
                return answer
        return None if scope["method"] in SAFE_METHODS else _cross_site(headers, host)

    def _token_answer(self, scope: Scope, headers: Headers) -> Response | None:
        """None for a client with the token; else the refusal."""
        access = self.access
        bearer = headers.get("authorization", "")
        if bearer.startswith("Bearer ") and _same(bearer[7:], access.token or ""):
            return None
        name = cookie_name(scope)
        if any(_same(value, access.cookie) for value in cookies(headers.getlist("cookie"), name)):
            return None
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if scope["path"] == "/" and _same(query.pop("token", [""])[0], access.token or ""):
            # Remove the token from the address bar, and so from the history and from copied links.
            rest = urlencode(query, doseq=True)
            response = RedirectResponse(f"/?{rest}" if rest else "/", 303)
            response.set_cookie(
                name,
                access.cookie,
                COOKIE_S,
                path="/",
                secure=_is_encrypted(scope, headers),
                httponly=True,
                samesite="lax",
            )
            return response
        return _said(401, "a token is needed; fix: open the address that `atypia serve` printed")


def cookie_name(scope: Scope) -> str:
    """Name of the cookie; it includes the port, because browsers share cookies between ports."""
    server = scope.get("server")
    return f"atypia_{server[1] if server else 0}"


def cookies(lines: Iterable[str], name: str) -> list[str]:
    """The values of one cookie.

    A browser sends the cookies of everything that runs on the host. Ours is found whatever the others contain (JSON,
    non-ASCII characters, no value). ``http.cookies`` stops at the first cookie that breaks its rules.

    >>> cookies(['prefs={"a":1}; flag; path=/; atypia_8470=x'], "atypia_8470")
    ['x']
    """
    pairs = (part.partition("=") for line in lines for part in line.split(";"))
    return [value.strip().strip('"') for key, _, value in pairs if key.strip() == name]


def _is_encrypted(scope: Scope, headers: Headers) -> bool:
    """Whether the browser uses TLS, with us or with a proxy in front of us."""
    return "https" in (scope.get("scheme"), headers.get("x-forwarded-proto", "").split(",")[0].strip().lower())


def _same(given: str, wanted: str) -> bool:
    return bool(wanted) and hmac.compare_digest(given.encode(), wanted.encode())


def _names_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)


def _cross_site(headers: Headers, host: str) -> Response | None:
    if headers.get(MARK) != "1":
        return _said(403, f"`{MARK}: 1` must be among the headers of requests that change something")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return _said(403, "requests from other sites may change nothing")
    origin = headers.get("origin")
    if origin is not None and urlsplit_host(origin) != host.casefold():
        return _said(403, "requests from other sites may change nothing")
    return None


def urlsplit_host(origin: str) -> str | None:
    """Host and port of an origin; None if it is not an origin.

    >>> urlsplit_host("http://127.0.0.1:8470"), urlsplit_host("null")
    ('127.0.0.1:8470', None)
    """
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.casefold() if parts.scheme in ("http", "https") else None


def _counted(receive: Receive, limit: int) -> Receive:
    """The same body, limited in bytes and time."""
    seen, whole = 0, False
    began: float | None = None

    async def limited() -> Message:
        nonlocal seen, whole, began
        if whole:  # now only the end of the connection is awaited
            return await receive()
        loop = asyncio.get_running_loop()
        began = loop.time() if began is None else began
        try:
            async with asyncio.timeout_at(began + BODY_S + seen / BODY_BYTES_A_S):
                message = await receive()
        except TimeoutError:
            raise HTTPException(
                408, f"the body took longer than {loop.time() - began:.0f} s; fix: send it again"
            ) from None
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > limit:
                raise HTTPException(413, _too_large(limit))
        return message

    return limited


def _too_large(limit: int) -> str:
    return must("body", f"at most {limit:,} bytes", "more", "send less at once")


def _said(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)
