"""Waiting for a condition, as tests do instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(holds: Callable[[], object], seconds: float = 60, pause: float = 0.02) -> None:
    """Return when ``holds()`` is true, asked every ``pause`` seconds; AssertionError if it is not within ``seconds``.

    What ``holds`` raises ends the wait, such as an AssertionError where a process has ended that should go on.
    """
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds:g} seconds in vain"
        time.sleep(pause)
