"""DICOM headers to frames: refused before any pixel is decoded if sizes, kinds or lengths do not make sense.

Names and other free text are neither parsed nor repeated.

Over 250 lines because every check that comes before a pixel is decoded is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import UnreadableImage
from . import codes, luts, marks, mosaic
from .elements import DAMAGED, OPENS, Allowance, Steps, count, items, number, numbers, raw, tag_of, text, uid
from .frames import Frame, Image, Place

MAX_FRAMES = 2**14  # of one file, and of all
MIN_SIDE, MAX_SIDE = 16, 8192
_MAX_ELEMENT = 2**24  # bytes of an element that is read at all
_PIXELS, _FLOAT_PIXELS = 0x7FE00010, (0x7FE00008, 0x7FE00009)
_NO_PICTURES = {  # pixels, but not of a patient: segmentation, label map, dose
    "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.481.2",
}  # fmt: skip
_MODALITIES = "CT MR US IVUS PT NM CR DX MG XA RF OT XC ES OP OCT GM SM".split()
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_GREYS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_PALETTE = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
_SHARED, _EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_GROUPS = (
    "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence",
    "FrameVOILUTSequence", *marks.GROUPS,
)  # fmt: skip
_PATIENT = (
    "SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_ASPECTS = (("PixelSpacing", 2), ("ImagerPixelSpacing", 2), ("NominalScannedPixelSpacing", 2), ("PixelAspectRatio", 2))
_REGIONS, _MAX_ASPECT = "SequenceOfUltrasoundRegions", 20
_TAGS = (
    *_UIDS,
    *_PATIENT,
    *marks.TAGS,
    *mosaic.TAGS,
    _SHARED,
    _EACH,
    *(word for name in _PALETTE for word in (f"{name}Descriptor", f"{name}Data", f"Segmented{name}Data")),
    "SeriesNumber",
    "InstanceNumber",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "NumberOfFrames",
    "LossyImageCompression",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    *(keyword for keyword, _ in _ASPECTS),
    _REGIONS,
)


def read(path: Path, allowance: Allowance) -> list[Frame]:
    """Read the frames of a file in their order, at least one, on that allowance.

    Raises UnreadableImage where we know what is wrong, and whatever pydicom raises for damaged files.
    """
    with open(path, "rb", buffering=0) as opened, Steps(opened, allowance) as file:
        data, ends = _elements(file, (_PIXELS, *_FLOAT_PIXELS))
        _refuse_no_picture(data, ends)
        image = _image(path, data, *ends[_PIXELS], _aspect(data, file))
        _refuse_length(image, file.size)
        frames = list(_frames(image, data, file))
        return mosaic.tiles(frames[0], data) if mosaic.is_mosaic(data) else frames


def outline(path: Path, allowance: Allowance) -> Frame:
    """Read the header of a file as a whole, of several frames without a position; raises as ``read``."""
    with open(path, "rb", buffering=0) as opened, Steps(opened, allowance) as file:
        data, ends = _elements(file, (tag_of(_SHARED), tag_of(_EACH), _PIXELS, *_FLOAT_PIXELS))
        frame = _frame(_image(path, data, "OW", None, 0, None), 0, data, file)
        return frame if frame.image.frames == 1 and _PIXELS in ends else replace(frame, place=None)


def _elements(file: Steps, last: tuple[int, ...]) -> tuple[Any, dict[int, tuple[str, int | None, int]]]:
    """Read the elements before the first of the last ones; return them, and that one's type, length and place."""
    from pydicom.filereader import read_partial

    ends: dict[int, tuple[str, int | None, int]] = {}

    def at_end(tag: int, vr: str | None, length: int) -> bool:
        if found := tag in last:
            ends[int(tag)] = (vr or "OW", None if length == 0xFFFFFFFF else length, file.tell())
        return found

    tags = [tag_of(keyword) for keyword in _TAGS]
    return read_partial(file, at_end, defer_size=_MAX_ELEMENT, force=True, specific_tags=tags), ends


