"""The order in which requests are answered: fair between visitors, quick ones before slow ones. No gradio here.

A request waits in one of four lanes. Each lane has room of its own, so that a save never waits for a segmentation, nor
a segmentation for a whole volume, and none waits for ever. Within a lane, visitors take turns, and the requests of one
visitor are answered one after another in the order in which they came. A request whose networks have answered before,
for whomever, is begun as a picture is; one whose answer is being computed for somebody else waits for that, and takes
no room.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

SAVE, PICTURE, NETWORK, LONG = LANES = ("save", "picture", "network", "long")  # the first goes first
SAVES_AT_ONCE = 4  # mostly waiting for the disk
PROGRAM = "program "  # begins the name of a visitor without a session: all programs of one address together
PROGRAM_AT_ONCE = 2  # requests of such a visitor that are worked on in one lane; of any other visitor 1
MAX_OWN, MAX_OWN_PROGRAM = 32, 128  # requests of one visitor that may wait
# requests of all visitors from which on only a visitor with none waiting is let in; saves are counted alone
MAX_WAITING = 512
MAX_TOTAL = 4096  # requests that may wait at all, which bounds the memory they take
LARGE = 2**26  # bytes of temporary disk from which on opening a file is long
LONGEST = 300.0  # seconds that a request with files may take
BUSY = "The app is busy: {} requests are before yours. Try again in a moment."
OWN = "You have {} requests that are not answered yet. Wait for one of them, then try again."
TOO_LONG = "This took longer than {:.0f} seconds and was given up. Try a smaller file, or later."


class TooLong(ValueError):
    """A request that was not answered in time, in words."""


@dataclass(frozen=True, eq=False)
class Ticket:
    """A request that waits or is worked on.

    admission: the lane by which it is let in, where that is another. keys: of the shared results that it needs from
    networks; None where that is not known before it is worked on.
    """

    visitor: str
    lane: str
    admission: str = ""
    keys: tuple[Hashable, ...] | None = None

    def __post_init__(self) -> None:
        if self.lane not in LANES:
            raise ValueError(f"lane {self.lane!r}; allowed are {', '.join(LANES)}")

    @property
    def is_save(self) -> bool:
        """True if it is let in as a save."""
        return (self.admission or self.lane) == SAVE


def lane_of_file(lane: str, disk: int) -> str:
    """Return the lane of a request with files. disk: bytes of temporary disk it takes; a picture takes none."""
    return LONG if disk > LARGE or (disk and lane == NETWORK) else lane


class Turns:
    """Decides which waiting request is next. To be used by one thread."""

    def __init__(self, cores: int | None = None, is_known: Callable[[Hashable], bool] = lambda key: False) -> None:
        """cores: processors that share the work; None for all. is_known: says of a key if its result is there."""
        cores = cores or os.cpu_count() or 1
        # requests that are worked on in each lane
        self._room = {SAVE: SAVES_AT_ONCE, PICTURE: cores, NETWORK: cores, LONG: max(1, cores // 2)}
        self.running: dict[Ticket, str] = {}  # with the lane whose room it takes
        self._is_known = is_known
        self._served: dict[str, int] = {}  # visitor -> number of the turn it had last
        self._turn = 0
        self._done: Counter[str] = Counter()  # requests by lane
        self._refused: Counter[str] = Counter()

    def next(self, waiting: Iterable[Ticket]) -> Ticket | None:
        """Return the request to begin with now of those that wait, in the order they came; None if all have to wait."""
        busy = Counter((ticket.visitor, ticket.lane) for ticket in self.running)
        heads: dict[tuple[str, str], Ticket] = {}
        for ticket in waiting:
            place = ticket.visitor, ticket.lane
            if busy[place] < (PROGRAM_AT_ONCE if ticket.visitor.startswith(PROGRAM) else 1):
                heads.setdefault(place, ticket)
        lanes = {ticket: self.lane_now(ticket) for ticket in heads.values()}
        taken = Counter(self.running.values())
        computing = {
            key
            for ticket, lane in self.running.items()
            if lane == NETWORK
            for key in ticket.keys or ()
            if not self._is_known(key)
        }
        for lane in LANES:
            ready = [ticket for ticket, its in lanes.items() if its == lane and computing.isdisjoint(ticket.keys or ())]
            if ready and taken[lane] < self._room[lane]:
                return min(ready, key=lambda ticket: self._served.get(ticket.visitor, 0))
        return None

    def lane_now(self, ticket: Ticket) -> str:
        """Return the lane whose room a request takes if begun now: that of pictures where no network is asked."""
        is_drawn = ticket.lane == NETWORK and ticket.keys is not None and all(map(self._is_known, ticket.keys))
        return PICTURE if is_drawn else ticket.lane

    def begin(self, ticket: Ticket) -> None:
        """Note that a request is worked on."""
        self._turn += 1
        self._served[ticket.visitor] = self._turn
        self.running[ticket] = self.lane_now(ticket)

    def end(self, ticket: Ticket, waiting: Iterable[Ticket] = ()) -> None:
        """Note that a request is done. waiting: those that still wait; visitors without any leave the round."""
        self._done[self.running.pop(ticket, ticket.lane)] += 1
        there = {other.visitor for other in (*self.running, *waiting)}
        self._served = {visitor: turn for visitor, turn in self._served.items() if visitor in there}

    def refusal(self, ticket: Ticket, waiting: Sequence[Ticket]) -> str:
        """Return a sentence if a request cannot be let in, else "". A visitor is refused only for own requests."""
        sentence = self._refusal(ticket, waiting)
        self._refused[ticket.lane] += bool(sentence)
        return sentence

    def _refusal(self, ticket: Ticket, waiting: Sequence[Ticket]) -> str:
        alike = [other for other in waiting if other.is_save == ticket.is_save]
        own = sum(other.visitor == ticket.visitor for other in alike)
        if own >= (MAX_OWN_PROGRAM if ticket.visitor.startswith(PROGRAM) else MAX_OWN):
            return OWN.format(own)
        return BUSY.format(len(alike)) if len(alike) >= (MAX_WAITING if own else MAX_TOTAL) else ""

    def usage(self, waiting: Iterable[Ticket]) -> dict[str, dict[str, int]]:
        """Return how many requests of each lane are worked on, wait, were done and were refused."""
        running, queued = Counter(self.running.values()), Counter(ticket.lane for ticket in waiting)
        counts = {"running": running, "waiting": queued, "done": self._done, "refused": self._refused}
        return {lane: {name: count[lane] for name, count in counts.items()} for lane in LANES}
