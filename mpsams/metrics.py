"""Scores of a segmentation, per image and over a set; every undefined case is stated.

Axes: B batch, H x W pixels, S slices of a volume.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

DISTANCES = ("hd95", "assd")
MOST_SURFACE = 2**21  # pixels of two surfaces between which distances are measured; some seconds and 200 MB


def overlap(pred_bhw: Tensor, truth_bhw: Tensor) -> dict[str, Tensor]:
    """Return Dice, positive predictive value and sensitivity per image, each a float (B,) in [0, 1].

    pred_bhw, truth_bhw: bool (or 0/1). Truth and prediction both empty: all three are 1. Only the
    prediction empty, or only the truth empty: all three are 0.
    """
    if pred_bhw.shape != truth_bhw.shape:
        raise ValueError(f"prediction {tuple(pred_bhw.shape)} and truth {tuple(truth_bhw.shape)} differ in shape")
    pred, truth = pred_bhw.bool().flatten(1), truth_bhw.bool().flatten(1)
    return _shares((pred & truth).sum(dim=1), pred.sum(dim=1), truth.sum(dim=1))


def _shares(true_pos_b: Tensor, pred_pos_b: Tensor, truth_pos_b: Tensor) -> dict[str, Tensor]:
    """Return Dice, PPV and sensitivity from counts of pixels: in both, in the prediction, in the truth."""
    true_pos, pred_pos, truth_pos = true_pos_b.double(), pred_pos_b.double(), truth_pos_b.double()
    nothing = (pred_pos + truth_pos) == 0

    def share(top: Tensor, bottom: Tensor) -> Tensor:
        return torch.where(nothing, 1.0, top / bottom.clamp(min=1))

    return {
        "dsc": share(2 * true_pos, pred_pos + truth_pos),
        "ppv": share(true_pos, pred_pos),
        "sen": share(true_pos, truth_pos),
    }


def surface(
    pred: np.ndarray, truth: np.ndarray, spacing: Sequence[float] | np.ndarray | None = None
) -> dict[str, float]:
    """Return 95th percentile Hausdorff and average symmetric surface distance of an image (H, W) or (S, H, W).

    A surface is the pixels with a neighbour along an axis that is outside of the mask or of the image; distances run
    from each of them to the nearest of the other mask, as MONAI measures them. A volume of a single slice is an image.
    spacing: of the axes in millimetres, or, where these are not at right angles, the step along each axis as a row of a
    square matrix; None measures in pixels.

    Both empty: 0. Only one of them empty: the diagonal (MONAI gives NaN or infinity there, and a mean over the rest
    would improve with every miss). NaN where both surfaces together have more than MOST_SURFACE pixels.
    """
    pred, truth = np.asarray(pred, bool), np.asarray(truth, bool)
    steps = np.eye(pred.ndim) if spacing is None else np.asarray(spacing, float)
    steps = np.diag(steps) if steps.ndim == 1 else steps
    if pred.ndim == 3 and 1 in pred.shape:
        axis = pred.shape.index(1)
        pred, truth, steps = pred.squeeze(axis), truth.squeeze(axis), np.delete(steps, axis, 0)
    boxes = _box(pred), _box(truth)
    if boxes == (None, None):
        return {"hd95": 0.0, "assd": 0.0}
    if None in boxes:
        corners = np.array(list(np.ndindex(*(2,) * pred.ndim))) * pred.shape @ steps
        diagonal = float(np.linalg.norm(corners - corners[::-1], axis=1).max())
        return {"hd95": diagonal, "assd": diagonal}
    masks = [_surface(mask[box]) for mask, box in zip((pred, truth), boxes, strict=True)]
    if sum(map(np.count_nonzero, masks)) > MOST_SURFACE:
        return {"hd95": float("nan"), "assd": float("nan")}
    from scipy.spatial import cKDTree

    starts = [np.array([part.start for part in box]) for box in boxes]  # type: ignore[union-attr]
    ours, theirs = ((np.argwhere(mask) + start) @ steps for mask, start in zip(masks, starts, strict=True))
    there, back = cKDTree(theirs).query(ours)[0], cKDTree(ours).query(theirs)[0]
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return {"hd95": float(hd95), "assd": float((there.sum() + back.sum()) / (len(there) + len(back)))}


def _box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """Return the smallest part of a mask that holds all of it; None where it is empty."""
    box = []
    for axis in range(mask.ndim):
        along = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(along):
            return None
        box.append(slice(int(along[0]), int(along[-1]) + 1))
    return tuple(box)


def _surface(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask with a neighbour along an axis that is not in it; outside there is none: bool of the
    same shape.
    """
    inner = mask.copy()
    for axis in range(mask.ndim):
        inside, before = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        inside[1:] &= before[:-1]
        inside[:-1] &= before[1:]
        inside[[0, -1]] = False
    return mask & ~inner


