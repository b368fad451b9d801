"""Budgets of memory and temporary disk that the visitors share, and the amounts each of them holds. No gradio here.

A visitor is one browser tab. What it opened, its values, is held here and nowhere else. Where there is no room, the
values of those who have not asked for longest are let go of; only what cannot be made again, drawings, is kept as long
as the tab is open.

Over 250 lines because reserving, measuring and releasing change the same counts under one lock.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from threading import RLock

import numpy as np
import torch

from mpsams.inference import Network

MAX_VISITORS = 10_000  # visitors of whom nothing is held but that they were here
GIB = 2**30
FULL = (
    "This computer has no room for it right now, because others have large images open. Try again in a few minutes, or"
    " a smaller file."
)
# who asked for what is being done; None for a caller without a session
VISITOR: ContextVar[str | None] = ContextVar("visitor", default=None)
# bytes of memory and of disk reserved for what is being done
RESERVED: ContextVar[list[int] | None] = ContextVar("reserved", default=None)


class OverBudget(ValueError):
    """There is neither memory nor disk left for what is asked for."""


class Released:
    """Stands for a value that was let go of."""


RELEASED = Released()


@dataclass
class Visitor:
    """values: by the number of the component that they belong to; lost: the numbers of those let go of.

    sizes: bytes by array, and whether on disk. busy: requests being worked on.
    """

    name: str = field(default_factory=lambda: secrets.token_hex(8))
    values: dict[int, object] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    sizes: dict[int, tuple[int, bool]] = field(default_factory=dict)
    busy: int = 0
    closed: bool = False


class Budget:
    """Bytes of memory and of disk for all visitors; may be asked from several threads."""

    def __init__(self, memory: int | None = None, disk: int | None = None) -> None:
        """None is what ``defaults`` says."""
        usual = defaults()
        self.limits = (usual[0] if memory is None else memory, usual[1] if disk is None else disk)
        self._visitors: OrderedDict[str, Visitor] = OrderedDict()
        self._shared: dict[int, list] = {}  # array -> its bytes, whether on disk, how many visitors hold it
        self._used = [0, 0]
        self._lock = RLock()

    def usage(self) -> dict:
        """Return bytes used and allowed, and how many requests are being worked on, for /healthz."""
        with self._lock:
            bytes_of = {
                name: {"used": self._used[k], "limit": self.limits[k]} for k, name in enumerate(("memory", "disk"))
            }
            return bytes_of | {"busy": sum(visitor.busy for visitor in self._visitors.values())}

    def token(self, visitor: str) -> str:
        """Return the token that a page sends back to refer to the data held for it now; "" if none was ever held."""
        with self._lock:
            known = self._visitors.get(visitor)
            return known.name if known is not None and (known.values or known.lost) else ""

    def value(self, visitor: str, number: int, default: object) -> object:
        """Return a value of a visitor; RELEASED where it was released, the default where there never was one."""
        with self._lock:
            known = self._visitors.get(visitor)
            if known is None:
                return default
            return RELEASED if number in known.lost else known.values.get(number, default)

    def put(self, visitor: str, number: int, value: object) -> None:
        """Hold a value for a visitor in place of the one before."""
        with self._lock:
            known = self._visitors.setdefault(visitor, Visitor())
            known.values[number] = value
            known.lost.discard(number)

    @contextmanager
    def serve_request(self, visitor: str | None) -> Iterator[None]:
        """Keep all values of a visitor while a request is served; then measure them, and release others' if need be."""
        reserved = [0, 0]
        visitor_before, reserved_before = VISITOR.set(visitor), RESERVED.set(reserved)
        if visitor is not None:
            with self._lock:
                known = self._visitors.setdefault(visitor, Visitor())
                known.busy += 1
                known.closed = False
                self._visitors.move_to_end(visitor)
        try:
            yield
        finally:
            VISITOR.reset(visitor_before)
            RESERVED.reset(reserved_before)
            self._end_request(visitor, reserved)

    def reserve(self, memory: int = 0, disk: int = 0) -> None:
        """Reserve bytes for the visitor who asked; NoRoom where even without the idle ones there are too few."""
        visitor = VISITOR.get()
        with self._lock:
            known = None if visitor is None else self._visitors.get(visitor)
            more = (memory, disk)
            self._release_for(more, known)
            if any(self._used[k] + more[k] > self.limits[k] for k in (0, 1) if more[k]):
                raise OverBudget(FULL)
            reserved = RESERVED.get()
            if reserved is not None:
                for k in (0, 1):
                    reserved[k] += more[k]
                    self._used[k] += more[k]

    def close(self, visitor: str) -> None:
        """Release the values of a closed tab or broken connection, drawings only when room is needed."""
        with self._lock:
            if visitor in self._visitors:
                self._visitors[visitor].closed = True
                self._visitors.move_to_end(visitor, last=False)
                self._release(self._visitors[visitor])  # what is still being done for it lets go in the end

    def _end_request(self, visitor: str | None, reserved: list[int]) -> None:
        with self._lock:
            for k in (0, 1):
                self._used[k] -= reserved[k]
            known = None if visitor is None else self._visitors.get(visitor)
            if visitor is None or known is None:
                return
            known.busy -= 1
            self._measure(known)
            if known.closed:
                self._release(known)
            if not known.busy and not known.values and not known.lost:
                del self._visitors[visitor]  # it only asked
            self._release_for((0, 0), known)
            while len(self._visitors) > MAX_VISITORS:
                name = next(
                    (name for name, other in self._visitors.items() if not other.values and not other.busy), None
                )
                if name is None:
                    return
                del self._visitors[name]

    def _release_for(self, more: tuple[int, int], spared: Visitor | None) -> None:
        """Release values of idle visitors, who have not asked for longest first, until ``more`` bytes fit."""

        def short() -> set[int]:
            return {k for k in (0, 1) if self._used[k] + more[k] > self.limits[k]}

        for with_drawings in (False, True):
            for other in list(self._visitors.values()):
                if not short():
                    return
                if other.busy or other is spared or not short() & {int(on_disk) for _, on_disk in other.sizes.values()}:
                    continue  # nothing of what is short would be won
                if with_drawings and other.closed:
                    other.lost |= set(other.values)
                    other.values.clear()
                    self._measure(other)
                elif not with_drawings:
                    self._release(other)

    def _release(self, known: Visitor) -> None:
        """Release the values of a visitor, but for those that say they hold what cannot be made again."""
        if known.busy:
            return
        for number, value in list(known.values.items()):
            release = getattr(value, "release", None)
            if release is None or not release():
                del known.values[number]
                known.lost.add(number)
        self._measure(known)

    def _measure(self, known: Visitor) -> None:
        """Count anew what a visitor holds; an array that several hold counts once."""
        try:
            sizes = sizes_of(list(known.values.values()))
        except RuntimeError:  # it is being changed by another of its requests, which measures it when it is done
            return
        for key in known.sizes:
            entry = self._shared[key]
            entry[2] -= 1
            if not entry[2]:
                del self._shared[key]
                self._used[entry[1]] -= entry[0]
        for key, (size, on_disk) in sizes.items():
            entry = self._shared.setdefault(key, [size, on_disk, 0])
            if not entry[2]:
                self._used[on_disk] += size
            entry[2] += 1
        known.sizes = sizes


