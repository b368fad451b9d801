"""The page where the app had to let go of its image: it says so and shows no other, and what was drawn
is still there.
"""

from __future__ import annotations

import json
import urllib.request

import numpy as np
import pytest

from tests.support.browser import browser, epoch, expect_shown, idle, upload  # noqa: F401
from tests.support.browser_annotate import annotate, cleared, drawn, opened, shape_of, stroke
from tests.support.budget import MIB, volume
from tests.support.canvas import saved
from tests.support.server import running
from tests.support.waiting import wait_until

WAIT = 60_000
SHAPE = (256, 256, 1600)  # 200 MiB decoded
WORDS = "256 × 256 × 1600"


@pytest.fixture(scope="module")
def app(small_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("budget")
    options = ("--weights", str(small_weights), "--memory", "1", "--scratch", "0.25")
    with running(folder, *options, GRADIO_TEMP_DIR=str(folder / "uploads")) as (address, _, _):
        yield address, volume(folder / "deep.nii.gz", SHAPE)


def budget(address: str) -> dict:
    return json.load(urllib.request.urlopen(f"{address}/healthz"))["budget"]


def disk(address: str) -> int:
    return budget(address)["disk"]["used"]


def is_opened(page, path) -> bool:
    """Upload a volume, and return True once it is shown, False if it is refused."""
    upload(page, path)
    shown, refused = page.locator("#shown").get_by_text(WORDS).first, page.locator("#shown .error, .error").first
    shown.or_(refused).first.wait_for(timeout=WAIT)
    return shown.is_visible()


def test_a_page_whose_image_was_let_go_of_says_so_and_keeps_what_was_drawn(browser, app):  # noqa: F811
    address, path = app
    with opened(browser, address) as first, opened(browser, address) as other:
        upload(first, path)
        first.locator("#shown").get_by_text(WORDS).first.wait_for(timeout=WAIT)
        wait_until(lambda: shape_of(first) == SHAPE[:2], 60)
        cleared(first)
        expected = stroke(first, [(80, 80), (160, 120)], "r", 12)
        saved(first, "kept in this tab")
        idle(first)
        wait_until(lambda: budget(address)["busy"] == 0, 60)  # what is being worked on is not let go of
        wait_until(
            lambda: is_opened(other, path), 3 * WAIT / 1000
        )  # refused while the first page still asks for something
        assert disk(address) <= 256 * MIB
        first.get_by_role("tab", name="Masking").click()
        expect_shown(first, "Open the image again")
        pictured = first.locator("#shown img, #shown image").first.get_attribute("href")
        epoch(first).fill("1")
        assert (
            first.locator("#shown").get_by_text(WORDS).first.is_visible()
            and first.locator("#shown img, #shown image").first.get_attribute("href") == pictured
        )
        first.get_by_role("tab", name="Annotate").click()
        annotate(first)
        assert np.array_equal(drawn(first), expected)
        expected |= stroke(first, [(60, 200), (200, 200)], "r", 12)
        wait_until(lambda: first.locator("#annotate .annotate").get_attribute("data-saved") == "kept", 60)
        first.get_by_role("tab", name="Masking").click()
        expect_shown(first, "Clusters")  # the image is back for all tabs
        first.get_by_role("tab", name="Annotate").click()
        annotate(first)
        assert np.array_equal(drawn(first), expected)
    wait_until(lambda: disk(address) == 0, 60)  # the tabs were closed
