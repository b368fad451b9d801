"""The drawing canvas in a browser, before a server that tests control."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field

import gradio as gr
import numpy as np
import pytest

from mpsams.annotation import protocol
from mpsams.app.annotate import canvas
from mpsams.app.components.theme import look
from tests.support.browser import browser, frames, pytestmark  # noqa: F401

WAIT = 20_000


@dataclass
class Server:
    """A minimal server of the protocol."""

    slices: list[np.ndarray]
    aspect: float = 1.0
    status: str = ""
    proposal: np.ndarray | None = None
    truth: np.ndarray | None = None
    deaf: int = 0  # commands that get no answer
    segmented: np.ndarray | None = None  # answer to scribbles
    commands: list[dict] = field(default_factory=list)
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    at: int = 0
    name: str = "a"
    prompts: bool = False
    nothing: bool = False  # found where a box or click is
    rounds: int = 0  # answers before an object has been followed through the volume

    def slice_view(self) -> dict:
        values = self.slices[self.at]
        mask = self.masks.setdefault(
            self.at, np.zeros(values.shape, bool) if self.proposal is None else self.proposal.copy()
        )
        return protocol.SliceView(
            self.key(),
            "Phantom",
            values,
            mask,
            proposal_hw=self.proposal,
            truth_hw=self.truth,
            aspect=self.aspect,
            unit="HU",
        ).encode()

    def key(self) -> str:
        return f"{self.name}.{self.at}"

    def state(self) -> protocol.State:
        has_proposal, following = self.proposal is not None, self.rounds > 0
        return protocol.State(
            self.status, self.at, len(self.slices), 7, has_proposal, "", self.prompts, propagating=following
        )

    def first(self, turn: int) -> str:
        return protocol.Reply(turn, self.key(), self.state(), slice_view=self.slice_view()).encode()

    def act(self, command: dict) -> str:
        name, _, index = command["key"].rpartition(".")
        if name != self.name:  # what was left unsaved by the test before
            return protocol.Reply(
                command["request_id"], command["key"], self.state(), saved="disk" if self.status else "memory"
            ).encode()
        self.commands.append(command)
        if self.deaf:
            self.deaf -= 1
            return gr.skip()
        answered = {"saved": ""}
        if command["changed"]:
            self.masks[int(index)] = protocol.unpack(command["mask"], self.slices[0].shape)
            answered = {"saved": "disk" if self.status else "memory"}
        if command["action"] == "scribble":
            answered["mask_hw"] = self.segmented
        if command["action"] == "prompt" and self.nothing:
            answered["error"] = "The network found nothing there."
        elif command["action"] == "prompt":
            mask_hw = protocol.unpack(command["base"], self.slices[0].shape) | marked(command, self.slices[0].shape)
            answered, self.masks[int(index)] = {"saved": "memory", "mask_hw": mask_hw}, mask_hw
        if command["action"] == "preview":
            answered["preview_hw"] = marked(command, self.slices[0].shape)
        if command["action"] == "tidy":
            answered["mask_hw"] = self.segmented
        if command["action"] == "propagate_all":
            self.rounds -= 1
            answered["message"] = "Slice 2 of 3. Esc stops." if self.rounds > 0 else "Carried on to slices 1 to 3."
        if command["action"] == "proposal":
            answered["mask_hw"] = self.proposal
        if command["action"] == "go":
            self.at = command["slice"]
            answered["slice_view"] = self.slice_view()
        if command["action"] in ("accept", "skip"):
            self.status = {"accept": "accepted", "skip": "skipped"}[command["action"]]
        if command["action"] == "reopen":
            self.status = "in work"
        return protocol.Reply(command["request_id"], self.key(), self.state(), **answered).encode()


def marked(command: dict, shape_hw: tuple[int, int]) -> np.ndarray:
    """The mask that this server returns for a prompt: the whole box, and 3 x 3 pixels more or less at each click."""
    mask_hw = np.zeros(shape_hw, bool)
    if command["box"]:
        top, left, height, width = command["box"]
        mask_hw[max(0, top) : top + height, max(0, left) : left + width] = True
    for name, value in (("positive", True), ("negative", False)):
        for row, column in command[name]:
            mask_hw[max(0, round(row) - 1) : round(row) + 2, max(0, round(column) - 1) : round(column) + 2] = value
    return mask_hw


@dataclass
class Stand:
    """One running page, whose server is changed from test to test."""

    server: Server
    address: str = ""
    turn: int = 0


def served(stand: Stand) -> gr.Blocks:
    def act(event: gr.EventData) -> str:
        stand.turn = event._data["request_id"]
        return stand.server.act(event._data)

    def first() -> str:
        return stand.server.first(stand.turn)

    with gr.Blocks(analytics_enabled=False) as blocks:
        stage = canvas.canvas()
        stage.act(act, None, stage, trigger_mode="multiple", show_progress="hidden")
        gr.Button("Again", elem_id="again").click(first, None, stage, show_progress="hidden")
        blocks.load(first, None, stage, show_progress="hidden")
    return blocks


@pytest.fixture(scope="module")
def stand():
    made = Stand(Server([np.zeros((4, 4))]))
    blocks = served(made)
    _, made.address, _ = blocks.launch(
        prevent_thread_lock=True,
        quiet=True,
        ssr_mode=False,
        share=False,
        run_history=False,
        server_name="127.0.0.1",
        **look(),
    )
    yield made
    blocks.close()


@contextmanager
def loaded(browser, stand: Stand, width: int, height: int, **more):
    """The page in a window of its own, when its first sheet is there; the window is closed at the end, also after a
    failure.
    """
    with browser.new_context(viewport={"width": width, "height": height}, **more) as window:
        page = window.new_page()
        page.wrong = []
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
        page.goto(stand.address, wait_until="domcontentloaded")
        page.locator(".annotate.open").wait_for(timeout=WAIT)
        page.wait_for_function("() => document.querySelector('[data-part=stage]').dataset.view")
        yield page


@pytest.fixture(scope="module")
def desktop(stand, browser):
    with loaded(browser, stand, 1280, 900) as page:
        yield page


@pytest.fixture
def opened(stand, desktop, request):
    """A function that puts another server behind the page, and its first sheet on the page, with the brush
    of size 12.
    """

    def go(server: Server):
        server.name = request.node.name
        stand.server, page = server, desktop
        page.wrong.clear()
        page.evaluate(
            "() => { document.querySelector('.annotate').dataset.answerTimeout = 20000;"
            " document.querySelector('#again').click(); }"
        )
        page.wait_for_function(
            "key => document.querySelector('.annotate').parentElement.snapshot().key === key",
            arg=server.key(),
            timeout=WAIT,
        )
        page.evaluate(
            "() => { for (const one of ['action=plus', 'tool=brush', 'action=fit'])"
            " document.querySelector(`[data-${one}]`).click(); }"
        )
        page.locator("[data-part=stage]").focus()
        size_of_brush(page, 12)
        frames(page)
        return page

    return go


def held(page) -> dict:
    """The state of the canvas: key, mask and strokes as run lengths, and how many steps can be undone."""
    return page.evaluate("() => document.querySelector('#annotate .annotate').parentElement.snapshot()")


def mask_of(page, shape_hw: tuple[int, int], bit: str = "mask") -> np.ndarray:
    return protocol.unpack(held(page)[bit], shape_hw)


def place(page) -> tuple[float, float, float, float]:
    """Position of the image on the page: left, top, and page pixels for a pixel's width; and the same
    for the aspect.
    """
    view = json.loads(page.locator("[data-part=stage]").get_attribute("data-view"))
    left, top = page.evaluate(
        "() => { const b = document.querySelector('[data-part=stage]').getBoundingClientRect(); return [b.left,"
        " b.top]; }"
    )
    return left + view["left"], top + view["top"], view["scale"], view["scale"]


def page_point(page, x: float, y: float, aspect: float = 1.0) -> tuple[int, int]:
    """The whole page pixel nearest to a place on the image."""
    left, top, scale, _ = place(page)
    return round(left + x * scale), round(top + y * scale * aspect)


def image_points(page, points: list[tuple[int, int]], aspect: float = 1.0) -> list[tuple[float, float]]:
    """Page pixels as places on the image: (0, 0) is the upper left corner of the first pixel."""
    left, top, scale, _ = place(page)
    return [((x - left) / scale, (y - top) / (scale * aspect)) for x, y in points]


def drag(page, points: list[tuple[int, int]], button: str = "left") -> None:
    page.mouse.move(*points[0])
    page.mouse.down(button=button)
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up(button=button)


def brushed(
    points_xy: list[tuple[float, float]], size: int, shape_hw: tuple[int, int], aspect: float = 1.0
) -> np.ndarray:
    """The rule of the brush, slowly: pixels whose centres lie within size / 2 of the line, in widths of a pixel as
    seen, and those on it.
    """
    mask_hw = np.zeros(shape_hw, bool)
    for (ax, ay), (bx, by) in zip(points_xy, points_xy[1:] or points_xy, strict=False):
        for t in np.linspace(0, 1, 1 + int(np.ceil(2 * max(abs(bx - ax), abs(by - ay))))):
            x, y = int(np.floor(ax + t * (bx - ax))), int(np.floor(ay + t * (by - ay)))
            if 0 <= x < shape_hw[1] and 0 <= y < shape_hw[0]:
                mask_hw[y, x] = True
        if size == 1:
            continue
        a, b = np.array([ax, ay * aspect]), np.array([bx, by * aspect])
        for y in range(shape_hw[0]):
            for x in range(shape_hw[1]):
                p = np.array([x + 0.5, (y + 0.5) * aspect])
                along = np.clip((p - a) @ (b - a) / max((b - a) @ (b - a), 1e-30), 0, 1)
                mask_hw[y, x] |= np.hypot(*(p - a - along * (b - a))) <= size / 2
    return mask_hw


def size_of_brush(page, size: int) -> None:
    seen = set()
    while (now := int(page.locator("[data-part=size]").inner_text())) != size:
        assert now not in seen, f"the brush has no size {size}; it has been {sorted(seen)}"
        seen.add(now)
        page.keyboard.press("[" if now > size else "]")


def saved(page, words: str) -> None:
    page.wait_for_function(
        "words => document.querySelector('[data-part=saved]').textContent.startsWith(words)", arg=words, timeout=WAIT
    )


SHAPE = (48, 64)
RAMP = np.add.outer(np.arange(48) * 64.0, np.arange(64)) - 1000
