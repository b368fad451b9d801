"""Thirty images annotated in Chromium by real mouse and key events: seconds and clicks per image, and what was saved
and exported.

Each image of the queue is outlined with a box around its true lesion, dragged with the mouse, and accepted with Enter;
one without lesion is accepted with Shift+Enter. After every tenth image the page is loaded again. In the end the masks
on the disk are compared with those that the page held when they were accepted, and the names in the export with those
that were added.

  python -m benchmarks.annotate_thirty [--data ../shared/data/Dataset_BUSI_with_GT] [--images 30]
"""

from __future__ import annotations

import argparse
import io
import os
import random
import statistics
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import keep
from benchmarks.image_list import FLAGS, running
from mpsams.annotation import masks, protocol
from mpsams.annotation.project import Project
from mpsams.datasets import phantom

HELD = "() => document.querySelector('#annotate .annotate').parentElement.snapshot()"
# the address names the image on screen, which is written a moment after the image is shown
ADDRESSED = """() => 'idle' in document.documentElement.dataset &&
    [...new URLSearchParams(document.querySelector('#shown [data-address]').dataset.address)]
        .every(([key, value]) => new URLSearchParams(location.search).get(key) === value)"""
IDLE = "() => !document.querySelector('.annotate.busy') && document.querySelector('.annotate.open')"


def pictures(data: Path | None, count: int, folder: Path) -> dict[str, tuple[Path, np.ndarray]]:
    """Return images and their true masks, bool (H, W), by name: of BUSI, drawn by a seed, or phantoms without a folder
    of it.
    """
    if data is None:
        found = {}
        for number in range(count):
            image_hw, mask_hw = phantom.ultrasound(number)
            path = folder / f"phantom {number}.png"
            Image.fromarray((image_hw * 255).astype(np.uint8)).save(path)
            found[path.name] = path, np.asarray(mask_hw) > 0.5
        return found
    files = sorted(path for path in data.rglob("*.png") if "_mask" not in path.name)
    chosen = random.Random(0).sample(files, count)
    return {path.name: (path, truth_of(path)) for path in chosen}


def truth_of(path: Path) -> np.ndarray:
    """Return the union of the masks beside an image of BUSI, bool (H, W)."""
    found = [
        np.asarray(Image.open(mask).convert("L")) > 0 for mask in sorted(path.parent.glob(f"{path.stem}_mask*.png"))
    ]
    return np.any(found, axis=0)


class Annotator:
    """Someone at the page who knows the truth, and counts what they do."""

    def __init__(self, page, truths: dict[str, np.ndarray]) -> None:
        self.page, self.truths = page, truths
        self.drags = self.keys = 0

    def press(self, key: str) -> None:
        self.keys += 1
        self.page.keyboard.press(key)

    def idle(self) -> None:
        self.page.wait_for_function(IDLE)

    def box(self, truth_hw: np.ndarray) -> None:
        """Drag a box around a lesion, four pixels away from it."""
        view = self.page.evaluate(
            "() => [JSON.parse(document.querySelector('[data-part=stage]').dataset.view),"
            " document.querySelector('[data-part=stage]').getBoundingClientRect().toJSON()]"
        )
        rows, columns = np.flatnonzero(truth_hw.any(axis=1)), np.flatnonzero(truth_hw.any(axis=0))
        ends = [(columns[0] - 4, rows[0] - 4), (columns[-1] + 5, rows[-1] + 5)]
        (x0, y0), (x1, y1) = (
            (
                view[1]["left"] + view[0]["left"] + x * view[0]["scale"],
                view[1]["top"] + view[0]["top"] + y * view[0]["scale"],
            )
            for x, y in ends
        )
        self.press("b")
        self.page.mouse.move(x0, y0)
        self.page.mouse.down()
        self.page.mouse.move((x0 + x1) / 2, (y0 + y1) / 2)
        self.page.mouse.move(x1, y1)
        self.page.mouse.up()
        self.drags += 1

    def annotate(self) -> tuple[str, str, float, float]:
        """Annotate the image on screen; return its name, the accepted mask as run lengths, the seconds, and of these
        until the next one came.
        """
        began, page = time.perf_counter(), self.page
        self.idle()
        name, key = page.locator("[data-part=title]").inner_text(), page.evaluate(HELD)["key"]
        truth_hw = self.truths[name]
        if truth_hw.any():
            steps = page.evaluate(HELD)["steps"]
            self.box(truth_hw)
            page.wait_for_function(f"steps => ({HELD})().steps > steps", arg=steps)
        elif page.locator("[data-action=clear]").is_enabled():
            page.locator("[data-action=clear]").click()
            self.drags += 1
        self.idle()
        mask, left = page.evaluate(HELD)["mask"], page.locator("[data-part=count-open]").inner_text()
        accepted = time.perf_counter()
        self.press("Enter" if truth_hw.any() else "Shift+Enter")
        if left != "1":
            page.wait_for_function(f"key => ({HELD})().key !== key", arg=key)
        done = time.perf_counter()
        page.wait_for_function(
            "left => document.querySelector('[data-part=count-open]').textContent !== left", arg=left
        )
        return name, mask, done - began, done - accepted


