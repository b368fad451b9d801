"""The paper's "covariance matrix after a softmax" (2.1), read as the softmax of the covariance between patches.

Axes: B batch, C channels, H x W pixels, L patches (row-major), D values of a patch.
"""

from __future__ import annotations

from torch import Tensor

from mpsams.selectors._covariance import covariance, similarities, split_rows, to_patches
from mpsams.selectors._two_means import Clusters


def relation(x_bchw: Tensor, patch: int, normalise: str, temperature: float, similarity: str) -> Tensor:
    """Return the matrix whose rows are clustered: (B, C, H, W) -> (B, L, L), finite.

    Covariance between patches divided by the temperature, then a softmax over each row. similarity: "inner-product" for
    the covariance, "cosine" for the correlation, which is the cosine of centred patches; ValueError for another.
    """
    patches_bld = to_patches(x_bchw, patch, normalise, temperature)
    if similarity == "cosine":
        between_bll = similarities(patches_bld - patches_bld.mean(dim=2, keepdim=True), similarity)
    elif similarity == "inner-product":
        between_bll = covariance(patches_bld)
    else:
        raise ValueError(f"similarity {similarity!r} of softmax-of-covariance must be inner-product or cosine")
    return (between_bll / temperature).softmax(dim=2)


def split(x_bchw: Tensor, patch: int, normalise: str, temperature: float, similarity: str) -> Clusters:
    """Cluster the rows of ``relation`` in two; the smaller cluster is lesion."""
    return split_rows(x_bchw, patch, relation(x_bchw, patch, normalise, temperature, similarity))
