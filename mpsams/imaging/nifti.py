"""NIfTI-1 and NIfTI-2 files to volumes, and lesion masks back onto the grid they came from.

Uploads are untrusted. The header is judged before any voxel is read, no more is decompressed than it declares,
and of its text, which may name the patient, nothing is ever copied.

Axes: X, Y, Z as stored; C colours, V volumes.
"""

from __future__ import annotations

import gzip
import io
import logging
import math
import os
import struct
import tempfile
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from . import Scan, UnreadableImage, geometry

GZIP = b"\x1f\x8b"
SIGNATURES = {struct.pack(f"{order}i", size): (size, order) for size in (348, 540) for order in "<>"}  # how a file begins
MAX_BYTES = 2**30  # up to the last voxel, decompressed
MIN_SIDE, MAX_SIDE = 16, 4096

_CHUNK = 2**20
_RGB = 128
_TYPES = {2: "u1", 256: "i1", 4: "i2", 512: "u2", 8: "i4", 768: "u4", 1024: "i8", 1280: "u8", 16: "f4", 64: "f8", _RGB: "u1"}
_GEOMETRY = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z", "xyzt_units",
)  # fmt: skip
_ALLOWED = (
    f"allowed are .nii and .nii.gz of up to {MAX_BYTES >> 30} GiB and 4 dimensions, in real numbers or RGB, "
    f"sides of {MIN_SIDE} to {MAX_SIDE} voxels, one of them maybe shorter"
)
_DAMAGED = f"This NIfTI file is damaged or incomplete; {_ALLOWED}."
_UNSTATED = "The file does not state its orientation, so left and right may be swapped."
_UNUSABLE = "The file's geometry makes no sense, so voxels are shown as they are stored and left and right may be swapped."
_OBLIQUE = "The scan is turned by {:.0f}° against the body's axes; slices are cut along the scan's own axes."


class _Layout(NamedTuple):
    """Where the voxels are in a file; shape (C, X, Y, Z, V), the first running fastest; offset in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read(path: Path, modality: str | None = None, choice: int = 0) -> Scan:
    """A NIfTI file, plain or gzipped, as a Scan whose voxels are memory-mapped and need the file no longer.

    choice: which volume of a 4-D file. RGB becomes ITU-R 601 luminance, 0 to 255. modality: None guesses "ct" if
    there are values below -200, else "mri". The affine is the one nibabel picks (sform, else qform, else one made up
    from the voxel size), in millimetres whatever the file's unit, or None if it makes no sense.

    Raises UnreadableImage whatever the bytes, ValueError for an unknown choice.
    """
    with tempfile.TemporaryFile() as store:
        header, layout = _copy_voxels(path, store)
        *_, volumes = layout.shape
        if choice not in range(volumes):
            raise ValueError(f"volume {choice}; allowed are 0 to {volumes - 1}")
        mapped = np.memmap(store, layout.dtype, "r", shape=layout.shape, order="F")
    voxels_cxyz = np.asarray(mapped)[..., choice]
    rgb = len(voxels_cxyz) == 3
    voxels_xyz = _luminance(voxels_cxyz) if rgb else voxels_cxyz[0]
    slope, intercept = (1.0, 0.0) if rgb else _scaling(header)
    affine, notes = _affine(header)
    words = f"NIfTI-{1 if header.sizeof_hdr == 348 else 2}, {'RGB' if rgb else voxels_xyz.dtype.name}, "
    words += " × ".join(map(str, voxels_xyz.shape)) + " voxels"
    if affine is not None:
        words += " of " + " × ".join(f"{mm:.3g}" for mm in np.linalg.norm(affine[:3, :3], axis=0)) + " mm"
    titles = tuple(f"volume {i + 1} of {volumes}" for i in range(volumes)) if volumes > 1 else ()
    modality = modality or _guess(voxels_xyz, slope, intercept)
    return Scan(voxels_xyz, modality, words, slope, intercept, affine, notes, titles, choice, header)


def write_mask(scan: Scan, mask_xyz: np.ndarray) -> bytes:
    """A .nii.gz of a bool (X, Y, Z) mask on the scan's own grid: uint8, lesion 1, else 0; equal masks, equal bytes.

    A NIfTI source's geometry is kept bit by bit, together with its version and byte order; of the rest of its header
    nothing. Any other scan gets a new header with its affine as sform, code 1 (scanner), and as qform too unless it is
    sheared. Where there is no geometry both codes are 0, "unknown", and voxels have no unit.

    Raises ValueError for a mask of another type or shape.
    """
    if mask_xyz.dtype != bool or mask_xyz.shape != scan.voxels_xyz.shape:
        raise ValueError(f"mask is {mask_xyz.dtype} {mask_xyz.shape}; allowed is bool {scan.voxels_xyz.shape}")
    header = _mask_header(scan)
    data = io.BytesIO()
    with gzip.GzipFile(fileobj=data, mode="wb", compresslevel=6, mtime=0) as file:
        header.write_to(file)
        for z in range(mask_xyz.shape[2]):
            file.write(mask_xyz[:, :, z].tobytes("F"))
    return data.getvalue()


def _copy_voxels(path: Path, store: BinaryIO):
    """Voxels from a file into another, header left out; the header as it is, and the layout."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == GZIP
            file.seek(0)
            stream = gzip.GzipFile(fileobj=file) if packed else file
            header = _header(stream.read(540))
            layout = _layout(header)
            if not packed and layout.offset + layout.size > os.fstat(file.fileno()).st_size:
                raise EOFError
            stream.seek(layout.offset)
            left = layout.size
            while left:
                chunk = stream.read(min(left, _CHUNK))
                if not chunk:
                    raise EOFError
                left -= store.write(chunk)
            stream.read(1)  # lets gzip find the end and check its sum
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableImage(_DAMAGED) from error
    store.flush()
    return header, layout


