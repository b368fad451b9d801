"""Memory and disk that visitors hold together: within bounds, the idle let go first, drawings never; each answer about
the visitor's own image, or none.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import httpx
import nibabel
import numpy as np
import pytest
from gradio.routes import App

from mpsams.annotation import protocol
from mpsams.app import application, main
from mpsams.app.server import budget as budgets
from mpsams.app.server.budget import RELEASED, Budget, OverBudget
from mpsams.app.tabs import annotate
from mpsams.imaging import UnreadableImage, cost
from tests.support.annotation_page import picture
from tests.support.budget import MIB, volume  # noqa: F401
from tests.support.dicom_files import noise, series

pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass
class Drawing:
    """Values that cannot be made again, beside others that can."""

    bulk: np.ndarray | None
    lines: bytes = b"x" * 10

    def release(self) -> bool:
        self.bulk = None
        return True


def bulk(mib: int) -> np.ndarray:
    return np.zeros(mib * MIB, np.uint8)


def put(budget: Budget, visitor: str, value: object, number: int = 1) -> None:
    with budget.serve_request(visitor):
        budget.put(visitor, number, value)


def used(budget: Budget) -> tuple[float, float]:
    usage = budget.usage()
    return usage["memory"]["used"] / MIB, usage["disk"]["used"] / MIB


def test_bytes_are_counted_once_and_given_back(tmp_path):
    budget, shared = Budget(100 * MIB, 100 * MIB), bulk(10)
    np.save(tmp_path / "a.npy", bulk(5))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    put(budget, "a", {"x": shared, "y": [shared[5:], shared.reshape(2, -1)]})
    put(budget, "b", (shared, np.asarray(mapped)[3:]))
    assert used(budget) == (10, pytest.approx(5, rel=1e-3))
    put(budget, "a", None)
    assert used(budget)[0] == 10
    budget.close("b")
    assert (
        used(budget) == (0, 0)
        and budget.value("b", 1, "default") is RELEASED
        and budget.value("c", 1, "default") == "default"
    )


def test_the_idle_longest_make_room_and_who_is_asking_does_not():
    budget = Budget(100 * MIB, 100 * MIB)
    for visitor in "abc":
        put(budget, visitor, bulk(30))
    with budget.serve_request("a"):
        pass  # b is now idle longest
    put(budget, "d", bulk(30))
    assert [budget.value(visitor, 1, None) is RELEASED for visitor in "abcd"] == [False, True, False, False]
    with budget.serve_request("d"), pytest.raises(OverBudget):
        budget.reserve(disk=101 * MIB)  # which nobody here holds
    assert budget.value("a", 1, None) is not RELEASED
    with budget.serve_request("c"), budget.serve_request("d"):
        with pytest.raises(OverBudget, match="Try again"):
            budget.reserve(memory=60 * MIB)  # a alone can be let go of
        assert used(budget)[0] <= 100
    assert budget.value("a", 1, None) is RELEASED


def test_what_is_reserved_counts_until_it_is_done():
    budget = Budget(100 * MIB, 100 * MIB)
    with budget.serve_request("a"):
        budget.reserve(disk=80 * MIB)
        assert used(budget) == (0, 80)
        with budget.serve_request("b"), pytest.raises(OverBudget):
            budget.reserve(disk=30 * MIB)
    assert used(budget) == (0, 0) and budget.token("a") == ""
    with budget.serve_request("a"):
        with budget.serve_request("a"):
            budget.reserve(memory=60 * MIB)
            budget.put("a", 1, bulk(60))
        assert used(budget) == (60, 0)  # what it took is counted, and no more reserved, whatever else goes on


def test_drawings_are_kept_while_the_tab_is_open():
    budget = Budget(100 * MIB, 100 * MIB)
    put(budget, "a", Drawing(bulk(60)))
    put(budget, "b", bulk(60))
    kept = budget.value("a", 1, None)
    assert kept.bulk is None and kept.lines and used(budget)[0] == pytest.approx(60, abs=0.1)
    budget.close("a")
    assert budget.value("a", 1, None) is kept  # the connection may only have broken
    with budget.serve_request("c"):
        budget.reserve(memory=100 * MIB)
    assert budget.value("a", 1, None) is RELEASED


def test_the_limits_fit_the_computer(monkeypatch, tmp_path):
    memory, disk = budgets.defaults()
    assert 0 < memory < budgets.available() and disk > 0
    assert budgets.is_memory("/proc") is False
    monkeypatch.setattr(budgets, "available", lambda: 8 * MIB)
    monkeypatch.setattr(budgets, "is_memory", lambda folder: True)
    assert sum(budgets.defaults()) <= 4 * MIB  # the temporary folder takes memory too


@pytest.mark.parametrize("text, found", [("1", 2**30), ("1.5", 3 * 2**29), ("0.25", 2**28)])
def test_limits_in_gib(text, found):
    assert main.gib(text) == found


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "much", "1e9"])
def test_limits_that_are_refused(text):
    with pytest.raises(main.argparse.ArgumentTypeError, match="0.25 to 4096"):
        main.gib(text)


# Files


def test_the_cost_of_files_is_known_before_they_are_decoded(tmp_path):
    packed = volume(tmp_path / "a.nii.gz", (256, 256, 100))
    assert cost.estimate([packed]) == (0, 256 * 256 * 100 * 2) and packed.stat().st_size < MIB
    small = volume(tmp_path / "b.nii", (16, 16, 16))
    assert cost.estimate([small, packed]) == cost.estimate([packed])  # one of them is open at a time
    with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.write(small, "b.nii")
    assert cost.estimate([tmp_path / "c.zip"])[1] >= small.stat().st_size
    memory, disk = cost.estimate([picture(tmp_path)])
    assert 40 * 56 * 4 < memory <= 2**28 and disk == 0
    (tmp_path / "series").mkdir()
    slices = series(tmp_path / "series", noise((5, 34, 40)))
    assert cost.estimate(slices)[1] >= 5 * 34 * 40 * 2
    for name, data in (
        ("empty", b""),
        ("cut.nii.gz", gzip.compress(b"\x5c\x01")),
        ("cut.zip", b"PK\x03\x04rest"),
        ("text", b"hello"),
    ):
        (tmp_path / name).write_bytes(data)
        assert cost.estimate([tmp_path / name])[1] <= 20 * len(data)
    assert issubclass(UnreadableImage, ValueError)


# The page, asked by HTTP in this process


class Tab:
    """A browser tab: it keeps what a page keeps, and sends what a page sends."""

    def __init__(self, served: Served, session: str) -> None:
        self.served, self.session = served, session
        self.values = {part["id"]: part["props"].get("value") for part in served.config["components"]}

    def call(self, label: str, event: str = "input", **values) -> list:
        """The outputs of the first listener to an event of a component, by its label or id.

        values: of inputs, by label.
        """
        part = self.served.part(label)
        listener = next(
            one
            for one in self.served.config["dependencies"]
            if [part, event] in [list(target) for target in one["targets"]]
        )
        return self.run(listener, values)

    def run(self, listener: dict, values: dict, data: dict | None = None) -> list:
        for name, value in values.items():
            self.values[self.served.part(name.replace("_", " "))] = value
        types = self.served.types
        inputs = [None if types[one] == "state" else self.values[one] for one in listener["inputs"]]
        outputs = self.served.process(listener["id"], inputs, self.session, data)
        for one, value in zip(listener["outputs"], outputs, strict=True):
            if types[one] != "state" and not (isinstance(value, dict) and value.get("__type__") == "update"):
                self.values[one] = value
        return outputs

    def open(self, path: Path) -> list:
        file = self.served.uploaded(path)
        return self.call(PICTURE, "upload", **{PICTURE.replace(" ", "_"): [file]})

    def shown(self) -> str:
        part = self.served.part("shown")
        listener = next(
            one for one in self.served.config["dependencies"] if one["outputs"] == [part] and len(one["inputs"]) == 1
        )
        return self.run(listener, {})[0]


PICTURE = "Open an image or volume"
EPOCH = "Epoch of pretraining"


class Served:
    """The app in this process."""

    def __init__(self, weights: Path, budget: Budget, folder: Path) -> None:
        self.app, self.folder, self.weights = application.create(weights, budget=budget), folder, weights
        self.gradio = next(route.app for route in self.app.routes if isinstance(getattr(route, "app", None), App))
        self.blocks, self.budget = self.gradio.get_blocks(), budget
        self.config = self.blocks.config
        self.types = {part["id"]: part["type"] for part in self.config["components"]}

    def part(self, name: str) -> int:
        return next(
            part["id"]
            for part in self.config["components"]
            if name in (part["props"].get("label"), part["props"].get("elem_id"))
        )

    def uploaded(self, path: Path) -> dict:
        place = self.folder / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
        return {"path": str(place), "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}

    def process(self, number: int, data: list, session: str, event: dict | None = None) -> list:
        async def ask() -> list:
            state = self.gradio.state_holder[session]
            answer = await self.blocks.process_api(
                block_fn=self.blocks.fns[number],
                inputs=data,
                state=state,
                session_hash=session,
                event_id="event",
                event_data=gr.EventData(None, event),
            )
            return answer["data"]

        return asyncio.run(ask())


@pytest.fixture
def served(small_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))

    def serve(memory: float = 1024, disk: float = 1024) -> Served:
        return Served(small_weights, Budget(int(memory * MIB), int(disk * MIB)), tmp_path / "uploads")

    return serve


def test_an_image_that_was_let_go_of_is_asked_for_and_no_other_is_shown(served, tmp_path):
    page = served()
    tab, other = Tab(page, "one"), Tab(page, "other")
    tab.open(picture(tmp_path, 1))
    own = tab.call(EPOCH)[0]
    assert own != other.call(EPOCH)[0] and "56 × 40" in tab.shown()
    page.budget.close("one")
    for label, event in ((EPOCH, "input"), ("Slice", "input"), ("Seed of the random order", "input")):
        with pytest.raises(gr.Error, match="Open the image again"):
            tab.call(label, event)
    with pytest.raises(gr.Error, match="Open the image again"):
        tab.shown()
    tab.open(picture(tmp_path, 1))
    assert tab.call(EPOCH)[0] == own and "56 × 40" in tab.shown()


def test_another_image_changes_what_is_open_and_nothing_else(served, tmp_path):
    page = served()
    tab = Tab(page, "one")
    tab.open(picture(tmp_path, 1))
    states = {part for part, kind in page.types.items() if kind == "state"}
    states |= {
        part["id"]
        for part in page.config["components"]
        if str(part["props"].get("label")).startswith("images shown in")
    }
    follow = [
        one
        for one in page.config["dependencies"]
        if one["backend_fn"] and any(event == "change" and part in states for part, event in map(tuple, one["targets"]))
    ]
    # gradio's queue has no part in it, so each is whole
    answers = [tab.run(one, {}) for one in follow if one["inputs"]]
    assert len(answers) > 5 and page.part("learn") in {one for listener in follow for one in listener["outputs"]}


def test_a_page_from_before_the_app_was_started_again_gets_a_message(served, tmp_path):
    before = Tab(served(), "one")
    before.open(picture(tmp_path, 1))
    own = before.call(EPOCH)[0]
    tab = Tab(served(), "one")
    tab.values[tab.served.blocks.visitor_token._id] = before.values[before.served.blocks.visitor_token._id]
    with pytest.raises(gr.Error, match="restarted"):
        tab.call(EPOCH)
    tab.open(picture(tmp_path, 1))
    assert tab.call(EPOCH)[0] == own


def test_programs_without_a_session_leave_nothing_and_take_nothing(served, tmp_path):
    page = served()
    tab = Tab(page, "one")
    tab.open(picture(tmp_path, 1))
    own, held = tab.call(EPOCH)[0], page.budget.usage()
    mask = next(fn for fn in page.blocks.fns.values() if fn.api_name == "mask")
    file = page.uploaded(picture(tmp_path, 2))

    async def ask(number: int) -> None:
        session = f"program {number}"  # gradio's queue takes the event's id where there is no session
        await page.blocks.process_api(
            block_fn=mask,
            inputs=[file, 1, "", 0, "", 0],
            state=page.gradio.state_holder[session],
            session_hash=session,
            event_id=session,
        )

    for number in range(20):
        asyncio.run(ask(number))
    assert list(page.gradio.state_holder.session_data) == ["one"] and page.budget.usage() == held
    assert tab.call(EPOCH)[0] == own


def test_volumes_are_let_go_of_before_another_is_decoded(served, tmp_path):
    page, path = served(disk=40), volume(tmp_path / "deep.nii.gz", (128, 128, 512))  # 16 MiB each
    tabs = [Tab(page, f"tab {number}") for number in range(6)]
    for tab in tabs:
        tab.open(path)
        assert page.budget.usage()["disk"]["used"] <= 40 * MIB
        assert "128 × 128 × 512" in tab.shown()
    for tab in tabs[:-2]:
        with pytest.raises(gr.Error, match="Open the image again"):
            tab.shown()
    with pytest.raises(gr.Error, match="no room"):
        tabs[0].open(volume(tmp_path / "deeper.nii.gz", (256, 256, 512)))
    for tab in tabs:
        page.budget.close(tab.session)
    assert page.budget.usage()["disk"]["used"] == 0


def test_healthz_states_the_budget(served):
    page = served(memory=512, disk=256)

    async def ask() -> dict:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(page.app), base_url="http://127.0.0.1") as client:
            return (await client.get("/healthz")).json()

    assert asyncio.run(ask())["budget"] == {
        "memory": {"used": 0, "limit": 512 * MIB},
        "disk": {"used": 0, "limit": 256 * MIB},
        "busy": 0,
    }


def test_the_page_goes_over_the_wire_compressed(served):
    page = served()

    async def ask(coding: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(page.app), base_url="http://127.0.0.1") as client:
            return await client.get("/", headers={"Accept-Encoding": coding})

    packed, plain = asyncio.run(ask("gzip")), asyncio.run(ask("identity"))
    assert (
        packed.headers["content-encoding"] == "gzip"
        and "content-encoding" not in plain.headers
        and "MPS-AMS" in packed.text
    )
    assert packed.num_bytes_downloaded < 0.7 * plain.num_bytes_downloaded


def test_metrics_are_off_unless_asked_for_and_in_the_format_of_prometheus(served):
    page = served(memory=512)

    async def ask(app) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return await client.get("/metrics")

    assert "mpsams_" not in asyncio.run(ask(page.app)).text
    server = application.ServerOptions(with_metrics=True)
    answer = asyncio.run(ask(application.create(page.weights, budget=page.budget, server=server)))
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    sample = re.compile(r"(mpsams_[a-z_]+)(\{[a-z]+=\"[a-z]+\"\})? \d[\d.e+]*")
    lines = answer.text.splitlines()
    assert all(line.startswith(("# HELP mpsams_", "# TYPE mpsams_")) or sample.fullmatch(line) for line in lines)
    assert (
        f'mpsams_visitors_limit_bytes{{kind="memory"}} {512 * MIB}' in lines
        and 'mpsams_requests_waiting{lane="save"} 0' in lines
    )
    assert next(int(line.split()[1]) for line in lines if line.startswith("mpsams_process_resident_bytes ")) > 50 * MIB


def test_a_hundred_idle_visitors_with_a_sample_and_a_picture_take_less_than_half_a_mebibyte_each(served, tmp_path):
    page, path = served(), picture(tmp_path, 1)

    def visit(number: int) -> None:
        tab = Tab(page, f"visitor {number}")
        if number % 2:
            tab.open(path)
        tab.call(EPOCH, **{EPOCH.replace(" ", "_"): 1 + number})
        tab.call("Epoch: how much is hidden")

    for number in range(10):
        visit(number)  # opens networks
    gc.collect()
    before = resident()
    for number in range(10, 110):
        visit(number)
    gc.collect()
    shared_bytes = page.budget.usage()["memory"]["used"]
    assert (resident() - before) / 100 <= MIB / 2 and shared_bytes / 110 <= MIB / 2
    for number in range(110):
        page.budget.close(f"visitor {number}")
    assert page.budget.usage()["memory"]["used"] == 0


class Drawn(Tab):
    """A tab with the Annotate tab in front."""

    def show(self) -> dict:
        """The sheet of the image on screen."""
        number = next(
            fn._id
            for fn in self.served.blocks.fns.values()
            if fn.name == "show" and getattr(fn.fn, "__module__", "") == annotate.__name__
        )
        return self.reply(next(one for one in self.served.config["dependencies"] if one["id"] == number), None)[
            "slice_view"
        ]

    def save(self, sheet: dict, mask_hw: np.ndarray, turn: int) -> dict:
        part = self.served.part("annotate")
        listener = next(
            one
            for one in self.served.config["dependencies"]
            if [part, "act"] in [list(target) for target in one["targets"]]
        )
        return self.reply(
            listener,
            {
                "action": "save",
                "key": sheet["key"],
                "request_id": turn,
                "mask": protocol.pack(mask_hw),
                "changed": True,
                "seconds": 1,
            },
        )

    def reply(self, listener: dict, data: dict | None) -> dict:
        self.run(listener, {}, data)
        return json.loads(self.values[self.served.part("annotate")])


def test_a_drawing_outlives_that_its_image_was_let_go_of(served, tmp_path):
    page, path = served(disk=40), volume(tmp_path / "deep.nii.gz", (128, 128, 512))
    tab = Drawn(page, "one")
    tab.open(path)
    sheet = tab.show()
    one, other = (np.random.default_rng(seed).random((sheet["height"], sheet["width"])) < 0.3 for seed in range(2))
    assert tab.save(sheet, one, 1)["saved"] == "memory"
    for number in range(2):
        Tab(page, f"other {number}").open(path)
    with pytest.raises(gr.Error, match="Open the image again"):
        tab.shown()
    reply = tab.save(sheet, other, 2)  # drawn on the page as it is still open
    assert (reply["saved"], reply["error"], reply["key"]) == ("memory", "", sheet["key"])
    assert "128 × 128 × 512" in tab.shown()  # and the other tabs have it again
    for number in range(2):
        Tab(page, f"other {number}").open(path)
    tab.open(path)
    assert protocol.unpack(tab.show()["mask"], other.shape).tolist() == other.tolist()


def resident() -> int:
    """Bytes of this process that no file holds."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))


