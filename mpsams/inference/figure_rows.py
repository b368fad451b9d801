"""Figures of several images with the outlines of several networks, and their numbers as CSV: what the page and
train.figure draw. No gradio here.

Axes: H x W pixels. Masks: True = lesion.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mpsams import plots, tables, transforms
from mpsams.inference.comparison import SliceComparison
from mpsams.inference.network_names import is_assistant, parse_name, titles_of
from mpsams.transforms import Box

KEPT = 1024  # pixels of the longest side that is kept of an image, to be cropped
LONGEST = 600  # pixels of a picture in print: two inches at 300 dots
MOST_ROWS = 8
MARGIN = 0.6  # around a lesion, as a share of its longer side
CROPS = {"whole": "Whole", "body": "Body", "lesion": "Lesion"}
FORMS = {"pdf": "PDF, vector", "png": "PNG, 300 dpi", "csv": "CSV, the numbers"}
HEAD = ("image", "network", "threshold", "dsc", "ppv", "sen", "area_share", "image_was")


@dataclass(frozen=True)
class FigureRow:
    """An image with what networks outline on it.

    image_hw: uint8, as bright as on screen. masks, thresholds, scores, parts: by network (``SliceComparison``). areas:
    share of the image that each outlines. frame: what networks look at, in pixels of image_hw; None is all.
    """

    title: str
    image_hw: np.ndarray
    truth_hw: np.ndarray | None
    frame: Box | None
    masks: Mapping[str, np.ndarray]
    thresholds: Mapping[str, float]
    scores: Mapping[str, Mapping[str, float]]
    areas: Mapping[str, float]
    parts: Mapping[str, str]

    def __deepcopy__(self, memo: dict) -> FigureRow:
        return self  # never changed


def make_row(compared: SliceComparison) -> FigureRow:
    """Return the slice of a comparison, with every network that was asked, at most ``KEPT`` pixels long."""
    case = compared.case
    shrink = min(1.0, KEPT / max(case.size_hw))
    height, width = (max(1, round(side * shrink)) for side in case.size_hw)

    def resize(mask_hw: np.ndarray) -> np.ndarray:
        return transforms.resize_mask(mask_hw, height, width)[0, 0].numpy()

    unit_hw = transforms.resize(
        transforms.to_unit(case.scan.slice(case.index, case.plane), case.display_span), height, width
    )[0, 0].numpy()
    y, x = height / case.shape_hw[0], width / case.shape_hw[1]
    frame = case.box and Box(
        round(case.box.top * y), round(case.box.left * x), round(case.box.height * y), round(case.box.width * x)
    )
    return FigureRow(
        case.title + (f", {case.plane} {case.index + 1}" if case.is_volume else ""),
        (np.clip(unit_hw, 0, 1) * 255).round().astype(np.uint8),
        None if case.truth_hw is None else resize(case.truth_hw),
        frame,
        {name: resize(mask_hw) for name, mask_hw in compared.masks.items()},
        {name: compared.threshold_of(name) for name in compared.masks},
        compared.scores,
        {name: float(mask_hw.mean()) for name, mask_hw in compared.masks.items()},
        {name: compared.predictions.parts.get(name, "unknown") for name in compared.masks},
    )


def draw(rows: Sequence[FigureRow], crop: str, form: str) -> bytes:
    """Draw the rows as a file. crop: one of ``CROPS``; form: one of ``FORMS``. ValueError for others and no row."""
    if crop not in CROPS or form not in FORMS:
        raise ValueError(f"crop {crop!r} and form {form!r}; allowed are {', '.join(CROPS)} and {', '.join(FORMS)}")
    if not rows:
        raise ValueError("no image to draw; expected at least one")
    if form == "csv":
        return table(rows).encode("utf-8")
    numbered = [f"{number} {row.title}" if len(rows) > 1 else row.title for number, row in enumerate(rows, 1)]
    cut = [_cut(row, title, crop) for row, title in zip(rows, numbered, strict=True)]
    return plots.as_bytes(plots.comparison(cut, columns(rows), caption=caption(rows, crop)), form)


def columns(rows: Sequence[FigureRow]) -> list[str]:
    """Return the titles of the figure's columns in the paper's order; networks of one method share a column, also those
    of different data sets.
    """
    within = {name: title for row in rows for name, title in titles_of(row.masks).items()}
    places = {method: place for place, method in enumerate(tables.METHODS)}
    order = sorted(
        within, key=lambda name: (not is_assistant(name), places.get(parse_name(name)[1], len(places)), within[name])
    )
    return list(dict.fromkeys(within[name] for name in order))


def caption(rows: Sequence[FigureRow], crop: str = "whole") -> str:
    """Return the sentences below a figure: thresholds, mean DSC of each column where there is a truth, the crop."""
    names = [{title: name for name, title in titles_of(row.masks).items()} for row in rows]
    pairs = {
        title: [(row, own[title]) for row, own in zip(rows, names, strict=True) if title in own]
        for title in columns(rows)
    }
    used = {title: sorted({row.thresholds[name] for row, name in cells}) for title, cells in pairs.items()}
    common = max(
        (value for values in used.values() for value in values),
        key=lambda value: sum(value in values for values in used.values()),
    )
    others = [
        f"{title} {' and '.join(f'{value:.2f}' for value in values)}"
        for title, values in used.items()
        if values != [common]
    ]
    sentences = [f"Threshold {common:.2f}" + (f", but {', '.join(others)}" if others else "") + "."]
    known = {
        title: [row.scores[name]["dsc"] for row, name in cells if name in row.scores] for title, cells in pairs.items()
    }
    means = [f"{title} {np.mean(values):.3f}" for title, values in known.items() if values]
    if means:
        count = max(map(len, known.values()))
        sentences.append(f"{'DSC' if count == 1 else f'Mean DSC over {count} images'}: {', '.join(means)}.")
    sentences += [f"Cropped to the {crop}; areas and DSC are of the whole image."] * (crop != "whole")
    return " ".join(sentences)


def table(rows: Sequence[FigureRow]) -> str:
    """Return the numbers of every image and network as CSV, a line each; what is unknown or undefined is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    for number, row in enumerate(rows, 1):
        for name in titles_of(row.masks):
            scores = [row.scores.get(name, {}).get(measure, math.nan) for measure in ("dsc", "ppv", "sen")]
            values = ["" if math.isnan(value) else f"{value:.4f}" for value in (*scores, row.areas[name])]
            writer.writerow([f"{number} {row.title}", name, f"{row.thresholds[name]:.2f}", *values, row.parts[name]])
    return text.getvalue()


