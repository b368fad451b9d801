"""What a masking strategy leaves undecided, in bits (paper Eq. 1-3), and what hidden and visible share.

Axes: B batch, L patches, N images.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mpsams.patches import patchify


def log2_choose(n: int, k: int) -> float:
    """log2 of the number of ways to choose k of n; ValueError unless 0 <= k <= n."""
    if not 0 <= k <= n:
        raise ValueError(f"cannot choose {k} of {n}: expected 0 <= k <= n")
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def random_bits(length: int, hidden: int) -> float:
    """Entropy in bits of a uniformly random mask: log2 C(L, n)."""
    return log2_choose(length, hidden)


def lesion_first_bits(length: int, lesion: int, hidden: int) -> float:
    """Entropy in bits of a lesion-first mask (MPS): log2 C(a, n) while n <= a, then log2 C(L - a, n - a).

    lesion: a, the size of the lesion cluster. Never above ``random_bits``: H3 <= H2 <= H1 (Eq. 1-3)
    made countable as the entropy over the masks a strategy can draw.
    """
    if hidden <= lesion:
        return log2_choose(lesion, hidden)
    return log2_choose(length - lesion, hidden - lesion)


def chance_hidden(length: int, lesion: int, hidden: int) -> tuple[float, float]:
    """Chance to be hidden of a lesion patch and of a background patch, under lesion first.

    A cluster without patches has chance 0.
    """
    if not 0 <= hidden <= length:
        raise ValueError(f"cannot hide {hidden} of {length} patches")
    background = length - lesion
    in_lesion = min(hidden, lesion) / lesion if lesion else 0.0
    in_background = max(hidden - lesion, 0) / background if background else 0.0
    return in_lesion, in_background


def patch_covariance(x_n1hw: Tensor, patch: int) -> Tensor:
    """Covariance over images of the patch means: float (N, 1, H, W) -> float64 (L, L), positive definite.

    Shrunk after Ledoit and Wolf (2004), so that it can be inverted with fewer images than patches.
    """
    from sklearn.covariance import ledoit_wolf

    means_nl = patchify(x_n1hw.float(), patch).mean(dim=2).double().numpy()
    if len(means_nl) < 2:
        raise ValueError("a covariance over images needs at least two of them")
    covariance, _ = ledoit_wolf(means_nl)
    return torch.as_tensor(covariance + 1e-9 * np.trace(covariance) / len(covariance) * np.eye(len(covariance)))


def mutual_information(covariance_ll: Tensor, hidden_bl: Tensor) -> Tensor:
    """Gaussian mutual information between hidden and visible patches, in bits: (L, L), bool (B, L) -> (B,).

    I = (log det S_hidden + log det S_visible - log det S) / 2 (Cover and Thomas, section 8.5); 0 when
    either side is empty. covariance_ll: positive definite, as from ``patch_covariance``.
    """
    whole = torch.logdet(covariance_ll)
    values = []
    for hidden_l in hidden_bl:
        sides = [covariance_ll[side][:, side] for side in (hidden_l, ~hidden_l) if side.any()]
        values.append((sum(torch.logdet(side) for side in sides) - whole) / (2 * math.log(2)))
    return torch.stack(values).clamp(min=0)
