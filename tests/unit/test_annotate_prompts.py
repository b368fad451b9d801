"""Boxes and clicks in the annotation session: the network's object is drawn, refined by clicks, shown before it is
kept, and tidied.
"""

import numpy as np
import pytest
from torch import nn

from mpsams import inference
from mpsams.annotation import actions, commands, masks, open_image, protocol
from mpsams.inference import propagation
from mpsams.inference.prompts import Prompt, PromptResult
from mpsams.transforms import Box
from tests.support.annotation_page import Page, page, project, registry  # noqa: F401
from tests.support.nifti_files import nii

BOX = Box(8, 15, 20, 22)  # around the lesion of the picture


class Prompted:
    """Stands for ``segment_prompt``: marks the box, or 3 x 3 pixels around each click inside, and leaves out clicks
    outside; remembers the prompts.
    """

    def __init__(self, confidence: float = 0.9) -> None:
        self.prompts: list[Prompt] = []
        self.confidence = confidence

    def __call__(self, network, image_hw, prompt) -> PromptResult:
        assert image_hw.min() >= 0 and image_hw.max() <= 1
        self.prompts.append(prompt)
        mask_hw = np.zeros(image_hw.shape, bool)
        if prompt.box:
            mask_hw[
                prompt.box.top : prompt.box.top + prompt.box.height,
                prompt.box.left : prompt.box.left + prompt.box.width,
            ] = True
        for row, column in prompt.positive:
            mask_hw[int(row) - 1 : int(row) + 2, int(column) - 1 : int(column) + 2] = True
        for row, column in prompt.negative:
            mask_hw[int(row) - 1 : int(row) + 2, int(column) - 1 : int(column) + 2] = False
        return PromptResult(mask_hw, mask_hw.astype(np.float32), self.confidence, Box(0, 0, *mask_hw.shape))


@pytest.fixture
def prompted(monkeypatch, page):  # noqa: F811
    """``Prompted`` in place of the network, which this registry then has."""
    stand_in = Prompted()
    monkeypatch.setattr(open_image, "segment_prompt", stand_in)
    monkeypatch.setattr(page.session.registry, "prompt_network", lambda: "prompt")
    monkeypatch.setattr(
        page.session.registry,
        "network",
        lambda name: inference.Network(nn.Identity(), {"kind": "prompt", "size": 64}, "", None),
    )
    vars(page.session).pop("_has_prompts", None)  # of the registry as it was
    return stand_in


def prompt(page, box=None, positive=(), negative=(), base=None, do="prompt", **more) -> dict:  # noqa: F811
    base_hw = np.zeros(page.shape, bool) if base is None else base
    marks = {
        "box": None if box is None else list(box),
        "positive": [list(point) for point in positive],
        "negative": [list(point) for point in negative],
    }
    return page.send(do, **marks, **({"base": protocol.pack(base_hw)} if do == "prompt" else {}), **more)


def inside(shape: tuple[int, int], box: Box) -> np.ndarray:
    mask_hw = np.zeros(shape, bool)
    mask_hw[box.top : box.top + box.height, box.left : box.left + box.width] = True
    return mask_hw


def test_a_box_becomes_a_mask_that_is_on_the_disk(page, project, prompted):  # noqa: F811
    answer = prompt(page, BOX)
    assert answer["saved"] == "disk" and not answer["error"] and answer["state"]["prompts"] is True
    assert np.array_equal(page.mask, inside(page.shape, BOX))
    assert np.array_equal(project.mask(page.session.case.item)[:, :, 0].T, inside(page.shape, BOX))


def test_several_objects_are_kept_side_by_side(page, prompted):  # noqa: F811
    prompt(page, BOX)
    other = Box(30, 2, 6, 8)
    prompt(page, other, base=page.mask)
    assert np.array_equal(page.mask, inside(page.shape, BOX) | inside(page.shape, other))


def test_clicks_refine_the_last_answer_and_a_new_box_starts_anew(page, prompted):  # noqa: F811
    prompt(page, BOX)
    prompt(page, BOX, positive=[(33.5, 40.5)])
    prompt(page, BOX, positive=[(33.5, 40.5)], negative=[(20.5, 20.5)])
    assert [each.mask is not None for each in prompted.prompts] == [False, True, True]
    assert (
        np.array_equal(prompted.prompts[1].mask, inside(page.shape, BOX))
        and page.mask[33, 40]
        and not page.mask[20, 20]
    )
    prompt(page, Box(2, 2, 9, 9))
    assert prompted.prompts[-1].mask is None and not page.mask[33, 40]
    prompt(page, positive=[(5.5, 5.5)])
    assert prompted.prompts[-1] == Prompt(positive=((5.5, 5.5),))


