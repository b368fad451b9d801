"""The list of the Annotate tab with 5,000 images, in Chromium: how long each action takes until its rows are shown.

A project of tiny images is written into a temporary folder and opened by the app. Searching, filtering, sorting,
scrolling and selecting happen in the page; opening and skipping an image go through the server, until the list shows
the new state.

  python -m benchmarks.image_list [--images 5000] [--times 20]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import keep
from mpsams.annotation.project import Project

BOUNDS = {"p95_ms": 300}  # of each action within the page
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-dev-shm-usage",
]
PAINTED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def write_project(folder: Path, count: int) -> None:
    """Write a project of tiny pictures: half of them with a priority, every tenth accepted or skipped by its log."""
    Project(folder).close()
    source, rows, names = np.random.default_rng(0), [], []
    for number in range(count):
        written = io.BytesIO()
        Image.fromarray(source.integers(0, 255, (16, 16), np.uint8)).save(written, "PNG")
        id = hashlib.sha256(written.getvalue()).hexdigest()[:16]
        (folder / "images" / f"{id}.png").write_bytes(written.getvalue())
        head = {"time": "2026-01-01T00:00:00.000Z", "user": "", "item": id}
        rows.append(
            head
            | {
                "action": "added",
                "modality": "ultrasound",
                "image_ending": ".png",
                "mask_ending": ".png",
                "shape": [16, 16, 1],
            }
        )
        rows += [head | {"action": "prioritised", "priority": float(source.random())}] * (number % 2)
        rows += [head | {"action": "skipped", "seconds": 1}] * (number % 10 == 0)
        names.append({"item": id, "name": f"breast {number:05}.png"})
    for name, lines in (("log.jsonl", rows), ("names.private.jsonl", names)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="ascii")


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run the app with a project; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "app.py", "--project", str(folder), "--port", str(port)], stdout=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/healthz", timeout=10).read()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"the app ended with {process.returncode}") from None
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def p95(work: Callable[[int], object], times: int) -> float:
    """Return the 95th percentile of ``times`` calls in milliseconds; each call gets its number."""
    taken = []
    for number in range(times):
        began = time.perf_counter()
        work(number)
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.quantiles(taken, n=20, method="inclusive")[-1]


def measure(page, count: int, times: int) -> dict:
    """Return the p95 of each action in milliseconds, with the two frames until it is painted."""
    box, search = page.locator(".queue"), page.get_by_role("searchbox", name="Search by name")

    def until_painted(act: Callable[[int], object]) -> Callable[[int], object]:
        return lambda number: (act(number), page.evaluate(PAINTED))

    def skip(number: int) -> None:
        before = page.locator("[data-part=count-skipped]").inner_text()
        page.locator(".annotate:not(.busy)").wait_for()
        page.keyboard.press("n")
        page.wait_for_function(
            "before => document.querySelector('[data-part=count-skipped]').textContent !== before", arg=before
        )

    def opened(number: int) -> None:
        row = page.locator(".queue .row").nth(3 + number % 4)
        id = row.get_attribute("data-item")
        row.click()
        page.wait_for_function(
            "id => document.querySelector('#annotate .annotate').parentElement.snapshot().key.startsWith(id)", arg=id
        )

    orders, states = ("name", "added", "changed", "queue"), ("All", "Skipped", "Open")
    found = {
        "search": p95(until_painted(lambda number: search.fill(f"breast {number}")), times),
        "filter": p95(
            until_painted(
                lambda number: (
                    page.get_by_role("radio", name=states[number % 3], exact=True).locator("visible=true").check()
                )
            ),
            times,
        ),
        "sort": p95(
            until_painted(lambda number: page.locator("[data-set=order]").select_option(orders[number % 4])), times
        ),
    }
    search.fill("")
    page.get_by_role("radio", name="Open", exact=True).locator("visible=true").check()
    found["scroll"] = p95(
        until_painted(lambda number: box.evaluate("(box, to) => { box.scrollTop = to; }", number * count)), times
    )
    box.evaluate("box => { box.scrollTop = 0; }")
    box.focus()
    found["select all"] = p95(
        until_painted(lambda number: page.keyboard.press("Control+a" if number % 2 == 0 else "Escape")), times
    )
    page.keyboard.press("Escape")
    return found | {"open, with the image": p95(opened, times), "skip, until it is counted": p95(skip, times)}


def main() -> None:
    """Run the measurement and keep its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--times", type=int, default=20)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        write_project(Path(folder) / "project", options.images)
        with running(Path(folder) / "project") as address:
            browser = play.chromium.launch(
                executable_path=os.environ.get("MPSAMS_CHROMIUM", "/usr/bin/chromium"), args=FLAGS
            )
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(120_000)
            page.goto(address, wait_until="domcontentloaded")
            page.locator(".annotate.open").wait_for()
            page.wait_for_function(
                "count => document.querySelector('[data-part=count-all]').textContent === String(count)",
                arg=options.images,
            )
            load = os.getloadavg()[0]
            found = measure(page, options.images, options.times)
            browser.close()
    keep(
        "image_list",
        {"images": options.images, "times": options.times, "load_before": load, "p95_ms": found, "bounds": BOUNDS},
    )


if __name__ == "__main__":
    main()
