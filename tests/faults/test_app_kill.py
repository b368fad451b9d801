"""kill -9 of the running app while masks are being saved: each image has the mask that was acknowledged last, or the
one under way after it.

Axes: X, Y, Z voxels as stored; S slices of H x W pixels as shown.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from mpsams.annotation import protocol
from mpsams.annotation.project import Project
from mpsams.imaging import geometry
from tests.support.annotated import volume
from tests.support.annotation_page import picture
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("ignore")
# Imports all once, then for each line it reads is a new app in a process of its own.
FORKING = """
import os, sys
from pathlib import Path
import uvicorn
from mpsams.app import main as app
from mpsams.app.server.logs import configure_logging
from mpsams.annotation.project import Project
folder, weights, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
for _ in sys.stdin:
    child = os.fork()
    if not child:
        configure_logging()
        made = app.create(weights, weights, Project(folder))
        uvicorn.run(made, port=port, log_config=None, access_log=False, ws="none")
        os._exit(1)
    print(child, flush=True)
    os.waitpid(child, 0)
    print(flush=True)
"""


@dataclass
class Image:
    """An image of the project as a client knows it.

    states: its mask before anything, and after each command sent; acked: the last that is on the disk.
    """

    id: str
    affine: np.ndarray | None
    states: list[np.ndarray]
    acked: int = 0
    token: str = ""

    def changed(self, source: random.Random) -> tuple[int, np.ndarray]:
        """Another mask of one of its slices: which slice, and the mask; from then on it is the last of the states."""
        after = self.states[-1].copy()
        slices = geometry.radiological_view(after, self.affine)
        index = source.randrange(min(2, len(slices)))
        slices[index] = np.random.default_rng(source.getrandbits(32)).random(slices[index].shape) < source.random()
        self.states.append(after)
        return index, slices[index]


class Client:
    """A page without a browser, with a session of its own; it sends what the page's events would send."""

    def __init__(self, address: str) -> None:
        self.http = httpx.Client(base_url=address, timeout=60)
        self.config = self.http.get("/config").json()
        self.session = f"client{random.getrandbits(60):x}"
        self.turn = 0
        (self.stage,) = (
            part["id"]
            for part in self.config["components"]
            if part["props"].get("elem_id") == "annotate" and part["type"] == "html"
        )
        (self.list,) = (
            part["id"] for part in self.config["components"] if part["props"].get("elem_id") == "annotate-queue"
        )

    def event(self, target: int, kind: str, event_data: dict) -> dict:
        """The canvas's answer to an event of a component."""
        (event,) = (
            one for one in self.config["dependencies"] if [target, kind] in [list(pair) for pair in one["targets"]]
        )
        parts = {part["id"]: part for part in self.config["components"]}
        data = [None if parts[id]["type"] == "state" else parts[id]["props"].get("value") for id in event["inputs"]]
        request = {
            "data": data,
            "fn_index": event["id"],
            "session_hash": self.session,
            "trigger_id": target,
            "event_data": event_data,
        }
        number = self.http.post("/gradio_api/queue/join", json=request).raise_for_status().json()["event_id"]
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as answer:
            for line in answer.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if message.get("msg") == "process_completed" and message["event_id"] == number:
                    value = message["output"]["data"][event["outputs"].index(self.stage)]
                    return json.loads(value["value"] if isinstance(value, dict) else value)
        raise httpx.ReadError("the stream ended without an answer")

    def open(self, image: Image) -> None:
        image.token = self.event(self.list, "pick", {"item": image.id})["slice_view"]["key"].partition(".")[0]

    def save(self, image: Image, source: random.Random) -> None:
        index, mask_hw = image.changed(source)
        self.turn += 1
        command = {
            "action": "save",
            "key": f"{image.token}.axial.{index}",
            "request_id": self.turn,
            "mask": protocol.pack(mask_hw),
            "changed": True,
            "seconds": 1,
        }
        reply = self.event(self.stage, "act", command)
        assert (reply["saved"], reply["error"], reply["request_id"]) == ("disk", "", self.turn)
        image.acked = len(image.states) - 1


def until_up(address: str) -> None:
    def answers() -> bool:
        try:
            return httpx.get(f"{address}/healthz", timeout=5).is_success
        except httpx.HTTPError:
            return False

    wait_until(answers, 120)


