"""Lesion masks as DICOM-SEG that refer, slice by slice, to the DICOM images they were drawn on."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .. import Scan
from . import Series

_LONGEST = 64  # characters of a label
_MAKER = {
    "manufacturer": "mpsams",
    "manufacturer_model_name": "mpsams",
    "software_versions": "1",
    "device_serial_number": "none",
}
_PATIENT = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)


def write(
    scan: Scan, mask_xyz: np.ndarray, label: str | Sequence[str], algorithm: str, identified: bool = False
) -> bytes:
    """Write a binary DICOM-SEG, a segment for each label, marked by an algorithm, for a Scan of ``dicom.read``.

    mask_xyz: bool (X, Y, Z) on the scan's own voxels, True = lesion, or of several labels a label map, uint8 from 1 on.
    Slices without lesion are left out; a mask without any is written with all its slices, which says that nothing was
    found. label, algorithm: 1 to 64 characters.

    The patient is "Anonymous" and no name, number, date or institution is copied, unless ``identified``. UIDs of
    the images, their series, study and frame of reference always are: without them nobody could tell what was
    segmented, and only who has the images can find the patient by them.

    Raises ValueError for a scan that is not DICOM, has no geometry or lacks UIDs, for any other mask, for labels that
    are empty or too long, and, if ``identified``, for patient data that are not valid DICOM.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    labels = [label] if isinstance(label, str) else list(label)
    series = _check(scan, mask_xyz, labels, algorithm)
    method = hd.AlgorithmIdentificationSequence(
        algorithm, codes.DCM.ArtificialIntelligence, _MAKER["software_versions"]
    )
    lesion, abnormal = codes.SCT.Lesion, codes.SCT.MorphologicallyAbnormalStructure
    segments = [
        hd.seg.SegmentDescription(number, name, abnormal, lesion, "AUTOMATIC", method)
        for number, name in enumerate(labels, start=1)
    ]
    try:
        patient = {keyword: str(series.patient.get(keyword) or "") for keyword in _PATIENT} if identified else {}
        seg = hd.seg.Segmentation(
            _slices(series, scan, patient), mask_xyz.transpose(2, 1, 0), "BINARY", segments, hd.UID(), 1, hd.UID(), 1,
            specific_character_set="ISO_IR 192", content_label="LESION", **_MAKER,
        )  # fmt: skip
    except Exception:  # which would quote the patient
        raise ValueError(
            f"this series makes no DICOM-SEG{': are its patient data valid?' if identified else ''}"
        ) from None
    _refer(seg, series)
    if not identified:
        seg.PatientName, seg.PatientID, seg.PatientIdentityRemoved = "Anonymous", "anonymous", "YES"
        seg.DeidentificationMethod = "mpsams: nothing copied but UIDs and geometry"
    file = io.BytesIO()
    seg.save_as(file)
    return file.getvalue()


def _check(scan: Scan, mask_xyz: np.ndarray, labels: Sequence[str], algorithm: str) -> Series:
    series = scan.source
    if not isinstance(series, Series) or scan.affine is None:
        raise ValueError("only what came as DICOM with geometry can be written as DICOM-SEG")
    if not series.referable:
        raise ValueError(
            "this DICOM lacks UIDs that a DICOM-SEG refers to: class, image, series, study, frame of reference"
        )
    kind, allowed = (bool, "bool") if len(labels) == 1 else (np.uint8, f"uint8 with 0 to {len(labels)}")
    if mask_xyz.dtype != kind or mask_xyz.shape != scan.voxels_xyz.shape or mask_xyz.max() > len(labels):
        raise ValueError(
            f"mask is {mask_xyz.dtype} up to {mask_xyz.max()} of shape {mask_xyz.shape}; allowed is {allowed} of shape"
            f" {scan.voxels_xyz.shape}"
        )
    for words in (*labels, algorithm):
        if not 0 < len(words.strip()) <= _LONGEST or "\\" in words or not words.isprintable():
            raise ValueError(f"label {words!r}; allowed are 1 to {_LONGEST} printable characters without backslash")
    return series


def _slices(series: Series, scan: Scan, patient: dict[str, str]) -> list[Any]:
    """Return the slices as headers of CT images with UIDs by their number, as highdicom treats all sources alike."""
    from pydicom.dataset import Dataset
    from pydicom.uid import CTImageStorage

    assert scan.affine is not None  # see _check
    first, slices = series.places[0], []
    thickness = first.thickness or float(np.linalg.norm(scan.affine[:3, 2]))
    for number, place in enumerate(series.places, start=1):
        header = Dataset()
        header.update({keyword: patient.get(keyword, "") for keyword in _PATIENT})
        header.SOPClassUID, header.SOPInstanceUID, header.Modality = CTImageStorage, f"2.25.{number}", "CT"
        header.StudyInstanceUID, header.SeriesInstanceUID = series.study, series.series[0]
        header.FrameOfReferenceUID, header.LossyImageCompression = (
            series.frame_of_reference,
            "01" if series.lossy else "00",
        )
        header.Columns, header.Rows = scan.voxels_xyz.shape[:2]
        header.ImagePositionPatient = _decimals(place.position)
        header.ImageOrientationPatient = _decimals((*first.across, *first.down))
        header.PixelSpacing, (header.SliceThickness,) = _decimals(first.spacing), _decimals([thickness])
        if len(series.places) == 1:
            header.SpacingBetweenSlices = header.SliceThickness
        slices.append(header)
    return slices


def _decimals(numbers: Iterable[float]) -> list[Any]:
    """Return numbers as DICOM's decimal strings, of at most 16 characters each."""
    from pydicom.valuerep import DSfloat

    return [DSfloat(float(number), auto_format=True) for number in numbers]


def _refer(seg: Any, series: Series) -> None:
    """Put class, UID and, in a file of several frames, the frame's number in place of what ``_slices`` made up."""
    (listed,) = seg.ReferencedSeriesSequence
    series_of = {image: uid for (image, _), uid in zip(series.images, series.series, strict=True)}
    sources = [
        image for frame in seg.PerFrameFunctionalGroupsSequence for derived in frame.DerivationImageSequence
        for image in derived.SourceImageSequence
    ]  # fmt: skip
    every = {id(item): item for item in (*seg.SourceImageSequence, *listed.ReferencedInstanceSequence, *sources)}
    for item in every.values():
        number = int(item.ReferencedSOPInstanceUID.split(".")[-1])
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = series.sop_class, series.images[number - 1][0]
        if "SpatialLocationsPreserved" in item and (frame := series.images[number - 1][1]):
            item.ReferencedFrameNumber = frame
    for holder, keyword in ((seg, "SourceImageSequence"), (listed, "ReferencedInstanceSequence")):
        once = {item.ReferencedSOPInstanceUID: item for item in holder[keyword].value}
        setattr(holder, keyword, list(once.values()))
    seg.ReferencedSeriesSequence = _by_series(listed.ReferencedInstanceSequence, series_of)


def _by_series(images: Iterable[Any], series_of: dict[str, str]) -> list[Any]:
    """Return the images that are referred to, an item for each series. series_of: the series of each image's UID."""
    from pydicom.dataset import Dataset

    listed: dict[str, Dataset] = {}
    for image in images:
        item = listed.setdefault(series_of[image.ReferencedSOPInstanceUID], Dataset())
        item.ReferencedInstanceSequence = [*item.get("ReferencedInstanceSequence", ()), image]
    for series, item in listed.items():
        item.SeriesInstanceUID = series
    return list(listed.values())
