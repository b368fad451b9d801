"""Strokes to a mask: two small classifiers carry what a person scribbled on to pixels that are near and look alike.

One acts near the strokes: kernel ridge regression (the mean of a Gaussian process; Rasmussen & Williams 2006, chapter 2)
of what they ask for beyond the model's proposal. One tells what lesion looks like: logistic regression on the strokes and on
what the proposal says far from them, listened to less the farther a pixel is from a stroke. The chance is of the mean of
their logits, so the proposal stands where no stroke is near and nothing looks like one. Pixels are compared by the network's
features, the intensities about them and their place.

Axes: K features, H x W pixels of the working grid, P = H * W of them, N numbers per pixel. Strokes are int8:
1 lesion, -1 background, 0 nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

LESION, NOTHING, BACKGROUND = 1, 0, -1
DOUBT = 3  # pixels from where mask and model agree


@dataclass(frozen=True)
class Reach:
    """How far a stroke carries; set on validation images of BUSI with the simulated annotator (``benchmarks.annotator``).

    Lengths are shares of the grid's longer side. blur: deviations at which intensities are seen.
    Kernel: near: its deviation in place. sure: the logit a stroke asks for. stiff: the ridge. trust: what an anchor counts of
    a stroke's pixel.
    Logistic regression: wide: what place counts by there. believe: what an anchor counts. most_sure: its logits are cut to this.
    fade: the distance at which it is listened to 1/e. share: of the mean of both.
    Both: humble: the model's logits are cut to this. most: stroke pixels learnt from, per kind. anchors: this times this
    pixels, if farther than ``clear`` from all strokes, at which the model is taken at its word.
    """

    blur: tuple[float, ...] = (0.004, 0.012, 0.03)
    near: float = 0.12
    sure: float = 2.0
    stiff: float = 0.1
    trust: float = 0.5
    wide: float = 0.5
    believe: float = 0.3
    most_sure: float = 3.0
    fade: float = 0.15
    share: float = 0.5
    humble: float = 2.0
    most: int = 150
    anchors: int = 16
    clear: float = 0.06


@dataclass(frozen=True)
class Carried:
    """How a mask is carried on to the next slice; set on two built-in volumes, checked on others. Lengths as in ``Reach``.

    blur: the deviation at which intensities are seen. around: how wide the surroundings are. soft: the depth that counts
    1. most: intensities count at most so much. even: the deviation at which logits are evened out. grow: how far a mask may grow.
    """

    blur: float = 0.008
    around: float = 0.04
    soft: float = 0.008
    most: float = 3.0
    even: float = 0.006
    grow: float = 0.024


@dataclass(frozen=True)
class Ground:
    """All about an image that does not depend on the strokes: prepared once, then every stroke is quick.

    rows_pn: what pixels are compared by, in units of the kernel's deviation, the place first. coarse_qn: the same of every
    2 x 2 pixels. logit_hw: of the model's chance, cut.
    """

    rows_pn: np.ndarray
    coarse_qn: np.ndarray
    logit_hw: np.ndarray
    reach: Reach


def ground(unit_hw: np.ndarray, chance_hw: np.ndarray, features_khw: np.ndarray | None = None, reach: Reach = Reach()) -> Ground:
    """Prepare an image on the working grid.

    unit_hw: intensities in [0, 1]. chance_hw: the model's chance of lesion, of the same shape; zeros where there is
    no proposal. features_khw: of ``inference.features``, of any size, brought to the grid; None goes without. ValueError
    when the shapes differ or a number is not finite.
    """
    if unit_hw.ndim != 2 or unit_hw.shape != chance_hw.shape:
        raise ValueError(f"image {unit_hw.shape} and chance {chance_hw.shape} must be (H, W) and of one shape")
    if not all(np.isfinite(each).all() for each in (unit_hw, chance_hw, *([] if features_khw is None else [features_khw]))):
        raise ValueError("image, chance and features must be finite")
    side = max(unit_hw.shape)
    blurred = np.stack([ndimage.gaussian_filter(unit_hw.astype(np.float32), share * side) for share in reach.blur])
    place = np.stack(np.mgrid[: unit_hw.shape[0], : unit_hw.shape[1]]).astype(np.float32) / (reach.near * side)
    parts = [place, even(blurred) / len(blurred) ** 0.5]
    if features_khw is not None:
        parts.append(even(brought(features_khw, unit_hw.shape)) / len(features_khw) ** 0.5)
    rows_nhw = np.concatenate(parts).astype(np.float32)
    chance = np.clip(chance_hw.astype(np.float32), 1e-6, 1 - 1e-6)
    logit_hw = np.clip(np.log(chance / (1 - chance)), -reach.humble, reach.humble)
    return Ground(listed(rows_nhw), listed(brought(rows_nhw, coarse(unit_hw.shape), "area")), logit_hw, reach)


def coarse(shape_hw: tuple[int, int]) -> tuple[int, int]:
    """The shape of a grid of half the side, on which the kernel is worked out."""
    return -(-shape_hw[0] // 2), -(-shape_hw[1] // 2)


def brought(x_nhw: np.ndarray, shape_hw: tuple[int, int], mode: str = "bilinear") -> np.ndarray:
    """Maps brought to another size: (N, H, W) -> float32 (N, *shape_hw)."""
    how = {} if mode == "area" else {"align_corners": False}
    return F.interpolate(torch.from_numpy(np.ascontiguousarray(x_nhw, np.float32))[None], shape_hw, mode=mode, **how)[0].numpy()


def listed(x_nhw: np.ndarray) -> np.ndarray:
    """(N, H, W) -> (P, N)."""
    return np.ascontiguousarray(x_nhw.reshape(len(x_nhw), -1).T)


def even(x_khw: np.ndarray) -> np.ndarray:
    """Each channel to mean 0 and deviation 1; a constant one to zeros."""
    mean, deviation = x_khw.mean(axis=(1, 2), keepdims=True), x_khw.std(axis=(1, 2), keepdims=True)
    return (x_khw - mean) / np.where(deviation > 1e-5, deviation, np.inf)


def refine(of: Ground, strokes_hw: np.ndarray) -> np.ndarray:
    """The chance of lesion after the strokes, float32 (H, W) in [0, 1]; above one half is the mask.

    Where a stroke lies it is 1 or 0 exactly. Without strokes it is the model's. ValueError when the strokes are not
    of the grid's shape or not of -1, 0 and 1.
    """
    check(strokes_hw, of.logit_hw.shape)
    logit_hw = of.logit_hw if not strokes_hw.any() else after(of, strokes_hw)
    chance_hw = (1 / (1 + np.exp(-logit_hw))).astype(np.float32)
    return np.where(strokes_hw == NOTHING, chance_hw, strokes_hw == LESION).astype(np.float32)


def after(of: Ground, strokes_hw: np.ndarray) -> np.ndarray:
    """The logit of lesion that both classifiers make of some strokes: float (H, W)."""
    strokes_p, logit_p = strokes_hw.ravel(), of.logit_hw.ravel()
    away_hw = ndimage.distance_transform_edt(strokes_hw == NOTHING) / max(strokes_hw.shape)
    taught, still = lesson(strokes_p, of.reach.most), anchors(away_hw > of.reach.clear, of.reach.anchors)
    at = np.concatenate([taught, still])

    asked = np.concatenate([of.reach.sure * strokes_p[taught] - logit_p[taught], np.zeros(len(still))])
    count = np.repeat([1.0, of.reach.trust], [len(taught), len(still)])
    added_q = learn(of.rows_pn[at], asked, count, of.reach.stiff, of.coarse_qn)
    near_hw = of.logit_hw + brought(added_q.reshape(1, *coarse(strokes_hw.shape)), strokes_hw.shape)[0]

    lesion = np.concatenate([strokes_p[taught], logit_p[still]]) > 0
    if lesion.all() or not lesion.any():
        return near_hw
    looks_hw = look(of, at, lesion, np.repeat([1.0, of.reach.believe], [len(taught), len(still)]))
    heard_hw = np.exp(-away_hw / of.reach.fade)
    far_hw = heard_hw * looks_hw + (1 - heard_hw) * of.logit_hw
    return (1 - of.reach.share) * near_hw + of.reach.share * far_hw


def look(of: Ground, at: np.ndarray, lesion_t: np.ndarray, count_t: np.ndarray) -> np.ndarray:
    """Logistic regression on the pixels of these numbers, which count so much: the logit of lesion, float (H, W), cut."""
    from sklearn.linear_model import LogisticRegression

    scale_n = np.ones(of.rows_pn.shape[1] + 1, np.float32)
    scale_n[:2] = of.reach.near / of.reach.wide
    rows_pn = np.column_stack([of.rows_pn, of.logit_hw.ravel()]) * scale_n
    model = LogisticRegression(max_iter=200).fit(rows_pn[at], lesion_t, count_t)
    logit_p = rows_pn @ model.coef_[0].astype(np.float32) + np.float32(model.intercept_[0])
    return np.clip(logit_p, -of.reach.most_sure, of.reach.most_sure).reshape(of.logit_hw.shape)


def learn(rows_tn: np.ndarray, asked_t: np.ndarray, count_t: np.ndarray, stiff: float, rows_qn: np.ndarray) -> np.ndarray:
    """Kernel ridge regression with a Gaussian kernel of deviation 1: from numbers at T rows to numbers at Q rows, float (Q,)."""
    from sklearn.kernel_ridge import KernelRidge

    model = KernelRidge(alpha=stiff, kernel="precomputed").fit(kernel(rows_tn, rows_tn).astype(np.float64), asked_t, count_t)
    return kernel(rows_qn, rows_tn) @ model.dual_coef_.astype(np.float32)


def kernel(a_pn: np.ndarray, b_tn: np.ndarray) -> np.ndarray:
    """exp(-|a - b|^2 / 2) of each pair of rows: float32 (P, T)."""
    near_pt = a_pn @ b_tn.T
    near_pt -= 0.5 * np.einsum("pn,pn->p", a_pn, a_pn)[:, None]
    near_pt -= 0.5 * np.einsum("tn,tn->t", b_tn, b_tn)
    return np.exp(np.minimum(near_pt, 0, out=near_pt), out=near_pt)


def anchors(clear_hw: np.ndarray, side: int) -> np.ndarray:
    """The numbers of those pixels of an even raster, ``side`` times ``side``, that are clear: bool (H, W) -> int (A,)."""
    rows, columns = (((np.arange(side) + 0.5) * length / max(1, side)).astype(int) for length in clear_hw.shape)
    at = np.unique((rows[:, None] * clear_hw.shape[1] + columns).ravel())
    return at[clear_hw.ravel()[at]]


def check(strokes_hw: np.ndarray, shape_hw: tuple[int, int]) -> None:
    """ValueError when strokes are not of a shape or not of -1, 0 and 1."""
    if strokes_hw.shape != shape_hw:
        raise ValueError(f"strokes {strokes_hw.shape} must have the image's shape {shape_hw}")
    if odd := set(np.unique(strokes_hw).tolist()) - {LESION, NOTHING, BACKGROUND}:
        raise ValueError(f"strokes hold {sorted(odd)}; allowed are 1 (lesion), -1 (background) and 0 (nothing)")


def lesson(strokes_p: np.ndarray, most: int) -> np.ndarray:
    """The numbers of the stroke pixels to learn from: all of a kind, or so many drawn with a fixed seed."""
    kinds = [np.flatnonzero(strokes_p == kind) for kind in (LESION, BACKGROUND)]
    rng = np.random.default_rng(0)
    return np.concatenate([np.sort(rng.choice(found, most, replace=False)) if len(found) > most else found for found in kinds])


def to_grid(strokes_hw: np.ndarray, shape_hw: tuple[int, int]) -> np.ndarray:
    """Strokes of an image's own size brought to a grid: int8; in a cell with both kinds the greater part counts, and a tie says nothing."""
    own, shape = strokes_hw.shape, shape_hw
    larger = tuple(max(pair) for pair in zip(own, shape, strict=True))
    strokes_hw = strokes_hw[np.ix_(*(np.arange(big) * side // big for big, side in zip(larger, own, strict=True)))]
    cell_hw = np.add.outer(np.arange(larger[0]) * shape[0] // larger[0] * shape[1], np.arange(larger[1]) * shape[1] // larger[1])
    sums = np.bincount(cell_hw.ravel(), strokes_hw.ravel().astype(float), shape[0] * shape[1])
    return np.sign(sums).astype(np.int8).reshape(shape)


def spread(chance_hw: np.ndarray, strokes_hw: np.ndarray) -> np.ndarray:
    """The grid's chance at the size of the image that the strokes, int8, were drawn on; they are obeyed there too: float32."""
    own_hw = brought(chance_hw[None], strokes_hw.shape)[0]
    return np.where(strokes_hw == NOTHING, own_hw, strokes_hw == LESION).astype(np.float32)


def standing(of: Ground, mask_hw: np.ndarray) -> Ground:
    """The same ground with what a person drew, bool (H, W), in place of the model's proposal where the two differ.

    Up to ``DOUBT`` pixels from where they agree the mask counts for less, since a border is never certain. ValueError for
    a mask of another shape.
    """
    if mask_hw.shape != of.logit_hw.shape:
        raise ValueError(f"mask {mask_hw.shape} must have the grid's shape {of.logit_hw.shape}")
    wrong_hw = mask_hw != (of.logit_hw > 0)
    if not wrong_hw.any():
        return of
    depth_hw = np.full(mask_hw.shape, DOUBT) if wrong_hw.all() else ndimage.distance_transform_edt(wrong_hw)
    meant_hw = np.where(mask_hw, 1, -1) * of.reach.humble * np.minimum(depth_hw / DOUBT, 1)
    return replace(of, logit_hw=np.where(wrong_hw, meant_hw, of.logit_hw).astype(np.float32))


def carry(before_hw: np.ndarray, mask_hw: np.ndarray, then_hw: np.ndarray, how: Carried = Carried()) -> np.ndarray:
    """A mask, bool (H, W), carried on from its slice to the next: what is left of it there, maybe nothing.

    before_hw, then_hw: the slices' intensities in [0, 1]. A pixel's logit is how deep it lies in the mask, plus how much
    better its brightness fits that of the mask than that of its surroundings, each taken for a Gaussian. What does not
    touch the mask is dropped. ValueError when the shapes differ.
    """
    if not before_hw.shape == mask_hw.shape == then_hw.shape:
        raise ValueError(f"slices {before_hw.shape} and {then_hw.shape} and mask {mask_hw.shape} must be of one shape")
    if not mask_hw.any() or mask_hw.all():
        return mask_hw.copy()
    pixel = max(mask_hw.shape)
    depth_hw = (ndimage.distance_transform_edt(mask_hw) - ndimage.distance_transform_edt(~mask_hw)) / pixel
    seen_hw, next_hw = (ndimage.gaussian_filter(each.astype(np.float64), how.blur * pixel) for each in (before_hw, then_hw))
    lesion_hw, around_hw = (fit(seen_hw[where], next_hw) for where in (mask_hw, ~mask_hw & (depth_hw > -how.around)))
    logit_hw = depth_hw / how.soft + np.clip(lesion_hw - around_hw, -how.most, how.most)
    kept_hw = (ndimage.gaussian_filter(logit_hw, how.even * pixel) > 0) & (depth_hw > -how.grow)
    labels_hw, count = ndimage.label(kept_hw)
    return np.isin(labels_hw, np.setdiff1d(labels_hw[kept_hw & mask_hw], 0)) if count else kept_hw


def fit(values_n: np.ndarray, asked_hw: np.ndarray) -> np.ndarray:
    """How well numbers fit a Gaussian made of some values: its log density, less a constant."""
    variance = values_n.var() + 1e-4
    return -0.5 * ((asked_hw - values_n.mean()) ** 2 / variance + np.log(variance))
