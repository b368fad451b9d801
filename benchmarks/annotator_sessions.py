"""Annotations of one image by a simulated annotator: by brush, by scribbles, or by boxes and clicks.

Seconds of the hand are those of the keystroke-level model (Card, Moran and Newell, Communications of the ACM 23, 1980):
each gesture takes a thought and a movement of the mouse, and then a click, a drag or a line. Masks are bool (H, W).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.annotator_strokes import brush, pen
from mpsams import metrics
from mpsams.inference.prompts import Prompt
from train import simulated_users
from train.evaluate_prompts import BOX_JITTER

THINK, POINT, PRESS = 1.35, 1.1, 0.1  # seconds of the keystroke-level model: a thought, a movement, a button
STROKE, PER_CM = 0.9, 0.16  # seconds to draw a line, and for each centimetre of it
CM = 0.08  # of an image's pixel on the screen, where three screen pixels at 96 dpi show one

Draw = Callable[[np.ndarray], np.ndarray]  # strokes so far, int8 (H, W) -> mask, bool (H, W)


@dataclass(frozen=True)
class Session:
    """The annotation of one image.

    dsc: before the first gesture and after each. lengths: of the strokes in pixels; of a click 0. ms: to answer each
    of them; empty for a brush, which needs no answer. drags: which of them are boxes or clicks, drawn without care for
    the way.
    """

    dsc: tuple[float, ...]
    lengths: tuple[int, ...]
    ms: tuple[float, ...]
    drags: bool = False

    def gestures(self, goal: float) -> int | None:
        """Return the number of gestures to the goal; None when it was not reached."""
        return next((count for count, dsc in enumerate(self.dsc) if dsc >= goal), None)

    def seconds(self) -> float:
        """Return the seconds of all gestures and of their answers."""
        return sum(self.ms) / 1000 + sum(gesture_seconds(length, self.drags) for length in self.lengths)


def gesture_seconds(length: int, is_drag: bool) -> float:
    """Return the seconds that a hand takes for a gesture over some pixels: a click where they are 0, a drag from one
    corner to the other of a box, or a stroke along a line.
    """
    drawn = 0 if not length else POINT if is_drag else STROKE + PER_CM * CM * length
    return THINK + POINT + 2 * PRESS + drawn


def dice(mask_hw: np.ndarray, truth_hw: np.ndarray) -> float:
    """Return the Dice coefficient of two masks (H, W)."""
    return float(metrics.overlap(*(torch.from_numpy(each[None]) for each in (mask_hw, truth_hw)))["dsc"])


@dataclass(frozen=True)
class Effort:
    """The limits of an annotation and the steadiness of the hand.

    goal: the Dice coefficient at which an image is done. most: gestures after which the annotator gives up. noise: how
    far the hand strays, deviation in pixels. seed: of what is random.
    """

    goal: float
    most: int
    noise: float
    seed: int

    def goes_on(self, dsc: float, gestures: int) -> bool:
        """Return whether another gesture is made."""
        return dsc < self.goal and gestures < self.most


def annotate_by_brush(truth_hw: np.ndarray, start_hw: np.ndarray, effort: Effort) -> Session:
    """Paint until the goal is reached, from a mask, bool (H, W)."""
    rng, mask_hw, dsc, lengths = np.random.default_rng(effort.seed), start_hw, [dice(start_hw, truth_hw)], []
    while effort.goes_on(dsc[-1], len(lengths)) and (stroke := brush(truth_hw, mask_hw, effort.noise, rng)):
        mask_hw = np.where(stroke.pixels_hw, stroke.lesion, mask_hw)
        lengths.append(stroke.length)
        dsc.append(dice(mask_hw, truth_hw))
    return Session(tuple(dsc), tuple(lengths), ())


def annotate_by_scribble(truth_hw: np.ndarray, follow: Draw, effort: Effort) -> Session:
    """Scribble until the goal is reached; a later stroke goes over an earlier one."""
    rng, strokes_hw = np.random.default_rng(effort.seed), np.zeros(truth_hw.shape, np.int8)
    mask_hw = follow(strokes_hw)
    dsc, lengths, ms = [dice(mask_hw, truth_hw)], [], []
    while effort.goes_on(dsc[-1], len(lengths)) and (stroke := pen(truth_hw, mask_hw, effort.noise, rng)):
        strokes_hw = np.where(stroke.pixels_hw, np.int8(1 if stroke.lesion else -1), strokes_hw)
        began = time.perf_counter()
        mask_hw = follow(strokes_hw)
        ms.append(1000 * (time.perf_counter() - began))
        lengths.append(stroke.length)
        dsc.append(dice(mask_hw, truth_hw))
    return Session(tuple(dsc), tuple(lengths), tuple(ms))


def annotate_by_prompts(
    truth_hw: np.ndarray, start_hw: np.ndarray, answer: Callable[[Prompt], np.ndarray], with_boxes: bool, effort: Effort
) -> Session:
    """Mark each part of a lesion by a box or a click, the largest first, and then click into the largest error, until
    the goal is reached. The first answer takes the place of the mask that it starts from.
    """
    rng, parts = np.random.default_rng(effort.seed), simulated_users.connected_parts(truth_hw)
    asked: list[Prompt] = []
    found: list[np.ndarray] = []
    dsc, lengths, ms = [dice(start_hw, truth_hw)], list[int](), list[float]()
    while effort.goes_on(dsc[-1], len(lengths)):
        number, length = len(asked), 0
        if number < len(parts):
            if with_boxes:
                box = simulated_users.jittered_box(parts[number], BOX_JITTER, rng)
                prompt, length = Prompt(box=box), round(np.hypot(box.height, box.width))
            else:
                prompt = Prompt(positive=(simulated_users.deepest_point(parts[number]),))
            asked.append(prompt)
            found.append(np.zeros_like(truth_hw))
        else:
            number = int(np.argmax([(mask_hw != part_hw).sum() for mask_hw, part_hw in zip(found, parts, strict=True)]))
            asked[number] = simulated_users.next_click(asked[number], found[number], parts[number])
        began = time.perf_counter()
        found[number] = answer(asked[number])
        ms.append(1000 * (time.perf_counter() - began))
        lengths.append(length)
        dsc.append(dice(np.any(found, axis=0), truth_hw))
    return Session(tuple(dsc), tuple(lengths), tuple(ms), drags=True)
