"""The patches of one image: clusters, the orders in which they are hidden, the masks of an epoch, agreement with a
truth mask.

Axes: L patches, S side of the grid image. In masks True = hidden or lesion.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mpsams import clusters, masking, metrics, patches, schedule, uncertainty


@dataclass(frozen=True)
class Study:
    """One image with everything about its patches that does not depend on the epoch.

    image_11ss: the grid image. clusters: of its patches, B = 1. lesion_first_1l, random_1l: the two
    orders in which patches get hidden. patch: side in pixels.
    """

    image_11ss: Tensor
    clusters: clusters.Clusters
    lesion_first_1l: Tensor
    random_1l: Tensor
    patch: int

    @property
    def length(self) -> int:
        """Number of patches, L."""
        return self.random_1l.shape[1]

    @property
    def lesion_size(self) -> int:
        """Number of patches in the lesion cluster."""
        return int(self.clusters.lesion_bl.sum())


def study(image_11ss: Tensor, seed: int = 0, patch: int = 16, **clustering) -> Study:
    """Cluster an image once and draw both orders from ``seed``; ``clustering`` as in ``clusters.split``."""
    found = clusters.split(image_11ss, patch, **clustering)
    length = found.lesion_bl.shape[1]
    first = masking.order(found.lesion_bl, torch.Generator().manual_seed(seed))
    second = masking.random_order(1, length, torch.Generator().manual_seed(seed + 1))
    return Study(image_11ss, found, first, second, patch)


@dataclass(frozen=True)
class MaskedPatches:
    """The patches hidden at an epoch of the paper's axis, lesion first and at random.

    ratio: sigma in [0, 1]. hidden: n patches. lesion_first_1l, random_1l: bool (1, L), True = hidden.
    bits, random_bits: entropy of the masks either strategy can draw. probability_lesion, probability_background:
    of a patch of either cluster to be hidden under lesion first.
    """

    epoch: float
    ratio: float
    hidden: int
    lesion_first_1l: Tensor
    random_1l: Tensor
    bits: float
    random_bits: float
    probability_lesion: float
    probability_background: float


def mask_at(clustered: Study, epoch: float) -> MaskedPatches:
    """Cut both orders at the ratio of an epoch (1 to 800 in the paper); never clusters again."""
    ratio = schedule.mask_ratio(epoch)
    hidden = masking.hidden_count(clustered.length, ratio)
    probabilities = uncertainty.hidden_probability(clustered.length, clustered.lesion_size, hidden)
    return MaskedPatches(
        epoch,
        ratio,
        hidden,
        masking.cut(clustered.lesion_first_1l, ratio),
        masking.cut(clustered.random_1l, ratio),
        uncertainty.lesion_first_bits(clustered.length, clustered.lesion_size, hidden),
        uncertainty.random_bits(clustered.length, hidden),
        *probabilities,
    )


@dataclass(frozen=True)
class Agreement:
    """Agreement of the lesion cluster with a truth mask.

    A patch counts as lesion when more than a quarter of it is. lift: precision of the cluster over
    the share of lesion patches (1 is chance). auc: area under the ROC curve of the clusters' score. lesion_patches:
    their number; lift and auc are NaN when it is 0.
    """

    lift: float
    auc: float
    lesion_patches: int
    truth_1l: Tensor


def agreement(clustered: Study, truth_11ss: Tensor) -> Agreement:
    """Compare the clusters of an image with its truth mask, bool (1, 1, S, S)."""
    truth_1l = patches.is_lesion(truth_11ss, clustered.patch)
    lift = float(metrics.lift(clustered.clusters.lesion_bl, truth_1l))
    return Agreement(lift, metrics.auc(clustered.clusters.score_bl[0], truth_1l[0]), int(truth_1l.sum()), truth_1l)


def coverage(hidden_1l: Tensor, truth_1l: Tensor) -> float:
    """Return the share of the lesion patches that is hidden, in [0, 1]; NaN when there are none."""
    return float(hidden_1l[truth_1l].float().mean())
