"""The geodesic selector: patches are lesion when every path from the image's border to them goes far down in
brightness.

A lesion is often darker than all that surrounds it, and the body is surrounded by air, whose edge every path crosses.
So each patch gets the least total decrease in brightness along a path from the border (a geodesic distance). The
constants were chosen with the truth of BUSI, OpenKBP and TCGA-LGG (``docs/results/selectors.md``); using the selector
needs none.

Axes: B batch, C channels, H x W pixels, I x J cells (two to a side of a patch), L patches (row-major).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mpsams import transforms
from mpsams.patches import grid
from mpsams.selectors._two_means import Clusters, split_numbers

CELLS = 2  # to a side of a patch
STEP = 0.02  # cost of a step to the next cell where brightness does not change, in deviations of the image
BLUR, SMOOTH = 0.75, 0.7  # deviations of the smoothing of the image, in cells, and of the result, in patches
NEIGHBOURS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right)


def split(x_bchw: Tensor, patch: int, *ignored: str | float) -> Clusters:
    """Cluster patches by ``distance``; the farther cluster is lesion, of any size. ignored: for other selectors."""
    return split_numbers(distance(x_bchw, patch))


def distance(x_bchw: Tensor, patch: int = 16) -> Tensor:
    """Return the geodesic distance of each patch from the image's border: (B, C, H, W) -> float (B, L), at least 0.

    In standard deviations of the image. A path costs its decrease in brightness, and ``STEP`` for every cell; an
    increase costs nothing. The distance with such costs is the geodesic saliency of Wei et al. (Geodesic Saliency Using
    Background Priors, ECCV 2012), which counts differences in both directions. Channels are averaged. ValueError unless
    ``patch`` divides the sides.
    """
    rows, columns = grid(*x_bchw.shape[2:], patch)  # type: ignore[call-arg]
    return blur(F.avg_pool2d(distance_map(x_bchw, CELLS * rows, CELLS * columns), CELLS), SMOOTH).flatten(1)


def distance_map(x_bchw: Tensor, rows: int, columns: int) -> Tensor:
    """Return the geodesic distance of each cell from the border: (B, C, H, W) -> float (B, 1, rows, columns)."""
    bright_b1hw = transforms.standardise(x_bchw.float()).mean(dim=1, keepdim=True)
    return shortest_paths(blur(F.adaptive_avg_pool2d(bright_b1hw, (rows, columns)), BLUR))


def shortest_paths(height_b1ij: Tensor) -> Tensor:
    """Return the least total decrease along a path from the border of a map to each of its cells: (B, 1, I, J) -> (B,
    1, I, J).

    Paths go to the eight neighbours and cost ``STEP`` times their length besides; cells of the border cost nothing. All
    cells are relaxed at once until none changes (Bellman and Ford).
    """
    rows, columns = height_b1ij.shape[2:]
    around = F.pad(height_b1ij, (1, 1, 1, 1), mode="replicate")
    costs = [
        (shift(around, step, rows, columns) - height_b1ij).clamp(min=0) + STEP * (step[0] ** 2 + step[1] ** 2) ** 0.5
        for step in NEIGHBOURS
    ]
    total = torch.full_like(height_b1ij, torch.inf)
    total[:, :, [0, -1]] = 0
    total[:, :, :, [0, -1]] = 0
    for _ in range(rows * columns):
        before, around = total, F.pad(total, (1, 1, 1, 1), value=torch.inf)
        for step, cost in zip(NEIGHBOURS, costs, strict=True):
            total = torch.minimum(total, shift(around, step, rows, columns) + cost)
        if torch.equal(total, before):
            break
    return total


def shift(around_b1ij: Tensor, step: tuple[int, int], rows: int, columns: int) -> Tensor:
    """Return the value one step further from each cell of a map, given the map with a border of one cell."""
    return around_b1ij[:, :, 1 + step[0] : 1 + step[0] + rows, 1 + step[1] : 1 + step[1] + columns]


def blur(x_b1ij: Tensor, deviation: float) -> Tensor:
    """Smooth with a Gaussian; the border is repeated outwards."""
    reach = round(3 * deviation)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x_b1ij.device) / deviation) ** 2)
    weights = weights / weights.sum()
    around = F.pad(x_b1ij, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(around, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
