"""Make the pictures of the app in docs/images anew, in Chromium, from synthetic images: learn.png, masking.png and
annotate.png.

  python -m benchmarks.screenshots [--out docs/images]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.annotate_thirty import Annotator, phantoms
from benchmarks.image_list import FLAGS, running
from mpsams.annotation.project import Project

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
WINDOW = {"width": 1280, "height": 860}
PROJECT, ACCEPTED = 8, 2  # images of the annotation project, and how many of them are accepted
WAIT = 120_000  # milliseconds
# Picture -> query, what the sidebar then says, and an element that is there when the tab is drawn.
VIEWS = {
    "learn": ("tab=learn&sample=t1-brain-nifti-volume&step=4", "T1 brain", ".learn[data-link*='step=4'] path.lesion"),
    "masking": ("tab=masking&sample=t1-brain-nifti-volume&epoch=100", "T1 brain", "[role=tabpanel] .cards:visible"),
}
SHOWS = "text => document.querySelector('#shown').innerText.includes(text) && !document.querySelector('#main.opening')"


def take(page, address: str, out: Path) -> None:
    """Write the picture of each of ``VIEWS``."""
    for name, (query, text, element) in VIEWS.items():
        page.goto(f"{address}/?{query}", wait_until="domcontentloaded")
        page.locator(element).first.wait_for()
        page.wait_for_function(SHOWS, arg=text)
        page.screenshot(path=out / f"{name}.png")


def take_annotate(page, address: str, truths: dict, out: Path) -> None:
    """Accept some images, and write the picture of the next one, with what is proposed on it."""
    page.goto(f"{address}/?tab=annotate", wait_until="domcontentloaded")
    person = Annotator(page, truths)
    for _ in range(ACCEPTED):
        person.annotate()
    person.idle()
    page.screenshot(path=out / "annotate.png")


def main(argv: Sequence[str] | None = None) -> None:
    """Start the app on a project of synthetic images and write the pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.screenshots", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures (default: docs/images)")
    out = parser.parse_args(argv).out
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        given, project = phantoms(PROJECT, Path(folder)), Path(folder) / "project"
        with Project(project) as opened:
            for each in given:
                opened.add(each.path, each.modality)
        with running(project) as address:
            browser = play.chromium.launch(
                executable_path=os.environ.get("MPSAMS_CHROMIUM", "/usr/bin/chromium"), args=FLAGS
            )
            page = browser.new_page(viewport=WINDOW, color_scheme="light")
            page.set_default_timeout(WAIT)
            take(page, address.rstrip("/"), out)
            take_annotate(page, address.rstrip("/"), {each.path.name: each.truth_hw for each in given}, out)
            browser.close()


if __name__ == "__main__":
    main()
