"""A lecture hall on the page: many visitors who draw masks and reconstructions, segment, open images of a project and
save drawings.

Each visitor is a browser tab without a browser: it sends the events of the page, thinks for a while after each answer,
and has a picture and an image of the project of its own. Before that one visitor asks alone, and the load of the
machine is kept.

  python -m benchmarks.hall                       all parts, about twenty minutes; writes the records and tables
  python -m benchmarks.hall --parts hall hall-greedy   some of them
  python -m benchmarks.hall --quick               all for a few seconds with few visitors; writes nothing

parts: hall, fifty visitors; hall-workers, the same with several processes that answer; hall-same, two hundred who all
look at one sample; hall-greedy, one visitor asks for everything all the time, beside fifty; hall-memory, memory over
ten minutes and of idle visitors; hall-start, seconds until the page answers and shows a picture, and its size over the
wire (needs chromium).
"""

# Over 250 lines because its measurements share one app, its visitors and one kind of record.

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from benchmarks import docs, keep
from benchmarks.app import app
from benchmarks.clients import Busy, Page, memory, percentile, picture, processes, run_clients
from benchmarks.hall_guest import Guest
from mpsams.annotation.project import Project

MIX = {"mask": 35, "reconstruct": 25, "segment": 15, "save": 20, "open": 5}  # percent of the actions
# seconds, p95 of 50 visitors on two idle cores
AIMS = {"mask": 0.3, "reconstruct": 0.8, "segment": 0.8, "save": 0.3, "open": 1.5}
BASELINE = 4  # of each action before the others come
START_AIMS = {"page_ready_s": 5.0, "first_picture_s": 2.0}
IDLE_AIM_MIB, GROWTH_AIM = 0.5, 0.10


class Record:
    """Counts over all visitors. owners: of the picture that an answer was about."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = defaultdict(list)
        self.count: Counter = Counter()
        self.messages: Counter = Counter()
        self.owners: dict[str, int] = {}


def visit(guest: Guest, until: float, record: Record, think: float, mix: dict[str, int] = MIX) -> None:
    """Let a guest do one action after another until a time, with a pause of ``think`` seconds, on the average, after
    each.
    """
    time.sleep(guest.random.random() * think)
    while time.monotonic() < until:
        (action,), began = guest.random.choices(list(mix), list(mix.values())), time.perf_counter()
        try:
            digest = guest.act(action)
        except Busy:
            record.count["refused saves" if action == "save" else "busy"] += 1
        except Exception as error:  # whatever it is, it is counted
            record.count["errors"] += 1
            record.messages[f"{type(error).__name__}: {error}"[:200]] += 1
        else:
            record.taken[action].append(time.perf_counter() - began)
            if digest and not guest.same:
                record.count["leaks"] += record.owners.setdefault(digest, guest.number) != guest.number
        time.sleep(think * guest.random.uniform(0.5, 1.5))


@contextmanager
def project(count: int):
    """Yield a folder with a project of ``count`` pictures, and their ids."""
    with tempfile.TemporaryDirectory() as folder:
        with Project(Path(folder) / "project") as opened:
            for number in range(count):
                path = Path(folder) / f"{number}.png"
                path.write_bytes(picture(number)[0])
                opened.add(path, "ultrasound")
            ids = [item.id for item in opened.items()]
        yield Path(folder) / "project", ids


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process and those it started have taken, in seconds."""
    states = (Path(f"/proc/{one}/stat").read_text(encoding="utf-8") for one in processes(pid))
    parts = [state.rpartition(")")[2].split() for state in states]
    return sum(int(each[11]) + int(each[12]) for each in parts) / os.sysconf("SC_CLK_TCK")


@dataclass
class Hall:
    """A running app and its visitors, who have opened their images.

    alone: seconds of each action of one of them before the others came.
    """

    address: str
    pid: int
    guests: list[Guest]
    alone: dict[str, list[float]]


