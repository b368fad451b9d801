"""The easiest way down against Dijkstra's, on maps where one sees the answer, and what may not matter to it."""

import heapq

import numpy as np
import pytest
import torch

from mpsams import clusters, inference, metrics, patches, transforms
from mpsams.datasets import phantom
from mpsams.selectors import geodesic


def slow_way(height_ij):
    """Dijkstra from the whole border at once."""
    rows, columns = height_ij.shape
    way = np.full((rows, columns), np.inf)
    queue = [(0.0, i, j) for i in range(rows) for j in range(columns) if i in (0, rows - 1) or j in (0, columns - 1)]
    for _, i, j in queue:
        way[i, j] = 0
    heapq.heapify(queue)
    while queue:
        so_far, i, j = heapq.heappop(queue)
        if so_far > way[i, j]:
            continue
        for down, right in geodesic.NEIGHBOURS:
            y, x = i + down, j + right
            if 0 <= y < rows and 0 <= x < columns:
                there = so_far + max(height_ij[i, j] - height_ij[y, x], 0) + geodesic.STEP * np.hypot(down, right)
                if there < way[y, x]:
                    way[y, x] = there
                    heapq.heappush(queue, (there, y, x))
    return way


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (9, 9), (16, 11)])
def test_the_way_is_dijkstras(shape):
    height = torch.randn(3, 1, *shape, generator=torch.Generator().manual_seed(2))
    found = geodesic.shortest_paths(height)
    for each, map_b in zip(found, height):
        np.testing.assert_allclose(each[0], slow_way(map_b[0].double().numpy()), atol=1e-5)


def test_a_maze_is_walked_to_its_end():
    """A way that winds through the whole map, where every short cut falls deep."""
    height = torch.full((1, 1, 9, 9), -5.0)
    height[..., 0, 1] = 0
    for row in range(1, 8):
        height[..., row, 1:8] = 0 if row % 2 else -5.0
        if row % 2 == 0:
            height[..., row, 7 if row % 4 == 2 else 1] = 0
    np.testing.assert_allclose(
        geodesic.shortest_paths(height)[0, 0], slow_way(height[0, 0].double().numpy()), atol=1e-5
    )


def test_only_going_down_costs():
    size = 2 * geodesic.CELLS * 8
    flat, hollow, hill = (torch.zeros(1, 1, size, size) for _ in range(3))
    hollow[..., 12:20, 12:20], hill[..., 12:20, 12:20] = -1, 1
    level, below, above = (geodesic.shortest_paths(height)[0, 0, 16, 16].item() for height in (flat, hollow, hill))
    assert below == pytest.approx(level + 1) and above == pytest.approx(level)


def test_brightness_and_contrast_do_not_matter():
    x = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(geodesic.distance(x, 8), geodesic.distance(0.3 * x + 0.5, 8), atol=2e-4, rtol=1e-3)


def test_a_mirrored_image_has_mirrored_ways():
    x = torch.rand(2, 1, 48, 64, generator=torch.Generator().manual_seed(0))
    there, back = geodesic.distance(x, 8).view(2, 6, 8), geodesic.distance(x.flip(3), 8).view(2, 6, 8)
    torch.testing.assert_close(there, back.flip(2), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("side", "patch"), [(32, 1), (36, 3), (48, 16), (64, 64)])
def test_any_patch_that_divides_the_image(side, patch):
    found = geodesic.distance(torch.rand(2, 1, side, side), patch)
    assert found.shape == (2, (side // patch) ** 2) and found.isfinite().all() and (found >= 0).all()


def test_a_patch_that_does_not_divide_the_image_is_refused():
    with pytest.raises(ValueError, match="patch side 5 .* 32"):
        geodesic.distance(torch.rand(1, 1, 32, 32), 5)


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_constant_image_is_all_background(value):
    found = clusters.split(torch.full((2, 1, 64, 64), value), 64, "geodesic")
    assert not found.lesion_bl.any()
    many = clusters.split(torch.full((2, 1, 64, 64), value), 8, "geodesic")
    assert many.score_bl.isfinite().all()


def test_channels_are_averaged():
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(geodesic.distance(x.expand(1, 3, 32, 32), 8), geodesic.distance(x, 8))


@pytest.mark.parametrize("built_in", phantom.samples(), ids=lambda sample: sample.title)
def test_it_finds_the_lesions_of_phantoms(built_in):
    """Better than a coin, and its cluster is richer in lesion than the image, where there is a lesion to find."""
    sample = built_in.draw()
    image_11hw = inference.to_grid(
        transforms.to_unit(sample.image, transforms.window(sample.image, built_in.modality)), 256
    )
    mask_11hw = transforms.resize_mask(sample.mask, 256, 256)
    lesion_l = patches.is_lesion(mask_11hw, 16)[0]
    found = clusters.split(image_11hw, 16, "geodesic")
    if lesion_l.any():
        assert metrics.auc(found.score_bl[0], lesion_l) > 0.7
        assert metrics.lift(found.lesion_bl, lesion_l[None]) > 1.3
