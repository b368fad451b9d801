"""The pictures of a tab in a headless Chromium: zoomed, read and cropped together, by mouse and by keyboard."""

from __future__ import annotations

from tests.support.browser import WAIT, browser, epoch, expect_shown, page, pytestmark  # noqa: F401

BOXES = (
    "[...document.querySelectorAll('svg[data-view]')].filter(one => one.checkVisibility()).map(one =>"
    " one.getAttribute('viewBox'))"
)
READ = "[...document.querySelectorAll('.viewer-bar [data-part=read]')].map(one => one.textContent).join('')"


def open_ct(page) -> None:
    page.get_by_role("button", name="CT of the neck").first.click()
    expect_shown(page, "CT of the neck", "#shown")
    page.wait_for_function(
        "() => [...document.querySelectorAll('[data-slice]')].some(one => one.dataset.slice.includes('CT of the"
        " neck'))",
        timeout=WAIT,
    )


def middle(page) -> tuple[float, float]:
    """The middle of the tab's first picture."""
    picture = page.locator("svg[data-view]").locator("visible=true").first
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_the_wheel_zooms_all_pictures_and_a_drag_moves_them_without_picking_a_patch(page):
    x, y = middle(page)
    picked = page.locator("svg[data-picked]").first.get_attribute("data-picked")
    page.mouse.move(x, y)
    page.mouse.wheel(0, -240)
    page.wait_for_function(
        f"() => {BOXES}.length === 3 && new Set({BOXES}).size === 1 && {BOXES}[0] !== '0 0 256 256'", timeout=WAIT
    )
    before = page.evaluate(f"() => {BOXES}[0]")
    page.mouse.down()
    page.mouse.move(x + 40, y + 30, steps=4)
    page.mouse.up()
    page.wait_for_function(f"before => new Set({BOXES}).size === 1 && {BOXES}[0] !== before", arg=before, timeout=WAIT)
    moved = [float(value) for value in page.evaluate(f"() => {BOXES}[0]").split()]
    assert (
        moved[0] < float(before.split()[0])
        and moved[1] < float(before.split()[1])
        and moved[2] == float(before.split()[2])
    )
    assert page.locator("svg[data-picked]").first.get_attribute("data-picked") == picked
    page.mouse.dblclick(x, y)
    page.wait_for_function(f"() => {BOXES}.every(box => box === '0 0 256 256')", timeout=WAIT)


def test_the_cursor_reads_hounsfield_units_and_millimetres_and_is_linked(page):
    open_ct(page)
    x, y = middle(page)
    page.mouse.move(x, y)
    page.mouse.move(x + 2, y + 2)
    page.wait_for_function(
        rf"() => /x \d+, y \d+ · -?\d+ HU · [LR] [\d.]+ [AP] [\d.]+ [SI] [\d.]+ mm/.test({READ})", timeout=WAIT
    )
    assert page.locator("svg[data-view] > .cursor").count() == 2  # in the two pictures beside the one under the cursor
    expect_shown(page, "5 cm", ".scale-bar")


def test_a_picture_is_zoomed_by_keyboard_and_the_view_outlives_another_epoch(page):
    picture = page.locator("svg[data-view]").locator("visible=true").first
    picture.focus()
    page.keyboard.press("+")
    page.wait_for_function(f"() => {BOXES}.length === 3 && {BOXES}.every(box => box !== '0 0 256 256')", timeout=WAIT)
    zoomed = page.evaluate(f"() => {BOXES}[0]")
    page.get_by_role("button", name="800", exact=True).click()
    expect_shown(page, "80.7%")
    assert page.evaluate(f"() => {BOXES}") == [zoomed] * 3
    picture.focus()
    page.keyboard.press("0")
    page.wait_for_function(f"() => {BOXES}.every(box => box === '0 0 256 256')", timeout=WAIT)


def test_a_ct_opens_on_the_body_and_is_cropped_to_the_lesion_and_its_window_dragged(page):
    page.get_by_role("tab", name="Segment & compare").click()
    open_ct(page)
    page.wait_for_function(
        "() => [...document.querySelectorAll('[data-crop=body]')].some(one => one.checkVisibility() &&"
        " one.getAttribute('aria-pressed') === 'true')",
        timeout=WAIT,
    )
    body = page.evaluate(f"() => {BOXES}[0]")
    page.get_by_role("button", name="Lesion", exact=True).locator("visible=true").click()
    page.wait_for_function(f"body => new Set({BOXES}).size === 1 && {BOXES}[0] !== body", arg=body, timeout=WAIT)
    x, y = middle(page)
    level = page.get_by_role("spinbutton", name="Level")
    before, grey = level.input_value(), page.locator("#case-image").get_attribute("href")
    page.mouse.move(x, y)
    page.wait_for_function(f"() => {READ}.includes('HU')", timeout=WAIT)
    page.mouse.down(button="right")
    page.mouse.move(x + 60, y - 50, steps=4)
    page.wait_for_function(
        "grey => document.querySelector('#case-image').getAttribute('href') !== grey", arg=grey, timeout=WAIT
    )
    page.mouse.up(button="right")
    page.wait_for_function(
        "before => [...document.querySelectorAll('#window input[type=number]')].some(one => Number(one.value) <"
        " Number(before))",
        arg=before,
        timeout=WAIT,
    )


def test_the_line_moves_in_both_reconstructions(page):
    page.get_by_role("tab", name="Reconstruct").click()
    expect_shown(page, "fills in")
    page.locator("input[data-wipe]").locator("visible=true").first.fill("25")
    shares = (
        "[...document.querySelectorAll('[data-cut=left]')].filter(one => one.closest('svg').checkVisibility()).map(one"
        " => Number(one.getAttribute('width')))"
    )
    page.wait_for_function(f"() => {shares}.length === 2 && {shares}.every(width => width === 64)", timeout=WAIT)


def test_masking_and_reconstruct_share_the_epoch(page):
    page.get_by_role("button", name="800", exact=True).click()
    expect_shown(page, "80.7%")
    page.get_by_role("tab", name="Reconstruct").click()
    expect_shown(page, "patches hidden (81%)")
    assert epoch(page).input_value() == "800"
    epoch(page).fill("10")
    epoch(page).press("Enter")
    expect_shown(page, "patches hidden (44%)")
    page.get_by_role("tab", name="Masking").click()
    expect_shown(page, "44.2%")
    assert epoch(page).input_value() == "10"
