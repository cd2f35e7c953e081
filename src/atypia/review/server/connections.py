"""Connections to the server: limits on their number and on how long each may be idle.

A server that accepts every connection stops for everybody when somebody opens more than the system's limit on
open files, even before any token is checked. Here the number is kept well below that limit. At the limit,
the connection that has waited longest without a request is closed for the new one: idle connections of a page
make room, and requests in progress are never dropped.

==============================  =====================================================
a connection that               is closed
==============================  =====================================================
sends no complete header        :attr:`Limits.header_s` after it began
does not read its answer        :attr:`Limits.answer_s` after it read the last byte
still sends after the answer    :attr:`Limits.answer_s` after the answer
is kept open                    :data:`KEEP_ALIVE_S` after its last answer
==============================  =====================================================

The time limit for a body is in :mod:`atypia.review.server.safety`, which can answer that it is over.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

BACKLOG: Final = 512
"""Connections that the system queues until they are accepted."""
TAKEN_AT_ONCE: Final = 8
"""Connections accepted per iteration of the event loop. Those of the last iterations are not counted yet."""
KEEP_ALIVE_S: Final = 30
MOST: Final = 1000
"""Most connections, even if the system allows more."""
FEWEST: Final = 8
OTHER_FILES: Final = 128
"""Files reserved for data, slides, the decisions file, the worker, and connections not counted yet."""
HEADER_BYTES: Final = 16 << 10
SWEEP_S: Final = 1.0


@dataclass(frozen=True)
class Limits:
    """Limits of one server.

    Attributes:
        connections: Number open at once.
        header_s: From the beginning of a connection, or the first byte of a later request, to the end of its header, in seconds.
        answer_s: For the client to read the next byte of an answer, and to stop sending after its answer, in seconds.
        sweep_s: Interval of the checks, in seconds.
    """

    connections: int
    header_s: float = 15.0
    answer_s: float = 60.0
    sweep_s: float = SWEEP_S


def allowed_connections() -> int:
    """The number of connections that fits below the system's limit on open files."""
    try:
        import resource
    except ImportError:  # Windows: sockets do not count as files there
        return MOST
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(FEWEST, min(MOST, soft - OTHER_FILES))


class ConnectionLimiter:
    """The connections of one server; used only by its event loop.

    Args:
        limits: The limits.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.open: dict[Connection, None] = {}
        """In order of arrival."""
        self._sweeping: asyncio.TimerHandle | None = None

    def enter(self, connection: Connection) -> None:
        """Admits a connection; if there are too many, closes another or this one."""
        self.open[connection] = None
        if len(self.open) > self.limits.connections:
            self._make_room(connection)
        if self._sweeping is None:
            self._sweeping = connection.loop.call_later(self.limits.sweep_s, self._sweep, connection.loop)

    def leave(self, connection: Connection) -> None:
        """Removes a connection."""
        self.open.pop(connection, None)

    def _make_room(self, newest: Connection) -> None:
        others = [one for one in self.open if one is not newest]
        groups = (
            [one for one in others if one.is_waiting],
            [one for one in others if one.is_receiving],
            [one for one in others if one.is_stuck],
        )
        group = next((group for group in groups if group), [newest])
        min(group, key=lambda one: one.since).drop()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self.open):
            if connection.is_overdue(now, self.limits):
                connection.drop()
        self._sweeping = loop.call_later(self.limits.sweep_s, self._sweep, loop) if self.open else None


class Connection(H11Protocol):
    """One connection, with the time since when it has been waiting, and for what.

    Args:
        door: The connections of its server.
        config: uvicorn's.
        server_state: uvicorn's.
        app_state: The application's.
    """

    def __init__(
        self,
        door: ConnectionLimiter,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.door = door
        self.since = 0.0
        """Time when it arrived, its last request ended, or the header of the next request began."""
        self._began = True
        self._unsent = 0
        self._taken_at = 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether it has no request in progress: none at all, or an incomplete header."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_receiving(self) -> bool:
        """Whether the body of its request is still being received."""
        return not self.is_waiting and self.cycle.more_body

    @property
    def is_stuck(self) -> bool:
        """Whether its answer waits for the client to read it."""
        return self.transport.get_write_buffer_size() > 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Registers the connection."""
        super().connection_made(transport)
        self.since = self._taken_at = self.loop.time()
        self.door.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregisters the connection."""
        self.door.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Records when a header begins."""
        if self.is_waiting and not self._began:
            self._began = True
            self.since = self.loop.time()
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Records when a request ends."""
        self.since, self._began = self.loop.time(), False
        super().on_response_complete()

    def is_overdue(self, now: float, limits: Limits) -> bool:
        """Whether it has kept the server waiting for too long; called regularly."""
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent or unsent == 0:
            self._unsent, self._taken_at = unsent, now
        if now - self._taken_at > limits.answer_s:
            return True
        if not self.is_waiting or self.transport.is_closing():
            return False
        if self.cycle is not None and self.conn.their_state is h11.SEND_BODY:
            return now - self.since > limits.answer_s
        return self._began and now - self.since > limits.header_s

    def drop(self) -> None:
        """Closes it at once, even if data is still to be sent."""
        self.door.leave(self)
        self.transport.abort()


class Server(uvicorn.Server):
    """A server with limited connections."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen."""
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(BACKLOG)  # uvicorn's setting also limits the connections accepted per iteration


def make_server(app: ASGIApp, limits: Limits | None = None) -> Server:
    """The server of an application, for sockets that are open already.

    Args:
        app: The application to serve.
        limits: Limits on its connections; None for the defaults of this system.
    """
    door = ConnectionLimiter(limits or Limits(allowed_connections()))
    config = uvicorn.Config(
        app,
        http=partial(Connection, door),  # type: ignore[arg-type]  # called as the class would be
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=TAKEN_AT_ONCE,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=3,
        ws="none",
    )
    return Server(config)
