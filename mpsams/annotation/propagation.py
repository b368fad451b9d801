"""Propagates a mask from one slice of a volume to the next, by depth in the mask and by intensity.

Axes: H x W pixels of the working grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class PropagationConfig:
    """Settings of the propagation, set on two built-in volumes and checked on others.

    Lengths are shares of the grid's longer side.

    blur: deviation at which intensities are compared. ring_width: width of the surroundings. depth_scale: depth in the
    mask that has a logit of 1. intensity_clip: largest logit of the intensities. smoothing: deviation at which logits
    are smoothed.
    max_growth: how far a mask may grow.
    """

    blur: float = 0.008
    ring_width: float = 0.04
    depth_scale: float = 0.008
    intensity_clip: float = 3.0
    smoothing: float = 0.006
    max_growth: float = 0.024


def propagate_slice(
    before_hw: np.ndarray, mask_hw: np.ndarray, after_hw: np.ndarray, config: PropagationConfig = PropagationConfig()
) -> np.ndarray:
    """Return the mask, bool (H, W), of the slice after; it may be empty.

    before_hw, after_hw: intensities of the two slices in [0, 1]. mask_hw: bool, of the slice before. The logit of a
    pixel is its depth in the mask, plus the log density of its intensity in the mask less that in the surroundings,
    both Gaussians. Parts that do not touch the mask are dropped. ValueError if the shapes differ.
    """
    if not before_hw.shape == mask_hw.shape == after_hw.shape:
        raise ValueError(f"slices {before_hw.shape} and {after_hw.shape} and mask {mask_hw.shape} must be of one shape")
    if not mask_hw.any() or mask_hw.all():
        return mask_hw.copy()
    side = max(mask_hw.shape)
    depth_hw = (ndimage.distance_transform_edt(mask_hw) - ndimage.distance_transform_edt(~mask_hw)) / side
    blurred_hw, next_hw = (
        ndimage.gaussian_filter(each.astype(np.float64), config.blur * side) for each in (before_hw, after_hw)
    )
    ring_hw = ~mask_hw & (depth_hw > -config.ring_width)
    lesion_hw, around_hw = (_log_density(blurred_hw[region_hw], next_hw) for region_hw in (mask_hw, ring_hw))
    logit_hw = depth_hw / config.depth_scale + np.clip(
        lesion_hw - around_hw, -config.intensity_clip, config.intensity_clip
    )
    grown_hw = (ndimage.gaussian_filter(logit_hw, config.smoothing * side) > 0) & (depth_hw > -config.max_growth)
    labels_hw, count = ndimage.label(grown_hw)
    return np.isin(labels_hw, np.setdiff1d(labels_hw[grown_hw & mask_hw], 0)) if count else grown_hw


def _log_density(values_n: np.ndarray, query_hw: np.ndarray) -> np.ndarray:
    """Return the log density, less a constant, of numbers under the Gaussian fitted to some values."""
    variance = values_n.var() + 1e-4
    return -0.5 * ((query_hw - values_n.mean()) ** 2 / variance + np.log(variance))
