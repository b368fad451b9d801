"""The page in a headless Chromium: samples, upload, slider, tabs, patch, download, phone width, and nothing from
outside.
"""

import base64
import io
import itertools
import json
import re
import urllib.request

import numpy as np
import pytest
from PIL import Image

from mpsams.datasets import phantom
from mpsams.imaging import raster
from tests.support.browser import CHROMIUM, FLAGS, WAIT, browser, epoch, expect_shown, idle, page, pytestmark, upload  # noqa: F401

TABS = {"learn", "masking", "reconstruct", "segment", "annotate", "results"}


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


def test_another_image_asks_the_server_nothing_for_closed_tabs(page, app_address):
    config = json.load(urllib.request.urlopen(f"{app_address}/config"))
    tabs = {
        part["id"]: str(part["props"].get("label")).removeprefix("images shown in ") for part in config["components"]
    }
    listeners: dict[str, set[int]] = {}
    for one in config["dependencies"]:
        for part, event in one["targets"]:
            if event == "change" and tabs[part] in TABS:
                listeners.setdefault(tabs[part], set()).add(one["id"])
    asked = set()
    page.on(
        "request",
        lambda request: asked.add(request.post_data_json["fn_index"]) if "/queue/join" in request.url else None,
    )
    page.get_by_role("button", name="T1 brain").first.click()
    expect_shown(page, "T1 brain", "#shown")
    idle(page)
    assert asked & listeners.pop("masking") and len(listeners) == 5
    assert not asked & set().union(*listeners.values())


def test_a_click_on_a_patch_says_what_it_is(page):
    board = page.locator("svg[data-columns]").locator("visible=true").first
    box = board.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5 / 16, box["y"] + box["height"] * 0.5 / 16)
    expect_shown(page, "row 1, column 1")
    page.get_by_role("tab", name="Results").click()
    page.get_by_role("tab", name="Masking").click()
    epoch(page).fill("1")
    expect_shown(page, "25.0%")
    expect_shown(page, "row 1, column 1")


def test_an_event_is_sent_when_the_one_before_is_in_the_queue(browser, app_address):
    """Else a loaded server may answer them in another order, and the older picture stays."""
    with browser.new_page() as page:
        page.goto(f"{app_address}/?tab=masking", wait_until="domcontentloaded")
        times = (
            "() => performance.getEntriesByType('resource').filter(one => one.name.includes('/queue/join')).map(one =>"
            " [one.startTime, one.responseEnd])"
        )
        page.wait_for_function(f"() => ({times})().length >= 5", timeout=WAIT)  # of the opening of the page
        for (begun, ended), (following, _) in itertools.pairwise(page.evaluate(times)):
            assert following >= ended - 1 or following - begun >= 1000


def test_dropdowns_have_an_arrow(page):
    page.get_by_role("tab", name="Results").click()
    expect_shown(page, "DSC, images with a lesion")
    arrows = page.locator(".dropdown-arrow path").locator("visible=true")
    arrows.first.wait_for(timeout=WAIT)
    assert "none" not in arrows.evaluate_all("paths => paths.map(path => getComputedStyle(path).fill)")


@pytest.mark.parametrize("tab, text", [("Reconstruct", "Base"), ("Segment & compare", "From scratch")])
def test_every_tab_shows_both_networks(page, tab, text):
    page.get_by_role("tab", name=tab).click()
    expect_shown(page, "MPS-AMS")
    expect_shown(page, text)


