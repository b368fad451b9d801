"""A case: one image with its patches, clusters and truth, as every panel shows it. No gradio here.

Axes: L patches, H x W pixels of the original, S the side of the grid image. Masks: True = hidden or lesion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mpsams import figures, imaging, inference, schedule, transforms
from mpsams.datasets.phantom import BuiltIn
from mpsams.imaging import UnreadableImage, raster
from mpsams.inference import Agreement, Study

SIDE = 256  # of the grid image, as in the paper
STOPS = sorted({round(schedule.HORIZON ** (i / 60)) for i in range(61)})  # epochs along the curves, dense at first
MODALITIES = imaging.MODALITIES
YOURS = {"ultrasound": "Your ultrasound image", "ct": "Your CT image", "mri": "Your MRI image"}
NAMES = {"ultrasound": "Ultrasound", "ct": "CT", "mri": "MRI"}


@dataclass(frozen=True)
class Case:
    """What is on the screen; never changed, only replaced.

    title, origin: in words for the user. picture: grey PNG of the original as a data URI. shape_hw: of the
    original. truth_hw: bool at the original's size, or None. study: clusters and orders of the grid image.
    agreement: of the clusters with the truth; None without one.
    """

    title: str
    origin: str
    modality: str
    picture: str
    shape_hw: tuple[int, int]
    truth_hw: np.ndarray | None
    study: Study
    seed: int
    reading: str
    agreement: Agreement | None = None

    def __deepcopy__(self, memo: dict) -> Case:
        return self  # immutable, so sessions may share it

    @property
    def image_11ss(self) -> Tensor:
        """The grid image."""
        return self.study.image_11ss

    @property
    def has_lesion(self) -> bool:
        """Whether a truth mask with at least one lesion patch is there."""
        return self.agreement is not None and self.agreement.lesion_patches > 0

    @property
    def truth_11ss(self) -> Tensor | None:
        """The truth mask at the grid image's size."""
        return None if self.truth_hw is None else transforms.resize_mask(self.truth_hw, SIDE, SIDE)

    @cached_property
    def course(self) -> tuple[tuple[float, float, float, float], ...]:
        """Along ``STOPS``: epoch, ratio, share of the true lesion hidden lesion-first, and at random.

        The shares are NaN without a lesion in the truth.
        """
        known = torch.zeros(1, self.study.length, dtype=torch.bool) if self.agreement is None else self.agreement.truth_1l
        steps = ((epoch, inference.mask_at(self.study, epoch)) for epoch in STOPS)
        return tuple(
            (epoch, at.ratio, inference.coverage(at.lesion_first_1l, known), inference.coverage(at.random_1l, known))
            for epoch, at in steps
        )

    def outline(self, size_hw: tuple[int, int]) -> str:
        """The border of the true lesion as an SVG layer over a picture of size_hw; empty when unknown."""
        if self.truth_hw is None:
            return ""
        mask = figures.shrunk_mask(self.truth_hw)
        return figures.layer(figures.edge_path(mask), "truth", mask.shape, size_hw)


def clustering(settings: dict, seed: float | None = 0, reading: str | None = None) -> dict:
    """What ``inference.study`` needs, from the library's settings and what the user chose."""
    if seed is None or not 0 <= seed < 2**31:
        raise ValueError(f"seed {seed} must lie between 0 and {2**31 - 1}")
    return settings | {"seed": int(seed)} | ({"reading": reading} if reading else {})


def of_sample(built_in: BuiltIn, how: dict) -> Case:
    """A built-in phantom, drawn and clustered."""
    sample = built_in.draw()
    unit_hw = transforms.to_unit(sample.image, built_in.modality)
    origin = f"Synthetic, drawn by this program, {unit_hw.shape[1]} × {unit_hw.shape[0]} pixels"
    return _new(built_in.title, origin, built_in.modality, unit_hw, sample.mask, how)


def of_upload(data: bytes, modality: str, how: dict) -> Case:
    """An uploaded file's image. UnreadableImage when we refuse it, ValueError for an unknown modality.

    Raster files hold no Hounsfield units, so a CT picture is taken as it was windowed when it was saved.
    """
    scan = imaging.read(data, modality)
    unit_hw = transforms.to_unit(scan.pixels, "mri" if modality == "mri" else "ultrasound")
    return _new(YOURS[modality], scan.origin, modality, unit_hw, None, how)


def _new(title: str, origin: str, modality: str, unit_hw: np.ndarray, truth_hw: np.ndarray | None, how: dict) -> Case:
    study = inference.study(inference.to_grid(unit_hw, SIDE), **how)
    picture = figures.uri(figures.preview(unit_hw))
    shape = (unit_hw.shape[0], unit_hw.shape[1])
    return _measured(Case(title, origin, modality, picture, shape, truth_hw, study, how["seed"], how["reading"]))


def clustered(case: Case, how: dict) -> Case:
    """The same image clustered in another way or with its orders drawn from another seed."""
    study = inference.study(case.image_11ss, **how)
    return _measured(replace(case, study=study, seed=how["seed"], reading=how["reading"]))


def with_truth(case: Case, data: bytes | None) -> Case:
    """The same case with an uploaded truth mask, or without one. UnreadableImage when it does not fit."""
    return _measured(replace(case, truth_hw=None if data is None else raster.read_mask(data, case.shape_hw)))


def _measured(case: Case) -> Case:
    """The case with the agreement of its clusters and its truth."""
    found = None if case.truth_hw is None else inference.agreement(case.study, case.truth_11ss)
    return replace(case, agreement=found)


def read_bytes(path: str | None) -> bytes | None:
    """The bytes of an upload, no more than are allowed; None for no upload."""
    if path is None:
        return None
    with open(path, "rb") as file:
        data = file.read(raster.MAX_BYTES + 1)
    if len(data) > raster.MAX_BYTES:
        raise UnreadableImage(f"The file is larger than the {raster.MAX_BYTES >> 20} MiB allowed.")
    return data
