"""The coded pixels of a DICOM file, decoded frame by frame, after a look at what each frame claims to become.

A compressed frame carries its own size, by which decoders allocate memory: it must be the header's. Decoders that a
damaged frame can crash or keep busy work in another process.
"""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import UnreadableImage
from .elements import DAMAGED, Allowance, Steps, uid
from .frames import Image

_STEPS = 2**19  # reads of a file's fragments
_FRAME_HEADERS = {0xC0, 0xC1, 0xC2, 0xC3, 0xF7}  # baseline, extended, progressive, lossless; JPEG-LS
_BEFORE_THEM = {0xC4, 0xDB, 0xDD, *range(0xE0, 0xFF)}  # tables, restart interval, applications' own, comments
_MAX_SCANS = 64  # of a progressive JPEG, each a pass over the image
_CODESTREAM, _MAX_TILES = b"\xff\x4f\xff\x51", 4096  # the first bytes of JPEG 2000
# pydicom's plugins; tests crashed or stalled these
_STURDY, _FRAIL = ("pylibjpeg", "pillow", "pydicom"), ("gdcm", "pyjpegls")


def syntax(data: Any) -> str:
    """Return the UID by which the pixels are coded, if that can be decoded here; without any, pydicom's guess."""
    from pydicom import uid as uids
    from pydicom.pixels import get_decoder

    implicit, little = data.original_encoding
    guess = (
        uids.ImplicitVRLittleEndian if implicit else uids.ExplicitVRLittleEndian if little else uids.ExplicitVRBigEndian
    )
    syntax = uids.UID(uid(data.file_meta, "TransferSyntaxUID") or guess)
    try:
        if get_decoder(syntax).is_available:
            return str(syntax)
    except NotImplementedError:
        pass
    name = "unknown" if syntax.name == syntax else syntax.name
    raise UnreadableImage(
        f"The coding of this DICOM is {name}; this version opens DICOM images that are uncompressed or compressed by"
        " JPEG, JPEG-LS, JPEG 2000 or RLE."
    )


