"""Append-only JSON lines that outlast a crash: whole lines only, on the disk before the call returns."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mpsams import checkpoint

# words of version 1 of a project, which are read as those of today
ACTIONS_V1 = {"ranked": "prioritised", "found": "recovered", "lost": "missing", "withdrawn": "discarded", "taken back": "rolled back"}
FIELDS_V1 = {"who": "user", "urgency": "priority", "sheet": "token", "begun_from": "base_checkpoint", "held_back": "holdout", "changed_by_hand": "manually_edited"}
_BLOCK = 2**16  # bytes read at once from the end


def append(path: Path, rows: Sequence[Mapping]) -> None:
    """Append rows, one line each, and bring them to the disk; the folder must exist.

    What an earlier crash left of a line is cut off first; it was never acknowledged. OSError says that the disk is full
    or read-only; then nothing of the rows is kept.
    """
    left = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode("ascii")
    before = truncate_partial_line(path)
    try:
        with path.open("ab", buffering=0) as file:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        if not before:
            checkpoint.sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.truncate(path, before)
        raise OSError(error.errno, f"could not write {path}: {error.strerror}; what was there before stands") from error


def read(path: Path, start: int = 0) -> tuple[list[dict], int]:
    """The rows from a byte on, and the byte behind the last whole line. No file, no rows.

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
    """The last rows, at most so many, oldest first; only the end of the file is read."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        at = file.seek(0, os.SEEK_END)
        data, rows = b"", []
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
    """Cut off a last line without its end; the file's size in bytes, 0 where there is none."""
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
    """The time as ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