def test_a_preview_is_shown_and_changes_nothing(page, project, prompted):  # noqa: F811
    before, lines = page.mask.copy(), len(project.log())
    answer = prompt(page, BOX, do="preview")
    assert (
        np.array_equal(protocol.unpack(answer["preview"], page.shape), inside(page.shape, BOX))
        and answer["mask"] is None
    )
    assert np.array_equal(page.mask, before) and len(project.log()) == lines


def test_nothing_found_and_an_unsure_answer_are_reported(page, prompted):  # noqa: F811
    before = page.mask.copy()
    answer = prompt(page, positive=[(5.5, 5.5)], negative=[(5.5, 5.5)])
    assert "found nothing" in answer["error"] and np.array_equal(page.mask, before)
    prompted.confidence = 0.3
    assert "unsure" in prompt(page, BOX)["message"]


def test_without_a_network_for_prompts_the_page_gets_a_message(page):  # noqa: F811
    answer = prompt(page, BOX)
    assert "no network for boxes and clicks" in answer["error"] and answer["state"]["prompts"] is False


def test_a_box_beyond_the_slice_is_cut_to_it(page, prompted):  # noqa: F811
    rows, columns = page.shape
    prompt(page, (-5, -5, rows + 9, columns + 9))
    assert prompted.prompts[-1].box == Box(0, 0, rows, columns)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"box": [1, 2, 3]}, "top, left, height"),
        ({"box": [1, 2, 0, 5]}, "top, left, height"),
        ({"box": [1.5, 2, 3, 4]}, "whole pixels"),
        ({"box": "x"}, "box"),
        ({"positive": [[1]]}, "click"),
        ({"positive": [[999, 1]]}, "rows and columns"),
        ({"negative": [[float("nan"), 1]]}, "click"),
        ({"positive": 7}, "list"),
        ({"positive": [[1, 1]] * 201}, "at most 200"),
        ({"base": "7"}, "run lengths"),
        ({"box": None}, "marks no object"),
    ],
)
def test_prompts_that_are_not_allowed_are_refused(page, prompted, wrong, words, monkeypatch):  # noqa: F811
    if wrong == {"box": None}:
        monkeypatch.undo()
        monkeypatch.setattr(page.session.registry, "prompt_network", lambda: "prompt")
        monkeypatch.setattr(
            page.session.registry,
            "network",
            lambda name: inference.Network(nn.Identity(), {"kind": "prompt", "size": 64}, "", None),
        )
    before = page.mask.copy()
    answer = page.send("prompt", **{"box": list(BOX), "positive": [], "negative": [], "base": str(before.size)} | wrong)
    assert words in answer["error"].lower() and np.array_equal(page.mask, before)


def test_masks_are_tidied(page):  # noqa: F811
    mask_hw = inside(page.shape, Box(5, 5, 12, 12))
    mask_hw[9:12, 9:12] = False
    mask_hw[30:32, 40:42] = True
    page.send("save", mask_hw)
    page.send("tidy", how="largest")
    assert not page.mask[30:32, 40:42].any() and not page.mask[10, 10] and page.mask[6, 6]
    page.send("tidy", how="holes")
    assert np.array_equal(page.mask, inside(page.shape, Box(5, 5, 12, 12)))
    rough = page.mask.copy()
    rough[17, 10] = rough[4, 8] = True
    page.send("save", rough)
    page.send("tidy", how="smooth")
    assert not page.mask[17, 10] and not page.mask[4, 8] and page.mask[10, 10]
    assert "largest, holes, smooth" in page.send("tidy", how="nice")["error"]


def test_tidying_never_erases_all_and_keeps_an_empty_mask():
    one = np.zeros((9, 9), bool)
    assert not masks.tidy(one, "largest").any() and not masks.tidy(one, "smooth").any()
    one[4, 4] = True
    assert all(np.array_equal(masks.tidy(one, how), one) for how in commands.TIDY)


class Bright:
    """Stands for ``segment_prompt`` in a volume: finds the tube of the volume below; unsure from slice 12 on."""

    def __call__(self, network, image_hw, prompt) -> PromptResult:
        mask_hw = image_hw > 0.6
        return PromptResult(mask_hw, image_hw, 0.9 if image_hw.max() > 0.9 else 0.3, prompt.box)