def _header(head: bytes):
    """A file's first 540 bytes as nibabel's header, text and all, and nothing mended."""
    from nibabel import Nifti1Header, Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    size, order = SIGNATURES.get(head[:4], (0, ""))
    if not size:
        raise UnreadableImage(f"This gzip file holds no NIfTI; {_ALLOWED}.")
    if len(head) < size:
        raise EOFError
    header = (Nifti1Header if size == 348 else Nifti2Header)(head[:size], order, check=False)
    if header["magic"].item()[:3] not in (b"n+1", b"n+2"):
        raise UnreadableImage(f"This is one half of a .hdr and .img pair, or no NIfTI; {_ALLOWED}.")
    try:
        _mended(header)
    except HeaderDataError as error:
        raise UnreadableImage(_DAMAGED) from error
    return header


def _mended(header):
    """A copy as nibabel mends it on loading: voxel sizes positive, unknown codes 0. HeaderDataError if beyond that."""
    mended = header.copy()
    mended.check_fix(logging.Logger("silent", logging.CRITICAL), error_level=40)
    return mended


def _layout(header) -> _Layout:
    """Where the header says that the voxels are, if we allow it."""
    count, *dim = (int(n) for n in header["dim"])
    dim = dim[: max(0, count)]
    if not 1 <= count <= 7 or min(dim) < 1:
        raise UnreadableImage(_DAMAGED)
    while len(dim) > 3 and dim[-1] == 1:
        dim.pop()
    if len(dim) > 4:
        raise UnreadableImage(f"This NIfTI file has {len(dim)} dimensions; {_ALLOWED}.")
    dim += [1] * (4 - len(dim))
    if sorted(dim[:3])[1] < MIN_SIDE or max(dim) > MAX_SIDE:
        raise UnreadableImage(f"This NIfTI file holds {' × '.join(map(str, dim))} values; {_ALLOWED}.")
    code, bits, offset = int(header["datatype"]), int(header["bitpix"]), float(header["vox_offset"])
    if code not in _TYPES:
        raise UnreadableImage(f"This NIfTI file holds complex numbers or a rare type; {_ALLOWED}.")
    dtype, colours = np.dtype(header.endianness + _TYPES[code]), 3 if code == _RGB else 1
    if bits not in (0, 8 * colours * dtype.itemsize) or not offset.is_integer() or offset < header.single_vox_offset:
        raise UnreadableImage(_DAMAGED)
    layout = _Layout((colours, *dim), dtype, int(offset))
    if layout.offset + layout.size > MAX_BYTES:
        raise UnreadableImage(f"This NIfTI file holds {layout.size / 2**30:.1f} GiB; {_ALLOWED}.")
    return layout


def _scaling(header) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where the slope is 0 or no number, which is NIfTI for "not scaled"."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        return 1.0, 0.0
    if not math.isfinite(intercept):
        raise UnreadableImage(_DAMAGED)
    return slope, intercept


def _affine(header) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The (4, 4) affine to RAS millimetres, None if it makes no sense, and what the user should know about it."""
    header = _mended(header)
    with np.errstate(all="ignore"):
        try:
            affine = header.get_best_affine().astype(np.float64)
        except ValueError:  # no quaternion
            return None, (_UNUSABLE,)
        affine[:3] *= {1: 1e3, 3: 1e-3}.get(int(header["xyzt_units"]) & 7, 1.0)  # metres, micrometres
    if not geometry.usable(affine):
        return None, (_UNUSABLE,)
    turned = geometry.angle(affine)
    unstated = not header["qform_code"] and not header["sform_code"]
    return affine, (_UNSTATED,) * unstated + (_OBLIQUE.format(turned),) * (turned > 1)


def _luminance(voxels_cxyz: np.ndarray) -> np.ndarray:
    """RGB to grey as Pillow's "L", uint8 (X, Y, Z), slice by slice to stay small."""
    grey_xyz = np.empty(voxels_cxyz.shape[1:], np.uint8, order="F")
    for z in range(grey_xyz.shape[2]):
        red, green, blue = voxels_cxyz[..., z].astype(np.uint32)
        grey_xyz[..., z] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return grey_xyz


def _guess(voxels_xyz: np.ndarray, slope: float, intercept: float) -> str:
    """ "ct" if some of up to 64³ voxels are below -200, as Hounsfield units of air are; else "mri"."""
    some = voxels_xyz[tuple(slice(None, None, -(-n // 64)) for n in voxels_xyz.shape)].astype(np.float64)
    with np.errstate(all="ignore"):
        values = some * slope + intercept
    return "ct" if (np.isfinite(values) & (values < -200)).any() else "mri"


def _mask_header(scan: Scan):
    """See ``write_mask``. What is copied from a source are fields that hold numbers, one by one."""
    from nibabel import Nifti1Header

    if isinstance(scan.source, Nifti1Header):  # or its child, NIfTI-2
        header = type(scan.source)(endianness=scan.source.endianness)
        header.set_data_shape(scan.voxels_xyz.shape[: int(scan.source["dim"][0])])
        header["pixdim"][:4] = scan.source["pixdim"][:4]
        for name in _GEOMETRY:
            header[name] = scan.source[name]
    else:
        header = Nifti1Header()
        header.set_data_shape(scan.voxels_xyz.shape)
        if scan.affine is not None:
            header.set_xyzt_units("mm")
            header.set_zooms(np.linalg.norm(scan.affine[:3, :3], axis=0))
            header.set_sform(scan.affine, 1)
            if not geometry.sheared(scan.affine):
                header.set_qform(scan.affine, 1)
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["descrip"] = b"MPS-AMS lesion mask"
    return header
