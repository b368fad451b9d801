"""What data sets of volumes share: patients' files read as axial slices, one patient open at a time.

A flat picture is a volume of one slice.

Axes: S slices of H x W pixels as a radiologist sees them, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpsams import imaging, transforms
from mpsams.datasets import Dataset, Sample
from mpsams.imaging import Scan, UnreadableImage, geometry, nifti, raster
from mpsams.transforms import Box

MANY = 2**21  # voxels that are enough for a percentile
SAME_GRID = 1e-2  # millimetres by which image and mask may disagree
ON_EDGE = 1e-3  # voxels by which a centre on the edge of a bounding box may miss it


@dataclass(frozen=True)
class Patient:
    """Where a patient's volumes lie.

    images: one file per channel (a folder is a DICOM series). mask: the file with the truth; None where there is none.
    corners: two opposite corners (x, y, z) in millimetres, RAS, of the part to be used; None is all.
    """

    name: str
    images: tuple[Path, ...]
    mask: Path | None
    corners: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that is read."""
        return self.images + (() if self.mask is None else (self.mask,))


@dataclass(frozen=True)
class Opened:
    """A patient's volumes: one Scan per channel, the truth (S, H, W), the spans of the channels, the box."""

    scans: tuple[Scan, ...]
    lesion_shw: np.ndarray
    spans: tuple[tuple[float, float], ...]
    box: Box | None


@dataclass(frozen=True)
class Codes:
    """What the numbers in a mask mean: which of them are lesion, and all that may stand there."""

    lesion: tuple[int, ...]
    known: tuple[int, ...]


@dataclass
class Reader:
    """Case -> Sample for patients by name; keeps the last patient open.

    codes: of the masks; None where anything but 0 is lesion.
    """

    patients: dict[str, Patient]
    modality: str
    codes: Codes | None
    _last: tuple[str, Opened] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_last": None}

    def __call__(self, case: str) -> Sample:
        name, _, number = (case, "", "0") if case in self.patients else case.rpartition("/")
        if self._last is None or self._last[0] != name:
            self._last = None  # let go of the one before first
            self._last = name, open_patient(self.patients[name], self.modality, self.codes)
        volumes = self._last[1]
        channels = [scan.slice(int(number)) for scan in volumes.scans]
        spacing = volumes.scans[0].spacing()
        box = volumes.box or transforms.frame(channels[0], spacing and spacing[1:], self.modality)
        image = channels[0] if len(channels) == 1 else np.stack(channels)
        return Sample(image, np.array(volumes.lesion_shw[int(number)]), case, volumes.spans, box, spacing)

    def files(self, name: str) -> tuple[Path, ...]:
        """What a patient is read from."""
        return self.patients[name].files


def dataset(name: str, modality: str, target: str, patients: Sequence[Patient], codes: Codes | None) -> Dataset:
    """The axial slices of all patients, "PATIENT/SLICE"; of NIfTI files only headers are read before one is asked for.

    A flat picture is named by its patient alone. ValueError names a file that is no volume, and a patient whose
    image and mask have different sizes.
    """
    cases, groups = [], []
    for patient in patients:
        numbers, flat = slices(patient)
        cases += [patient.name] if flat else [f"{patient.name}/{k:03d}" for k in numbers]
        groups += [patient.name] * len(numbers)
    reader = Reader({patient.name: patient for patient in patients}, modality, codes)
    return Dataset(name, modality, target, tuple(cases), tuple(groups), reader, reader.files)


def stem(path: Path) -> str:
    """A file's name without its ending, .nii.gz counting as one."""
    return Path(path.name.removesuffix(".gz")).stem if path.is_file() else path.name


def one_of(folder: Path, name: str) -> Path | None:
    """The file of that name, gzipped or not; None where there is none."""
    return next((path for path in (folder / f"{name}.nii.gz", folder / f"{name}.nii") if path.is_file()), None)


def slices(patient: Patient) -> tuple[range, bool]:
    """The numbers of a patient's axial slices, and whether it is a flat picture rather than a volume."""
    headers = [_header(path) for path in patient.files]
    if len({shape for shape, _ in headers}) > 1:
        sizes = "; ".join(f"{path.name} {' × '.join(map(str, shape))}" for path, (shape, _) in zip(patient.files, headers))
        raise ValueError(f"patient {patient.name}: image and mask differ in size: {sizes}; expected one grid for all")
    shape, affine = headers[0]
    if patient.corners is not None:
        low, high, _ = _part(patient, shape, affine)
        return range(low, high), False
    return range(len(geometry.shown(np.broadcast_to(False, shape), affine))), affine is None and shape[2] == 1


