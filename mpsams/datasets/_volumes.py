"""What the data sets of volumes share: patients' files read as axial slices, one patient open at a time.

Axes: S slices of H x W pixels as a radiologist sees them, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpsams import transforms
from mpsams.datasets import Dataset, Sample
from mpsams.imaging import Scan, UnreadableImage, geometry, nifti
from mpsams.transforms import Box

MANY = 2**21  # voxels that are enough for a percentile
SAME_GRID = 1e-2  # millimetres by which image and mask may disagree


@dataclass(frozen=True)
class Patient:
    """Where a patient's volumes lie.

    images: one file per channel. mask: the file with the truth; None where there is none.
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


@dataclass
class Reader:
    """Case -> Sample for patients by name; keeps the last patient open.

    lesion: the codes of the mask that count as lesion. known: all codes that may stand there.
    """

    patients: dict[str, Patient]
    modality: str
    lesion: Collection[int]
    known: Collection[int]
    _last: tuple[str, Opened] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_last": None}

    def __call__(self, case: str) -> Sample:
        name, _, index = case.rpartition("/")
        if self._last is None or self._last[0] != name:
            self._last = None  # let go of the one before first
            self._last = name, open_patient(self.patients[name], self.modality, self.lesion, self.known)
        opened, k = self._last[1], int(index)
        channels = [scan.slice(k) for scan in opened.scans]
        spacing_hw = opened.scans[0].spacing()[1:]
        box = opened.box or transforms.frame(channels[0], spacing_hw, self.modality)
        image = channels[0] if len(channels) == 1 else np.stack(channels)
        return Sample(image, np.array(opened.lesion_shw[k]), case, opened.spans, box, spacing_hw)

    def files(self, name: str) -> tuple[Path, ...]:
        """What a patient is read from."""
        return self.patients[name].files


def dataset(
    name: str, modality: str, target: str, patients: Sequence[Patient], lesion: Collection[int], known: Collection[int],
    track: Callable = iter,
) -> Dataset:  # fmt: skip
    """The axial slices of all patients, "PATIENT/SLICE"; only headers are read before a slice is asked for.

    ValueError names a file that is no volume, and a patient whose image and mask have different sizes.
    """
    cases = [(f"{patient.name}/{k:03d}", patient.name) for patient in track(patients) for k in slices(patient)]
    reader = Reader({patient.name: patient for patient in patients}, modality, lesion, known)
    return Dataset(name, modality, target, *zip(*cases), reader, reader.files)


def stem(path: Path) -> str:
    """A file's name without .nii or .nii.gz."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def one_of(folder: Path, name: str) -> Path | None:
    """The file of that name, gzipped or not; None where there is none."""
    return next((path for path in (folder / f"{name}.nii.gz", folder / f"{name}.nii") if path.is_file()), None)


def slices(patient: Patient) -> range:
    """The numbers of a patient's axial slices, from headers alone."""
    headers = [_header(path) for path in patient.files]
    shapes = {shape for shape, _ in headers}
    if len(shapes) > 1:
        sizes = "; ".join(f"{path.name} {' × '.join(map(str, shape))}" for path, (shape, _) in zip(patient.files, headers))
        raise ValueError(f"patient {patient.name}: image and mask differ in size: {sizes}; expected one grid for all")
    shape, affine = headers[0]
    count = len(geometry.shown(np.broadcast_to(False, shape), affine))
    if patient.corners is None:
        return range(count)
    low, high, _ = _part(patient.corners, shape, affine)
    return range(low, high)


def open_patient(patient: Patient, modality: str, lesion: Collection[int], known: Collection[int]) -> Opened:
    """Open a patient's volumes. ValueError names the file: unreadable, on another grid, with unknown codes."""
    scans = tuple(_read(path, modality) for path in patient.images)
    first = scans[0]
    if patient.mask is None:
        lesion_shw = np.zeros(first.shown().shape, bool)
    else:
        truth = _read(patient.mask, modality)
        same_grid(patient, first, truth)
        codes = np.unique(truth.voxels_xyz) * truth.slope + truth.intercept
        strange = sorted(set(codes.tolist()) - set(known))
        if strange:
            raise ValueError(f"{patient.mask} holds the codes {strange[:5]}; expected only {sorted(known)}")
        lesion_shw = np.isin(truth.shown() * truth.slope + truth.intercept, list(lesion))
    for path, scan in zip(patient.images[1:], scans[1:]):
        same_grid(patient, first, scan)
    spans = tuple(transforms.window(scan.values(MANY), modality) for scan in scans)
    box = None if patient.corners is None else _part(patient.corners, first.voxels_xyz.shape, first.affine)[2]
    return Opened(scans, lesion_shw, spans, box)


def same_grid(patient: Patient, first: Scan, other: Scan) -> None:
    """ValueError unless two volumes of a patient lie on one grid."""
    if first.voxels_xyz.shape != other.voxels_xyz.shape or np.abs(first.affine - other.affine).max() > SAME_GRID:
        raise ValueError(
            f"patient {patient.name}: the volumes lie on different grids ({first.voxels_xyz.shape} and {other.voxels_xyz.shape} voxels, "
            "or other orientations); expected one grid for all, so resample the mask to the image first"
        )


def _read(path: Path, modality: str) -> Scan:
    try:
        return nifti.read(path, modality)
    except UnreadableImage as error:
        raise ValueError(f"{path}: {error}") from None


def _header(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of a NIfTI file without reading its voxels."""
    import nibabel

    try:
        image = nibabel.load(path)
    except Exception as error:  # nibabel raises whatever its parsers meet
        raise ValueError(f"{path} cannot be read as NIfTI: {error}") from None
    if len(image.shape) != 3:
        raise ValueError(f"{path} has {len(image.shape)} axes; expected a volume of three")
    return image.shape, image.affine


def _part(corners: Sequence, shape: tuple[int, ...], affine: np.ndarray) -> tuple[int, int, Box]:
    """The slices from ``low`` up to ``high`` and the box in them that lie between two corners in millimetres."""
    voxels = (np.linalg.inv(affine) @ np.c_[np.array(corners), np.ones(2)].T)[:3].T
    inside = np.zeros(shape, bool)
    spans = [slice(max(0, round(low)), max(0, round(high))) for low, high in zip(voxels.min(0), voxels.max(0))]
    inside[tuple(spans)] = True
    found = geometry.shown(inside, affine).nonzero()
    if not len(found[0]):
        raise ValueError("the bounding box lies outside the volume")
    (low, high), (top, bottom), (left, right) = ((int(axis.min()), int(axis.max()) + 1) for axis in found)
    return low, high, Box(top, left, bottom - top, right - left)
