"""A page that opens only what was uploaded to it, a few files at a time, and tells nobody what went wrong inside; the folder of uploads.

gradio copies any path or address found in a request into its cache, unless it lies outside the upload folder;
that check rests while an app is mounted rather than launched (6.31). So a request could name a file of the
server, or have the server fetch an address. Here every request is checked before gradio sees it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import stat
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.utils import abspath, get_function_params, get_upload_folder, is_in_or_equal
from gradio_client.utils import traverse

from mpsams.app.gradio_compat import SESSIONS
from mpsams.app.server import (
    arguments,
    multipart,  # noqa: F401  which gradio parses uploads with from now on
)
from mpsams.app.server.budget import LOST, VISITOR, Budget, NoRoom
from mpsams.app.server.lanes import Lanes, TooBusy
from mpsams.imaging import cost
from mpsams.inference import NotFinite

SAVES, MOST_SAVES = "saves", 1000  # the queue of its own that saving has, and how many may wait in it
FULL = "The app is busy; try again in a moment."
WRONG = "Something went wrong in here; try another way, or another file."
AGAIN = "The app does not hold your image any more: it was started again, or needed the room for others. Open your image again."
_MARK = ".mpsams-uploads"
_PREFIX = "mpsams-"  # of the folders in the system's temporary folder

log = logging.getLogger("mpsams.app")


class UploadsOnly(gr.Blocks):
    """Blocks that refuse a request naming a file which was not uploaded here, and hold what visitors opened within a budget.

    What is ``held`` never lies in gradio's states: a listener gets it from the budget. A page says which visitor it takes itself
    for (``belief``); where that is another than the one whose values are held, or they were let go of, the visitor is told.
    """

    def __init__(self, *others, budget: Budget | None = None, **more) -> None:
        super().__init__(*others, **more)
        self.state_session_capacity = SESSIONS
        self.budget, self.lanes = budget or Budget(), Lanes()
        self.held: set[int] = set()
        self.belief: gr.Textbox | None = None  # on the page, never seen
        self.may_lose: dict[int, set[int]] = {}

    def hold(self, states: Sequence[gr.State]) -> None:
        """Hold the values of these within the budget."""
        self.belief = self.belief or gr.Textbox("", visible=False)
        self.held |= {state._id for state in states}

    def queue(self, *others, max_size: int | None = None, **more) -> gr.Blocks:
        """As gradio's, but what saves is refused only for other saves."""
        super().queue(*others, **more)
        push = self._queue.push

        async def pushed(body, *said, **more):
            fn = self.fns.get(body.fn_index)
            is_save = fn is not None and fn.concurrency_id == SAVES
            waiting = sum(len(one.queue) for one in self._queue.event_queue_per_concurrency_id.values() if (one.concurrency_id == SAVES) == is_save)
            most = MOST_SAVES if is_save else max_size
            return (False, FULL, "queue_full") if most is not None and waiting >= most else await push(body, *said, **more)

        self._queue.push = pushed
        return self

    def let_speak(self, block_fn: BlockFunction, may_lose: Sequence[gr.State]) -> None:
        """Let the page say with a listener whom it takes itself for, and hear it where what is held is set.

        What takes a value that is held and nothing else, for one component, follows a change and need not say it.
        """
        self.may_lose[block_fn._id] = {state._id for state in may_lose}
        if len(block_fn.outputs) > 1 and self._holds(block_fn.outputs):
            block_fn.outputs = [*block_fn.outputs, self.belief]
        if len(block_fn.inputs) + len(block_fn.outputs) > 2 and self._holds(block_fn.inputs):
            block_fn.inputs = [*block_fn.inputs, self.belief]

    def _holds(self, blocks: Sequence) -> bool:
        return any(block._id in self.held for block in blocks)

    async def preprocess_data(self, block_fn, inputs, *others, **more):
        """What a listener is called with. Where a value was let go of, those listeners get None that said so (``may_lose``)."""
        traverse(inputs, refuse_foreign, is_file)
        believes = bool(block_fn.inputs) and block_fn.inputs[-1] is self.belief
        if believes and len(inputs) == len(block_fn.inputs) - 1:  # from a page, or a program, that does not say
            inputs = [*inputs, None]
        values = await super().preprocess_data(block_fn, inputs, *others, **more)
        believed, visitor = values.pop() if believes else "", VISITOR.get()
        if visitor is None:
            return values
        stale, without = bool(believed) and believed != self.budget.name(visitor), self.may_lose.get(block_fn._id, set())
        for place, block in enumerate(block_fn.inputs[: len(values)]):
            if block._id not in self.held:
                continue
            default = LOST if stale else values[place]
            value = self.budget.value(visitor, block._id, default)
            if (value is LOST or stale) and block._id not in without:
                raise gr.Error(AGAIN, title="Not possible", print_exception=False)
            values[place] = None if value is LOST else value
        return values

    async def postprocess_data(self, block_fn, predictions, *others, **more):
        """What a listener answered, as it goes to the page; what is held stays here."""
        visitor = VISITOR.get()
        if visitor is not None and isinstance(predictions, dict):
            predictions = {block: self._kept_back(visitor, block, value) for block, value in predictions.items()}
            if self.belief in block_fn.outputs:
                predictions[self.belief] = self.budget.name(visitor)
        elif isinstance(predictions, list | tuple) and len(predictions) == len(block_fn.outputs) - 1 and self.belief in block_fn.outputs:
            predictions = [*predictions, gr.skip()]
        return await super().postprocess_data(block_fn, predictions, *others, **more)

    def _kept_back(self, visitor: str, block: object, value: object) -> object:
        if getattr(block, "_id", None) not in self.held:
            return value
        self.budget.put(visitor, block._id, value)
        return gr.skip()

    async def process_api(self, block_fn, inputs, *others, session_hash: str | None = None, event_id: str | None = None, **more):
        """As gradio's, but what we did not foresee is a sentence, and its words, which may quote a file, are not logged."""

        async def answer():
            with self.budget.asking(session_hash):
                self.budget.room(memory, disk)
                return await super(UploadsOnly, self).process_api(
                    block_fn, inputs, *others, session_hash=session_hash, event_id=event_id, **more
                )

        memory, disk = 0, 0
        try:
            inputs = given(block_fn, inputs)
            paths = files_of(inputs)
            if not paths:
                return await answer()
            memory, disk = await asyncio.to_thread(cost.of, paths)
            return await self.lanes.through(disk, answer)
        except gr.Error as refusal:
            refusal.print_exception = False
            raise
        except (NoRoom, TooBusy, NotFinite) as refusal:
            raise gr.Error(str(refusal), title="Not possible", print_exception=False) from None
        except Exception as error:
            log.error("a request failed with %s at %s", type(error).__name__, place(error))
            raise gr.Error(WRONG, title="Not possible", print_exception=False) from None
        finally:
            if session_hash is not None and session_hash == event_id:  # a program without a session: nothing of it is kept
                self.state_holder.session_data.pop(session_hash, None)