@contextmanager
def open_hall(users: int, same: bool = False, workers: int = 1) -> Iterator[Hall]:
    """Yield the app with a project, and ``users`` visitors of it. same: all look at one sample. workers: processes
    that answer.
    """
    options = ("--workers", str(workers)) if workers > 1 else ()
    with project(users) as (folder, ids), app("--project", str(folder), *options) as (address, pid, _):
        page, config = Page(address), httpx.get(f"{address}/config", timeout=60).json()
        guests = [Guest(address, page, number, config, ids[number], same) for number in range(users)]
        guests[0].begin()
        alone: dict[str, list[float]] = defaultdict(list)
        for action in MIX:
            guests[0].act(action)  # the first opens networks
            for _ in range(BASELINE):
                began = time.perf_counter()
                guests[0].act(action)
                alone[action].append(time.perf_counter() - began)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(Guest.begin, guests[1:]))
        yield Hall(address, pid, guests, alone)


def watch(hall: Hall, guests: Sequence[Guest], seconds: float, think: float, greedy: Guest | None = None) -> dict:
    """Let visitors act for ``seconds``; return the seconds of their actions, and what went wrong.

    greedy: asks for everything all the time, and is not counted.
    """
    record, kept, load, before = Record(), [memory(hall.pid)], os.getloadavg()[0], cpu_seconds(hall.pid)
    if greedy is not None:
        greed = (greedy, time.monotonic() + seconds, Record(), 0.0, dict.fromkeys(MIX, 1))
        threading.Thread(target=visit, args=greed, daemon=True).start()
    run_clients(
        guests, seconds, lambda guest, until: visit(guest, until, record, think), lambda: kept.append(memory(hall.pid))
    )
    answers = sum(map(len, record.taken.values()))
    cost = (cpu_seconds(hall.pid) - before) / max(1, answers)
    tenth = max(1, len(kept) // 10)
    middle, end = statistics.mean(kept[len(kept) // 2 :][:tenth]), statistics.mean(kept[-tenth:])
    return {
        "users": len(guests),
        "seconds": seconds,
        "think_s": think,
        "load_before": load,
        "load_after": os.getloadavg()[0],
        "answers": answers,
        "answers_a_second": answers / seconds,
        "cpu_seconds_an_answer": cost,
        "share_of_cores": cost * answers / seconds / (os.cpu_count() or 1),
        "actions": {action: summary(record.taken[action], hall.alone[action], AIMS[action]) for action in MIX},
        "busy": record.count["busy"],
        "refused_saves": record.count["refused saves"],
        "other_errors": record.count["errors"],
        "leaks": record.count["leaks"],
        "messages": dict(record.messages),
        "shared_results": httpx.get(f"{hall.address}/healthz", timeout=60).json()["shared_results"],
        "memory_mib": {"start": kept[0], "middle": middle, "end": end, "peak": max(kept)},
        "second_half_growth": end / middle - 1,
    }


def measure_crowd(users: int, seconds: float, think: float, same: bool = False, workers: int = 1) -> dict:
    """Measure ``users`` visitors for ``seconds``. same: all look at one sample. workers: processes that answer."""
    with open_hall(users, same, workers) as hall:
        return watch(hall, hall.guests, seconds, think) | {"same_sample": same, "workers": workers}


def measure_greedy(users: int, seconds: float, think: float) -> dict:
    """Measure visitors alone, then beside one more who asks for everything all the time; return the ratio of their p95
    too.
    """
    with open_hall(users + 1) as hall:
        *guests, greedy = hall.guests
        without = watch(hall, guests, seconds, think)
        beside = watch(hall, guests, seconds, think, greedy)
    ratios = {}
    for action, times in beside["actions"].items():
        p95, usual = times["p95_s"], without["actions"][action]["p95_s"]
        ratios[action] = p95 / usual if p95 and usual else None
    return beside | {"without": without, "p95_over_without": ratios, "aim_p95_over_without": 1.5}


def measure_memory(users: int, seconds: float, think: float, idle: int) -> dict:
    """Measure the memory of an idle visitor, then that of the app while ``users`` visitors work for ``seconds``."""
    with open_hall(users) as hall:
        first = hall.guests[0]
        guests = [
            Guest(hall.address, first.page, users + number, first.config, "", same=True) for number in range(idle + 10)
        ]
        for number, guest in enumerate(guests):
            if number == 10:  # the first make room that the others use again
                before = memory(hall.pid)
            guest.send("samples", "pick", event_data={"index": 0})
            guest.act("mask")
        each = (memory(hall.pid) - before) / idle
        found = watch(hall, hall.guests, seconds, think)
    return found | {
        "idle_visitors": idle,
        "idle_visitor_mib": each,
        "aim_idle_visitor_mib": IDLE_AIM_MIB,
        "aim_second_half_growth": GROWTH_AIM,
    }


def measure_start() -> dict:
    """Measure the seconds until the page answers and until a browser shows its first picture, and the bytes of the page
    as they are sent.
    """
    from playwright.sync_api import sync_playwright

    load = os.getloadavg()[0]
    with app() as (address, _, ready), sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        page = browser.new_page()
        sent = page.context.new_cdp_session(page)
        sizes: list[float] = []
        sent.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        sent.send("Network.enable")
        began = time.perf_counter()
        page.goto(address, wait_until="commit")
        page.locator("#shown svg, #shown img").first.wait_for(timeout=120_000)
        first = time.perf_counter() - began
        page.wait_for_load_state("load")
        browser.close()
        html = httpx.get(address, headers={"Accept-Encoding": "gzip"}, timeout=60)
    wire = {
        "html_bytes": int(html.num_bytes_downloaded),
        "html_bytes_plain": len(html.content),
        "all_bytes": int(sum(sizes)),
        "requests": len(sizes),
    }
    return {"load_before": load, "page_ready_s": ready, "first_picture_s": first, "wire": wire, "aims": START_AIMS}


def summary(taken: list[float], alone: list[float], aim: float) -> dict:
    """Return the seconds of an action, and their ratio to those of one visitor alone in the same run."""
    p50, p95, usual = percentile(taken, 50), percentile(taken, 95), float(np.median(alone))
    ratios = {"p50_over_alone": p50 / usual, "p95_over_alone": p95 / usual} if taken else {}
    return {"answers": len(taken), "p50_s": p50, "p95_s": p95, "alone_s": usual, "aim_p95_s": aim} | ratios


def main() -> None:
    """Measure the parts one after another, keep their records and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("hall", "hall-workers", "hall-same", "hall-greedy", "hall-memory", "hall-start")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts, help="(default: all)")
    parser.add_argument(
        "--users",
        type=int,
        default=50,
        help="visitors of hall and hall-greedy; four times as many of hall-same (default: 50)",
    )
    parser.add_argument("--seconds", type=float, default=60, help="of a measurement, but for hall-memory (default: 60)")
    parser.add_argument("--memory-seconds", type=float, default=600, help="of hall-memory (default: 600)")
    parser.add_argument(
        "--think", type=float, default=1, metavar="S", help="mean pause of a visitor after an answer (default: 1)"
    )
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="processes that answer in hall-workers (default: 2)"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the visitors and of the time, and no records")
    options = parser.parse_args()
    part = 10 if options.quick else 1
    users, seconds, think = options.users // part, options.seconds / part, options.think
    measures = {
        "hall": lambda: measure_crowd(users, seconds, think),
        "hall-workers": lambda: measure_crowd(users, seconds, think, workers=options.workers),
        "hall-same": lambda: measure_crowd(4 * users, seconds, think, same=True),
        "hall-greedy": lambda: measure_greedy(users, seconds, think),
        "hall-memory": lambda: measure_memory(max(2, users // 5), options.memory_seconds / part, think, 2 * users),
        "hall-start": measure_start,
    }
    for name in options.parts:
        keep(name, measures[name](), options.quick)
    if not options.quick:
        docs.write()


if __name__ == "__main__":
    main()
