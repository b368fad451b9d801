"""A visitor of the lecture hall: a browser tab without a browser, which sends the events of the page."""

from __future__ import annotations

import hashlib
import json
import random

import numpy as np

from benchmarks.clients import PICTURE, Page, Visitor, outputs
from mpsams.annotation import protocol

SLIDERS = {"mask": "Epoch of pretraining", "reconstruct": "Epoch: how much is hidden"}


class Guest(Visitor):
    """A visitor who uses all tabs.

    item: of the project, which nobody else opens. drawn: masks that were acknowledged.
    """

    def __init__(self, address: str, page: Page, number: int, config: dict, item: str, same: bool) -> None:
        super().__init__(address, page, number)
        self.config, self.item, self.same = config, item, same
        self.parts = {part["id"]: part for part in config["components"]}
        self.random, self.turn, self.slice_view = random.Random(number), 0, {}

    def begin(self) -> None:
        """Open the page, this visitor's picture, and its image of the project."""
        self.http.get("/").raise_for_status()  # its cookie says which worker answers from now on
        if self.same:
            self.send("samples", "pick", event_data={"index": 0})
        else:
            self.send(PICTURE, "upload", {PICTURE: [self.upload()]})
        self.act("open")

    def act(self, action: str) -> str:
        """Do one thing; return a digest of the answer, "" where it says nothing of the picture.

        ValueError if a drawing was not saved.
        """
        if action in SLIDERS:
            epoch = self.random.randint(1, 800)
            answer = self.send(SLIDERS[action], "input", {SLIDERS[action]: epoch})
            return hashlib.sha256(json.dumps(answer).encode()).hexdigest()
        if action == "segment":
            self.send("networks", "input")  # asked once of each picture, then drawn again
            return ""
        if action == "open":
            self.slice_view = self.reply("annotate-queue", "pick", {"item": self.item})["slice_view"] or self.slice_view
            return ""
        self.turn += 1
        shape = self.slice_view["height"], self.slice_view["width"]
        mask_hw = np.zeros(shape, bool)
        row, column = self.random.randrange(shape[0] - 9), self.random.randrange(shape[1] - 9)
        mask_hw[row : row + 9, column : column + 9] = True
        command = {
            "action": "save",
            "key": self.slice_view["key"],
            "request_id": self.turn,
            "mask": protocol.pack(mask_hw),
            "changed": True,
            "seconds": 1,
        }
        reply = self.reply("annotate", "act", command)
        if (reply["saved"], reply["error"]) != ("disk", ""):
            raise ValueError(f"not saved: {reply['error']}")
        return ""

    def reply(self, name: str, kind: str, data: dict) -> dict:
        """Send an event of the canvas; return its reply."""
        event = self.find(name, kind)
        value = self.send(name, kind, event_data=data)[event["outputs"].index(self.part("annotate"))]
        return json.loads(value["value"] if isinstance(value, dict) else value)

    def part(self, name: str) -> int:
        """Return the number of a component by its label or id; "networks" are those that take part."""
        if name == "networks":
            return next(
                id
                for id, part in self.parts.items()
                if part["type"] == "checkboxgroup" and any("-seg-" in str(one) for one in part["props"]["choices"])
            )
        named = (
            id for id, part in self.parts.items() if name in (part["props"].get("label"), part["props"].get("elem_id"))
        )
        return next(id for id in named if self.parts[id]["type"] not in ("column", "row"))

    def find(self, name: str, kind: str) -> dict:
        """Return the listener to an event of a component."""
        target = [self.part(name), kind]
        return next(
            event
            for event in self.config["dependencies"]
            if target in [list(one) for one in event["targets"]] and event["outputs"]
        )

    def send(self, name: str, kind: str, values: dict | None = None, event_data: dict | None = None) -> list:
        """Send an event; return its outputs.

        values: of its inputs by label, where they are not those that the page opens with.
        """
        event, given = self.find(name, kind), {self.part(label): value for label, value in (values or {}).items()}
        data = [
            None if self.parts[id]["type"] == "state" else given.get(id, self.parts[id]["props"].get("value"))
            for id in event["inputs"]
        ]
        request = {
            "data": data,
            "fn_index": event["id"],
            "session_hash": self.session,
            "trigger_id": self.part(name),
            "event_data": event_data,
        }
        return outputs(self.http, request)
