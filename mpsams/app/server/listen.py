"""Listening on a host and port, and a server whose connections have time limits, so that idle ones keep nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 1000  # at a time; of more, the one that has waited longest for its request is closed
HEADER_SECONDS = 20  # from the first byte of a request, or the last answer, to the end of its header
BODY_SECONDS = 60  # without a byte of a request's body, or without the client reading a byte of the answer
SLOWEST = 1024  # bytes a second, on the average over a body after its first BODY_SECONDS


def listen(host: str, port: int) -> list[socket.socket]:
    """Return sockets bound to the port on every address of the host. ValueError says why that is not possible."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ValueError(
            f"--host {host!r} is no address or name of this computer; allowed are such as 127.0.0.1 and 0.0.0.0"
        ) from None
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            bound.append(socket.socket(family, kind, protocol))
            if os.name == "posix":
                bound[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound[-1].bind(address)
    except OSError as error:
        # a name that has an address which this computer lacks
        if error.errno == errno.EADDRNOTAVAIL and len(bound) > 1:
            bound.pop().close()
            return bound
        for one in bound:
            one.close()
        raise ValueError(why(error, host, port)) from None
    return bound


def why(error: OSError, host: str, port: int) -> str:
    """Explain in a sentence why a port cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use by another program; choose another with --port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} may not be opened by this user, as is usual below 1024; choose another with --port"
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return f"--host {host!r} is no address of this computer; allowed are such as 127.0.0.1 and 0.0.0.0"
    return f"port {port} of {host} cannot be listened on: {error.strerror}"


class Connection(H11Protocol):
    """A connection that is closed when its client keeps the server waiting for too long.

    begun: when it was made or last answered. active: when the last byte came, or was read of the answer. received:
    bytes since begun.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.begun = self.active = time.monotonic()
        self.received = 0
        if len(self.connections) >= CONNECTIONS - 1:
            self._make_room()
        super().connection_made(transport)  # type: ignore[arg-type]  # a server's is an asyncio.Transport

    def data_received(self, data: bytes) -> None:
        self.active = time.monotonic()
        self.received += len(data)
        super().data_received(data)

    def on_response_complete(self) -> None:
        self.begun, self.received = time.monotonic(), 0
        super().on_response_complete()

    def pause_writing(self) -> None:
        self.active = time.monotonic()
        super().pause_writing()

    @property
    def waits_for_header(self) -> bool:
        """True if no whole header of a request has come yet."""
        return self.conn.their_state is h11.IDLE

    def is_late(self, now: float) -> bool:
        """Return True if the client has let the server wait for longer than it may."""
        if self.waits_for_header:
            return now - self.begun > HEADER_SECONDS
        if self.flow.write_paused:
            return now - self.active > BODY_SECONDS
        if self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused:
            return now - self.active > BODY_SECONDS or now - self.begun > BODY_SECONDS + self.received / SLOWEST
        return False

    def drop(self) -> None:
        """Close the connection at once, even during a request."""
        self.connections.discard(self)
        self.transport.abort()

    def _make_room(self) -> None:
        waiting = [one for one in self.connections if isinstance(one, Connection) and one.waits_for_header]
        if waiting:
            min(waiting, key=lambda one: one.begun).drop()


class Server(uvicorn.Server):
    """A server that closes late connections and calls ``ready`` once it listens. OSError when it cannot."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            now = time.monotonic()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection) and connection.is_late(now):
                    connection.drop()
        return await super().on_tick(counter)


def serve(app, sockets: list[socket.socket], ready: Callable[[], None]) -> None:
    """Serve an ASGI app on bound sockets until SIGINT or SIGTERM.

    ready: called once connections are accepted. OSError when they cannot be.
    """
    with contextlib.suppress(KeyboardInterrupt):
        Server(configure(app), ready).run(sockets)


def configure(app) -> uvicorn.Config:
    """Return the settings of a server of an ASGI app; this process may have a file open for each connection."""
    allow_files(4 * CONNECTIONS)
    return uvicorn.Config(
        app, http=Connection, ws="none", log_config=None, access_log=False, server_header=False,
        limit_concurrency=CONNECTIONS, timeout_graceful_shutdown=3,
    )  # fmt: skip


def allow_files(count: int) -> None:
    """Let this process have ``count`` files and connections open, or as many as the system allows."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limits
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= soft < count:  # below 0 there is no limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (count if hard < 0 else min(count, hard), hard))


class _Terminated(SystemExit):
    """SIGTERM came."""


def _terminate(*_) -> None:
    raise _Terminated


@contextlib.contextmanager
def ended_by_signal() -> Iterator[None]:
    """Raise SIGTERM as an exception while inside, so that ``finally`` blocks run; then end by the signal."""
    try:
        signal.signal(signal.SIGTERM, _terminate)
        yield
    except _Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
