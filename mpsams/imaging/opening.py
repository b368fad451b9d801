"""The reader of an upload, chosen by its content, never by its name."""

from __future__ import annotations

import errno
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import Scan, UnreadableImage, archive, nifti, raster

MAX_FILES = 4096
MAX_BYTES = 2**30  # of all files as they were uploaded

_OPENS = "this version opens PNG, JPEG, TIFF, NIfTI and DICOM, also zipped"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DICOM_FOLDER = b"1.2.840.10008.1.3.10"  # the kind of DICOM file that lists others


def read(files: Sequence[Path], modality: str | None, choice: int) -> Scan:
    """Read files as ``imaging.read`` does; a picture is an ultrasound unless stated otherwise.

    With DICOM among several files these are opened together and the others left out; of several others, ``choice``
    picks one. What was left out is counted in the notes.
    """
    files = [Path(file) for file in files]
    if len(files) > MAX_FILES or sum(file.stat().st_size for file in files) > MAX_BYTES:
        raise UnreadableImage(f"These are more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB; {_OPENS}.")
    try:
        if len(files) == 1 and kind(files[0]) == "zip":
            with tempfile.TemporaryDirectory() as folder:
                return _read(archive.unpack(files[0], Path(folder)), modality, choice)
        return _read(files, modality, choice)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise UnreadableImage(
            "This computer has no room on its disk to open this; try a smaller file, or later."
        ) from None


def _read(files: list[Path], modality: str | None, choice: int) -> Scan:
    """Read files that are not unpacked any further."""
    kinds = [kind(file) for file in files]
    several = [file for file, own in zip(files, kinds, strict=True) if own == "dicom"]
    if several:
        from . import dicom

        scan = dicom.read(several, modality, choice)
    else:
        several = [file for file, own in zip(files, kinds, strict=True) if own in ("raster", "nifti")]
        if not several:
            raise UnreadableImage(_nothing_to_open(kinds))
        halves = _halves(several, [file for file, own in zip(files, kinds, strict=True) if own == "unknown"])
        scan = _one_of(several, modality, choice, halves)
        several += halves.values()
    left_out = len(files) - len(several)
    note = f"{left_out} of the {len(files)} files are no {'DICOM' if 'dicom' in kinds else 'images'} and were left out."
    return replace(scan, notes=(*scan.notes, note)) if left_out else scan


def _halves(files: list[Path], unknown: list[Path]) -> dict[Path, Path]:
    """Return the files with voxels (.img) by their headers (.hdr): those of the same name, else the only one."""
    headers = [file for file in files if kind(file) == "nifti" and nifti.is_half(file)]
    found = {header: file for header in headers for file in unknown if file.stem == header.stem}
    return found or (dict(zip(headers, unknown, strict=True)) if len(headers) == len(unknown) == 1 else {})


def _one_of(files: list[Path], modality: str | None, choice: int, halves: dict[Path, Path]) -> Scan:
    """Open one of several pictures and NIfTI files; of a single file its own volumes are the choices."""
    if len(files) == 1:
        return _open(files[0], modality, choice, halves.get(files[0]))
    if choice not in range(len(files)):
        raise ValueError(f"file {choice}; allowed are 0 to {len(files) - 1}")
    scan = _open(files[choice], modality, 0, halves.get(files[choice]))
    first = (
        (f"Only volume 1 of {len(scan.choices)} is shown; upload the file alone to choose.",) if scan.choices else ()
    )
    titles = tuple(f"file {i + 1} of {len(files)}" for i in range(len(files)))
    return replace(scan, notes=scan.notes + first, choices=titles, choice=choice)


def _open(file: Path, modality: str | None, choice: int, image: Path | None = None) -> Scan:
    if kind(file) == "nifti":
        return nifti.read(file, modality, choice, image)
    if choice != 0:
        raise ValueError(f"picture {choice}; allowed is 0")
    with file.open("rb") as stream:
        return raster.read(stream.read(raster.MAX_BYTES + 1), modality or "ultrasound")


def kind(file: Path) -> str:
    """Return "dicom", "raster", "nifti", "zip", "empty" or "unknown", by the first bytes."""
    with file.open("rb") as stream:
        head = stream.read(1024)
    if head[128:132] == b"DICM":
        return "unknown" if _DICOM_FOLDER in head else "dicom"
    if raster.kind(head):
        return "raster"
    if head[:4] in nifti.SIGNATURES or head[:2] == nifti.GZIP:
        return "nifti"
    if head[:4] in archive.SIGNATURES:
        return "zip"
    return "dicom" if _begins_with_element(head) else "unknown" if head else "empty"


def _begins_with_element(head: bytes) -> bool:
    """Return True if this is DICOM without preamble: little-endian group 2 or 8, then a type or small even length."""
    if len(head) < 8:
        return False
    group, element, length = struct.unpack("<HHI", head[:8])
    typed = head[4:6].isalpha() and head[4:6].isupper()
    return group in (2, 8) and element < 256 and (typed or (length <= 1024 and length % 2 == 0))


def _nothing_to_open(kinds: list[str]) -> str:
    """Return a sentence on why there is nothing to open."""
    if set(kinds) == {"empty"}:
        return f"The file is empty; {_OPENS}."
    if "zip" in kinds:
        return f"A zip file must be the only file, and hold no other zip; {_OPENS}."
    if len(kinds) != 1:
        return f"There is no image among these {len(kinds)} files; {_OPENS}."
    return f"By its content, whatever its name, this is no image we know; {_OPENS}."
