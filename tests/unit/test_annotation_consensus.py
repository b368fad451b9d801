"""Masks made of those of several readers: STAPLE against numbers worked out by hand and a slow version, the other ways,
the class.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from mpsams.annotation import consensus
from mpsams.annotation.staple import staple

# voxels that 3, 2, 1 and 0 readers outline
THREE = [np.array(row, bool) for row in ([1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0])]


def test_one_iteration_of_staple_is_what_a_hand_computes():
    found = staple(THREE, prior=0.5, start=0.9, iterations=1)
    all_three, two = 0.9**3 / (0.9**3 + 0.1**3), 0.9  # 0.9 * 0.9 * 0.1 / (0.9 * 0.9 * 0.1 + 0.1 * 0.1 * 0.9)
    assert found.probability == pytest.approx([all_three, two, 1 - two, 1 - all_three])
    # the probabilities add up to 2
    assert found.sensitivity == pytest.approx([(all_three + two + 1 - two) / 2, (all_three + two) / 2, all_three / 2])
    assert found.specificity == pytest.approx([all_three / 2, (two + all_three) / 2, (1 - two + two + all_three) / 2])


def slow_staple(masks: list[np.ndarray], iterations: int) -> np.ndarray:
    """STAPLE as the paper writes it, voxel by voxel."""
    prior, p, q = float(np.mean(masks)), [0.99999] * len(masks), [0.99999] * len(masks)
    weights = []
    for _ in range(iterations):
        weights = []
        for votes in zip(*(mask.ravel() for mask in masks), strict=True):
            lesion, rest = prior, 1 - prior
            for reader, yes in enumerate(votes):
                lesion *= p[reader] if yes else 1 - p[reader]
                rest *= 1 - q[reader] if yes else q[reader]
            weights.append(lesion / (lesion + rest))
        for reader, mask in enumerate(masks):
            p[reader] = sum(w for w, yes in zip(weights, mask.ravel(), strict=True) if yes) / sum(weights)
            q[reader] = sum(1 - w for w, yes in zip(weights, mask.ravel(), strict=True) if not yes) / (
                len(weights) - sum(weights)
            )
    return np.reshape(weights, masks[0].shape)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_staple_is_that_of_a_slow_version(count):
    truth, random = np.zeros((12, 9), bool), np.random.default_rng(count)
    truth[3:9, 2:6] = True
    masks = [np.where(random.random(truth.shape) < 0.1, ~truth, truth) for _ in range(count)]
    assert staple(masks, iterations=8).probability == pytest.approx(slow_staple(masks, 8))


def test_staple_trusts_the_readers_that_agree():
    truth, random = np.zeros((30, 30), bool), np.random.default_rng(0)
    truth[8:20, 10:24] = True
    wrong = random.random(truth.shape) < 0.4
    found = staple([truth, truth, wrong, truth ^ (random.random(truth.shape) < 0.05)])
    assert (
        np.array_equal(found.probability >= 0.5, truth)
        and found.sensitivity.argmin() == found.specificity.argmin() == 2
    )


def test_staple_of_empty_full_and_wrong_masks():
    empty, full = np.zeros((3, 4, 2), bool), np.ones((3, 4, 2), bool)
    assert not staple([empty, empty]).probability.any() and (staple([full, full]).probability == 1).all()
    for wrong in ([], [empty, full[:2]]):
        with pytest.raises(ValueError, match="allowed are 1 to"):
            staple(wrong)


def test_the_ways_to_make_one_mask():
    made = {name: consensus.merge(THREE, name).tolist() for name in consensus.MERGES}
    assert made["union"] == [True, True, True, False] and made["intersection"] == [True, False, False, False]
    assert made["majority"] == made["staple"] == [True, True, False, False]
    assert consensus.merge(THREE[:2], "majority").tolist() == [True, True, False, False]
    for masks, method in ((THREE, "mean"), ([], "union")):
        with pytest.raises(ValueError, match="allowed are majority, staple"):
            consensus.merge(masks, method)


def test_a_voxel_with_two_structures_has_the_one_that_more_maps_give():
    maps = [np.array([row], np.uint8) for row in ([0, 30, 2, 2, 30], [2, 0, 30, 2, 30], [2, 0, 30, 30, 2])]
    assert consensus.merge(maps, "union").tolist() == [[2, 30, 30, 2, 30]]
    assert consensus.merge(maps, "majority").tolist() == [[2, 0, 30, 2, 30]]
    assert not consensus.merge(maps, "intersection").any()


@pytest.mark.parametrize("method, most", [("majority", 8), ("union", 8), ("intersection", 8), ("staple", 24)])
def test_a_consensus_holds_few_bytes_for_each_voxel(method, most):
    maps = [np.zeros((64, 64, 64), np.uint8, order="F") for _ in range(5)]
    for shift, each in enumerate(maps):
        each[5 + shift : 30, 5:30], each[30:50, 10 + shift : 40] = 1, 2
    tracemalloc.start()
    try:
        made = consensus.merge(maps, method)
        assert tracemalloc.get_traced_memory()[1] < most * made.size
    finally:
        tracemalloc.stop()
    assert set(np.unique(made)) == {0, 1, 2}


def test_the_class_of_most_readers():
    allowed = ("benign", "malignant")
    assert consensus.common_class(["Benign", "benign", "malignant"], allowed) == "benign"
    assert (
        consensus.common_class(["benign", "malignant"], allowed)
        == consensus.common_class(["benign", ""], allowed)
        == ""
    )
