"""The page in a headless Chromium: samples, upload, slider, tabs, patch, download, phone width, and nothing from outside."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpsams.datasets import phantom
from mpsams.imaging import raster

CHROMIUM = os.environ.get("MPSAMS_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-dev-shm-usage"]
WAIT = 30_000

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; apt-get install chromium, or set MPSAMS_CHROMIUM")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, app_address):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(app_address, wait_until="domcontentloaded")
    page.get_by_role("tab", name="Masking").wait_for(timeout=WAIT)
    expect_shown(page, "Hidden lesion first")
    yield page
    context.close()


def expect_shown(page, text: str, within: str = "body") -> None:
    """Wait until a text can be seen, and fail when it does not appear."""
    page.locator(within).get_by_text(text).locator("visible=true").first.wait_for(timeout=WAIT)


def epoch(page) -> "Locator":  # noqa: F821
    """The number field of the epoch slider in the open tab."""
    return page.get_by_role("spinbutton", name="Epoch").locator("visible=true").first


def test_the_first_page_shows_something_worth_seeing(page):
    expect_shown(page, "63.4%")
    assert page.locator("svg").locator("visible=true").count() >= 3


def test_the_epoch_slider_changes_what_is_hidden(page):
    for number, ratio in (("1", "25.0%"), ("800", "80.7%")):
        epoch(page).fill(number)
        epoch(page).press("Enter")
        expect_shown(page, ratio)


def test_a_sample_replaces_the_image(page):
    page.get_by_role("button", name="T1 brain").first.click()
    expect_shown(page, "T1 brain", "#shown")


def test_a_click_on_a_patch_says_what_it_is(page):
    board = page.locator("svg[data-columns]").locator("visible=true").first
    box = board.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5 / 16, box["y"] + box["height"] * 0.5 / 16)
    expect_shown(page, "row 1, column 1")


@pytest.mark.parametrize("tab, text", [("Reconstruct", "Base"), ("Segment", "From scratch")])
def test_every_tab_shows_both_networks(page, tab, text):
    page.get_by_role("tab", name=tab).click()
    expect_shown(page, "MPS-AMS")
    expect_shown(page, text)


def upload(page, path: Path, which: int = 0) -> None:
    """Choose a file in the sidebar: 0 the image, 1 its mask."""
    if not page.get_by_text("What is it?").is_visible():
        page.get_by_role("button", name="Open your own").click()
    page.locator("#own input[type=file]").nth(which).set_input_files(str(path))


def test_an_uploaded_image_with_its_mask_goes_through_every_panel(page, tmp_path):
    image_hw, mask_hw = phantom.ultrasound(14)
    Image.fromarray((image_hw * 255).astype(np.uint8)).save(tmp_path / "patient-name.png")
    (tmp_path / "truth.png").write_bytes(raster.write_mask(mask_hw))
    upload(page, tmp_path / "patient-name.png")
    page.locator("#shown").get_by_text("Your ultrasound image").first.wait_for(timeout=WAIT)
    upload(page, tmp_path / "truth.png", -1)
    page.locator("#shown").get_by_text("true lesion outlined").wait_for(timeout=WAIT)
    expect_shown(page, "AUC")
    page.get_by_role("tab", name="Segment").click()
    expect_shown(page, "DSC")
    with page.expect_download(timeout=WAIT) as download:
        page.get_by_role("button", name="Download the mask").click()
    saved = tmp_path / "saved.png"
    download.value.save_as(saved)
    assert np.asarray(Image.open(saved)).shape == image_hw.shape
    assert "patient-name" not in page.locator("#main").inner_text()


def test_a_bad_upload_gets_a_sentence_and_breaks_nothing(page, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    upload(page, tmp_path / "bad.png")
    expect_shown(page, "PNG, JPEG or TIFF", "#notice")
    epoch(page).fill("10")
    epoch(page).press("Enter")
    expect_shown(page, "44.2%")


def test_nothing_is_asked_from_outside(page, app_address):
    for tab in ("Reconstruct", "Segment", "Masking"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
    outside = [url for url in page.asked if not url.startswith((app_address, "data:", "blob:"))]
    assert page.asked and outside == []


def test_a_phone_has_no_sideways_scrolling(browser, app_address):
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto(app_address, wait_until="domcontentloaded")
    for tab in ("Masking", "Reconstruct", "Segment"):
        page.get_by_role("tab", name=tab).click(timeout=WAIT)
        page.wait_for_timeout(800)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
    context.close()


def test_every_picture_has_words(page):
    for tab in ("Masking", "Reconstruct", "Segment"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
        bare = page.evaluate(
            """() => [...document.querySelectorAll('#main svg[role=img]')].filter(s => s.checkVisibility() && !(s.getAttribute('aria-label') || s.querySelector('title'))).length"""
        )
        assert bare == 0, tab
        assert page.evaluate("() => [...document.querySelectorAll('#main svg[role=img]')].filter(s => s.checkVisibility()).length") > 0, tab
