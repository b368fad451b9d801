"""The lesson's numbers against slow versions: similarity, matrices, rounds, places, swaps, guesses, masks as text."""

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from mpsams import clusters, inference, masking, patches
from mpsams.app.learn import lesson

HOW = {"patch": 16, "normalise": "standardised", "temperature": 1.0}


@pytest.fixture(scope="module")
def image(phantoms):
    return phantoms.stored_nchw[:1].float() / 255


def test_similarity_is_the_sum_of_products_over_the_root_of_their_number(image):
    found = lesson.scaled_similarity(image, 16, temperature=2.0)
    pixels = image[0, 0].double().numpy()
    pixels = (pixels - pixels.mean()) / pixels.std()
    cut = [pixels[16 * (k // 16) : 16 * (k // 16) + 16, 16 * (k % 16) : 16 * (k % 16) + 16].ravel() for k in range(256)]
    for a, b in ((0, 0), (3, 250), (17, 18), (255, 128)):
        assert float(found[a, b]) == pytest.approx(
            sum(x * y for x, y in zip(cut[a], cut[b])) / (16 * 2.0), rel=1e-3, abs=1e-3
        )
    raw = lesson.scaled_similarity(image, 16, "raw")
    assert float(raw[5, 9]) == pytest.approx(
        float((image[0, 0, :16, 80:96] * image[0, 0, :16, 144:160]).sum()) / 16, rel=1e-4
    )
    with pytest.raises(ValueError, match="standardised, raw"):
        lesson.scaled_similarity(image, 16, "loud")


@pytest.mark.parametrize("selector", clusters.PAPER_SELECTORS)
def test_stages_end_in_what_is_clustered_and_each_follows_from_the_one_before(image, selector):
    found = lesson.relation_stages(image, selector=selector, **HOW)
    rows = list(found.values())
    assert torch.equal(rows[-1], clusters.relation(image, selector=selector, **HOW)[0])
    if selector == "covariance-of-softmax":
        assert list(found) == ["similarity", "softmax", "covariance"]
        similarity = rows[0].double().numpy()
        softmax = np.exp(similarity) / np.exp(similarity).sum(axis=1, keepdims=True)
        assert np.allclose(rows[1], softmax, atol=1e-5) and np.allclose(rows[2], np.cov(softmax), atol=1e-6)
    else:
        covariance = rows[0].double().numpy()
        softmax = np.exp(covariance - covariance.max(axis=1, keepdims=True))
        assert list(found) == ["covariance", "softmax"]
        assert np.allclose(rows[1], softmax / softmax.sum(axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("selector", clusters.PAPER_SELECTORS)
def test_rounds_are_those_of_scikit_learn_and_end_in_the_clusters(image, selector):
    split = clusters.split(image, selector=selector, **HOW)
    found = lesson.two_means_rounds(image, split.rows_bln, 16)
    assert torch.equal(found[-1], split.lesion_bl) and len(found) > 1
    assert all(not torch.equal(one, other) for one, other in zip(found, found[1:]))
    brightness = patches.patchify(image, 16).mean(dim=2)[0]
    rows = (split.rows_bln[0] / split.rows_bln.abs().max()).double().numpy()
    start = rows[[int(brightness.argmax()), int(brightness.argmin())]]
    nearer_first = ((rows[:, None] - start[None]) ** 2).sum(axis=2).argmin(axis=1) == 0
    first = found[0][0].numpy()
    assert (nearer_first == first).all() or (nearer_first == ~first).all()
    last = KMeans(2, init=start, n_init=1, tol=0, max_iter=100).fit(rows).labels_ == 0
    assert (last == found[-1][0].numpy()).all() or (last == ~found[-1][0].numpy()).all()


def test_swapped_calls_the_other_cluster_lesion_and_hides_it_first(image):
    study = inference.study(image, seed=4)
    found, order = lesson.swap_clusters(study.clusters, 4)
    assert torch.equal(found.lesion_bl, ~study.clusters.lesion_bl) and torch.allclose(
        found.score_bl, -study.clusters.score_bl
    )
    size = int(found.lesion_bl.sum())
    assert size == 256 - study.lesion_size and set(order[0, :size].tolist()) == set(
        torch.nonzero(found.lesion_bl[0])[:, 0].tolist()
    )
    assert torch.equal(order, lesson.swap_clusters(study.clusters, 4)[1]) and not torch.equal(
        order, lesson.swap_clusters(study.clusters, 5)[1]
    )
    assert torch.equal(
        lesson.swap_clusters(found, 4)[1], masking.order(study.clusters.lesion_bl, torch.Generator().manual_seed(4))
    )


def test_places_count_from_one():
    assert lesson.hiding_ranks(torch.tensor([[2, 0, 3, 1]])) == [2, 4, 1, 3]


def test_nearness_is_highest_in_the_middle_and_symmetric():
    found = lesson.centre_proximity(16).reshape(4, 4)
    assert float(found[0, 0]) == pytest.approx(-math.hypot(1.5, 1.5)) and float(found[1, 2]) == pytest.approx(
        -math.hypot(0.5, 0.5)
    )
    assert torch.equal(found, found.flip(0)) and torch.equal(found, found.T)
    with pytest.raises(ValueError, match="15"):
        lesson.centre_proximity(15)


def test_a_patch_and_its_brightness_are_those_of_the_image(image):
    assert torch.equal(lesson.patch_pixels(image, 16, 33), image[0, 0, 32:48, 16:32])
    assert lesson.patch_means(image, 16)[33] == pytest.approx(float(image[0, 0, 32:48, 16:32].mean()), rel=1e-5)


def test_scaled_reaches_both_ends_and_clips_outliers():
    found = lesson.rescale(torch.tensor([2.0, 4.0, 6.0]))
    assert found.tolist() == [0, 0.5, 1] and lesson.rescale(torch.ones(2, 2)).tolist() == [[0, 0], [0, 0]]
    clipped = lesson.rescale(torch.cat([torch.arange(99.0), torch.tensor([1e6])]), 0.05)
    assert float(clipped[98]) == 1 and float(clipped[0]) == 0


def test_off_is_measured_where_patches_are_hidden(image):
    hidden = torch.zeros(1, 256, dtype=torch.bool)
    assert math.isnan(lesson.mean_error(image, image, hidden, 16))
    hidden[0, 0] = True
    picture = image.clone()
    picture[..., :16, :8] += 0.5
    picture[..., 100:, 100:] += 9
    assert lesson.mean_error(picture, image, hidden, 16) == pytest.approx(0.25, rel=1e-5)


def test_best_hits_and_blind():
    score, allowed = torch.tensor([0.1, 0.9, 0.9, 0.5]), torch.tensor([True, False, True, True])
    assert lesson.top_patches(score, allowed, 2) == [2, 3] and lesson.top_patches(score, allowed, 9) == [2, 3, 0]
    truth = torch.tensor([False, True, True, False])
    assert lesson.count_hits([2, 3, 2], truth) == 1 and lesson.count_hits([], truth) == 0
    assert (
        lesson.expected_random_hits(allowed, truth, 2) == pytest.approx(2 / 3)
        and lesson.expected_random_hits(~allowed & False, truth, 3) == 0
    )


def test_a_mask_survives_as_text_and_other_text_is_refused():
    mask = torch.rand(256, generator=torch.Generator().manual_seed(0)) < 0.3
    text = lesson.pack_mask(mask)
    assert len(text) == 64 and torch.equal(lesson.unpack_mask(text, 256)[0], mask)
    assert lesson.pack_mask(mask & False) == "" and not lesson.unpack_mask("", 256).any()
    one = torch.arange(256) == 0
    assert lesson.pack_mask(one) == "8" + "0" * 63 and torch.equal(lesson.unpack_mask("8" + "0" * 63, 256)[0], one)
    for hostile in ("8", "g" * 64, "0" * 65, "0x" + "0" * 62, "+" + "0" * 63, "F" * 64, "é" * 64, "0" * 63 + "\n"):
        with pytest.raises(ValueError, match="64 digits"):
            lesson.unpack_mask(hostile, 256)
