"""Append-only JSON lines that outlast a crash: whole lines only, on the disk before the call returns."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from threading import Condition

from mpsams import checkpoint

# words of version 1 of a project, which are read as those of today
ACTIONS_V1 = {
    "ranked": "prioritised",
    "found": "recovered",
    "lost": "missing",
    "withdrawn": "discarded",
    "taken back": "rolled back",
}
FIELDS_V1 = {
    "who": "user",
    "urgency": "priority",
    "sheet": "token",
    "begun_from": "base_checkpoint",
    "held_back": "holdout",
    "changed_by_hand": "manually_edited",
}
_BLOCK = 2**16  # bytes read at once from the end


def append(path: Path, rows: Sequence[Mapping]) -> None:
    """Append rows, one line each, and bring them to the disk; the folder must exist.

    What an earlier crash left of a line is cut off first; it was never acknowledged. OSError says that the disk is full
    or read-only; then nothing of the rows is kept.
    """
    _append(path, rows, synchronise)


def synchronise(path: Path) -> None:
    """Bring a file and its name to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    checkpoint.sync(path.parent)


def _append(path: Path, rows: Sequence[Mapping], finish: Callable[[Path], None] = lambda path: None) -> tuple[int, int]:
    """Append rows and finish; return the size of the file before and then. If either fails, no row is kept."""
    left = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode("ascii")
    before = truncate_partial_line(path)
    end = before + len(left)
    try:
        with path.open("ab", buffering=0) as file:
            while left:
                left = left[file.write(left) :]
        finish(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.truncate(path, before)
        raise _not_written(path, error) from error
    return before, end


def _not_written(path: Path, error: OSError) -> OSError:
    return OSError(error.errno, f"could not write {path}: {error.strerror}; the previous file is unchanged")


class GroupCommit:
    """Appends to a log for several threads and brings what they appended to the disk together, with one fsync.

    The methods that append are called while ``lock`` is held, ``commit`` while it is not. on_cut: called with the lock
    held after rows that could not be written to disk were removed.
    """

    def __init__(self, path: Path, lock: AbstractContextManager, on_cut: Callable[[], object]) -> None:
        self.path, self._lock, self._on_cut = path, lock, on_cut
        self._changed = Condition()
        # of the whole lines, and of those on the disk
        self._end = self._synced = path.stat().st_size if path.exists() else 0
        self._cut: list[int] = []  # where the file was cut off after each commit that failed
        self._is_syncing = False

    def append(self, rows: Sequence[Mapping]) -> tuple[int, int]:
        """Append rows; return a position for ``commit``. OSError as the function ``append``."""
        before, end = _append(self.path, rows)
        with self._changed:
            self._end, self._synced = end, min(self._synced, before)  # less where another file was put in its place
            return len(self._cut), end

    def append_now(self, rows: Sequence[Mapping]) -> None:
        """Append rows and bring them to the disk, as the function ``append``."""
        _, end = _append(self.path, rows, synchronise)
        with self._changed:
            self._end = self._synced = end

    def commit(self, position: tuple[int, int]) -> None:
        """Return once all rows up to a position are on the disk. OSError: they are not, and the log has lost them."""
        failures, end = position
        with self._changed:
            while self._is_syncing and len(self._cut) == failures and self._synced < end:
                self._changed.wait()
            if len(self._cut) > failures and self._cut[failures] < end:
                raise OSError(errno.EIO, "the disk could not be written; the previous file is unchanged")
            if len(self._cut) > failures or self._synced >= end:
                return
            self._is_syncing, target = True, self._end
        try:
            synchronise(self.path)
        except OSError as error:
            with self._lock:
                with self._changed:
                    self._cut.append(self._synced)
                    self._end = self._synced
                    with contextlib.suppress(OSError):
                        os.truncate(self.path, self._synced)
                    self._end_sync()
                self._on_cut()
            raise _not_written(self.path, error) from error
        with self._changed:
            self._synced = max(self._synced, target) if self._end >= target else self._synced
            self._end_sync()

    def _end_sync(self) -> None:
        self._is_syncing = False
        self._changed.notify_all()


def read(path: Path, start: int = 0) -> tuple[list[dict], int]:
    """Return the rows from a byte on, and the position after the last whole line; no rows without a file.

    A last line without its end was being written when the app was killed, and is left out. So is a line that is no JSON
    object, or whose item or action is no text: the disk damaged it, and the lines around it still count.
    """
    if not path.exists():
        return [], 0
    with path.open("rb") as file:
        file.seek(start)
        *lines, unfinished = file.read().split(b"\n")
        end = file.tell() - len(unfinished)
    return [row for row in map(_row, lines) if row is not None], end


def tail(path: Path, count: int) -> list[dict]:
    """Return the last ``count`` rows, or fewer if there are no more, oldest first; only the end of the file is read."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        at = file.seek(0, os.SEEK_END)
        data = b""
        rows: list[dict] = []
        while at and len(rows) < count:
            size = min(at, max(_BLOCK, len(data)))
            at -= size
            file.seek(at)
            data = file.read(size) + data
            lines = data.split(b"\n")[1 if at else 0 : -1]
            rows = [row for row in map(_row, lines) if row is not None]
    return rows[-count:]


def _row(line: bytes) -> dict | None:
    """Return a line as a row in the words of today; None if it is damaged."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # no JSON, no UTF-8; lists in lists without end
        return None
    if not isinstance(row, dict) or not all(isinstance(row.get(name, ""), str) for name in ("item", "action")):
        return None
    row = {FIELDS_V1.get(name, name): value for name, value in row.items()}
    return row | {"action": ACTIONS_V1.get(row["action"], row["action"])} if "action" in row else row


def truncate_partial_line(path: Path) -> int:
    """Cut off a last line without its end; return the file's size in bytes, 0 where there is none."""
    if not path.exists():
        return 0
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end:
            at = max(0, end - 4096)
            file.seek(at)
            found = file.read(end - at).rfind(b"\n")
            end = at + found + 1 if found >= 0 else at
            if found >= 0:
                break
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())
    return end


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
