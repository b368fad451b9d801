"""Masks imported on the page in a headless Chromium: structures that overlap, the notes, and the bar of structures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mpsams.annotation import protocol
from mpsams.annotation.project import Project
from mpsams.datasets import phantom
from tests.support.browser import CHROMIUM, browser, expect_shown  # noqa: F401
from tests.support.browser_annotate import WAIT, App, annotate, opened, shape_of
from tests.support.canvas import held
from tests.support.coco import write_coco

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; apt-get install chromium, or set MPSAMS_CHROMIUM"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def app(tmp_path, small_weights):
    """The app with a project of one picture."""
    with Project(tmp_path / "project") as project:
        image_hw, _ = phantom.ultrasound(14)
        Image.fromarray((image_hw * 255).astype(np.uint8)).save(tmp_path / "a.png")
        project.add(tmp_path / "a.png")
    made = App(tmp_path, small_weights)
    made.start()
    yield made
    made.stop()


def test_structures_of_an_import_are_named_drawn_and_chosen(browser, app, tmp_path):  # noqa: F811
    with opened(browser, app.address) as page:
        height, width = shape_of(page)
        gland, cyst = np.zeros((2, width, height, 1), bool)
        gland[20:90, 20:80], cyst[40:60, 30:50] = True, True
        write_coco(tmp_path / "masks.json", {"cyst": cyst, "gland": gland}, "a.png")
        page.get_by_role("button", name="Import masks").click()
        page.locator("input[type=file]").last.set_input_files(str(tmp_path / "masks.json"))
        expect_shown(page, "1 image got a mask or a class")
        expect_shown(page, "a.png: cyst and gland overlap; there the mask has cyst, the smaller of the two.")
        expect_shown(page, "Structures added to the project: cyst, gland.")
        page.locator(".structures button").nth(1).wait_for(timeout=WAIT)
        assert page.locator(".structures button span").all_inner_texts() == ["cyst", "gland"]
        page.reload(wait_until="domcontentloaded")
        annotate(page)
        expected = np.where(cyst, 1, np.where(gland, 2, 0))[:, :, 0].T
        assert np.array_equal(protocol.unpack_labels(held(page)["mask"], shape_of(page)), expected)
