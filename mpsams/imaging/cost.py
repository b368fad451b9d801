"""Bytes that an upload takes once it is decoded, estimated from the heads of its files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

from . import UnreadableImage, archive, nifti, nifti_header, opening, raster

MOST = 2**30  # of one volume; no reader decodes more
PACKED = 20  # as many times larger may compressed pixels be once they are decoded
# DICOM's transfer syntaxes without compression
_PLAIN = (b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0")
_DEFLATED = b"1.2.840.10008.1.2.1.99"


def estimate(files: Sequence[Path]) -> tuple[int, int]:
    """Estimate the bytes of memory and of temporary disk that opening these files takes, rather too many than too few.

    Of several files one is open at a time, but for those of a DICOM series.
    """
    memory, alone, together = 0, 0, 0
    for file in files:
        kind = opening.kind(file)
        if kind == "raster":
            memory = max(memory, _picture(file))
        elif kind == "nifti":
            alone = max(alone, _nifti(file))
        elif kind == "zip":
            alone = max(alone, _zip(file))
        else:
            together += _dicom(file)
    return memory, max(alone, min(together, MOST))


def _picture(file: Path) -> int:
    return min(16 * raster.MAX_PIXELS, 2**20 + PACKED * file.stat().st_size)


def _nifti(file: Path) -> int:
    """Return the bytes that a header declares; the reader decodes no more of the file."""
    try:
        with open(file, "rb") as plain:
            is_packed = plain.read(2) == nifti.GZIP
            plain.seek(0)
            head = (gzip.GzipFile(fileobj=plain) if is_packed else plain).read(540)
        return nifti_header.layout_of(nifti_header.parse(head)).size
    except (UnreadableImage, EOFError, OSError, zlib.error):
        return file.stat().st_size


def _zip(file: Path) -> int:
    """Return the bytes of a zip's files unpacked, and decoded."""
    try:
        with archive._Bounded(file) as stream:
            unpacked = sum(member.file_size for member in archive._members(stream)[1])
    except UnreadableImage:
        return file.stat().st_size
    return unpacked + min(MOST, PACKED * unpacked)


def _dicom(file: Path) -> int:
    with open(file, "rb") as stream:
        head, size = stream.read(1024), file.stat().st_size
    if _DEFLATED in head:
        return MOST
    return size if any(syntax in head for syntax in _PLAIN) or b"1.2.840.10008.1.2." not in head else PACKED * size