_SCALARS = (float, int, bool, type(None))  # most of what is held, by number; of no size


def sizes_of(values: object) -> dict[int, tuple[int, bool]]:
    """Return the bytes of each array, tensor and long text in nested values, and whether it lies on disk, by a number
    of its own.

    Looks into lists, dicts and dataclasses, and into objects that list what they hold as ``held``; a network is shared
    by all.
    """
    found: dict[int, tuple[int, bool]] = {}
    seen: set[int] = set()
    waiting = [values]
    while waiting:
        value = waiting.pop()
        if type(value) in _SCALARS or id(value) in seen or isinstance(value, Network):
            continue
        seen.add(id(value))
        if isinstance(value, np.ndarray):
            while isinstance(value.base, np.ndarray):
                value = value.base
            found[id(value)] = value.nbytes, isinstance(value, np.memmap)
        elif isinstance(value, torch.Tensor):
            found[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes(), False
        elif isinstance(value, str | bytes):
            found[id(value)] = len(value), False
        elif isinstance(value, list | tuple | set):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(list(value.values()))
        elif hasattr(value, "held"):
            waiting.append(value.held)
        elif is_dataclass(value) and not isinstance(value, type):
            waiting.extend(
                list(vars(value).values())
                if hasattr(value, "__dict__")
                else [getattr(value, part.name) for part in fields(value)]
            )
    return found


def defaults() -> tuple[int, int]:
    """Return the bytes of memory and of disk for visitors: half of the memory this process can get now, and half of the
    free temporary disk.

    Where the temporary folder is itself memory (tmpfs), both take a quarter of the memory.
    """
    memory, free = available(), shutil.disk_usage(tempfile.gettempdir()).free
    if is_memory(tempfile.gettempdir()):
        return memory // 4, min(free // 2, memory // 4)
    return memory // 2, free // 2


def available() -> int:
    """Return the bytes of memory that this process can get: what is free, within the limit of its container."""
    found = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        found += [
            int(line.split()[1]) * 1024 for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:")
        ]
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            found.append(int(Path(limit).read_text()))
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    if not found and hasattr(os, "sysconf"):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(found, default=4 * GIB)


def is_memory(folder: str) -> bool:
    """Return True if a folder lies in memory instead of on a disk."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return False
    real = os.path.realpath(folder)
    over = [(len(at), kind) for at, kind in mounts if real == at or real.startswith(at.rstrip("/") + "/")]
    return bool(over) and max(over)[1] in ("tmpfs", "ramfs")
