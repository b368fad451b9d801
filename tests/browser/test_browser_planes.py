"""The three planes of a volume and the surface of its lesion in a headless Chromium, by mouse and by keyboard."""

from __future__ import annotations

import re

import pytest

from tests.support.browser import WAIT, browser, expect_shown, page, pytestmark  # noqa: F401

READY = "() => document.querySelector('.planes').dataset.ready === 'true'"
DRAWN = """() => {
    const canvas = document.querySelector('.surface canvas');
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    let count = 0;
    for (let k = 0; k < pixels.length; k += 4) count += pixels[k + 2] > 110 && pixels[k + 2] > pixels[k] + 60;
    return count;
}"""  # pixels as blue as the true lesion


@pytest.fixture
def planes(page):  # noqa: F811
    """The page with the built-in CT in Segment, its three planes drawn."""
    page.get_by_role("tab", name="Segment & compare").click()
    page.get_by_role("button", name="CT of the neck").first.click()
    expect_shown(page, "CT of the neck", "#shown")
    page.wait_for_function(
        "() => [...document.querySelectorAll('[data-planes]')].some(one => one.dataset.planes.includes('CT of the"
        " neck'))",
        timeout=WAIT,
    )
    page.locator(".planes").scroll_into_view_if_needed(timeout=WAIT)
    page.wait_for_function(READY, timeout=WAIT)
    return page


def cross(page) -> list[int]:
    """The voxel under the cross-hair: column, row, slice."""
    return [int(value) for value in page.locator(".planes").get_attribute("data-at").split(",")]


def wait_for_cross(page, axis: int, index: int) -> None:
    page.wait_for_function(
        "([axis, index]) => Number(document.querySelector('.planes').dataset.at.split(',')[axis]) === index",
        arg=[axis, index],
        timeout=WAIT,
    )


def canvas(page, plane: str):
    found = page.locator(f"[data-plane={plane}] canvas")
    found.scroll_into_view_if_needed()
    return found


def test_a_click_in_one_plane_moves_the_others_to_its_slices(planes):
    at = cross(planes)
    numbers = {
        plane: planes.locator(f"[data-plane={plane}] [data-part=slice]").inner_text()
        for plane in ("axial", "coronal", "sagittal")
    }
    assert numbers == {
        "axial": f"slice {at[2] + 1} of 48",
        "coronal": f"slice {at[1] + 1} of 192",
        "sagittal": f"slice {at[0] + 1} of 192",
    }
    planes.get_by_role("button", name="Whole volume", exact=True).click()
    box = canvas(planes, "axial").bounding_box()
    planes.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.75)
    expected = round(0.25 * 192), round(0.75 * 192)  # 307 mm square, which fills the picture
    planes.wait_for_function(
        "before => document.querySelector('.planes').dataset.at !== before", arg=",".join(map(str, at)), timeout=WAIT
    )
    column, row, number = cross(planes)
    assert abs(column - expected[0]) <= 1 and abs(row - expected[1]) <= 1 and number == at[2]
    expect_shown(planes, f"slice {row + 1} of 192", "[data-plane=coronal]")
    expect_shown(planes, f"slice {column + 1} of 192", "[data-plane=sagittal]")
    left, back, up = (
        float(value)
        for value in re.search(
            r"R ([\d.]+) P ([\d.]+) [SI] ([\d.]+) mm", planes.locator("[data-part=position]").inner_text()
        ).groups()
    )
    assert left == pytest.approx(153.6 - 1.6 * column, abs=0.1) and back == pytest.approx(1.6 * row - 153.6, abs=0.1)
    box = canvas(planes, "coronal").bounding_box()
    planes.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    planes.mouse.down()
    planes.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.6, steps=3)
    planes.mouse.up()
    below = 24 - round(0.1 * 307.2 / 4)
    planes.wait_for_function(
        "wanted => Math.abs(document.querySelector('.planes').dataset.at.split(',')[2] - wanted) <= 1",
        arg=below,
        timeout=WAIT,
    )
    assert cross(planes)[1] == row and abs(cross(planes)[0] - 96) <= 1


