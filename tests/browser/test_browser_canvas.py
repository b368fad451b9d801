"""The drawing canvas in a headless Chromium, with a server of the test's own that keeps what it was told.

Axes: H x W pixels. Numbers are checked against slow rules written here, pixel by pixel, in numpy.
"""

from __future__ import annotations

import numpy as np
import pytest

from mpsams.annotation import protocol
from tests.support.browser import browser, frames, pytestmark  # noqa: F401
from tests.support.canvas import (  # noqa: F401
    RAMP,
    SHAPE,
    WAIT,
    Server,
    Stand,
    brushed,
    desktop,
    drag,
    held,
    image_points,
    loaded,
    marked,
    mask_of,
    opened,
    page_point,
    place,
    saved,
    served,
    size_of_brush,
    stand,
)
from tests.support.waiting import wait_until


def enclosed(corners_xy: list[tuple[float, float]], shape_hw: tuple[int, int]) -> np.ndarray:
    """Pixels whose centres lie in a polygon, slowly: a ray to the right crosses its edges an odd number of times."""
    mask_hw = np.zeros(shape_hw, bool)
    for row in range(shape_hw[0]):
        for column in range(shape_hw[1]):
            x, y, crossed = column + 0.5, row + 0.5, 0
            for (ax, ay), (bx, by) in zip(corners_xy, corners_xy[1:] + corners_xy[:1], strict=True):
                if (ay > y) != (by > y) and x < ax + (y - ay) / (by - ay) * (bx - ax):
                    crossed += 1
            mask_hw[row, column] = crossed % 2
    return mask_hw


@pytest.mark.parametrize("aspect", [1.0, 2.3, 0.4])
def test_a_click_marks_the_pixels_whose_centres_lie_in_the_ring_at_every_zoom(opened, aspect):
    page = opened(Server([RAMP], aspect=aspect))
    for zooms, size, (x, y) in (
        (0, 12, (30.2, 20.7)),
        (3, 5, (33.9, 22.1)),
        (-9, 8, (20.6, 25.3)),
        (2, 1, (31.4, 23.8)),
        (0, 10, (0.3, 0.4)),
    ):
        page.mouse.move(*page_point(page, 32, 24, aspect))
        for _ in range(abs(zooms)):
            page.keyboard.press("+" if zooms > 0 else "-")
        size_of_brush(page, size)
        frames(page)
        point = page_point(page, x, y, aspect)
        page.mouse.click(*point)
        expected = brushed(image_points(page, [point], aspect), size, SHAPE, aspect)
        assert (mask_of(page, SHAPE) == expected).all() and expected.any(), (zooms, size)
        page.keyboard.press("Control+z")
        page.keyboard.press("0")
    assert not page.wrong


@pytest.mark.parametrize("aspect, size", [(1.0, 6), (1.0, 1), (1.7, 4)])
def test_strokes_draw_and_erase_to_the_pixel_and_undo_gives_back_every_mask(opened, aspect, size):
    page = opened(Server([RAMP], aspect=aspect))
    page.mouse.move(*page_point(page, 32, 24, aspect))
    size_of_brush(page, size)
    expected, masks = np.zeros(SHAPE, bool), [np.zeros(SHAPE, bool)]
    for key, path in (
        ("r", [(5, 5), (40, 30), (60, 8)]),
        ("r", [(10, 40), (50, 12)]),
        ("e", [(20, 4), (22, 44)]),
        ("r", [(3, 3), (3.5, 46)]),
    ):
        page.keyboard.press(key)
        points = [page_point(page, *point, aspect) for point in path]
        drag(page, points)
        stroke = brushed(image_points(page, points, aspect), size, SHAPE, aspect)
        expected = expected & ~stroke if key == "e" else expected | stroke
        masks.append(expected)
        assert (mask_of(page, SHAPE) == expected).all()
    page.get_by_text(f"{expected.sum()} px drawn", exact=True).wait_for(timeout=WAIT)  # told with the next frame
    for earlier in masks[-2::-1]:
        page.keyboard.press("Control+z")
        assert (mask_of(page, SHAPE) == earlier).all()
    page.keyboard.press("Control+z")  # nothing is left to take back
    for later in masks[1:]:
        page.keyboard.press("Control+Shift+z" if later is masks[1] else "Control+y")
        assert (mask_of(page, SHAPE) == later).all()
    saved(page, "kept in this tab")
    assert not page.wrong


