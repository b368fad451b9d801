"""The Annotate tab of a running app in a browser."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpsams.annotation import protocol
from mpsams.annotation.project import Project
from mpsams.datasets import phantom
from tests.support.annotated import volume
from tests.support.app_process import ForkedApp, free_port, wait_for_answer
from tests.support.browser import CHROMIUM, browser, new_page, new_window  # noqa: F401
from tests.support.canvas import drag, held, image_points, page_point, size_of_brush

WAIT = 30_000


class App:
    """The app with a project, in a process of its own, that can be stopped and started again at the same address."""

    def __init__(self, folder: Path, weights: Path) -> None:
        self.folder, self.project, self.weights = folder, folder / "project", weights
        self.port, self.process = free_port(), None
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        options = ["--project", str(self.project), "--weights", str(self.weights), "--results", str(self.folder)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "GRADIO_TEMP_DIR": str(self.folder / "gradio")}
        self.process = ForkedApp([*options, "--port", str(self.port)], environment)
        try:
            wait_for_answer(self.address, self.process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def on_disk(self, id: str) -> np.ndarray:
        """The mask of a picture as its file has it, bool (H, W)."""
        return np.asarray(Image.open(self.project / "masks" / f"{id}.png")) > 0

    def items(self) -> dict[str, str]:
        """Statuses by id, as the index of the project has them."""
        with closing(sqlite3.connect(f"file:{self.project / 'index.sqlite'}?mode=ro", uri=True)) as index:
            return dict(index.execute("SELECT id, status FROM items"))

    def log(self, id: str) -> list[dict]:
        rows = map(json.loads, (self.project / "log.jsonl").read_text().splitlines())
        return [row for row in rows if row.get("item") == id]


@pytest.fixture(scope="module")
def ids(tmp_path_factory) -> dict[str, str]:
    """A project of three ultrasound phantoms and an oblique volume: the ids of its images."""
    folder = tmp_path_factory.mktemp("annotate")
    found = {"folder": folder}
    with Project(folder / "project") as project:
        for number in range(3):
            image_hw, _ = phantom.ultrasound(14 + number)
            Image.fromarray((image_hw * 255).astype(np.uint8)).save(folder / f"{number}.png")
            found[f"picture {number}"] = project.add(folder / f"{number}.png").id
        found["scan"] = volume(folder, oblique=True)
        found["volume"] = project.add(next(folder.glob("*.nii.gz")), "ct").id
    return found


@pytest.fixture(scope="module")
def app(ids, small_weights):
    made = App(ids["folder"], small_weights)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def page(browser, app):  # noqa: F811
    with new_page(browser, app.address) as page, _tab(page, app.address):
        yield page


@contextmanager
def opened(browser, address: str):  # noqa: F811
    """The tab in a window of its own, as of another visitor; the window is closed at the end, also after a failure."""
    with new_window(browser) as window, _tab(window.new_page(), address) as page:
        yield page


@contextmanager
def _tab(page, address: str):
    """Open the tab in a page; fails at the end when the page had an error."""
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.goto(address, wait_until="domcontentloaded")
    annotate(page)
    yield page
    assert not page.wrong


def annotate(page) -> None:
    """Go to the tab and wait for its first image."""
    page.get_by_role("tab", name="Annotate").click(timeout=WAIT)
    page.locator(".annotate.open").wait_for(timeout=WAIT)
    page.wait_for_function("() => document.querySelector('[data-part=stage]').dataset.view")


def shape_of(page) -> tuple[int, int]:
    width, height = map(
        int,
        page.locator("[data-part=stage]").get_attribute("aria-label").split(", ")[-1].split(" pixels")[0].split(" by "),
    )
    return height, width


def drawn(page) -> np.ndarray:
    """The mask on the canvas, bool (H, W)."""
    return protocol.unpack(held(page)["mask"], shape_of(page))


def stroke(page, path: list[tuple[float, float]], tool: str, size: int, aspect: float = 1.0) -> np.ndarray:
    """Drag a tool along places of the image; the pixels that this marks by the rule of the brush."""
    page.keyboard.press(tool)
    size_of_brush(page, size)
    points = [page_point(page, *point, aspect) for point in path]
    drag(page, points)
    height, width = shape_of(page)
    rows, columns = np.mgrid[:height, :width] + 0.5
    mask_hw, on = np.zeros((height, width), bool), image_points(page, points, aspect)
    for (ax, ay), (bx, by) in zip(on, on[1:]):
        for t in np.linspace(0, 1, 1 + int(np.ceil(2 * max(abs(bx - ax), abs(by - ay))))):
            mask_hw[int(ay + t * (by - ay)), int(ax + t * (bx - ax))] = True
        long = (bx - ax) ** 2 + ((by - ay) * aspect) ** 2
        t = np.clip(((columns - ax) * (bx - ax) + (rows - ay) * (by - ay) * aspect**2) / long, 0, 1)
        mask_hw |= (columns - ax - t * (bx - ax)) ** 2 + ((rows - ay - t * (by - ay)) * aspect) ** 2 <= (size / 2) ** 2
    return mask_hw


def do(page, action: str) -> None:
    page.locator(f".annotate [data-action={action}]").locator("visible=true").first.click(timeout=WAIT)


def cleared(page) -> None:
    if drawn(page).any():
        do(page, "clear")
    page.locator("[data-part=stage]").focus()
    assert not drawn(page).any()
