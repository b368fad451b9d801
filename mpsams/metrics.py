"""How good a segmentation is, per image and over a set (SPEC of the protocol: every undefined case is stated).

Axes: B batch, H x W pixels, S slices of a volume.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def overlap(pred_bhw: Tensor, truth_bhw: Tensor) -> dict[str, Tensor]:
    """Dice, positive predictive value and sensitivity per image, each a float (B,) in [0, 1].

    pred_bhw, truth_bhw: bool (or 0/1). Truth and prediction both empty: all three are 1. Only the
    prediction empty, or only the truth empty: all three are 0.
    """
    if pred_bhw.shape != truth_bhw.shape:
        raise ValueError(f"prediction {tuple(pred_bhw.shape)} and truth {tuple(truth_bhw.shape)} differ in shape")
    pred, truth = pred_bhw.bool().flatten(1), truth_bhw.bool().flatten(1)
    hit = (pred & truth).sum(dim=1).double()
    said, real = pred.sum(dim=1).double(), truth.sum(dim=1).double()
    nothing = (said + real) == 0

    def share(top: Tensor, bottom: Tensor) -> Tensor:
        return torch.where(nothing, 1.0, top / bottom.clamp(min=1))

    return {"dsc": share(2 * hit, said + real), "ppv": share(hit, said), "sen": share(hit, real)}


def surface(pred: np.ndarray, truth: np.ndarray, spacing: Sequence[float] | None = None) -> dict[str, float]:
    """95th percentile Hausdorff and average symmetric surface distance of an image (H, W) or volume (S, H, W) (MONAI).

    spacing: of the axes in millimetres; None measures in pixels. Both empty: 0. Only one of them empty: the
    diagonal (MONAI gives NaN or infinity there, and a mean over the rest would improve with every miss).
    """
    pred, truth = np.asarray(pred, bool), np.asarray(truth, bool)
    steps = np.ones(pred.ndim) if spacing is None else np.asarray(spacing, float)
    if not pred.any() and not truth.any():
        return {"hd95": 0.0, "assd": 0.0}
    if not pred.any() or not truth.any():
        diagonal = float(np.linalg.norm(pred.shape * steps))
        return {"hd95": diagonal, "assd": diagonal}
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    either = np.nonzero(pred | truth)
    part = tuple(slice(max(0, axis.min() - 1), axis.max() + 2) for axis in either)
    p, t = (torch.as_tensor(mask[part])[None, None].float() for mask in (pred, truth))
    how = {"include_background": True, "spacing": steps.tolist()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 calls its own deprecated argument
        hd95 = compute_hausdorff_distance(p, t, percentile=95, **how)
        assd = compute_average_surface_distance(p, t, symmetric=True, **how)
    return {"hd95": float(hd95), "assd": float(assd)}


def case(pred: np.ndarray, truth: np.ndarray, spacing: Sequence[float] | None = None) -> dict[str, float]:
    """All numbers of an image (H, W) or a volume (S, H, W): dsc, ppv, sen, hd95, assd, voxel counts hit, said, real.

    spacing: as for ``surface``.
    """
    pred, truth = (np.ascontiguousarray(mask, bool) for mask in (pred, truth))
    flat = (torch.as_tensor(mask.reshape(1, 1, -1)) for mask in (pred, truth))
    values = {name: float(value) for name, value in overlap(*flat).items()}
    counts = {"hit": int((pred & truth).sum()), "said": int(pred.sum()), "real": int(truth.sum())}
    return values | surface(pred, truth, spacing) | counts


def summary(cases: list[dict[str, float]]) -> dict[str, float]:
    """Means over a set of ``case`` results.

    dsc, ppv, sen, hd95, assd: over all images. The same with _lesion: over images with a lesion.
    dsc_pooled, ppv_pooled, sen_pooled: from pixel counts summed over all images. false_alarms: share
    of the images without lesion that got one. NaN where a set is empty. images, lesions: how many.
    """
    if not cases:
        raise ValueError("no images to summarise")
    names = ("dsc", "ppv", "sen", "hd95", "assd")
    lesions = [row for row in cases if row["real"]]
    normals = [row for row in cases if not row["real"]]

    def mean(rows: list[dict[str, float]], name: str) -> float:
        return float(np.mean([row[name] for row in rows])) if rows else float("nan")

    hit, said, real = (sum(row[name] for row in cases) for name in ("hit", "said", "real"))
    return (
        {name: mean(cases, name) for name in names}
        | {f"{name}_lesion": mean(lesions, name) for name in names}
        | {"dsc_pooled": 2 * hit / (said + real) if said + real else 1.0}
        | {"ppv_pooled": hit / said if said else float(not real), "sen_pooled": hit / real if real else float(not said)}
        | {"false_alarms": float(np.mean([row["said"] > 0 for row in normals])) if normals else float("nan")}
        | {"images": len(cases), "lesions": len(lesions)}
    )


def lift(chosen_bl: Tensor, lesion_bl: Tensor) -> Tensor:
    """Precision of the chosen patches divided by the share of lesion patches: bool (B, L) twice -> (B,).

    1 is chance. NaN where an image has no lesion patch; 0 where none is chosen.
    """
    chosen, lesion = chosen_bl.bool(), lesion_bl.bool()
    precision = (chosen & lesion).sum(dim=1) / chosen.sum(dim=1).clamp(min=1)
    share = lesion.float().mean(dim=1)
    return torch.where(share > 0, precision / share, torch.nan)


def auc(score_l: Tensor, lesion_l: Tensor) -> float:
    """Area under the ROC curve of a patch score against lesion patches, both (L,); NaN if only one class is there."""
    from sklearn.metrics import roc_auc_score

    lesion = lesion_l.bool().cpu().numpy()
    if lesion.all() or not lesion.any():
        return float("nan")
    return float(roc_auc_score(lesion, score_l.detach().cpu().numpy()))