def mapped() -> int:
    """Bytes of the files without a name that this process has mapped: decoded volumes."""
    rows = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("(deleted)")]
    return sum(int(row[0].split("-")[1], 16) - int(row[0].split("-")[0], 16) for row in rows)


@pytest.mark.slow
def test_200_idle_visitors_and_six_large_volumes_stay_within_the_bounds(served, tmp_path):
    page, path = served(memory=1024, disk=2048), tmp_path / "large.nii.gz"
    header = nibabel.Nifti1Header()
    header.set_data_shape((512, 512, 1300))
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", 352
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(1300):
            file.write(bytes(512 * 512 * 2))  # 680 MB in all
    assert path.stat().st_size < MIB
    Tab(page, "warm").open(picture(tmp_path, 0))
    before, most, memory = resident(), 0, 0
    for number in range(200):
        tab = Drawn(page, f"idle {number}")
        tab.open(picture(tmp_path, number % 10))
        sheet = tab.show()
        tab.save(sheet, np.random.default_rng(number).random((sheet["height"], sheet["width"])) < 0.3, 1)
    idle = (resident() - before) / 200
    for number in range(6):
        Tab(page, f"large {number}").open(path)
        most, memory = max(most, mapped()), max(memory, resident() - before)
    usage = page.budget.usage()
    print(
        f"{idle / 2**10:.0f} KiB an idle visitor; at most {memory / MIB:.0f} MiB of memory and {most / MIB:.0f} MiB of"
        f" disk; {usage}"
    )
    assert most <= 2048 * MIB and memory <= 1024 * MIB and usage["disk"]["used"] <= usage["disk"]["limit"]
    assert Tab(page, "idle 0").call(EPOCH)  # who holds no volume was left alone
