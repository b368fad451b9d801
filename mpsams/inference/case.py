"""A case: one slice on the screen with its patches, clusters and truth, as every panel shows it. No gradio here.

Axes: L patches, H x W pixels of a slice as shown, S the side of the grid image; X, Y, Z voxels as stored. Masks:
True = hidden or lesion. The grid image is what networks see: a part of the slice (``box``), at SIDE pixels.

Over 250 lines because all changes of a case return a new one that is built by the same function.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpsams import imaging, inference, schedule, transforms
from mpsams.imaging import Scan, geometry, mask_files
from mpsams.imaging.dicom import annotation_seg
from mpsams.imaging.mask_values import LesionMask
from mpsams.inference import Agreement, Study, shared
from mpsams.plots import images
from mpsams.transforms import Box

SIDE = 256  # of the grid image, as in the paper
STOPS = sorted({round(schedule.HORIZON ** (i / 60)) for i in range(61)})  # epochs along the curves, dense at first
MODALITIES = imaging.MODALITIES
YOURS = {"ultrasound": "Your ultrasound image", "ct": "Your CT", "mri": "Your MRI"}
NAMES = {"ultrasound": "Ultrasound", "ct": "CT", "mri": "MRI"}

Span = tuple[float, float]


@dataclass(frozen=True)
class UploadedFiles:
    """Uploaded files by which a case can be opened again, while they are there. digest: of their bytes, hexadecimal."""

    files: tuple[Path, ...]
    modality: str | None
    choice: int
    digest: str


@dataclass(frozen=True, eq=False)
class TruthMap:
    """A label map on the scan's grid, uint8, and the label, name and colour ("#rrggbb") of each of its structures. One
    of them is the truth: the first.
    """

    map_xyz: np.ndarray
    structures: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True)
class Case:
    """The slice on the screen with its scan, clusters and truth; immutable, a change makes a new one.

    title: in words for the user. scan: the image or volume. truth_xyz: bool on the scan's grid, or None.
    plane, index: of the slice. span: the values networks see as 0 and 1; display_span: those shown as black and white.
    box: the part of the slice that networks look at; None is all. study: clusters and orders of the grid image.
    agreement: of the clusters with the truth; None without one. seed, selector: how the study was made. item: its id in
    the project of annotations, "" for what is in none. upload: the files it was opened from, None for what was not
    uploaded.
    truth_notes: sentences on how the truth's values and grid were taken. truth_map: what the truth is one structure of;
    None for a truth without others.
    """

    title: str
    scan: Scan
    truth_xyz: np.ndarray | None
    plane: str
    index: int
    span: Span
    display_span: Span
    box: Box | None
    study: Study
    agreement: Agreement | None
    seed: int
    selector: str
    item: str = ""
    upload: UploadedFiles | None = None
    truth_notes: tuple[str, ...] = ()
    truth_map: TruthMap | None = None

    def __deepcopy__(self, memo: dict) -> Case:
        return self  # immutable, so sessions may share it

    @property
    def modality(self) -> str:
        """The modality of the scan, one of MODALITIES."""
        return self.scan.modality

    @property
    def content(self) -> str:
        """A name for the pixels, the same whenever opened: its id, or a digest of its files; "" of a sample."""
        return self.item or (f"{self.upload.digest}.{self.upload.choice}" if self.upload else "")

    def is_same_image(self, other: Case) -> bool:
        """Return True if both are of one image, however they show it."""
        if self.scan.voxels_xyz is other.scan.voxels_xyz:
            return True
        return self.content == other.content != "" and self.scan.voxels_xyz.shape == other.scan.voxels_xyz.shape

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what to know of the scan and of its truth."""
        return self.scan.notes + self.truth_notes

    @property
    def slices(self) -> int:
        """Number of slices the scan has in this plane."""
        return len(self.scan.shown(self.plane))

    @property
    def is_volume(self) -> bool:
        """True if there is more than one slice."""
        return self.scan.is_volume

    @cached_property
    def shape_hw(self) -> tuple[int, int]:
        """Rows and columns of the slice."""
        _, height, width = self.scan.shown(self.plane).shape
        return height, width

    @property
    def size_hw(self) -> tuple[float, float]:
        """Height and width at which the slice is drawn: its pixels, stretched where they are not square."""
        rows, columns = self.scan.pixel_hw(self.plane)
        finest = min(rows, columns)
        return self.shape_hw[0] * rows / finest, self.shape_hw[1] * columns / finest

    @property
    def unit_hw(self) -> np.ndarray:
        """The slice as networks see it, float32 (H, W) in [0, 1]; ``box`` is still to be cut out."""
        return transforms.to_unit(self.scan.slice(self.index, self.plane), self.span)

    @cached_property
    def pictures(self) -> tuple[str, str | None]:
        """Grey PNGs as data URIs, at the chosen window: the slice, and the part networks look at (None is the same)."""
        shown_hw = transforms.to_unit(self.scan.slice(self.index, self.plane), self.display_span)
        part = None if self.box is None else images.uri(images.preview(transforms.crop(shown_hw, self.box)))
        return images.uri(images.preview(shown_hw)), part

    @property
    def image_11ss(self) -> Tensor:
        """The grid image, (1, 1, S, S)."""
        return self.study.image_11ss

    @property
    def has_lesion(self) -> bool:
        """True if the truth has at least one lesion patch in this slice."""
        return self.agreement is not None and self.agreement.lesion_patches > 0

    @property
    def truth_hw(self) -> np.ndarray | None:
        """The truth of this slice, bool (H, W), or None."""
        return (
            None
            if self.truth_xyz is None
            else geometry.radiological_view(self.truth_xyz, self.scan.affine, self.plane)[self.index]
        )

    @property
    def truth_11ss(self) -> Tensor | None:
        """The truth at the grid image's size."""
        return (
            None
            if self.truth_hw is None
            else transforms.resize_mask(transforms.crop(self.truth_hw, self.box), SIDE, SIDE)
        )

    @cached_property
    def course(self) -> tuple[tuple[float, float, float, float], ...]:
        """Along ``STOPS``: epoch, ratio, share of the true lesion hidden lesion-first, and at random.

        The shares are NaN without a lesion in the truth.
        """
        known = (
            torch.zeros(1, self.study.length, dtype=torch.bool) if self.agreement is None else self.agreement.truth_1l
        )
        steps = ((epoch, inference.mask_at(self.study, epoch)) for epoch in STOPS)
        return tuple(
            (epoch, at.ratio, inference.coverage(at.lesion_first_1l, known), inference.coverage(at.random_1l, known))
            for epoch, at in steps
        )

    def outline(self, size_hw: tuple[float, float], part: bool = False) -> str:
        """Return the border of the true lesion as an SVG layer over a picture of size_hw; empty when unknown.

        part: over the part that networks look at instead of the whole slice.
        """
        return images.layer(*self._part_border if part and self.box is not None else self._border, size_hw)

    @cached_property
    def _border(self) -> tuple[str, str, tuple[int, int]]:
        """Path, CSS class and cells of the border of the true lesion; the path is empty when unknown."""
        return _border_of(self.truth_hw)

    @cached_property
    def _part_border(self) -> tuple[str, str, tuple[int, int]]:
        """The border of the true lesion, as ``_border``, in the part that networks look at."""
        return _border_of(None if self.truth_hw is None else transforms.crop(self.truth_hw, self.box))


