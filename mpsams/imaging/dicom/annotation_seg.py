"""DICOM-SEG of annotations: ours made the same each time and true about who drew it, and those of others read.

Over 250 lines because reading a stranger's file spends one allowance over all its parts.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mpsams.imaging import Scan, UnreadableImage, dicom
from mpsams.imaging.dicom import seg
from mpsams.imaging.dicom.elements import Allowance, Steps, count, items, numbers, raw, text, uid
from mpsams.imaging.overlaps import Overlap, Overlay

_KIND = "1.2.840.10008.5.1.4.1.1.66.4"
_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")  # implicit and explicit little endian
_DAY, _TIME = "20000101", "000000"
_STEPS, _FILE_STEPS = 1_500_000, 400_000  # reads of headers: of all files of an upload, of one; a frame takes about 75
_MAX_ELEMENT, _MAX_FRAMES = 2**25, 2**14
_PIXELS = 0x7FE00010
_SHARED, _EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_TAGS = (
    "SOPClassUID",
    "SegmentationType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BitsAllocated",
    "MaximumFractionalValue",
    "SegmentSequence",
    _SHARED,
    _EACH,
)
_SEGMENT, _MAX_SEGMENTS = "SegmentIdentificationSequence", 254
_SAME = 0.01  # millimetres, and cosines
_BITS = {("BINARY", 1): 1, ("FRACTIONAL", 8): 8}
_ALLOWED = (
    "allowed are uncompressed binary DICOM-SEG, or fractional of 8 bits, whose frames refer to the images of this"
    " project"
)
_LONGEST = 64


def write(scan: Scan, mask_xyz: np.ndarray, label: str | Sequence[str], algorithm: str) -> bytes:
    """Write a DICOM-SEG as ``imaging.dicom.seg.write`` without the patient; equal masks of equal scans are equal bytes.

    algorithm: what drew it with a person's help (SEMIAUTOMATIC); "" is by hand (MANUAL). So that equal masks are equal
    bytes, UIDs are made from the content and the date is always 1 January 2000: it says nothing. ValueError as there.
    """
    import pydicom
    from pydicom.uid import UID

    data = pydicom.dcmread(io.BytesIO(seg.write(scan, mask_xyz, label, algorithm or "by hand")))
    for segment in data.SegmentSequence:
        segment.SegmentAlgorithmType = "SEMIAUTOMATIC" if algorithm else "MANUAL"
        if not algorithm:
            del segment.SegmentAlgorithmName, segment.SegmentationAlgorithmIdentificationSequence
    data.ContentDate, data.ContentTime = _DAY, _TIME
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in data:
            delattr(data, keyword)
    for item in data.get("ContributingEquipmentSequence", ()):
        item.pop("ContributionDateTime", None)
    _name(data, "2.25.0", "2.25.1", "2.25.2")
    digest = hashlib.sha256(_bytes(data)).digest()
    _name(
        data,
        *(
            UID(f"2.25.{int.from_bytes(hashlib.sha256(digest + part).digest()[:16])}")
            for part in (b"file", b"series", b"order")
        ),
    )
    return _bytes(data)


def _name(data: Any, own: str, series: str, order: str) -> None:
    """Put these UIDs in place of the random ones."""
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = own
    data.SeriesInstanceUID = series
    for item in (*data.DimensionOrganizationSequence, *data.DimensionIndexSequence):
        item.DimensionOrganizationUID = order


def _bytes(data: Any) -> bytes:
    file = io.BytesIO()
    data.save_as(file)
    return file.getvalue()


def allowance() -> Allowance:
    """Return a limit on the bytes of headers that are read of all files of an upload."""
    return Allowance(_STEPS)


def is_segmentation(path: Path) -> bool:
    """Return True if a file is a DICOM-SEG, by the SOP class in its first KiB; False for anything else."""
    with path.open("rb") as file:
        head = file.read(1024)
    return head[128:132] == b"DICM" and _KIND.encode() in head


def slices(scans: Mapping[str, Scan]) -> dict[tuple[str, int], tuple[str, int]]:
    """Return key and slice Z by the UID and frame of each DICOM image among the scans that can be opened."""
    found: dict[tuple[str, int], tuple[str, int]] = {}
    for key in scans:
        with suppress(UnreadableImage):
            source = scans[key].source
            images = source.images if isinstance(source, dicom.Series) else ()
            found |= {image: (key, z) for z, image in enumerate(images) if image[0]}
    return found


def read(
    path: Path, scans: Mapping[str, Scan], allowance: Allowance, table: Mapping | None = None
) -> tuple[str, np.ndarray, str]:
    """Return the key of the scan that a DICOM-SEG refers to, all segments as bool (X, Y, Z), and the label."""
    key, map_xyz, labels, _ = read_segments(path, scans, allowance, table)
    return key, map_xyz > 0, labels[0] if len(set(labels)) == 1 else ""


def read_segments(
    path: Path, scans: Mapping[str, Scan], allowance: Allowance, table: Mapping | None = None
) -> tuple[str, np.ndarray, list[str], set[Overlap]]:
    """Return the key of the scan that a DICOM-SEG refers to, its label map, uint8 (X, Y, Z), the names of its segments
    by label, and the labels that overlap; a voxel in several segments has the smallest of them.

    Fractions, be they of occupancy or probability, are lesion above one half of MaximumFractionalValue.

    The scan is found by the UIDs of its images, ``table`` from ``slices``, never by names; a name that is long or not
    printable is "". Raises UnreadableImage, and nothing else, whatever the bytes.
    """
    own = Allowance(min(allowance.left, _FILE_STEPS))
    allowance.left -= own.left
    try:
        return _read(path, scans, slices(scans) if table is None else table, own)
    except UnreadableImage:
        raise
    except Exception:  # pydicom raises nearly anything, and quotes the file
        raise UnreadableImage(f"This DICOM is damaged or of a rare kind; {_ALLOWED}.") from None
    finally:
        allowance.left += max(0, own.left)


def _read(
    path: Path, scans: Mapping[str, Scan], table: Mapping, allowance: Allowance
) -> tuple[str, np.ndarray, list[str], set[Overlap]]:
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag

    pixels: list[tuple[int, int]] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag == _PIXELS:
            pixels.append((file.tell(), length))
        return tag == _PIXELS

    with open(path, "rb", buffering=0) as opened, Steps(opened, allowance) as file:
        data = read_partial(
            file, at_pixels, defer_size=_MAX_ELEMENT, force=True, specific_tags=[Tag(word) for word in _TAGS]
        )
        if uid(data, "SOPClassUID") != _KIND:
            raise UnreadableImage(f"This DICOM is no segmentation; {_ALLOWED}.")
        bits = _BITS.get((text(data, "SegmentationType"), count(data, "BitsAllocated")), 0)
        known = bits and uid(data.file_meta, "TransferSyntaxUID") in _SYNTAXES
        rows, columns, frames = count(data, "Rows"), count(data, "Columns"), count(data, "NumberOfFrames")
        if not known or not pixels or not 0 < frames <= _MAX_FRAMES or not rows * columns:
            raise UnreadableImage(
                f"This DICOM-SEG is compressed or of a rare kind, as fractional of 1 bit; {_ALLOWED}."
            )
        at, length = pixels[0]
        if min(length, file.size - at) < -(-rows * columns * frames * bits // 8):
            raise UnreadableImage(f"This DICOM-SEG holds fewer pixels than it says; {_ALLOWED}.")
        name, places = _places(data, frames, scans, table, file)
        scan = scans[name]
        if (columns, rows) != scan.voxels_xyz.shape[:2]:
            sides = " × ".join(map(str, scan.voxels_xyz.shape[:2]))
            raise UnreadableImage(f"This DICOM-SEG is {columns} × {rows} pixels, its images are {sides}; {_ALLOWED}.")
        map_xyz, full = scan.empty_mask().view(np.uint8), count(data, "MaximumFractionalValue", 255) or 255
        names = _names(data, file)
        labels = {segment: label for label, segment in enumerate(names, start=1)}
        if not {segment for _, segment in places} <= labels.keys():
            raise UnreadableImage(f"A frame of this DICOM-SEG is of a segment that it does not describe; {_ALLOWED}.")
        overlay = Overlay()
        for number, (z, segment) in enumerate(places):
            first = at * 8 + number * rows * columns * bits
            frame = partial(_frame, file, first, (rows, columns), full if bits == 8 else 0)
            overlay.add(map_xyz[:, :, z], labels[segment], frame(), frame)
        file.allowance = Allowance(len(places))  # frames that are read once more have been counted
        return name, map_xyz, list(names.values()), overlay.finish()


def _frame(file: Steps, first: int, shape_hw: tuple[int, int], full: int) -> np.ndarray:
    """Read the pixels of a frame, bool (X, Y). first: its first bit in the file. full: the value that stands for 1, of
    frames of 8 bits; 0 for those of 1 bit.
    """
    size = shape_hw[0] * shape_hw[1] * (8 if full else 1)
    file.seek(first // 8)
    read = np.frombuffer(file.read(-(-(first % 8 + size) // 8)), np.uint8)
    set_n = 2 * read.astype(int) > full if full else np.unpackbits(read, bitorder="little")[first % 8 :][:size] > 0
    return set_n.reshape(shape_hw).T


def _places(
    data: Any, frames: int, scans: Mapping[str, Scan], table: Mapping, file: Steps
) -> tuple[str, list[tuple[int, int]]]:
    """Return the scan that all frames refer to, and of each its slice Z and the number of its segment."""
    shared = next(iter(items(data, _SHARED, file)), None)
    each, found = items(data, _EACH, file), []
    if len(each) != frames:
        raise UnreadableImage(f"This DICOM-SEG does not describe each of its frames; {_ALLOWED}.")
    for group in each:
        meant = {table[image] for image in _sources(group, file) if image in table}
        if len(meant) != 1:
            raise UnreadableImage(f"A frame of this DICOM-SEG belongs to no slice, or to several; {_ALLOWED}.")
        name, z = meant.pop()
        if not _lies_there(group, shared, scans[name].source.places[z : z + 1], file):
            raise UnreadableImage(f"A frame of this DICOM-SEG lies elsewhere than its image; {_ALLOWED}.")
        holders = items(group, _SEGMENT, file)
        found.append((name, z, count(holders[0], "ReferencedSegmentNumber", 1) if holders else 1))
    if len({name for name, *_ in found}) != 1:
        raise UnreadableImage(f"This DICOM-SEG belongs to several images; {_ALLOWED}, all to one.")
    return found[0][0], [(z, segment) for _, z, segment in found]


def _sources(group: Any, file: Steps) -> Iterator[tuple[str, int]]:
    for derived in items(group, "DerivationImageSequence", file):
        for source in items(derived, "SourceImageSequence", file):
            yield uid(source, "ReferencedSOPInstanceUID"), count(source, "ReferencedFrameNumber")


def _lies_there(group: Any, shared: Any, place: tuple, file: Steps) -> bool:
    """Return True if a frame states the position of its image, or either states none."""
    for keyword, tag, length in (
        ("PlanePositionSequence", "ImagePositionPatient", 3),
        ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
    ):
        holders = items(group, keyword, file) or (items(shared, keyword, file) if shared is not None else [])
        stated = numbers(holders[0], tag, length) if holders and raw(holders[0], tag) is not None else None
        if stated is None or not place:
            continue
        expected = place[0].position if length == 3 else (*place[0].across, *place[0].down)
        if np.abs(np.subtract(stated, expected)).max() > _SAME:
            return False
    return True


def _names(data: Any, file: Steps) -> dict[int, str]:
    """Return the names of the segments by their numbers; they are free text, so only short and printable ones count.

    UnreadableImage: more segments than a label map holds.
    """
    found = {}
    for place, segment in enumerate(items(data, "SegmentSequence", file), start=1):
        element = raw(segment, "SegmentLabel")
        value = element.value if element is not None else b""
        name = value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else str(value or "").strip()
        is_plain = 0 < len(name) <= _LONGEST and name.isprintable() and "\ufffd" not in name
        found[count(segment, "SegmentNumber", place) or place] = name if is_plain else ""
    if len(found) > _MAX_SEGMENTS:
        raise UnreadableImage(f"This DICOM-SEG has {len(found)} segments; allowed are up to {_MAX_SEGMENTS}.")
    return found or {1: ""}