def test_a_polygon_holds_the_pixels_whose_centres_are_inside(opened):
    page = opened(Server([RAMP]))
    corners = [(8.3, 6.2), (55.1, 10.4), (40.7, 25.2), (58.2, 44.1), (12.9, 40.3), (25.1, 22.6)]
    page.mouse.move(*page_point(page, *corners[0]))
    page.keyboard.press("g")
    frames(page)
    points = [page_point(page, *corner) for corner in corners]
    for point in [*points, (points[0][0] + 60, points[0][1] + 60)]:
        page.mouse.click(*point)
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    expected = enclosed(image_points(page, points), SHAPE)
    assert (mask_of(page, SHAPE) == expected).all() and expected.sum() > 500
    for point in points[1:4]:
        page.mouse.click(*point)
        frames(page)
    page.mouse.move(*points[1])
    page.keyboard.down("Shift")
    page.mouse.click(*points[1])  # on the first corner: closes, and with Shift removes
    page.keyboard.up("Shift")
    expected &= ~enclosed(image_points(page, points[1:4]), SHAPE)
    assert (mask_of(page, SHAPE) == expected).all()
    page.mouse.click(*points[0])
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    assert (mask_of(page, SHAPE) == expected).all() and not page.wrong


def test_fill_takes_holes_and_islands_but_no_open_ground(opened):
    proposal = np.zeros(SHAPE, bool)
    proposal[5:30, 5:30], proposal[10:20, 10:20], proposal[12:15, 12:15] = True, False, True
    proposal[35:45, 40:60] = True
    page = opened(Server([RAMP], proposal=proposal))
    page.keyboard.press("f")
    page.mouse.move(*page_point(page, 50.5, 5.5))
    page.keyboard.press("f")
    page.mouse.click(*page_point(page, 50.5, 5.5))
    page.get_by_text("reaches the edge").wait_for(timeout=WAIT)
    assert (mask_of(page, SHAPE) == proposal).all()
    page.mouse.click(*page_point(page, 10.5, 10.5))
    filled = proposal.copy()
    filled[10:20, 10:20] = True
    assert (mask_of(page, SHAPE) == filled).all()
    page.keyboard.press("Control+z")
    page.mouse.click(*page_point(page, 6.5, 6.5))  # on the ring: its holes
    assert (mask_of(page, SHAPE) == filled).all()
    page.keyboard.down("Shift")
    page.mouse.click(*page_point(page, 50.5, 40.5))
    page.keyboard.up("Shift")
    filled[35:45, 40:60] = False
    assert (mask_of(page, SHAPE) == filled).all()
    # told with the next frame
    page.get_by_text("+91 \u2212200 against the proposal", exact=True).wait_for(timeout=WAIT)


def test_what_is_acknowledged_is_what_the_canvas_holds(opened):
    server = Server([RAMP], status="in work", proposal=brushed([(20, 20)], 10, SHAPE))
    page = opened(server)
    page.mouse.move(*page_point(page, 30, 10))
    page.mouse.down()
    page.wait_for_timeout(300)  # time must pass: more than the pause after which a finished stroke is saved
    page.mouse.move(*page_point(page, 50, 40))
    page.mouse.up()
    saved(page, "saving")
    saved(page, "saved on disk ")
    assert (
        {command["action"] for command in server.commands} == {"save"}
        and len(server.commands) <= 2
        and server.commands[-1]["changed"]
        and len(server.commands[-1]["mask"].split()) > 20
    )
    assert (server.masks[0] == mask_of(page, SHAPE)).all() and server.masks[0].sum() > 200
    page.keyboard.press("Control+z")
    assert page.locator("[data-part=saved]").inner_text() == "saving\u2026"
    saved(page, "saved on disk ")
    assert (server.masks[0] == brushed([(20, 20)], 10, SHAPE)).all()
    page.keyboard.press("Enter")
    wait_until(lambda: server.commands[-1]["action"] == "accept")
    assert not server.commands[-1]["changed"] and 0.3 <= sum(command["seconds"] for command in server.commands) < 60
    page.get_by_role("button", name="Take it back").wait_for(timeout=WAIT)
    before = mask_of(page, SHAPE)
    drag(page, [page_point(page, 5, 5), page_point(page, 9, 40)])
    assert (mask_of(page, SHAPE) == before).all() and page.get_by_text("Reopen it to change it").is_visible()