def _cut(row: FigureRow, title: str, crop: str) -> plots.Row:
    """Return a row of the figure with its networks by title, cropped and no larger than paper can show."""
    box = row.frame if crop == "body" else _lesion_box(row) if crop == "lesion" else None
    image_hw = row.image_hw if box is None else transforms.crop(row.image_hw, box)
    shrink = min(1.0, LONGEST / max(image_hw.shape))
    size = tuple(max(1, round(side * shrink)) for side in image_hw.shape)

    def small(mask_hw: np.ndarray) -> np.ndarray:
        return transforms.resize_mask(mask_hw if box is None else transforms.crop(mask_hw, box), *size)[0, 0].numpy()

    unit_hw = np.clip(transforms.resize(image_hw.astype(np.float32) / 255, *size)[0, 0].numpy(), 0, 1)
    truth_hw = None if row.truth_hw is None else small(row.truth_hw)
    titles = titles_of(row.masks)
    scores = {titles[name]: values for name, values in row.scores.items()}
    return plots.Row(
        title, unit_hw, truth_hw, {titles[name]: small(mask_hw) for name, mask_hw in row.masks.items()}, scores
    )


def _lesion_box(row: FigureRow) -> Box | None:
    """Return a box with a margin around the truth, or without one around all that is outlined; None for nothing."""
    has_truth = row.truth_hw is not None and row.truth_hw.any()
    mask_hw = row.truth_hw if has_truth else np.any([*row.masks.values()], axis=0)
    ys, xs = np.nonzero(mask_hw)  # type: ignore[arg-type]
    if not len(ys):
        return None
    height, width = mask_hw.shape  # type: ignore[union-attr]
    side = min(round((1 + 2 * MARGIN) * (max(np.ptp(ys), np.ptp(xs)) + 1)), height, width)
    top = min(max((ys.min() + ys.max() + 1 - side) // 2, 0), height - side)
    left = min(max((xs.min() + xs.max() + 1 - side) // 2, 0), width - side)
    return Box(int(top), int(left), int(side), int(side))
