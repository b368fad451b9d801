"""Makes a mask of a proposal and a person's strokes: two small classifiers extend the strokes to near and similar
pixels.

Kernel ridge regression (the mean of a Gaussian process; Rasmussen & Williams 2006, chapter 2) predicts the difference
between the strokes and the proposal; it acts near the strokes. Logistic regression is trained on the strokes and on the
proposal far from them; its weight falls with the distance from a stroke. The result is the mean of both logits, so the
proposal stays where no stroke is near or similar. Pixels are compared by the network's features, the intensities around
them and their place.

Over 250 lines because it is one algorithm, whose parts hand on the same arrays.

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
BORDER_PIXELS = 3  # pixels from where mask and model agree


@dataclass(frozen=True)
class ScribbleConfig:
    """Settings of the two classifiers, set on validation images of BUSI with the simulated annotator
    (``benchmarks.annotator``).

    Lengths are shares of the grid's longer side. blur: deviations at which intensities are compared. max_pixels: stroke
    pixels used, per kind. prior_logit_clip: the proposal's logits are cut to this. An anchor is a pixel at which the
    proposal is taken as right: of a raster of anchor_grid x anchor_grid pixels those farther than anchor_distance from
    all strokes. Kernel ridge regression: kernel_sigma: deviation of place. stroke_logit: target of a stroke.
    ridge_alpha: regularisation.
    anchor_weight: of an anchor, relative to a stroke's pixel.
    Logistic regression: logistic_sigma: deviation of place. logistic_anchor_weight: of an anchor. logistic_clip: its
    logits are cut to this. decay: distance from a stroke at which it counts 1/e. logistic_share: its weight in the mean
    of both.
    """

    blur: tuple[float, ...] = (0.004, 0.012, 0.03)
    kernel_sigma: float = 0.12
    stroke_logit: float = 2.0
    ridge_alpha: float = 0.1
    anchor_weight: float = 0.5
    logistic_sigma: float = 0.5
    logistic_anchor_weight: float = 0.3
    logistic_clip: float = 3.0
    decay: float = 0.15
    logistic_share: float = 0.5
    prior_logit_clip: float = 2.0
    max_pixels: int = 150
    anchor_grid: int = 16
    anchor_distance: float = 0.06


@dataclass(frozen=True)
class PreparedImage:
    """Features of an image that are computed before the first stroke.

    rows_pn: the numbers by which pixels are compared, in units of the kernel's deviation, the place first. coarse_qn:
    the same of every 2 x 2 pixels. logit_hw: of the proposal, cut.
    """

    rows_pn: np.ndarray
    coarse_qn: np.ndarray
    logit_hw: np.ndarray
    config: ScribbleConfig


def prepare(
    unit_hw: np.ndarray,
    probability_hw: np.ndarray,
    features_khw: np.ndarray | None = None,
    config: ScribbleConfig = ScribbleConfig(),
) -> PreparedImage:
    """Prepare an image on the working grid.

    unit_hw: intensities in [0, 1]. probability_hw: of lesion by the model, of the same shape; zeros without a proposal.
    features_khw: of ``inference.features``, of any size; None goes without. ValueError if the shapes differ or a number
    is not finite.
    """
    if unit_hw.ndim != 2 or unit_hw.shape != probability_hw.shape:
        raise ValueError(
            f"image {unit_hw.shape} and probability {probability_hw.shape} must be (H, W) and of one shape"
        )
    if not all(
        np.isfinite(each).all() for each in (unit_hw, probability_hw, *([] if features_khw is None else [features_khw]))
    ):
        raise ValueError("image, probability and features must be finite")
    side = max(unit_hw.shape)
    blurred = np.stack([ndimage.gaussian_filter(unit_hw.astype(np.float32), share * side) for share in config.blur])
    place = np.indices(unit_hw.shape).astype(np.float32) / (config.kernel_sigma * side)
    parts = [place, standardise_channels(blurred) / len(blurred) ** 0.5]
    if features_khw is not None:
        parts.append(standardise_channels(resample(features_khw, unit_hw.shape)) / len(features_khw) ** 0.5)
    rows_nhw = np.concatenate(parts).astype(np.float32)
    probability = np.clip(probability_hw.astype(np.float32), 1e-6, 1 - 1e-6)
    logit_hw = np.clip(np.log(probability / (1 - probability)), -config.prior_logit_clip, config.prior_logit_clip)
    return PreparedImage(
        flatten_pixels(rows_nhw),
        flatten_pixels(resample(rows_nhw, coarse_shape(unit_hw.shape), "area")),
        logit_hw,
        config,
    )


def coarse_shape(shape_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the shape of a grid of half the side, on which the kernel regression is evaluated."""
    return -(-shape_hw[0] // 2), -(-shape_hw[1] // 2)


def resample(x_nhw: np.ndarray, shape_hw: tuple[int, int], mode: str = "bilinear") -> np.ndarray:
    """Resample maps to another size: (N, H, W) -> float32 (N, *shape_hw)."""
    options = {} if mode == "area" else {"align_corners": False}
    return F.interpolate(
        torch.from_numpy(np.ascontiguousarray(x_nhw, np.float32))[None], shape_hw, mode=mode, **options
    )[0].numpy()


def flatten_pixels(x_nhw: np.ndarray) -> np.ndarray:
    """Return maps (N, H, W) as one row per pixel (P, N)."""
    return np.ascontiguousarray(x_nhw.reshape(len(x_nhw), -1).T)


def standardise_channels(x_khw: np.ndarray) -> np.ndarray:
    """Scale each channel to mean 0 and deviation 1; a constant one becomes zeros."""
    mean, deviation = x_khw.mean(axis=(1, 2), keepdims=True), x_khw.std(axis=(1, 2), keepdims=True)
    return (x_khw - mean) / np.where(deviation > 1e-5, deviation, np.inf)


def refine(prepared: PreparedImage, strokes_hw: np.ndarray) -> np.ndarray:
    """Return the probability of lesion after strokes, float32 (H, W) in [0, 1]; above one half is the mask.

    It is exactly 1 or 0 on a stroke, and the proposal's without strokes. ValueError if the strokes are not of the
    grid's shape, or not of -1, 0 and 1.
    """
    validate_strokes(strokes_hw, prepared.logit_hw.shape)
    logit_hw = prepared.logit_hw if not strokes_hw.any() else update_logit(prepared, strokes_hw)
    probability_hw = (1 / (1 + np.exp(-logit_hw))).astype(np.float32)
    return np.where(strokes_hw == NOTHING, probability_hw, strokes_hw == LESION).astype(np.float32)


def update_logit(prepared: PreparedImage, strokes_hw: np.ndarray) -> np.ndarray:
    """Return the logit of lesion that both classifiers predict after strokes: float (H, W)."""
    config = prepared.config
    strokes_p, logit_p = strokes_hw.ravel(), prepared.logit_hw.ravel()
    distance_hw = ndimage.distance_transform_edt(strokes_hw == NOTHING) / max(strokes_hw.shape)
    stroke_pixels = sample_stroke_pixels(strokes_p, config.max_pixels)
    anchor_pixels = find_anchors(distance_hw > config.anchor_distance, config.anchor_grid)
    pixels = np.concatenate([stroke_pixels, anchor_pixels])

    residual = np.concatenate(
        [config.stroke_logit * strokes_p[stroke_pixels] - logit_p[stroke_pixels], np.zeros(len(anchor_pixels))]
    )
    weight = np.repeat([1.0, config.anchor_weight], [len(stroke_pixels), len(anchor_pixels)])
    added_q = fit_kernel_ridge(prepared.rows_pn[pixels], residual, weight, config.ridge_alpha, prepared.coarse_qn)
    near_hw = prepared.logit_hw + resample(added_q.reshape(1, *coarse_shape(strokes_hw.shape)), strokes_hw.shape)[0]

    lesion = np.concatenate([strokes_p[stroke_pixels], logit_p[anchor_pixels]]) > 0
    if lesion.all() or not lesion.any():
        return near_hw
    weight = np.repeat([1.0, config.logistic_anchor_weight], [len(stroke_pixels), len(anchor_pixels)])
    logistic_hw = fit_logistic(prepared, pixels, lesion, weight)
    weight_hw = np.exp(-distance_hw / config.decay)
    far_hw = weight_hw * logistic_hw + (1 - weight_hw) * prepared.logit_hw
    return (1 - config.logistic_share) * near_hw + config.logistic_share * far_hw


def fit_logistic(prepared: PreparedImage, pixels: np.ndarray, lesion_t: np.ndarray, weight_t: np.ndarray) -> np.ndarray:
    """Train logistic regression on weighted pixels, given by number; return the logit of lesion, float (H, W), cut."""
    from sklearn.linear_model import LogisticRegression

    scale_n = np.ones(prepared.rows_pn.shape[1] + 1, np.float32)
    scale_n[:2] = prepared.config.kernel_sigma / prepared.config.logistic_sigma
    rows_pn = np.column_stack([prepared.rows_pn, prepared.logit_hw.ravel()]) * scale_n
    model = LogisticRegression(max_iter=200).fit(rows_pn[pixels], lesion_t, weight_t)
    logit_p = rows_pn @ model.coef_[0].astype(np.float32) + np.float32(model.intercept_[0])
    return np.clip(logit_p, -prepared.config.logistic_clip, prepared.config.logistic_clip).reshape(
        prepared.logit_hw.shape
    )


def fit_kernel_ridge(
    rows_tn: np.ndarray, target_t: np.ndarray, weight_t: np.ndarray, alpha: float, rows_qn: np.ndarray
) -> np.ndarray:
    """Train kernel ridge regression (Gaussian kernel of deviation 1) on T rows; return predictions at Q rows, (Q,)."""
    from sklearn.kernel_ridge import KernelRidge

    model = KernelRidge(alpha=alpha, kernel="precomputed").fit(
        kernel(rows_tn, rows_tn).astype(np.float64), target_t, weight_t
    )
    return kernel(rows_qn, rows_tn) @ model.dual_coef_.astype(np.float32)


def kernel(a_pn: np.ndarray, b_tn: np.ndarray) -> np.ndarray:
    """Return exp(-|a - b|^2 / 2) of each pair of rows, float32 (P, T)."""
    near_pt = a_pn @ b_tn.T
    near_pt -= 0.5 * np.einsum("pn,pn->p", a_pn, a_pn)[:, None]
    near_pt -= 0.5 * np.einsum("tn,tn->t", b_tn, b_tn)
    return np.exp(np.minimum(near_pt, 0, out=near_pt), out=near_pt)


def find_anchors(clear_hw: np.ndarray, side: int) -> np.ndarray:
    """Return the numbers, int (A,), of the pixels of a ``side`` x ``side`` raster that are True in ``clear_hw``."""
    rows, columns = (((np.arange(side) + 0.5) * length / max(1, side)).astype(int) for length in clear_hw.shape)
    pixels = np.unique((rows[:, None] * clear_hw.shape[1] + columns).ravel())
    return pixels[clear_hw.ravel()[pixels]]


def validate_strokes(strokes_hw: np.ndarray, shape_hw: tuple[int, int]) -> None:
    """Raise ValueError if strokes are not of a shape, or not of -1, 0 and 1."""
    if strokes_hw.shape != shape_hw:
        raise ValueError(f"strokes {strokes_hw.shape} must have the image's shape {shape_hw}")
    if odd := set(np.unique(strokes_hw).tolist()) - {LESION, NOTHING, BACKGROUND}:
        raise ValueError(f"strokes hold {sorted(odd)}; allowed are 1 (lesion), -1 (background) and 0 (nothing)")


def sample_stroke_pixels(strokes_p: np.ndarray, max_pixels: int) -> np.ndarray:
    """Return the numbers of the stroke pixels to train on: all of a kind, or ``max_pixels`` drawn with a fixed seed."""
    kinds = [np.flatnonzero(strokes_p == kind) for kind in (LESION, BACKGROUND)]
    rng = np.random.default_rng(0)
    return np.concatenate(
        [np.sort(rng.choice(found, max_pixels, replace=False)) if len(found) > max_pixels else found for found in kinds]
    )


def to_grid(strokes_hw: np.ndarray, shape_hw: tuple[int, int]) -> np.ndarray:
    """Resample strokes of an image's own size to a grid: int8; the more frequent kind in a cell counts, a tie is 0."""
    own, shape = strokes_hw.shape, shape_hw
    larger = tuple(max(pair) for pair in zip(own, shape, strict=True))
    strokes_hw = strokes_hw[np.ix_(*(np.arange(big) * side // big for big, side in zip(larger, own, strict=True)))]
    cell_hw = np.add.outer(
        np.arange(larger[0]) * shape[0] // larger[0] * shape[1], np.arange(larger[1]) * shape[1] // larger[1]
    )
    sums = np.bincount(cell_hw.ravel(), strokes_hw.ravel().astype(float), shape[0] * shape[1])
    return np.sign(sums).astype(np.int8).reshape(shape)


def with_prior_mask(prepared: PreparedImage, mask_hw: np.ndarray) -> PreparedImage:
    """Return a prepared image with a person's mask, bool (H, W), in place of the proposal where the two differ.

    Up to ``BORDER_PIXELS`` pixels from where they agree the mask counts for less, since a border is never certain.
    ValueError for a mask of another shape.
    """
    if mask_hw.shape != prepared.logit_hw.shape:
        raise ValueError(f"mask {mask_hw.shape} must have the grid's shape {prepared.logit_hw.shape}")
    differs_hw = mask_hw != (prepared.logit_hw > 0)
    if not differs_hw.any():
        return prepared
    depth_hw = np.full(mask_hw.shape, BORDER_PIXELS) if differs_hw.all() else ndimage.distance_transform_edt(differs_hw)
    prior_hw = np.where(mask_hw, 1, -1) * prepared.config.prior_logit_clip * np.minimum(depth_hw / BORDER_PIXELS, 1)
    return replace(prepared, logit_hw=np.where(differs_hw, prior_hw, prepared.logit_hw).astype(np.float32))
