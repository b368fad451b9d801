"""Headers of NIfTI-1, NIfTI-2 and Analyze 7.5: which voxels a file holds, their scaling, and their geometry in
sentences.

The header is judged before any voxel is read. Of its text, which may name the patient, nothing is ever copied.

Axes: X, Y, Z as stored; C colours, V volumes.
"""

from __future__ import annotations

import logging
import math
import struct
from typing import NamedTuple

import numpy as np

from . import UnreadableImage, geometry

# how a file begins
SIGNATURES = {struct.pack(f"{order}i", size): (size, order) for size in (348, 540) for order in "<>"}
MAX_BYTES = 2**30  # up to the last voxel, decompressed
MIN_SIDE, MAX_SIDE = 16, 4096
ALLOWED = (
    f"allowed are .nii and .nii.gz of up to {MAX_BYTES >> 30} GiB and 4 dimensions, in real numbers or RGB, "
    f"sides of {MIN_SIDE} to {MAX_SIDE} voxels, one of them maybe shorter"
)
DAMAGED = f"This NIfTI file is damaged or incomplete; {ALLOWED}."

_RGB = 128
_TYPES = {
    2: "u1",
    256: "i1",
    4: "i2",
    512: "u2",
    8: "i4",
    768: "u4",
    1024: "i8",
    1280: "u8",
    16: "f4",
    64: "f8",
    _RGB: "u1",
}
_ANALYZE_FIELDS = ("dim", "datatype", "bitpix", "pixdim", "vox_offset")
_METRES, _MICROMETRES = 1, 3
_UNITS = {_METRES: ("metres", 1e3), _MICROMETRES: ("micrometres", 1e-3)}
_AXES = ("left and right", "back and front", "feet and head")
_APART = 0.1  # voxel sides by which a corner may lie elsewhere by sform and by qform

UNSTATED = (
    "The file does not state its orientation; one was made up from its voxel size, so left and right may be swapped."
)
ANALYZE = (
    "This is an Analyze file, which cannot state its orientation; one was made up, so left and right may be swapped."
)
UNUSABLE = (
    "The file's geometry makes no sense, so voxels are shown as they are stored and left and right may be swapped."
)
OBLIQUE = "The scan is turned by {:.0f}° against the body's axes; slices are cut along the scan's own axes."
_INSTEAD = "The file's {} makes no sense, so its {} gives the geometry."
_DIFFERENT = "The file states its geometry twice and not the same: sform and qform {}; the sform is used."
_CONVERTED = "The file states its lengths in {}; they are shown in millimetres."
_QFAC = "The file's qfac is {:g}, which should be 1 or -1; 1 is used, so one axis may be mirrored."
_NO_SIZE = "The file states a voxel size of {} along {}; {} is used."


class Layout(NamedTuple):
    """Position and type of the voxels in a file; shape (C, X, Y, Z, V), the first running fastest; offset in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int

    @property
    def size(self) -> int:
        """Bytes of all voxels."""
        return math.prod(self.shape) * self.dtype.itemsize


def parse(head: bytes):
    """Parse a file's first 540 bytes as nibabel's header, with nothing corrected; EOFError for fewer bytes."""
    from nibabel import Nifti1Header, Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    size, order = SIGNATURES.get(head[:4], (0, ""))
    if not size:
        raise UnreadableImage(f"This gzip file holds no NIfTI; {ALLOWED}.")
    if len(head) < size:
        raise EOFError
    header = (Nifti1Header if size == 348 else Nifti2Header)(head[:size], order, check=False)
    if magic(header) == b"" and size == 348:
        header = _of_analyze(header)
    if magic(header) not in (b"", b"n+1", b"n+2", b"ni1", b"ni2"):
        raise UnreadableImage(f"This begins like a NIfTI header but is none; {ALLOWED}.")
    try:
        repair_affine(header)
    except HeaderDataError as error:
        raise UnreadableImage(DAMAGED) from error
    return header


def magic(header) -> bytes:
    """Return b"n+1" or b"n+2" of a file that holds its voxels, b"ni1" or b"ni2" of half a pair, b"" of Analyze."""
    return header["magic"].item()[:3]


def repair_affine(header):
    """Return a copy corrected as by nibabel: voxel sizes positive, unknown codes 0. HeaderDataError if beyond that."""
    copied = header.copy()
    if magic(header) == b"":
        copied["magic"] = b"ni1"
    copied.check_fix(logging.Logger("silent", logging.CRITICAL), error_level=40)
    return copied


def layout_of(header) -> Layout:
    """Return the layout that a header states. UnreadableImage if we do not allow it."""
    count, *dim = (int(n) for n in header["dim"])
    dim = dim[: max(0, count)]
    if not 1 <= count <= 7 or min(dim) < 1:
        raise UnreadableImage(DAMAGED)
    while len(dim) > 3 and dim[-1] == 1:
        dim.pop()
    if len(dim) > 4:
        raise UnreadableImage(f"This NIfTI file has {len(dim)} dimensions; {ALLOWED}.")
    dim += [1] * (4 - len(dim))
    if sorted(dim[:3])[1] < MIN_SIDE or max(dim) > MAX_SIDE:
        raise UnreadableImage(f"This NIfTI file holds {' × '.join(map(str, dim))} values; {ALLOWED}.")
    code, bits, offset = int(header["datatype"]), int(header["bitpix"]), float(header["vox_offset"])
    if code not in _TYPES:
        raise UnreadableImage(f"This NIfTI file holds complex numbers or a rare type; {ALLOWED}.")
    dtype, colours = np.dtype(header.endianness + _TYPES[code]), 3 if code == _RGB else 1
    least = header.single_vox_offset if magic(header)[:2] == b"n+" else 0
    if bits not in (0, 8 * colours * dtype.itemsize) or not offset.is_integer() or offset < least:
        raise UnreadableImage(DAMAGED)
    layout = Layout((colours, *dim), dtype, int(offset))
    if layout.offset + layout.size > MAX_BYTES:
        raise UnreadableImage(f"This NIfTI file holds {layout.size / 2**30:.1f} GiB; {ALLOWED}.")
    return layout


def scaling(header) -> tuple[float, float]:
    """Return slope and intercept; 1 and 0 where the slope is 0 or no number, which is NIfTI for "not scaled"."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        return 1.0, 0.0
    if not math.isfinite(intercept):
        raise UnreadableImage(DAMAGED)
    return slope, intercept


