"""Bits against enumeration and real masks, mutual information against numpy, canonical correlations and by hand."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import hypergeom

from mpsams import masking, uncertainty


def lesion_first_masks(length, lesion, hidden):
    """All masks of n patches that a lesion-first order can give; the lesion patches are the first ones."""
    first = set(range(lesion))
    masks = [set(mask) for mask in combinations(range(length), hidden)]
    return [mask for mask in masks if mask <= first or first <= mask]


@pytest.mark.parametrize("length", [1, 4, 7])
def test_bits_count_the_masks(length):
    for hidden in range(length + 1):
        every = len(list(combinations(range(length), hidden)))
        assert uncertainty.random_bits(length, hidden) == pytest.approx(math.log2(every), abs=1e-9)
        for lesion in range(length + 1):
            count = len(lesion_first_masks(length, lesion, hidden))
            assert uncertainty.lesion_first_bits(length, lesion, hidden) == pytest.approx(math.log2(count), abs=1e-9)


def test_lesion_first_never_leaves_more_open_than_random():
    for length in (5, 16, 64, 256):
        for lesion in range(0, length + 1, max(1, length // 16)):
            for hidden in range(length + 1):
                bits = uncertainty.lesion_first_bits(length, lesion, hidden)
                assert -1e-9 <= bits <= uncertainty.random_bits(length, hidden) + 1e-9


def test_bits_at_the_papers_scale_are_exact():
    assert uncertainty.random_bits(256, 206) == pytest.approx(math.log2(math.comb(256, 206)), rel=1e-12)
    assert uncertainty.lesion_first_bits(256, 60, 206) == pytest.approx(math.log2(math.comb(196, 146)), rel=1e-12)


@pytest.mark.parametrize("call", [lambda: uncertainty.log2_choose(4, 5), lambda: uncertainty.log2_choose(4, -1),
                                  lambda: uncertainty.random_bits(4, 5), lambda: uncertainty.lesion_first_bits(4, 2, 5),
                                  lambda: uncertainty.hidden_probability(4, 2, 5)])  # fmt: skip
def test_impossible_counts_are_refused(call):
    with pytest.raises(ValueError):
        call()


@pytest.mark.parametrize("lesion, hidden", [(0, 5), (4, 0), (4, 3), (4, 4), (4, 9), (4, 12), (12, 7)])
def test_chance_hidden_is_what_real_masks_do(lesion, hidden):
    own = torch.zeros(4000, 12, dtype=torch.bool)
    own[:, :lesion] = True
    mask = masking.cut(masking.order(own, torch.Generator().manual_seed(0)), hidden / 12)
    in_lesion, in_background = uncertainty.hidden_probability(12, lesion, hidden)
    # every patch of a cluster alike: 4000 draws, five standard deviations
    for patch in range(12):
        chance = in_lesion if patch < lesion else in_background
        assert abs(float(mask[:, patch].float().mean()) - chance) <= 5 * math.sqrt(chance * (1 - chance) / 4000) + 1e-9
    assert in_lesion * lesion + in_background * (12 - lesion) == pytest.approx(hidden)
    assert lesion or in_lesion == 0
    assert lesion < 12 or in_background == 0


@pytest.mark.parametrize("images", [2, 5, 60])
def test_patch_covariance_is_symmetric_and_positive_definite(images):
    x = torch.rand(images, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    covariance = uncertainty.patch_covariance(x, 8)
    assert covariance.shape == (16, 16) and covariance.dtype == torch.float64
    assert torch.equal(covariance, covariance.T) and torch.linalg.eigvalsh(covariance).min() > 0
    assert torch.equal(covariance, uncertainty.patch_covariance(x.clone(), 8))


def test_patch_covariance_of_many_images_is_the_sample_covariance():
    x = torch.randn(4000, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    # the upper patches go together
    x[:, :, :2] += torch.randn(4000, 1, 1, 1, generator=torch.Generator().manual_seed(2))
    found = uncertainty.patch_covariance(x, 2).numpy()
    means = np.array(
        [[image[0, r : r + 2, c : c + 2].mean() for r in (0, 2) for c in (0, 2)] for image in x.double().numpy()]
    )
    np.testing.assert_allclose(found, np.cov(means.T), atol=0.03)
    assert found[0, 1] > 0.8 and abs(found[0, 2]) < 0.1


def test_patch_covariance_of_one_image_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        uncertainty.patch_covariance(torch.rand(1, 1, 8, 8), 4)


def covariance(length, seed=0):
    a = np.random.default_rng(seed).normal(size=(length, 2 * length))
    return a @ a.T / length


def mutual_information(covariance_ll, hidden_l):
    """The Gaussian mutual information of the hidden and the visible patches of one mask in bits, by numpy."""
    s, hidden_l = np.asarray(covariance_ll, np.float64), np.asarray(hidden_l)
    parts = [np.linalg.slogdet(s[np.ix_(side, side)])[1] for side in (hidden_l, ~hidden_l)]
    return (sum(parts) - np.linalg.slogdet(s)[1]) / 2 / np.log(2)


def test_mutual_information_of_two_variables_is_the_closed_form():
    for correlation in (0.0, 0.3, -0.9):
        s = torch.tensor([[4.0, 2 * 3 * correlation], [2 * 3 * correlation, 9.0]], dtype=torch.float64)
        found = uncertainty.information_curve(s, torch.tensor([[0, 1]]))
        assert found[0].tolist() == pytest.approx([0, -0.5 * math.log2(1 - correlation**2), 0], abs=1e-9)


def test_mutual_information_survives_the_float32_of_a_checkpoint(phantoms):
    """A checkpoint stores the covariance of hundreds of patches from few images in float32."""
    s = uncertainty.patch_covariance(phantoms.stored_nchw.float() / 255, 16)
    order = masking.random_order(1, 256, torch.Generator().manual_seed(0))
    exact = uncertainty.information_curve(s, order)
    assert (exact[:, 1:-1] > 0).all()
    torch.testing.assert_close(uncertainty.information_curve(s.float(), order), exact, rtol=1e-3, atol=1e-3)


# --- H1, H2, H3


def entropy_given_count(length, lesion, hidden):
    """H2 from its definition: every mask listed, their probabilities summed by what is known of them."""
    masks = list(combinations(range(length), hidden))
    groups = {}
    for mask in masks:
        groups.setdefault(sum(patch < lesion for patch in mask), []).append(mask)
    return sum(len(group) / len(masks) * math.log2(len(group)) for group in groups.values())


@pytest.mark.parametrize("length", [1, 4, 7])
def test_h2_is_the_entropy_of_a_mask_once_the_clusters_counts_are_known(length):
    for hidden in range(length + 1):
        for lesion in range(length + 1):
            assert uncertainty.classified_bits(length, lesion, hidden) == pytest.approx(
                entropy_given_count(length, lesion, hidden), abs=1e-9
            )


def test_h2_lacks_the_entropy_of_the_count():
    count = hypergeom(64, 12, 40)
    chances = count.pmf(np.arange(13))
    lacking = -(chances[chances > 0] * np.log2(chances[chances > 0])).sum()
    assert uncertainty.random_bits(64, 40) - uncertainty.classified_bits(64, 12, 40) == pytest.approx(lacking, abs=1e-9)


def test_h2_is_what_real_random_masks_leave_open():
    """Monte Carlo: masks as training draws them, each with the number of masks that hide as many of the cluster."""
    hidden = masking.cut(masking.random_order(4000, 64, torch.Generator().manual_seed(0)), 0.5)
    ways = [math.log2(math.comb(10, k) * math.comb(54, 32 - k)) for k in hidden[:, :10].sum(dim=1).tolist()]
    assert uncertainty.classified_bits(64, 10, 32) == pytest.approx(np.mean(ways), abs=5 * np.std(ways) / 4000**0.5)


def test_the_order_of_the_paper_holds_but_for_small_clusters_when_much_is_hidden():
    length, broken = 64, []
    for lesion in range(length // 2 + 1):
        for hidden in range(length + 1):
            h1, counts = uncertainty.random_bits(length, hidden), (length, lesion, hidden)
            h2, h3 = uncertainty.classified_bits(*counts), uncertainty.lesion_first_bits(*counts)
            assert h3 <= h1 + 1e-9 and h2 <= h1 + 1e-9
            assert lesion or h1 == pytest.approx(h2) == pytest.approx(h3)  # no cluster: nothing is known
            assert hidden > lesion or h3 <= h2 + 1e-9
            broken += [(lesion, hidden)] * (h3 > h2 + 1e-9)
    assert (1, 63) in broken  # by hand: log2 63 against 63/64 log2 63
    assert all(2 * hidden > length for _, hidden in broken)


@pytest.mark.parametrize("lesion, hidden", [(9, 4), (2, 9), (2, -1), (-1, 4)])
def test_h2_of_impossible_counts_is_refused(lesion, hidden):
    with pytest.raises(ValueError):
        uncertainty.classified_bits(8, lesion, hidden)


def test_a_course_is_each_image_at_each_epoch():
    calls = []

    def bits(lesion, hidden):
        calls.append((lesion, hidden))
        return uncertainty.lesion_first_bits(20, lesion, hidden)

    sizes, counts = torch.tensor([3, 0, 7, 3]), torch.tensor([5, 5, 12])
    found = uncertainty.course(bits, sizes, counts)
    assert found.shape == (4, 3) and found.dtype == torch.float64
    assert found.tolist() == [[uncertainty.lesion_first_bits(20, a, n) for n in (5, 5, 12)] for a in (3, 0, 7, 3)]
    assert len(calls) == 3 * 2  # once for each pair


# --- mutual information of a whole order


@pytest.mark.parametrize("length", [1, 2, 12])
def test_an_orders_course_is_the_mutual_information_of_each_of_its_masks(length):
    s = torch.tensor(covariance(length))
    orders = masking.random_order(6, length, torch.Generator().manual_seed(0))
    found = uncertainty.information_curve(s, orders)
    assert found.shape == (6, length + 1)
    for hidden in range(length + 1):
        masks = masking.hide_first(orders, hidden)
        assert found[:, hidden].tolist() == pytest.approx([mutual_information(s, mask) for mask in masks], abs=1e-9)
    # who is hidden does not matter
    torch.testing.assert_close(uncertainty.information_curve(s, orders.flip(1)), found.flip(1))
    assert torch.equal(uncertainty.information_curve(s.clone(), orders), found)


def test_an_orders_course_is_that_of_canonical_correlations():
    """Independent formula: -1/2 sum log2(1 - r^2) over the canonical correlations of hidden and visible."""
    s, order = covariance(9, seed=3), [4, 0, 8, 2, 6, 1, 7, 3, 5]
    found = uncertainty.information_curve(torch.tensor(s), torch.tensor([order]))[0]
    for n in range(1, 9):
        hidden, visible = order[:n], order[n:]
        halves = [np.linalg.inv(sqrtm(s[np.ix_(side, side)]).real) for side in (hidden, visible)]
        r = np.linalg.svd(halves[0] @ s[np.ix_(hidden, visible)] @ halves[1], compute_uv=False)
        assert float(found[n]) == pytest.approx(-0.5 * np.log2(1 - r**2).sum(), abs=1e-7)


def test_independent_patches_share_nothing_and_a_scattered_mask_shares_more_than_a_block():
    assert (
        uncertainty.information_curve(torch.diag(torch.tensor([1.0, 4.0, 9.0, 0.5])), torch.arange(4)[None]).abs().max()
        < 1e-9
    )
    place = torch.arange(16.0, dtype=torch.float64)
    chain = 0.8 ** (place[:, None] - place[None]).abs()  # neighbours are alike; a Markov chain
    scattered = torch.cat([torch.arange(0, 16, 2), torch.arange(1, 16, 2)])
    block, apart = uncertainty.information_curve(chain, torch.stack([torch.arange(16), scattered]))
    assert float(block[8]) == pytest.approx(-0.5 * math.log2(1 - 0.8**2))  # only the one border tells
    assert float(apart[8]) > 5 * float(block[8])
