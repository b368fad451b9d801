"""A page that opens only what was uploaded to it, a few files at a time, and tells nobody what went wrong inside; the folder of uploads.

gradio copies any path or address found in a request into its cache, unless it lies outside the upload folder;
that check rests while an app is mounted rather than launched (6.31). So a request could name a file of the
server, or have the server fetch an address. Here every request is checked before gradio sees it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import stat
import tempfile
import time
import traceback
from pathlib import Path

import gradio as gr
from gradio.utils import abspath, get_upload_folder, is_in_or_equal
from gradio_client.utils import traverse

OPENED_AT_ONCE = 2  # requests with files that are worked on; others wait, so memory is bounded by the largest two
SESSIONS = 200  # whose state is kept; of more, those not used for longest begin anew
WRONG = "Something went wrong in here; try another way, or another file."
_MARK = ".mpsams-uploads"

log = logging.getLogger("mpsams.app")


class UploadsOnly(gr.Blocks):
    """Blocks that refuse a request naming a file which was not uploaded here."""

    def __init__(self, *others, **more) -> None:
        super().__init__(*others, **more)
        self.state_session_capacity = SESSIONS
        self._turns = asyncio.Semaphore(OPENED_AT_ONCE)

    async def preprocess_data(self, block_fn, inputs, *others, **more):
        traverse(inputs, refuse_foreign, is_file)
        return await super().preprocess_data(block_fn, inputs, *others, **more)

    async def process_api(self, block_fn, inputs, *others, **more):
        """As gradio's, but what we did not foresee is a sentence, and its words, which may quote a file, are not logged."""
        try:
            if not names_file(inputs):
                return await super().process_api(block_fn, inputs, *others, **more)
            async with self._turns:
                return await super().process_api(block_fn, inputs, *others, **more)
        except gr.Error as refusal:
            refusal.print_exception = False
            raise
        except Exception as error:
            log.error("a request failed with %s at %s", type(error).__name__, place(error))
            raise gr.Error(WRONG, title="Not possible", print_exception=False) from None


def is_file(part: object) -> bool:
    """Whether part of a request stands for a file."""
    return isinstance(part, dict) and "path" in part


def names_file(inputs: object) -> bool:
    """Whether there is a file anywhere in a request."""
    found = []
    traverse(inputs, lambda file: found.append(True) or file, is_file)
    return bool(found)


def refuse_foreign(file: dict) -> dict:
    """The file as it is, or gr.Error when its path is not that of a file in the folder of uploads."""
    path = file["path"]
    fits = isinstance(path, str) and "://" not in path and "\0" not in path and is_in_or_equal(abspath(path), get_upload_folder())
    if not fits:
        raise gr.Error("Only files uploaded to this page can be opened.", title="Not possible", print_exception=False)
    if not os.path.isfile(path):
        raise gr.Error("This file is no longer here; upload it again.", title="Not possible", print_exception=False)
    return file


def place(error: BaseException) -> str:
    """Where an exception arose, file and line from the outside in, without any of its words."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)


def own_folder(wanted: Path) -> Path:
    """A folder of uploads that only this app uses, made if need be and emptied of an earlier run's; readable by its owner alone.

    A folder that is not empty and was not made by this function, is a link, or is another's, is left alone; another is made.
    """
    wanted = Path(wanted)
    try:
        wanted.mkdir(parents=True, mode=0o700, exist_ok=True)
        about = wanted.lstat()
        ours = stat.S_ISDIR(about.st_mode) and (not hasattr(os, "getuid") or about.st_uid == os.getuid())
        entries = [entry.name for entry in wanted.iterdir()] if ours else []
        if ours and (not entries or _MARK in entries) and _hold(wanted):
            wanted.chmod(0o700)
            empty(wanted)
            return wanted
    except OSError:
        pass
    folder = Path(tempfile.mkdtemp(prefix="mpsams-"))
    _hold(folder)
    return folder


def _hold(folder: Path) -> bool:
    """Whether the folder is now this process's, until it ends."""
    file = os.open(folder / _MARK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows: a second app there must be given a folder of its own
        pass
    except OSError:
        os.close(file)
        return False
    return True


def empty(folder: Path) -> None:
    """Take everything out of a folder of ours but the mark."""
    for entry in folder.iterdir():
        if entry.name == _MARK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def sweep(folder: Path, age: float, age_of_parts: float = 600) -> None:
    """Delete what gradio forgets: files older than ``age`` seconds, parts of broken-off uploads that nothing was added to, empty folders."""
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
