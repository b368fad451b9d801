"""Selectors of lesion patches that were tried and stayed out of the method: each a number per patch, larger for
likelier lesion.

Axes: B batch, H x W pixels, I x J cells, R rows of patches, K values a patch is known by, L patches (row-major).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mpsams import clusters, inference, masking, patches, transforms
from mpsams.app.learn import lesson
from mpsams.inference import Network
from mpsams.selectors import geodesic
from mpsams.selectors.geodesic import blur

FINE = 4  # cells to a side of a patch

Number = Callable[[Tensor, int], Tensor]  # images (B, 1, H, W) in [0, 1], side of a patch -> (B, L)


def centre(x_b1hw: Tensor, patch: int) -> Tensor:
    """Return nearness to the middle of the image, which does not depend on its content: the mark to beat."""
    rows, columns = patches.grid(*x_b1hw.shape[2:], patch)
    return lesson.centre_proximity(rows * columns).expand(len(x_b1hw), -1)


def dark_blob(x_b1hw: Tensor, patch: int) -> Tensor:
    """Return the darkness of a patch relative to its surroundings: a difference of Gaussians."""
    cells = fine(x_b1hw, patch)
    return per_patch(blur(cells, 9.0) - blur(cells, 3.0))


def border(x_b1hw: Tensor, patch: int) -> Tensor:
    """Return unlikeness to the border of the image: mean distance to the five likest border patches, in mean and
    deviation.
    """
    rows, columns = patches.grid(*x_b1hw.shape[2:], patch)
    values_bld = patches.patchify(x_b1hw, patch)
    known_blk = standardise_scores(torch.stack([values_bld.mean(dim=2), values_bld.std(dim=2)], dim=2))
    edge = torch.ones(rows, columns, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    return torch.cdist(known_blk, known_blk[:, edge.flatten()]).topk(5, largest=False).values.mean(dim=2)


def saliency(x_b1hw: Tensor, patch: int) -> Tensor:
    """Return centre + border unlikeness + dark blob, each z-scored in its image: the sum that the project set
    out from.
    """
    return sum(standardise_scores(part(x_b1hw, patch)) for part in (centre, border, dark_blob))


def edges(x_b1hw: Tensor, patch: int) -> Tensor:
    """Return the edge strength around a patch."""
    return per_patch(blur(slope(fine(transforms.standardise(x_b1hw), patch)), 4.0))


def edges_enclosed(x_b1hw: Tensor, patch: int) -> Tensor:
    """Return the least total change of brightness, up or down, along a path from the border: the geodesic selector
    without its direction.
    """
    rows, columns = patches.grid(*x_b1hw.shape[2:], patch)
    cells = F.adaptive_avg_pool2d(transforms.standardise(x_b1hw), (geodesic.CELLS * rows, geodesic.CELLS * columns))
    up, down = (geodesic.shortest_paths(sign * blur(cells, geodesic.BLUR)) for sign in (-1, 1))
    return blur(F.avg_pool2d(up + down, geodesic.CELLS), geodesic.SMOOTH).flatten(1)


def multi_scale(x_b1hw: Tensor, patch: int) -> Tensor:
    """Cluster means and deviations of patches at three scales by 2-means; lesion is the cluster that keeps away from
    the border.
    """
    cells = fine(transforms.standardise(x_b1hw), patch)
    scales = [per_patch(blur(cells, s)) for s in (2.0, 4.0, 8.0)] + [
        per_patch(blur(slope(cells), s)) for s in (2.0, 4.0)
    ]
    return inner(standardise_scores(torch.stack(scales, dim=2)), x_b1hw, patch)


def network_selectors(network: Network) -> dict[str, Number]:
    """Return selectors by a pretrained network: 2-means on the decoder's features of a patch, and the error of its
    reconstruction when half of the image is hidden.
    """

    @torch.inference_mode()
    def features(x_b1hw: Tensor, patch: int) -> Tensor:
        skips = network.unet.encoder(transforms.standardise(x_b1hw).contiguous(memory_format=torch.channels_last))
        map_bkhw = network.unet.decoder(skips)
        known = F.avg_pool2d(map_bkhw, map_bkhw.shape[-1] * patch // x_b1hw.shape[-1]).flatten(2).mT
        return inner(standardise_scores(known), x_b1hw, patch)

    @torch.inference_mode()
    def difficulty(x_b1hw: Tensor, patch: int) -> Tensor:
        length = len(patches.patchify(x_b1hw[:1], patch)[0])
        half_bl = masking.cut(masking.random_order(len(x_b1hw), length, torch.Generator().manual_seed(0)), 0.5)
        error_b1hw = torch.zeros_like(x_b1hw)
        for hidden_bl in (half_bl, ~half_bl):
            hidden = patches.to_pixels(hidden_bl, patch, *x_b1hw.shape[2:])
            error_b1hw += (
                inference.fill(network.unet, x_b1hw, hidden, patch, network.predicts_normalised_patches) - x_b1hw
            ) ** 2
        return patches.patchify(error_b1hw, patch).mean(dim=2)

    return {"features of the network": features, "difficulty of filling in": difficulty}


def inner(known_blk: Tensor, x_b1hw: Tensor, patch: int) -> Tensor:
    """Cluster patches by 2-means from the middle patch and a corner; return how much nearer each is to the cluster that
    lies further in.
    """
    middle_bl = centre(x_b1hw, patch)
    first = torch.full((len(known_blk),), int(middle_bl[0].argmax()))
    found = clusters.Clusters(clusters.two_means(known_blk, first, torch.zeros_like(first)), known_blk)
    inside, outside = (
        torch.where(side, middle_bl, 0).sum(1) / side.sum(1).clamp(min=1)
        for side in (found.lesion_bl, ~found.lesion_bl)
    )
    return torch.where((inside >= outside)[:, None], found.score_bl, -found.score_bl)


def fine(x_b1hw: Tensor, patch: int) -> Tensor:
    """Return the image at ``FINE`` cells to a side of a patch."""
    rows, columns = patches.grid(*x_b1hw.shape[2:], patch)
    return F.adaptive_avg_pool2d(x_b1hw, (FINE * rows, FINE * columns))


def per_patch(cells_b1ij: Tensor) -> Tensor:
    """Return the means over the fine cells of each patch: (B, L)."""
    return F.avg_pool2d(cells_b1ij, FINE).flatten(1)


def slope(cells_b1ij: Tensor) -> Tensor:
    """Return the steepness of a map, smoothed a little before."""
    down, right = torch.gradient(blur(cells_b1ij, 1.5), dim=(2, 3))
    return (down**2 + right**2).sqrt()


def standardise_scores(known_bl: Tensor) -> Tensor:
    """Bring scores to mean 0 and deviation 1 over the patches of each image: (B, L) or (B, L, K)."""
    mean, deviation = known_bl.mean(dim=1, keepdim=True), known_bl.std(dim=1, keepdim=True)
    return (known_bl - mean) / deviation.clamp(min=1e-6)


UNTRAINED: dict[str, Number] = {
    "distance to the image centre": centre,
    "dark blob": dark_blob,
    "unlike the border": border,
    "centre + border + dark blob": saliency,
    "edges around": edges,
    "edges enclosing": edges_enclosed,
    "2-means, multi-scale": multi_scale,
}
