"""Masks of one slice from probabilities, and their scores against a truth."""

from __future__ import annotations

import numpy as np

from mpsams import inference
from mpsams.calibration import Rule
from mpsams.imaging import geometry
from mpsams.inference.case import Case


def slice_lesion(case: Case, probability_ss: np.ndarray, threshold: float, rule: Rule | None) -> np.ndarray:
    """Return ``inference.lesion_mask`` of the slice, bool (H, W). rule: of the network."""
    return inference.lesion_mask(rule, inference.to_image(probability_ss, case.shape_hw, case.box), threshold, case.box)


def slice_mask(case: Case, probability_ss: np.ndarray, threshold: float, rule: Rule | None) -> np.ndarray:
    """Return bool (X, Y, Z) on the scan's grid, with this slice's lesion alone. rule: of the network."""
    mask_xyz = case.scan.empty_mask()
    geometry.radiological_view(mask_xyz, case.scan.affine, case.plane)[case.index] = slice_lesion(
        case, probability_ss, threshold, rule
    )
    return mask_xyz


def overlap(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """DSC, PPV and Sen of two packed masks (``np.packbits``), with the undefined cases of ``metrics.overlap``."""
    true_pos, pred_pos, truth_pos = (
        int(np.bitwise_count(bits).sum()) for bits in (predicted & truth, predicted, truth)
    )
    if not pred_pos + truth_pos:
        return {"dsc": 1.0, "ppv": 1.0, "sen": 1.0}
    return {
        "dsc": 2 * true_pos / (pred_pos + truth_pos),
        "ppv": true_pos / max(pred_pos, 1),
        "sen": true_pos / max(truth_pos, 1),
    }


def defined(scores: dict[str, float], mask: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the scores to be shown: NaN for the PPV of an empty mask and the Sen of an empty truth, 0 / 0."""
    undefined = {"ppv": not mask.any(), "sen": not truth.any()}
    return {name: float("nan") if undefined.get(name) else value for name, value in scores.items()}


def scores(mask_hw: np.ndarray, case: Case) -> dict[str, float]:
    """DSC, PPV and Sen of the slice against the truth; empty without one."""
    return {} if case.truth_hw is None else overlap(np.packbits(mask_hw), np.packbits(case.truth_hw))