def _refuse_no_picture(data: Any, pixels: dict) -> None:
    from pydicom.uid import UID

    kind = UID(uid(data, "SOPClassUID") or uid(data.file_meta, "MediaStorageSOPClassUID"))
    if kind and (not pixels or kind in _NO_PICTURES):
        known = {str(kind): "unknown", "Media Storage Directory Storage": "DICOMDIR"}
        name = known.get(kind.name, kind.name.removesuffix(" Storage"))
        raise UnreadableImage(f"This DICOM has no picture to show, its kind is {name}; {OPENS}.")
    if _PIXELS not in pixels:
        rare = f"The pixels of this DICOM are floating-point numbers; {OPENS}, of whole numbers."
        raise UnreadableImage(rare if pixels else DAMAGED)


def _image(path: Path, data: Any, vr: str, length: int | None, at: int, aspect: float | None) -> Image:
    """Read the header of the pixels, and check it against what is opened."""
    from pydicom.dataset import Dataset

    rows, columns, frames = count(data, "Rows"), count(data, "Columns"), count(data, "NumberOfFrames") or 1
    if min(rows, columns) < MIN_SIDE or max(rows, columns) > MAX_SIDE or frames > MAX_FRAMES:
        raise UnreadableImage(
            f"This DICOM has images of {columns} × {rows} pixels, {frames} of them; allowed are DICOM files of up to "
            f"{MAX_FRAMES} images with sides from {MIN_SIDE} to {MAX_SIDE} pixels."
        )
    samples, allocated = count(data, "SamplesPerPixel", 1), count(data, "BitsAllocated")
    bits, signed = count(data, "BitsStored", allocated), bool(count(data, "PixelRepresentation"))
    photometric = text(data, "PhotometricInterpretation")
    tables = [luts.read(data, colour, signed) for colour in _PALETTE] if photometric == "PALETTE COLOR" else []
    palette = tuple(table for table in tables if table)
    fits = (
        allocated in (8, 16, 32) and 1 <= bits <= allocated and photometric in {1: _GREYS, 3: _COLOURS}.get(samples, ())
    )
    if not fits or None in tables or (samples == 3 and (bits < 8 or signed)):
        raise UnreadableImage(
            "The pixels of this DICOM are of a rare kind; allowed are DICOM images of grey, palette, RGB or YBR pixels "
            "with 8, 16 or 32 bits."
        )
    modality = text(data, "Modality")
    patient = [element for keyword in _PATIENT if (element := raw(data, keyword)) is not None]
    sop_class, sop, study, series, frame_of_reference = (uid(data, keyword) for keyword in _UIDS)
    return Image(
        path,
        sop_class,
        sop,
        study,
        series,
        frame_of_reference,
        text(data, "SeriesNumber"),
        modality if modality in _MODALITIES else "",
        "LOCALIZER" in text(data, "ImageType"),
        text(data, "LossyImageCompression") == "01",
        rows,
        columns,
        samples,
        photometric,
        count(data, "PlanarConfiguration"),
        allocated,
        bits,
        signed,
        frames,
        codes.syntax(data),
        at,
        length,
        vr,
        palette,
        _padding(data, bits, signed) if photometric in _GREYS[:2] else None,
        aspect,
        Dataset({element.tag: element for element in patient}),
    )


def _padding(data: Any, bits: int, signed: bool) -> tuple[int, int] | None:
    """Return the lowest and highest sample outside the picture (PS3.3 C.7.5.1.1.2); None where no sample can be."""
    ends = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        element = raw(data, keyword)
        if element is not None and len(element.value or b"") == 2:
            order = "<" if element.is_little_endian else ">"
            ends.append(int(np.frombuffer(element.value, f"{order}{'i' if signed else 'u'}2")[0]))
        elif keyword == "PixelPaddingValue":
            return None
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return (min(ends), max(ends)) if low <= max(ends) and min(ends) <= high else None


def _aspect(data: Any, file: Steps) -> float | None:
    """Return the height of a pixel over its width, as sizes in mm, regions of an ultrasound, or else a ratio say it."""
    stated = [numbers(data, keyword, size) for keyword, size in _ASPECTS]
    steps = [
        (abs(number(region, "PhysicalDeltaY")), abs(number(region, "PhysicalDeltaX")))
        for region in items(data, _REGIONS, file)
        if count(region, "RegionSpatialFormat") == 1  # two-dimensional, as opposed to a graph over time
        and count(region, "PhysicalUnitsXDirection") == count(region, "PhysicalUnitsYDirection") == 3  # centimetres
    ]
    agreed = steps[:1] if all(np.allclose(pair, steps[0], rtol=0.01, atol=0) for pair in steps) else []
    ratios = [pair[0] / pair[1] for pair in (*stated[:3], *agreed, stated[3]) if pair and min(pair) > 0]
    return next((ratio for ratio in ratios if 1 / _MAX_ASPECT <= ratio <= _MAX_ASPECT), None)


