"""Losses of the pretraining and of the segmentation.

Axes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

SEGMENTATION = ("dice-ce", "ce")


def masked_mse(pred_bchw: Tensor, target_bchw: Tensor, hidden_b1hw: Tensor) -> Tensor:
    """Mean squared error over hidden pixels (paper Eq. 4, per masked pixel so that runs compare).

    hidden_b1hw: bool, True = hidden. A batch with nothing hidden has loss 0 (and zero gradient).
    """
    if pred_bchw.shape != target_bchw.shape:
        raise ValueError(f"prediction {tuple(pred_bchw.shape)} and target {tuple(target_bchw.shape)} differ in shape")
    hidden = hidden_b1hw.to(pred_bchw.dtype)
    squared = (pred_bchw - target_bchw).square() * hidden
    return squared.sum() / (hidden.sum() * pred_bchw.shape[1]).clamp(min=1)


def segmentation(logits_b1hw: Tensor, truth_b1hw: Tensor, kind: str = "dice-ce") -> Tensor:
    """Loss of a binary segmentation from logits: "ce", or "dice-ce" = soft Dice + cross-entropy (MONAI).

    truth_b1hw: bool or {0, 1}. Dice is pooled over the batch, so that an image without lesion does
    not swing it. ValueError lists the kinds.
    """
    truth = truth_b1hw.to(logits_b1hw.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits_b1hw, truth)
    if kind == "ce":
        return entropy
    if kind == "dice-ce":
        from monai.losses import DiceLoss

        return entropy + DiceLoss(sigmoid=True, batch=True)(logits_b1hw, truth)
    raise ValueError(f"unknown segmentation loss {kind!r}; available: {', '.join(SEGMENTATION)}")
