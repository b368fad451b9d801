"""Masks carried through slices by the prompt network: what each slice is prompted with, and where it ends."""

import numpy as np
import pytest

from mpsams.inference import propagation
from mpsams.inference.prompts import PromptResult
from mpsams.inference.propagation import SliceMask, dice, propagate


def disc(centre: float, radius: float = 6) -> np.ndarray:
    rows, columns = np.mgrid[:40, :40]
    return (rows - 20) ** 2 + (columns - centre) ** 2 <= radius**2


@pytest.fixture
def network(monkeypatch):
    """Stands for the prompt network: finds what is bright; its confidence is the image's largest value.

    Remembers its prompts.
    """
    seen_prompts = []

    def segment(network, unit_hw, prompt):
        seen_prompts.append(prompt)
        mask_hw = unit_hw > 0.1
        return PromptResult(mask_hw, unit_hw, float(unit_hw.max()), prompt.box)

    monkeypatch.setattr(propagation, "segment_prompt", segment)
    return seen_prompts


def test_each_slice_is_prompted_with_the_mask_of_the_one_before(network):
    slices = [disc(10 + k) * 0.9 for k in range(6)]
    found = list(propagate(None, slices.__getitem__, SliceMask(0, disc(10), 1.0), range(1, 6)))
    assert [each.index for each in found] == [1, 2, 3, 4, 5]
    assert all(np.array_equal(each.mask, disc(10 + each.index)) and each.confidence == 0.9 for each in found)
    assert all(np.array_equal(prompt.mask, disc(10 + k)) for k, prompt in enumerate(network))


@pytest.mark.parametrize("wrong", [disc(12) * 0.4, np.zeros((40, 40)), disc(33) * 0.9])
def test_it_ends_where_the_network_is_unsure_finds_nothing_or_something_else(network, wrong):
    slices = [disc(10) * 0.9, disc(11) * 0.9, wrong, disc(13) * 0.9]
    found = list(propagate(None, slices.__getitem__, SliceMask(0, disc(10), 1.0), range(1, 4)))
    assert [each.index for each in found] == [1]


def test_doubts_about_several_slices_add_up(network):
    found = list(propagate(None, lambda index: disc(10) * 0.8, SliceMask(0, disc(10), 1.0), range(1, 20)))
    assert len(found) == 4 and 0.8**4 >= propagation.LEAST_CERTAINTY > 0.8**5


def test_it_goes_backwards_too_and_refuses_an_empty_start(network):
    found = propagate(None, lambda index: disc(10) * 0.9, SliceMask(3, disc(10), 1.0), range(2, -1, -1))
    assert [each.index for each in found] == [2, 1, 0]
    with pytest.raises(ValueError, match="empty"):
        next(propagate(None, lambda index: disc(10), SliceMask(3, np.zeros((40, 40), bool), 1.0), [2]))


def test_dice_of_masks():
    assert (
        dice(disc(10), disc(10)) == 1
        and dice(disc(5), disc(33)) == 0
        and dice(np.zeros((4, 4), bool), np.zeros((4, 4), bool)) == 1
    )
    assert dice(np.array([[True, True]]), np.array([[True, False]])) == pytest.approx(2 / 3)
