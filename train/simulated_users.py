"""Simulated users, who know an object and mark it: boxes, clicks and scribbles, and corrections of an answer.

Axes: H x W pixels of an image. ``rng`` decides everything that is random.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from mpsams.inference.prompts import BACKGROUND, OBJECT, Prompt, bounding_box
from mpsams.transforms import Box

STARTS = {
    "box": 0.45,
    "click": 0.3,
    "box and click": 0.08,
    "scribble": 0.09,
    "wrong mask": 0.08,
}  # how often a first prompt is such
NEXT = {"click": 0.65, "scribble": 0.15, "nothing": 0.2}  # how often a further turn adds such
DEEPEST = 0.5  # how often a training's click is at the deepest point, as an evaluation's always is


def connected_parts(mask_hw: np.ndarray, least: int = 1) -> list[np.ndarray]:
    """Return the connected parts of a mask with at least so many pixels, the largest first; of equal ones the first in
    reading order.
    """
    labels_hw, _ = ndimage.label(mask_hw)
    sizes = np.bincount(labels_hw.ravel())[1:]
    return [labels_hw == 1 + number for number in np.argsort(-sizes, kind="stable") if sizes[number] >= least]


def largest_part(mask_hw: np.ndarray) -> np.ndarray:
    """Return the largest connected part of a mask, bool (H, W); an empty mask as it is."""
    labels_hw, count = ndimage.label(mask_hw)
    return mask_hw if count < 2 else labels_hw == 1 + np.bincount(labels_hw.ravel())[1:].argmax()


def jittered_box(mask_hw: np.ndarray, share: float, rng: Generator) -> Box:
    """Return the bounding box of a mask with each side moved by up to ``share`` of the box, in whole pixels."""
    top, left, height, width = bounding_box(mask_hw)
    move = rng.uniform(-share, share, 4) * (height, width, height, width)
    low = np.round((top + move[0], left + move[1])).astype(int)
    high = np.round((top + height + move[2], left + width + move[3])).astype(int)
    return Box(*(int(value) for value in (*low, *np.maximum(high - low, 1))))


def depth(mask_hw: np.ndarray) -> np.ndarray:
    """Return the distance of each pixel of a mask to the outside, also beyond the image's edge: float (H, W)."""
    found_hw = np.zeros(mask_hw.shape)
    top, left, height, width = bounding_box(mask_hw)
    part = (slice(top, top + height), slice(left, left + width))
    found_hw[part] = ndimage.distance_transform_edt(np.pad(mask_hw[part], 1))[1:-1, 1:-1]
    return found_hw


def deepest_point(mask_hw: np.ndarray) -> tuple[int, int]:
    """Return the (row, column) of a mask that is farthest from its border; of equal ones the first."""
    row, column = np.unravel_index(int(depth(mask_hw).argmax()), mask_hw.shape)
    return int(row), int(column)


def inner_point(mask_hw: np.ndarray, rng: Generator) -> tuple[int, int]:
    """Draw a click of a person: the deepest point, or any that is at least a third as deep."""
    if rng.random() < DEEPEST:
        return deepest_point(mask_hw)
    depth_hw = depth(mask_hw)
    row, column = rng.choice(np.argwhere(depth_hw >= max(1.0, depth_hw.max() / 3)))
    return int(row), int(column)


def largest_error(answer_hw: np.ndarray, truth_hw: np.ndarray) -> tuple[np.ndarray, bool] | None:
    """Return the largest connected part that was missed or added, and True if missed; None without an error."""
    parts = [largest_part(wrong_hw) for wrong_hw in (truth_hw & ~answer_hw, answer_hw & ~truth_hw)]
    sizes = [int(part.sum()) for part in parts]
    if not any(sizes):
        return None
    missed = sizes[0] >= sizes[1]
    return (parts[0] if missed else parts[1]), missed


def next_click(prompt: Prompt, answer_hw: np.ndarray, truth_hw: np.ndarray, rng: Generator | None = None) -> Prompt:
    """Return the prompt with the answer as mask and a click at the deepest (``rng``: an inner) point of the error."""
    found = largest_error(answer_hw, truth_hw)
    if found is None:
        return replace(prompt, mask=answer_hw)
    region_hw, missed = found
    point = deepest_point(region_hw) if rng is None else inner_point(region_hw, rng)
    prompt = replace(prompt, mask=answer_hw)
    return (
        replace(prompt, positive=(*prompt.positive, point))
        if missed
        else replace(prompt, negative=(*prompt.negative, point))
    )


