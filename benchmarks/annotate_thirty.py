"""Thirty images annotated in Chromium by real mouse and key events: seconds and clicks per image, and what was saved
and exported.

Each image of the queue is outlined with a box around each part of its true lesion but specks, dragged with the mouse,
and accepted with Enter; one without lesion is accepted with Shift+Enter. After every tenth image the page is loaded
again. In the end the masks on the disk are compared with those that the page held when they were accepted, and the
names in the export with those that were added. Images are phantoms, or drawn by a seed from the test parts of data
sets, which the prompt network has not seen; of volumes, slices with a lesion. Over 250 lines because someone at the
page, what the page measures and the check of the disk belong to one session.

  python -m benchmarks.annotate_thirty --data busi=Dataset_BUSI_with_GT brats=lgg_t1 hecktor=openkbp_ct --images 12
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
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import keep
from benchmarks.image_list import FLAGS, running
from mpsams import checkpoint, datasets, splits
from mpsams.annotation import masks, protocol
from mpsams.annotation.project import Project
from mpsams.datasets import phantom
from train.prompt_objects import SMALLEST
from train.simulated_users import connected_parts

PROMPT = Path(__file__).resolve().parents[1] / "weights" / "prompt.safetensors"
HELD = "() => document.querySelector('#annotate .annotate').parentElement.snapshot()"
ADDRESSED = """() => 'idle' in document.documentElement.dataset &&
    [...new URLSearchParams(document.querySelector('#shown [data-address]').dataset.address)]
        .every(([key, value]) => new URLSearchParams(location.search).get(key) === value)"""
SHOWN = "document.querySelector('[data-part=title]').textContent"
# Keeps the milliseconds from each release of the mouse on the image until the answer is on screen.
TIMED = """() => {
    window.drawn_ms = [];
    let begun = 0;
    const on_image = event => event.target.closest('[data-part=stage]');
    addEventListener('pointerup', event => { if (on_image(event)) begun = event.timeStamp; }, true);
    const next = () => new Promise(resolve => requestAnimationFrame(resolve));
    const note = async from => { await next(); await next(); window.drawn_ms.push(performance.now() - from); };
    new MutationObserver(changes => {
        for (const {target, oldValue} of changes)
            if (begun && /\\bbusy\\b/.test(oldValue) && !target.classList.contains('busy')) { note(begun); begun = 0; }
    }).observe(document, {subtree: true, attributeFilter: ['class'], attributeOldValue: true});
}"""
IDLE = "() => !document.querySelector('.annotate.busy') && document.querySelector('.annotate.open')"


@dataclass(frozen=True)
class Picture:
    """An image to annotate: its file, modality and true mask, bool (H, W), and the data set that it is from."""

    path: Path
    modality: str
    truth_hw: np.ndarray
    data: str


def phantoms(count: int, folder: Path) -> list[Picture]:
    """Write phantoms as PNG files."""
    drawn = ((number, *phantom.ultrasound(number)) for number in range(count))
    return [
        write(folder / f"phantom {number}.png", unit_hw, "ultrasound", np.asarray(mask_hw) > 0.5, "phantom")
        for number, unit_hw, mask_hw in drawn
    ]


def held_out(name: str, root: str, count: int, folder: Path) -> list[Picture]:
    """Write images of a data set's test part as PNG files; of volumes, slices with a lesion."""
    parts = {each["dataset"]: splits.restore(each) for each in checkpoint.metadata(PROMPT)["splits"]}
    images = datasets.open_dataset(name, root).of(parts[name].test)
    found = []
    for number in random.Random(0).sample(range(len(images)), len(images)):
        sample = images[number]
        if images.modality == "ultrasound" or sample.mask.any():
            path = folder / f"{images.cases[number].replace('/', ' ')}.png"
            unit_hw = sample.unit.reshape(-1, *sample.unit.shape[-2:])[0]
            found.append(write(path, unit_hw, images.modality, sample.mask, name))
        if len(found) == count:
            break
    return found


def write(path: Path, unit_hw: np.ndarray, modality: str, truth_hw: np.ndarray, data: str) -> Picture:
    """Write an image in [0, 1] as a PNG file."""
    Image.fromarray((unit_hw * 255).round().astype(np.uint8)).save(path)
    return Picture(path, modality, truth_hw, data)