def affine_of(header) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return the (4, 4) affine to RAS millimetres, None if it makes no sense, and what the user should know about it.

    As in nibabel and ITK the sform comes before the qform, but one that makes no sense is passed over. Where neither is
    stated the affine is the one that nibabel makes up from the voxel size.
    """
    whole, notes = repair_affine(header), []
    unit, factor = _UNITS.get(int(header["xyzt_units"]) & 7, ("", 1.0))
    stated = {
        name: code > 0 for name, code in (("sform", int(whole["sform_code"])), ("qform", int(whole["qform_code"])))
    }
    found = {name: _usable(getattr(whole, f"get_{name}"), factor) for name, is_stated in stated.items() if is_stated}
    found = found or {"": _usable(whole.get_base_affine, factor)}
    name, affine = next(((name, affine) for name, affine in found.items() if affine is not None), ("", None))
    if affine is None:
        return None, (UNUSABLE,)
    if name == "":
        notes.append(UNSTATED if magic(header) else ANALYZE)
    notes += [_INSTEAD.format(other, name) for other, matrix in found.items() if matrix is None]
    sform, qform = found.get("sform"), found.get("qform")
    if sform is not None and qform is not None:
        notes += _disagreement(sform, qform, whole.get_data_shape())
    if name != "sform":
        notes += _sizes(header)
    if name == "qform" and (qfac := float(header["pixdim"][0])) not in (1, -1, 0):  # 0 is 1, says the standard
        notes.append(_QFAC.format(qfac))
    if unit:
        notes.append(_CONVERTED.format(unit))
    turned = geometry.angle(affine)
    return affine, (*notes, *(OBLIQUE.format(turned),) * (turned > 1))


def _of_analyze(header):
    """Return the header of an Analyze 7.5 file, whose fields other than these lie elsewhere than NIfTI's."""
    analyze = type(header)(endianness=header.endianness, check=False)
    for name in _ANALYZE_FIELDS:
        analyze[name] = header[name]
    analyze["magic"], analyze["xyzt_units"], analyze["pixdim"][0] = b"", 2, 1
    return analyze


def _usable(matrix_of, factor: float) -> np.ndarray | None:
    """Return the matrix that nibabel reads, in millimetres, or None where there is none or it makes no sense."""
    with np.errstate(all="ignore"):
        try:
            affine = matrix_of().astype(np.float64)
        except ValueError:  # no quaternion
            return None
        affine[:3] *= factor
        return affine if geometry.usable(affine) else None


def _disagreement(sform: np.ndarray, qform: np.ndarray, shape: tuple[int, ...]) -> list[str]:
    """Return a sentence where the corners of the volume lie elsewhere by sform and by qform; none where they do not."""
    sides = np.array([*shape[:3], 1, 1][:3])
    corners = np.array([(x, y, z, 1) for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [*(sides - 1), 1]
    moved = float(np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max())
    if moved <= _APART * np.linalg.norm(sform[:3, :3], axis=0).min():
        return []
    swapped = geometry.differing_axes(sform, qform)
    words = (
        f"disagree on {' and on '.join(_AXES[axis] for axis in swapped)}"
        if swapped
        else f"lie up to {moved:.3g} mm apart"
    )
    return [_DIFFERENT.format(words)]


def _sizes(header) -> list[str]:
    """Return a sentence for each voxel size along an axis of the volume that is 0 or negative and was corrected."""
    axes = [
        (name, float(header["pixdim"][k]))
        for k, name in ((1, "X"), (2, "Y"), (3, "Z"))
        if int(header["dim"][k]) > 1 or k < 3
    ]
    return [_NO_SIZE.format(f"{size:g}", name, f"{abs(size) or 1:g}") for name, size in axes if size <= 0]
