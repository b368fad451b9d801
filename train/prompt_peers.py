"""Segmentation from a box or clicks without training, to compare a prompt network with.

GrabCut (Rother et al., SIGGRAPH 2004; OpenCV), random walker (Grady, TPAMI 2006; scikit-image) and the project's scribble
classifier. All work at a longer side of ``SIDE`` pixels. Where they need marks of what is no object, and none is given, that is the
image's border, or with a box what is outside of it.

Axes: H x W pixels.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from mpsams import scribble, transforms
from mpsams.prompts import Prompt
from mpsams.scribble import BACKGROUND, LESION

SIDE = 256  # longest side in pixels at which they work
CLICK = 0.01  # radius of a click as a share of the longer side
CORE = 0.3  # side of the middle part of a box that is taken for the object, as a share of the box
Peer = Callable[[np.ndarray, Prompt], tuple[np.ndarray, None]]


def available() -> dict[str, Peer]:
    """The peers whose library is installed, by name."""
    found: dict[str, Peer] = {"scribble classifier": resized(classify)}
    if importlib.util.find_spec("cv2"):
        found["grabcut"] = resized(grabcut)
    if importlib.util.find_spec("skimage"):
        found["random walker"] = resized(random_walker)
    return found


def resized(segment: Callable[[np.ndarray, np.ndarray, bool], np.ndarray]) -> Peer:
    """A peer that works on marks at a limited size: (image, marks, whether they come from a box) -> mask, brought back to the image."""

    def answer(unit_hw: np.ndarray, prompt: Prompt) -> tuple[np.ndarray, None]:
        scale = min(1.0, SIDE / max(unit_hw.shape))
        shape_hw = tuple(max(1, round(side * scale)) for side in unit_hw.shape)
        small_hw = transforms.resize(unit_hw, *shape_hw)[0, 0].numpy()
        mask_hw = segment(small_hw, marks(prompt, unit_hw.shape, shape_hw), prompt.box is not None)
        return transforms.resize_mask(mask_hw, *unit_hw.shape)[0, 0].numpy(), None

    return answer


def marks(prompt: Prompt, own_hw: tuple[int, int], shape_hw: tuple[int, int]) -> np.ndarray:
    """The clicks, the middle of the box and what is outside of it, or else the border: int8 (H, W) of the smaller image, as strokes are."""
    scale = np.divide(shape_hw, own_hw)
    marks_hw = np.zeros(shape_hw, np.int8)
    if prompt.box is None:
        marks_hw[[0, -1]] = marks_hw[:, [0, -1]] = BACKGROUND
    else:
        low, sides = np.asarray(prompt.box[:2]) * scale, np.asarray(prompt.box[2:]) * scale
        (top, left), (bottom, right) = (np.round(edge).astype(int).clip(0, shape_hw) for edge in (low, low + sides))
        marks_hw[:] = BACKGROUND
        marks_hw[top:bottom, left:right] = 0
        (top, left), (bottom, right) = (np.round(low + sides * (0.5 + sign * CORE / 2)).astype(int).clip(0, shape_hw) for sign in (-1, 1))
        marks_hw[top : max(bottom, top + 1), left : max(right, left + 1)] = LESION
    rows_hw, columns_hw = np.ogrid[: shape_hw[0], : shape_hw[1]]
    for kind, clicks in ((LESION, prompt.positive), (BACKGROUND, prompt.negative)):
        for row, column in (np.asarray(click) * scale for click in clicks):
            marks_hw[np.hypot(rows_hw - row, columns_hw - column) <= max(1.0, CLICK * max(shape_hw))] = kind
    return marks_hw


def grabcut(unit_hw: np.ndarray, marks_hw: np.ndarray, from_box: bool) -> np.ndarray:
    """GrabCut: of a box everything inside may be object, of clicks everything unmarked may be background."""
    import cv2

    states_hw = np.full(marks_hw.shape, cv2.GC_PR_FGD if from_box else cv2.GC_PR_BGD, np.uint8)
    states_hw[marks_hw == BACKGROUND] = cv2.GC_BGD
    if not from_box:
        states_hw[marks_hw == LESION] = cv2.GC_FGD
        near_hw = ndimage.distance_transform_edt(marks_hw != LESION) < 0.15 * max(marks_hw.shape)
        states_hw[near_hw & (marks_hw == 0)] = cv2.GC_PR_FGD
    colour_hwc = np.repeat((255 * unit_hw).round().astype(np.uint8)[..., None], 3, axis=2)
    cv2.setRNGSeed(0)
    cv2.grabCut(colour_hwc, states_hw, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)
    return (states_hw == cv2.GC_FGD) | (states_hw == cv2.GC_PR_FGD)


def random_walker(unit_hw: np.ndarray, marks_hw: np.ndarray, from_box: bool) -> np.ndarray:
    """Random walker from the marks as seeds."""
    from skimage.segmentation import random_walker as walk

    seeds_hw = np.where(marks_hw == LESION, 1, np.where(marks_hw == BACKGROUND, 2, 0))
    if not ((seeds_hw == 1).any() and (seeds_hw == 2).any() and (seeds_hw == 0).any()):
        return seeds_hw == 1
    return walk(unit_hw.astype(np.float64), seeds_hw, beta=130, mode="cg_j", tol=1e-3) == 1


def classify(unit_hw: np.ndarray, marks_hw: np.ndarray, from_box: bool) -> np.ndarray:
    """The scribble classifier, with the marks as strokes and no proposal."""
    ground = scribble.ground(unit_hw, np.full(unit_hw.shape, 0.5, np.float32))
    return scribble.refine(ground, marks_hw) > 0.5