def _border_of(truth_hw: np.ndarray | None) -> tuple[str, str, tuple[int, int]]:
    mask_hw = np.zeros((1, 1), bool) if truth_hw is None else images.shrunk_mask(truth_hw)
    return images.edge_path(mask_hw), "truth", mask_hw.shape


def network_span(scan: Scan) -> Span:
    """Return the values of a scan that networks see as 0 and 1."""
    return transforms.scan_window(scan.values(), scan.modality)


def build_case(
    title: str, scan: Scan, truth_xyz: np.ndarray | None, position: tuple[str, int], span: Span, options: dict
) -> Case:
    """Build a case whose slice is read and clustered, and shown with the values that networks see. position: plane and
    index of the slice.
    """
    plane, index = position
    values_hw = scan.slice(index, plane)
    spacing = scan.spacing(plane)
    box = transforms.frame(values_hw, spacing and spacing[1:], scan.modality)
    unit_hw = transforms.crop(transforms.to_unit(values_hw, span), box)
    study = shared.study(inference.to_grid(unit_hw, SIDE), **options)
    return measure_agreement(
        Case(title, scan, truth_xyz, plane, index, span, span, box, study, None, options["seed"], options["selector"])
    )


def move_to_slice(case: Case, plane: str, index: int, options: dict) -> Case:
    """Return the case at another slice of the scan, at most the last; a new plane opens in its middle."""
    if plane not in case.scan.planes:
        raise ValueError(f"plane {plane!r}; this scan has {', '.join(case.scan.planes)}")
    last = len(case.scan.shown(plane)) - 1
    index = (last + 1) // 2 if plane != case.plane else min(max(int(index), 0), last)
    drawn = build_case(case.title, case.scan, case.truth_xyz, (plane, index), case.span, options)
    return replace(_with_origin(drawn, case), display_span=case.display_span)


