"""Objects that are no lesion: shapes painted into an image, and structures found in it by their brightness.

With them a prompt network learns to follow a prompt rather than to find lesions. The idea is that of SynthMorph and of
ScribblePrompt's synthetic labels. Axes: H x W pixels. ``rng`` decides everything that is random.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from scipy import ndimage

TRIES = 4  # pixels to look for a structure around
SMALLEST, LARGEST = 0.002, 0.3  # share of the image that an object takes


def blob(shape_hw: tuple[int, int], rng: Generator) -> np.ndarray:
    """Draw a smooth random shape somewhere in an image: bool (H, W), never empty."""
    side = min(shape_hw)
    radius = side * np.exp(rng.uniform(np.log(0.05), np.log(0.25)))
    row, column = (rng.uniform(radius, length - radius) for length in shape_hw)
    y_hw, x_hw = np.ogrid[: shape_hw[0], : shape_hw[1]]
    y_hw, x_hw = y_hw - row, x_hw - column
    turn, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(0, 0.5))
    along_hw = (x_hw * np.cos(turn) + y_hw * np.sin(turn)) / stretch
    across_hw = (y_hw * np.cos(turn) - x_hw * np.sin(turn)) * stretch
    angle_hw = np.arctan2(across_hw, along_hw)
    border_hw = np.ones(shape_hw)
    for waves in range(2, 7):
        border_hw += rng.normal(0, 0.25 / waves) * np.cos(waves * angle_hw + rng.uniform(0, 2 * np.pi))
    mask_hw = np.hypot(along_hw, across_hw) < radius * np.maximum(border_hw, 0.2)
    mask_hw[int(row), int(column)] = True
    return mask_hw


def paint_shape(image_hw: np.ndarray, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Paint a textured shape of soft border into an image, float32 (H, W) in [0, 1]; return it and the shape's mask."""
    mask_hw = blob(image_hw.shape, rng)
    texture_hw = ndimage.gaussian_filter(rng.normal(size=image_hw.shape), rng.uniform(0.5, 3))
    filling_hw = rng.uniform(0, 1) + rng.uniform(0, 0.15) * texture_hw / max(float(texture_hw.std()), 1e-6)
    weight_hw = rng.uniform(0.25, 0.9) * ndimage.gaussian_filter(mask_hw.astype(np.float64), rng.uniform(0.3, 1.5))
    painted_hw = image_hw * (1 - weight_hw) + filling_hw * weight_hw
    return np.clip(painted_hw, 0, 1).astype(np.float32), mask_hw


def find_structure(image_hw: np.ndarray, rng: Generator) -> np.ndarray | None:
    """Find a connected part of similar brightness without holes, bool (H, W); None when none of ``TRIES`` fits.

    image_hw: float (H, W) in [0, 1]; black pixels are taken for what is outside of the body.
    """
    smooth_hw = ndimage.gaussian_filter(image_hw, rng.uniform(1, 4))
    inside_n2 = np.argwhere(smooth_hw > 0.05)
    for _ in range(TRIES if len(inside_n2) else 0):
        row, column = rng.choice(inside_n2)
        labels_hw, _ = ndimage.label(np.abs(smooth_hw - smooth_hw[row, column]) < rng.uniform(0.04, 0.15))
        mask_hw = ndimage.binary_fill_holes(ndimage.binary_opening(labels_hw == labels_hw[row, column], iterations=2))
        labels_hw, count = ndimage.label(mask_hw)
        if count:
            mask_hw = labels_hw == 1 + np.bincount(labels_hw.ravel())[1:].argmax()
        if SMALLEST <= mask_hw.mean() <= LARGEST:
            return mask_hw
    return None
