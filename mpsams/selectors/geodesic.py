"""How enclosed in brightness a patch is: a selector of lesion patches of our own, beside the paper's readings.

A lesion is often a hollow: wherever one walks in from the border of the image, the way leads down into it. And the body lies
in air, whose edge must be crossed. So each patch gets the number of grey levels that the easiest way there descends in all.
The constants were chosen with the truth of BUSI, OpenKBP and TCGA-LGG (``docs/results/selectors.md``); using it asks for none.

Axes: B batch, C channels, H x W pixels, I x J cells (two to a side of a patch), L patches (row-major).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mpsams import transforms
from mpsams.patches import grid

CELLS = 2  # to a side of a patch
STEP = 0.02  # what a step to the next cell costs even on level ground, in deviations of the image
BLUR, SMOOTH = 0.75, 0.7  # deviations of the smoothing of the image, in cells, and of the result, in patches
NEIGHBOURS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right)


def descent(x_bchw: Tensor, patch: int = 16) -> Tensor:
    """How far down the easiest way from the image's border leads to each patch: (B, C, H, W) -> float (B, L), at least 0.

    In deviations of the image. A way pays for every step down in brightness what it goes down, and ``STEP`` for every cell;
    climbing is free. The distance with such costs is the geodesic saliency of Wei et al. (Geodesic Saliency Using Background
    Priors, ECCV 2012), which takes differences either way. Channels are averaged. ValueError unless ``patch`` divides the sides.
    """
    rows, columns = grid(*x_bchw.shape[2:], patch)
    return blurred(F.avg_pool2d(descent_map(x_bchw, CELLS * rows, CELLS * columns), CELLS), SMOOTH).flatten(1)


def descent_map(x_bchw: Tensor, rows: int, columns: int) -> Tensor:
    """How far down the easiest way from the border leads to each cell: (B, C, H, W) -> float (B, 1, rows, columns), at least 0."""
    bright_b1hw = transforms.standardise(x_bchw.float()).mean(dim=1, keepdim=True)
    return easiest_way(blurred(F.adaptive_avg_pool2d(bright_b1hw, (rows, columns)), BLUR))


def easiest_way(height_b1ij: Tensor) -> Tensor:
    """The least that a walk from the border of a map to each of its cells descends in all: (B, 1, I, J) -> (B, 1, I, J).

    Steps go to the eight neighbours and pay ``STEP`` for their length besides; the border pays nothing. By relaxing all cells
    at once until none changes (Bellman and Ford).
    """
    rows, columns = height_b1ij.shape[2:]
    around = F.pad(height_b1ij, (1, 1, 1, 1), mode="replicate")
    costs = [
        (shifted(around, step, rows, columns) - height_b1ij).clamp(min=0) + STEP * (step[0] ** 2 + step[1] ** 2) ** 0.5
        for step in NEIGHBOURS
    ]
    way = torch.full_like(height_b1ij, torch.inf)
    way[:, :, [0, -1]] = 0
    way[:, :, :, [0, -1]] = 0
    for _ in range(rows * columns):
        before, around = way, F.pad(way, (1, 1, 1, 1), value=torch.inf)
        for step, cost in zip(NEIGHBOURS, costs, strict=True):
            way = torch.minimum(way, shifted(around, step, rows, columns) + cost)
        if torch.equal(way, before):
            break
    return way


def shifted(around_b1ij: Tensor, step: tuple[int, int], rows: int, columns: int) -> Tensor:
    """What lies one step further at each cell of a map, given the map with a border of one cell."""
    return around_b1ij[:, :, 1 + step[0] : 1 + step[0] + rows, 1 + step[1] : 1 + step[1] + columns]


def blurred(x_b1ij: Tensor, deviation: float) -> Tensor:
    """Smoothed by a Gaussian, the border repeated outwards."""
    reach = round(3 * deviation)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x_b1ij.device) / deviation) ** 2)
    weights = weights / weights.sum()
    around = F.pad(x_b1ij, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(around, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