def test_an_uploaded_image_with_its_mask_goes_through_every_panel(page, tmp_path):
    image_hw, mask_hw = phantom.ultrasound(14)
    Image.fromarray((image_hw * 255).astype(np.uint8)).save(tmp_path / "patient-name.png")
    (tmp_path / "truth.png").write_bytes(raster.write_mask(mask_hw))
    upload(page, tmp_path / "patient-name.png")
    page.locator("#shown").get_by_text("Your ultrasound image").first.wait_for(timeout=WAIT)
    upload(page, tmp_path / "truth.png", -1)
    page.locator("#shown").get_by_text("true lesion outlined").wait_for(timeout=WAIT)
    expect_shown(page, "AUC")
    page.get_by_role("tab", name="Segment & compare").click()
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
    toast = page.get_by_role("alert")
    toast.get_by_text("PNG, JPEG or TIFF").wait_for(timeout=WAIT)
    box = toast.bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= 900 and "Still showing: Ultrasound" in toast.inner_text()
    page.get_by_role("button", name="Close this message").click()
    assert not toast.is_visible()
    (tmp_path / "worse.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    upload(page, tmp_path / "worse.png")
    toast.get_by_text("PNG, JPEG or TIFF").wait_for(timeout=WAIT)  # the same words again
    epoch(page).fill("10")
    epoch(page).press("Enter")
    expect_shown(page, "44.2%")


def test_nothing_is_asked_from_outside(page, app_address):
    for tab in ("Learn", "Reconstruct", "Segment & compare", "Results", "Masking"):
        page.get_by_role("tab", name=tab).click()
        idle(page)
    outside = [url for url in page.requests if not url.startswith((app_address, "data:", "blob:"))]
    assert page.requests and outside == []


def test_a_phone_has_no_sideways_scrolling(browser, app_address):
    with browser.new_context(viewport={"width": 390, "height": 800}) as context:
        page = context.new_page()
        page.goto(app_address, wait_until="domcontentloaded")
        for tab, text in (
            ("Learn", "Cut the image"),
            ("Masking", "Clusters"),
            ("Reconstruct", "Original"),
            ("Segment & compare", "Where they differ"),
            ("Results", "Training curves"),
        ):
            page.get_by_role("tab", name=tab).click(timeout=WAIT)
            expect_shown(page, text)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
        page.goto(f"{app_address}?tab=annotate&sample=t1-brain-nifti-volume", wait_until="domcontentloaded")
        page.locator(".annotate [data-part=volume]").wait_for(timeout=WAIT)
        assert (
            page.evaluate(
                "Math.max(document.documentElement.scrollWidth,"
                " document.querySelector('.annotate').getBoundingClientRect().right)"
            )
            <= 390
        )


@pytest.fixture
def phone(browser, app_address):
    with browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True) as context:
        page = context.new_page()
        page.goto(app_address, wait_until="domcontentloaded")
        page.get_by_role("tab", name="Masking").click(timeout=WAIT)
        expect_shown(page, "Clusters")
        yield page


def test_a_phone_begins_with_the_tabs_and_has_the_sidebar_in_a_drawer(phone):
    opener, drawer = phone.get_by_role("button", name="Image: "), phone.locator("#side")
    assert phone.get_by_role("tab", name="Masking").bounding_box()["y"] < 140 and not drawer.is_visible()
    first = opener.inner_text()
    opener.click()
    drawer.locator("[data-sample]").first.wait_for(timeout=WAIT)
    assert (
        phone.evaluate("document.activeElement.matches('#side [data-close-side]')")
        and opener.get_attribute("aria-expanded") == "true"
    )
    for _ in range(30):
        phone.keyboard.press("Tab")
        assert not phone.evaluate("Boolean(document.activeElement.closest('#main'))")
    phone.keyboard.press("Escape")
    drawer.wait_for(state="hidden", timeout=WAIT)
    assert phone.evaluate("document.activeElement.matches('[data-open-side]')")
    opener.press("Enter")
    drawer.get_by_role("button", name="Ultrasound, cyst").click()
    drawer.wait_for(state="hidden", timeout=WAIT)
    expect_shown(phone, "Ultrasound, cyst", "[data-open-side]")
    assert opener.inner_text() != first and phone.locator("#main").get_attribute("inert") is None
    opener.click()
    phone.mouse.click(380, 700)  # beside it
    drawer.wait_for(state="hidden", timeout=WAIT)


def test_a_file_dropped_anywhere_is_opened(page):
    Image.linear_gradient("L").save(picture := io.BytesIO(), "PNG")
    drop = """data => {
        const files = new DataTransfer();
        files.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], 'mine.png'));
        const drag = {dataTransfer: files, bubbles: true, cancelable: true};
        const send = name => document.querySelector('#main').dispatchEvent(new DragEvent(name, drag));
        send('dragover');
        const shown = document.querySelector('.drop-here').checkVisibility();
        send('drop');
        return shown && !document.querySelector('.drop-here').checkVisibility();
    }"""
    assert page.evaluate(drop, base64.b64encode(picture.getvalue()).decode())
    expect_shown(page, "Your ultrasound image", "#shown")


