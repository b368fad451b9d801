"""Carry an object's mask through the slices of a volume: the mask of each slice prompts the prompt network on the next.

Axes: H x W pixels of a slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mpsams.inference import Network
from mpsams.inference.prompts import Prompt, segment_prompt

LEAST_CERTAINTY = 0.4  # product of the slices' expected DSC so far, below which a slice ends the propagation
LEAST_OVERLAP = 0.55  # DSC with the mask of the slice before, likewise


@dataclass(frozen=True)
class SliceMask:
    """A slice's number, its mask, bool (H, W), and the DSC that is expected of it, in [0, 1]."""

    index: int
    mask: np.ndarray
    confidence: float


def propagate(
    network: Network, unit_of: Callable[[int], np.ndarray], start: SliceMask, indices: Iterable[int]
) -> Iterator[SliceMask]:
    """Yield masks of the slices ``indices``, each from the mask of the one before, beginning with ``start``.

    unit_of: returns a slice, float (H, W) in [0, 1]. Ends before the first slice on which the network finds nothing or
    something else than on the slice before, or by which it has become unsure: its doubts about all slices since
    ``start`` add up, since where an object ends can hardly be seen. ValueError for an empty mask to start with.
    """
    if not start.mask.any():
        raise ValueError("the mask to propagate is empty; draw one first")
    before, certainty = start, 1.0
    for index in indices:
        found = segment_prompt(network, unit_of(index), Prompt(mask=before.mask))
        certainty *= found.confidence
        if certainty < LEAST_CERTAINTY or dice(found.mask, before.mask) < LEAST_OVERLAP:
            return
        before = SliceMask(index, found.mask, found.confidence)
        yield before


def dice(one_hw: np.ndarray, other_hw: np.ndarray) -> float:
    """Return the DSC of two masks, 1 for two empty ones."""
    total = int(one_hw.sum()) + int(other_hw.sum())
    return 2 * int((one_hw & other_hw).sum()) / total if total else 1.0
