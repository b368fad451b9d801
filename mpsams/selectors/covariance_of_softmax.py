"""The paper's "covariance matrix after a softmax" (2.1), read as the covariance of softmax rows.

Axes: B batch, C channels, H x W pixels, L patches (row-major), D values of a patch.
"""

from __future__ import annotations

from torch import Tensor

from mpsams.selectors._covariance import covariance, similarities, split_rows, to_patches
from mpsams.selectors._two_means import Clusters


def relation(x_bchw: Tensor, patch: int, normalise: str, temperature: float, similarity: str) -> Tensor:
    """Return the matrix whose rows are clustered: (B, C, H, W) -> (B, L, L), finite.

    A softmax over each row of the patches' similarity divided by the temperature, then the covariance of those rows.
    similarity: as in ``similarities``.
    """
    patches_bld = to_patches(x_bchw, patch, normalise, temperature)
    return covariance((similarities(patches_bld, similarity) / temperature).softmax(dim=2))


def split(x_bchw: Tensor, patch: int, normalise: str, temperature: float, similarity: str) -> Clusters:
    """Cluster the rows of ``relation`` in two; the smaller cluster is lesion."""
    return split_rows(x_bchw, patch, relation(x_bchw, patch, normalise, temperature, similarity))
