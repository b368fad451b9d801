"""NIfTI-1, NIfTI-2 and Analyze files to volumes, and lesion masks back onto the grid they came from.

Uploads are untrusted. No more is decompressed than the header, judged by ``nifti_header``, declares.

Axes: X, Y, Z as stored; C colours, V volumes.
"""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from . import Scan, UnreadableImage, geometry, modality_guess
from .nifti_header import ALLOWED, DAMAGED, MAX_BYTES, SIGNATURES, Layout, affine_of, layout_of, magic, parse, scaling

__all__ = ["GZIP", "MAX_BYTES", "SIGNATURES", "NiftiGrid", "grid", "is_half", "read", "write_mask"]

GZIP = b"\x1f\x8b"

_CHUNK = 2**20
_GEOMETRY = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z", "xyzt_units",
)  # fmt: skip
_LOWEST = (-np.inf, -3.4e38)  # the most negative float32, with which some programs fill what lies outside the image
_NO_VALUE = "{} of the voxels hold no number; they are shown as background."


class NiftiGrid(NamedTuple):
    """The contents of a header: voxels (X, Y, Z), volumes, the affine of a Scan, and notes on geometry."""

    shape: tuple[int, int, int]
    volumes: int
    affine: np.ndarray | None
    notes: tuple[str, ...]


def grid(path: Path) -> NiftiGrid:
    """Read the grid of a NIfTI file, without its voxels. UnreadableImage as ``read``."""
    try:
        with open(path, "rb") as file:
            header = parse(_stream(file).read(540))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableImage(DAMAGED) from error
    _, x, y, z, volumes = layout_of(header).shape
    return NiftiGrid((x, y, z), volumes, *affine_of(header))


def is_half(path: Path) -> bool:
    """Return True if a NIfTI file is the header (.hdr) of a pair, the voxels lying in another file (.img)."""
    try:
        with open(path, "rb") as file:
            return magic(parse(_stream(file).read(540)))[:2] != b"n+"
    except (EOFError, zlib.error, gzip.BadGzipFile, UnreadableImage):
        return False


def read(path: Path, modality: str | None = None, choice: int = 0, image: Path | None = None) -> Scan:
    """Read a NIfTI file, plain or gzipped, as a Scan whose voxels are memory-mapped and need the file no longer.

    choice: which volume of a 4-D file. RGB becomes ITU-R 601 luminance, 0 to 255. modality: None guesses it
    (``modality_guess``). The affine is in millimetres whatever the file's unit, None if it makes no sense
    (``nifti_header.affine_of``). image: the file with the voxels (.img) where ``path`` is the header of a pair (.hdr).

    Raises UnreadableImage whatever the bytes, ValueError for an unknown choice.
    """
    header, voxels_cxyzv = _map_voxels(path, image)
    count = voxels_cxyzv.shape[-1]
    if choice not in range(count):
        raise ValueError(f"volume {choice}; allowed are 0 to {count - 1}")
    return _scan(header, voxels_cxyzv, choice, modality)


def volumes(path: Path) -> list[Scan]:
    """Read all volumes of a NIfTI file, as ``read`` for the modality "mri", decompressed once and mapped together."""
    header, voxels_cxyzv = _map_voxels(path, None)
    return [_scan(header, voxels_cxyzv, number, "mri") for number in range(voxels_cxyzv.shape[-1])]


def _map_voxels(path: Path, image: Path | None) -> tuple[Any, np.ndarray]:
    """Return the header, and the voxels (C, X, Y, Z, V) mapped from a copy without a name."""
    with tempfile.TemporaryFile() as store:
        header, layout = _copy_voxels(path, store) if image is None else _copy_pair(path, image, store)
        return header, np.asarray(np.memmap(store, layout.dtype, "r", shape=layout.shape, order="F"))


def _scan(header: Any, voxels_cxyzv: np.ndarray, choice: int, modality: str | None) -> Scan:
    """Return one of a file's volumes as a Scan."""
    voxels_cxyz, volumes = voxels_cxyzv[..., choice], voxels_cxyzv.shape[-1]
    rgb = len(voxels_cxyz) == 3
    voxels_xyz = _luminance(voxels_cxyz) if rgb else voxels_cxyz[0]
    slope, intercept = (1.0, 0.0) if rgb else scaling(header)
    affine, notes = affine_of(header)
    form = f"NIfTI-{1 if header.sizeof_hdr == 348 else 2}" if magic(header) else "Analyze 7.5"
    words = f"{form}, {'RGB' if rgb else voxels_xyz.dtype.name}, "
    words += " × ".join(map(str, voxels_xyz.shape)) + " voxels"
    if affine is not None:
        words += " of " + " × ".join(f"{mm:.3g}" for mm in np.linalg.norm(affine[:3, :3], axis=0)) + " mm"
    titles = tuple(f"volume {i + 1} of {volumes}" for i in range(volumes)) if volumes > 1 else ()
    padding = _LOWEST if voxels_xyz.dtype.kind == "f" else None
    scan = Scan(voxels_xyz, modality or "mri", words, slope, intercept, affine, (), titles, choice, header, padding)
    notes += _without_value(scan)
    if modality is None:
        modality, note = modality_guess.guess(scan)
        notes += note
    return replace(scan, modality=modality, notes=notes)


