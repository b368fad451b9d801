"""Structures drawn into label maps, in which a voxel has one: of those that overlap the smaller one is on top."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

Overlap = tuple[int, int]  # the label on top and the one that it covers in part


class Overlay:
    """Draws parts of structures, at first as they come; where structures overlap, all of them once more by their size.

    So masks are made when they are drawn, and one is held at a time.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, int, Callable[[], np.ndarray]]] = []
        self._sizes: Counter[int] = Counter()  # voxels of all parts, by label
        self._overlaps: set[Overlap] = set()

    def add(self, view: np.ndarray, label: int, make_mask: Callable[[], np.ndarray]) -> None:
        """Draw a part of a structure.

        view: uint8, of the label map or of a slice of it. make_mask: returns the part, bool of that shape; where it
        raises an error nothing is drawn.
        """
        mask = make_mask()
        self._sizes[label] += int(np.count_nonzero(mask))
        self._parts.append((view, label, make_mask))
        self._draw(view, label, mask)

    def finish(self) -> set[Overlap]:
        """Put smaller structures on larger ones, and of two alike the later one; return what overlaps."""
        if self._overlaps:
            self._overlaps = set()
            for view, *_ in self._parts:
                view[...] = 0
            for view, label, make_mask in sorted(self._parts, key=lambda part: -self._sizes[part[1]]):
                self._draw(view, label, make_mask())
        return self._overlaps

    def _draw(self, view: np.ndarray, label: int, mask: np.ndarray) -> None:
        self._overlaps |= {(label, int(below)) for below in np.unique(view[mask]) if below not in (0, label)}
        view[mask] = label
