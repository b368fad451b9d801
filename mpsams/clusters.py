"""Which patches look like lesion: 2-means of what each patch is known by, batched (paper 2.1).

That is a row of the paper's covariance matrix, read in one of two ways, or a number of our own (``descent``).

Axes: B batch, C channels, H x W pixels, L patches (row-major), D values of a patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mpsams import transforms
from mpsams.patches import patchify
from mpsams.selectors.geodesic import descent

READINGS = ("covariance-of-softmax", "softmax-of-covariance")
DESCENT = "descent"
SELECTORS = (*READINGS, DESCENT)
NORMALISATIONS = ("standardised", "raw")
ITERATIONS = 25


@dataclass(frozen=True)
class Clusters:
    """Two clusters of patches per image.

    lesion_bl: bool (B, L), True = in the cluster that is taken for lesion.
    rows_bln: what was clustered: the rows of ``relation`` (n = L), or one number for each patch (n = 1).
    """

    lesion_bl: Tensor
    rows_bln: Tensor

    @property
    def to_lesion_bl(self) -> Tensor:
        """Euclidean distance of each row to the lesion cluster's centre; infinite when the cluster is empty."""
        return _distance(self.rows_bln, self.lesion_bl)

    @property
    def to_background_bl(self) -> Tensor:
        """Euclidean distance of each row to the background cluster's centre; infinite when it is empty."""
        return _distance(self.rows_bln, ~self.lesion_bl)

    @property
    def score_bl(self) -> Tensor:
        """(B, L) float: how much nearer to the lesion centre than to the background's; 0 if a cluster is empty.

        Of single numbers in squares, which go on growing beyond the centres as the numbers do.
        """
        power = 2 if self.rows_bln.shape[2] == 1 else 1
        gap = self.to_background_bl**power - self.to_lesion_bl**power
        return torch.where(gap.isfinite(), gap, 0.0)


def relation(
    x_bchw: Tensor,
    patch: int = 16,
    reading: str = "covariance-of-softmax",
    normalise: str = "standardised",
    temperature: float = 1.0,
) -> Tensor:
    """The L x L matrix per image whose rows are clustered: (B, C, H, W) -> (B, L, L), finite.

    The paper says "a covariance matrix after a softmax layer according to the degree of similarity
    between different patches" (2.1), which can be read two ways; S is the matrix of inner products of
    patches divided by sqrt(D) * temperature:
    "covariance-of-softmax": row softmax of S, then the covariance of those rows;
    "softmax-of-covariance": covariance between patches, divided by the temperature, then row softmax.
    normalise: "standardised" sets each image to mean 0, deviation 1 first; "raw" takes it as it is.
    ValueError names the value and what is allowed.
    """
    if reading not in READINGS:
        raise ValueError(f"unknown reading {reading!r}; available: {', '.join(READINGS)}, and {DESCENT}, which relates no patches")
    if normalise not in NORMALISATIONS:
        raise ValueError(f"unknown normalisation {normalise!r}; available: {', '.join(NORMALISATIONS)}")
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be positive")
    x = x_bchw.float()
    patches_bld = patchify(transforms.standardise(x) if normalise == "standardised" else x, patch)
    if reading == "covariance-of-softmax":
        similarity_bll = patches_bld @ patches_bld.mT / (patches_bld.shape[2] ** 0.5 * temperature)
        return _covariance(similarity_bll.softmax(dim=2))
    return (_covariance(patches_bld) / temperature).softmax(dim=2)


def _covariance(rows_bln: Tensor) -> Tensor:
    """Covariance between rows, each row a variable observed n times: (B, L, n) -> (B, L, L)."""
    centred = rows_bln - rows_bln.mean(dim=2, keepdim=True)
    return centred @ centred.mT / max(rows_bln.shape[2] - 1, 1)


def two_means(rows_bln: Tensor, first_b: Tensor, second_b: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Lloyd's algorithm with k = 2 from two given rows: (B, L, n) -> bool (B, L), True = first cluster.

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
    """Bool (B, L): rows at most as far from the first centre as from the second."""
    axis_bn = second_bn - first_bn
    middle_b = (axis_bn * (first_bn + second_bn)).sum(dim=1) / 2
    along_bl = torch.bmm(axis_bn.unsqueeze(1), rows_bln.mT).squeeze(1)  # bmm is much faster this way round on a CPU
    return along_bl <= middle_b.unsqueeze(1)


def split(
    x_bchw: Tensor,
    patch: int = 16,
    reading: str = "covariance-of-softmax",
    normalise: str = "standardised",
    temperature: float = 1.0,
) -> Clusters:
    """Cluster each image's patches in two and call one cluster lesion.

    x_bchw: finite floats (B, C, H, W). reading: one of ``SELECTORS``. Of the paper's readings (2.1; other parameters as in
    ``relation``), the initial centres are the rows of the patch of highest and of the patch of lowest mean intensity (first
    such patch on ties), and the smaller cluster is lesion; of two of equal size, the one begun at the brightest patch.
    "descent" begins at the patches most and least far down (``descent.descent``), and those far down are lesion, however many;
    normalise and temperature mean nothing to it. All is deterministic. An image whose patches are all alike (a constant image)
    has one cluster, background.
    """
    if reading == DESCENT:
        return of_numbers(descent(x_bchw, patch))
    rows_bln = relation(x_bchw, patch, reading, normalise, temperature)
    brightness_bl = patchify(x_bchw.float(), patch).mean(dim=2)
    bright_bl = two_means(rows_bln, brightness_bl.argmax(dim=1), brightness_bl.argmin(dim=1))
    size_b1 = bright_bl.sum(dim=1, keepdim=True)
    lesion_bl = torch.where(2 * size_b1 <= rows_bln.shape[1], bright_bl, ~bright_bl)
    return Clusters(lesion_bl, rows_bln)


def of_numbers(number_bl: Tensor) -> Clusters:
    """Two clusters of patches by one finite number of each: (B, L); those of the larger numbers are lesion, however many.

    The initial centres are the largest and the smallest number; where all are equal there is one cluster, background.
    """
    rows_bl1 = number_bl.float().unsqueeze(2)
    large_bl = two_means(rows_bl1, number_bl.argmax(dim=1), number_bl.argmin(dim=1))
    return Clusters(large_bl & (number_bl > number_bl.amin(dim=1, keepdim=True)), rows_bl1)


def _distance(rows_bln: Tensor, members_bl: Tensor) -> Tensor:
    """Euclidean distance of every row to the mean of the members; infinite when there are none."""
    weight_bl = members_bl.to(rows_bln.dtype)
    count_b1 = weight_bl.sum(dim=1, keepdim=True)
    centre_b1n = (torch.bmm(weight_bl.unsqueeze(1), rows_bln).squeeze(1) / count_b1.clamp(min=1)).unsqueeze(1)
    distance_bl = (rows_bln - centre_b1n).square().sum(dim=2).sqrt()
    return torch.where(count_b1 > 0, distance_bl, torch.inf)


def lesion_patches(
    x_bchw: Tensor,
    patch: int = 16,
    reading: str = "covariance-of-softmax",
    normalise: str = "standardised",
    temperature: float = 1.0,
) -> Tensor:
    """Bool (B, L), True = the patch is in the cluster taken for lesion; see ``split``."""
    return split(x_bchw, patch, reading, normalise, temperature).lesion_bl
