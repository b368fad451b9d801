"""Uncertainty of masking strategies in bits (paper Eq. 1-3), and mutual information of hidden and visible patches.

The paper's H1, H2 and H3 are expectations over masks that it does not spell out. Here they are entropies over the masks
that can be drawn: at random, at random once the patches are classified, and lesion first
(``docs/results/information.md``).
Axes: B batch, L patches, N images, E epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mpsams.patches import patchify


def log2_choose(n: int, k: int) -> float:
    """Return log2 of the number of ways to choose k of n; ValueError unless 0 <= k <= n."""
    if not 0 <= k <= n:
        raise ValueError(f"cannot choose {k} of {n}: expected 0 <= k <= n")
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def random_bits(length: int, hidden: int) -> float:
    """Return H1 (Eq. 1), the entropy in bits of a uniformly random mask: log2 C(L, n)."""
    return log2_choose(length, hidden)


def classified_bits(length: int, lesion: int, hidden: int) -> float:
    """Return H2 (Eq. 2), the entropy in bits of a random mask with known numbers of hidden patches by cluster.

    The mean of log2 C(a, K) C(L - a, n - K) over the number K of hidden lesion patches, which is hypergeometric. Below
    ``random_bits`` by the entropy of K, the information that classifying the patches gives about a random mask.
    lesion: a, the size of the lesion cluster. ValueError unless a and n lie in [0, L].
    """
    every, background = random_bits(length, hidden), length - lesion
    if not 0 <= lesion <= length:
        raise ValueError(f"a lesion cluster of {lesion} patches: expected 0 to {length}")
    ways = [
        log2_choose(lesion, k) + log2_choose(background, hidden - k)
        for k in range(max(0, hidden - background), min(lesion, hidden) + 1)
    ]
    return sum(2 ** (way - every) * way for way in ways)


def lesion_first_bits(length: int, lesion: int, hidden: int) -> float:
    """Return H3 (Eq. 3), the entropy in bits of a lesion-first mask (MPS): log2 C(a, n) while n <= a, then log2 C(L -
    a, n - a).

    lesion: a, the size of the lesion cluster. Never above ``random_bits``, and for n <= a <= L / 2 not above
    ``classified_bits``; a cluster of a few patches can be above that when more than half is hidden.
    """
    if hidden <= lesion:
        return log2_choose(lesion, hidden)
    return log2_choose(length - lesion, hidden - lesion)


def course(bits: Callable[[int, int], float], lesion_n: Tensor, hidden_e: Tensor) -> Tensor:
    """Return the bits left undecided in each image at each epoch: int (N,) and int (E,) -> float64 (N, E).

    bits: a function of the size of the lesion cluster and the number of hidden patches, asked once for each pair that
    occurs. lesion_n: sizes of the clusters. hidden_e: patches hidden at each epoch.
    """
    sizes, size_n = torch.unique(lesion_n, return_inverse=True)
    counts, count_e = torch.unique(hidden_e, return_inverse=True)
    table = torch.tensor(
        [[bits(lesion, hidden) for hidden in counts.tolist()] for lesion in sizes.tolist()], dtype=torch.float64
    )
    return table[size_n][:, count_e]


def hidden_probability(length: int, lesion: int, hidden: int) -> tuple[float, float]:
    """Return the probability that a lesion patch and that a background patch is hidden, under lesion first.

    A cluster without patches has probability 0.
    """
    if not 0 <= hidden <= length:
        raise ValueError(f"cannot hide {hidden} of {length} patches")
    background = length - lesion
    in_lesion = min(hidden, lesion) / lesion if lesion else 0.0
    in_background = max(hidden - lesion, 0) / background if background else 0.0
    return in_lesion, in_background


def patch_covariance(x_n1hw: Tensor, patch: int) -> Tensor:
    """Return the covariance over images of the patch means: float (N, 1, H, W) -> float64 (L, L), positive definite.

    Shrunk after Ledoit and Wolf (2004), so that it can be inverted with fewer images than patches.
    """
    from sklearn.covariance import ledoit_wolf

    means_nl = patchify(x_n1hw.float(), patch).mean(dim=2).double().numpy()
    if len(means_nl) < 2:
        raise ValueError("a covariance over images needs at least two of them")
    covariance, _ = ledoit_wolf(means_nl)
    return torch.as_tensor(covariance + 1e-9 * np.trace(covariance) / len(covariance) * np.eye(len(covariance)))


def information_curve(covariance_ll: Tensor, order_bl: Tensor) -> Tensor:
    """Return the Gaussian mutual information between hidden and visible patches, in bits, of each order cut at every
    count, none to all hidden: (L, L), int64 (B, L) -> float64 (B, L + 1).

    I = (log det S_hidden + log det S_visible - log det S) / 2 (Cover and Thomas, section 8.5); 0 when either side is
    empty. covariance_ll: S, positive definite, as from ``patch_covariance``. One Cholesky factor holds the determinants
    of all leading blocks of a matrix: log det of the first n is twice the sum of the logarithms of its first n diagonal
    values. So two factors an order, from either end, give the values of all its masks.
    """

    def leading(order_bl: Tensor) -> Tensor:
        """Return half the log2 determinant of the first 0, 1, ... L patches."""
        ordered_bll = covariance_ll.double()[order_bl[:, :, None], order_bl[:, None, :]]
        return F.pad(torch.linalg.cholesky(ordered_bll).diagonal(dim1=1, dim2=2).log2().cumsum(dim=1), (1, 0))

    hidden_bn, visible_bn = leading(order_bl), leading(order_bl.flip(1)).flip(1)
    return (hidden_bn + visible_bn - hidden_bn[:, -1:]).clamp(min=0)
