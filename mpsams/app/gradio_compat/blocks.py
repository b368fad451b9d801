"""The page's Blocks: they open only files that were uploaded to the page, a few at a time, and hide internal errors
from users.

gradio copies any path or address found in a request into its cache, unless it lies outside the upload folder;
that check is off while an app is mounted rather than launched (6.31). So a request could name a file of the
server, or have the server fetch an address. Here every request is checked before gradio sees it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import gradio as gr
from gradio import utils
from gradio.block_function import BlockFunction
from gradio.data_classes import PredictBodyInternal
from gradio.utils import abspath, get_function_params, get_upload_folder, is_in_or_equal
from gradio_client.utils import traverse

from mpsams.annotation import disk
from mpsams.app.gradio_compat.changed_outputs import postprocess_changed, replace_changed
from mpsams.app.gradio_compat.fair_queue import FairQueue, Keys, Lane
from mpsams.app.gradio_compat.session_state import SESSIONS
from mpsams.app.server import arguments
from mpsams.app.server.budget import RELEASED, VISITOR, Budget, OverBudget
from mpsams.app.server.lanes import LONGEST, TOO_LONG, TooLong
from mpsams.app.server.logs import traceback_location
from mpsams.imaging import cost
from mpsams.inference import NotFinite

WRONG = "Something went wrong on the server; try again, or another file."
AGAIN = (
    "Your image is no longer in memory: the app was restarted, or other users needed the memory. Open the image again."
)

log = logging.getLogger("mpsams.app")
utils.diff = replace_changed


class GuardedBlocks(gr.Blocks):
    """Blocks that refuse requests for files which were not uploaded here, and hold visitors' values within a budget.

    The value of a state in ``held`` never lies in gradio's own state: a listener gets it from the budget. The page
    sends a token of the visitor back (``visitor_token``); where that is another than the budget's, or the values were
    released, the user sees a message.
    """

    def __init__(self, *args, budget: Budget | None = None, **kwargs) -> None:
        self.lanes: dict[int, tuple[str, Lane]] = {}  # of the listeners, for the queue
        # of the listeners that can say before they are called what they need from networks
        self.needs: dict[int, Callable[..., Keys]] = {}
        super().__init__(*args, **kwargs)
        self.state_session_capacity = SESSIONS
        self.budget, self.longest = budget or Budget(), LONGEST
        self.held: set[int] = set()
        self.visitor_token: gr.Textbox | None = None  # on the page, invisible
        self.may_lose: dict[int, set[int]] = {}

    def hold(self, states: Sequence[gr.State]) -> None:
        """Hold the values of these states within the budget."""
        self.visitor_token = self.visitor_token or gr.Textbox("", visible=False)
        self.held |= {state._id for state in states}

    def queue(self) -> gr.Blocks:
        """Replace gradio's queue by one in which visitors take turns; a visitor is refused only for requests of their
        own that wait.

        gradio's makes an application once more, which takes a tenth of a second (6.31).
        """
        self._queue: FairQueue = FairQueue(self, self.lanes, uploaded_files, self.keys_of)
        return self

    def keys_of(self, body: PredictBodyInternal) -> Keys:
        """Return the keys of the shared results that an event needs from networks; None where its listener has none."""
        needs = self.needs.get(body.fn_index)  # type: ignore[arg-type]
        if needs is None:
            return None
        with suppress(Exception):  # whatever is wrong with the values is said when the event is worked on
            inputs = [block for block in self.fns[body.fn_index].inputs if block is not self.visitor_token]  # type: ignore[index]
            pairs, visitor = zip(inputs, body.data, strict=False), body.session_hash or ""
            return needs(
                *(
                    self.budget.value(visitor, block._id, block.value) if block._id in self.held else value
                    for block, value in pairs
                )
            )
        return None

    def exchange_token(self, block_fn: BlockFunction, may_lose: Sequence[gr.State]) -> None:
        """Add the visitor's token to the inputs and outputs of a listener with held states.

        A listener with one held input and one output follows a change of the case, and needs no token.
        """
        self.may_lose[block_fn._id] = {state._id for state in may_lose}
        if len(block_fn.outputs) > 1 and self._has_held(block_fn.outputs):
            block_fn.outputs = [*block_fn.outputs, self.visitor_token]
        if len(block_fn.inputs) + len(block_fn.outputs) > 2 and self._has_held(block_fn.inputs):
            block_fn.inputs = [*block_fn.inputs, self.visitor_token]

    def _has_held(self, blocks: Sequence) -> bool:
        return any(block._id in self.held for block in blocks)

    async def preprocess_data(self, block_fn, inputs, *args, **kwargs):
        """Return the arguments of a listener.

        A released value raises an error, or is None for a listener that accepts it (``may_lose``).
        """
        traverse(inputs, check_uploaded, is_file)
        has_token = bool(block_fn.inputs) and block_fn.inputs[-1] is self.visitor_token
        if has_token and len(inputs) == len(block_fn.inputs) - 1:  # from a page, or a program, that sends none
            inputs = [*inputs, None]
        values = await super().preprocess_data(block_fn, inputs, *args, **kwargs)
        token, visitor = values.pop() if has_token else "", VISITOR.get()
        if visitor is None:
            return values
        stale, may_lose = bool(token) and token != self.budget.token(visitor), self.may_lose.get(block_fn._id, set())
        for index, block in enumerate(block_fn.inputs[: len(values)]):
            if block._id not in self.held:
                continue
            default = RELEASED if stale else values[index]
            value = self.budget.value(visitor, block._id, default)
            if (value is RELEASED or stale) and block._id not in may_lose:
                raise gr.Error(AGAIN, title="Not possible", print_exception=False)
            values[index] = None if value is RELEASED else value
        return values

    async def postprocess_data(self, block_fn, predictions, *args, **kwargs):
        """Return the values of a listener's outputs for the page; those of held states stay here."""
        visitor = VISITOR.get()
        if visitor is not None and isinstance(predictions, dict):
            predictions = {block: self._store_held(visitor, block, value) for block, value in predictions.items()}
            if self.visitor_token in block_fn.outputs:
                predictions[self.visitor_token] = self.budget.token(visitor)
        elif (
            isinstance(predictions, list | tuple)
            and len(predictions) == len(block_fn.outputs) - 1
            and self.visitor_token in block_fn.outputs
        ):
            predictions = [*predictions, gr.skip()]
        return await postprocess_changed(super().postprocess_data, block_fn, predictions, *args, **kwargs)

    def _store_held(self, visitor: str, block: object, value: object) -> object:
        id = getattr(block, "_id", None)
        if id not in self.held:
            return value
        self.budget.put(visitor, id, value)
        return gr.skip()

    async def process_api(
        self, block_fn, inputs, *args, session_hash: str | None = None, event_id: str | None = None, **kwargs
    ):
        """Answer a request as gradio does, but turn an unexpected error into a sentence, and do not log its message,
        which may quote a file.
        """

        async def answer():
            with self.budget.serve_request(session_hash):
                self.budget.reserve(memory, space)
                return await super(GuardedBlocks, self).process_api(
                    block_fn, inputs, *args, session_hash=session_hash, event_id=event_id, **kwargs
                )

        memory, space = 0, 0  # bytes in memory and on the disk
        try:
            inputs = check_arguments(block_fn, inputs)
            paths = uploaded_files(inputs)
            if not paths:
                return await answer()
            known = self._queue.cost_of(event_id)
            memory, space = await asyncio.to_thread(cost.estimate, paths) if known is None else known
            work = asyncio.ensure_future(answer())
            await asyncio.wait({work}, timeout=self.longest)
            if not work.done():
                self._queue.hold_place(event_id, work)
                raise TooLong(TOO_LONG.format(self.longest))
            return work.result()
        except gr.Error as refusal:
            refusal.print_exception = False
            raise
        except (OverBudget, TooLong, NotFinite) as refusal:
            raise gr.Error(str(refusal), title="Not possible", print_exception=False) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (*disk.FULL, *disk.READ_ONLY):
                raise gr.Error(disk.sentence(error), title="Not possible", print_exception=False) from None
            log.error("a request failed with %s at %s", type(error).__name__, traceback_location(error))
            raise gr.Error(WRONG, title="Not possible", print_exception=False) from None
        finally:
            # a program without a session: nothing of it is kept
            if session_hash is not None and session_hash == event_id:
                self.state_holder.session_data.pop(session_hash, None)


