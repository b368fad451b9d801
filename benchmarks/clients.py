"""Many clients at once against the app with its shipped weights: is each answered about its own image, how soon, and
does memory stay.

Each client is a session of its own with a phantom of its own, of a size that no other has. It uploads it and calls
/mask, /clusters and /segment as programs do, and opens it as the page does, which keeps it in the session's state;
every answer is compared with the one that the same image got when it was asked alone before. "Busy" answers are tried
again later. All on one machine.

  nice -n -6 python -m benchmarks.clients [--clients 50] [--seconds 120]

Visitors of the page: benchmarks/hall.py.
"""

# Over 250 lines because the visitor, the tally and the record are one measurement.

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from benchmarks import keep
from benchmarks.app import app
from mpsams.datasets import phantom

ENDPOINTS = ("mask", "clusters", "segment")
BOUNDS = {"other_errors": 0, "leaks": 0, "second_half_growth": 0.10}
LONGEST_WAIT = 4.0  # seconds between two tries of a busy app
PICTURE = "Open an image or volume"


class Busy(Exception):
    """The app asks to be called later."""


def outputs(http: httpx.Client, event: dict) -> list:
    """Send an event of the page's and return its outputs; ValueError with what the server said where it failed.

    The stream of answers is read to its end, as the page does: gradio takes one that is broken off for a tab that was
    closed, and forgets the session.
    """
    number = check_answer(http.post("/gradio_api/queue/join", json=event)).json()["event_id"]
    found = None
    with http.stream("GET", "/gradio_api/queue/data", params={"session_hash": event["session_hash"]}) as answer:
        for line in check_answer(answer).iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed" and message["event_id"] == number:
                found = message
    if found is None:
        raise ValueError("the stream ended without an answer")
    if not found["success"]:
        raise ValueError(str(found["output"])[:200])
    return found["output"]["data"]


class Page:
    """The page's structure, from its /config and /info: the events that open a file and show a case, and the endpoints'
    arguments.
    """

    def __init__(self, address: str, login: httpx.Cookies | None = None) -> None:
        config = httpx.get(f"{address}/config", timeout=60, cookies=login).raise_for_status().json()
        info = httpx.get(f"{address}/gradio_api/info", timeout=60, cookies=login).raise_for_status().json()
        self.takes = {name.strip("/"): about["parameters"] for name, about in info["named_endpoints"].items()}
        file = next(part["id"] for part in config["components"] if part["props"].get("label") == PICTURE)
        shown = next(part["id"] for part in config["components"] if part["props"].get("elem_id") == "shown")
        states = {part["id"] for part in config["components"] if part["type"] == "state"}
        self.open = next(
            event
            for event in config["dependencies"]
            if [file, "upload"] in [list(target) for target in event["targets"]]
        )
        shows = (event for event in config["dependencies"] if event["outputs"] == [shown])
        self.show = next(event for event in shows if len(event["inputs"]) == 1 and set(event["inputs"]) <= states)


class Visitor:
    """A session of its own with a picture of its own."""

    def __init__(self, address: str, page: Page, number: int) -> None:
        self.address, self.page, self.number = address, page, number
        self.http = httpx.Client(base_url=address, timeout=300)
        self.session = f"visitor{number}x{random.getrandbits(60):x}"
        self.picture, (self.width, self.height) = picture(number)
        self.alone: dict[str, object] = {}

    def upload(self) -> dict:
        """Upload the picture; return the file as the app knows it from now on."""
        answer = self.http.post(
            "/gradio_api/upload", files={"files": (f"{self.number}.png", self.picture, "image/png")}
        )
        (path,) = check_answer(answer).json()
        return {"path": path, "orig_name": f"{self.number}.png", "meta": {"_type": "gradio.FileData"}}

    def call(self, name: str, file: dict) -> object:
        """Call an endpoint as a program does; return its answer."""
        data = [file, *(about.get("parameter_default") for about in self.page.takes[name][1:])]
        event = check_answer(self.http.post(f"/gradio_api/call/{name}", json={"data": data})).json()["event_id"]
        kind = None
        with self.http.stream("GET", f"/gradio_api/call/{name}/{event}") as answer:
            for line in check_answer(answer).iter_lines():
                kind = line.removeprefix("event: ") if line.startswith("event: ") else kind
                if line.startswith("data: ") and kind in ("complete", "error"):
                    if kind == "error":
                        raise ValueError(line)
                    return json.loads(line.removeprefix("data: "))[0]
        raise ValueError("the stream ended without an answer")

    def look(self, file: dict) -> str:
        """Open the picture on the page; return its stated size and a digest of the picture."""
        modality, seed = "", 0
        self._event(self.page.open, [[file], modality, seed, None][: len(self.page.open["inputs"])])
        (shown,) = self._event(self.page.show, [None])
        digest = hashlib.sha256("".join(re.findall(r"data:image/png[^\"')]+", shown)).encode()).hexdigest()
        return " ".join((*re.findall(r"\d+ × \d+", shown), digest))

    def _event(self, event: dict, data: list) -> list:
        """Return the outputs of one of the page's own events."""
        request = {
            "data": data,
            "fn_index": event["id"],
            "session_hash": self.session,
            "trigger_id": None,
            "event_data": None,
        }
        return outputs(self.http, request)

    def ask(self, name: str, file: dict) -> object:
        """Return the answer of an endpoint, or for "page" that of the page."""
        return self.look(file) if name == "page" else self.call(name, file)

    def own(self, name: str, answer: object) -> bool:
        """Return True if an answer is about this visitor's picture: its size where stated, and all of it as without
        other visitors.
        """
        if name == "segment" and (answer["width"], answer["height"]) != (self.width, self.height):
            return False
        if name == "page" and f"{self.width} × {self.height}" not in answer:
            return False
        return answer == self.alone.get(name, answer)