def test_every_picture_has_words(page):
    for tab, text in (
        ("Learn", "Cut the image"),
        ("Masking", "Clusters"),
        ("Reconstruct", "Original"),
        ("Segment & compare", "Where they differ"),
        ("Results", "Training curves"),
    ):
        page.get_by_role("tab", name=tab).click()
        expect_shown(page, text)
        found = page.evaluate(
            """() => [...document.querySelectorAll('#main svg[role=img], #main img')]
                .filter(s => s.checkVisibility()).map(s => s.getAttribute('aria-label') || s.alt || '')"""
        )
        assert found and all(len(words) > 5 for words in found), tab


def compare(page) -> None:
    """Open the tab and wait until every network has answered."""
    page.get_by_role("tab", name="Segment & compare").click()
    expect_shown(page, "Where they differ")
    page.wait_for_function("() => document.querySelectorAll('[data-cell]').length === 5", timeout=WAIT)


def test_a_small_picture_becomes_the_large_one_by_keyboard_and_keeps_the_focus(page):
    compare(page)
    large = page.locator(".compare .large")
    expect_shown(page, "Probability of lesion", ".compare .large")
    assert large.locator("h4").first.inner_text().startswith("MPS-AMS")
    cell = page.locator("[data-cell=busi-simclr-seg-10]")
    cell.focus()
    page.keyboard.press("Enter")
    expect_shown(page, "SimCLR outlines", ".compare .large")
    assert cell.get_attribute("aria-pressed") == "true" and page.locator("[data-cell][aria-pressed=true]").count() == 1
    assert page.evaluate("document.activeElement.dataset.cell") == "busi-simclr-seg-10"
    assert page.get_by_label("Mask of").input_value() == "SimCLR"
    page.locator("[data-cell=dispute]").click()
    expect_shown(page, "The outlines of all 3 networks at once", ".compare .large")


def test_the_threshold_moves_every_outline_and_the_words(page):
    compare(page)
    outlines = (
        "() => [...document.querySelectorAll('[data-cell] path.outline')].map(path => path.getAttribute('d')).join()"
    )
    before, note = (
        page.evaluate(outlines),
        page.locator("#main .stage .note").locator("visible=true").first.inner_text(),
    )
    threshold = page.get_by_role("spinbutton", name="Threshold").locator("visible=true").first
    threshold.fill("0.95")
    threshold.press("Enter")
    page.wait_for_function(f"before => ({outlines})() !== before", arg=before, timeout=WAIT)
    page.wait_for_function(
        "note => document.querySelector('#main .stage .note') && ![...document.querySelectorAll('#main .note')].some(n"
        " => n.innerText === note)",
        arg=note,
        timeout=WAIT,
    )


def test_a_network_that_takes_no_part_leaves_the_grid_and_the_figure_is_written(page, tmp_path):
    compare(page)
    page.get_by_role("button", name="Networks to compare").click()
    page.get_by_role("checkbox", name="SimCLR").uncheck()
    page.wait_for_function("() => document.querySelectorAll('[data-cell]').length === 4", timeout=WAIT)
    for form, start in (("PDF", b"%PDF"), ("PNG, 300", b"\x89PNG")):
        page.get_by_role("radio", name=form).locator("visible=true").last.check()
        with page.expect_download(timeout=2 * WAIT) as download:
            page.get_by_role("button", name="Download the figure").click()
        download.value.save_as(tmp_path / "figure")
        assert (tmp_path / "figure").read_bytes().startswith(start)


