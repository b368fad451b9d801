"""Propagates a mask from one slice of a volume to the next, by depth in the mask and by intensity.

Axes: H x W pixels of the working grid.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# Set on two built-in volumes and checked on others. Lengths are shares of the grid's longer side.
BLUR = 0.008  # deviation at which intensities are compared
RING_WIDTH = 0.04  # of the surroundings
DEPTH_SCALE = 0.008  # depth in the mask that has a logit of 1
INTENSITY_CLIP = 3.0  # largest logit of the intensities
SMOOTHING = 0.006  # deviation at which logits are smoothed
MAX_GROWTH = 0.024  # of a mask


def propagate_slice(before_hw: np.ndarray, mask_hw: np.ndarray, after_hw: np.ndarray) -> np.ndarray:
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
        ndimage.gaussian_filter(each.astype(np.float64), BLUR * side) for each in (before_hw, after_hw)
    )
    ring_hw = ~mask_hw & (depth_hw > -RING_WIDTH)
    lesion_hw, around_hw = (_log_density(blurred_hw[region_hw], next_hw) for region_hw in (mask_hw, ring_hw))
    logit_hw = depth_hw / DEPTH_SCALE + np.clip(lesion_hw - around_hw, -INTENSITY_CLIP, INTENSITY_CLIP)
    grown_hw = (ndimage.gaussian_filter(logit_hw, SMOOTHING * side) > 0) & (depth_hw > -MAX_GROWTH)
    labels_hw, count = ndimage.label(grown_hw)
    return np.isin(labels_hw, np.setdiff1d(labels_hw[grown_hw & mask_hw], 0)) if count else grown_hw


def _log_density(values_n: np.ndarray, query_hw: np.ndarray) -> np.ndarray:
    """Return the log density, less a constant, of numbers under the Gaussian fitted to some values."""
    variance = values_n.var() + 1e-4
    return -0.5 * ((query_hw - values_n.mean()) ** 2 / variance + np.log(variance))
