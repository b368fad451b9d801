"""The object of an image that a simulated user marks in training: a part of its mask, what goes on from the slice
beside it, a structure, or a painted shape.

Axes: H x W pixels.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mpsams.inference.prompts import Prompt
from train import simulated_users, structures
from train.prompt_options import Learning

SMALLEST = 16  # pixels of an object to learn from


def first_turn(
    image_hw: np.ndarray, masks_2hw: np.ndarray, learning: Learning, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, Prompt]:
    """Return the image, the object in it, bool (H, W), and a user's first prompt.

    masks_2hw: as of ``Objects.take_slices``. Where the second is not empty, the prompt is a part of it, with small
    errors, and the object what goes on from that part, which may be nothing.
    """
    mask_hw, followed_hw = masks_2hw
    parts = simulated_users.connected_parts(followed_hw, SMALLEST)
    if parts:
        part_hw = parts[rng.integers(len(parts))]
        labels_hw, _ = ndimage.label(mask_hw)
        object_hw = np.isin(labels_hw, np.setdiff1d(labels_hw[part_hw], 0))
        outlined_hw = simulated_users.wrong_mask(part_hw, rng, 0.05, 0.1) if rng.random() < 0.5 else part_hw
        return image_hw, object_hw, Prompt(mask=outlined_hw)
    image_hw, object_hw = choose_object(image_hw, mask_hw, learning.shapes, learning.structures, rng)
    return image_hw, object_hw, simulated_users.first_prompt(object_hw, learning.box_jitter, rng)


def choose_object(
    image_hw: np.ndarray, mask_hw: np.ndarray, shapes: float, similar: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the image and an object in it, bool (H, W): a part of its mask, a structure, or a painted shape.

    shapes, similar: how often it is a shape and a structure; also a shape where the mask has no part.
    """
    kind = rng.random()
    if kind < similar:
        found_hw = structures.find_structure(image_hw, rng)
        if found_hw is not None:
            return image_hw, found_hw
    parts = simulated_users.connected_parts(mask_hw, SMALLEST)
    if kind >= 1 - shapes or not parts:
        return structures.paint_shape(image_hw, rng)
    return image_hw, parts[rng.integers(len(parts))]
