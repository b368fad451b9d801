"""Shared parts of data sets of volumes: patients' files read as axial slices, one patient open at a time.

A flat picture is a volume of one slice.

Axes: S slices of H x W pixels as a radiologist sees them, C channels.

Over 250 lines because every data set of volumes needs all of these steps, one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpsams import imaging, transforms
from mpsams.datasets import Dataset, Sample, _files, add_names
from mpsams.imaging import Scan, UnreadableImage, geometry, mask_files, nifti, opening
from mpsams.imaging.grid import OtherGrid, onto
from mpsams.imaging.mask_values import Codes, LesionMask, UnknownCodes
from mpsams.transforms import Box

FEW = 2**16  # values among which any image has more than two
ON_EDGE = 1e-3  # voxels by which a centre on the edge of a bounding box may miss it


@dataclass(frozen=True)
class Patient:
    """The files of a patient's volumes.

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
    """A patient's volumes: a Scan per channel, the truth (S, H, W), the channels' spans, the box, notes on truth."""

    scans: tuple[Scan, ...]
    lesion_shw: np.ndarray
    spans: tuple[tuple[float, float], ...]
    box: Box | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileGrid:
    """Shape and geometry of a file, read before its voxels are.

    shape: voxels (X, Y, Z). affine: of a Scan. notes: what the reader says. modality: as the file states it, None
    where it does not.
    """

    shape: tuple[int, ...]
    affine: np.ndarray | None
    notes: tuple[str, ...]
    modality: str | None


@dataclass
class VolumeReader:
    """Case -> Sample for patients by name; keeps the last patient open.

    codes: of the masks; None where the rule of ``mask_values`` says what is lesion. known_notes: notes of each patient
    that the data set already holds.
    """

    patients: dict[str, Patient]
    modality: str
    codes: Codes | None
    known_notes: dict[str, frozenset[str]] = field(default_factory=dict)
    _last: tuple[str, Opened] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_last": None}

    def __call__(self, case: str) -> Sample:
        name, _, number = (case, "", "0") if case in self.patients else case.rpartition("/")
        if self._last is None or self._last[0] != name:
            self._last = None  # let go of the one before first
            self._last = name, open_patient(self.patients[name], self.modality, self.codes)
        volumes = self._last[1]
        plane = volumes.scans[0].planes[0]
        channels = [scan.slice(int(number), plane) for scan in volumes.scans]
        spacing = volumes.scans[0].spacing(plane)
        box = volumes.box or transforms.frame(channels[0], spacing and spacing[1:], self.modality)
        image = channels[0] if len(channels) == 1 else np.stack(channels)
        known = self.known_notes.get(name, frozenset())
        found = (*(note for scan in volumes.scans for note in scan.notes), *volumes.notes)
        notes = tuple(note for note in found if note not in known)
        affine = volumes.scans[0].affine
        steps = geometry.steps(affine, plane) if affine is not None and geometry.is_sheared(affine) else None
        return Sample(image, np.array(volumes.lesion_shw[int(number)]), case, volumes.spans, box, spacing, notes, steps)

    def files(self, name: str) -> tuple[Path, ...]:
        """Return the files that a patient is read from, those of a DICOM series one by one."""
        return tuple(file for path in self.patients[name].files for file in _files_of(path))