def scribble(region_hw: np.ndarray, rng: Generator) -> np.ndarray:
    """Draw a wavy line inside a region that is not empty: bool (H, W), at least one pixel."""
    depth_hw = depth(region_hw)
    inner_n2 = np.argwhere(depth_hw >= max(1.0, depth_hw.max() / 3))
    ends_n2 = rng.choice(inner_n2, 3).astype(float)
    t = np.linspace(0, 1, 2 * sum(region_hw.shape))[:, None]
    curve_n2 = (1 - t) ** 2 * ends_n2[0] + 2 * t * (1 - t) * ends_n2[1] + t**2 * ends_n2[2]
    across = (ends_n2[2] - ends_n2[0])[::-1] * (1, -1)
    wave = rng.uniform(0, 0.15) * np.sin(2 * np.pi * (rng.uniform(1, 4) * t + rng.random()))
    at_n2 = np.round(curve_n2 + wave * across).astype(int)
    at_n2 = at_n2[((at_n2 >= 0) & (at_n2 < region_hw.shape)).all(axis=1)]
    line_hw = np.zeros(region_hw.shape, bool)
    line_hw[at_n2[:, 0], at_n2[:, 1]] = True
    line_hw &= region_hw
    line_hw[tuple(ends_n2[0].astype(int))] = True
    return line_hw


def add_scribble(prompt: Prompt, region_hw: np.ndarray, positive: bool, rng: Generator) -> Prompt:
    """Return the prompt with a scribble in a region; it lies over earlier ones."""
    strokes_hw = np.zeros(region_hw.shape, np.int8) if prompt.scribbles is None else prompt.scribbles.copy()
    strokes_hw[scribble(region_hw, rng)] = OBJECT if positive else BACKGROUND
    return replace(prompt, scribbles=strokes_hw)


def wrong_mask(truth_hw: np.ndarray, rng: Generator, shift: float = 0.4, change: float = 0.3) -> np.ndarray:
    """Draw a mask to be corrected: the truth moved, and then grown or shrunk; bool (H, W), never empty.

    shift, change: how far at most, as shares of the object's sides and of its shorter side.
    """
    _, _, height, width = bounding_box(truth_hw)
    move = np.round(rng.uniform(-shift, shift, 2) * (height, width)).astype(int)
    mask_hw = ndimage.shift(truth_hw.astype(np.uint8), move, order=0).astype(bool)
    steps = int(rng.integers(1, max(2, round(change * min(height, width)))))
    grow_or_shrink = ndimage.binary_dilation if rng.random() < 0.5 else ndimage.binary_erosion
    changed_hw = grow_or_shrink(mask_hw, iterations=steps)
    return changed_hw if changed_hw.any() else truth_hw


def first_prompt(truth_hw: np.ndarray, box_jitter: float, rng: Generator) -> Prompt:
    """Draw a first prompt for an object, one of ``STARTS``. box_jitter: largest move of a side, as a share."""
    kind = rng.choice(list(STARTS), p=list(STARTS.values()))
    box = jittered_box(truth_hw, rng.uniform(0, box_jitter), rng) if "box" in kind else None
    if kind == "wrong mask":
        return next_click(Prompt(), wrong_mask(truth_hw, rng), truth_hw, rng)
    if kind == "scribble":
        return add_scribble(Prompt(), truth_hw, True, rng)
    clicks = (inner_point(truth_hw, rng),) if "click" in kind else ()
    return Prompt(box=box, positive=clicks)


def next_prompt(prompt: Prompt, answer_hw: np.ndarray, truth_hw: np.ndarray, rng: Generator) -> Prompt:
    """Return the prompt after an answer, with one of ``NEXT`` added; "nothing" repeats it with the answer as mask.

    An empty answer is no mask to correct, so it does not become the prompt's.
    """
    prompt = replace(prompt, mask=answer_hw if answer_hw.any() else prompt.mask)
    kind, found = rng.choice(list(NEXT), p=list(NEXT.values())), largest_error(answer_hw, truth_hw)
    if kind == "nothing" or found is None:
        return prompt
    if kind == "click":
        return replace(next_click(prompt, answer_hw, truth_hw, rng), mask=prompt.mask)
    return add_scribble(prompt, *found, rng)