def check_answer(answer: httpx.Response) -> httpx.Response:
    """Return the answer. Busy where the app says so, ValueError for any other refusal."""
    if answer.status_code == 503:
        raise Busy
    if answer.status_code >= 400:
        raise ValueError(f"status {answer.status_code}")
    return answer


def picture(number: int) -> tuple[bytes, tuple[int, int]]:
    """Return a phantom as PNG, and its width and height, which no other number has."""
    image_hw, _ = phantom.ultrasound(number)
    width, height = 160 + 3 * number, 300 - 2 * (number % 60)
    image = Image.fromarray((image_hw * 255).round().astype(np.uint8)).resize((width, height))
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue(), (width, height)


class Tally:
    """Counts over all clients."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = {name: [] for name in ("upload", *ENDPOINTS, "page")}
        self.count: Counter = Counter()
        self.messages: Counter = Counter()


def visit(visitor: Visitor, until: float, tally: Tally) -> None:
    """Let a visitor ask one thing after another until a time."""
    things = (*ENDPOINTS, "page")
    turn = visitor.number
    while time.monotonic() < until:
        name, wait, began = things[turn % len(things)], 0.1, time.perf_counter()
        turn += 1
        while True:
            try:
                file = visitor.upload()
                tally.taken["upload"].append(time.perf_counter() - began)
                began = time.perf_counter()
                answer = visitor.ask(name, file)
            except Busy:
                tally.count["busy"] += 1
                if time.monotonic() > until:
                    return
                time.sleep(wait * random.uniform(0.5, 1.5))
                wait, began = min(LONGEST_WAIT, 2 * wait), time.perf_counter()
                continue
            except Exception as error:  # whatever it is, it is counted
                tally.count["errors"] += 1
                tally.messages[f"{type(error).__name__}: {error}"[:200]] += 1
            else:
                tally.taken[name].append(time.perf_counter() - began)
                tally.count["leaks"] += not visitor.own(name, answer)
            break


def processes(pid: int) -> list[int]:
    """Return the number of a process and of those it started, directly or not."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return [pid, *(found for child in children for found in processes(int(child)))]


def memory(pid: int) -> float:
    """Return the resident memory of a process and of those it started, in MiB."""
    states = (Path(f"/proc/{one}/status").read_text(encoding="utf-8") for one in processes(pid))
    return sum(int(re.search(r"VmRSS:\s+(\d+) kB", state)[1]) for state in states) / 1024


def measure(address: str, pid: int, clients: int, seconds: float, warm: float = 0.0) -> dict:
    """Measure ``clients`` clients for ``seconds``, after each was asked alone, and all together for ``warm`` seconds
    that do not count.
    """
    page = Page(address)
    visitors = [Visitor(address, page, number) for number in range(clients)]
    for visitor in visitors:
        file = visitor.upload()
        visitor.alone = {name: visitor.ask(name, file) for name in (*ENDPOINTS, "page")}
    if not all(visitor.own(name, answer) for visitor in visitors for name, answer in visitor.alone.items()):
        raise ValueError("an answer is about another picture even when asked alone")
    if len({str(visitor.alone["mask"]) for visitor in visitors}) < clients:
        raise ValueError("two pictures have the same answer, which would hide a leak")
    if warm:
        run_clients(visitors, warm, lambda visitor, until: visit(visitor, until, Tally()))
    tally, kept = Tally(), [memory(pid)]
    load = os.getloadavg()[0]
    run_clients(
        visitors, seconds, lambda visitor, until: visit(visitor, until, tally), lambda: kept.append(memory(pid))
    )
    tenth = max(1, len(kept) // 10)
    start, middle, end = kept[0], statistics.mean(kept[len(kept) // 2 :][:tenth]), statistics.mean(kept[-tenth:])
    answers = {name: len(taken) for name, taken in tally.taken.items()}
    return {
        "clients": clients,
        "seconds": seconds,
        "answers": answers,
        "busy": tally.count["busy"],
        "other_errors": tally.count["errors"],
        "leaks": tally.count["leaks"],
        "messages": dict(tally.messages),
        "load_before": load,
        "p50_s": {name: percentile(taken, 50) for name, taken in tally.taken.items()},
        "p95_s": {name: percentile(taken, 95) for name, taken in tally.taken.items()},
        "memory_mib": {"start": start, "middle": middle, "end": end, "peak": max(kept)},
        "second_half_growth": end / middle - 1,
    }


def run_clients(visitors: Sequence[Visitor], seconds: float, act: Callable, each_second=lambda: None) -> None:
    """Run all visitors at once. act: called with each of them and the time until which it is to go on."""
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=act, args=(visitor, until), daemon=True) for visitor in visitors]
    for thread in threads:
        thread.start()
    while time.monotonic() < until:
        time.sleep(min(1.0, max(0.0, until - time.monotonic())))
        each_second()
    for thread in threads:
        thread.join(300)


def percentile(taken: list[float], which: int) -> float | None:
    return float(np.percentile(taken, which)) if taken else None


def main() -> None:
    """Run the measurement and keep its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--quick", action="store_true", help="keep no record")
    options = parser.parse_args()
    with app() as (address, pid, _):
        found = measure(address, pid, options.clients, options.seconds, warm=20)
    keep("clients", found | {"bounds": BOUNDS}, options.quick)


if __name__ == "__main__":
    main()
