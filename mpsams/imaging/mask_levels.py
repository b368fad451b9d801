"""The different values that a channel of a mask holds, and how often: what ``mask_values`` decides by.

Axes: X, Y, Z as stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from . import Scan

TINY = 1e-6  # what rounding leaves of 0
FEW = 4  # values that are labels wherever they lie
MOST = 4096  # different values that are told apart
_NEAR = 1e-3  # by which a value may miss a whole number


@dataclass(frozen=True)
class Levels:
    """The different values, sorted, and how often each is there; only the lowest and the highest where there are many.

    many: more than MOST. whole: all of them are whole numbers.
    """

    values: np.ndarray
    counts: np.ndarray
    many: bool
    whole: bool

    @property
    def low(self) -> float:
        """The lowest value."""
        return float(self.values[0])

    @property
    def high(self) -> float:
        """The highest value."""
        return float(self.values[-1])

    @property
    def few(self) -> bool:
        """True if there are no more than FEW values."""
        return not self.many and len(self.values) <= FEW


def planes(channel: Scan) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each Z with its values, float32 (X, Y): 0 where there is none, or rounding left less than TINY."""
    for z in range(channel.voxels_xyz.shape[2]):
        yield z, _are_known(channel.scaled(channel.voxels_xyz[:, :, z]))


def levels_of(channel: Scan) -> Levels:
    """Return the levels of a channel, plane by plane."""
    kind = channel.voxels_xyz.dtype
    parts = iter([_count_levels(channel)]) if kind.kind in "iu" and kind.itemsize <= 2 else _unique(channel)
    values, counts, low, high, whole = np.zeros(0, np.float32), np.zeros(0, np.int64), np.inf, -np.inf, True
    for found, number in parts:
        low, high = min(low, float(found.min())), max(high, float(found.max()))
        whole = whole and bool((np.abs(found - np.rint(found)) < _NEAR).all())
        if len(values) <= MOST:
            values, inverse = np.unique(np.concatenate([values, found]), return_inverse=True)
            counts = np.bincount(inverse, np.concatenate([counts, number]), len(values)).astype(np.int64)
    many = len(values) > MOST
    return (
        Levels(np.array([low, high]), np.zeros(2, np.int64), True, whole)
        if many
        else Levels(values, counts, False, whole)
    )


def _unique(channel: Scan) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the different values of each plane and their counts."""
    for _, plane in planes(channel):
        yield np.unique(plane, return_counts=True)


def _count_levels(channel: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of all voxels stored in 8 or 16 bits and their counts, which is faster than to sort them."""
    kind = channel.voxels_xyz.dtype
    low, total = np.iinfo(kind).min, np.zeros(2 ** (8 * kind.itemsize), np.int64)
    for z in range(channel.voxels_xyz.shape[2]):
        total += np.bincount(channel.voxels_xyz[:, :, z].ravel(order="K").astype(np.intp) - low, minlength=len(total))
    found = np.flatnonzero(total)
    return _are_known(channel.scaled((found + low).astype(kind))), total[found]


def _are_known(values: np.ndarray) -> np.ndarray:
    """Return the values, changed in place to 0 where there is none or rounding left less than TINY."""
    values[~(np.abs(values) >= TINY)] = 0
    return values