def exported_names(page) -> list[str]:
    """Export all accepted masks and return the names of the files in the zip."""
    page.get_by_role("button", name="Export all").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as a zip").click()
    return zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())).namelist()


def run(page, address: str, truths: dict[str, np.ndarray]) -> dict:
    """Annotate all images, export them, and compare what is on the disk with what was accepted."""
    page.goto(address, wait_until="domcontentloaded")
    person, accepted, seconds, waits = Annotator(page, truths), {}, [], []
    for number in range(len(truths)):
        if number and number % 10 == 0:
            page.wait_for_function(ADDRESSED)
            page.reload(wait_until="domcontentloaded")
        name, mask, taken, wait = person.annotate()
        accepted[name] = mask
        seconds.append(taken)
        waits.append(wait)
    names = exported_names(page)
    return {
        "seconds_per_image": statistics.median(seconds),
        "accept_to_next_s": statistics.median(waits),
        "accept_to_next_p95_s": statistics.quantiles(waits, n=20)[-1],
        "mouse_actions_per_image": person.drags / len(truths),
        "keys_per_image": person.keys / len(truths),
        "accepted": accepted,
        "exported": names,
    }


def check(folder: Path, found: dict, truths: dict[str, np.ndarray]) -> dict:
    """Return the record: what was accepted in the page is on the disk to the pixel, and how good it is."""
    accepted, dsc, lost = found.pop("accepted"), [], 0
    with Project(folder) as project:
        items = {item.name: item for item in project.items()}
        for name, runs in accepted.items():
            saved_hw = project.mask(items[name].id)[:, :, 0].T
            lost += (
                not np.array_equal(saved_hw, protocol.unpack(runs, saved_hw.shape)) or items[name].status != "accepted"
            )
            dsc.append(masks.agreement(saved_hw, truths[name]))
    stems = {Path(name).stem for name in accepted}
    kept = len(stems & {Path(name).stem for name in found["exported"] if name.startswith("masks/")})
    found["exported"] = {"files": len(found["exported"]), "masks_under_their_own_name": kept}
    return found | {
        "images": len(accepted),
        "lost_or_changed": lost,
        "mean_dsc": statistics.mean(dsc),
        "median_dsc": statistics.median(dsc),
    }


def main() -> None:
    """Run the measurement and keep its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of BUSI (default: phantoms)")
    parser.add_argument("--images", type=int, default=30)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        given, project = pictures(options.data, options.images, Path(folder)), Path(folder) / "project"
        with Project(project) as opened:
            for path, _ in given.values():
                opened.add(path, "ultrasound")
        truths, load = {name: truth_hw for name, (_, truth_hw) in given.items()}, os.getloadavg()[0]
        with running(project) as address:
            browser = play.chromium.launch(
                executable_path=os.environ.get("MPSAMS_CHROMIUM", "/usr/bin/chromium"), args=FLAGS
            )
            page = browser.new_page(viewport={"width": 1440, "height": 900}, accept_downloads=True)
            page.set_default_timeout(120_000)
            found = run(page, address, truths)
            browser.close()
        keep(
            "annotate_thirty",
            check(project, found, truths) | {"data": "BUSI" if options.data else "phantoms", "load_before": load},
        )


if __name__ == "__main__":
    main()