@pytest.fixture
def tube(tmp_path, registry, project, monkeypatch):  # noqa: F811
    """A page on the middle of a CT with a bright tube along z, whose prompt network is ``Bright``."""
    voxels = np.full((40, 40, 16), -900, np.int16)
    voxels[14:24, 16:26, :12] = 400
    voxels[14:24, 16:26, 12:] = 0
    (tmp_path / "tube.nii").write_bytes(nii(voxels))
    project.add(tmp_path / "tube.nii")
    monkeypatch.setattr(propagation, "segment_prompt", Bright())
    monkeypatch.setattr(registry, "prompt_network", lambda: "prompt")
    known = registry.network
    monkeypatch.setattr(
        registry,
        "network",
        lambda name: (
            inference.Network(nn.Identity(), {"kind": "prompt", "size": 64}, "", None)
            if name == "prompt"
            else known(name)
        ),
    )
    opened = Page(registry, project)
    opened.open("")
    return opened


def follow(page, mask_hw):
    """Follow the object of a mask through the volume as the page does; returns all replies."""
    replies = [page.send("propagate_all", mask_hw)]
    while replies[-1]["state"]["propagating"]:
        replies.append(page.send("propagate_all", resume=True))
    return replies


def test_an_object_is_followed_through_the_volume_both_ways_until_unsure(tube):
    truth_hw = tube.session.image.context("axial", 8).unit_hw > 0.6
    *under_way, answer = follow(tube, truth_hw)
    assert [reply["message"] for reply in under_way] == ["Slice 1 of 16: followed through 8 so far. Esc stops."]
    assert answer["state"]["slices_to_undo"] == 11
    there = [index for index in range(16) if tube.session.image.mask("axial", index).any()]
    assert (
        not answer["error"]
        and there == list(range(12))
        and "slices 1 to 12" in answer["message"]
        and "least sure of slices 8 (90%), 7 (90%), 6 (90%)" in answer["message"]
    )
    assert all(np.array_equal(tube.session.image.mask("axial", index), truth_hw) for index in there)


def test_a_mask_is_saved_when_following_begins_ends_or_stops_and_not_each_time(tube, project, monkeypatch):
    monkeypatch.setattr(actions, "SLICES_AT_ONCE", 2)
    truth_hw = tube.session.image.context("axial", 8).unit_hw > 0.6
    replies = follow(tube, truth_hw)
    assert [reply["saved"] for reply in replies] == ["disk", *[""] * (len(replies) - 2), "disk"] and len(replies) > 4
    item = project.items()[0]
    assert np.array_equal(project.labels(item.id), tube.session.image.mask_xyz)
    tube.send("undo_slices")
    tube.send("propagate_all", truth_hw)
    assert tube.send("propagate_all", resume=True)["saved"] == "" and tube.session.image.is_dirty
    assert tube.send("save")["saved"] == "disk"
    assert np.array_equal(project.labels(item.id), tube.session.image.mask_xyz)


def test_a_slice_that_was_drawn_on_stays_and_ends_it(tube):
    middle = tube.session.case.index
    truth_hw = tube.session.image.context("axial", middle).unit_hw > 0.6
    tube.send("go", slice=4)
    own_hw = inside(tube.shape, Box(1, 1, 3, 3))
    tube.send("save", own_hw)
    tube.send("go", slice=middle)
    follow(tube, truth_hw)
    assert (
        np.array_equal(tube.session.image.mask("axial", 4), own_hw)
        and not tube.session.image.mask("axial", 3).any()
        and tube.session.image.mask("axial", 5).any()
    )
    tube.send("save", np.zeros(tube.shape, bool))
    assert "draw one first" in tube.send("propagate_all")["error"]


def test_following_stops_where_the_page_asks_for_no_more_and_can_be_undone(tube):
    truth_hw = tube.session.image.context("axial", 8).unit_hw > 0.6
    assert tube.send("propagate_all", truth_hw)["state"]["propagating"]
    there = [index for index in range(16) if tube.session.image.mask("axial", index).any()]
    assert there == list(range(9))  # 8 slices, and the one it began with
    answer = tube.send("undo_slices")
    assert not answer["state"]["propagating"] and "8 slices" in answer["message"]
    assert "start again" in tube.send("propagate_all", resume=True)["error"]
    assert [index for index in range(16) if tube.session.image.mask("axial", index).any()] == [8]


def test_a_slice_on_screen_shows_the_mask_that_was_carried_on_to_it(tube):
    truth_hw = tube.session.image.context("axial", 8).unit_hw > 0.6
    tube.send("propagate_all", truth_hw)
    tube.send("go", slice=10)
    answer = tube.send("propagate_all", resume=True)
    assert np.array_equal(tube.session.image.mask("axial", 10), truth_hw) and answer["mask"] is not None
    assert ("axial", 10, 1) not in tube.session.image.edited
