"""A browser tab on the page as gradio calls it: listeners of Annotate with a session's states, without a browser."""

from __future__ import annotations

import asyncio
import json
from types import ModuleType

import gradio as gr
import numpy as np
from gradio.state_holder import SessionState

from mpsams.annotation import protocol
from mpsams.app.annotate import queue
from mpsams.app.tabs import annotate


class Tab:
    """A browser tab on a page: its listeners by the function's name, with its own states."""

    def __init__(self, page: gr.Blocks) -> None:
        self.page, self.states, self.turn, self.request = page, SessionState(page), 0, None
        self.ours = [fn for fn in page.fns.values() if getattr(fn.fn, "__module__", "") == annotate.__name__]

    @property
    def stage(self) -> gr.HTML:
        return next(block for block in self.page.blocks.values() if getattr(block, "elem_id", None) == "annotate")

    def call(self, fn, data: dict | None = None, **values) -> dict:
        """Outputs that changed, by component. values: of inputs that are no state, by label."""
        inputs = [
            None if isinstance(block, gr.State) else values.get(block.elem_id or block.label, block.value)
            for block in fn.inputs
        ]
        run = self.page.process_api(
            fn, inputs, state=self.states, event_data=gr.EventData(None, data), request=self.request
        )
        answer = asyncio.run(run)["data"]
        skipped = ({"__type__": "update"}, {"__type__": "update", "props": {"__type__": "update"}})
        return {block: value for block, value in zip(fn.outputs, answer, strict=True) if value not in skipped}

    def named(self, name: str, module: ModuleType = annotate):
        """The listener of a name in a module."""
        found = (fn for fn in self.page.fns.values() if getattr(fn.fn, "__module__", "") == module.__name__)
        return next(fn for fn in found if fn.name == name)

    def state(self, kind: type):
        """The value of this tab's state of a kind."""
        return next(
            self.states[block._id]
            for block in self.page.blocks.values()
            if isinstance(block, gr.State) and isinstance(self.states[block._id], kind)
        )

    def wish(self, do: str, sheet: dict, mask_hw: np.ndarray | None = None, **more) -> dict:
        self.turn += 1
        mask = sheet["mask"] if mask_hw is None else protocol.pack(mask_hw)
        wish = {
            "action": do,
            "key": sheet["key"],
            "request_id": self.turn,
            "mask": mask,
            "changed": mask_hw is not None,
            "seconds": 1,
        } | more
        return self.call(self.named("act"), wish, **{"Your initials, for the log": "AB"})

    def listed(self, outputs: dict) -> tuple[str, dict[str, str]]:
        """The list after an event: the id of the image on screen, and the status of each image."""
        (listing,) = (value for block, value in outputs.items() if getattr(block, "elem_id", None) == "annotate-queue")
        project = next(fn.fn.__self__.session.project for fn in self.ours if fn.name == "act")
        current = json.loads(listing["value"] if isinstance(listing, dict) else listing)
        news = queue.news(project, None)
        assert current["version"] == news["version"]
        return current["current"], {row[0]: row[3] for row in news["items"]}

    def answered(self, outputs: dict) -> dict:
        return json.loads(outputs[self.stage])
