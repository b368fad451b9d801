"""Priorities of images: numbers that grow with the uncertainty of the network.

Masks and maps may have any axes, as long as those of one image are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def vote_disagreement(voter_masks: Sequence[np.ndarray]) -> float:
    """Return the mean over pixels of 4p(1 - p), p the share of the masks that call a pixel lesion; in [0, 1].

    As in the last column of ``plots.cases``: 0 where all agree, 1 where they are split in halves. It grows with the
    area in doubt, and so with the work there is. ValueError for fewer than two masks, and for different shapes.
    """
    share = np.mean(_alike(voter_masks), axis=0, dtype=np.float64)
    return float(np.mean(4 * share * (1 - share)))


def entropy(probability: np.ndarray) -> float:
    """Return the mean over pixels of the entropy in bits of "lesion or not"; in [0, 1]. It grows with the area in
    doubt.

    probability: of lesion at each pixel. ValueError for an empty map and for what is not in [0, 1].
    """
    p = np.asarray(probability, np.float64)
    if not p.size or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(
            f"the map of probabilities has {p.size} values, not all in [0, 1]; expected probabilities of lesion"
        )
    q = 1 - p
    return float(np.mean(-p * np.log2(np.where(p > 0, p, 1)) - q * np.log2(np.where(q > 0, q, 1))))


def _alike(voter_masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the masks as bool, two or more of one shape."""
    shapes = {np.shape(mask) for mask in voter_masks}
    if len(voter_masks) < 2 or len(shapes) != 1:
        raise ValueError(f"{len(voter_masks)} masks of shapes {sorted(shapes)}; expected two or more of one shape")
    return [np.asarray(mask, bool) for mask in voter_masks]
