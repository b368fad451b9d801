"""The app in a process of its own, and requests to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from mpsams.app.server.guard import Guard
from tests.support import ROOT
from tests.support.app_process import ForkedApp, free_port, wait_for_answer

PASSWORD = "correct horse battery"


@contextmanager
def running(
    folder: Path,
    *options: str,
    before: tuple[str, ...] = (),
    constants: dict[str, object] | None = None,
    **environment: str,
):
    """An app on a free port: (address, process, file of all it prints).

    before: a command that starts it, then not as a fork. constants: set in it, see ForkedApp.
    """
    printed, port = folder / "printed", free_port()
    address, options = f"http://127.0.0.1:{port}", ["--port", str(port), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    if before:
        with printed.open("wb") as out:
            command = [*before, sys.executable, "app.py", *options]
            process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=environment)
    else:
        process = ForkedApp(options, environment, printed, constants)
    try:
        wait_for_answer(address, process, printed)
        yield address, process, printed
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def end_of(printed: Path, *options: str) -> tuple[int, str]:
    """The exit code of an app with these options that ends by itself, and all it prints, which goes into a file."""
    process = ForkedApp(list(options), os.environ | {"OMP_NUM_THREADS": "1"}, printed)
    return process.wait(300), printed.read_text()


async def _through(guard: Guard, method: str, path: str, headers: dict, chunks: list[bytes]) -> tuple[int, bytes, int]:
    """Status and body of an answer, and how many bytes the app behind the guard was given."""
    sent, bodies = [], iter(chunks)

    async def receive():
        body = next(bodies, None)
        return (
            {"type": "http.disconnect"} if body is None else {"type": "http.request", "body": body, "more_body": True}
        )

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    guard.app.given = 0
    await guard(scope, receive, send)
    return sent[0]["status"], sent[-1].get("body", b""), guard.app.given


class Swallow:
    """An app that takes all it gets."""

    given = 0

    async def __call__(self, scope, receive, send) -> None:
        while (message := await receive())["type"] == "http.request":
            self.given += len(message["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
