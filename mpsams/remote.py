"""Calls of the methods of objects that another process of the same program has, over a local socket.

Arguments, results and exceptions are pickled by ``multiprocessing``. Only processes of this program, which were given
its random key, are answered. The managers of ``multiprocessing`` do the same, but they cannot enter a context manager,
nor leave it when the caller ends.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener

KEY_BYTES = 32


class SharedObjects:
    """SharedObjects whose methods other processes call, each thread of theirs in a thread of its own here.

    find: returns the object of a target, a tuple of texts. address, key: for ``Caller``.
    """

    def __init__(self, find: Callable[[tuple[str, ...]], object]) -> None:
        self._find, self.key = find, secrets.token_bytes(KEY_BYTES)
        self._listener = Listener(authkey=self.key)
        self.address: str = self._listener.address  # type: ignore[assignment]  # of a local socket, a text
        threading.Thread(target=self._accept, name="remote calls", daemon=True).start()

    def close(self) -> None:
        """Accept no more callers; those that there are are still answered."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                caller = self._listener.accept()
            except (AuthenticationError, EOFError, ConnectionError):
                continue
            except OSError:  # closed
                return
            threading.Thread(target=self._answer, args=(caller,), daemon=True).start()

    def _answer(self, caller: Connection) -> None:
        """Answer one thread of another process until it ends; contexts that it has not left by then are left."""
        entered: list[ExitStack] = []
        with caller, contextlib.suppress(EOFError, OSError):
            try:
                while True:
                    kind, target, name, args, kwargs = caller.recv()
                    try:
                        reply = True, self._reply(kind, target, name, args, kwargs, entered)
                    except Exception as error:
                        reply = False, error
                    _send(caller, reply)
            finally:
                while entered:
                    entered.pop().close()

    def _reply(self, kind: str, target: tuple[str, ...], name: str, args, kwargs, entered: list[ExitStack]) -> object:
        if kind == "leave":
            entered.pop().close()
            return None
        if name.startswith("_"):
            raise AttributeError(name)
        attribute = getattr(self._find(target), name)
        if kind == "get":
            return attribute
        if kind == "call":
            return attribute(*args, **kwargs)
        context: AbstractContextManager = attribute(*args, **kwargs)
        held = ExitStack()
        held.enter_context(context)
        entered.append(held)
        return None


def _send(caller: Connection, reply: tuple[bool, object]) -> None:
    """Send a reply; one that cannot be pickled becomes an error that says so."""
    try:
        caller.send(reply)
    except (TypeError, AttributeError, ValueError) as error:
        caller.send((False, RuntimeError(f"{type(reply[1]).__name__} cannot be sent: {error}")))


class Caller:
    """Calls methods of the objects of a ``SharedObjects``; may be used from several threads.

    Raises what the method raises, and OSError or EOFError if the other process has ended.
    """

    def __init__(self, address: str, key: bytes) -> None:
        self._address, self._key, self._of_thread = address, key, threading.local()

    def call(self, target: tuple[str, ...], name: str, /, *args, **kwargs):
        """Call a method; return its result."""
        return self._ask("call", target, name, args, kwargs)

    def get(self, target: tuple[str, ...], name: str):
        """Return the value of an attribute."""
        return self._ask("get", target, name)

    @contextmanager
    def enter(self, target: tuple[str, ...], name: str, /, *args, **kwargs) -> Iterator[None]:
        """Be inside the context manager that a method returns; it is left, too, when this process ends."""
        self._ask("enter", target, name, args, kwargs)
        try:
            yield
        finally:
            self._ask("leave", target, name)

    def _ask(self, kind: str, target: tuple[str, ...], name: str, args: tuple = (), kwargs: dict | None = None):
        connection = self._connection()
        try:
            connection.send((kind, target, name, args, kwargs or {}))
            is_result, reply = connection.recv()
        except BaseException:  # the next reply could be that of this question
            self._of_thread.connection = None
            connection.close()
            raise
        if not is_result:
            raise reply
        return reply

    def _connection(self) -> Connection:
        """Return the connection of this thread in this process."""
        known = getattr(self._of_thread, "connection", None)
        if known is None or self._of_thread.process != os.getpid():
            known = Client(self._address, authkey=self._key)
            self._of_thread.connection, self._of_thread.process = known, os.getpid()
        return known
