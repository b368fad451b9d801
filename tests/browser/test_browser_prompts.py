"""Boxes and clicks on the canvas in a headless Chromium: what is asked of the server, what is shown, one undo for each
gesture.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.browser import browser, pytestmark  # noqa: F401
from tests.support.canvas import (  # noqa: F401  # fmt: skip
    RAMP,
    SHAPE,
    Server,
    brushed,
    desktop,
    drag,
    image_points,
    marked,
    mask_of,
    opened,
    page_point,
    size_of_brush,
    stand,
)
from tests.support.waiting import wait_until


def prompts(server: Server, kind: str = "prompt") -> list[dict]:
    return [command for command in server.commands if command["action"] == kind]


def drag_box(page, a: tuple[float, float], b: tuple[float, float]) -> list[int]:
    """Drag a box from a to b, with a stop on the way; the box as the server is to be told it."""
    points = [page_point(page, *a), page_point(page, *np.mean([a, b], axis=0)), page_point(page, *b)]
    drag(page, points)
    (ax, ay), _, (bx, by) = image_points(page, points)
    top, left = int(np.floor(min(ay, by))), int(np.floor(min(ax, bx)))
    return [top, left, int(np.ceil(max(ay, by))) - top, int(np.ceil(max(ax, bx))) - left]


@pytest.fixture
def boxing(opened):  # noqa: F811
    """A page with the box tool chosen, and its server."""

    def go(**more):
        server = Server([RAMP], prompts=True, **more)
        page = opened(server)
        page.keyboard.press("b")
        return page, server

    return go


def shows(page, mask_hw: np.ndarray) -> None:
    wait_until(lambda: (mask_of(page, SHAPE) == mask_hw).all())


def test_a_box_is_outlined_and_undone_in_one_step(boxing):
    page, server = boxing()
    box = drag_box(page, (10, 8), (40, 30))
    shows(page, marked({"box": box, "positive": [], "negative": []}, SHAPE))
    (command,) = prompts(server)
    assert (
        command["box"] == box
        and command["positive"] == command["negative"] == []
        and command["base"] == str(SHAPE[0] * SHAPE[1])
    )
    page.keyboard.press("Control+z")
    shows(page, np.zeros(SHAPE, bool))
    page.keyboard.press("Control+y")
    shows(page, marked(command, SHAPE))
    assert not page.wrong


def test_clicks_add_and_remove_and_each_has_its_undo(boxing):
    page, server = boxing()
    drag_box(page, (10, 8), (40, 30))
    wait_until(lambda: len(prompts(server)) == 1)
    page.keyboard.press("p")
    page.mouse.click(*page_point(page, 50.5, 40.5))
    wait_until(lambda: len(prompts(server)) == 2)
    page.keyboard.down("Alt")
    page.mouse.click(*page_point(page, 20.5, 20.5))
    page.keyboard.up("Alt")
    wait_until(lambda: len(prompts(server)) == 3)
    page.mouse.click(*page_point(page, 30.5, 12.5), button="right")
    wait_until(lambda: len(prompts(server)) == 4)
    first, second, third, fourth = prompts(server)
    assert (
        second["box"] == first["box"]
        and np.allclose(second["positive"], [[40, 50]], atol=1)
        and len(third["negative"]) == 1
        and len(fourth["negative"]) == 2
    )
    assert len({command["base"] for command in prompts(server)}) == 1
    for command in (fourth, third, second, first):
        shows(page, marked(command, SHAPE))
        page.keyboard.press("Control+z")
    shows(page, np.zeros(SHAPE, bool))
    page.mouse.click(*page_point(page, 50.5, 40.5))
    wait_until(lambda: len(prompts(server)) == 5)
    assert prompts(server)[-1]["box"] is None and not page.wrong


def test_a_second_object_is_added_and_what_the_hand_drew_stays(boxing):
    page, server = boxing()
    first = drag_box(page, (4, 4), (20, 20))
    shows(page, marked({"box": first, "positive": [], "negative": []}, SHAPE))
    page.keyboard.press("r")
    size_of_brush(page, 4)
    line = [page_point(page, 30, 40), page_point(page, 50, 40)]
    drag(page, line)
    hand = brushed(image_points(page, line), 4, SHAPE)
    page.keyboard.press("b")
    second = drag_box(page, (36, 6), (58, 26))
    both = [marked({"box": box, "positive": [], "negative": []}, SHAPE) for box in (first, second)]
    shows(page, both[0] | both[1] | hand)
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    page.mouse.click(*page_point(page, 10.5, 40.5))
    wait_until(lambda: len(prompts(server)) == 3)
    assert prompts(server)[-1]["box"] is None
    shows(page, both[0] | both[1] | hand | marked(prompts(server)[-1], SHAPE))


def test_two_boxes_in_quick_succession_are_both_kept(boxing):
    page, server = boxing()
    boxes = [drag_box(page, (4, 4), (16, 16)), drag_box(page, (24, 4), (36, 16)), drag_box(page, (44, 4), (56, 16))]
    shows(page, np.any([marked({"box": box, "positive": [], "negative": []}, SHAPE) for box in boxes], axis=0))


def test_an_untouched_proposal_gives_way_and_a_corrected_one_stays(boxing):
    proposal = np.zeros(SHAPE, bool)
    proposal[30:40, 2:12] = True
    page, server = boxing(proposal=proposal)
    shows(page, proposal)
    box = drag_box(page, (30, 6), (50, 20))
    shows(page, marked({"box": box, "positive": [], "negative": []}, SHAPE))
    page.keyboard.press("Control+z")
    shows(page, proposal)


def test_while_a_box_is_drawn_its_outline_is_previewed(boxing):
    page, server = boxing()
    page.mouse.move(*page_point(page, 10, 8))
    page.mouse.down()
    page.mouse.move(*page_point(page, 30, 24))
    wait_until(lambda: len(prompts(server, "preview")) >= 1)
    page.mouse.move(*page_point(page, 40, 30))
    assert not mask_of(page, SHAPE).any() and not prompts(server)
    page.mouse.up()
    wait_until(lambda: len(prompts(server)) == 1 and mask_of(page, SHAPE).any())


def test_the_box_at_which_the_pointer_rests_is_previewed(boxing):
    """A single move is enough, and the last of many moves is the box whose outline is shown."""
    page, server = boxing()
    points = [page_point(page, 10, 8), *(page_point(page, 20 + step, 20) for step in range(8))]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point)
    (ax, ay), (bx, by) = image_points(page, [points[0], points[-1]])
    last = [int(ay), int(ax), int(np.ceil(by)) - int(ay), int(np.ceil(bx)) - int(ax)]
    wait_until(lambda: prompts(server, "preview") and prompts(server, "preview")[-1]["box"] == last)
    page.mouse.up()
    wait_until(lambda: len(prompts(server)) == 1)


def test_where_nothing_is_found_the_gesture_is_forgotten(boxing):
    page, server = boxing(nothing=True)
    drag_box(page, (10, 8), (40, 30))
    page.get_by_text("The network found nothing there.").wait_for()
    server.nothing = False
    page.keyboard.press("p")
    page.mouse.click(*page_point(page, 20.5, 20.5))
    wait_until(lambda: len(prompts(server)) == 2)
    assert prompts(server)[-1]["box"] is None


def test_a_click_beside_nothing_asks_for_an_object_first(boxing):
    page, server = boxing()
    page.keyboard.press("p")
    page.mouse.click(*page_point(page, 20.5, 20.5), button="right")
    page.get_by_text("Draw a box around the object or click on it first.").wait_for()
    assert not prompts(server)


def test_tidying_is_one_step(boxing):
    tidied = np.zeros(SHAPE, bool)
    tidied[12:20, 12:20] = True
    page, server = boxing(segmented=tidied)
    drag_box(page, (10, 8), (40, 30))
    wait_until(lambda: mask_of(page, SHAPE).any())
    before = mask_of(page, SHAPE)
    page.get_by_role("button", name="Keep only the largest part").click()
    shows(page, tidied)
    assert prompts(server, "tidy")[0]["how"] == "largest"
    page.keyboard.press("Control+z")
    shows(page, before)


def test_an_object_is_followed_through_the_volume_until_it_ends(opened):  # noqa: F811
    server = Server([RAMP, RAMP, RAMP], prompts=True, rounds=3)
    page = opened(server)
    page.locator("[data-action=propagate_all]").click()
    page.get_by_text("Carried on to slices 1 to 3.").wait_for()
    asked = prompts(server, "propagate_all")
    assert ["resume" in command for command in asked] == [False, True, True]
    assert len({command["id"] for command in asked}) == 3 and not page.wrong
    page.locator("[data-action=propagate_all]").wait_for()


@pytest.mark.parametrize("way", ["button", "key"])
def test_following_through_the_volume_can_be_stopped(opened, way):  # noqa: F811
    server = Server([RAMP, RAMP, RAMP], prompts=True, rounds=10**6)
    page = opened(server)
    page.locator("[data-action=propagate_all]").click()
    page.get_by_text("Slice 2 of 3. Esc stops.").wait_for()
    page.locator("[data-action=stop_following]").click() if way == "button" else page.keyboard.press("Escape")
    page.locator("[data-action=propagate_all]").wait_for()
    page.get_by_text("Stopped. Slice 2 of 3.").wait_for()
    wait_until(lambda: server.commands[-1]["action"] == "save")  # what was found since the last time
    before = len(prompts(server, "propagate_all"))
    page.keyboard.press("b")
    drag_box(page, (10, 8), (40, 30))
    wait_until(lambda: prompts(server))
    assert len(prompts(server, "propagate_all")) == before and not page.wrong


def test_following_goes_on_while_another_slice_is_shown(opened):  # noqa: F811
    server = Server([RAMP, RAMP, RAMP], prompts=True, rounds=10**6)
    page = opened(server)
    page.locator("[data-action=propagate_all]").click()
    page.get_by_text("Slice 2 of 3. Esc stops.").wait_for()
    page.keyboard.press("PageDown")
    wait_until(lambda: server.at == 1)
    before = len(prompts(server, "propagate_all"))
    wait_until(lambda: len(prompts(server, "propagate_all")) > before + 2)
    assert page.locator("[data-action=stop_following]").is_visible()
    page.keyboard.press("Escape")
    page.get_by_text("Stopped. Slice 2 of 3.").wait_for()
    assert not page.wrong


def test_without_a_network_for_prompts_the_tools_are_not_shown(opened):  # noqa: F811
    page = opened(Server([RAMP]))
    assert not page.locator("[data-tool=box]").is_visible() and not page.locator("[data-tool=point]").is_visible()
    page.keyboard.press("b")
    page.get_by_text("There is no network for boxes and clicks").wait_for()