def check_arguments(block_fn, inputs: list) -> list:
    """Return the arguments of a request, those of a named endpoint checked. gr.Error says what is wrong with them."""
    if block_fn.api_visibility == "private" or not block_fn.api_name:
        return inputs
    try:
        return arguments.check_arguments(block_fn.api_name, get_function_params(block_fn.fn), block_fn.inputs, inputs)
    except ValueError as error:
        raise gr.Error(str(error), title="Not possible", print_exception=False) from None


def is_file(part: object) -> bool:
    """Return True if a part of a request stands for a file."""
    return isinstance(part, dict) and "path" in part


def uploaded_files(inputs: object) -> list[Path]:
    """Return the uploaded files that a request names and that exist; the others are refused later."""
    found: list[Path] = []
    traverse(inputs, lambda file: found.append(file["path"]) or file, is_file)  # type: ignore[func-returns-value]
    return [
        Path(path)
        for path in found
        if isinstance(path, str)
        and "\0" not in path
        and is_in_or_equal(abspath(path), get_upload_folder())
        and os.path.isfile(path)
    ]


def check_uploaded(file: dict) -> dict:
    """Return the file unchanged. gr.Error when its path is not that of a file in the folder of uploads."""
    path = file["path"]
    fits = (
        isinstance(path, str)
        and "://" not in path
        and "\0" not in path
        and is_in_or_equal(abspath(path), get_upload_folder())
    )
    if not fits:
        raise gr.Error("Only files uploaded to this page can be opened.", title="Not possible", print_exception=False)
    if not os.path.isfile(path):
        raise gr.Error("This file is no longer here; upload it again.", title="Not possible", print_exception=False)
    return file
