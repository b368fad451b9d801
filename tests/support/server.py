"""The app in a process of its own, and requests to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx

from mpsams.app.server.guard import Guard

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery"


@contextmanager
def running(folder: Path, *options: str, before: tuple[str, ...] = (), **environment: str):
    """An app on a free port: (address, process, file of all it prints)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, printed = f"http://127.0.0.1:{port}", folder / "printed"
    with printed.open("wb") as out:
        process = subprocess.Popen(
            [*before, sys.executable, "app.py", "--port", str(port), *options],
            cwd=ROOT,
            stdout=out,
            stderr=out,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        )
    try:
        for _ in range(1800):
            try:
                httpx.get(f"{address}/healthz", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, printed.read_text()[-3000:]
                time.sleep(0.1)
        yield address, process, printed
    finally:
        process.terminate()
        process.wait(30)


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