def test_results_are_shown_chosen_and_taken_away(page, tmp_path):
    page.get_by_role("tab", name="Results").click()
    expect_shown(page, "DSC, images with a lesion")
    expect_shown(page, "Training curves")
    rows = page.locator(".results tbody tr:has(td)").count()
    page.get_by_role("radio", name="Table 2: ablation").check()
    expect_shown(page, "base+MPS", ".results")
    assert page.locator(".results tbody tr:has(td)").count() != rows
    page.get_by_role("radio", name="Sen").check()
    expect_shown(page, "Sen, images with a lesion")
    page.get_by_label("across").click()
    page.get_by_role("option", name="MAE").click()
    expect_shown(page, "MPS-AMS against MAE")
    page.get_by_role("radio", name="LaTeX").check()
    with page.expect_download(timeout=WAIT) as download:
        page.get_by_role("button", name="Download the table").click()
    download.value.save_as(tmp_path / "table.tex")
    assert "\\toprule" in (tmp_path / "table.tex").read_text(
        encoding="utf-8"
    ) and download.value.suggested_filename.endswith(".tex")


def test_another_plan_is_shown_with_the_choices_that_it_has(page):
    page.get_by_role("tab", name="Results").click()
    expect_shown(page, "Training curves")
    page.get_by_role("radio", name="Table 2: ablation").check()
    page.get_by_label("across").click()
    page.get_by_role("option", name="SimCLR").click()
    expect_shown(page, "MPS-AMS against SimCLR")
    for plan, shown in (("small", "20% of the labels"), ("made-up", "5% of the labels"), ("small", "recipe “paper”")):
        page.get_by_label("Plan that was run").click()
        page.get_by_role("option", name=plan, exact=True).click()
        expect_shown(page, shown, ".results")
        expect_shown(page, "MPS-AMS against U-Net")
    assert not page.get_by_role("radio", name="Table 2: ablation").count()
    assert not page.locator(".toast-body").count() and not page.get_by_role("alert").count()


@pytest.mark.parametrize("system, other", [("light", "dark"), ("dark", "light")])
def test_a_chosen_theme_is_kept_and_never_shown_otherwise_while_the_page_loads(browser, app_address, system, other):
    with browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=system) as context:
        page = context.new_page()
        page.goto(app_address, wait_until="domcontentloaded")
        choice = page.get_by_label("Theme")
        choice.wait_for(timeout=WAIT)
        is_dark = "document.body.classList.contains('dark')"
        assert page.evaluate(is_dark) == (system == "dark") and choice.input_value() == "system"
        choice.select_option(other)
        assert page.evaluate(is_dark) == (other == "dark")
        page.add_init_script("""(() => {
            const note = () => {
                if (document.body) (window.seen ||= new Set()).add(getComputedStyle(document.body).backgroundColor);
                requestAnimationFrame(note);
            };
            note();
        })()""")
        page.reload(wait_until="domcontentloaded")
        choice.wait_for(timeout=WAIT)
        page.wait_for_function("() => !location.search.includes('__theme')", timeout=WAIT)
        assert page.evaluate(is_dark) == (other == "dark") and choice.input_value() == other
        for colour in page.evaluate("[...window.seen]"):
            light = sum(map(int, re.findall(r"\d+", colour)[:3])) > 380
            assert "0, 0, 0, 0" in colour or light == (other == "light"), colour
        choice.select_option("system")
        page.emulate_media(color_scheme=other)
        page.wait_for_function(f"() => {is_dark} === {str(other == 'dark').lower()}", timeout=WAIT)
        page.emulate_media(color_scheme=system)
        page.wait_for_function(f"() => {is_dark} === {str(system == 'dark').lower()}", timeout=WAIT)


def test_the_header_covers_no_tab(browser, app_address):
    with browser.new_context(viewport={"width": 1280, "height": 860}) as context:
        page = context.new_page()
        page.goto(f"{app_address}/?tab=annotate", wait_until="domcontentloaded")
        page.locator("[role=tab][aria-selected=true]", has_text="Annotate").wait_for(timeout=WAIT)
        tabs = [one.bounding_box() for one in page.get_by_role("tab").all() if one.is_visible()]
        for part in (page.locator("#top h1").bounding_box(), page.get_by_label("Theme").bounding_box()):
            assert all(
                part["x"] >= tab["x"] + tab["width"]
                or part["y"] >= tab["y"] + tab["height"]
                or tab["y"] >= part["y"] + part["height"]
                for tab in tabs
            )
        page.get_by_label("Theme").select_option("dark")
        page.wait_for_function("() => document.body.classList.contains('dark')", timeout=WAIT)
