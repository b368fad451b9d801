"""Sampling weights of images: by lesion or not, by its size and its contrast."""

from __future__ import annotations

import pytest
import torch

from mpsams.datasets import Stack
from train import loop, sampling


def stack(sides, grey=200, background=100, size=32) -> Stack:
    """Images of a bright square of each side (0: none), with a little noise."""
    count = len(sides)
    greys = [grey] * count if isinstance(grey, int) else grey
    masks = torch.zeros(count, 1, size, size, dtype=torch.bool)
    for mask, side in zip(masks, sides, strict=True):
        mask[0, 4 : 4 + side, 6 : 6 + side] = True
    images = torch.full((count, 1, size, size), background) + torch.randint(
        -5, 6, (count, 1, size, size), generator=torch.Generator().manual_seed(0)
    )
    images = torch.where(masks, torch.tensor(greys).reshape(-1, 1, 1, 1), images).to(torch.uint8)
    names = tuple(f"{k}" for k in range(count))
    return Stack("made", "ultrasound", "lesion", "", names, names, images, masks, torch.arange(count), "")


def test_nothing_asked_for_leaves_all_alike():
    assert sampling.weights(stack([0, 4, 8]), 0, 0, 0) is None


@pytest.mark.parametrize("balance", [0.25, 0.5, 0.8])
def test_balance_is_the_share_of_the_draws_with_lesion(balance):
    found = sampling.weights(stack([0, 0, 0, 4, 8, 0, 0, 0]), balance, 0, 0)
    assert float(found.sum()) == pytest.approx(1) and float(found[3:5].sum()) == pytest.approx(balance)
    assert float(found[3]) == pytest.approx(float(found[4]))


@pytest.mark.parametrize("sides", [[0, 0, 0], [4, 8, 6]])
def test_balance_needs_both_kinds(sides):
    found = sampling.weights(stack(sides), 0.7, 0, 0)
    assert torch.allclose(found, torch.full((3,), 1 / 3, dtype=torch.float64))


def test_a_lesion_of_half_the_area_is_drawn_twice_as_often_up_to_a_bound():
    found = sampling.weights(stack([8, 8, 8, 4, 2, 1, 16, 0, 0]), 0, 1, 0)
    usual = float(found[0])
    assert [float(value) / usual for value in found[:7]] == pytest.approx([1, 1, 1, 4, 4, 4, 1 / 4])
    assert float(found[:7].sum()) == pytest.approx(7 / 9)  # the share with lesion stays
    gentle = sampling.weights(stack([8, 8, 8, 4, 2]), 0, 0.5, 0)
    assert [float(value / gentle[0]) for value in gentle] == pytest.approx([1, 1, 1, 2, 4])


def test_a_faint_lesion_is_drawn_more_often():
    faint = stack([8, 8, 8, 8, 0], [200, 200, 200, 130, 0])
    contrasts = sampling.contrast(faint.stored_nchw.float(), faint.stored_n1hw)
    found = sampling.weights(faint, 0, 0, 1)
    assert float(found[3] / found[0]) == pytest.approx(float(contrasts[0] / contrasts[3]), rel=1e-6) and float(
        found[3]
    ) > float(found[0])


def test_contrast_is_the_loops():
    made = stack([5, 0, 32])
    images, masks = made.stored_nchw.float(), made.stored_n1hw
    masks[2] = True
    inside, ring = [], []
    for row in range(32):
        for column in range(32):
            near = masks[0, 0, max(0, row - 2) : row + 3, max(0, column - 2) : column + 3].any()
            (inside if masks[0, 0, row, column] else ring if near else []).append(float(images[0, 0, row, column]))
    expected = abs(sum(inside) / len(inside) - sum(ring) / len(ring)) / float(images[0].std(correction=0))
    found = sampling.contrast(images, masks)
    assert float(found[0]) == pytest.approx(expected, rel=1e-5) and found[1:].tolist() == [0, 0]  # no lesion, no ring


def test_draws_follow_the_weights_to_within_one_and_the_generator_alone():
    weights = torch.tensor([0.05, 0.3, 0.15, 0.5], dtype=torch.float64).repeat_interleave(10) / 10
    found, again, other = (sampling.draw(weights, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(found, again) and not torch.equal(found, other) and len(found) == 40
    counts = torch.bincount(found, minlength=40)
    assert (counts - 40 * weights).abs().max() <= 1 and not torch.equal(found, found.sort().values)


def test_an_epoch_of_a_task_is_drawn_by_its_weights():
    weights = torch.tensor([0.7, 0.1, 0.1, 0.1], dtype=torch.float64)
    nothing = dict.fromkeys(("module", "network", "optimizer", "loss", "rate", "after_step", "after_epoch"))
    task = loop.Task(**nothing, images=4, batch=3, epochs=1, seed=0, config={}, weights=weights)
    first, second = ([part.tolist() for part in loop.batches(task, epoch, 0)] for epoch in (1, 2))
    assert [len(part) for part in first] == [3, 1] and sum(first, []).count(0) in (2, 3) and first != second
    assert [part.tolist() for part in loop.batches(task, 1, 1)] == first[1:]