def case(pred: np.ndarray, truth: np.ndarray, spacing: Sequence[float] | np.ndarray | None = None) -> dict[str, float]:
    """Return all scores of an image (H, W) or a volume (S, H, W): dsc, ppv, sen, hd95, assd, and voxel counts.

    The counts are hit (in both), said (in the prediction) and real (in the truth).

    spacing: as for ``surface``. Fastest where both masks lie in memory in the same order.
    """
    pred, truth = np.asarray(pred, bool), np.asarray(truth, bool)
    if pred.shape != truth.shape:
        raise ValueError(f"prediction {pred.shape} and truth {truth.shape} differ in shape")
    counts = {
        name: int(np.count_nonzero(each)) for name, each in (("hit", pred & truth), ("said", pred), ("real", truth))
    }
    shares = _shares(*(torch.tensor(count) for count in counts.values()))
    return {name: float(value) for name, value in shares.items()} | surface(pred, truth, spacing) | counts


def summary(cases: list[dict[str, float]]) -> dict[str, float]:
    """Return means over a set of ``case`` results.

    dsc, ppv, sen, hd95, assd: over all images. The same with _lesion: over images with a lesion. Distances that were
    left out of a case (``surface``) do not count; distances: how many images have them.
    dsc_pooled, ppv_pooled, sen_pooled: from pixel counts summed over all images. false_alarms: share
    of the images without lesion that got one. NaN where a set is empty. images, lesions: how many.
    """
    if not cases:
        raise ValueError("no images to summarise")
    names = ("dsc", "ppv", "sen", "hd95", "assd")
    lesions = [row for row in cases if row["real"]]
    normals = [row for row in cases if not row["real"]]

    def mean(rows: list[dict[str, float]], name: str) -> float:
        values = [row[name] for row in rows if name not in DISTANCES or not np.isnan(row[name])]
        return float(np.mean(values)) if values else float("nan")

    true_pos, pred_pos, truth_pos = (sum(row[name] for row in cases) for name in ("hit", "said", "real"))
    return (
        {name: mean(cases, name) for name in names}
        | {f"{name}_lesion": mean(lesions, name) for name in names}
        | {"dsc_pooled": 2 * true_pos / (pred_pos + truth_pos) if pred_pos + truth_pos else 1.0}
        | {
            "ppv_pooled": true_pos / pred_pos if pred_pos else float(not truth_pos),
            "sen_pooled": true_pos / truth_pos if truth_pos else float(not pred_pos),
        }
        | {"false_alarms": float(np.mean([row["said"] > 0 for row in normals])) if normals else float("nan")}
        | {"images": len(cases), "lesions": len(lesions)}
        | {"distances": sum(not np.isnan(row["hd95"]) for row in cases)}
    )


def lift(chosen_bl: Tensor, lesion_bl: Tensor) -> Tensor:
    """Return the precision of the chosen patches divided by the share of lesion patches: bool (B, L) twice -> (B,).

    1 is chance. NaN where an image has no lesion patch; 0 where none is chosen.
    """
    chosen, lesion = chosen_bl.bool(), lesion_bl.bool()
    precision = (chosen & lesion).sum(dim=1) / chosen.sum(dim=1).clamp(min=1)
    share = lesion.float().mean(dim=1)
    return torch.where(share > 0, precision / share, torch.nan)


def auc(score_l: Tensor, lesion_l: Tensor) -> float:
    """Return the area under the ROC curve of a patch score against lesion patches, both (L,); NaN for one class.

    ValueError for a score that is NaN.
    """
    lesion, score = lesion_l.bool().cpu(), score_l.detach().cpu()
    if score.isnan().any():
        raise ValueError(f"{int(score.isnan().sum())} of {len(score)} scores are NaN; expected numbers or infinity")
    if lesion.all() or not lesion.any():
        return float("nan")
    inside_n1, outside_m = score[lesion][:, None], score[~lesion]  # scikit-learn is slow to import
    return float(((inside_n1 > outside_m).double() + 0.5 * (inside_n1 == outside_m)).mean())
