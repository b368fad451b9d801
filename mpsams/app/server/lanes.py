"""Files are opened a few at a time, small ones beside large ones, so that nobody waits behind another's volume; each within a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

AT_ONCE = 2  # requests in each lane that are worked on; others wait, so memory is bounded by the largest
SMALL = 2**26  # bytes of temporary disk up to which an upload is small; a picture takes none
PATIENCE = 60.0  # seconds that a request waits for its turn
LONGEST = 300.0  # seconds that it may take
BUSY = "Others are opening large files right now. Try again in a minute."
TOO_LONG = "This took longer than {:.0f} seconds and was given up. Try a smaller file, or later."


class TooBusy(ValueError):
    """A request that was not answered in time, in words."""


class Lanes:
    """Turns for requests with files."""

    def __init__(self, patience: float = PATIENCE, longest: float = LONGEST) -> None:
        self.patience, self.longest = patience, longest
        self._small, self._large = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(AT_ONCE)

    async def through(self, disk: int, work: Callable[[], Awaitable]) -> object:
        """What ``work`` answers once it is its turn; disk: bytes it will take there. TooBusy where that takes too long.

        Work that is given up goes on until it ends, for a thread cannot be stopped, and holds its place until then.
        """
        lane = self._small if disk <= SMALL else self._large
        try:
            await asyncio.wait_for(lane.acquire(), self.patience)
        except TimeoutError:
            raise TooBusy(BUSY) from None
        task = asyncio.ensure_future(work())
        task.add_done_callback(lambda done: (lane.release(), done.cancelled() or done.exception()))  # type: ignore[func-returns-value]
        done, _ = await asyncio.wait({task}, timeout=self.longest)
        if not done:
            raise TooBusy(TOO_LONG.format(self.longest))
        return task.result()
