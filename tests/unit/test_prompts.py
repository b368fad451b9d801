"""Prompts: where the network looks, what it sees, and which answer a person gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mpsams.inference import Network, NotFinite, prompts
from mpsams.inference.prompts import Prompt
from mpsams.transforms import Box

SHAPE = (40, 70)
DISC = np.hypot(*(np.mgrid[:40, :70] - np.array([20, 30])[:, None, None])) < 9


class Bright(nn.Module):
    """Answers with what is brighter than the crop's mean."""

    def forward(self, x_bchw):
        return 8 * x_bchw[:, :1]


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x_bchw):
        return torch.full_like(x_bchw[:, :1], self.value)


def network(unet, kind="prompt"):
    return Network(unet, {"kind": kind, "size": 32, "model": {"channels": 5}}, "", None)


@pytest.mark.parametrize(
    "box", [Box(10, 20, 12, 8), Box(-6, -9, 20, 20), Box(30, 55, 40, 40), Box(0, 0, 40, 70), Box(0, 69, 1, 1)]
)
def test_a_crop_is_a_square_around_the_box_also_beyond_the_border(box):
    crop = prompts.find_crop(Prompt(box=box), SHAPE)
    assert crop.height == crop.width == max(prompts.LEAST_SIDE, round(prompts.MARGIN * max(box[2:])))
    for start, side, first, length in zip(crop[:2], crop[2:], box[:2], box[2:], strict=True):
        assert abs(start + side / 2 - (first + length / 2)) <= 0.5
    x = prompts.encode(np.random.default_rng(0).random(SHAPE, np.float32), Prompt(box=box), crop, 32)
    assert x.shape == (5, 32, 32) and torch.isfinite(x).all()
    expected = np.zeros((32, 32), bool)
    for row in range(32):
        for column in range(32):
            y, z = crop.top + (row + 0.5) * crop.height / 32, crop.left + (column + 0.5) * crop.width / 32
            expected[row, column] = box.top <= y < box.top + box.height and box.left <= z < box.left + box.width
    assert np.array_equal(x[1].numpy() > 0, expected) and expected.any()


def test_the_image_is_standardised_over_what_lies_in_it_and_zero_beyond():
    image = np.random.default_rng(1).random(SHAPE).astype(np.float32)
    crop = Box(-16, -16, 32, 32)
    x = prompts.encode(image, Prompt(), crop, 32)[0].numpy()
    inside = image[:16, :16].astype(np.float64)
    np.testing.assert_allclose(x[16:, 16:], (inside - inside.mean()) / inside.std(), atol=1e-5)
    assert np.abs(x[:16]).max() < 1e-5 and np.abs(x[:, :16]).max() < 1e-5
    assert not prompts.encode(np.full(SHAPE, 0.4, np.float32), Prompt(), crop, 32).any()


