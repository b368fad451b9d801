"""The folder of uploads: made for one app, locked while it runs, swept of old files, emptied at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

_MARK = ".mpsams-uploads"
_PREFIX = "mpsams-"  # of the folders in the system's temporary folder


@contextlib.contextmanager
def uploads_folder(wanted: Path) -> Iterator[Path]:
    """Yield a folder of uploads while this app runs; what it holds, and what killed apps left beside it, is deleted."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if left != wanted:
            _discard(left)
    folder = own_folder(wanted)
    try:
        yield folder
    finally:
        empty(folder)
        if folder != wanted:
            shutil.rmtree(folder, ignore_errors=True)


def own_folder(wanted: Path) -> Path:
    """Return a folder of uploads for this app alone, made if need be and emptied; only its owner can read it.

    A folder that is not empty and was not made by this function, is a link, or is another's, is left alone; another is
    made.
    """
    wanted = Path(wanted)
    try:
        wanted.mkdir(parents=True, mode=0o700, exist_ok=True)
        if _is_ours(wanted) and (_MARK in (entries := os.listdir(wanted)) or not entries) and _hold(wanted) is not None:
            wanted.chmod(0o700)
            empty(wanted)
            return wanted
    except OSError:
        pass
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    _hold(folder)
    return folder


def _is_ours(folder: Path) -> bool:
    """Return True if this is a folder, no link to one, and this user's."""
    about = folder.lstat()
    return stat.S_ISDIR(about.st_mode) and (not hasattr(os, "getuid") or about.st_uid == os.getuid())


def _discard(folder: Path) -> None:
    """Delete a folder of uploads that no process holds any longer."""
    with contextlib.suppress(OSError):
        if _is_ours(folder) and (folder / _MARK).is_file() and (held := _hold(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)


def _hold(folder: Path) -> int | None:
    """Lock a folder for this process until it ends; return the lock's descriptor, None when another process has it."""
    file = os.open(folder / _MARK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with contextlib.suppress(OSError):
        # a file without a name was deleted meanwhile
        if filelock.lock_descriptor(file, blocking=False) and os.fstat(file).st_nlink:
            return file
    os.close(file)
    return None


def empty(folder: Path) -> None:
    """Delete everything in a folder of ours but the mark."""
    for entry in folder.iterdir():
        if entry.name == _MARK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def sweep(folder: Path, age: float, age_of_parts: float = 600) -> None:
    """Delete what gradio forgets: files older than ``age`` seconds, parts of broken-off uploads, empty folders."""
    now = time.time()
    for at, folders, names in os.walk(folder, topdown=False):
        for name in names:
            path, top = Path(at) / name, Path(at) == Path(folder)
            try:
                if name != _MARK and now - path.lstat().st_mtime > (age_of_parts if top else age):
                    path.unlink()
            except OSError:
                continue
        for name in folders:
            try:
                if now - (Path(at) / name).lstat().st_mtime > age_of_parts:
                    (Path(at) / name).rmdir()
            except OSError:
                continue
