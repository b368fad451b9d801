"""The paper's selector (2.1), which ranks patches by a covariance matrix after a softmax; its two readings share this
module.

Axes: B batch, C channels, H x W pixels, L patches (row-major), D values of a patch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mpsams import transforms
from mpsams.patches import patchify
from mpsams.selectors._two_means import Clusters, two_means

NORMALISATIONS = ("standardised", "raw")
SIMILARITIES = ("inner-product", "cosine", "distance")


def to_patches(x_bchw: Tensor, patch: int, normalise: str, temperature: float) -> Tensor:
    """Cut images into patches, (B, L, D), after checking the parameters; ValueError names the value and what is
    allowed.

    normalise: "standardised" sets each image to mean 0, deviation 1 first; "raw" takes it as it is.
    """
    if normalise not in NORMALISATIONS:
        raise ValueError(f"unknown normalisation {normalise!r}; available: {', '.join(NORMALISATIONS)}")
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be positive")
    x = x_bchw.float()
    return patchify(transforms.standardise(x) if normalise == "standardised" else x, patch)


def similarities(patches_bld: Tensor, kind: str = "inner-product") -> Tensor:
    """Return the similarity of each pair of patches: (B, L, D) -> (B, L, L), larger = more alike.

    "inner-product" is divided by sqrt(D); "cosine" is that of the angle between the patches, in [-1, 1], and 0 for a
    patch that is zero; "distance" is minus the root mean square of the difference. ValueError for another kind.
    """
    if kind == "cosine":
        unit_bld = F.normalize(patches_bld, dim=2)
        return unit_bld @ unit_bld.mT
    if kind == "distance":
        return (
            -torch.cdist(patches_bld, patches_bld, compute_mode="donot_use_mm_for_euclid_dist")
            / patches_bld.shape[2] ** 0.5
        )
    if kind == "inner-product":
        return patches_bld @ patches_bld.mT / patches_bld.shape[2] ** 0.5
    raise ValueError(f"unknown similarity {kind!r}; available: {', '.join(SIMILARITIES)}")


def covariance(rows_bln: Tensor) -> Tensor:
    """Return the covariance between rows, each row a variable observed n times: (B, L, n) -> (B, L, L)."""
    centred = rows_bln - rows_bln.mean(dim=2, keepdim=True)
    return centred @ centred.mT / max(rows_bln.shape[2] - 1, 1)


def split_rows(x_bchw: Tensor, patch: int, rows_bll: Tensor) -> Clusters:
    """Cluster the rows of a matrix between patches; the smaller cluster is lesion.

    The initial centres are the rows of the patch of highest and of the patch of lowest mean intensity (first such patch
    on ties); of two clusters of equal size, lesion is the one that began at the brightest patch.
    """
    brightness_bl = patchify(x_bchw.float(), patch).mean(dim=2)
    bright_bl = two_means(rows_bll, brightness_bl.argmax(dim=1), brightness_bl.argmin(dim=1))
    size_b1 = bright_bl.sum(dim=1, keepdim=True)
    return Clusters(torch.where(2 * size_b1 <= rows_bll.shape[1], bright_bl, ~bright_bl), rows_bll)
