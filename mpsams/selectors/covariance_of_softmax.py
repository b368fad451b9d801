"""The paper's "covariance matrix after a softmax" (2.1), read as the covariance of softmax rows.

Axes: B batch, C channels, H x W pixels, L patches (row-major), D values of a patch.
"""

from __future__ import annotations

from torch import Tensor

from mpsams.selectors._covariance import covariance, split_rows, to_patches
from mpsams.selectors._two_means import Clusters


def relation(x_bchw: Tensor, patch: int, normalise: str = "standardised", temperature: float = 1.0) -> Tensor:
    """The matrix whose rows are clustered: (B, C, H, W) -> (B, L, L), finite.

    Inner products of patches divided by sqrt(D) * temperature, a softmax over each row, then the covariance of those rows.
    """
    patches_bld = to_patches(x_bchw, patch, normalise, temperature)
    similarity_bll = patches_bld @ patches_bld.mT / (patches_bld.shape[2] ** 0.5 * temperature)
    return covariance(similarity_bll.softmax(dim=2))


def split(x_bchw: Tensor, patch: int, normalise: str = "standardised", temperature: float = 1.0) -> Clusters:
    """Cluster the rows of ``relation`` in two; the smaller cluster is lesion."""
    return split_rows(x_bchw, patch, relation(x_bchw, patch, normalise, temperature))
