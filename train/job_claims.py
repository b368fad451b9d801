"""Locks by which several processes divide jobs among themselves, and a time limit."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claim(path: Path, wait: bool = False) -> Iterator[bool]:
    """Hold a lock file while inside; whether it could be had. The system frees it when the process dies.

    ValueError on systems without such locks.
    """
    try:
        import fcntl
    except ImportError:
        raise ValueError(
            "train.reproduce needs file locks as Linux and macOS have them; on Windows, run it under WSL"
        ) from None
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


@contextmanager
def time_limit(minutes: float) -> Iterator[threading.Event]:
    """Inside, SIGTERM comes after so many minutes (0: never), which training answers by saving; the event says that it
    came.

    A signal from elsewhere, or Ctrl-C, ends the program as usual, after saving.
    """
    over = threading.Event()

    def ring() -> None:
        over.set()
        os.kill(os.getpid(), signal.SIGTERM)

    def leave(number: int, _frame) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    timer = threading.Timer(60 * minutes, ring)
    timer.daemon = True
    if minutes:
        timer.start()
    try:
        yield over
    except SystemExit:
        if not over.is_set():
            raise
        print(f"{minutes:g} minutes are over; the same command goes on")
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, before)
