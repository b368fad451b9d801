"""A lecture hall on the page: many visitors who draw masks and reconstructions, segment, open images of a project and save drawings.

Each visitor is a browser tab without a browser: it sends the events of the page, thinks for a while after each answer, and has a
picture and an image of the project of its own (with ``same``: all look at the first sample). Before that one visitor asks alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import tempfile
import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from benchmarks.app import app
from benchmarks.clients import PICTURE, Busy, Page, Visitor, memory, outputs, percentile, picture, run_clients
from mpsams.annotation import protocol
from mpsams.annotation.project import Project

MIX = {"mask": 35, "reconstruct": 25, "segment": 15, "save": 20, "open": 5}  # percent of the actions
AIMS = {"mask": 0.3, "reconstruct": 0.8, "segment": 0.8, "save": 0.3, "open": 1.5}  # seconds, p95 of 50 visitors on two idle cores
SLIDERS = {"mask": "Epoch of pretraining", "reconstruct": "Epoch: how much is hidden"}
ALONE = 4  # of each action before the others come


class Guest(Visitor):
    """A visitor who uses all tabs. item: of the project, which nobody else opens. drawn: masks that were acknowledged."""

    def __init__(self, address: str, page: Page, number: int, config: dict, item: str, same: bool) -> None:
        super().__init__(address, page, number)
        self.config, self.item, self.same = config, item, same
        self.parts = {part["id"]: part for part in config["components"]}
        self.random, self.turn, self.slice_view = random.Random(number), 0, {}

    def begin(self) -> None:
        """Open this visitor's picture, and its image of the project."""
        if self.same:
            self.send("samples", "pick", event_data={"index": 0})
        else:
            self.send(PICTURE, "upload", {PICTURE: [self.upload()]})
        self.act("open")

    def act(self, what: str) -> str:
        """Do one thing; return a digest of the answer, "" where it says nothing of the picture. ValueError if a drawing was not saved."""
        if what in SLIDERS:
            epoch = self.random.randint(1, 800)
            answer = self.send(SLIDERS[what], "input", {SLIDERS[what]: epoch})
            return hashlib.sha256(json.dumps(answer).encode()).hexdigest()
        if what == "segment":
            self.send("networks", "input")  # asked once of each picture, then drawn again
            return ""
        if what == "open":
            self.slice_view = self.reply("annotate-queue", "pick", {"item": self.item})["slice_view"] or self.slice_view
            return ""
        self.turn += 1
        shape = self.slice_view["height"], self.slice_view["width"]
        mask_hw = np.zeros(shape, bool)
        row, column = self.random.randrange(shape[0] - 9), self.random.randrange(shape[1] - 9)
        mask_hw[row : row + 9, column : column + 9] = True
        command = {"action": "save", "key": self.slice_view["key"], "request_id": self.turn, "mask": protocol.pack(mask_hw), "changed": True, "seconds": 1}
        reply = self.reply("annotate", "act", command)
        if (reply["saved"], reply["error"]) != ("disk", ""):
            raise ValueError(f"not saved: {reply['error']}")
        return ""

    def reply(self, name: str, kind: str, data: dict) -> dict:
        """The canvas's reply to an event."""
        event = self.find(name, kind)
        value = self.send(name, kind, event_data=data)[event["outputs"].index(self.part("annotate"))]
        return json.loads(value["value"] if isinstance(value, dict) else value)

    def part(self, name: str) -> int:
        """The number of a component by its label or id; "networks" are those that take part."""
        if name == "networks":
            return next(id for id, part in self.parts.items() if part["type"] == "checkboxgroup" and any("-seg-" in str(one) for one in part["props"]["choices"]))
        named = (id for id, part in self.parts.items() if name in (part["props"].get("label"), part["props"].get("elem_id")))
        return next(id for id in named if self.parts[id]["type"] not in ("column", "row"))

    def find(self, name: str, kind: str) -> dict:
        """The listener to an event of a component."""
        target = [self.part(name), kind]
        return next(event for event in self.config["dependencies"] if target in [list(one) for one in event["targets"]] and event["outputs"])

    def send(self, name: str, kind: str, values: dict | None = None, event_data: dict | None = None) -> list:
        """The outputs of an event. values: of its inputs by label, where they are not those that the page opens with."""
        event, given = self.find(name, kind), {self.part(label): value for label, value in (values or {}).items()}
        data = [None if self.parts[id]["type"] == "state" else given.get(id, self.parts[id]["props"].get("value")) for id in event["inputs"]]
        asked = {"data": data, "fn_index": event["id"], "session_hash": self.session, "trigger_id": self.part(name), "event_data": event_data}
        return outputs(self.http, asked)


