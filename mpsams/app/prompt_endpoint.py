"""The endpoint /prompt: masks of the objects that boxes and points mark on an image or a slice of a volume.

Boxes are [left, top, right, bottom] and points [x, y, label] in pixels of the slice as shown, as in the answers of
/segment; label 1 lies on the object and 0 beside it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr
import numpy as np

from mpsams.annotation import run_lengths
from mpsams.app import endpoints
from mpsams.app.events import endpoint
from mpsams.app.server.lanes import NETWORK
from mpsams.inference.case import MODALITIES
from mpsams.inference.prompts import Prompt, segment_prompt
from mpsams.inference.registry import ModelRegistry
from mpsams.transforms import Box

MOST = 100  # boxes, or points, of one request
LONGEST = 100 * MOST  # characters of either


@dataclass(frozen=True)
class Marks:
    """The box and the points of one object in a request: [left, top, right, bottom] or None, and [x, y, label]."""

    box: tuple[float, float, float, float] | None
    points: tuple[tuple[float, float, int], ...]

    def prompt(self) -> Prompt:
        """Return the box and points as the network takes them, row before column."""
        box = None
        if self.box is not None:
            left, top, right, bottom = (round(value) for value in self.box)
            box = Box(top, left, max(1, bottom - top), max(1, right - left))
        positive, negative = (tuple((y, x) for x, y, label in self.points if label == kind) for kind in (1, 0))
        return Prompt(box, positive, negative)


def parse_boxes(text: str) -> list[tuple[float, float, float, float]]:
    """Parse boxes from JSON: one [left, top, right, bottom] or a list; "" is none. ValueError says what is allowed.

    ValueError says what is allowed.
    """
    boxes = parse_rows(text, "boxes", 4)
    for left, top, right, bottom in boxes:
        if not (left < right and top < bottom):
            raise ValueError(f"box {[left, top, right, bottom]}: left must be less than right and top less than bottom")
    return [(left, top, right, bottom) for left, top, right, bottom in boxes]


def parse_points(text: str) -> list[tuple[float, float, int]]:
    """Parse points from JSON: one [x, y] or [x, y, label] or a list of them, label 1 (the default) or 0. ValueError
    says what is allowed.

    ValueError says what is allowed.
    """
    points = [(*row, 1) if len(row) == 2 else row for row in parse_rows(text, "points", 2, 3)]
    if wrong := [point for point in points if point[2] not in (0, 1)]:
        raise ValueError(f"point {list(wrong[0])}: the label must be 1 (on the object) or 0 (beside it)")
    return [(x, y, int(label)) for x, y, label in points]


def parse_rows(text: str, name: str, *lengths: int) -> list[Sequence[float]]:
    """Parse rows of finite numbers of one of these lengths from JSON; one row may stand without the outer list."""
    try:
        rows = json.loads(text) if text.strip() else []
    except (ValueError, RecursionError):
        raise ValueError(
            f"{name} is no JSON; expected a list such as {[[40, 30, 90, 80]] if name == 'boxes' else [[60, 50, 1]]}"
        ) from None
    if isinstance(rows, list) and rows and not isinstance(rows[0], list):
        rows = [rows]
    if not isinstance(rows, list) or len(rows) > MOST:
        raise ValueError(f"{name} must be a list of at most {MOST} rows")
    for row in rows:
        numbers = isinstance(row, list) and all(type(value) in (int, float) and abs(value) < 1e6 for value in row)
        if not numbers or len(row) not in lengths:
            raise ValueError(f"{name}: {json.dumps(row)[:60]} must be {' or '.join(map(str, lengths))} finite numbers")
    return rows


def group(
    boxes: Sequence[tuple[float, float, float, float]], points: Sequence[tuple[float, float, int]]
) -> list[Marks]:
    """Return the marks of each object: each box with the points nearest to it; without a box all points are of one.

    ValueError for no mark at all.
    """
    if not boxes:
        if not any(label for _, _, label in points):
            raise ValueError("the prompt marks no object: give a box, or a point with label 1")
        return [Marks(None, tuple(points))]

    def distance(box: tuple[float, float, float, float], x: float, y: float) -> float:
        left, top, right, bottom = box
        return math.hypot(max(left - x, 0, x - right), max(top - y, 0, y - bottom))

    nearest = [min(range(len(boxes)), key=lambda k: distance(boxes[k], x, y)) for x, y, _ in points]
    return [
        Marks(box, tuple(point for point, owner in zip(points, nearest, strict=True) if owner == k))
        for k, box in enumerate(boxes)
    ]


def register(registry: ModelRegistry) -> None:
    """Register /prompt."""
    image = gr.File(type="filepath", visible=False, label="image")
    about = "boxes as JSON: [[left, top, right, bottom], ...] in pixels, one object each"
    boxes = gr.Textbox("", visible=False, max_length=LONGEST, label=about)
    about = "points as JSON: [[x, y, label], ...] in pixels, label 1 on the object, 0 beside it"
    points = gr.Textbox("", visible=False, max_length=LONGEST, label=about)
    number = gr.Number(0, precision=0, visible=False, label="slice of a volume, from 1; 0 for the middle")
    modality = gr.Textbox(
        "", visible=False, label=f"modality, one of {', '.join(MODALITIES)}; empty for what the file says"
    )

    def prompt(image, boxes="", points="", slice=0, modality=""):
        """Outline the objects that boxes and points mark; masks as COCO's run lengths, with the DSC that is expected of
        each.
        """
        marks = group(parse_boxes(boxes), parse_points(points))
        name = registry.prompt_network()
        if name is None:
            raise ValueError(
                "there is no network for prompts here; train one with python -m train.prompt and put it into the folder"
                " of --weights"
            )
        case, network = endpoints.case_of(registry, image, modality, slice), registry.network(name)
        began = time.perf_counter()
        found = [segment_prompt(network, case.unit_hw, each.prompt()) for each in marks]
        seconds = time.perf_counter() - began
        whole_hw = np.any([result.mask for result in found], axis=0)
        objects = [
            {
                "box": each.box,
                "points": each.points,
                "pixels": int(result.mask.sum()),
                "confidence": result.confidence,
                "mask": coco(result.mask),
            }
            for each, result in zip(marks, found, strict=True)
        ]
        confidence = float(np.mean([result.confidence for result in found]))
        answer = {
            "weights": name,
            "width": case.shape_hw[1],
            "height": case.shape_hw[0],
            "slice": case.index + 1 if case.is_volume else 0,
        }
        answer |= {
            "objects": objects,
            "mask": coco(whole_hw),
            "confidence": confidence,
            "milliseconds": round(1000 * seconds),
        }
        return answer | {"notes": endpoints.notes(case)}

    endpoint("prompt", prompt, [image, boxes, points, number, modality], gr.JSON(visible=False), lane=NETWORK)


def coco(mask_hw: np.ndarray) -> dict:
    """Return a mask as COCO's uncompressed run lengths."""
    return {"size": list(mask_hw.shape), "counts": run_lengths.encode(np.asarray(mask_hw, bool)).tolist()}