def dataset(name: str, modality: str | None, target: str, patients: Sequence[Patient], codes: Codes | None) -> Dataset:
    """Return the axial slices of all patients as a data set, "PATIENT/SLICE"; of NIfTI files only headers are read
    before a slice is asked for. A volume of a single slice is that slice, in any plane.

    A flat picture is named by its patient alone. modality: None is that of the first image. ValueError names a file
    that is no volume, and a patient whose image and mask have different sizes. The notes hold what readers say of
    images.
    """
    cases, groups, notes_of, firsts = [], [], {}, {}
    for patient in patients:
        grids = [grid(path, may_be_4d=codes is None and path == patient.mask) for path in patient.files]
        numbers, flat = slices(patient, grids)
        cases += [patient.name] if flat else [f"{patient.name}/{k:03d}" for k in numbers]
        groups += [patient.name] * len(numbers)
        notes_of[patient.name] = [note for image in grids[: len(patient.images)] for note in image.notes]
        firsts[patient.name] = grids[0].modality
    mixed = []
    if modality is None:
        first = patients[0]
        scan = open_scan(first.images[0])
        modality = scan.modality
        notes_of[first.name] += [
            note for note in scan.notes if note not in notes_of[first.name]
        ]  # such as that it was guessed
        mixed = others(firsts, modality)
    reader = VolumeReader(
        {patient.name: patient for patient in patients},
        modality,
        codes,
        {name: frozenset(notes) for name, notes in notes_of.items()},
    )
    notes = (*mixed, *add_names((name, note) for name, own in notes_of.items() for note in own))
    return Dataset(name, modality, target, tuple(cases), tuple(groups), reader, reader.files, notes=notes)


def others(stated: Mapping[str, str | None], modality: str) -> list[str]:
    """Return a sentence on patients whose images state another modality than the data set has; none without any.

    NIfTI states none, but is never taken for ultrasound unasked.
    """
    found = [
        f"{name} ({own or 'NIfTI'})"
        for name, own in stated.items()
        if own != modality and (own or modality == "ultrasound")
    ]
    if not found:
        return []
    named = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    return [
        f"All images are read as {modality}, as the first one is, but these are of another kind: {named}. State the"
        " modality, or separate them."
    ]


def slices(patient: Patient, grids: Sequence[FileGrid]) -> tuple[range, bool]:
    """Return the numbers of a patient's axial slices, and True for a flat picture rather than a volume."""
    if len({tuple(sorted(found.shape)) for found in grids}) > 1:  # a mask may be stored along other axes
        sizes = "; ".join(
            f"{path.name} {' × '.join(map(str, found.shape))}" for path, found in zip(patient.files, grids, strict=True)
        )
        raise ValueError(f"patient {patient.name}: image and mask differ in size: {sizes}; expected one grid for all")
    shape, affine = grids[0].shape, grids[0].affine
    if patient.corners is not None:
        low, high, _ = _part(patient, shape, affine)
        return range(low, high), False
    return (range(len(_view(np.broadcast_to(False, shape), affine))), affine is None and shape[2] == 1)


def open_patient(patient: Patient, modality: str, codes: Codes | None) -> Opened:
    """Open a patient's volumes. ValueError names the file: unreadable, on another grid, with unknown codes."""
    first, *others = (open_scan(path, modality) for path in patient.images)
    try:
        scans = (first, *(onto(scan, first, f"channel {number}") for number, scan in enumerate(others, start=2)))
        mask = LesionMask(first.empty_mask()) if patient.mask is None else truth(patient.mask, first, codes)
    except OtherGrid as error:
        reason = str(error).removesuffix(".")
        raise ValueError(
            f"patient {patient.name}: the volumes lie on different grids ({reason}); expected one grid for all"
        ) from None
    values = [scan.values() for scan in scans]
    spans = tuple(transforms.scan_window(each, modality) for each in values)
    notes = mask.notes + tuple(dict.fromkeys(note for each in values for note in like_a_mask(each) if patient.mask))
    box = None if patient.corners is None else _part(patient, first.voxels_xyz.shape, first.affine)[2]
    return Opened(scans, _view(mask.lesion, first.affine), spans, box, notes)


def _view(voxels_xyz: np.ndarray, affine: np.ndarray | None) -> np.ndarray:
    """Return the slices of a volume, (S, H, W): axial ones, of a single slice in another plane that slice."""
    return geometry.radiological_view(voxels_xyz, affine, geometry.planes(voxels_xyz.shape, affine)[0])


