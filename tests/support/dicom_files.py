"""DICOM files written for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    UltrasoundImageStorage,
)

from mpsams.imaging import Scan, UnreadableImage, dicom

SHIPPED = Path(pydicom.data.__file__).parent / "test_files"
ROWS, COLUMNS = 34, 40  # JPEG 2000's usual encoding wants sides of at least 32
AXIAL, CORONAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)
OBLIQUE = tuple(np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0].T[:2].ravel())


def instance(pixels: np.ndarray, uid: str, **elements) -> Dataset:
    """A CT slice (H, W) or (H, W, 3), or (F, ...) frames of it; elements are by keyword, None takes one away."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = CTImageStorage, f"1.2.3.4.{uid}", "CT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "SECRET^ÄNNE", "SECRET-ID", "19440404", "F"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20010203", "040506", "SECRET-ACC", "SECRET-STUDY"
    ds.PatientAddress, ds.InstitutionName, ds.OperatorsName = "SECRET STREET 1", "SECRET HOSPITAL", "SECRET^OPERATOR"
    ds.SeriesDescription, ds.StudyDescription, ds.ImageComments = "SECRET SERIES", "SECRET STUDY", "SECRET COMMENT"
    ds.ReferringPhysicianName, ds.StationName, ds.ProtocolName = "SECRET^DOCTOR", "SECRETSTATION", "SECRET PROTOCOL"
    colour = pixels.shape[-1] == 3
    ds.Rows, ds.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.dtype.itemsize
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(pixels.dtype.kind == "i")
    ds.PixelSpacing, ds.SliceThickness, ds.ImageOrientationPatient = [0.75, 0.5], 2.5, list(AXIAL)
    ds.ImagePositionPatient, ds.InstanceNumber = [-10, -20, 30], 1
    if pixels.ndim - colour == 3:
        ds.NumberOfFrames = len(pixels)
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    for keyword, value in elements.items():
        ds.pop(keyword, None) if value is None else setattr(ds, keyword, value)
    return ds


def save(ds: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    ds.file_meta.TransferSyntaxUID = syntax
    ds["PixelData"].VR = "OB" if ds.BitsAllocated == 8 else "OW"
    if syntax not in (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ):
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True, little_endian=little, implicit_vr=implicit)
    return path


def noise(shape: tuple, seed: int = 0, dtype: type = np.int16, low: int = -1000, high: int = 3000) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def series(folder: Path, volume: np.ndarray, orientation=AXIAL, step=None, name="s", **elements) -> list[Path]:
    """Slices (Z, H, W) each step millimetres from the last, in LPS; files in no order, numbered against it."""
    across, down = np.reshape(orientation, (2, 3))
    step = 2.5 * np.cross(across, down) if step is None else np.asarray(step)
    files = []
    for z, pixels in enumerate(volume):
        ds = instance(pixels, f"{sum(map(ord, name))}.{z + 1}", **elements)
        ds.ImageOrientationPatient, ds.InstanceNumber = [float(c) for c in np.round(orientation, 9)], len(volume) - z
        ds.ImagePositionPatient = [float(mm) for mm in np.round([-10, -20, 30] + z * step, 6)]
        files.append(save(ds, folder / f"{name}{(z * 7) % len(volume) if len(volume) % 7 else z}"))
    return [files[k] for k in np.random.default_rng(1).permutation(len(files))]


def one(
    folder: Path, pixels: np.ndarray, modality: str | None = None, syntax: str = ExplicitVRLittleEndian, **elements
) -> Scan:
    return dicom.read([save(instance(pixels, "1", **elements), folder / "one", syntax)], modality)


def values(scan: Scan) -> np.ndarray:
    """(Z, H, W) in values."""
    return (scan.voxels_xyz * np.float32(scan.slope) + np.float32(scan.intercept)).transpose(2, 1, 0)


def one_sentence(message: str) -> None:
    assert (
        "DICOM" in message
        and message[0].isupper()
        and message.endswith(".")
        and ". " not in message
        and len(message) < 250
    )


PICTURE = {
    "SOPClassUID": UltrasoundImageStorage,
    "Modality": "US",
    "ImagePositionPatient": None,
    "ImageOrientationPatient": None,
}


def enhanced(
    frames: np.ndarray, positions: list, shared: bool = True, slopes: list | None = None, **elements
) -> Dataset:
    """An enhanced image (F, H, W): orientation, spacing and slope once for all, or with each frame."""
    ds = instance(
        frames, "77", SOPClassUID=EnhancedCTImageStorage, ImagePositionPatient=None, ImageOrientationPatient=None
    )
    spacing, thickness = ds.PixelSpacing, ds.SliceThickness
    del ds.PixelSpacing, ds.SliceThickness

    def group(item: Dataset, keyword: str, **values) -> None:
        inner = Dataset()
        inner.update(values)
        setattr(item, keyword, [inner])

    def general(item: Dataset, slope: float) -> Dataset:
        group(item, "PixelMeasuresSequence", PixelSpacing=spacing, SliceThickness=thickness)
        group(item, "PlaneOrientationSequence", ImageOrientationPatient=list(AXIAL))
        group(item, "PixelValueTransformationSequence", RescaleSlope=slope, RescaleIntercept=-1000, RescaleType="HU")
        return item

    ds.SharedFunctionalGroupsSequence, each = [general(Dataset(), 1.0) if shared else Dataset()], []
    for k, position in enumerate(positions):
        item = Dataset() if shared and slopes is None else general(Dataset(), slopes[k] if slopes else 1.0)
        group(item, "PlanePositionSequence", ImagePositionPatient=list(position))
        each.append(item)
    ds.PerFrameFunctionalGroupsSequence = each
    ds.update(elements)
    return ds


def compressed(ds: Dataset, syntax: str) -> Dataset:
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds["PixelData"].VR = "OW"
    ds.set_original_encoding(False, True)
    plugin = {RLELossless: "pydicom", JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}[syntax]
    ds.compress(syntax, encoding_plugin=plugin)
    return ds


def outcome(files: list[Path]) -> str:
    """ "scan" or "refused"; whatever else is raised passes through and fails the test."""
    try:
        scan = dicom.read(files, None)
    except UnreadableImage as error:
        one_sentence(str(error))
        return "refused"
    assert scan.voxels_xyz.ndim == 3 and scan.choices and (scan.affine is None or np.isfinite(scan.affine).all())
    assert np.isfinite(scan.slice(0)).all()
    return "scan"
