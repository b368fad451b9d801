"""Locks by which several processes divide jobs among themselves, and a time limit."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock


@contextmanager
def claim(path: Path, wait: bool = False) -> Iterator[bool]:
    """Hold a lock file while inside; yield True if it could be had. The system frees it when the process dies."""
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def time_limit(minutes: float) -> Iterator[threading.Event]:
    """Send SIGTERM after ``minutes`` (0: never) while inside, on which a training saves; yield an event set then.

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