class Elsewhere:
    """Decodes frames by ``child``, a program that starts when it is first needed and ends with this context."""

    def __init__(self) -> None:
        self._child: subprocess.Popen | None = None

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()

    def as_array(self, frame: bytes, **options: Any) -> tuple[np.ndarray, dict[str, str]]:
        """Decode a frame as pydicom's ``Decoder.as_array`` does. options: its arguments, and "syntax".

        Raises UnreadableImage where that raises, crashes or lasts.
        """
        if self._child is None:
            program = [sys.executable, "-P", str(Path(__file__).with_name("child.py"))]
            self._child = subprocess.Popen(
                program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        requests, answers = self._child.stdin, self._child.stdout
        assert requests and answers  # both are pipes
        try:
            requests.write(json.dumps(options | {"size": len(frame)}).encode() + b"\n" + frame)
            requests.flush()
        except OSError:
            raise UnreadableImage(DAMAGED) from None
        answer = json.loads(answers.readline() or "null")
        if answer is None:
            raise UnreadableImage(DAMAGED)
        kind, shape = np.dtype(answer["dtype"]), answer["shape"]
        samples = np.frombuffer(answers.read(math.prod(shape) * kind.itemsize), kind).reshape(shape)
        return samples, {"photometric_interpretation": answer["photometric"]}


def decode(image: Image, wanted: Collection[int], elsewhere: Elsewhere) -> Iterator[tuple[int, np.ndarray, str]]:
    """Yield index, samples (H, W) or (H, W, 3) and photometric interpretation of each wanted frame, as stored, in their
    order.

    Raises UnreadableImage, or whatever pydicom and its decoders raise, for frames that are damaged or missing.
    """
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    decoder, compressed = get_decoder(image.syntax), UID(image.syntax).is_encapsulated
    options = {
        "rows": image.rows,
        "columns": image.columns,
        "samples_per_pixel": image.samples,
        "bits_allocated": image.allocated,
        "photometric_interpretation": image.photometric,
        "planar_configuration": image.planar,
        "bits_stored": image.bits,
        "pixel_representation": int(image.signed),
        "pixel_keyword": "PixelData",
        "pixel_vr": image.vr,
        "raw": True,
    }
    decode = decoder.as_array
    if compressed:
        options["decoding_plugin"] = next(name for name in (*_STURDY, *_FRAIL) if name in decoder.available_plugins)
        if options["decoding_plugin"] in _FRAIL:
            decode, options["syntax"] = elsewhere.as_array, image.syntax
    left = set(wanted)
    with open(image.path, "rb", buffering=0) as opened, Steps(opened, Allowance(_STEPS)) as file:
        file.seek(image.at)
        each = (
            _decode_compressed(image, file, left)
            if compressed
            else ((index, file, index, image.frames) for index in sorted(left))
        )
        for index, source, there, frames in each:
            samples, meant = decode(source, index=there, number_of_frames=frames, **options)
            left.remove(index)
            yield index, samples, str(meant["photometric_interpretation"])
            if not left:
                return
    raise UnreadableImage(DAMAGED)


def _decode_compressed(image: Image, file: Any, wanted: Collection[int]) -> Iterator[tuple[int, bytes, int, int]]:
    """Yield the index of each wanted frame, and its fragments in one, as frame 0 of 1, if their size is right."""
    from pydicom.encaps import encapsulate, generate_frames
    from pydicom.uid import JPEG2000TransferSyntaxes, RLELossless

    _, offsets = struct.unpack("<LL", file.read(8))
    if offsets > 4 * image.frames:
        raise UnreadableImage(DAMAGED)
    file.seek(image.at)
    for index, frame in enumerate(generate_frames(file, number_of_frames=image.frames)):
        if index not in wanted:
            continue
        if image.syntax == RLELossless:
            fits = _rle_fits(image, frame)
        elif image.syntax in JPEG2000TransferSyntaxes:
            frame = frame[max(0, frame.find(_CODESTREAM)) :]  # some writers put it into a JP2 file
            fits = _jpeg_2000_size(frame) == (image.rows, image.columns, image.samples)
        else:
            fits = _jpeg_size(frame) == (image.rows, image.columns, image.samples)
        if not fits:
            raise UnreadableImage(DAMAGED)
        yield index, encapsulate([frame], has_bot=False), 0, 1


def _jpeg_size(data: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and samples by the frame header of a JPEG or JPEG-LS; None for what has none or rare kinds."""
    if data[:2] != b"\xff\xd8" or data.count(b"\xff\xda") > _MAX_SCANS:
        return None
    at = 2
    for _ in range(256):
        while data[at : at + 2] == b"\xff\xff":  # padding
            at += 1
        prefix, marker, length = struct.unpack_from(">BBH", data, at)
        if prefix == 0xFF and marker in _FRAME_HEADERS:
            bits, *size = struct.unpack_from(">BHHB", data, at + 4)
            return tuple(size) if bits <= 16 else None
        if prefix != 0xFF or marker not in _BEFORE_THEM:
            return None
        at += 2 + length
    return None


def _jpeg_2000_size(data: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and samples by the SIZ of a bare codestream; None for anything else, and for very small tiles."""
    if not data.startswith(_CODESTREAM):
        return None
    right, bottom, left, top, tile_width, tile_height, tiles_left, tiles_top, samples = struct.unpack_from(
        ">8LH", data, 8
    )
    tiles = -(-(right - tiles_left) // max(1, tile_width)) * -(-(bottom - tiles_top) // max(1, tile_height))
    even = data[43 : 42 + 3 * samples : 3].strip(b"\1") == data[44 : 42 + 3 * samples : 3].strip(b"\1") == b""
    return (bottom - top, right - left, samples) if tiles <= _MAX_TILES and even else None


def _rle_fits(image: Image, data: bytes) -> bool:
    """Return True if each run-length coded byte plane decodes to the size of the image, but for some padding."""
    planes, *starts = struct.unpack_from("<16L", data)
    if planes != image.samples * image.allocated // 8 or planes > 15:
        return False
    size = image.rows * image.columns
    ends = [*starts[1:planes], len(data)]
    return all(size <= _rle_length(data, *part, 2 * size) <= 2 * size for part in zip(starts, ends, strict=False))


def _rle_length(data: bytes, at: int, end: int, limit: int) -> int:
    """Return the number of bytes that data[start:end] decode to, counted until beyond the limit."""
    total = 0
    while at < end and total <= limit:
        code = data[at]
        literal = code < 128
        total += code + 1 if literal else 257 - code if code > 128 else 0
        at += code + 2 if literal else 2 if code > 128 else 1
    return total