class Annotator:
    """Someone at the page who knows the truth, and counts what they do."""

    def __init__(self, page, truths: dict[str, np.ndarray]) -> None:
        self.page, self.truths = page, truths
        self.drags = self.keys = 0
        self.drawn_s: list[float] = []  # of each drawing: seconds until its mask was on screen
        page.add_init_script(f"({TIMED})()")

    def keep_times(self) -> None:
        """Keep what the page measured, before it is loaded again or closed."""
        self.drawn_s += [each / 1000 for each in self.page.evaluate("window.drawn_ms")]

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
        name = page.locator("[data-part=title]").inner_text()
        truth_hw = self.truths[name]
        for part_hw in connected_parts(truth_hw, SMALLEST):
            drawn = page.evaluate("window.drawn_ms.length")
            self.box(part_hw)
            page.wait_for_function("drawn => window.drawn_ms.length > drawn", arg=drawn)
        if not truth_hw.any() and page.locator("[data-action=clear]").is_enabled():
            page.locator("[data-action=clear]").click()
            self.drags += 1
        self.idle()
        mask, left = page.evaluate(HELD)["mask"], page.locator("[data-part=count-open]").inner_text()
        accepted = time.perf_counter()
        self.press("Enter" if truth_hw.any() else "Shift+Enter")
        if left != "1":
            page.wait_for_function(f"name => {SHOWN} !== name", arg=name)  # not ``HELD``, which takes the page's time
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
    person, accepted, seconds, waits = Annotator(page, truths), {}, [], []
    page.goto(address, wait_until="domcontentloaded")
    for number in range(len(truths)):
        if number and number % 10 == 0:
            page.wait_for_function(ADDRESSED)
            person.keep_times()
            page.reload(wait_until="domcontentloaded")
        name, mask, taken, wait = person.annotate()
        accepted[name] = mask
        seconds.append(taken)
        waits.append(wait)
    person.keep_times()
    names = exported_names(page)
    return {
        "seconds_per_image": statistics.median(seconds),
        "drawn_to_mask_s": statistics.median(person.drawn_s),
        "drawn_to_mask_p95_s": statistics.quantiles(person.drawn_s, n=20)[-1],
        "accept_to_next_s": statistics.median(waits),
        "accept_to_next_p95_s": statistics.quantiles(waits, n=20)[-1],
        "mouse_actions_per_image": person.drags / len(truths),
        "keys_per_image": person.keys / len(truths),
        "accepted": accepted,
        "exported": names,
    }


def check(folder: Path, found: dict, pictures: dict[str, Picture]) -> dict:
    """Return the record: what was accepted in the page is on the disk to the pixel, and how good it is."""
    accepted, dsc, lost = found.pop("accepted"), {}, 0
    with Project(folder) as project:
        items = {item.name: item for item in project.items()}
        for name, runs in accepted.items():
            saved_hw = project.mask(items[name].id)[:, :, 0].T
            lost += (
                not np.array_equal(saved_hw, protocol.unpack(runs, saved_hw.shape)) or items[name].status != "accepted"
            )
            dsc[name] = masks.agreement(saved_hw, pictures[name].truth_hw)
    stems = {Path(name).stem for name in accepted}
    kept = len(stems & {Path(name).stem for name in found["exported"] if name.startswith("masks/")})
    found["exported"] = {"files": len(found["exported"]), "masks_under_their_own_name": kept}
    return found | {
        "images": len(accepted),
        "lost_or_changed": lost,
        "mean_dsc": statistics.mean(dsc.values()),
        "median_dsc": statistics.median(dsc.values()),
        "mean_dsc_of": {
            data: statistics.mean(dsc[name] for name in dsc if pictures[name].data == data)
            for data in sorted({each.data for each in pictures.values()})
        },
    }


def main() -> None:
    """Run the measurement and keep its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=FOLDER", help="data sets (default: phantoms)")
    parser.add_argument("--images", type=int, default=30)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        project, share = Path(folder) / "project", options.images // max(1, len(options.data))
        drawn = [held_out(*each.split("=", 1), share, Path(folder)) for each in options.data]
        given = list(chain.from_iterable(drawn)) or phantoms(options.images, Path(folder))
        with Project(project) as opened:
            for each in random.Random(0).sample(given, len(given)):
                opened.add(each.path, each.modality)
            kept = {item.name for item in opened.items()}  # of two equal images, which BUSI has, one
        pictures = {each.path.name: each for each in given if each.path.name in kept}
        truths, load = {name: each.truth_hw for name, each in pictures.items()}, os.getloadavg()[0]
        with running(project) as address:
            browser = play.chromium.launch(
                executable_path=os.environ.get("MPSAMS_CHROMIUM", "/usr/bin/chromium"), args=FLAGS
            )
            page = browser.new_page(viewport={"width": 1440, "height": 900}, accept_downloads=True)
            page.set_default_timeout(120_000)
            found = run(page, address, truths)
            browser.close()
        keep(
            "annotate_thirty" if len(drawn) < 2 else "annotate_mixed",
            check(project, found, pictures) | {"load_before": load},
        )


if __name__ == "__main__":
    main()
