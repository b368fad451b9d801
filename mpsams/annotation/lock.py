"""One app per folder: a lock that the system takes back when the app dies, however it dies."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import filelock


def hold(path: Path) -> BinaryIO:
    """Lock a file, made if need be, until it is closed. ValueError if another app holds it; OSError: not writable."""
    file = path.open("ab")
    try:
        is_ours = filelock.lock_descriptor(file.fileno(), blocking=False)
    except OSError as error:
        file.close()
        message = f"{path.parent} cannot be locked ({error.strerror}); expected a folder on a disk of this machine"
        raise OSError(error.errno, message) from error
    if not is_ours:
        file.close()
        raise ValueError(f"{path.parent} is open in another app; close that one first, or name another folder")
    return file