def test_clicks_scribbles_and_mask_lie_where_they_were_drawn():
    strokes = np.zeros(SHAPE, np.int8)
    strokes[12, 14:20], strokes[30, 10] = 1, -1
    prompt = Prompt(positive=((25, 20),), negative=((9, 33),), scribbles=strokes, mask=DISC)
    crop = Box(4, 6, 32, 32)
    x = prompts.encode(np.zeros(SHAPE, np.float32), prompt, crop, 32).numpy()
    for channel, points in ((2, [(25, 20), *((12, column) for column in range(14, 20))]), (3, [(9, 33), (30, 10)])):
        expected = np.zeros((32, 32))
        for row, column in points:
            expected[max(0, row - 6) : row - 1, max(0, column - 8) : column - 3] = 1
        assert np.array_equal(x[channel], expected)
    np.testing.assert_array_equal(x[4] > 0.5, DISC[4:36, 6:38])
    half = prompts.encode(np.zeros(SHAPE, np.float32), prompt, crop, 16).numpy()
    assert half[2, (25 - 4) // 2, (20 - 6) // 2] == 1 and half.shape == (5, 16, 16)


def test_clicks_alone_get_a_wide_view_which_their_answer_narrows():
    wide = prompts.find_crop(Prompt(positive=((20, 30),)), SHAPE)
    assert wide.height == round(prompts.FIRST_VIEW * 70)
    image = np.where(DISC, 0.9, 0.1).astype(np.float32)
    found = prompts.segment_prompt(network(Bright()), image, Prompt(positive=((20, 30),)))
    assert found.crop.height < wide.height and abs(found.crop.height - prompts.MARGIN * 18) <= 4
    assert 2 * (found.mask & DISC).sum() / (found.mask.sum() + DISC.sum()) > 0.95
    assert found.mask.shape == found.probability.shape == SHAPE and found.probability.dtype == np.float32


def test_an_object_larger_than_the_view_makes_it_grow():
    image = np.full((64, 64), 0.1, np.float32)
    image[4:60, 4:60] = 0.9
    found = prompts.segment_prompt(network(Bright()), image, Prompt(positive=((30, 30),)))
    assert found.crop.height >= 56 and found.mask[5:59, 5:59].all()


def test_an_answer_beyond_the_crop_is_background_and_probabilities_stay_in_range():
    found = prompts.segment_prompt(
        network(Constant(9.0)), np.zeros((200, 200), np.float32), Prompt(box=Box(90, 90, 10, 10))
    )
    assert (
        found.mask[95, 95] and not found.mask[0].any() and 0 <= found.probability.min() <= found.probability.max() <= 1
    )


def test_uint8_and_floats_get_the_same_answer():
    image = np.random.default_rng(2).integers(0, 256, SHAPE, dtype=np.uint8)
    first, second = (
        prompts.segment_prompt(network(Bright()), each, Prompt(box=Box(5, 5, 20, 20)))
        for each in (image, image.astype(np.float32) / 255)
    )
    assert np.array_equal(first.probability, second.probability)


def test_the_mirror_image_gets_the_mirror_answer():
    torch.manual_seed(0)
    unet = nn.Conv2d(5, 1, 3, padding=1)
    image = np.random.default_rng(3).random((48, 48)).astype(np.float32)
    first = prompts.segment_prompt(network(unet), image, Prompt(box=Box(16, 10, 16, 16)))
    second = prompts.segment_prompt(network(unet), image[:, ::-1].copy(), Prompt(box=Box(16, 48 - 26, 16, 16)))
    np.testing.assert_allclose(first.probability, second.probability[:, ::-1], atol=1e-5)


def test_the_parts_that_hold_a_click_are_kept_else_the_largest():
    mask = np.zeros(SHAPE, bool)
    mask[2:6, 2:6] = mask[10:20, 10:20] = mask[30:33, 60:63] = True
    largest, clicked = (
        prompts.keep_marked_parts(mask, prompt) for prompt in (Prompt(), Prompt(positive=((3, 3), (31, 61))))
    )
    assert largest.sum() == 100 and largest[15, 15] and clicked.sum() == 25 and not clicked[15, 15]
    assert np.array_equal(prompts.keep_marked_parts(mask, Prompt(positive=((0, 0),))), largest)
    assert not prompts.keep_marked_parts(np.zeros(SHAPE, bool), Prompt(positive=((3, 3),))).any()


def test_confidence_is_the_dice_to_expect():
    probability, mask = np.array([[0.9, 0.6], [0.2, 0.0]], np.float32), np.array([[True, True], [False, False]])
    assert prompts.expected_dice(probability, mask) == pytest.approx(2 * 1.5 / (1.7 + 2))
    assert (
        prompts.expected_dice(mask.astype(np.float32), mask) == 1
        and prompts.expected_dice(probability, mask & False) == 0
    )


@pytest.mark.parametrize(
    "prompt, words",
    [
        (Prompt(), "marks no object"),
        (Prompt(negative=((3, 3),)), "marks no object"),
        (Prompt(mask=np.zeros(SHAPE, bool)), "marks no object"),
        (Prompt(box=Box(3, 3, 0, 5)), "at least 1 pixel"),
        (Prompt(box=Box(50, 3, 5, 5)), "overlap the image"),
        (Prompt(positive=((3, 70),)), "must lie in the image"),
        (Prompt(negative=((float("nan"), 7),), positive=((1, 1),)), "must lie in the image"),
        (Prompt(scribbles=np.zeros((70, 40), np.int8)), "must have the image's shape"),
        (Prompt(box=Box(0, 0, 5, 5), mask=np.zeros((3, 3), bool)), "must have the image's shape"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused(prompt, words):
    with pytest.raises(ValueError, match=words):
        prompts.segment_prompt(network(Bright()), np.zeros(SHAPE, np.float32), prompt)


def test_images_and_networks_that_do_not_fit_are_refused():
    prompt = Prompt(box=Box(3, 3, 9, 9))
    for image, words in (
        (np.zeros((3, 40, 70)), "expected grey"),
        (np.full(SHAPE, 7.0), "expected 0 to 1"),
        (np.full(SHAPE, np.nan), "expected 0 to 1"),
    ):
        with pytest.raises(ValueError, match=words):
            prompts.segment_prompt(network(Bright()), image, prompt)
    with pytest.raises(ValueError, match="'segmentation'"):
        prompts.segment_prompt(network(Bright(), "segmentation"), np.zeros(SHAPE), prompt)
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(NotFinite):
            prompts.segment_prompt(network(Constant(value)), np.zeros(SHAPE), prompt)
