"""Counters of the server, in Prometheus' text format."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Counters:
    """Requests by method, route and status, and their duration in seconds."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._seconds: Counter[tuple[str, str]] = Counter()

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a request."""
        with self._lock:
            self._requests[method, route, status] += 1
            self._seconds[method, route] += seconds  # pyright: ignore[reportArgumentType]

    def text(self, values: Mapping[str, tuple[str, float]]) -> str:
        """The metrics page.

        Args:
            values: Further numbers: name to kind (``gauge`` or ``counter``) and value.
        """
        lines = []
        for name, (kind, value) in values.items():
            lines += [f"# TYPE atypia_{name} {kind}", f"atypia_{name} {value:g}"]
        with self._lock:
            requests, seconds = dict(self._requests), dict(self._seconds)
        lines.append("# TYPE atypia_requests_total counter")
        for (method, route, status), count in sorted(requests.items()):
            lines.append(f'atypia_requests_total{{method="{method}",route="{route}",status="{status}"}} {count}')
        lines.append("# TYPE atypia_request_seconds_total counter")
        for (method, route), total in sorted(seconds.items()):
            lines.append(f'atypia_request_seconds_total{{method="{method}",route="{route}"}} {total:.6f}')
        return "\n".join(lines) + "\n"


class Counting:
    """Middleware that counts requests by route, never by URL, because clients can send any number of URLs.

    Args:
        app: The application behind it.
        counters: Receives the counts.
    """

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self.app = app
        self.counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on and counts it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            route: Any = scope.get("route")
            name = str(getattr(route, "path", "other")) or "other"
            known = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
            self.counters.add(known, name, status, time.perf_counter() - started)


def resident_bytes() -> float:
    """Memory of this process; NaN if the system does not report it."""
    try:
        fields = Path("/proc/self/statm").read_text("ascii").split()
    except OSError:
        return float("nan")
    import resource

    return int(fields[1]) * resource.getpagesize()
