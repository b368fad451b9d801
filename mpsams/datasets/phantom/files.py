"""Phantom volumes as the files a hospital would hand over: compressed NIfTI and DICOM series."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from mpsams.datasets.phantom.volume import Volume

CT_INTERCEPT = -1024  # Hounsfield units of a stored 0
_CT = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT", "KVP": 120, "RescaleType": "HU",
    "RescaleIntercept": CT_INTERCEPT, "RescaleSlope": 1, "WindowCenter": 40, "WindowWidth": 400,
}  # fmt: skip
_MR = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "Modality": "MR", "ScanningSequence": "SE", "SequenceVariant": "NONE",
    "ScanOptions": "", "MRAcquisitionType": "2D", "RepetitionTime": 500, "EchoTime": 12, "EchoTrainLength": 1,
}  # fmt: skip


def nifti(volume: Volume, folder: str | Path) -> Path:
    """Write the voxels as .nii.gz, axes running to the front, up and to the right (ASR); return its path."""
    return _nifti(volume, volume.voxels_shw, _path(folder, f"{_name(volume)}.nii.gz"))


def nifti_mask(volume: Volume, folder: str | Path) -> Path:
    """Write the lesion mask, 0 and 1 in uint8, on the grid of ``nifti``; return its path."""
    return _nifti(volume, volume.mask_shw.astype(np.uint8), _path(folder, f"{_name(volume)}-mask.nii.gz"))


def dicom(volume: Volume, folder: str | Path) -> list[Path]:
    """Write one axial CT or MR image per slice, explicit VR little endian; return the paths by name.

    Names say nothing about the order of the slices, instances count from the head down, identifiers follow from the
    voxels: the same volume has the same ones.
    """
    places = np.random.default_rng(0).permutation(len(volume.voxels_shw)).tolist()
    paths = [_path(folder, f"{_name(volume)}-{number:03d}.dcm") for number in range(len(places))]
    shared = _common_attributes(volume) | (
        _CT if volume.modality == "ct" else _MR | {"SpacingBetweenSlices": volume.spacing[0]}
    )
    for place, path in zip(places, paths, strict=True):
        _write_slice(volume, place, shared, path)
    return paths


def _name(volume: Volume) -> str:
    return f"{volume.modality}-{volume.title.lower()}"


def _path(folder: str | Path, name: str) -> Path:
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder) / name


def _nifti(volume: Volume, array_shw: np.ndarray, path: Path) -> Path:
    import nibabel

    _, rows, columns = array_shw.shape
    shown_from_stored = [[0, 1, 0, 0], [-1, 0, 0, rows - 1], [0, 0, -1, columns - 1], [0, 0, 0, 1]]
    image = nibabel.Nifti1Image(array_shw[:, ::-1, ::-1].transpose(1, 0, 2), volume.affine @ shown_from_stored)
    image.set_qform(image.affine, code="scanner")
    image.set_sform(image.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    return path


def _identifier(volume: Volume, *entropy: object) -> str:
    from pydicom.uid import generate_uid

    return generate_uid(
        entropy_srcs=[hashlib.sha256(volume.voxels_shw.data).hexdigest(), _name(volume), *map(str, entropy)]
    )


def _common_attributes(volume: Volume) -> dict:
    """Return the attributes that all slices have in common, by keyword; positions are DICOM's, LPS."""
    affine_lps = np.diag([-1, -1, 1, 1]) @ volume.affine
    _, to_back, to_left = (affine_lps[:3, :3] / volume.spacing).T
    empty = ("StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientBirthDate", "PatientSex", "StudyID",
             "Manufacturer", "Laterality", "PositionReferenceIndicator", "AcquisitionNumber")  # fmt: skip
    return dict.fromkeys(empty) | {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "StudyDate": "20000101",
        "StudyDescription": "Phantom",
        "SeriesDescription": f"{volume.title} phantom",
        "SeriesNumber": 1,
        "PatientName": f"Phantom^{volume.title}",
        "PatientID": f"phantom-{_name(volume)}",
        "BodyPartExamined": volume.title.upper(),
        "PatientPosition": "HFS",
        "StudyInstanceUID": _identifier(volume, "study"),
        "SeriesInstanceUID": _identifier(volume, "series"),
        "FrameOfReferenceUID": _identifier(volume, "frame"),
        "PixelSpacing": list(volume.spacing[1:]),
        "SliceThickness": volume.spacing[0],
        "ImageOrientationPatient": [round(float(part), 9) for part in (*to_left, *to_back)],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": volume.voxels_shw.shape[1],
        "Columns": volume.voxels_shw.shape[2],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
    }


def _write_slice(volume: Volume, place: int, shared: dict, path: Path) -> None:
    """Write one slice of a volume as a DICOM file. place: of the slice, counted from the feet up."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    data = Dataset()
    for keyword, value in shared.items():
        setattr(data, keyword, value)
    data.SOPInstanceUID = _identifier(volume, "image", place)
    data.InstanceNumber = len(volume.voxels_shw) - place
    x, y, z = volume.affine[:3] @ (place, 0, 0, 1)
    data.ImagePositionPatient = [round(float(part), 6) for part in (-x, -y, z)]
    stored = volume.voxels_shw[place].astype(np.int32) - (CT_INTERCEPT if volume.modality == "ct" else 0)
    data.PixelData = stored.astype("<u2").tobytes()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
