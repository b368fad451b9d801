"""The comparison on screen as a figure for print, and as many pixels of it as paper can show. No gradio here."""

from __future__ import annotations

import numpy as np

from mpsams import plots, transforms
from mpsams.inference.case import NAMES
from mpsams.inference.comparison import SliceComparison

LONGEST = 600  # pixels of a picture in print: two inches at 300 dots


def comparison(compared: SliceComparison, form: str) -> bytes:
    """The slice, its truth, every network's outline and where they differ, in a row: "pdf" or "png"."""
    case = compared.case
    shrink = min(1.0, LONGEST / max(case.size_hw))
    size = tuple(max(1, round(side * shrink)) for side in case.size_hw)

    def small(mask_hw: np.ndarray) -> np.ndarray:
        return transforms.resize_mask(mask_hw, *size)[0, 0].numpy()

    shown_hw = transforms.resize(transforms.to_unit(case.scan.slice(case.index, case.plane), case.display_span), *size)[0, 0].numpy()
    truth_hw = None if case.truth_hw is None else small(case.truth_hw)
    masks = {name: small(mask_hw) for name, mask_hw in compared.masks.items()}
    row = plots.Row(NAMES[case.modality], shown_hw, truth_hw, masks)
    return plots.as_bytes(plots.comparison([row], list(masks), compared.predictions.titles), form)