def test_keys_and_sliders_move_the_cross_hair(planes):
    column, row, number = cross(planes)
    picture = canvas(planes, "coronal")
    picture.focus()
    planes.keyboard.press("ArrowRight")
    wait_for_cross(planes, 0, column + 1)
    planes.keyboard.press("ArrowUp")
    wait_for_cross(planes, 2, number + 1)  # to the head
    planes.keyboard.press("PageDown")
    wait_for_cross(planes, 1, row - 1)
    assert picture.get_attribute("aria-label") == f"Coronal plane, slice {row} of 192"
    planes.get_by_role("slider", name="Sagittal slice").fill("31")
    wait_for_cross(planes, 0, 30)
    planes.get_by_role("button", name="Go to the lesion").click()
    wait_for_cross(planes, 0, column)


def test_the_slice_of_the_page_moves_the_axial_plane_and_the_window_its_greys(planes):
    slider = planes.locator("#side").get_by_role("spinbutton", name="Slice").first
    slider.fill("12")
    slider.press("Enter")
    wait_for_cross(planes, 2, 11)
    expect_shown(planes, "HU", "[data-part=position]")
    grey = (
        "() => { const c = document.querySelector('[data-plane=coronal] canvas'); return"
        " [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((value, k) => k % 4 ==="
        " 0).reduce((a, b) => a + b); }"
    )
    planes.wait_for_function(READY, timeout=WAIT)
    before = planes.evaluate(grey)
    width = planes.locator("#side").get_by_role("spinbutton", name="Width").first
    width.fill("3000")
    width.press("Enter")
    planes.locator(".planes").scroll_into_view_if_needed()
    planes.wait_for_function(f"before => ({grey})() !== before && ({READY})()", arg=before, timeout=WAIT)


def test_the_surface_of_the_lesion_is_drawn_turned_and_taken_away(planes):
    expect_shown(planes, "26.0 ml", ".layers")
    surface = planes.locator(".surface canvas")
    surface.scroll_into_view_if_needed()
    planes.wait_for_function(f"() => ({DRAWN})() > 100", timeout=WAIT)
    assert "body, true lesion (26.0 ml)" in surface.get_attribute("aria-label")
    first = surface.get_attribute("aria-label")
    surface.focus()
    planes.keyboard.press("ArrowLeft")
    planes.wait_for_function(
        "first => document.querySelector('.surface canvas').getAttribute('aria-label') !== first",
        arg=first,
        timeout=WAIT,
    )
    planes.get_by_role("button", name="Front", exact=True).click()
    planes.wait_for_function(
        "() => document.querySelector('.surface canvas').getAttribute('aria-label').includes('turned by 0°, tilted by"
        " 0°')",
        timeout=WAIT,
    )
    planes.get_by_role("checkbox", name="True lesion").uncheck()
    planes.wait_for_function(f"() => ({DRAWN})() === 0", timeout=WAIT)
    # nothing from outside
    assert not [url for url in planes.requests if "//127.0.0.1" not in url and not url.startswith(("data:", "blob:"))]


def test_the_network_is_outlined_after_the_whole_volume_was_segmented(planes):
    planes.get_by_role("button", name="Segment the whole volume").click()
    expect_shown(planes, "Lesion area by slice")
    planes.locator(".planes").scroll_into_view_if_needed()
    planes.locator("[data-layer=network]").wait_for(timeout=WAIT)
    planes.get_by_role("button", name="From scratch").first.click()
    canvas(planes, "axial")
    planes.get_by_role("checkbox", name="From scratch").wait_for(timeout=WAIT)


def test_an_image_has_no_planes(planes):
    planes.locator("#samples [data-sample='0']").click()
    planes.wait_for_function("() => document.querySelector('.planes').hidden", timeout=WAIT)
