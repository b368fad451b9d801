"""Lesion masks as files on the grid of their image, and how much two masks have in common.

Axes: X, Y, Z as the image's file stores them, of a flat image Z = 1 (``imaging.Scan``).
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from mpsams.imaging import Scan, UnreadableImage, export, nifti


def ending(scan: Scan) -> str:
    """Of the name of a mask's file: ".png" for a flat image without geometry, else ".nii.gz"."""
    return export.ENDINGS[export.formats(scan)[0]]


def encode(scan: Scan, mask_xyz: np.ndarray) -> bytes:
    """A bool (X, Y, Z) mask as PNG (lesion 255) or as NIfTI on the scan's own grid (lesion 1).

    Equal masks, equal bytes.

    ValueError for a mask of another type or shape.
    """
    validate(scan, mask_xyz)
    return export.write(scan, mask_xyz, export.formats(scan)[0])[0]


def validate(scan: Scan, mask_xyz: np.ndarray) -> None:
    """ValueError for a mask that is not bool or not of its image's shape."""
    if mask_xyz.dtype != bool or mask_xyz.shape != scan.voxels_xyz.shape:
        raise ValueError(f"mask is {mask_xyz.dtype} {mask_xyz.shape}; allowed is bool {scan.voxels_xyz.shape}")


def read(path: Path, shape_xyz: tuple[int, int, int]) -> np.ndarray:
    """A mask as bool (X, Y, Z): what is not 0 is lesion.

    ValueError: no file, not readable, another size; it names no folder.
    """
    if not path.is_file():
        raise ValueError(f"mask {path.name} does not exist; expected the mask of an image of {_size(shape_xyz)}")
    try:
        mask_xyz = _picture(path.read_bytes()) if path.suffix == ".png" else nifti.read(path, "mri").voxels_xyz != 0
    except UnreadableImage as error:
        raise ValueError(f"mask {path.name}: {error}") from None
    if mask_xyz.shape != tuple(shape_xyz):
        raise ValueError(
            f"mask {path.name} is of {_size(mask_xyz.shape)}; expected the size of its image, {_size(shape_xyz)}"
        )
    return np.array(mask_xyz)


def pack(mask_xyz: np.ndarray) -> np.ndarray:
    """Return a bool (X, Y, Z) mask as bits, uint8, X running fastest as in files; ``unpack`` is the inverse."""
    return np.packbits(mask_xyz.ravel(order="F"))


def unpack(bits: np.ndarray, shape_xyz: tuple[int, int, int]) -> np.ndarray:
    """Return the bool (X, Y, Z) mask of bits that ``pack`` made."""
    count = shape_xyz[0] * shape_xyz[1] * shape_xyz[2]
    return np.unpackbits(bits, count=count).view(bool).reshape(shape_xyz, order="F")


def sha256(path: Path) -> str | None:
    """Of a file's bytes; None where there is no file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """The Dice score of two masks of one shape, both bool or both packed (``pack``), in [0, 1]; two
    empty masks agree.
    """
    marked = _count(one) + _count(other)
    return 2 * _count(one & other) / marked if marked else 1.0


def changes(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """Return the numbers of pixels (or voxels) added and removed. before, after: both bool or both packed."""
    return _count(after & ~before), _count(before & ~after)


def _count(mask: np.ndarray) -> int:
    """The True pixels of a bool mask, or the bits of a packed one."""
    return int(np.count_nonzero(mask) if mask.dtype == bool else np.bitwise_count(mask).sum(dtype=np.int64))


def interpolate(first_hw: np.ndarray, last_hw: np.ndarray, share: float) -> np.ndarray:
    """Return the mask between two bool masks (H, W) by interpolating their signed distances.

    share: of the way from the first to the last, in (0, 1). As in Raya and Udupa, "Shape-based interpolation of
    multidimensional objects", 1990. The two should overlap; else the result may be empty. ValueError for an empty mask.
    """
    if not (first_hw.any() and last_hw.any()):
        raise ValueError("a mask is empty; interpolation needs two that are not")
    first, last = (
        ndimage.distance_transform_edt(mask_hw) - ndimage.distance_transform_edt(~mask_hw)
        for mask_hw in (first_hw, last_hw)
    )
    return (1 - share) * first + share * last > 0


def tidy(mask_hw: np.ndarray, how: str) -> np.ndarray:
    """A bool (H, W) mask with only its largest part ("largest"), without holes ("holes"), or with a smooth outline
    ("smooth").

    Parts are connected over edges and corners. Smoothing is a median over discs of 5 pixels across; it keeps what it
    would erase wholly.
    """
    if how == "holes":
        return ndimage.binary_fill_holes(mask_hw)
    if how == "smooth":
        rows, columns = np.ogrid[-2:3, -2:3]
        smooth_hw = (
            ndimage.median_filter(mask_hw.astype(np.uint8), footprint=rows**2 + columns**2 <= 5, mode="nearest") > 0
        )
        return smooth_hw if smooth_hw.any() else mask_hw.copy()
    if how == "largest":
        labels_hw, count = ndimage.label(mask_hw, np.ones((3, 3)))
        return labels_hw == 1 + np.bincount(labels_hw.ravel())[1:].argmax() if count else mask_hw.copy()
    raise ValueError(f"how {how!r}; allowed are largest, holes, smooth")


def _picture(data: bytes) -> np.ndarray:
    """A PNG of a mask as bool (X, Y, 1), not larger than Pillow allows."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            return np.asarray(image.convert("L")).T[:, :, None] > 0
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, zlib.error and more, undocumented
        raise UnreadableImage("this PNG is damaged or incomplete.") from error


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) + " voxels"
