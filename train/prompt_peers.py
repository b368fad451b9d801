"""Segmentation from a box or clicks without training, to compare a prompt network with.

GrabCut (Rother et al., SIGGRAPH 2004; OpenCV), random walker (Grady, TPAMI 2006; scikit-image) and the project's
scribble classifier. All work at a longer side of ``SIDE`` pixels. Where they need marks of what is no object, and
none is given, that is the image's border, or with a box what is clearly outside of it.

Axes: H x W pixels.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from mpsams import transforms
from mpsams.annotation import scribble
from mpsams.annotation.scribble import BACKGROUND, LESION
from mpsams.inference.prompts import Prompt

SIDE = 256  # longest side in pixels at which they work
CLICK = 0.01  # radius of a click as a share of the longer side
SLACK = 0.1  # how far outside of a box the background begins, as a share of the box, since boxes are not exact
CORE = 0.3  # side of the middle part of a box that is taken for the object, as a share of the box
NEAR = 0.15  # distance from a click at which GrabCut begins with object, as a share of the longer side
Peer = Callable[[np.ndarray, Prompt], tuple[np.ndarray, None]]


def available() -> dict[str, Peer]:
    """Return the peers whose library is installed, by name."""
    found: dict[str, Peer] = {"scribble classifier": resize(classify)}
    if importlib.util.find_spec("cv2"):
        found["grabcut"] = resize(grabcut)
    if importlib.util.find_spec("skimage"):
        found["random walker"] = resize(random_walker)
    return found


def resize(segment: Callable[[np.ndarray, np.ndarray, bool], np.ndarray]) -> Peer:
    """Return a peer from a function of image, marks and whether these come from a box; it works at a limited size."""

    def answer(unit_hw: np.ndarray, prompt: Prompt) -> tuple[np.ndarray, None]:
        scale = min(1.0, SIDE / max(unit_hw.shape))
        shape_hw = (max(1, round(unit_hw.shape[0] * scale)), max(1, round(unit_hw.shape[1] * scale)))
        small_hw = transforms.resize(unit_hw, *shape_hw)[0, 0].numpy()
        mask_hw = segment(small_hw, marks(prompt, unit_hw.shape, shape_hw), prompt.box is not None)
        return transforms.resize_mask(mask_hw, *unit_hw.shape)[0, 0].numpy(), None

    return answer


def marks(prompt: Prompt, own_hw: tuple[int, int], shape_hw: tuple[int, int]) -> np.ndarray:
    """Return as strokes, int8 (H, W), the clicks, and the middle of the box and what is clearly outside it."""
    scale = np.divide(shape_hw, own_hw)
    marks_hw = np.zeros(shape_hw, np.int8)
    if prompt.box is None:
        marks_hw[[0, -1]] = marks_hw[:, [0, -1]] = BACKGROUND
    else:
        low, sides = np.asarray(prompt.box[:2]) * scale, np.asarray(prompt.box[2:]) * scale
        marks_hw[:] = BACKGROUND
        for share, kind in ((1 + 2 * SLACK, 0), (CORE, LESION)):
            (top, left), (bottom, right) = (
                np.round(low + sides * (0.5 + sign * share / 2)).astype(int).clip(0, shape_hw) for sign in (-1, 1)
            )
            marks_hw[top : max(bottom, top + 1), left : max(right, left + 1)] = kind
    rows_hw, columns_hw = np.ogrid[: shape_hw[0], : shape_hw[1]]
    for kind, clicks in ((LESION, prompt.positive), (BACKGROUND, prompt.negative)):
        for row, column in (np.asarray(click) * scale for click in clicks):
            marks_hw[np.hypot(rows_hw - row, columns_hw - column) <= max(1.0, CLICK * max(shape_hw))] = kind
    return marks_hw


def grabcut(unit_hw: np.ndarray, marks_hw: np.ndarray, from_box: bool) -> np.ndarray:
    """Segment by GrabCut, begun with everything in the box as object, or with what is ``NEAR`` a click."""
    import cv2

    near_hw = from_box | (ndimage.distance_transform_edt(marks_hw != LESION) < NEAR * max(marks_hw.shape))
    states_hw = np.where(near_hw, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    states_hw[marks_hw == BACKGROUND] = cv2.GC_BGD
    states_hw[marks_hw == LESION] = cv2.GC_FGD
    colour_hwc = np.repeat((255 * unit_hw).round().astype(np.uint8)[..., None], 3, axis=2)
    cv2.setRNGSeed(0)
    cv2.grabCut(
        colour_hwc, states_hw, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 5, mode=cv2.GC_INIT_WITH_MASK
    )
    return (states_hw == cv2.GC_FGD) | (states_hw == cv2.GC_PR_FGD)


def random_walker(unit_hw: np.ndarray, marks_hw: np.ndarray, from_box: bool) -> np.ndarray:
    """Segment by random walker from the marks as seeds."""
    from skimage.segmentation import random_walker as walk

    seeds_hw = np.where(marks_hw == LESION, 1, np.where(marks_hw == BACKGROUND, 2, 0))
    if not ((seeds_hw == 1).any() and (seeds_hw == 2).any() and (seeds_hw == 0).any()):
        return seeds_hw == 1
    return walk(unit_hw.astype(np.float64), seeds_hw, beta=130, mode="cg_j", tol=1e-4, prob_tol=1e-2) == 1


def classify(unit_hw: np.ndarray, marks_hw: np.ndarray, from_box: bool) -> np.ndarray:
    """Segment by the scribble classifier, with the marks as strokes and no proposal."""
    prepared = scribble.prepare(unit_hw, np.full(unit_hw.shape, 0.5, np.float32))
    return scribble.refine(prepared, marks_hw) > 0.5
