"""STAPLE: the probability of each voxel to be lesion, estimated from the masks of several readers.

S. K. Warfield, K. H. Zou and W. M. Wells, "Simultaneous truth and performance level estimation (STAPLE): an algorithm
for the validation of image segmentation", IEEE Transactions on Medical Imaging 23 (2004), for binary masks and a prior
that is the same for all voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

START = 0.99999  # sensitivity and specificity of each reader at first, as in the paper
TOLERANCE, MAX_ITERATIONS = 1e-7, 1000
MAX_READERS = 62  # bits of the number that the readers' answers on a voxel are packed into
TINY = 1e-300  # a likelihood below this counts as this


@dataclass(frozen=True)
class StapleEstimate:
    """Result of STAPLE.

    probability: float, in [0, 1], of the masks' shape. sensitivity, specificity: of each reader, in [0, 1].
    """

    probability: np.ndarray
    sensitivity: np.ndarray
    specificity: np.ndarray


def staple(
    masks: Sequence[np.ndarray], prior: float | None = None, start: float = START, iterations: int = MAX_ITERATIONS
) -> StapleEstimate:
    """Estimate the truth and the readers' performance by expectation maximisation.

    masks: bool, of one shape, one of each reader. prior: probability of lesion, in (0, 1); None is the share of lesion
    in all masks.
    start: sensitivity and specificity before the first iteration. iterations: at most; they end when nothing changes
    any more.
    ValueError: no mask, too many, or masks of different shapes.
    """
    if not 0 < len(masks) <= MAX_READERS or len({mask.shape for mask in masks}) > 1:
        raise ValueError(
            f"{len(masks)} masks of the shapes {sorted({mask.shape for mask in masks})}; allowed are 1 to {MAX_READERS}"
            " of one shape"
        )
    answers = np.zeros(masks[0].shape, np.min_scalar_type(2 ** len(masks) - 1))  # of all readers, a bit for each
    for reader, mask in enumerate(masks):
        answers |= np.left_shift(mask, reader, dtype=answers.dtype)
    patterns_p, count_p = np.unique(answers, return_counts=True)
    # answer of each reader in pattern p
    answers_rp = (patterns_p.astype(np.int64) >> np.arange(len(masks))[:, None] & 1).astype(bool)
    prior = float((answers_rp * count_p).sum() / (len(masks) * count_p.sum())) if prior is None else prior
    sensitivity, specificity = np.full(len(masks), start), np.full(len(masks), start)
    weight_p = np.full(len(patterns_p), prior)
    for _ in range(iterations if 0 < prior < 1 else 0):
        weight_p = _expect(answers_rp, prior, sensitivity, specificity)
        before = np.concatenate([sensitivity, specificity])
        lesion, rest = (weight_p * count_p).sum(), ((1 - weight_p) * count_p).sum()
        sensitivity = (answers_rp * weight_p * count_p).sum(1) / lesion if lesion else sensitivity
        specificity = (~answers_rp * (1 - weight_p) * count_p).sum(1) / rest if rest else specificity
        if np.abs(np.concatenate([sensitivity, specificity]) - before).max() < TOLERANCE:
            break
    probability = np.empty(answers.shape)
    for place, slice_of_answers in enumerate(answers):  # to hold little at once
        probability[place] = weight_p[np.searchsorted(patterns_p, slice_of_answers)]
    return StapleEstimate(probability, sensitivity, specificity)


def _expect(answers_rp: np.ndarray, prior: float, sensitivity: np.ndarray, specificity: np.ndarray) -> np.ndarray:
    """Return the probability of lesion for each pattern of answers; the logarithms keep many readers from underflow."""
    p, q = sensitivity[:, None], specificity[:, None]
    lesion = np.log(prior) + np.log(np.maximum(np.where(answers_rp, p, 1 - p), TINY)).sum(0)
    rest = np.log1p(-prior) + np.log(np.maximum(np.where(answers_rp, 1 - q, q), TINY)).sum(0)
    return 1 / (1 + np.exp(np.clip(rest - lesion, -700, 700)))
