"""The relation matrix against numpy, 2-means against scikit-learn, and every degenerate image."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from mpsams import clusters
from mpsams.selectors import geodesic

BOTH = pytest.mark.parametrize("selector", clusters.PAPER_SELECTORS)
EACH = pytest.mark.parametrize("normalise", clusters.NORMALISATIONS)


def noise(batch=6, side=64, seed=0):
    return torch.rand(batch, 1, side, side, generator=torch.Generator().manual_seed(seed))


def slow_patches(image_hw, patch):
    rows, columns = (side // patch for side in image_hw.shape)
    return np.stack(
        [
            image_hw[r * patch : (r + 1) * patch, c * patch : (c + 1) * patch].ravel()
            for r in range(rows)
            for c in range(columns)
        ]
    )


def slow_softmax(rows):
    return np.stack([np.exp(row - row.max()) / np.exp(row - row.max()).sum() for row in rows])


def slow_similarity(p, kind):
    """Of each pair of patches."""
    if kind == "cosine":
        return np.array([[a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for b in p] for a in p])
    if kind == "distance":
        return np.array([[-np.sqrt(((a - b) ** 2).mean()) for b in p] for a in p])
    return np.array([[a @ b for b in p] for a in p]) / np.sqrt(p.shape[1])


def slow_relation(image_hw, patch, selector, normalise="standardised", temperature=1.0, kind="inner-product"):
    image = image_hw.astype(np.float64)
    if normalise == "standardised":
        image = (image - image.mean()) / image.std()
    p = slow_patches(image, patch)
    if selector == "covariance-of-softmax":
        return np.cov(slow_softmax(slow_similarity(p, kind) / temperature))
    return slow_softmax((np.corrcoef(p) if kind == "cosine" else np.cov(p)) / temperature)


@BOTH
@EACH
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("similarity", clusters.SIMILARITIES)
def test_relation_is_numpys(selector, normalise, temperature, similarity):
    if (selector, similarity) == ("softmax-of-covariance", "distance"):
        with pytest.raises(ValueError, match="'distance'.*inner-product or cosine"):
            clusters.relation(noise(1), 8, selector, normalise, temperature, similarity)
        return
    x = noise(3, 48)
    found = clusters.relation(x, 8, selector, normalise, temperature, similarity)
    assert found.shape == (3, 36, 36)
    for image, matrix in zip(x, found):
        expected = slow_relation(image[0].numpy(), 8, selector, normalise, temperature, similarity)
        np.testing.assert_allclose(matrix, expected, rtol=2e-3, atol=1e-5 * np.abs(expected).max())


def test_relation_takes_any_shape_and_several_channels():
    x = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(5))
    found = clusters.relation(x, 8, "softmax-of-covariance")
    for image, matrix in zip(x.double().numpy(), found):
        image = (image - image.mean()) / image.std()
        p = np.concatenate([slow_patches(channel, 8) for channel in image], axis=1)
        np.testing.assert_allclose(matrix, slow_softmax(np.cov(p)), rtol=1e-3)


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("selector", "cosine", "'cosine'.*covariance-of-softmax, geodesic, softmax-of-covariance"),
        ("normalise", "no", "'no'.*standardised, raw"),
        ("similarity", "dot", "'dot'.*inner-product, cosine, distance"),
        ("temperature", 0.0, "temperature 0.0"),
        ("temperature", float("nan"), "temperature nan"),
        ("patch", 7, "patch side 7"),
    ],
)
def test_refusals_name_the_value(option, value, message):
    with pytest.raises(ValueError, match=message):
        clusters.split(noise(1), **{option: value})


def scikit(rows, first, second):
    """Bool (L,): True = the first cluster, by scikit-learn from the same two rows."""
    rows = rows.astype(np.float64) / max(np.abs(rows).max(), 1e-300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        means = KMeans(2, init=rows[[first, second]], n_init=1, algorithm="lloyd", tol=0, max_iter=25)
        return means.fit(rows).labels_ == 0


@BOTH
@EACH
def test_two_means_is_scikit_learns_on_phantoms_and_noise(phantoms, selector, normalise):
    agree = []
    for x, patch in ((phantoms.stored_nchw.float() / 255, 16), (noise(6, 128, 1), 8), (noise(6, 64, 2) ** 3, 16)):
        rows = clusters.relation(x, patch, selector, normalise)
        brightness = x.unfold(2, patch, patch).unfold(3, patch, patch).mean((1, 4, 5)).flatten(1)
        first, second = brightness.argmax(1), brightness.argmin(1)
        found = clusters.two_means(rows, first, second)
        for own, label, a, b in zip(rows.numpy(), found.numpy(), first, second):
            agree.append(label == scikit(own, int(a), int(b)))
    assert np.mean(np.concatenate(agree)) >= 0.9995


@BOTH
def test_lesion_patches_are_the_slow_pipelines(phantoms, selector):
    """From pixels to clusters in float64 numpy and scikit-learn, nothing shared with the fast path."""
    images = phantoms.stored_nchw[::2].float() / 255
    found = clusters.lesion_patches(images, 16, selector)
    agree = []
    for image, lesion in zip(images[:, 0].double().numpy(), found.numpy()):
        brightness = slow_patches(image, 16).mean(1)
        bright = scikit(slow_relation(image, 16, selector), brightness.argmax(), brightness.argmin())
        agree.append((bright if 2 * bright.sum() <= len(bright) else ~bright) == lesion)
    assert np.mean(np.concatenate(agree)) >= 0.995


def test_two_means_separates_two_clouds_and_scale_does_not_matter():
    source = np.random.default_rng(0)
    rows = np.concatenate([source.normal(0, 1, (30, 5)), source.normal(9, 1, (20, 5))])[None]
    for scale in (1e-12, 1.0, 1e9):
        found = clusters.two_means(
            torch.tensor(rows * scale, dtype=torch.float32), torch.tensor([3]), torch.tensor([42])
        )
        assert found[0].tolist() == [True] * 30 + [False] * 20


def test_a_row_between_two_centres_goes_to_the_first():
    rows = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [1.0, 5.0]]])
    assert clusters.two_means(rows, torch.tensor([0]), torch.tensor([1]), 0).tolist() == [[True, False, True]]
    assert clusters.two_means(rows, torch.tensor([1]), torch.tensor([0]), 0).tolist() == [[False, True, True]]


@BOTH
def test_distances_and_score_are_numpys(selector):
    x = noise(4, 64, 3)
    found = clusters.split(x, 16, selector)
    rows = clusters.relation(x, 16, selector).double().numpy()
    for b, lesion in enumerate(found.lesion_bl.numpy()):
        assert 0 < lesion.sum() <= len(lesion) / 2
        near = np.linalg.norm(rows[b] - rows[b][lesion].mean(0), axis=1)
        far = np.linalg.norm(rows[b] - rows[b][~lesion].mean(0), axis=1)
        np.testing.assert_allclose(found.to_lesion_bl[b], near, rtol=1e-3)
        np.testing.assert_allclose(found.to_background_bl[b], far, rtol=1e-3)
        np.testing.assert_allclose(found.score_bl[b], far - near, atol=1e-3 * far.max())


@BOTH
@EACH
@pytest.mark.parametrize("side, patch", [(256, 16), (64, 16), (80, 8)])
def test_a_constant_image_is_all_background(selector, normalise, side, patch):
    values = torch.tensor([0.0, 0.1, 1 / 3, 0.5, 0.7, 200 / 255, 1.0])
    found = clusters.split(
        values.reshape(-1, 1, 1, 1).expand(-1, 1, side, side).contiguous(), patch, selector, normalise
    )
    assert not found.lesion_bl.any()
    assert found.to_lesion_bl.isinf().all() and found.to_background_bl.isfinite().all()
    assert (found.score_bl == 0).all()


@BOTH
@EACH
@pytest.mark.parametrize("across", [False, True])
def test_of_two_equal_halves_the_bright_one_is_lesion(selector, normalise, across):
    x = torch.full((1, 1, 64, 64), 0.2)
    x[:, :, :32] = 0.9
    texture = 0.05 * torch.rand(16, 16, generator=torch.Generator().manual_seed(0)).repeat(4, 4)
    x = x + texture * (x > 0.5)  # a covariance between patches needs texture inside them
    expected = [True] * 8 + [False] * 8
    if across:
        x, expected = x.mT.contiguous(), ([True] * 2 + [False] * 2) * 4
    assert clusters.lesion_patches(x, 16, selector, normalise)[0].tolist() == expected


@EACH
@pytest.mark.parametrize("base, odd", [(0.2, 1.0), (0.7, 0.0)])
@pytest.mark.parametrize("where", [0, 5, 15])
def test_one_odd_patch_is_the_lesion(normalise, base, odd, where):
    x = torch.full((1, 1, 64, 64), base)
    row, column = where // 4 * 16, where % 4 * 16
    x[:, :, row : row + 16, column : column + 16] = odd
    found = clusters.lesion_patches(x, 16, "covariance-of-softmax", normalise, 1.0)
    assert found[0].nonzero().flatten().tolist() == [where]


def hostile():
    """Images at the edge: almost constant, one bright pixel, two values, checkerboard, tiny and huge values."""
    x = torch.zeros(8, 1, 64, 64)
    x[0, 0, 3, 3] = 1.0
    x[1] = 0.5 + 1e-7 * noise(1)[0]
    x[2, 0, ::2, ::2] = 1.0
    x[3] = noise(1)[0] * 1e-20
    x[4] = noise(1)[0] * 1e6
    x[5, 0, :32] = 1.0
    x[6] = torch.linspace(0, 1, 64)
    x[7] = 1.0
    return x


@BOTH
@EACH
def test_never_a_nan_and_the_lesion_is_the_smaller_cluster(selector, normalise):
    x = torch.cat([hostile(), noise(4)])
    assert clusters.relation(x, 16, selector, normalise).isfinite().all()
    found = clusters.split(x, 16, selector, normalise)
    assert (2 * found.lesion_bl.sum(1) <= 16).all()
    assert not (found.to_lesion_bl.isnan() | found.to_background_bl.isnan()).any() and found.score_bl.isfinite().all()


def test_one_patch_and_two_patches():
    one = clusters.split(noise(2, 16), 16)
    assert one.lesion_bl.tolist() == [[False], [False]]
    two = torch.zeros(1, 1, 16, 32)
    two[..., 16:] = noise(1, 16)
    assert clusters.lesion_patches(two, 16).sum() <= 1


@BOTH
def test_a_batch_gives_what_its_images_give_alone(phantoms, selector):
    x = torch.cat([phantoms.stored_nchw[:6].float() / 255, torch.full((1, 1, 256, 256), 0.4)])
    together = clusters.lesion_patches(x, 16, selector)
    alone = torch.cat([clusters.lesion_patches(image[None], 16, selector) for image in x])
    assert torch.equal(together, alone)


@BOTH
def test_the_same_image_gives_the_same_clusters(phantoms, selector):
    x = phantoms.stored_nchw[:4].float() / 255
    first, second = clusters.split(x, 16, selector), clusters.split(x.clone(), 16, selector)
    assert torch.equal(first.lesion_bl, second.lesion_bl) and torch.equal(first.score_bl, second.score_bl)
    assert torch.equal(
        first.lesion_bl, clusters.lesion_patches(x.contiguous(memory_format=torch.channels_last), 16, selector)
    )


def test_geodesic_is_a_selector_of_its_own():
    x = noise()
    found = clusters.split(x, 8, "geodesic")
    numbers_bl = geodesic.distance(x, 8)
    assert found.rows_bln.shape == (6, 64, 1) and torch.equal(found.rows_bln[:, :, 0], numbers_bl)
    for chosen, numbers in zip(found.lesion_bl, numbers_bl):
        assert numbers[chosen].min() > numbers[~chosen].max()
        centres = np.array([[numbers.max()], [numbers.min()]])
        labels = KMeans(2, init=centres, n_init=1, max_iter=25, tol=0).fit_predict(numbers.numpy()[:, None])
        np.testing.assert_array_equal(chosen, labels == 0)
    with pytest.raises(ValueError, match="no matrix between patches"):
        clusters.relation(x, 8, "geodesic")


def test_the_score_of_numbers_ranks_as_they_do_and_does_not_saturate():
    numbers_bl = torch.rand(4, 50, generator=torch.Generator().manual_seed(1)) ** 3
    found = clusters.split_numbers(numbers_bl)
    assert torch.equal(found.score_bl.argsort(dim=1), numbers_bl.argsort(dim=1))


def test_of_equal_numbers_none_is_lesion():
    found = clusters.split_numbers(torch.full((2, 9), 3.0))
    assert not found.lesion_bl.any() and found.score_bl.abs().max() == 0


def test_the_larger_cluster_of_numbers_may_be_lesion():
    numbers_bl = torch.tensor([[0.0, 1.0, 1.1, 0.9, 1.0]])
    assert clusters.split_numbers(numbers_bl).lesion_bl.tolist() == [[False, True, True, True, True]]