def set_modality(case: Case, modality: str, options: dict) -> Case:
    """Return the case with its scan taken for another modality. ValueError when there is no such modality."""
    if modality not in MODALITIES:
        raise ValueError(f"modality {modality!r}; allowed are {', '.join(MODALITIES)}")
    scan = replace(case.scan, modality=modality)
    span = network_span(scan)
    title = YOURS[modality] if case.title in YOURS.values() else case.title
    drawn = build_case(title, scan, case.truth_xyz, (case.plane, case.index), span, options)
    return _with_origin(drawn, case)


def _with_origin(drawn: Case, case: Case) -> Case:
    """Return a case with the origin, and that of its truth, of another case of the same image."""
    return replace(drawn, item=case.item, upload=case.upload, truth_notes=case.truth_notes, truth_map=case.truth_map)


def set_window(case: Case, display_span: Span) -> Case:
    """Return the case with other values as black and white, for the screen only. ValueError for an empty span."""
    if not display_span[0] < display_span[1]:
        raise ValueError(f"window from {display_span[0]:g} to {display_span[1]:g}; its width must be above 0")
    return replace(case, display_span=display_span)


def recluster(case: Case, options: dict) -> Case:
    """Return the case clustered in another way, or with its orders drawn from another seed."""
    study = shared.study(case.image_11ss, **options)
    return measure_agreement(replace(case, study=study, seed=options["seed"], selector=options["selector"]))


def set_truth(case: Case, file: Path | None) -> Case:
    """Return the case with an uploaded truth mask, or without one. UnreadableImage when the mask does not fit.

    Values and grids are taken as everywhere (``imaging.mask_files``); a DICOM-SEG has to refer to the scan's images.
    """
    if file is None:
        return measure_agreement(replace(case, truth_xyz=None, truth_notes=(), truth_map=None))
    found = _truth(case.scan, Path(file))
    return measure_agreement(replace(case, truth_xyz=found.lesion, truth_notes=found.notes, truth_map=None))


def _truth(scan: Scan, file: Path) -> LesionMask:
    """Read a mask in any of the formats in which masks leave, and in those of ``mask_files``."""
    if annotation_seg.is_segmentation(file):
        return LesionMask(annotation_seg.read(file, {"": scan}, annotation_seg.allowance())[1])
    return mask_files.read(file, scan)


def measure_agreement(case: Case) -> Case:
    """Return the case with the agreement of its clusters and its truth."""
    truth_11ss = case.truth_11ss
    found = None if truth_11ss is None else inference.agreement(case.study, truth_11ss)
    return replace(case, agreement=found)
