"""Limits on sign-in attempts: one for each name from each address, and a looser one for each name,
with growing delays.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from threading import Lock

FREE, LONGEST = 5, 900.0  # wrong passwords of a name from one address before there is a delay; seconds that it grows to
FREE_OF_A_NAME, LONGEST_OF_A_NAME = 30, 60.0  # the same of a name from all addresses it never signed in from
KEPT = 10_000  # names with addresses that are remembered, for names that have an account and for others
FORGOTTEN = 4 * LONGEST  # seconds without a try after which it begins anew


@dataclass
class _Tries:
    """count: tries without success. until: when the next is allowed. last: when there was one."""

    count: int = 0
    until: float = 0.0
    last: float = 0.0


class Limit:
    """Tries of anything that can be a key: some are free, then each waits twice as long as the last, up to a limit."""

    def __init__(self, free: int, longest: float, kept: int = KEPT) -> None:
        self.free, self.longest, self.kept = free, longest, kept
        self._tries: OrderedDict[Hashable, _Tries] = OrderedDict()

    def wait(self, key: Hashable, now: float) -> float:
        """Return the seconds until this key may try again; 0 is now."""
        tries = self._tries.get(key)
        return 0.0 if tries is None or now - tries.last > FORGOTTEN else max(0.0, tries.until - now)

    def count(self, key: Hashable, now: float) -> None:
        """Count a try that was allowed, before it is known to succeed."""
        tries = self._tries.get(key)
        if tries is None or now - tries.last > FORGOTTEN:
            tries = self._tries[key] = _Tries()
        tries.count, tries.last = tries.count + 1, now
        if tries.count >= self.free:
            tries.until = now + min(self.longest, 2.0 ** min(tries.count - self.free, 30))
        self._tries.move_to_end(key)
        while len(self._tries) > self.kept:
            self._tries.popitem(last=False)

    def take_back(self, key: Hashable) -> None:
        """Take the last try out of the count."""
        tries = self._tries.get(key)
        if tries is not None:
            tries.count = max(0, tries.count - 1)
            tries.until = tries.until if tries.count >= self.free else 0.0

    def forget(self, key: Hashable) -> None:
        """Forget the tries of a key, after a success."""
        self._tries.pop(key, None)

    def __len__(self) -> int:
        return len(self._tries)


class Guesses:
    """Limits on attempts to sign in.

    names: those that have an account; others are limited alike, but cannot crowd these out. May be asked from several
    threads.
    """

    def __init__(self, names: Collection[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._names, self._clock, self._lock = names, clock, Lock()
        self._pairs = {known: Limit(FREE, LONGEST) for known in (True, False)}
        self._of_names = {known: Limit(FREE_OF_A_NAME, LONGEST_OF_A_NAME) for known in (True, False)}
        self._trusted: OrderedDict[tuple[str, str], None] = OrderedDict()

    def ask(self, name: str, address: str) -> float:
        """Return 0 where a password of the name may be tried from the address, and count it; else the seconds to wait.

        A refusal does not count.
        """
        pair, known, now = (name, network(address)), name in self._names, self._clock()
        with self._lock:
            trusted = pair in self._trusted
            seconds = max(self._pairs[known].wait(pair, now), 0.0 if trusted else self._of_names[known].wait(name, now))
            if not seconds:
                self._pairs[known].count(pair, now)
                if not trusted:
                    self._of_names[known].count(name, now)
            return seconds

    def right(self, name: str, address: str) -> None:
        """Note a right password: the name's tries from the address begin anew, others no longer delay it."""
        pair = name, network(address)
        with self._lock:
            self._pairs[name in self._names].forget(pair)
            if pair not in self._trusted:
                self._of_names[name in self._names].take_back(name)
            self._trusted[pair] = None
            self._trusted.move_to_end(pair)
            while len(self._trusted) > KEPT:
                self._trusted.popitem(last=False)


def network(address: str) -> str:
    """Return the part of an address that counts as one: an IPv4 address, or the first 64 bits of an IPv6 one, all of
    which one computer may own.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