def open_patient(patient: Patient, modality: str, codes: Codes | None) -> Opened:
    """Open a patient's volumes. ValueError names the file: unreadable, on another grid, with unknown codes."""
    scans = tuple(opened(path, modality) for path in patient.images)
    first = scans[0]
    for scan in scans[1:]:
        same_grid(patient, first, scan)
    lesion_shw = np.zeros(first.shown().shape, bool) if patient.mask is None else truth(patient, first, codes)
    spans = tuple(transforms.window(scan.values(MANY), modality) for scan in scans)
    box = None if patient.corners is None else _part(patient, first.voxels_xyz.shape, first.affine)[2]
    return Opened(scans, lesion_shw, spans, box)


def truth(patient: Patient, first: Scan, codes: Codes | None) -> np.ndarray:
    """A patient's lesion mask as bool (S, H, W), in the order its image is shown."""
    if first.affine is None and first.voxels_xyz.shape[2] == 1:
        try:
            return raster.read_mask(patient.mask.read_bytes(), first.shown().shape[1:])[None]
        except UnreadableImage as error:
            raise ValueError(f"{patient.mask}: {error}") from None
    mask = opened(patient.mask, first.modality)
    same_grid(patient, first, mask)
    if codes is None:
        return mask.shown() > 0
    strange = sorted(set(np.unique(mask.voxels_xyz) * mask.slope + mask.intercept) - set(codes.known))
    if strange:
        raise ValueError(f"{patient.mask} holds the codes {strange[:5]}; expected only {sorted(codes.known)}")
    return np.isin(mask.shown() * mask.slope + mask.intercept, codes.lesion)


def same_grid(patient: Patient, first: Scan, other: Scan) -> None:
    """ValueError unless two volumes of a patient lie on one grid."""
    moved = (first.affine is None) != (other.affine is None) or (
        first.affine is not None and np.abs(first.affine - other.affine).max() > SAME_GRID
    )
    if first.voxels_xyz.shape != other.voxels_xyz.shape or moved:
        raise ValueError(
            f"patient {patient.name}: the volumes lie on different grids ({first.voxels_xyz.shape} and {other.voxels_xyz.shape} voxels, "
            "or other orientations); expected one grid for all, so resample the mask to the image first"
        )


def opened(path: Path, modality: str | None = None) -> Scan:
    """A file, or a folder with a DICOM series. ValueError names it when it cannot be read."""
    files = sorted(inner for inner in path.rglob("*") if inner.is_file()) if path.is_dir() else [path]
    try:
        return nifti.read(path, modality) if is_nifti(path) else imaging.read(files, modality)
    except UnreadableImage as error:
        raise ValueError(f"{path}: {error}") from None


def _header(path: Path) -> tuple[tuple[int, ...], np.ndarray | None]:
    """Shape and affine, of a NIfTI file without reading its voxels."""
    if not is_nifti(path):
        scan = opened(path, None)
        return scan.voxels_xyz.shape, scan.affine
    import nibabel

    try:
        image = nibabel.load(path)
    except Exception as error:  # nibabel raises whatever its parsers meet
        raise ValueError(f"{path} cannot be read as NIfTI: {error}") from None
    if len(image.shape) != 3:
        raise ValueError(f"{path} has {len(image.shape)} axes; expected a volume of three")
    return image.shape, image.affine if geometry.usable(image.affine) else None


def is_nifti(path: Path) -> bool:
    """Whether a file of a data set is NIfTI; in these folders names can be trusted."""
    return path.name.endswith((".nii", ".nii.gz"))


def _part(patient: Patient, shape: tuple[int, ...], affine: np.ndarray | None) -> tuple[int, int, Box]:
    """The slices from ``low`` up to ``high`` and the box in them whose voxels' centres lie between the patient's corners."""
    if affine is None:
        raise ValueError(f"{patient.images[0]} states no usable geometry; expected one, for the bounding box of {patient.name} is in millimetres")
    voxels = (np.linalg.inv(affine) @ np.c_[np.array(patient.corners), np.ones(2)].T)[:3].T
    inside = np.zeros(shape, bool)
    ends = zip(voxels.min(0) - ON_EDGE, voxels.max(0) + ON_EDGE)
    inside[tuple(slice(max(0, math.ceil(low)), max(0, math.floor(high) + 1)) for low, high in ends)] = True
    found = geometry.shown(inside, affine).nonzero()
    if not len(found[0]):
        raise ValueError(f"the bounding box of {patient.name} lies outside {patient.images[0]}; expected millimetres as DICOM counts them (LPS)")
    (low, high), (top, bottom), (left, right) = ((int(axis.min()), int(axis.max()) + 1) for axis in found)
    return low, high, Box(top, left, bottom - top, right - left)