def test_without_an_answer_it_says_so_and_tries_again_with_the_newest_mask(opened):
    server = Server([RAMP], deaf=2)
    page = opened(server)
    page.evaluate("document.querySelector('.annotate').dataset.answerTimeout = 400")
    drag(page, [page_point(page, 10, 10), page_point(page, 20, 12)])
    saved(page, "not saved yet, trying again")
    drag(page, [page_point(page, 40, 10), page_point(page, 50, 42)])
    assert page.locator("[data-part=saved]").inner_text() == "not saved yet, trying again"
    saved(page, "kept in this tab")
    assert [command["action"] for command in server.commands] == ["save"] * 3 and np.diff(
        [command["request_id"] for command in server.commands]
    ).tolist() == [1, 1]
    assert len({command["id"] for command in server.commands}) == 1, "by it the server counts its seconds once"
    assert (server.masks[0] == mask_of(page, SHAPE)).all() and server.commands[0]["mask"] != server.commands[2]["mask"]


def test_the_page_warns_only_while_something_is_not_saved(opened):
    page = opened(Server([RAMP]))
    leaving = (
        "() => { const event = new Event('beforeunload', {cancelable: true}); window.dispatchEvent(event); return"
        " event.defaultPrevented; }"
    )
    assert not page.evaluate(leaving)
    drag(page, [page_point(page, 10, 10), page_point(page, 20, 12)])
    assert page.evaluate(leaving)
    saved(page, "kept")
    assert not page.evaluate(leaving)


def test_an_answer_to_scribbles_leaves_alone_what_the_hand_did(opened):
    segmented = np.zeros(SHAPE, bool)
    segmented[10:40, 10:50] = True
    server = Server([RAMP], segmented=segmented)
    page = opened(server)
    lines = {"r": [(4, 30), (4, 44)], "e": [(30, 12), (30, 36)], "s": [(15, 15), (45, 18)], "d": [(56, 5), (58, 40)]}
    made = {}
    page.mouse.move(*page_point(page, 32, 24))
    size_of_brush(page, 4)
    for key, line in lines.items():
        page.keyboard.press(key)
        points = [page_point(page, *point) for point in line]
        drag(page, points)
        made[key] = brushed(image_points(page, points), 4, SHAPE)
    wait_until(lambda: [command["action"] for command in server.commands].count("scribble") == 2)
    expected = (segmented & ~made["e"]) | made["r"]
    wait_until(lambda: (mask_of(page, SHAPE) == expected).all())
    last = [command for command in server.commands if command["action"] == "scribble"][-1]
    assert (protocol.unpack(last["lesion"], SHAPE) == made["s"]).all() and (
        protocol.unpack(last["background"], SHAPE) == made["d"]
    ).all()
    saved(page, "kept")
    assert (server.masks[0] == expected).all()
    page.get_by_role("button", name="Clear the scribbles").click()
    assert not mask_of(page, SHAPE, "lesion").any() and (mask_of(page, SHAPE) == expected).all() and not page.wrong


def test_one_press_takes_back_a_scribble_with_what_it_made_of_the_mask(opened):
    segmented = np.zeros(SHAPE, bool)
    segmented[10:40, 10:50] = True
    server = Server([RAMP], segmented=segmented)
    page = opened(server)
    page.keyboard.press("s")
    drag(page, [page_point(page, 15, 15), page_point(page, 45, 18)])
    wait_until(lambda: (mask_of(page, SHAPE) == segmented).all())
    strokes = mask_of(page, SHAPE, "lesion")
    page.keyboard.press("Control+z")
    assert not mask_of(page, SHAPE).any() and not mask_of(page, SHAPE, "lesion").any()
    page.keyboard.press("Control+y")
    assert (mask_of(page, SHAPE) == segmented).all() and (mask_of(page, SHAPE, "lesion") == strokes).all()
    page.keyboard.press("Control+z")
    saved(page, "kept")
    assert not server.masks[0].any() and held(page)["steps"] == 0
    server.deaf = 1  # its reply comes late: after the scribble was taken back it changes nothing
    page.evaluate("document.querySelector('.annotate').dataset.answerTimeout = 600")
    drag(page, [page_point(page, 15, 15), page_point(page, 45, 18)])
    wait_until(lambda: server.commands[-1]["action"] == "scribble" and not server.deaf)
    page.keyboard.press("Control+z")
    # asked once more, then what the page has is saved
    wait_until(lambda: [command["action"] for command in server.commands][-2:] == ["scribble", "save"])
    saved(page, "kept")
    assert not mask_of(page, SHAPE).any() and held(page)["steps"] == 0 and not page.wrong