def _refuse_length(image: Image, size: int) -> None:
    """Refuse uncompressed pixels that are fewer than the header says, or half a frame more. size: of the file."""
    from pydicom.uid import UID

    if UID(image.syntax).is_encapsulated:
        return
    frame = image.rows * image.columns * image.samples * image.allocated // 8
    if image.photometric == "YBR_FULL_422":
        frame = frame // 3 * 2
    held = min(image.length or 0, size - image.at)
    if not frame * image.frames <= held < frame * image.frames + frame / 2:
        raise UnreadableImage(
            f"This DICOM says it has images of {image.columns} × {image.rows} pixels, {image.frames} of them, but holds"
            f" fewer or more; {OPENS}."
        )


def _frames(image: Image, data: Any, file: Steps) -> Iterator[Frame]:
    """Yield the frames: a single one is described by the header, others by their own groups over the shared ones."""
    from pydicom.dataset import Dataset

    if image.frames == 1 and raw(data, _EACH) is None:
        yield _frame(image, 0, data, file)
        return
    each = items(data, _EACH, file)
    if each and len(each) != image.frames:
        raise UnreadableImage(f"This DICOM says it has {image.frames} images but describes {len(each)}; {OPENS}.")
    alike = Dataset(dict(data.items()))
    alike.pop("ImagePositionPatient", None)  # one for all frames places none of them
    for shared in items(data, _SHARED, file)[:1]:
        _add_groups(alike, shared, file)
    for index, item in enumerate(each):
        own = Dataset(dict(alike.items()))
        _add_groups(own, item, file)
        yield _frame(image, index, own, file)
    if not each:
        first = _frame(image, 0, alike, file)
        yield from (replace(first, index=index) for index in range(image.frames))


def _add_groups(header: Any, item: Any, file: Steps) -> None:
    """Add attributes of an item of functional groups to the header, as if they stood there."""
    for keyword in _GROUPS:
        for group in items(item, keyword, file)[:1]:
            header.update(group)


def _frame(image: Image, index: int, data: Any, file: Steps) -> Frame:
    tables = [items(data, keyword, file)[:1] for keyword in ("ModalityLUTSequence", "VOILUTSequence")]
    modality_lut, voi_lut = (luts.read(found[0], "LUT", image.signed) if found else None for found in tables)
    centre, width = numbers(data, "WindowCenter", 1), number(data, "WindowWidth")
    function = text(data, "VOILUTFunction")
    wide = width >= 1 or (width > 0 and function in ("LINEAR_EXACT", "SIGMOID"))
    place = _place(data)
    misplaced = place is None and raw(data, "ImagePositionPatient") is not None
    slope, intercept = number(data, "RescaleSlope", 1.0) or 1.0, number(data, "RescaleIntercept")
    window = (centre[0], width, function) if centre and wide else None
    return Frame(
        image,
        index,
        place,
        misplaced,
        number(data, "InstanceNumber"),
        marks.read(data, file),
        slope,
        intercept,
        modality_lut,
        window,
        voi_lut,
    )


def _place(data: Any) -> Place | None:
    """Return the position of a frame; None unless position, orientation and spacing are all there and make sense."""
    position, spacing = numbers(data, "ImagePositionPatient", 3), numbers(data, "PixelSpacing", 2)
    cosines = numbers(data, "ImageOrientationPatient", 6)
    if position is None or spacing is None or cosines is None:
        return None
    across, down = np.array(cosines[:3]), np.array(cosines[3:])
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    sensible = all(1e-4 <= mm <= 1e3 for mm in spacing) and max(map(abs, position)) <= 1e5
    if not sensible or not np.allclose(lengths, 1, atol=0.01) or abs(across @ down) > 0.01:
        return None
    across = across / lengths[0]
    down = down - (down @ across) * across
    thick = [
        mm for keyword in ("SliceThickness", "SpacingBetweenSlices") if 1e-4 <= (mm := number(data, keyword)) <= 1e3
    ]
    down = down / np.linalg.norm(down)
    return Place(position, tuple(across), tuple(down), (spacing[0], spacing[1]), thick[0] if thick else None)
