"""Label maps with two structures."""

from __future__ import annotations

import numpy as np

FLAT = (56, 40, 1)  # of the pictures, as stored


def organ(shape: tuple[int, ...] = FLAT) -> np.ndarray:
    """A map with structure 1 and, in the middle of it, structure 2."""
    map_xyz = np.zeros(shape, np.uint8)
    map_xyz[5:30, 5:25] = 1
    map_xyz[12:20, 10:18] = 2
    return map_xyz
