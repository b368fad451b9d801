"""What the page says of a whole volume that networks went through: a bar while they do, then a table and areas by slice. No gradio here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mpsams import metrics
from mpsams.app.components import html
from mpsams.imaging import Scan
from mpsams.inference import volumes
from mpsams.inference.case import Case
from mpsams.inference.comparison import titled

COLUMNS = {"millilitres": "Lesion, ml", "voxels": "voxels", "dsc": "DSC", "ppv": "PPV", "sen": "Sen", "hd95": "HD95 <small>{}</small>"}
_FAR = f"Distances are left out where the surfaces have more than {metrics.MOST_SURFACE:,} voxels."
DIGITS = {"millilitres": 1, "voxels": 0, "hd95": 1}


@dataclass(frozen=True)
class Whole:
    """What networks said of every axial slice of a scan, by network."""

    scan: Scan
    said: Mapping[str, volumes.Chances]

    def __deepcopy__(self, memo: dict) -> Whole:
        return self

    def masks(self, threshold: float) -> dict[str, np.ndarray]:
        """Bool (X, Y, Z) by network: where the chance reaches the threshold."""
        return {name: said.mask(self.scan, threshold) for name, said in self.said.items()}


def of(case: Case, whole: Whole | None) -> Whole | None:
    """What was said, if it was said of the scan on screen."""
    return whole if whole is not None and whole.scan is case.scan else None


def progress(done: int, case: Case) -> str:
    """A bar of the slices done."""
    count = len(case.scan.shown())
    share = 100 * done / count
    return (
        f'<div class="going" role="progressbar" aria-label="Slices segmented" aria-valuenow="{share:.0f}"><i style="width:{share:.1f}%"></i>'
        f"<span>slice {done} of {count}</span></div>"
    )


def summary(case: Case, whole: Whole | None, threshold: float) -> str:
    """A table and the area by slice; empty before the scan on screen was segmented."""
    if of(case, whole) is None:
        return ""
    masks, titles = whole.masks(threshold), titled(whole.said)
    values = {name: volumes.numbers(case, mask_xyz) for name, mask_xyz in masks.items()}
    known = [column for column in COLUMNS if column in next(iter(values.values()))]
    rows = [[titles[name], *(html.number(found[column], DIGITS.get(column, 3)) for column in known)] for name, found in values.items()]
    curves = {f"cover n{k}": mask_xyz for k, mask_xyz in enumerate(masks.values())}
    legend = list(zip(curves, titles.values(), strict=True))
    if case.truth_xyz is not None:
        curves["truth"] = case.truth_xyz
        legend.append(("truth", "true lesion"))
    heading = "<h4>Lesion area by slice, from the feet up</h4>"
    picture = f'<section class="panelet curve">{heading}{volumes.profile(case, curves)}{html.key(*legend)}</section>'
    unit = "voxels" if case.scan.affine is None else "mm"
    left_out = any(math.isnan(found.get("hd95", 0.0)) for found in values.values())
    notes = html.note(_FAR, "warning") if left_out else ""
    return html.table(["The whole volume", *(COLUMNS[column].format(unit) for column in known)], rows) + notes + picture
