"""Files copied without what carries no pixels: comments, profiles, EXIF, previews, further pages.

So that Pillow never meets the bombs and patient names in them. `png`, `jpeg` and `tiff` raise ValueError,
IndexError, KeyError, OverflowError or struct.error for broken files.
"""

from __future__ import annotations

import io
import struct
from typing import NamedTuple

_MAX_PARTS = 4096 * 4096 // 16**2  # chunks, segments, or values of one TIFF tag: enough for tiles of 16 × 16
_MAX_SCANS = 32  # of a progressive JPEG; encoders write about ten, each costs a pass over the image
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_JPEG_METADATA = {*range(0xE1, 0xF0), 0xFE} - {0xEE}  # APP1-15 and comments, but not Adobe's colour transform
_TIFF_TYPE_SIZES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # in bytes, else 1
PHOTOMETRIC, ORIENTATION, TILE_WIDTH, TILE_LENGTH, BITS, SAMPLE_FORMAT = 262, 274, 322, 323, 258, 339
_TIFF_TAGS = {  # of TIFF 6.0, those that say where the pixels are and how they are coded
    256, 257, BITS, 259, PHOTOMETRIC, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320,
    TILE_WIDTH, TILE_LENGTH, 324, 325, 332, 338, SAMPLE_FORMAT, 347, 529, 530, 531, 532,
}  # fmt: skip


class Picture(NamedTuple):
    """A file with only its first picture left in it, and what stood beside it."""

    file: io.BytesIO
    orientation: int = 1  # as in EXIF, 1 to 8
    white_is_zero: bool = False
    several: bool = False  # further pages or frames were left out


def png(data: bytes) -> Picture:
    """Copy a PNG without other parts: signature, then chunks of length, name, content and checksum, up to IEND."""
    file, at, exif, animated = io.BytesIO(), 8, b"", False
    file.write(data[:8])
    if data[12:16] != b"IHDR":
        raise ValueError("no header")
    for _ in range(_MAX_PARTS):
        (length,) = struct.unpack_from(">I", data, at)
        name, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            break
        if name in _PNG_CHUNKS:
            file.write(memoryview(data)[at:end])
        if name == b"IEND":
            return Picture(file, _exif_orientation(exif), several=animated)
        exif = data[at + 8 : end - 4] if name == b"eXIf" else exif
        animated = animated or name == b"acTL"
        at = end
    raise ValueError("no IEND")


def jpeg(data: bytes) -> Picture:
    """Copy a JPEG without other parts: segments of marker, length and content up to the scans, which are kept."""
    file, at, exif = io.BytesIO(), 2, b""
    file.write(data[:2])
    for _ in range(_MAX_PARTS):
        while data[at : at + 2] == b"\xff\xff":  # padding
            at += 1
        mark, marker, length = struct.unpack_from(">BBH", data, at)
        if mark != 0xFF:
            break
        if marker == 0xDA:
            if data.count(b"\xff\xda", at) > _MAX_SCANS or data.find(b"\xff\xd9", at) < 0:
                break
            file.write(memoryview(data)[at:])
            return Picture(file, _exif_orientation(exif))
        end = at + 2 + length
        if marker not in _JPEG_METADATA:
            file.write(memoryview(data)[at:end])
        elif marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            exif = data[at + 10 : end]
        at = end
    raise ValueError("no scan, far too many, or no end")


def tiff(data: bytes) -> Picture:
    """Append the first directory, reduced and without a successor, and make the header point at it."""
    fields, following, header, number, entry, pointer = _directory(data)
    kept = {tag: fields[tag] for tag in sorted(_TIFF_TAGS & fields.keys())}
    for kind, count, *words in kept.values():
        size = count * _TIFF_TYPE_SIZES.get(kind, 1)
        (at,) = pointer.unpack(struct.pack(f"{number.format[0]}{len(words)}H", *words))
        if count > _MAX_PARTS or (size > pointer.size and at + size > len(data)):
            raise ValueError("values far too many or cut off")
    white_is_zero = PHOTOMETRIC in kept and kept[PHOTOMETRIC][2] == 0
    if white_is_zero:  # Pillow inverts some types and not others: have it invert none
        kept[PHOTOMETRIC][2] = 1
    file, start = io.BytesIO(data), len(data) + len(data) % 2
    file.seek(start)
    file.write(number.pack(len(kept)) + b"".join(entry.pack(tag, *field) for tag, field in kept.items()))
    file.write(pointer.pack(0))
    file.seek(header)
    file.write(pointer.pack(start))
    return Picture(file, fields.get(ORIENTATION, [3, 1, 1])[2], white_is_zero, following != 0)


def _exif_orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF, which is a TIFF without a picture; 1, upright, if missing or broken."""
    try:
        return _directory(exif)[0].get(ORIENTATION, [3, 1, 1])[2]
    except (struct.error, OverflowError):
        return 1


def _directory(tiff: bytes) -> tuple:
    """Return {tag: [type, count, value or offset as words]}, the position of the next directory, and the layout."""
    order = "<" if tiff[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", tiff, 2) == (43,)
    header, *layout = (8, "Q", "HHQHHHH", "Q") if big else (4, "H", "HHIHH", "I")
    number, entry, pointer = (struct.Struct(order + form) for form in layout)
    (at,) = pointer.unpack_from(tiff, header)
    (count,) = number.unpack_from(tiff, at)
    at += number.size
    fields = {}
    for _ in range(min(count, _MAX_PARTS)):
        tag, *fields[tag] = entry.unpack_from(tiff, at)
        at += entry.size
    (following,) = pointer.unpack_from(tiff, at)
    return fields, following, header, number, entry, pointer