def test_slices_come_and_go_with_their_masks_and_their_undo(opened):
    server = Server([RAMP, RAMP[::-1].copy(), RAMP.T.reshape(SHAPE)])
    page = opened(server)
    drag(page, [page_point(page, 10, 10), page_point(page, 30, 12)])
    drawn, name = mask_of(page, SHAPE), server.name
    page.mouse.wheel(0, 120)  # at once: the command carries the mask
    wait_until(lambda: held(page)["key"] == f"{name}.1")
    assert [(command["action"], command["key"], command["changed"]) for command in server.commands] == [
        ("go", f"{name}.0", True)
    ] and (server.masks[0] == drawn).all()
    assert not mask_of(page, SHAPE).any() and page.locator("[data-part=slice]").inner_text() == "2 / 3"
    page.keyboard.press("PageDown")
    wait_until(lambda: held(page)["key"] == f"{name}.2")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    wait_until(lambda: held(page)["key"] == f"{name}.0")
    assert (mask_of(page, SHAPE) == drawn).all()
    page.keyboard.press("Control+z")
    assert not mask_of(page, SHAPE).any()
    page.keyboard.press("Control+y")
    assert (mask_of(page, SHAPE) == drawn).all() and not page.wrong


def test_the_same_sheet_once_more_keeps_what_is_not_yet_saved(opened):
    server = Server([RAMP])
    page = opened(server)
    drag(page, [page_point(page, 10, 10), page_point(page, 30, 12)])
    drawn = mask_of(page, SHAPE)
    server.slices[0] = RAMP + 100
    page.evaluate("document.querySelector('#again').click()")  # as when the sidebar changes the window at once
    page.wait_for_function(
        "() => document.querySelector('[data-part=window]').textContent.startsWith('level 636')", timeout=WAIT
    )
    saved(page, "kept")
    assert (mask_of(page, SHAPE) == drawn).all() and (server.masks[0] == drawn).all() and held(page)["steps"] == 1
    server.masks[0] = ~drawn  # somebody else's, imported meanwhile: it comes as a step
    page.evaluate("document.querySelector('#again').click()")
    wait_until(lambda: (mask_of(page, SHAPE) == ~drawn).all())
    page.keyboard.press("Control+z")
    assert (mask_of(page, SHAPE) == drawn).all()
    page.get_by_text(f"{drawn.sum()} px drawn", exact=True).wait_for(timeout=WAIT)  # told with the next frame
    assert not page.wrong


def test_the_same_sheet_in_the_middle_of_a_stroke_takes_nothing_of_it(opened):
    server = Server([RAMP])
    page = opened(server)
    points = [page_point(page, *point) for point in ((10, 10), (30, 12), (40, 30))]
    decode = (
        "() => { const was = Image.prototype.decode; Image.prototype.decode = function () { Image.prototype.decode ="
        " was; return new Promise(end => { window.go_on = end; }).then(() => was.call(this))"
        ".then(() => { window.decoded = true; }); }; }"
    )
    server.slices[0] = RAMP + 100
    page.evaluate(decode)
    page.evaluate("document.querySelector('#again').click()")
    page.wait_for_function("() => Boolean(window.go_on)", timeout=WAIT)
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1])
    page.evaluate("window.go_on()")
    page.wait_for_function("() => window.decoded", timeout=WAIT)
    frames(page)
    page.mouse.move(*points[2])
    page.mouse.up()
    expected = brushed(image_points(page, points), 12, SHAPE)
    assert (mask_of(page, SHAPE) == expected).all()
    saved(page, "kept")
    assert (server.masks[0] == expected).all() and held(page)["steps"] == 1 and not page.wrong


