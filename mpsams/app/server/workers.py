"""The app in several processes, ``--workers``: one listens and has the project, the others answer.

Each worker is an app of its own with its part of the memory, the temporary disk and the shared results. The process
that listens hands it connections (``dispatch``), and starts it again if it ends. The project and the counts of attempts
to sign in are in the process that listens; workers call them there (``mpsams.remote``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess

from mpsams.annotation import remote_project
from mpsams.annotation.project import Project
from mpsams.app.process import Settings, open_app
from mpsams.app.server import listen
from mpsams.app.server.budget import Budget
from mpsams.app.server.dispatch import Chooser, Dispatcher
from mpsams.app.server.logs import configure_logging
from mpsams.app.server.sign_in_limits import Guesses
from mpsams.inference import cores
from mpsams.remote import Caller, SharedObjects

MAX_WORKERS = 64
RESTART_SECONDS = 1.0  # between the end of a worker and its next start
STOP_SECONDS = 10.0  # for a worker to end by itself
GUESSES = ("guesses",)
POSSIBLE = hasattr(socket, "send_fds")  # not on Windows

log = logging.getLogger("mpsams.app")


class WorkerEnded(RuntimeError):
    """A worker ended before the app was started."""


class _RemoteGuesses(Guesses):
    """Limits on attempts to sign in that another process counts."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def ask(self, name: str, address: str) -> float:
        return self._caller.call(GUESSES, "ask", name, address)

    def right(self, name: str, address: str) -> None:
        self._caller.call(GUESSES, "right", name, address)


@dataclass(frozen=True)
class _Shared:
    """Address and key of what the process that listens has. has_project: True if it has a project."""

    address: str
    key: bytes
    has_project: bool


class _Server(listen.Server):
    """A server of the connections that come over a channel; it ends when the channel does."""

    def __init__(self, app, channel: socket.socket) -> None:
        super().__init__(listen.configure(app), self._start)
        self._channel = channel

    def _start(self) -> None:
        self._channel.setblocking(False)
        asyncio.get_running_loop().add_reader(self._channel, self._take)
        with contextlib.suppress(OSError):  # the app is being stopped; ``_take`` sees it
            self._channel.send(b"r")  # ready

    def _take(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            said, found, *_ = socket.recv_fds(self._channel, 1, 1)
        except BlockingIOError:
            return
        except OSError:
            said, found = b"", []
        if not said:
            loop.remove_reader(self._channel)
            self.should_exit = True
        for descriptor in found:
            task = loop.create_task(self._serve_connection(socket.socket(fileno=descriptor)))
            self.server_state.tasks.add(task)
            task.add_done_callback(self.server_state.tasks.discard)

    async def _serve_connection(self, connection: socket.socket) -> None:
        state, config = self.server_state, self.config
        with contextlib.suppress(OSError):  # it went away
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: listen.Connection(config=config, server_state=state, app_state=self.lifespan.state), connection
            )


def _work(number: int, settings: Settings, shared: _Shared, channel: socket.socket) -> None:
    """Be a worker until the channel or SIGTERM ends it."""
    configure_logging()
    cores.limit_to_one_core()
    caller = Caller(shared.address, shared.key)
    project = remote_project.connect(caller) if shared.has_project else None
    server = replace(settings.server, guesses=_RemoteGuesses(caller), worker=number)
    with contextlib.suppress(KeyboardInterrupt), open_app(replace(settings, server=server), project) as app:
        _Server(app, channel).run([])


class Workers:
    """Processes of the app, and connections handed over to them.

    settings: of the whole app; each worker gets its part of memory and disk.
    """

    def __init__(self, count: int, settings: Settings, project: Project | None) -> None:
        memory, disk = Budget(settings.memory, settings.disk).limits
        self._settings = [
            replace(
                settings,
                uploads=settings.uploads.with_name(f"{settings.uploads.name}-{number}"),
                memory=memory // count,
                disk=disk // count,
            )
            for number in range(count)
        ]
        guesses = Guesses(settings.server.people or {})

        def find(target: tuple[str, ...]) -> object:
            if target == GUESSES:
                return guesses
            assert project is not None
            return remote_project.find(project, target)

        self._objects = SharedObjects(find)
        self._shared = _Shared(self._objects.address, self._objects.key, project is not None)
        self._chooser = Chooser(count)
        self._processes: dict[int, BaseProcess] = {}
        self._channels: dict[int, socket.socket] = {}  # to the workers that are ready
        self._all_ready = asyncio.Event()

    async def run(self, listeners: Sequence[socket.socket], ready: Callable[[], None]) -> None:
        """Start all workers, call ``ready``, and hand over connections until cancelled.

        WorkerEnded: a worker ended before all were ready.
        """
        listen.allow_files(4 * listen.CONNECTIONS)
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._chooser.count):
                tasks.create_task(self._keep(number))
            await self._all_ready.wait()
            ready()
            await Dispatcher(self._hand_over).run(listeners)

    def stop(self) -> None:
        """End all workers; those that do not end by themselves are killed."""
        self._objects.close()
        for channel in self._channels.values():
            channel.close()
        for process in self._processes.values():
            process.join(STOP_SECONDS)
            process.kill()
            process.join()

    async def _keep(self, number: int) -> None:
        """Start a worker, and start it again whenever it ends."""
        while True:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            self._processes[number] = multiprocessing.get_context("spawn").Process(
                target=_work, args=(number, self._settings[number], self._shared, theirs), name=f"worker {number}"
            )
            self._processes[number].start()
            theirs.close()
            with ours:
                if await _receive(ours):
                    self._channels[number] = ours
                    if len(self._channels) == self._chooser.count:
                        self._all_ready.set()
                    await _receive(ours)  # ends with the worker
                    del self._channels[number]
            if not self._all_ready.is_set():
                raise WorkerEnded(f"worker {number} ended while the app was started")
            log.warning("worker %d ended; it is started again, and its visitors open their images again", number)
            await asyncio.sleep(RESTART_SECONDS)

    def _hand_over(self, connection: socket.socket, head: bytes) -> None:
        """Send a connection to a worker. OSError where none takes it."""
        if not self._channels:
            raise ConnectionError("no worker is ready")
        number = self._chooser.choose(head, connection.getpeername()[0], sorted(self._channels))
        socket.send_fds(self._channels[number], [b"c"], [connection.fileno()])


async def _receive(channel: socket.socket) -> bytes:
    """Return the next byte of a channel; b"" at its end."""
    try:
        return await asyncio.get_running_loop().sock_recv(channel, 1)
    except ConnectionError:
        return b""


def serve(
    count: int, settings: Settings, project: Project | None, sockets: Sequence[socket.socket], ready: Callable[[], None]
) -> None:
    """Serve the app with ``count`` workers on bound sockets until SIGINT or SIGTERM.

    ready: called once connections are accepted. WorkerEnded (a RuntimeError) where a worker does not start.
    """
    with listen.ended_by_signal():
        workers = Workers(count, settings, project)
        try:
            asyncio.run(workers.run(sockets, ready))
        except KeyboardInterrupt:
            pass
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            workers.stop()
