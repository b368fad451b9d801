"""Append-only JSON lines that outlast a crash: whole lines only, on the disk before the call returns."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mpsams import checkpoint


def append(path: Path, rows: Sequence[Mapping]) -> None:
    """Append rows, one line each, and bring them to the disk; the folder must exist.

    What an earlier crash left of a line is cut off first; it was never acknowledged. OSError says that the disk is full
    or read-only; then nothing of the rows is kept.
    """
    left = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode("ascii")
    before = mend(path)
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
    object: the disk damaged it, and the lines around it still count.
    """
    if not path.exists():
        return [], 0
    with path.open("rb") as file:
        file.seek(start)
        *lines, unfinished = file.read().split(b"\n")
        end = file.tell() - len(unfinished)
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError):  # and its children for what is no JSON and no UTF-8
            row = json.loads(line)
            rows += [row] if isinstance(row, dict) else []
    return rows, end


def mend(path: Path) -> int:
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
