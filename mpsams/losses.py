"""Losses of the pretraining and of the segmentation.

Axes: B batch, C channels, D features, H x W pixels, K prototypes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mpsams import distributed

SEGMENTATION = ("dice-ce", "ce", "dice-focal", "image-dice-ce")
TOP = 0.005  # share of an image's pixels, the likeliest ones, by which an image is classified


def masked_mse(pred_bchw: Tensor, target_bchw: Tensor, hidden_b1hw: Tensor) -> Tensor:
    """Return the mean squared error over hidden pixels (paper Eq. 4, per masked pixel so that runs compare).

    hidden_b1hw: bool, True = hidden. A batch with nothing hidden has loss 0 (and zero gradient).
    """
    return _over_hidden(_difference(pred_bchw, target_bchw).square(), hidden_b1hw)


def masked_l1(pred_bchw: Tensor, target_bchw: Tensor, hidden_b1hw: Tensor) -> Tensor:
    """Return the mean absolute error over hidden pixels (SimMIM, Xie et al. 2022); otherwise as ``masked_mse``."""
    return _over_hidden(_difference(pred_bchw, target_bchw).abs(), hidden_b1hw)


def _difference(pred_bchw: Tensor, target_bchw: Tensor) -> Tensor:
    """Return the prediction less the target; ValueError when they differ in shape."""
    if pred_bchw.shape != target_bchw.shape:
        raise ValueError(f"prediction {tuple(pred_bchw.shape)} and target {tuple(target_bchw.shape)} differ in shape")
    return pred_bchw - target_bchw


def _over_hidden(error_bchw: Tensor, hidden_b1hw: Tensor) -> Tensor:
    """Return the mean of an error over hidden pixels and all channels."""
    hidden = hidden_b1hw.to(error_bchw.dtype)
    return (error_bchw * hidden).sum() / (hidden.sum() * error_bchw.shape[1]).clamp(min=1)


def nt_xent(a_bd: Tensor, b_bd: Tensor, temperature: float = 0.5) -> Tensor:
    """Return the normalised, temperature-scaled cross-entropy of SimCLR (Chen et al. 2020, Eq. 1), a scalar.

    Row i of ``a_bd`` and row i of ``b_bd`` are two views of one image: each must find the other, by cosine,
    among all other views of the batch, those of other processes included. One image alone has loss 0. ValueError unless
    shapes agree and the temperature is positive.
    """
    a_bd, b_bd = distributed.all_gather(a_bd), distributed.all_gather(b_bd)
    if a_bd.shape != b_bd.shape or not len(a_bd) or not temperature > 0:
        raise ValueError(
            f"views {tuple(a_bd.shape)} and {tuple(b_bd.shape)} must agree and be of an image at least, temperature"
            f" {temperature} must be positive"
        )
    z_vd = F.normalize(torch.cat([a_bd, b_bd]), dim=1)
    similarity_vv = z_vd @ z_vd.T / temperature
    similarity_vv = similarity_vv.masked_fill(torch.eye(len(z_vd), dtype=torch.bool, device=z_vd.device), -torch.inf)
    other = torch.arange(len(z_vd), device=z_vd.device).roll(len(a_bd))
    return F.cross_entropy(similarity_vv, other)


def negative_cosine(p_bd: Tensor, z_bd: Tensor) -> Tensor:
    """Return the negative mean cosine between rows, in [-1, 1]; ``z_bd`` is a target and gets no gradient.

    2 + 2 * negative_cosine is BYOL's 2 - 2 cos (Grill et al. 2020, Eq. 2).
    """
    return -F.cosine_similarity(p_bd, z_bd.detach(), dim=1).mean()


@torch.no_grad()
def sinkhorn(scores_bk: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Assign images softly to prototypes, all prototypes used alike (SwAV, Caron et al. 2020, Eq. 3-5).

    scores_bk: cosine of each image with each prototype. Returns (B, K): rows sum to 1, columns (over all
    processes) nearly to B / K. No gradient. ValueError unless epsilon is positive and iterations at least 1.
    """
    if not (epsilon > 0 and iterations >= 1):
        raise ValueError(f"epsilon {epsilon} must be positive and iterations {iterations} at least 1")
    log_bk = scores_bk.float() / epsilon
    for _ in range(iterations):
        log_bk = log_bk - _logsumexp_over_images(log_bk)
        log_bk = log_bk - log_bk.logsumexp(dim=1, keepdim=True)
    return log_bk.exp()


def _logsumexp_over_images(log_bk: Tensor) -> Tensor:
    """Return the log of the sum of exponentials over the images of all processes: (B, K) -> (1, K)."""
    top = distributed.all_gather(log_bk.amax(dim=0, keepdim=True)).amax(dim=0, keepdim=True)
    return top + distributed.all_reduce((log_bk - top).exp().sum(dim=0, keepdim=True)).log()


def segmentation(logits_b1hw: Tensor, truth_b1hw: Tensor, kind: str = "dice-ce") -> Tensor:
    """Return the loss of a binary segmentation from logits, one of ``SEGMENTATION``.

    "ce" is cross-entropy. "dice-ce" adds soft Dice (MONAI), pooled over the batch, that of other processes included, so
    that an image without lesion does not swing it. "dice-focal" has focal cross-entropy in its place (Lin et al. 2017,
    gamma 2), for which pixels that are clear count little. "image-dice-ce" has the mean Dice of the images with lesion
    in place of the pooled one, so that small lesions count as much as large ones. truth_b1hw: bool or {0, 1}.
    ValueError lists the kinds.
    """
    if kind not in SEGMENTATION:
        raise ValueError(f"unknown segmentation loss {kind!r}; available: {', '.join(SEGMENTATION)}")
    truth = truth_b1hw.to(logits_b1hw.dtype)
    if kind == "dice-focal":
        entropy = F.binary_cross_entropy_with_logits(logits_b1hw, truth, reduction="none")
        entropy = ((1 - torch.exp(-entropy)).square() * entropy).mean()
    else:
        entropy = F.binary_cross_entropy_with_logits(logits_b1hw, truth)
    if kind == "ce":
        return entropy
    whole = [distributed.all_gather(each.flatten(1)) for each in (logits_b1hw, truth)]
    if kind == "image-dice-ce":
        return entropy + _dice_of_lesions(*whole)
    from monai.losses import DiceLoss

    return entropy + DiceLoss(sigmoid=True, batch=True)(*(each.unsqueeze(1) for each in whole))


def _dice_of_lesions(logits_bp: Tensor, truth_bp: Tensor) -> Tensor:
    """Return one minus soft Dice, as a mean over the images (B, pixels) with lesion; 0 when there is none."""
    predicted_bp = torch.sigmoid(logits_bp)
    lost_b = 1 - 2 * (predicted_bp * truth_bp).sum(dim=1) / (predicted_bp + truth_bp).sum(dim=1).clamp(min=1e-6)
    lesion_b = truth_bp.amax(dim=1)
    return (lost_b * lesion_b).sum() / lesion_b.sum().clamp(min=1)


def presence(logits_b1hw: Tensor, truth_b1hw: Tensor) -> Tensor:
    """Return the cross-entropy of the image-level label "has a lesion", predicted by the mean logit of its likeliest
    pixels (``TOP`` of them).
    """
    logits_bp = logits_b1hw.flatten(1)
    top_b = logits_bp.topk(max(1, round(TOP * logits_bp.shape[1])), dim=1).values.mean(dim=1)
    return F.binary_cross_entropy_with_logits(top_b, truth_b1hw.flatten(1).any(dim=1).to(top_b.dtype))
