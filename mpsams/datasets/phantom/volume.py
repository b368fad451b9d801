"""Phantom volumes as a scanner stores them: voxels and lesion mask slice by slice, and where they lie in the body."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mpsams.datasets.phantom import brain, neck
from mpsams.datasets.phantom.paint import PixelGrid

NECK = PixelGrid((48, 192, 192), (4.0, 1.6, 1.6), bottom=-110)
BRAIN = PixelGrid((36, 192, 192), (4.5, 1.25, 1.25), bottom=-70)
MR_GAIN = 4  # steps of a stored MR voxel per unit of ``brain.slices``


@dataclass(frozen=True)
class Volume:
    """A scan and the truth about it, in the radiologist's order.

    voxels_shw: (S, H, W); slices from the feet up, rows to the back, columns to the patient's left. Hounsfield units in
        int16 for CT, arbitrary units in uint16 for MRI. mask_shw: the lesion, (S, H, W) bool.
    spacing: millimetres between slices, rows and columns; modality: ``ct`` or ``mri``; title: the part of the body.
    tilt: degrees by which the slices are turned about the ears, chin up.
    """

    voxels_shw: np.ndarray
    mask_shw: np.ndarray
    spacing: tuple[float, float, float]
    modality: str
    title: str
    tilt: float = 0.0

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) from slice, row and column to RAS millimetres; the middle voxel lies at the origin."""
        cos, sin = math.cos(math.radians(self.tilt)), math.sin(math.radians(self.tilt))
        up, back, left = (0, -sin, cos), (0, -cos, -sin), (-1, 0, 0)
        affine = np.eye(4)
        affine[:3, :3] = np.transpose([up, back, left]) * self.spacing
        affine[:3, 3] = -affine[:3, :3] @ (np.array(self.voxels_shw.shape) // 2)
        return affine


def neck_volume(seed: int) -> Volume:
    """Draw a contrast-enhanced CT from shoulders to skull base, with a tumour. ValueError if the seed is negative.

    ValueError if the seed is negative.
    """
    image_shw, mask_shw = neck.slices(seed, NECK)
    return Volume(np.rint(image_shw).astype(np.int16), mask_shw, NECK.spacing, "ct", "Neck")


def brain_volume(seed: int) -> Volume:
    """Draw a T1 of the whole head above the upper teeth, with a brain tumour. ValueError if the seed is negative."""
    image_shw, mask_shw = brain.slices(seed, BRAIN)
    return Volume(np.rint(MR_GAIN * image_shw).astype(np.uint16), mask_shw, BRAIN.spacing, "mri", "Brain", tilt=7)
