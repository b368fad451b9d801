"""Two clusters of an image's patches by 2-means, batched.

Axes: B batch, L patches (row-major), n values of a patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

ITERATIONS = 25


@dataclass(frozen=True)
class Clusters:
    """Two clusters of patches per image.

    lesion_bl: bool (B, L), True = in the lesion cluster.
    rows_bln: the values that were clustered: the rows of a covariance matrix (n = L), or one number per patch (n = 1).
    """

    lesion_bl: Tensor
    rows_bln: Tensor

    @cached_property
    def to_lesion_bl(self) -> Tensor:
        """Euclidean distance of each row to the lesion cluster's centre; infinite when the cluster is empty."""
        return _distance(self.rows_bln, self.lesion_bl)

    @cached_property
    def to_background_bl(self) -> Tensor:
        """Euclidean distance of each row to the background cluster's centre; infinite when it is empty."""
        return _distance(self.rows_bln, ~self.lesion_bl)

    @cached_property
    def score_bl(self) -> Tensor:
        """(B, L) float: distance to the background centre less that to the lesion centre; 0 if a cluster is empty.

        For one number per patch the distances are squared, so that the score keeps growing beyond the centres.
        """
        power = 2 if self.rows_bln.shape[2] == 1 else 1
        gap = self.to_background_bl**power - self.to_lesion_bl**power
        return torch.where(gap.isfinite(), gap, 0.0)


def two_means(rows_bln: Tensor, first_b: Tensor, second_b: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Run Lloyd's algorithm with k = 2 from two given rows: (B, L, n) -> bool (B, L), True = first cluster.

    first_b, second_b: int64 (B,), indices of the rows that start as centres. Runs until no label in
    the batch changes, or ``iterations`` times; the labels then fit the last centres. A row as near to
    one centre as to the other goes to the first; a cluster that loses all its rows keeps its centre.
    Equal to scikit-learn's KMeans from the same centres.
    """
    batch = torch.arange(len(rows_bln), device=rows_bln.device)
    rows = rows_bln / rows_bln.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-30)
    first_bn, second_bn = rows[batch, first_b], rows[batch, second_b]
    total_bn = rows.sum(dim=1)
    labels = None
    for _ in range(iterations):
        nearer_first = _nearer(rows, first_bn, second_bn)
        if labels is not None and torch.equal(nearer_first, labels):
            break
        labels = nearer_first
        weight_bl = labels.to(rows.dtype)
        count_b1 = weight_bl.sum(dim=1, keepdim=True)
        sum_bn = torch.bmm(weight_bl.unsqueeze(1), rows).squeeze(1)
        rest_b1 = rows.shape[1] - count_b1
        first_bn = torch.where(count_b1 > 0, sum_bn / count_b1.clamp(min=1), first_bn)
        second_bn = torch.where(rest_b1 > 0, (total_bn - sum_bn) / rest_b1.clamp(min=1), second_bn)
    else:
        labels = _nearer(rows, first_bn, second_bn)
    return labels


def _nearer(rows_bln: Tensor, first_bn: Tensor, second_bn: Tensor) -> Tensor:
    """Return True for rows at most as far from the first centre as from the second: bool (B, L)."""
    axis_bn = second_bn - first_bn
    middle_b = (axis_bn * (first_bn + second_bn)).sum(dim=1) / 2
    along_bl = torch.bmm(axis_bn.unsqueeze(1), rows_bln.mT).squeeze(1)  # bmm is much faster this way round on a CPU
    return along_bl <= middle_b.unsqueeze(1)


def split_numbers(number_bl: Tensor) -> Clusters:
    """Split patches by one finite number each, (B, L); the cluster of the larger numbers is lesion, whatever its size.

    The initial centres are the largest and the smallest number; where all are equal there is one cluster, background.
    """
    rows_bl1 = number_bl.float().unsqueeze(2)
    large_bl = two_means(rows_bl1, number_bl.argmax(dim=1), number_bl.argmin(dim=1))
    return Clusters(large_bl & (number_bl > number_bl.amin(dim=1, keepdim=True)), rows_bl1)


def _distance(rows_bln: Tensor, members_bl: Tensor) -> Tensor:
    """Return the Euclidean distance of every row to the mean of the members; infinite when there are none."""
    weight_bl = members_bl.to(rows_bln.dtype)
    count_b1 = weight_bl.sum(dim=1, keepdim=True)
    centre_b1n = (torch.bmm(weight_bl.unsqueeze(1), rows_bln).squeeze(1) / count_b1.clamp(min=1)).unsqueeze(1)
    distance_bl = (rows_bln - centre_b1n).square().sum(dim=2).sqrt()
    return torch.where(count_b1 > 0, distance_bl, torch.inf)
