"""The Learn tab in a headless Chromium: the whole walk by keyboard alone, the animation, one's own mask, the quiz,
links.
"""

from __future__ import annotations

import json
import math
import re
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image

from tests.support.browser import WAIT, browser, pytestmark  # noqa: F401
from tests.support.waiting import wait_until

NARROW = 390


@pytest.fixture(scope="module")
def open_page(browser, app_address):  # noqa: F811
    """Opens the page at a query; fails at the end when a page had an error."""
    errors = []

    def opened(query: str = ""):
        context = windows.enter_context(browser.new_context(viewport={"width": 1280, "height": 900}))
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(app_address + query, wait_until="domcontentloaded")
        page.locator(".learn h3").wait_for(state="attached", timeout=WAIT)
        return page

    with ExitStack() as windows:
        yield opened
    assert errors == []


@pytest.fixture(scope="module")
def page(open_page):
    """One page for all tests that need no other; each goes to its step first."""
    return open_page()


def at(page, step: int, **more):
    """The page at a step of the walk."""
    page.locator(f".steps li [data-go='{step}']").click()
    until(page, step=step, **more)
    return page


def state(page) -> dict:
    """The state of the page."""
    return json.loads(page.locator(".learn").get_attribute("data-state"))


def until(page, **wanted) -> None:
    """Wait until the server has answered with this state."""
    page.wait_for_function(
        "wanted => { const now = JSON.parse(document.querySelector('.learn').dataset.state); return"
        " Object.keys(wanted).every(name => now[name] === wanted[name]); }",
        arg=wanted,
        timeout=WAIT,
    )


def tab_to(page, selector: str, back: bool = False) -> None:
    """Press Tab until the focus is there."""
    for _ in range(80):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Shift+Tab" if back else "Tab")
    raise AssertionError(f"no Tab leads to {selector}")


def picked(page) -> str:
    return page.locator("svg[data-columns] path.picked").first.get_attribute("d")


def wordless(page) -> list[str]:
    """Pictures of the tab without words."""
    return page.evaluate(
        "() => [...document.querySelectorAll('.learn svg, .learn img')].filter(one => (one.getAttribute('aria-label')"
        " || one.alt || '').length < 12 || !one.getAttribute('role')).map(one => one.outerHTML.slice(0, 200))"
    )


def test_the_whole_walk_by_keyboard_alone(page):
    tab_to(page, ".steps .next")
    titles = set()
    for step in range(1, 11):
        until(page, step=step)
        titles.add(page.locator(".learn h3").inner_text())
        assert f"Step {step} of 10" in page.locator(".learn h3").inner_text() and wordless(page) == []
        assert page.locator(".steps [aria-current=step] b").inner_text() == str(step)
        assert page.evaluate("document.activeElement.matches('.steps .next')")  # the focus stays where it was
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        page.keyboard.press("Enter")
    until(page, step=11)
    assert len(titles) == 10
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    until(page, step=8)
    page.keyboard.press("ArrowRight")
    until(page, step=9)


def test_arrow_keys_in_a_picture_choose_a_patch_and_do_not_leave_the_step(page):
    at(page, 2)
    page.locator("svg[data-choose]").click(position={"x": 3, "y": 3})
    until(page, patch=0)
    tab_to(page, ".learn svg[data-choose]")
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    until(page, step=2, patch=32)
    assert "row 3, column 1" in page.locator(".learn svg[data-choose]").get_attribute("aria-label")
    assert page.evaluate("document.activeElement.matches('svg[data-choose]')")