def like_a_mask(values: np.ndarray) -> tuple[str, ...]:
    """Return a sentence on an image of one or two values; none on other images."""
    few = values.ravel()[:: 1 + values.size // FEW]
    return (
        ("The image holds no more than two values, as a mask does; perhaps images and masks are swapped.",)
        if len(np.unique(few)) <= 2
        else ()
    )


def truth(path: Path, image: Scan, codes: Codes | None) -> LesionMask:
    """Read the lesion mask of an image by ``imaging.mask_files``. ValueError names the file, OtherGrid does not."""
    try:
        return mask_files.read(_files_of(path), image, codes)
    except OtherGrid:
        raise
    except UnknownCodes as error:
        raise ValueError(f"{path} {error}") from None
    except UnreadableImage as error:
        raise ValueError(f"{path}: {error}") from None


def open_scan(path: Path, modality: str | None = None) -> Scan:
    """Open a file, or a folder with a DICOM series. ValueError names it when it cannot be read."""
    try:
        return _read(path, modality)
    except UnreadableImage as error:
        raise ValueError(f"{path}: {error}") from None


def grid(path: Path, may_be_4d: bool = False) -> FileGrid:
    """Read the grid of a file or folder, of a NIfTI file without its voxels. ValueError names what cannot be read.

    may_be_4d: whether several volumes are allowed, as the channels of a mask are.
    """
    try:
        if not is_nifti(path):
            scan = _read(path, None)
            several = (
                (f"This holds {len(scan.choices)} images; the first is used ({scan.choices[0]}).",)
                if len(scan.choices) > 1
                else ()
            )
            return FileGrid(scan.voxels_xyz.shape, scan.affine, scan.notes + several, scan.modality)
        shape, volumes, affine, notes = nifti.grid(path)
    except UnreadableImage as error:
        raise ValueError(
            f"{path}{' cannot be read as NIfTI' * bool(_files.NIFTI.search(path.name))}: {error}"
        ) from None
    if volumes > 1 and not may_be_4d:
        raise ValueError(
            f"{path} has 4 axes; expected a volume of three, so save the one of its {volumes} volumes that is to be"
            " used alone"
        )
    return FileGrid(shape, affine, notes, None)


def _read(path: Path, modality: str | None) -> Scan:
    """Read a file, or a folder with a DICOM series, as ``open_scan``. UnreadableImage when it cannot be read."""
    return nifti.read(path, modality) if is_nifti(path) else imaging.read(_files_of(path), modality)


def _files_of(path: Path) -> list[Path]:
    """Return the files of an image: those in a folder, or the one with the other half of a pair."""
    return (
        sorted(inner for inner in path.rglob("*") if inner.is_file()) if path.is_dir() else [path, *_files.halves(path)]
    )


def is_nifti(path: Path) -> bool:
    """Return True if this is a NIfTI file with its voxels, by its content, never by its name."""
    return path.is_file() and opening.kind(path) == "nifti" and not nifti.is_half(path)


def _part(patient: Patient, shape: tuple[int, ...], affine: np.ndarray | None) -> tuple[int, int, Box]:
    """Return the slices from ``low`` up to ``high`` and the box whose voxels' centres lie between the corners."""
    if affine is None:
        raise ValueError(
            f"{patient.images[0]} states no usable geometry; expected one, for the bounding box of {patient.name} is in"
            " millimetres"
        )
    voxels = (np.linalg.inv(affine) @ np.c_[np.array(patient.corners), np.ones(2)].T)[:3].T
    inside = np.zeros(shape, bool)
    ends = zip(voxels.min(0) - ON_EDGE, voxels.max(0) + ON_EDGE, strict=True)
    inside[tuple(slice(max(0, math.ceil(low)), max(0, math.floor(high) + 1)) for low, high in ends)] = True
    found = _view(inside, affine).nonzero()
    if not len(found[0]):
        raise ValueError(
            f"the bounding box of {patient.name} lies outside {patient.images[0]}; expected millimetres as DICOM counts"
            " them (LPS)"
        )
    (low, high), (top, bottom), (left, right) = ((int(axis.min()), int(axis.max()) + 1) for axis in found)
    return low, high, Box(top, left, bottom - top, right - left)
