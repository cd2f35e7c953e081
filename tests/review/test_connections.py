"""Connections that say nothing, too little or too slowly, and what others notice of them: nothing.

Limits are lowered, so that the tests need seconds; nothing is measured.
"""

from __future__ import annotations

import http.client
import json
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread
from typing import Any

import pytest

from atypia.review.server import connections, safety
from atypia.review.server.app import create_app
from atypia.review.server.connections import Limits, allowed_connections, make_server
from atypia.review.server.safety import Access

PATIENCE_S = 60.0


@contextmanager
def served(app: Any, limits: Limits) -> Iterator[int]:
    """Serves an application on a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = make_server(app, limits)
        thread = Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def serving(client: Any) -> Iterator[Callable[[Limits], int]]:
    """Serves a review of the small set under limits; gives the port."""
    with ExitStack() as stack:
        app = create_app(client.review, Access("127.0.0.1"))
        yield lambda limits: stack.enter_context(served(app, limits))


def connected(port: int) -> socket.socket:
    """A connection that says nothing yet."""
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def healthy(port: int) -> bool:
    """Whether a new connection is answered."""
    caller = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        caller.request("GET", "/health")
        answer = caller.getresponse()
        return answer.status == 200 and json.loads(answer.read())["status"] == "ok"
    finally:
        caller.close()


def ended(sock: socket.socket) -> bytes:
    """Everything that comes until the server closes."""
    found = b""
    try:
        while part := sock.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


def test_idle_connections_give_way(serving: Callable[[Limits], int]) -> None:
    port = serving(Limits(connections=8))
    with ExitStack() as stack:
        idle = []
        for _ in range(40):
            idle.append(stack.enter_context(connected(port)))
            if len(idle) % 8 == 0:
                assert healthy(port)
        assert healthy(port)
        assert [ended(sock) for sock in idle[:30]] == [b""] * 30, "the oldest were closed"


def test_a_request_that_is_answered_never_gives_way() -> None:
    import asyncio

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        if scope["path"] == "/slow":
            begun.append(True)
            while not release:
                await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    begun: list[bool] = []
    release: list[bool] = []
    with served(slow, Limits(connections=4)) as port, ExitStack() as stack:
        caller = stack.enter_context(connected(port))
        caller.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while not begun:  # a request that has not been read yet is like an idle connection
            time.sleep(0.01)
        for _ in range(20):
            stack.enter_context(connected(port))
        last = stack.enter_context(connected(port))
        last.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert ended(last).endswith(b"ok")
        release.append(True)
        assert ended(caller).endswith(b"ok")


@pytest.mark.parametrize("said", [b"", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "])
def test_a_header_that_does_not_come_ends_the_connection(serving: Callable[[Limits], int], said: bytes) -> None:
    port = serving(Limits(connections=8, header_s=0.3, sweep_s=0.05))
    with connected(port) as sock:
        sock.sendall(said)
        assert ended(sock) == b""
    with connected(port) as sock:  # nor does a second header, after a first request
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")
        sock.sendall(said or b"G")
        ended(sock)
    assert healthy(port)


def test_a_body_that_trickles_is_answered_with_408(
    serving: Callable[[Limits], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safety, "BODY_S", 0.3)
    port = serving(Limits(connections=8))
    for path, kind in (("/decisions", "application/json"), ("/imports", "multipart/form-data; boundary=x")):
        with connected(port) as sock:
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Atypia: 1\r\nContent-Type: {kind}\r\n"
            sock.sendall(f"{head}Content-Length: 500\r\n\r\n--x\r\n".encode())
            answer = ended(sock)
            assert answer.startswith(b"HTTP/1.1 408") and b"the body took longer" in answer, answer
    assert healthy(port)


def test_an_answer_that_is_not_taken_ends_the_connection() -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    with served(endless, Limits(connections=8, answer_s=0.3, sweep_s=0.05)) as port, connected(port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(1.0)  # the client takes nothing; the server gives up
        assert len(ended(sock)) < 500 << 20


@pytest.mark.parametrize(("soft", "most"), [(256, 128), (64, 8), (1024, 896), (1 << 20, 1000), (-1, 1000)])
def test_connections_leave_room_for_files(monkeypatch: pytest.MonkeyPatch, soft: int, most: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert allowed_connections() == most
    assert 3 * connections.TAKEN_AT_ONCE < connections.OTHER_FILES / 2
