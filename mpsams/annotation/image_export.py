"""The images of a scan as they leave with their masks: PNG of a flat picture, NIfTI of a volume, no text in either."""

from __future__ import annotations

import gzip
import io

import numpy as np
from PIL import Image

from mpsams.imaging import Scan, nifti

_BITS = (8, 10, 12, 14, 16)  # what ``imaging.raster`` tells apart by an image's maximum
_SAME = 1e-6  # of 1.0, far below a step of 16 bits


def is_picture(scan: Scan) -> bool:
    """Return True if a scan is flat, without geometry, and its values are brightness in [0, 1]."""
    if scan.affine is not None or scan.voxels_xyz.shape[2] != 1:
        return False
    values_hw = scan.slice(0)
    return bool(values_hw.min() >= -_SAME and values_hw.max() <= 1 + _SAME)


def png(scan: Scan) -> tuple[bytes, bool]:
    """Return a picture as grey PNG, and True if ``imaging.raster`` reads the same values from it.

    It is of 8 bits where these hold all values, else of 16. Values that no number of bits holds are rounded to 16 bits,
    or to 8 where the picture is so dark that a reader would take 16 for fewer.
    """
    values_hw = scan.slice(0).astype(np.float64).clip(0, 1)
    for bits in _BITS:
        steps_hw = np.rint(values_hw * (2**bits - 1))
        is_bits_kept = bits == 8 or bits == next(b for b in _BITS if steps_hw.max() < 2**b)
        if is_bits_kept and np.abs(steps_hw / (2**bits - 1) - values_hw).max() < _SAME:
            return _saved(steps_hw, bits), True
    bits = 16 if np.rint(values_hw.max() * (2**16 - 1)) >= 2 ** _BITS[-2] else 8
    return _saved(np.rint(values_hw * (2**bits - 1)), bits), False


def volume(scan: Scan) -> bytes:
    """Return a .nii.gz of a scan's voxels in their own type, on the grid that ``nifti.write_mask`` gives its masks."""
    voxels_xyz = scan.voxels_xyz
    header = _grid(scan)
    kind = np.dtype(np.float32) if voxels_xyz.dtype == np.float16 else voxels_xyz.dtype
    header.set_data_dtype(kind)
    header.set_slope_inter(scan.slope, scan.intercept)
    header["descrip"] = b""
    stored, data = header.get_data_dtype(), io.BytesIO()
    with gzip.GzipFile(fileobj=data, mode="wb", compresslevel=6, mtime=0) as file:
        header.write_to(file)
        for z in range(voxels_xyz.shape[2]):
            file.write(_without_padding(scan, voxels_xyz[:, :, z]).astype(stored).tobytes("F"))
    return data.getvalue()


def _without_padding(scan: Scan, voxels_xy: np.ndarray) -> np.ndarray:
    """Return voxels with the scan's background in place of its padding, which NIfTI has no way to state."""
    if scan.padding is None:
        return voxels_xy
    background = (scan.background - scan.intercept) / scan.slope
    if voxels_xy.dtype.kind != "f":
        ends = np.iinfo(voxels_xy.dtype)
        background = min(max(round(background), ends.min), ends.max)
    return np.where(scan.missing(voxels_xy), voxels_xy.dtype.type(background), voxels_xy)


def _grid(scan: Scan):
    """Return the header of the scan's masks: its geometry and no more."""
    from nibabel import Nifti1Header, Nifti2Header

    data = nifti.write_mask(scan, scan.empty_mask())
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        head = file.read(544)
    size, _ = nifti.SIGNATURES[head[:4]]
    kind = Nifti1Header if size == 348 else Nifti2Header
    return kind.from_fileobj(io.BytesIO(head))


def _saved(steps_hw: np.ndarray, bits: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(steps_hw.astype(np.uint8 if bits == 8 else np.uint16)).save(data, "PNG")
    return data.getvalue()