def given(block_fn, inputs: list) -> list:
    """The arguments of a request, those of a named endpoint checked; gr.Error says what is wrong with them."""
    if block_fn.api_visibility == "private" or not block_fn.api_name:
        return inputs
    try:
        return arguments.checked(block_fn.api_name, get_function_params(block_fn.fn), block_fn.inputs, inputs)
    except ValueError as error:
        raise gr.Error(str(error), title="Not possible", print_exception=False) from None


def is_file(part: object) -> bool:
    """Whether part of a request stands for a file."""
    return isinstance(part, dict) and "path" in part


def files_of(inputs: object) -> list[Path]:
    """The files named anywhere in a request that are there; the others are refused later."""
    found: list[Path] = []
    traverse(inputs, lambda file: found.append(file["path"]) or file, is_file)  # type: ignore[func-returns-value]
    return [Path(path) for path in found if isinstance(path, str) and "\0" not in path and is_in_or_equal(abspath(path), get_upload_folder()) and os.path.isfile(path)]


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


@contextlib.contextmanager
def taken(wanted: Path) -> Iterator[Path]:
    """A folder of uploads for as long as this app runs; what it holds, and what killed apps left beside it, is deleted."""
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
    """A folder of uploads that only this app uses, made if need be and emptied of an earlier run's; readable by its owner alone.

    A folder that is not empty and was not made by this function, is a link, or is another's, is left alone; another is made.
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
    """Whether this is a folder, no link to one, and this user's."""
    about = folder.lstat()
    return stat.S_ISDIR(about.st_mode) and (not hasattr(os, "getuid") or about.st_uid == os.getuid())


def _discard(folder: Path) -> None:
    """Delete a folder of uploads that no process holds any longer."""
    with contextlib.suppress(OSError, ImportError):
        import fcntl  # noqa: F401  without locks nobody knows whether one holds it

        if _is_ours(folder) and (folder / _MARK).is_file() and (held := _hold(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)


def _hold(folder: Path) -> int | None:
    """The handle by which the folder is this process's until it ends; None when it is another's."""
    file = os.open(folder / _MARK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink:  # else it was deleted meanwhile
            return file
    except ImportError:  # Windows: a second app there must be given a folder of its own
        return file
    except OSError:
        pass
    os.close(file)
    return None


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
