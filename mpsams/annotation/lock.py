"""One app per folder: a lock that the system takes back when the app dies, however it dies."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO


def hold(path: Path) -> BinaryIO:
    """Lock a file, made when it is not there, until it is closed.

    ValueError: another app holds it. OSError: it cannot be written.
    """
    file = path.open("ab")
    try:
        _lock(file)
    except (BlockingIOError, PermissionError):
        file.close()
        raise ValueError(
            f"{path.parent} is open in another app; close that one first, or name another folder"
        ) from None
    except OSError as error:
        file.close()
        message = f"{path.parent} cannot be locked ({error.strerror}); expected a folder on a disk of this machine"
        raise OSError(error.errno, message) from error
    return file


def _lock(file: BinaryIO) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