def write_mask(scan: Scan, mask_xyz: np.ndarray) -> bytes:
    """Write an (X, Y, Z) mask on the scan's own grid as the bytes of a .nii.gz, uint8: of a bool mask lesion 1, else 0;
    of a label map, uint8, its values. Equal masks give equal bytes.

    A NIfTI source's geometry is kept bit by bit, together with its version and byte order; of the rest of its header
    nothing. Any other scan gets a new header with its affine as sform, code 1 (scanner), and as qform too unless it is
    sheared. Where there is no geometry both codes are 0, "unknown", and voxels have no unit.

    Raises ValueError for a mask of another type or shape.
    """
    if mask_xyz.dtype not in (bool, np.uint8) or mask_xyz.shape != scan.voxels_xyz.shape:
        raise ValueError(
            f"mask is {mask_xyz.dtype} {mask_xyz.shape}; allowed is bool or uint8, {scan.voxels_xyz.shape}"
        )
    header = _mask_header(scan)
    data = io.BytesIO()
    with gzip.GzipFile(fileobj=data, mode="wb", compresslevel=6, mtime=0) as file:
        header.write_to(file)
        for z in range(mask_xyz.shape[2]):
            file.write(mask_xyz[:, :, z].tobytes("F"))
    return data.getvalue()


def _stream(file: BinaryIO) -> BinaryIO:
    """Return the file from its beginning, decompressed if need be."""
    packed = file.read(2) == GZIP
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[return-value]


def _copy_voxels(path: Path, store: BinaryIO) -> tuple:
    """Copy the voxels of a file, without its header, into another file; return the header as it is and the layout."""
    try:
        with open(path, "rb") as file:
            stream = _stream(file)
            header = parse(stream.read(540))
            if magic(header)[:2] != b"n+":
                raise UnreadableImage(
                    "This is one half of a .hdr and .img pair of NIfTI or Analyze, and the other is not here;"
                    f" {ALLOWED}."
                )
            return header, _copy(stream, layout_of(header), store)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableImage(DAMAGED) from error


def _copy_pair(path: Path, image: Path, store: BinaryIO) -> tuple:
    """Copy the voxels of a pair of header and voxel file, as ``_copy_voxels``; return the header and the layout."""
    try:
        with open(path, "rb") as file:
            header = parse(_stream(file).read(540))
        with open(image, "rb") as file:
            return header, _copy(_stream(file), layout_of(header), store)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableImage(DAMAGED) from error


def _copy(stream: BinaryIO, layout: Layout, store: BinaryIO) -> Layout:
    """Copy the voxels of that layout, which is returned. EOFError where there are fewer."""
    if not isinstance(stream, gzip.GzipFile) and layout.offset + layout.size > os.fstat(stream.fileno()).st_size:
        raise EOFError
    stream.seek(layout.offset)
    left = layout.size
    while left:
        chunk = stream.read(min(left, _CHUNK))
        if not chunk:
            raise EOFError
        left -= store.write(chunk)
    stream.read(1)  # lets gzip find the end and check its sum
    store.flush()
    return layout


def _without_value(scan: Scan) -> tuple[str, ...]:
    """Return a sentence on voxels that hold no number; none where all do."""
    if scan.voxels_xyz.dtype.kind != "f":
        return ()
    count = sum(int(scan.missing(scan.voxels_xyz[:, :, z]).sum()) for z in range(scan.voxels_xyz.shape[2]))
    return (_NO_VALUE.format(_share(count, scan.voxels_xyz.size)),) if count else ()


def _share(count: int, size: int) -> str:
    """Return a share in per cent, in words where it is all or next to none."""
    return "All" if count == size else f"{count / size:.0%}" if count >= 0.01 * size else "Less than 1%"


def _luminance(voxels_cxyz: np.ndarray) -> np.ndarray:
    """Convert RGB to grey as Pillow's "L", uint8 (X, Y, Z), slice by slice to stay small."""
    grey_xyz = np.empty(voxels_cxyz.shape[1:], np.uint8, order="F")
    for z in range(voxels_cxyz.shape[3]):
        red, green, blue = voxels_cxyz[..., z].astype(np.uint32)
        grey_xyz[..., z] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return grey_xyz


def _mask_header(scan: Scan):
    """Return the header of the file that ``write_mask`` writes; only numeric fields are copied from a source."""
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
            if not geometry.is_sheared(scan.affine):
                header.set_qform(scan.affine, 1)
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["descrip"] = b"MPS-AMS lesion mask"
    return header
