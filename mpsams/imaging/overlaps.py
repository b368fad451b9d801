"""Structures drawn into label maps, in which a voxel has one: of those that overlap the smaller one is on top."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Overlap(NamedTuple):
    """Two labels that overlap: the one on top, and the one that it covers. is_smaller: False if they have one size."""

    top: int
    below: int
    is_smaller: bool


class Overlay:
    """Draws parts of structures, at first as they come; where structures overlap, all of them once more by their size.

    So that one mask is held at a time, those of the second time are made again.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, int, Callable[[], np.ndarray]]] = []
        self._sizes: Counter[int] = Counter()  # voxels of all parts, by label
        self._has_overlaps = False

    def add(self, view: np.ndarray, label: int, mask: np.ndarray, make_mask: Callable[[], np.ndarray]) -> None:
        """Draw a part of a structure.

        view: uint8, of the label map or of a slice of it. mask: the part, bool of that shape. make_mask: returns it
        once more.
        """
        self._sizes[label] += int(np.count_nonzero(mask))
        self._parts.append((view, label, make_mask))
        self._has_overlaps = bool(self._draw(view, label, mask)) or self._has_overlaps

    def finish(self) -> set[Overlap]:
        """Put smaller structures on larger ones, and later ones on those of the same size; return what overlaps."""
        if not self._has_overlaps:
            return set()
        for view, *_ in self._parts:
            view[...] = 0
        overlaps: set[Overlap] = set()
        for label in sorted(self._sizes, key=lambda label: -self._sizes[label]):
            for view, _, make_mask in (part for part in self._parts if part[1] == label):
                covered = self._draw(view, label, make_mask())
                overlaps |= {Overlap(label, below, self._sizes[label] < self._sizes[below]) for below in covered}
        return overlaps

    def _draw(self, view: np.ndarray, label: int, mask: np.ndarray) -> set[int]:
        """Draw a mask; return the other labels that it covers."""
        covered = {int(below) for below in np.unique(view[mask])} - {0, label}
        view[mask] = label
        return covered
