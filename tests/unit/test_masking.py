"""Orders are lesion-first uniform permutations; cuts are nested and of the right size."""

import math

import pytest
import torch

from mpsams import masking


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def lesions(batch=5, length=40, share=0.3):
    return torch.rand(batch, length, generator=seeded(99)) < share


def test_order_is_a_permutation_with_the_lesion_first():
    lesion = lesions()
    found = masking.order(lesion, seeded(0))
    assert found.dtype == torch.int64 and found.shape == lesion.shape
    for row, own in zip(found, lesion):
        assert sorted(row.tolist()) == list(range(40))
        assert own[row[: own.sum()]].all() and not own[row[own.sum() :]].any()


@pytest.mark.parametrize("value", [False, True])
def test_order_of_one_cluster_only_is_a_random_permutation(value):
    found = masking.order(torch.full((3, 30), value), seeded(1))
    assert all(sorted(row.tolist()) == list(range(30)) for row in found)
    assert len({tuple(row.tolist()) for row in found}) == 3 and found[0].tolist() != list(range(30))


def test_the_generator_decides_and_nothing_else():
    lesion = lesions()
    state = torch.get_rng_state()
    first = masking.order(lesion, seeded(3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12345)
    assert torch.equal(first, masking.order(lesion, seeded(3)))
    assert not torch.equal(first, masking.order(lesion, seeded(4)))
    source = seeded(3)
    assert not torch.equal(masking.order(lesion, source), masking.order(lesion, source))
    assert torch.equal(masking.random_order(2, 9, seeded(5)), masking.random_order(2, 9, seeded(5)))


@pytest.mark.parametrize("members, others", [([0, 3, 4, 9], 6), ([1, 2, 5, 6, 7, 8], 4)])
def test_inside_a_cluster_every_order_is_as_likely(members, others):
    """Chi-square of position against patch over 20000 orders, far beyond any quantile of chance."""
    lesion = torch.zeros(20000, 10, dtype=torch.bool)
    lesion[:, members] = True
    found = masking.order(lesion, seeded(11))
    for patches, positions in (
        (members, range(len(members))),
        (sorted(set(range(10)) - set(members)), range(len(members), 10)),
    ):
        expected = 20000 / len(patches)
        counts = torch.stack([(found[:, list(positions)] == patch).sum(0) for patch in patches]).double()
        chi = float(((counts - expected) ** 2 / expected).sum())
        freedom = (len(patches) - 1) ** 2
        assert chi < freedom + 8 * math.sqrt(2 * freedom), (chi, freedom)


def test_cut_hides_the_first_of_the_order():
    order = masking.order(lesions(), seeded(0))
    for ratio in (0, 0.01, 0.25, 0.3078, 0.5, 0.75, 0.8071, 0.99, 1):
        mask = masking.cut(order, ratio)
        count = math.floor(40 * ratio)
        assert mask.dtype == torch.bool and mask.shape == order.shape
        for row, hidden in zip(order, mask):
            assert set(hidden.nonzero().flatten().tolist()) == set(row[:count].tolist())


def test_cuts_are_nested_as_the_ratio_grows():
    order = masking.order(lesions(), seeded(0))
    masks = [masking.cut(order, step / 50) for step in range(51)]
    assert all((small <= large).all() for small, large in zip(masks, masks[1:]))
    assert not masks[0].any() and masks[-1].all()


def test_hidden_count_of_the_paper_and_at_the_edges():
    assert [masking.hidden_count(256, r) for r in (0.25, 0.75, 0.80705)] == [64, 192, 206]
    assert masking.hidden_count(10, -1) == 0 and masking.hidden_count(10, 7) == 10
    with pytest.raises(ValueError, match="not a number"):
        masking.hidden_count(10, math.nan)


def test_lesion_patches_are_hidden_before_any_background():
    lesion = lesions()
    order = masking.order(lesion, seeded(2))
    for step in range(41):
        mask = masking.cut(order, step / 40)
        for hidden, own in zip(mask, lesion):
            assert not (hidden & ~own).any() or hidden[own].all()


def test_first_hides_so_many_of_each_order_and_cut_is_first_at_a_ratio():
    order = masking.order(lesions(), seeded(0))
    for count in (0, 1, 13, 39, 40):
        mask = masking.hide_first(order, count)
        assert mask.dtype == torch.bool and mask.shape == order.shape
        for row, hidden in zip(order, mask):
            assert set(hidden.nonzero().flatten().tolist()) == set(row[:count].tolist())
    for ratio in (0, 0.33, 0.75, 1):
        assert torch.equal(masking.cut(order, ratio), masking.hide_first(order, masking.hidden_count(40, ratio)))
