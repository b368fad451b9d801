"""Connections of browsers, passed on to the processes of the app so that each visitor stays with one of them.

The process that listens looks at the first header of a connection, without taking it, and hands the connection over:
by the cookie that a worker gave this browser, else, for programs, by the address, so that all requests of one program
meet the same worker. A browser that opens the page for the first time gets the workers in turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import zlib
from collections.abc import Callable, Sequence

from mpsams.app.server.listen import CONNECTIONS, HEADER_SECONDS

COOKIE = "mpsams_worker"
MAX_HEADER = 2**16  # bytes
_PAGE = re.compile(rb"GET /(?:\?\S*)? HTTP/1")
_CHOSEN = re.compile(rb"GET /(?:healthz|metrics)\?worker=(\d{1,4}) HTTP/1")
_COOKIE = re.compile(
    rb"^cookie:(?:.*?[;\s])?" + COOKIE.encode() + rb"=(\d{1,4})\s*(?:;|$)", re.IGNORECASE | re.MULTILINE
)
_FORWARDED = re.compile(rb"^x-forwarded-for:\s*([^\s,]+)", re.IGNORECASE | re.MULTILINE)


def stated_worker(head: bytes) -> int | None:
    """Return the number of the worker that a request's header asks for: in the address of /healthz and /metrics, else
    the cookie; None if in neither.
    """
    found = _CHOSEN.match(head) or _COOKIE.search(head.replace(b"\r\n", b"\n"))
    return int(found[1]) if found else None


class StayWithWorker:
    """An ASGI app around another: gives the browser that opens the page this worker's cookie.

    A connection that may carry requests for several workers (from a proxy, from a monitor, from a browser whose worker
    was being started again) is closed after the answer, so that the next request reaches the right worker.
    """

    def __init__(self, app, number: int) -> None:
        self.app, self.number = app, number

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        stated = stated_worker(b"".join(b"\n" + name + b": " + value for name, value in scope["headers"]))
        watches = scope["query_string"].startswith(b"worker=")
        is_forwarded = any(name == b"x-forwarded-for" for name, _ in scope["headers"])
        added = []
        if scope["path"] == "/" and stated != self.number:
            added.append((b"set-cookie", f"{COOKIE}={self.number}; Path=/; HttpOnly; SameSite=Lax".encode()))
        if watches or is_forwarded or stated not in (None, self.number):
            added.append((b"connection", b"close"))

        async def with_headers(message) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message.get("headers", ()), *added]}
            await send(message)

        await self.app(scope, receive, with_headers)


class Chooser:
    """Chooses one of ``count`` workers for each connection."""

    def __init__(self, count: int) -> None:
        self.count, self._next = count, 0

    def choose(self, head: bytes, address: str, ready: Sequence[int]) -> int:
        """Return the number of a worker.

        head: of the first request. address: of its sender. ready: the workers that answer, at least one.
        """
        wanted = stated_worker(head)
        if wanted is None and not _PAGE.match(head):
            forwarded = _FORWARDED.search(head)
            wanted = zlib.crc32(forwarded[1] if forwarded else address.encode()) % self.count
        if wanted is not None and wanted in ready:
            return wanted
        self._next += 1
        return ready[self._next % len(ready)]


class Dispatcher:
    """Accepts connections on listening sockets and hands each to ``hand_over(connection, head)`` once the header of its
    first request has come.

    Of those whose header has not come after ``HEADER_SECONDS``, and of more than ``CONNECTIONS`` those that have waited
    longest, the connection is closed.
    """

    def __init__(self, hand_over: Callable[[socket.socket, bytes], None]) -> None:
        self._hand_over = hand_over
        self._waiting: dict[asyncio.Task, None] = {}  # in the order they came

    async def run(self, listeners: Sequence[socket.socket]) -> None:
        """Accept connections until cancelled."""
        for one in listeners:
            one.setblocking(False)
            one.listen(2048)
        try:
            await asyncio.gather(*map(self._accept, listeners))
        finally:
            for task in self._waiting:
                task.cancel()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:  # of a client that went away, or no file is left for it
                await asyncio.sleep(0.1)
                continue
            if len(self._waiting) >= CONNECTIONS:
                next(iter(self._waiting)).cancel()
            task = loop.create_task(self._wait(connection))
            self._waiting[task] = None
            task.add_done_callback(lambda done: self._waiting.pop(done, None))

    async def _wait(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(TimeoutError, OSError):
            head = await asyncio.wait_for(read_ahead(connection), HEADER_SECONDS)
            if head:
                self._hand_over(connection, head)


async def read_ahead(connection: socket.socket) -> bytes:
    """Wait for the header of the first request of a connection; return it, and leave it to be read.

    Returns what there is where the connection ends before, or the header is longer than ``MAX_HEADER``.
    """
    loop, connection_fd, seen = asyncio.get_running_loop(), connection.fileno(), 0
    connection.setblocking(False)
    while True:
        # not readable again until more has come than was seen
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, seen + 1)
        readable = asyncio.Event()
        loop.add_reader(connection_fd, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(connection_fd)
        head = connection.recv(MAX_HEADER, socket.MSG_PEEK)
        if b"\r\n\r\n" in head or len(head) in (seen, MAX_HEADER):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            return head
        seen = len(head)
