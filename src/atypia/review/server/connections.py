"""Connections to the server: how many there may be, and how long each may keep it waiting.

A server that takes every connection stops for everybody when somebody opens more than the system allows it
files, before any token is asked for. Here the number is bounded well below that limit. Where it is reached,
the connection that has waited longest without a request is closed for the new one, so that a page's idle
connections give way and requests that are being answered never do.

==============================  =====================================================
a connection that               is closed
==============================  =====================================================
sends no whole request header   :attr:`Limits.header_s` after it began
does not take its answer        :attr:`Limits.answer_s` after it took the last byte
goes on sending after that      :attr:`Limits.answer_s` after the answer
is kept open                    :data:`KEEP_ALIVE_S` after its last answer
==============================  =====================================================

The time for a body is :mod:`atypia.review.server.safety`'s, which can answer that it is over.
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
"""Connections that the system holds until they are taken."""
TAKEN_AT_ONCE: Final = 8
"""Connections that are taken in one turn of the loop. What was taken in the last turns is not counted yet."""
KEEP_ALIVE_S: Final = 30
MOST: Final = 1000
"""Most connections, whatever the system allows."""
FEWEST: Final = 8
OTHER_FILES: Final = 128
"""Files that are left for data, slides, the decisions file, the worker, and connections not counted yet."""
HEADER_BYTES: Final = 16 << 10
SWEEP_S: Final = 1.0


@dataclass(frozen=True)
class Limits:
    """What one server allows.

    Attributes:
        connections: Open at once.
        header_s: From the beginning of a connection, or the first byte of a later request, to the end of its header.
        answer_s: For the next byte of an answer to be taken, and for what a client still sends after its answer.
        sweep_s: How often that is looked at.
    """

    connections: int
    header_s: float = 15.0
    answer_s: float = 60.0
    sweep_s: float = SWEEP_S


def allowed_connections() -> int:
    """As many as the system's limit on open files leaves room for."""
    try:
        import resource
    except ImportError:  # Windows: sockets are not counted there
        return MOST
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(FEWEST, min(MOST, soft - OTHER_FILES))


class Door:
    """The connections of one server; used by its loop alone.

    Args:
        limits: What is allowed.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.open: dict[Connection, None] = {}
        """In the order in which they came."""
        self._sweeping: asyncio.TimerHandle | None = None

    def enter(self, connection: Connection) -> None:
        """Lets a connection in, closing another, or this one, where there are too many."""
        self.open[connection] = None
        if len(self.open) > self.limits.connections:
            self._make_room(connection)
        if self._sweeping is None:
            self._sweeping = connection.loop.call_later(self.limits.sweep_s, self._sweep, connection.loop)

    def leave(self, connection: Connection) -> None:
        """Forgets a connection."""
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
    """One connection, which knows since when it has been waiting for what.

    Args:
        door: The connections of its server.
        config: The server's.
        server_state: The server's.
        app_state: The application's.
    """

    def __init__(
        self,
        door: Door,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.door = door
        self.since = 0.0
        """When it came, its last request ended, or the header of the next one began."""
        self._began = True
        self._unsent = 0
        self._taken_at = 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether it has no request under way: none at all, or a header that is not whole."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_receiving(self) -> bool:
        """Whether the body of its request is still coming."""
        return not self.is_waiting and self.cycle.more_body

    @property
    def is_stuck(self) -> bool:
        """Whether its answer waits for the client to take it."""
        return self.transport.get_write_buffer_size() > 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Enters the door."""
        super().connection_made(transport)
        self.since = self._taken_at = self.loop.time()
        self.door.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leaves the door."""
        self.door.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Notes when a header begins."""
        if self.is_waiting and not self._began:
            self._began = True
            self.since = self.loop.time()
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Notes when a request ends."""
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
        """Closes it at once, whatever was still to be sent."""
        self.door.leave(self)
        self.transport.abort()


class Server(uvicorn.Server):
    """A server with a door."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(BACKLOG)  # uvicorn's number is also that of connections taken in one turn


def make_server(app: ASGIApp, limits: Limits | None = None) -> Server:
    """The server of an application, for sockets that are open already.

    Args:
        app: The application.
        limits: On its connections; None for those of this system.
    """
    door = Door(limits or Limits(allowed_connections()))
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