def killed_while_saving(
    address: str, started: Callable[[], tuple[int, Callable]], images: list[Image], source: random.Random
) -> int:
    """Save one mask after another and end the app at some moment; how many commands were acknowledged.

    started: its process, and a wait for its end.
    """
    pid, gone = started()
    until_up(address)
    client, ends, first = Client(address), [], threading.Event()
    for image in images:
        client.open(image)

    def saving() -> None:
        try:
            while True:
                client.save(source.choice(images), source)
                ends.append("acknowledged")
                first.set()
                if source.random() < 0.1:
                    time.sleep(0.02)  # so that none is under way now and then
        except httpx.HTTPError:
            ends.append("cut off")
        except BaseException as error:
            ends.append(error)
        finally:
            first.set()

    thread = threading.Thread(target=saving, daemon=True)
    moment = random.Random(source.getrandbits(32)).uniform(0, 1)
    thread.start()
    assert first.wait(60)
    time.sleep(moment)  # time must pass: the kill comes at any moment of a save
    os.kill(pid, signal.SIGKILL)
    thread.join(60)
    gone()
    assert ends.pop() == "cut off" and ends and set(ends) == {"acknowledged"}
    return len(ends)


def check(folder: Path, images: list[Image]) -> int:
    """Open the folder as the next app would: every mask is right to the voxel.

    How many were those of the command under way.
    """
    later = 0
    with Project(folder) as project:
        for image in images:
            mask_xyz = project.mask(image.id)
            mask_xyz = np.zeros_like(image.states[0]) if mask_xyz is None else mask_xyz
            allowed = image.states[image.acked :]
            assert len(allowed) <= 2
            found = [number for number, state in enumerate(allowed) if np.array_equal(state, mask_xyz)]
            assert found, f"image {image.id} has a mask that was neither acknowledged last nor under way"
            later += found[0]
            image.states, image.acked = [mask_xyz], 0
        assert [path for path in folder.rglob("*") if path.name.endswith((".partial", ".damaged"))] == []
    lines = (folder / "log.jsonl").read_text(encoding="ascii").split("\n")
    assert lines.pop() == "" and all(isinstance(json.loads(line), dict) for line in lines)
    return later


@pytest.fixture
def prepared(tmp_path):
    """A project of three pictures and a volume, an empty folder of weights, and a free port."""
    volume(tmp_path)
    with Project(tmp_path / "project") as project:
        added = [project.add(picture(tmp_path, seed)).id for seed in range(3)]
        added.append(project.add(next(tmp_path.glob("*.nii.gz")), "ct").id)
        images = [Image(id, project.scan(id).affine, [np.zeros(project.item(id).shape_xyz, bool)]) for id in added]
    (tmp_path / "weights").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return tmp_path, images, free.getsockname()[1]


def rounds(count: int, prepared, started: Callable[[], tuple[int, Callable]]) -> tuple[int, int]:
    """So many apps started and killed; how many commands were acknowledged, and in how many rounds the one under way
    was saved too.
    """
    folder, images, port = prepared
    acknowledged = later = 0
    for number in range(count):
        acknowledged += killed_while_saving(f"http://127.0.0.1:{port}", started, images, random.Random(number))
        later += check(folder / "project", images)
    print(f"{count} rounds, {acknowledged} commands acknowledged, {later} times the one under way was saved too")
    return acknowledged, later


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "GRADIO_TEMP_DIR": str(folder / "gradio")}


def test_no_acknowledged_mask_is_lost_when_the_app_is_killed(prepared):
    folder, _, port = prepared
    begun = []

    def started() -> tuple[int, Callable]:
        options = (
            "--project",
            str(folder / "project"),
            "--weights",
            str(folder / "weights"),
            "--results",
            str(folder / "weights"),
            "--port",
            str(port),
        )
        begun.append(subprocess.Popen([sys.executable, "app.py", *options], cwd=ROOT, env=environment(folder)))
        return begun[-1].pid, begun[-1].wait

    try:
        acknowledged, _ = rounds(2, prepared, started)
    finally:
        for process in begun:
            process.kill()
            process.wait(30)
    assert acknowledged > 2


@pytest.mark.slow
def test_no_acknowledged_mask_is_lost_when_the_app_is_killed_fifty_times(prepared):
    folder, _, port = prepared
    options = (str(folder / "project"), str(folder / "weights"), str(port))
    with subprocess.Popen(
        [sys.executable, "-c", FORKING, *options],
        cwd=ROOT,
        env=environment(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as forking:

        def started() -> tuple[int, Callable]:
            forking.stdin.write(b"\n")
            forking.stdin.flush()
            return int(forking.stdout.readline()), forking.stdout.readline

        try:
            acknowledged, later = rounds(50, prepared, started)
        finally:
            forking.stdin.close()
            forking.kill()
    assert acknowledged > 100 and later
