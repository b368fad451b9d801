"""A headless Chromium with the app's page."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = os.environ.get("MPSAMS_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
SHARED = Path("/dev/shm")  # slower in files, which Chromium needs where there is little, as in a container
if not SHARED.is_dir() or shutil.disk_usage(SHARED).free < 2**29:
    FLAGS.append("--disable-dev-shm-usage")
WAIT = 30_000
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here; apt-get install chromium, or set MPSAMS_CHROMIUM"
)


@pytest.fixture(scope="module")
def browser():
    """Chromium; ``browser.window`` is the context of ``new_page``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        chromium.window = new_window(chromium)
        yield chromium
        chromium.close()


def new_window(browser):
    return browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)


@contextmanager
def new_page(browser, address: str):
    """An empty page for a test of an app, in the window of the module: scripts are fetched and compiled once for all of
    them, but storage and cookies are those of a new visitor.
    """
    page = browser.window.new_page()
    storage = {"origin": address, "storageTypes": "cookies,local_storage"}
    browser.window.new_cdp_session(page).send("Storage.clearDataForOrigin", storage)
    try:
        yield page
    finally:
        for each in browser.window.pages:
            each.close()


@pytest.fixture
def page(browser, app_address):
    with new_page(browser, app_address) as page:
        open_masking(page, app_address)
        yield page


def open_masking(page, address: str) -> None:
    """Open the app and wait for its tab Masking. page.requests: what it asks for."""
    page.requests = []
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(address, wait_until="domcontentloaded")
    page.get_by_role("tab", name="Masking").click(timeout=WAIT)
    expect_shown(page, "Hidden lesion first")
    idle(page)


def expect_shown(page, text: str, within: str = "body", *, during_work: bool = False) -> None:
    """Wait until a text can be seen and, unless it is shown during work that goes on, until all else that changes with
    it is shown too.
    """
    page.locator(within).get_by_text(text).locator("visible=true").first.wait_for(timeout=WAIT)
    if not during_work:
        idle(page)


def idle(page) -> None:
    """Wait until the app has answered all events of the page and the answers are drawn."""
    page.locator("html[data-idle]").wait_for(state="attached", timeout=WAIT)
    frames(page)


def frames(page) -> None:
    """Wait until the page has been drawn twice, after which a change of its layout is visible to the mouse."""
    page.evaluate("() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))")


def epoch(page) -> Locator:  # noqa: F821
    """The number field of the epoch slider in the open tab."""
    return page.get_by_role("spinbutton", name="Epoch").locator("visible=true").first


def upload(page, path: Path, which: int = 0) -> None:
    """Choose a file in the sidebar: 0 the image, -1 its mask."""
    if which:
        open_details(page)
    page.locator("#side input[type=file]").nth(which).set_input_files(str(path))


def open_details(page) -> None:
    """Open the part of the sidebar with modality and lesion mask."""
    if not page.locator("#image-details").get_by_text("Ultrasound", exact=True).is_visible():
        page.get_by_role("button", name="Modality and lesion mask").click()