def test_values_are_exact_and_the_window_is_sent_to_the_server(opened):
    server = Server([RAMP])
    page = opened(server)
    for x, y in ((3, 4), (63, 47), (40, 20)):
        page.mouse.move(*page_point(page, x + 0.5, y + 0.5))
        assert page.locator("[data-part=under]").inner_text() == f"x {x}, y {y}: {RAMP[y, x]:.0f} HU"
    assert page.locator("[data-part=window]").inner_text() == "level 536, width 3071 HU"
    start = page_point(page, 20, 20)
    drag(page, [start, (start[0] + 50, start[1]), (start[0] + 100, start[1] + 50)], button="right")
    width, level = 3071 * np.exp(100 / 250), 535.5 + 50 / 250 * 3071
    window = pytest.approx((level - width / 2, level + width / 2))
    wait_until(lambda: server.commands and (server.commands[-1]["low"], server.commands[-1]["high"]) == window)
    assert {command["action"] for command in server.commands} == {"window"}  # one, or more where the drag was slow
    count = len(server.commands)
    page.evaluate(
        """([x, y]) => {  // at once: a busy machine may be too slow for two clicks of Playwright's within 400 ms
        const stage = document.querySelector('[data-part=stage]');
        const pointer = {bubbles: true, clientX: x, clientY: y, button: 2, pointerId: 1};
        stage.setPointerCapture = () => {};
        for (const kind of ['pointerdown', 'pointerup', 'pointerdown', 'pointerup'])
            stage.dispatchEvent(new PointerEvent(kind, pointer));
        delete stage.setPointerCapture;
    }""",
        start,
    )
    wait_until(lambda: len(server.commands) == count + 1)
    last = server.commands[-1]
    assert (last["low"], last["high"]) == (-1000, 2071) and not last["changed"]


def test_keys_leave_fields_alone_and_the_sheet_of_shortcuts_opens_and_closes(opened):
    page = opened(Server([RAMP] * 3))
    page.locator("[data-part=count]").click()
    page.keyboard.press("e")
    assert page.locator("[data-tool=brush]").get_attribute("aria-pressed") == "true"
    page.locator("[data-part=stage]").focus()
    page.keyboard.press("x")
    assert page.locator("[data-tool=eraser]").get_attribute("aria-pressed") == "true"
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible() and page.evaluate(
        "document.querySelector('dialog').contains(document.activeElement)"
    )
    page.keyboard.press("r")
    page.keyboard.press("Escape")
    assert (
        not page.get_by_role("dialog").is_visible()
        and page.locator("[data-tool=eraser]").get_attribute("aria-pressed") == "true"
    )
    named = page.evaluate(
        "() => [...document.querySelectorAll('.annotate button')].every(b => (b.getAttribute('aria-label') ||"
        " b.textContent).length > 2)"
    )
    assert named and page.evaluate("document.activeElement.dataset.part") == "stage"


def test_on_a_phone_a_finger_draws_two_fingers_zoom_and_nothing_hangs_over(stand, browser):
    stand.server = Server([RAMP] * 3, prompts=True, status="new", proposal=np.zeros(SHAPE, bool))
    with loaded(browser, stand, 390, 844, has_touch=True, is_mobile=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        low = page.evaluate(
            "() => [...document.querySelectorAll('.annotate button')].filter(b => b.checkVisibility()).map(b =>"
            " Math.min(b.offsetHeight, b.offsetWidth))"
        )
        assert len(low) > 15 and min(low) >= 40
        touch = page.context.new_cdp_session(page)

        def fingers(kind: str, *points: tuple[int, int]) -> None:
            touch.send(
                "Input.dispatchTouchEvent",
                {"type": kind, "touchPoints": [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]},
            )

        points = [page_point(page, *point) for point in ((10, 10), (30, 22), (50, 30))]
        fingers("touchStart", points[0])
        for point in points[1:]:
            fingers("touchMove", point)
        fingers("touchEnd")
        expected = brushed(image_points(page, points), 12, SHAPE)
        assert (mask_of(page, SHAPE) == expected).all() and page.evaluate("window.scrollY") == 0
        scale, (x, y) = place(page)[2], points[1]
        fingers("touchStart", (x - 20, y))
        fingers("touchStart", (x - 20, y), (x + 20, y))
        fingers("touchMove", (x - 40, y), (x + 40, y))
        fingers("touchEnd")
        frames(page)
        assert (
            place(page)[2] == pytest.approx(2 * scale)
            and (mask_of(page, SHAPE) == expected).all()
            and held(page)["steps"] == 1
        )
        assert not page.wrong


@pytest.mark.parametrize("shape_hw", [(1, 1), (1, 7), (2048, 1536)])
def test_images_of_every_size_are_drawn_on(opened, shape_hw):
    page = opened(Server([np.arange(np.prod(shape_hw)).reshape(shape_hw) % 4000.0]))
    point = page_point(page, shape_hw[1] / 2, shape_hw[0] / 2)
    page.mouse.move(*point)
    size_of_brush(page, 1)
    page.mouse.click(*point)
    (x, y), mask_hw = image_points(page, [point])[0], mask_of(page, shape_hw)
    assert mask_hw.sum() == 1 and mask_hw[int(y), int(x)] and not page.wrong