class Record:
    """Counts over all visitors. owners: of the picture that an answer was about."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = defaultdict(list)
        self.count: Counter = Counter()
        self.said: Counter = Counter()
        self.owners: dict[str, int] = {}


def visit(guest: Guest, until: float, record: Record, think: float, mix: dict[str, int] = MIX) -> None:
    """One action after another until then, with a pause of ``think`` seconds, on the average, after each."""
    time.sleep(guest.random.random() * think)
    while time.monotonic() < until:
        (what,), began = guest.random.choices(list(mix), list(mix.values())), time.perf_counter()
        try:
            digest = guest.act(what)
        except Busy:
            record.count["refused saves" if what == "save" else "busy"] += 1
        except Exception as error:  # whatever it is, it is counted
            record.count["errors"] += 1
            record.said[f"{type(error).__name__}: {error}"[:200]] += 1
        else:
            record.taken[what].append(time.perf_counter() - began)
            if digest and not guest.same:
                record.count["leaks"] += record.owners.setdefault(digest, guest.number) != guest.number
        time.sleep(think * guest.random.uniform(0.5, 1.5))


@contextmanager
def project(count: int):
    """A folder with a project of so many pictures, and their ids."""
    with tempfile.TemporaryDirectory() as folder:
        with Project(Path(folder) / "project") as opened:
            for number in range(count):
                path = Path(folder) / f"{number}.png"
                path.write_bytes(picture(number)[0])
                opened.add(path, "ultrasound")
            ids = [item.id for item in opened.items()]
        yield Path(folder) / "project", ids


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has taken."""
    parts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def measure(users: int, seconds: float, think: float, same: bool = False, greedy: bool = False) -> dict:
    """So many visitors for so long, after one alone. same: all look at one sample. greedy: one more asks for everything all the time."""
    with project(users + greedy) as (folder, ids), app("--project", str(folder)) as (address, pid, ready):
        page, config = Page(address), httpx.get(f"{address}/config", timeout=60).json()
        guests = [Guest(address, page, number, config, ids[number], same) for number in range(users + greedy)]
        alone = Record()
        guests[0].begin()
        for what in MIX:
            guests[0].act(what)  # the first opens networks
            for _ in range(ALONE):
                began = time.perf_counter()
                guests[0].act(what)
                alone.taken[what].append(time.perf_counter() - began)
        for guest in guests[1:]:
            guest.begin()
        record, kept, load, before = Record(), [memory(pid)], os.getloadavg()[0], cpu_seconds(pid)
        if greedy:
            greed = (guests.pop(), time.monotonic() + seconds, Record(), 0.0, dict.fromkeys(MIX, 1))
            threading.Thread(target=visit, args=greed, daemon=True).start()
        run_clients(guests, seconds, lambda guest, until: visit(guest, until, record, think), lambda: kept.append(memory(pid)))
        answers = sum(map(len, record.taken.values()))
        health = httpx.get(f"{address}/healthz", timeout=60).json()
        cost = (cpu_seconds(pid) - before) / max(1, answers)
    table = {what: summary(record.taken[what], alone.taken[what], AIMS[what]) for what in MIX}
    return {
        "users": users, "seconds": seconds, "think_s": think, "same_sample": same, "one_asks_for_everything": greedy, "load_before": load,
        "page_ready_s": ready, "answers": answers, "answers_a_second": answers / seconds, "cpu_seconds_an_answer": cost, "actions": table,
        "busy": record.count["busy"], "refused_saves": record.count["refused saves"], "other_errors": record.count["errors"],
        "leaks": record.count["leaks"], "said": dict(record.said), "shared_results": health.get("shared_results"),
        "memory_mib": {"start": kept[0], "end": kept[-1], "peak": max(kept)},
    }  # fmt: skip


def summary(taken: list[float], alone: list[float], aim: float) -> dict:
    """Seconds of an action, and how many times those of one visitor alone in the same run."""
    p50, p95, usual = percentile(taken, 50), percentile(taken, 95), float(np.median(alone))
    ratios = {"p50_over_alone": p50 / usual, "p95_over_alone": p95 / usual} if taken else {}
    return {"answers": len(taken), "p50_s": p50, "p95_s": p95, "alone_s": usual, "aim_p95_s": aim} | ratios
