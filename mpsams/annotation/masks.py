"""Masks as files on the grid of their image, and how much two masks have in common.

A mask is a label map, uint8: 0 is background, another value the number of a structure (``structures``); a bool mask is
one of structure 1 alone.

Axes: X, Y, Z as the image's file stores them, of a flat image Z = 1 (``imaging.Scan``).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy import ndimage

from mpsams import checkpoint
from mpsams.annotation import label_maps
from mpsams.imaging import Scan, UnreadableImage, export, nifti, raster

_WHOLE = 255  # of a PNG with a single structure


def ending(scan: Scan) -> str:
    """Return the ending of the name of a mask's file: ".png" for a flat image without geometry, else ".nii.gz"."""
    return export.ENDINGS[export.formats(scan)[0]]


def encode(scan: Scan, mask_xyz: np.ndarray) -> bytes:
    """Return an (X, Y, Z) mask as PNG, or as NIfTI on the scan's own grid: uint8 label maps with their values, bool
    masks with 255 (PNG) or 1 (NIfTI).

    Equal masks, equal bytes.

    ValueError for a mask of another type or shape.
    """
    return export.write(scan, mask_xyz, export.formats(scan)[0])[0]


def validate(scan: Scan, mask_xyz: np.ndarray, labels: Collection[int] = (1,)) -> np.ndarray:
    """Return a mask as label map, uint8.

    labels: of the structures that there are; where there is more than one, a bool mask would lose which is which.
    ValueError for a mask of another type or shape, or with another value.
    """
    several = len(labels) > 1
    kind = f"{'bool or ' if tuple(labels) == (1,) else ''}uint8 with 0 and {', '.join(map(str, sorted(labels)))}"
    if mask_xyz.dtype not in (bool, np.uint8)[several:] or mask_xyz.shape != scan.voxels_xyz.shape:
        raise ValueError(f"mask is {mask_xyz.dtype} {mask_xyz.shape}; allowed is {kind}, {scan.voxels_xyz.shape}")
    map_xyz = mask_xyz.view(np.uint8)
    if unknown := label_maps.unknown_labels(map_xyz, labels):
        raise ValueError(f"mask has the value {unknown[0]}; allowed is {kind}")
    return map_xyz


def read(path: Path, shape_xyz: tuple[int, int, int], has_labels: bool = False) -> np.ndarray:
    """Return a mask as label map, uint8 (X, Y, Z).

    has_labels: its values are labels, but 255 is 1; else all that is not 0 is structure 1. ValueError: no file, not
    readable, another size; it names no folder.
    """
    if not path.is_file():
        raise ValueError(f"mask {path.name} does not exist; expected the mask of an image of {_size(shape_xyz)}")
    try:
        values_xyz = _picture(path.read_bytes()) if path.suffix == ".png" else nifti.read(path, "mri").voxels_xyz
    except UnreadableImage as error:
        raise ValueError(f"mask {path.name}: {error}") from None
    if values_xyz.shape != tuple(shape_xyz):
        raise ValueError(
            f"mask {path.name} is of {_size(values_xyz.shape)}; expected the size of its image, {_size(shape_xyz)}"
        )
    if not has_labels:
        return (values_xyz != 0).view(np.uint8)
    return _with_labels(path, values_xyz)


def _with_labels(path: Path, values_xyz: np.ndarray) -> np.ndarray:
    """Return the values of a file as label map."""
    map_xyz = values_xyz.astype(np.uint8)
    if not np.array_equal(map_xyz, values_xyz):
        raise ValueError(f"mask {path.name} has other values than labels; allowed are whole numbers from 0 to {_WHOLE}")
    map_xyz[map_xyz == _WHOLE] = 1
    return map_xyz


def pack(mask: np.ndarray, order: Literal["C", "F"] = "F") -> np.ndarray:
    """Return a mask, bool or label map, as bits: uint8 (digits of the largest label, bytes), X running fastest as in
    files; ``unpack`` is the inverse.
    """
    flat = mask.ravel(order=order)
    if mask.dtype == bool:
        return np.packbits(flat)[None]
    digits = max(1, int(flat.max(initial=0)).bit_length())
    return np.stack([np.packbits(flat >> digit & 1) for digit in range(digits)])


def unpack(bits: np.ndarray, shape: tuple[int, ...], order: Literal["C", "F"] = "F") -> np.ndarray:
    """Return the label map, uint8, of bits that ``pack`` made."""
    count = int(np.prod(shape))
    flat = np.unpackbits(bits[0], count=count)
    for digit, part in enumerate(bits[1:], start=1):
        flat |= np.unpackbits(part, count=count) << digit
    return flat.reshape(shape, order=order)


def copy_structure(path: Path, target: Path, label: int) -> None:
    """Write one structure of a label map's file as a file of its own, a mask without labels. ValueError as ``read``."""
    if path.suffix == ".png":
        map_hw = _with_labels(path, _picture(path.read_bytes()))[:, :, 0].T
        data = raster.write_mask(map_hw == label)
    else:
        scan = nifti.read(path, "mri")
        data = nifti.write_mask(scan, _with_labels(path, scan.voxels_xyz) == label)
    target.parent.mkdir(exist_ok=True)
    checkpoint.write(target, data)


def sha256(path: Path) -> str | None:
    """Return the sha256 of a file's bytes; None where there is no file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Dice score of two masks of one shape over all structures, in [0, 1]; two empty masks agree.

    one, other: bool, or packed (``pack``). A pixel is common to both where it has the same structure in both.
    """
    marked, common = _compare(one, other)
    return 2 * common / sum(marked) if sum(marked) else 1.0


def changes(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """Return the numbers of pixels (or voxels) added and removed; a pixel that changed its structure counts as both.

    before, after: bool, or packed.
    """
    marked, common = _compare(before, after)
    return marked[1] - common, marked[0] - common


def any_structure(bits: np.ndarray) -> np.ndarray:
    """Return packed bits of all structures as one."""
    return np.bitwise_or.reduce(bits, axis=0, keepdims=True)


def _compare(one: np.ndarray, other: np.ndarray) -> tuple[tuple[int, int], int]:
    """Return the marked pixels of each of two masks, and those that have the same structure in both."""
    bits = [pack(mask) if mask.dtype == bool else mask for mask in (one, other)]
    digits = max(map(len, bits))
    first, second = (np.pad(part, ((0, digits - len(part)), (0, 0))) for part in bits)
    marked, differs = [any_structure(part) for part in (first, second)], any_structure(first ^ second)
    return (_count(marked[0]), _count(marked[1])), _count(marked[0] & ~differs)


def _count(bits: np.ndarray) -> int:
    return int(np.bitwise_count(bits).sum(dtype=np.int64))


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
    """Return a bool (H, W) mask with only its largest part ("largest"), without holes ("holes"), or with a smooth
    outline ("smooth").

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
    """Read the values of a PNG of a mask, uint8 (X, Y, 1), not larger than Pillow allows."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            return np.asarray(image.convert("L")).T[:, :, None]
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, zlib.error and more, undocumented
        raise UnreadableImage("this PNG is damaged or incomplete.") from error


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) + " voxels"