def test_a_mask_drawn_by_keyboard_and_by_mouse_is_what_gets_filled_in(page):
    at(page, 2)
    page.locator("svg[data-choose]").click(position={"x": 3, "y": 3})
    at(page, 7, patch=0)
    tab_to(page, "[data-set=way][data-value='\"own\"']")
    page.keyboard.press("Enter")
    until(page, way="own")
    tab_to(page, "svg[data-draw]", back=True)
    for key in ("Space", "ArrowRight", "Space", "ArrowDown", "Space", "Space", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    until(page, own="c000" + "0000" + "4000" + "0" * 52)  # patches 0, 1 and 33
    page.wait_for_function("() => document.querySelector('[data-say=hidden]').textContent === '3'", timeout=WAIT)
    box = page.locator("svg[data-draw]").bounding_box()
    cell = box["width"] / 16
    page.mouse.move(box["x"] + 0.5 * cell, box["y"] + 15.5 * cell)
    page.mouse.down()
    page.mouse.move(box["x"] + 3.5 * cell, box["y"] + 15.5 * cell, steps=12)
    page.mouse.up()
    until(page, own="c000" + "0000" + "4000" + "0" * 48 + "f000")
    page.locator(".steps .next").press("Enter")
    until(page, step=8)
    assert "You hide 7 of 256 patches" in page.locator(".lesson").inner_text()


def test_a_late_answer_takes_back_nothing_that_was_drawn_since(open_page):
    page = open_page()
    at(page, 2)
    page.locator("svg[data-choose]").click(position={"x": 3, "y": 3})
    at(page, 7, patch=0)
    page.locator("[data-set=way][data-value='\"own\"']").click()
    until(page, way="own")
    held, late = [], True
    page.route("**/queue/join*", lambda route: held.append(route) if late else route.continue_())
    tab_to(page, "svg[data-draw]", back=True)
    for key in ("Space", "ArrowRight", "Space", "ArrowDown"):
        page.keyboard.press(key)
    wait_until(lambda: page.evaluate("true") and held)  # requests are dispatched while the page is asked
    held.pop(0).continue_()
    until(page, own="8" + "0" * 63)  # the answer knows the first patch only
    drawing = page.locator("svg[data-draw]")
    assert drawing.get_attribute("data-own") == "c" + "0" * 63 and drawing.get_attribute("data-patch") == "17"
    assert page.locator("[data-say=hidden]").first.inner_text() == "2"
    page.keyboard.press("Space")
    late = False
    for route in held:
        route.continue_()
    until(page, own="c000" + "4" + "0" * 59, patch=17)


def test_the_animation_plays_to_the_last_epoch_by_itself_and_stops_at_a_chosen_one(page):
    at(page, 6)
    page.get_by_role("button", name="1", exact=True).locator("visible=true").last.click()
    until(page, epoch=1)
    hidden = page.locator("[data-say=hidden]").first
    assert hidden.inner_text() == "64"
    tab_to(page, "[data-play]")
    page.keyboard.press("Enter")
    page.wait_for_function("() => Number(document.querySelector('[data-say=hidden]').textContent) > 120", timeout=WAIT)
    assert page.locator("[data-play]").inner_text() == "Pause"
    page.keyboard.press("Enter")
    page.wait_for_function("() => JSON.parse(document.querySelector('.learn').dataset.state).epoch > 1", timeout=WAIT)
    epoch = state(page)["epoch"]
    assert 1 < epoch < 800 and page.locator("[data-play]").inner_text() == "Play"
    assert hidden.inner_text() == str(int(256 * (0.25 + math.log(epoch) / 12)))
    page.locator("[data-slide=epoch]").fill("790")
    until(page, epoch=790)
    page.locator("[data-play]").click()
    until(page, epoch=800)
    assert hidden.inner_text() == "206" and page.locator("[data-play]").inner_text() == "Play"


def test_swapping_and_another_order_and_reading_change_the_page(page):
    at(page, 4)
    before = page.locator(".board path.lesion").get_attribute("d")
    page.get_by_role("button", name="Swapped").click()
    until(page, swap=True)
    assert page.locator(".board path.lesion").get_attribute("d") != before
    at(page, 5)
    numbers = page.locator(".places").inner_html()
    page.locator(".try [data-order]").click()
    page.wait_for_function(
        "before => document.querySelector('.places').innerHTML !== before", arg=numbers, timeout=WAIT
    )
    at(page, 3)
    page.get_by_role("button", name="Covariance of softmax").click()
    page.locator("[data-selector=covariance-of-softmax][aria-pressed=true]").wait_for(timeout=WAIT)
    assert "3. covariance" in page.locator(".learn").inner_text()


def test_the_quiz_is_played_to_a_score_by_keyboard(page):
    at(page, 11)
    for number in (1, 2):
        page.locator("svg[data-guess]").wait_for(timeout=WAIT)
        listed = [int(k) for k in page.locator("svg[data-guess]").get_attribute("data-guess").split(",")]
        assert "truth" not in page.locator(".learn .board").inner_html()
        tab_to(page, "svg[data-guess]", back=number == 2)
        now = int(page.locator("svg[data-guess]").get_attribute("data-patch"))
        for k in sorted(listed, key=lambda k: abs(k // 16 - now // 16) + abs(k % 16 - now % 16))[:3]:
            while now // 16 != k // 16:
                page.keyboard.press("ArrowDown" if now // 16 < k // 16 else "ArrowUp")
                now += 16 if now // 16 < k // 16 else -16
            while now != k:
                page.keyboard.press("ArrowRight" if now < k else "ArrowLeft")
                now += 1 if now < k else -1
            page.keyboard.press("Space")
        assert page.locator("[data-picked]").inner_text() == "3 of 3 picked."
        tab_to(page, "[data-reveal]")
        page.keyboard.press("Enter")
        page.locator("[data-again]").wait_for(timeout=WAIT)
        hits = int(re.match(r"(\d) of 3", page.locator(".lesson [role=status]").inner_text()).group(1))
        row = page.locator(".try tbody tr").first.inner_text()
        assert f"of {3 * number}" in row and row.startswith("You") and (number == 2 or f"{hits} of 3" in row)
        assert page.locator(".board path.truth").count() == 1 and wordless(page) == []
        assert page.evaluate("document.activeElement.matches('[data-again]')")
        page.keyboard.press("Enter")


def test_a_copied_link_brings_everything_back(page, open_page):
    page.get_by_role("button", name="Ultrasound, cyst").click()
    page.locator("#shown").get_by_text("Ultrasound, cyst").first.wait_for(timeout=WAIT)
    at(page, 5)
    linked = (
        "before => document.querySelector('.learn').dataset.link !== before &&"
        " /cyst/.test(document.querySelector('.learn').dataset.link)"
    )
    page.wait_for_function(linked, arg="", timeout=WAIT)
    before = page.locator(".learn").get_attribute("data-link")
    page.locator(".try [data-order]").click()
    page.wait_for_function(linked, arg=before, timeout=WAIT)
    at(page, 7)
    page.locator("[data-set=way][data-value='\"first\"']").click()
    until(page, step=7, way="first")
    page.locator("[data-slide=epoch]").fill("13")
    until(page, epoch=13)
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("Copied.").wait_for(timeout=WAIT)
    url = page.evaluate("navigator.clipboard.readText()")
    assert url == page.locator(".copy input").input_value() and len(url) < 300
    other = open_page(url[url.index("?") :])
    until(other, step=7, epoch=13)
    other.locator("#shown").get_by_text("Ultrasound, cyst").first.wait_for(timeout=WAIT)
    other.wait_for_function(
        "link => document.querySelector('.learn').dataset.link === link",
        arg=page.locator(".learn").get_attribute("data-link"),
        timeout=WAIT,
    )
    hidden = "svg[data-live] .live-0"
    assert other.locator(hidden).get_attribute("d") and other.locator("svg[data-live]").get_attribute(
        "data-order"
    ) == page.locator("svg[data-live]").get_attribute("data-order")
    other.get_by_role("button", name="How patches are clustered").click()
    assert re.search(r"seed=(\d+)", url).group(1) == other.get_by_label("Seed of the random order").input_value()


@pytest.mark.parametrize(
    "query, words",
    [
        ("?sample=../../etc/passwd&own=%3Cscript%3E", "allowed are ultrasound-benign-lesion"),
        ("?step=7&own=%3Cscript%3E", "64 digits"),
        ("?sample=t1-brain-nifti-volume&slice=9999&step=2", "slice '9999'"),
    ],
)
def test_a_bad_link_gives_the_first_page_and_a_sentence(open_page, query, words):
    page = open_page(query)
    page.get_by_role("alert").get_by_text("cannot be opened").wait_for(timeout=WAIT)
    assert words in page.get_by_role("alert").inner_text() and state(page)["step"] == 1
    assert "Traceback" not in page.content() and page.locator("#shown").inner_text().startswith(
        "Ultrasound, benign lesion"
    )
    page.locator(".steps .next").click()
    until(page, step=2)
    in_address(page, "step=2")


def in_address(page, *parts: str) -> None:
    """Wait until the page's address has these parts."""
    page.wait_for_function(
        "parts => parts.every(part => location.search.includes(part))", arg=list(parts), timeout=WAIT
    )


def in_front(page, name: str) -> None:
    """Wait until a tab is in front."""
    page.locator("[role=tab][aria-selected=true]", has_text=name).wait_for(timeout=WAIT)


def test_the_address_follows_tab_image_and_step_and_back_undoes_each(open_page):
    page = open_page()
    page.wait_for_function("() => history.state?.query", timeout=WAIT)
    page.locator(".steps .next").click()
    in_address(page, "tab=learn", "step=2")
    page.get_by_role("button", name="Ultrasound, cyst").click()
    in_address(page, "sample=ultrasound-cyst", "step=2")
    page.get_by_role("tab", name="Masking").click()
    in_address(page, "tab=masking", "sample=ultrasound-cyst")
    page.get_by_role("tabpanel").get_by_role("button", name="10", exact=True).locator("visible=true").click()
    in_address(page, "epoch=10")
    page.go_back()
    in_front(page, "Learn")
    until(page, step=2)
    page.go_back()
    page.locator("#shown").get_by_text("Ultrasound, benign lesion").first.wait_for(timeout=WAIT)
    page.go_back()
    until(page, step=1)
    page.go_forward()
    until(page, step=2)


def test_a_reload_brings_back_tab_slice_and_epoch(open_page):
    page = open_page("?tab=masking&sample=t1-brain-nifti-volume&plane=coronal&slice=40&epoch=10")
    for _ in range(2):
        in_front(page, "Masking")
        page.locator("#shown").get_by_text("coronal slice 40").first.wait_for(timeout=WAIT)
        page.locator("[role=tabpanel] .stage").get_by_text("44.2%").locator("visible=true").first.wait_for(timeout=WAIT)
        in_address(page, "tab=masking", "slice=40", "epoch=10")
        page.reload(wait_until="domcontentloaded")


def test_chosen_networks_are_in_the_address(open_page):
    page = open_page("?tab=segment&sample=ultrasound-cyst&networks=busi-mps_ams-seg-10,busi-simclr-seg-10")
    in_front(page, "Segment")
    page.locator("[data-cell=busi-simclr-seg-10]").wait_for(timeout=WAIT)
    assert page.locator("[data-cell=busi-scratch-seg-10]").count() == 0
    page.get_by_role("button", name="Networks to compare").click()
    page.get_by_role("checkbox", name="SimCLR").uncheck()
    page.wait_for_function(
        "() => location.search.includes('mps_ams') && !location.search.includes('simclr')", timeout=WAIT
    )


def test_an_upload_is_in_no_link(page, tmp_path):
    Image.linear_gradient("L").save(tmp_path / "mine.png")
    page.locator("#own input[type=file]").first.set_input_files(str(tmp_path / "mine.png"))
    page.locator("#learn").get_by_text("A link can restore the samples of this page only").wait_for(timeout=WAIT)
    assert page.get_by_role("button", name="Copy link").count() == 0
    page.wait_for_function("() => !location.search.includes('sample')", timeout=WAIT)


def test_a_phone_shows_every_step_without_sideways_scrolling(page):
    page.set_viewport_size({"width": NARROW, "height": 800})
    for step in range(1, 12):
        at(page, step)
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW, step


FITS = """() => ['.explanation', '.board'].every(name => {
    const part = document.querySelector('.presenting ' + name);
    return part.scrollHeight <= part.clientHeight && part.scrollWidth <= part.clientWidth;
})"""


@pytest.mark.parametrize("width, height", [(1280, 720), (1920, 1080)])
def test_a_presentation_fills_the_window_and_no_step_needs_scrolling(open_page, width, height):
    page = open_page("?step=1&present=1")
    page.set_viewport_size({"width": width, "height": height})
    for step in range(1, 12):
        until(page, step=step, present=True)
        page.wait_for_function(FITS, timeout=WAIT)
        assert page.locator(".learn").bounding_box() == {"x": 0, "y": 0, "width": width, "height": height}
        shown = page.locator(".learn .board svg").first.bounding_box()
        assert (
            shown["height"] > 0.3 * height
            and page.evaluate("parseFloat(getComputedStyle(document.querySelector('.text p')).fontSize)") >= height / 48
        )
        assert page.locator(".steps .count").inner_text() == (f"{step} / 10" if step < 11 else "Quiz")
        page.keyboard.press("PageDown")


def test_a_presentation_is_begun_moved_and_left_by_keys_and_is_in_the_address(open_page):
    page = open_page()
    page.keyboard.press("p")
    until(page, present=True, step=1)
    in_address(page, "present=1")
    for key, step in {"PageDown": 2, "ArrowRight": 3, "Space": 4, "PageUp": 3, "ArrowLeft": 2}.items():
        page.keyboard.press(key)
        until(page, step=step, present=True)
    assert page.evaluate("document.querySelector('#side').inert && document.querySelector('#top').inert")
    # the focus is in the picture, as a clicker may find it
    page.locator(".board svg[data-choose]").click(position={"x": 3, "y": 3})
    until(page, patch=0)
    page.keyboard.press("PageDown")
    until(page, step=3)
    in_address(page, "present=1", "step=3")
    page.reload(wait_until="domcontentloaded")
    page.locator(".learn.presenting").wait_for(timeout=WAIT)
    until(page, present=True, step=3)
    page.keyboard.press("Escape")
    until(page, present=False)
    assert page.locator(".learn.presenting").count() == 0 and not page.evaluate("document.querySelector('#side').inert")
    page.wait_for_function("() => !location.search.includes('present')", timeout=WAIT)
    page.keyboard.press("PageDown")  # scrolls again
    page.keyboard.press("ArrowRight")
    until(page, step=4)


def test_the_button_presents_full_screen_and_another_tab_shows_the_page_again(open_page):
    page = open_page("?tab=masking")
    in_front(page, "Masking")
    page.get_by_role("tab", name="Learn").click()
    page.get_by_role("button", name="Present").click()
    until(page, present=True)
    page.wait_for_function("() => document.fullscreenElement !== null", timeout=WAIT)
    page.evaluate("document.exitFullscreen()")
    until(page, present=False)
    page.get_by_role("button", name="Present").click()
    until(page, present=True)
    in_address(page, "tab=learn", "present=1")
    page.evaluate("document.querySelector('[data-tab-id=masking]').click()")
    in_front(page, "Masking")
    page.wait_for_function("() => !document.querySelector('#side').inert", timeout=WAIT)
    assert page.get_by_role("tab", name="Masking").is_visible()


def test_the_handout_is_downloaded_as_a_page_with_a_link_to_this_step(open_page):
    page = open_page("?step=4")
    until(page, step=4)
    with page.expect_download(timeout=WAIT) as waiting:
        page.get_by_role("button", name="Handout").click()
    made = Path(waiting.value.path()).read_bytes()
    address = page.url.partition("?")[0].encode()
    assert (
        waiting.value.suggested_filename == "ten-steps.pdf"
        and made.startswith(b"%PDF")
        and b"/URI (" + address + b"?sample=ultrasound-benign-lesion&step=4" in made
    )
