"""Strokes of the simulated annotator: brush and pen along the middle of the largest wrong region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from train.simulated_users import largest_error

BRUSHES = (3.0, 6.0, 12.0, 24.0)  # radii in pixels, of which the annotator takes the one that mends most
PEN = 2.0  # radius of a scribble in pixels
DEEP = 0.5  # a scribble keeps to where a wrong region is at least so deep, of its greatest depth
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))  # to half of a pixel's neighbours


@dataclass(frozen=True)
class Stroke:
    """One stroke: which pixels, bool (H, W); whether it says lesion; its length in pixels."""

    pixels_hw: np.ndarray
    lesion: bool
    length: int


def middle(region_hw: np.ndarray, least: float) -> tuple[np.ndarray, float]:
    """Return a line along a region's middle between the two ends farthest apart: pixels (n, 2), and the least depth
    along it.

    least: how deep the line must lie, in pixels from the region's edge; less where nothing is so deep.
    """
    depth_hw = ndimage.distance_transform_edt(np.pad(region_hw, 1))[1:-1, 1:-1]
    labels_hw, _ = ndimage.label(depth_hw >= min(least, depth_hw.max()), structure=np.ones((3, 3)))
    deepest = np.unravel_index(depth_hw.argmax(), depth_hw.shape)
    pixels_n2 = np.argwhere(labels_hw == labels_hw[deepest])
    place_hw = np.full(region_hw.shape, -1)
    place_hw[tuple(pixels_n2.T)] = np.arange(len(pixels_n2))
    graph = ways(place_hw, depth_hw)
    first = place_hw[deepest]
    for _ in range(2):  # the farthest from the farthest
        start = first
        distance_n, before_n = dijkstra(graph, directed=False, indices=start, return_predecessors=True)
        first = int(distance_n.argmax())
    line = [first]
    while line[-1] != start:
        line.append(int(before_n[line[-1]]))
    line_n2 = pixels_n2[line]
    return line_n2, float(depth_hw[tuple(line_n2.T)].min())


def ways(place_hw: np.ndarray, depth_hw: np.ndarray) -> coo_array:
    """Return steps between neighbouring pixels of a region, longer where it is less deep.

    place_hw: a pixel's number, -1 outside.
    """
    height, width = place_hw.shape
    rows, columns, costs = [], [], []
    for down, right in STEPS:
        here = slice(0, height - down), slice(max(0, -right), width - max(0, right))
        there = slice(down, height), slice(max(0, right), width - max(0, -right))
        both = (place_hw[here] >= 0) & (place_hw[there] >= 0)
        rows.append(place_hw[here][both])
        columns.append(place_hw[there][both])
        costs.append(np.hypot(down, right) * 2 / (depth_hw[here][both] + depth_hw[there][both]))
    count = int(place_hw.max()) + 1
    return coo_array(
        (np.concatenate(costs), (np.concatenate(rows), np.concatenate(columns))), shape=(count, count)
    ).tocsr()


def draw_stroke(
    line_n2: np.ndarray, radius: float, shape_hw: tuple[int, int], noise: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the pixels that a round pen touches along a line, by a hand that strays slowly: bool (H, W)."""
    strayed_n2 = line_n2.astype(float)
    if noise:
        slow_n2 = ndimage.gaussian_filter1d(rng.normal(size=(len(line_n2), 2)), 5.0, axis=0, mode="reflect")
        strayed_n2 = (
            strayed_n2 + noise * slow_n2 / max(slow_n2.std(), 1e-9)
            if len(line_n2) > 1
            else strayed_n2 + noise * rng.normal(size=2)
        )
    rows, columns = np.clip(strayed_n2.round().astype(int), 0, np.array(shape_hw) - 1).T
    clear_hw = np.ones(shape_hw, bool)
    clear_hw[rows, columns] = False
    return ndimage.distance_transform_edt(clear_hw) <= radius


def brush(
    truth_hw: np.ndarray, mask_hw: np.ndarray, noise: float, rng: np.random.Generator, radii: Sequence[float] = BRUSHES
) -> Stroke | None:
    """Return the next stroke of a brush along the largest wrong region: of the sizes, no larger than fits, the one that
    mends most pixels, less those it spills on. None when all is right.
    """
    found = largest_error(mask_hw, truth_hw)
    if found is None:
        return None
    region_hw, lesion = found
    best, most = None, -np.inf
    for radius in radii:
        line_n2, depth = middle(region_hw, radius + 1)
        pixels_hw = draw_stroke(line_n2, min(radius, max(0.0, np.ceil(depth) - 1)), region_hw.shape, noise, rng)
        right_hw = pixels_hw & (truth_hw == lesion)
        mended = int((right_hw & (mask_hw != lesion)).sum() - (pixels_hw & ~right_hw).sum())
        if mended > most:
            best, most = Stroke(pixels_hw, lesion, len(line_n2)), mended
    return best


def pen(truth_hw: np.ndarray, mask_hw: np.ndarray, noise: float, rng: np.random.Generator) -> Stroke | None:
    """Return the next scribble: thin, along the middle of the largest wrong region. None when all is right."""
    found = largest_error(mask_hw, truth_hw)
    if found is None:
        return None
    region_hw, lesion = found
    deepest = float(ndimage.distance_transform_edt(np.pad(region_hw, 1)).max())
    line_n2, depth = middle(region_hw, DEEP * deepest)
    pixels_hw = draw_stroke(line_n2, min(PEN, max(0.0, np.ceil(depth) - 1)), region_hw.shape, noise, rng)
    return Stroke(pixels_hw, lesion, len(line_n2))
