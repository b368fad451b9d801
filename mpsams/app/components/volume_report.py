"""The report on a whole volume that networks segment: a bar while they do, then a table and areas by slice.

No gradio here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

from mpsams import metrics
from mpsams.app.components import html
from mpsams.app.components.templates import pieces, render
from mpsams.imaging import Scan
from mpsams.inference import volumes
from mpsams.inference.case import Case
from mpsams.inference.comparison import DEFAULT_THRESHOLD
from mpsams.inference.membership import UNKNOWN
from mpsams.inference.network_names import parse_name, titles_of

COLUMNS = {
    "millilitres": "Lesion, ml",
    "voxels": "voxels",
    "dsc": "DSC",
    "ppv": "PPV",
    "sen": "Sen",
    "hd95": Markup("HD95 <small>{}</small>"),
}
_FAR = f"Distances are left out where the surfaces have more than {metrics.MOST_SURFACE:,} voxels."
DIGITS = {"millilitres": 1, "voxels": 0, "hd95": 1}


@dataclass(frozen=True)
class Whole:
    """The probabilities of every axial slice of a scan, by network. parts: as ``comparison.SlicePredictions.parts``."""

    scan: Scan
    predictions: Mapping[str, volumes.VolumePrediction]
    parts: Mapping[str, str] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict) -> Whole:
        return self

    def masks(self, thresholds: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Return bool (X, Y, Z) by network: where the probability reaches its threshold."""
        return {
            name: prediction.mask(self.scan, thresholds.get(name, DEFAULT_THRESHOLD))
            for name, prediction in self.predictions.items()
        }


def of(case: Case, whole: Whole | None) -> Whole | None:
    """Return the probabilities, if they are of the scan on screen; else None."""
    return whole if whole is not None and whole.scan is case.scan else None


def progress(done: int, case: Case) -> Markup:
    """Return a bar of the slices done."""
    count = len(case.scan.shown())
    return pieces().going(done / count, f"slice {done} of {count}", "Slices segmented")


def summary(case: Case, whole: Whole | None, thresholds: Mapping[str, float]) -> str:
    """Return a table and the area by slice; empty before the scan on screen was segmented.

    thresholds: of networks whose own is not the default.
    """
    whole = of(case, whole)
    if whole is None:
        return ""
    masks, titles = whole.masks(thresholds), titles_of(whole.predictions)
    values = {name: undefined_as_nan(volumes.measure(case, mask_xyz)) for name, mask_xyz in masks.items()}
    known = [column for column in COLUMNS if column in next(iter(values.values()))]
    seen = any(part != UNKNOWN for part in whole.parts.values()) and case.truth_xyz is not None
    heads = [
        "The whole volume",
        *(COLUMNS[column].format("voxels" if case.scan.affine is None else "mm") for column in known),
        "Threshold",
    ]
    rows = []
    for name, found in values.items():
        numbers = [html.number(found[column], DIGITS.get(column, 3)) for column in known]
        rows.append(
            [
                titles[name],
                *numbers,
                f"{thresholds.get(name, DEFAULT_THRESHOLD):.2f}",
                *[whole.parts.get(name, UNKNOWN)] * seen,
            ]
        )
    left_out = any(math.isnan(found.get("hd95", 0.0)) for found in values.values())
    return render(
        "volume",
        head=[*heads, *["Volume was"] * seen],
        rows=rows,
        left_out=_FAR if left_out else "",
        slices=len(case.scan.shown()),
        **areas(case, masks, titles),
    )


def undefined_as_nan(numbers: dict[str, float]) -> dict[str, float]:
    """Return the numbers with NaN for the PPV of an empty mask, which is 0 / 0."""
    return numbers | ({"ppv": math.nan} if "ppv" in numbers and not numbers["voxels"] else {})


def areas(case: Case, masks: dict[str, np.ndarray], titles: Mapping[str, str]) -> dict:
    """Return the area of lesion by slice, a curve for each network in its colour and one for the truth."""
    looks = {name: html.line_style(parse_name(name)[1]) for name in masks}
    legend: list[tuple[str, ...]] = [("line", titles[name], looks[name][1]) for name in masks]
    curves, styles = dict(masks), {name: css for name, (css, _) in looks.items()}
    if case.truth_xyz is not None:
        curves["truth"], styles["truth"] = case.truth_xyz, "stroke:var(--truth);stroke-width:3"
        legend.append(("truth", "true lesion"))
    picture, most = volumes.area_profile(case, curves, styles)
    return {"picture": picture, "most": most, "legend": legend}
