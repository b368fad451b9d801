"""Label maps with two structures, and masks of squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

FLAT = (56, 40, 1)  # of the pictures, as stored


def organ(shape: tuple[int, ...] = FLAT) -> np.ndarray:
    """A map with structure 1 and, in the middle of it, structure 2."""
    map_xyz = np.zeros(shape, np.uint8)
    map_xyz[5:30, 5:25] = 1
    map_xyz[12:20, 10:18] = 2
    return map_xyz


def box(shape: tuple[int, int], top: int, left: int, side: int = 6) -> np.ndarray:
    """A square in a slice, bool (H, W)."""
    mask_hw = np.zeros(shape, bool)
    mask_hw[top : top + side, left : left + side] = True
    return mask_hw


def store_mask(path: Path, map_xyz: np.ndarray) -> None:
    """Write a map, uint8 (X, Y, 1), as a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(map_xyz[:, :, 0].T.copy()).save(path)
