"""The app in a process of its own that is forked from one that has imported the app already: importing it takes longer
than starting it. ``python app.py`` itself is run by test_app.py, test_proxy.py and test_server.py of tests/server.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import socket
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from tests.support import ROOT
from tests.support.waiting import wait_until

_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(["mpsams.app.main"])


class ForkedApp:
    """An app with these options, in a forked process that is used as a ``subprocess.Popen``.

    ``environment`` replaces the environment of this process; all that the app prints goes into the file ``printed``;
    ``constants`` are set in the app, such as {"mpsams.app.server.listen.HEADER_SECONDS": 5}.
    """

    def __init__(
        self,
        options: list[str],
        environment: dict[str, str],
        printed: Path | None = None,
        constants: dict[str, object] | None = None,
    ) -> None:
        args = (options, environment, printed, constants or {})
        self._process = _fork.Process(target=_serve, args=args, daemon=True)
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired("app", timeout)
        return self.poll()


def free_port() -> int:
    """Return the number of a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for_answer(address: str, process: ForkedApp | subprocess.Popen, printed: Path | None = None) -> None:
    """Return when the app of a process answers; AssertionError if it ends before, with what it has printed, or needs
    more than three minutes.
    """

    def answers() -> bool:
        try:
            return bool(urllib.request.urlopen(f"{address}/healthz", timeout=5).read())
        except OSError:
            assert process.poll() is None, printed and printed.read_text()[-3000:]
            return False

    wait_until(answers, 180)


def _serve(options: list[str], environment: dict[str, str], printed: Path | None, constants: dict[str, object]) -> None:
    """Run the app in the forked process as ``python app.py`` runs it in a new one."""
    from mpsams.app.main import main

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    tempfile.tempdir = None  # which TMPDIR of the environment decides
    if printed is not None:
        with printed.open("wb") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
    for name, value in constants.items():
        module, _, name = name.rpartition(".")
        setattr(importlib.import_module(module), name, value)
    main(options)
