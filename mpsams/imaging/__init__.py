"""Files to pixels with their geometry: the one type every reader returns, and how a file finds its reader.

Axes: X, Y, Z as the file stores them; S slices of H x W pixels as they are shown.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from . import geometry

MODALITIES = ("ultrasound", "ct", "mri")
AIR = -1000.0  # Hounsfield units
MANY = 2**21  # voxels that are enough for a percentile


class UnreadableImage(ValueError):
    """An upload we refuse; its message is one plain sentence for the person who uploaded it."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A grey image or volume as a person opened it.

    voxels_xyz: (X, Y, Z) in the file's own type, maybe memory-mapped. A flat image has Z = 1, X = columns
        running to the right and Y = rows running down.
    slope, intercept: value = slope * voxel + intercept; values are [0, 1] for raster formats, Hounsfield
        units for CT, the scanner's own for MRI.
    affine: (4, 4) from voxel indices to millimetres, RAS; None where there is no geometry ("pixel space").
    modality: one of MODALITIES; stated by the file, else guessed.
    origin: its format, in words for the user: "PNG, 8-bit RGB, 500 × 471 pixels".
    notes: sentences that the user should know before trusting it; mostly none.
    choices, choice: titles of everything in the upload that could have been opened, and which of them this is.
    source: data of the reader for writing a mask back. None for raster formats.
    padding: the lowest and the highest voxel, as stored, that stand for "no value here"; None where there are none.
        Voxels that are not finite have no value either (see ``missing``).
    aspect: of pixel space, the height of a pixel over its width; no distances follow from it.
    """

    voxels_xyz: np.ndarray = field(repr=False)
    modality: str
    origin: str
    slope: float = 1.0
    intercept: float = 0.0
    affine: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    choice: int = 0
    source: Any = field(default=None, repr=False)
    padding: tuple[float, float] | None = None
    aspect: float = 1.0

    @property
    def is_volume(self) -> bool:
        """True if there is more than one slice, whichever axis a single one is stored along."""
        return min(self.voxels_xyz.shape) > 1

    @property
    def planes(self) -> tuple[str, ...]:
        """The planes it can be cut in: of a flat image its own, of a stack in pixel space axial ones."""
        return geometry.planes(self.voxels_xyz.shape, self.affine)

    @property
    def acquired_plane(self) -> str:
        """The plane in which it was acquired in thick slices, else the first of ``planes``."""
        return geometry.acquired_plane(self.voxels_xyz.shape, self.affine)

    def shown(self, plane: str = "axial") -> np.ndarray:
        """Return the voxels as slices a radiologist expects: a view (S, H, W), see ``geometry.radiological_view``."""
        return geometry.radiological_view(self.voxels_xyz, self.affine, plane)

    def slice(self, index: int, plane: str = "axial") -> np.ndarray:
        """Return one slice as float32 (H, W), ``background`` where there is none. ValueError for an index outside."""
        slices = self.shown(plane)
        if not 0 <= index < len(slices):
            raise ValueError(f"slice {index} does not exist; the {plane} slices are 0 to {len(slices) - 1}")
        values = self.scaled(slices[index])
        missing = np.isnan(values)
        if missing.any():
            values[missing] = self.background
        return values

    def values(self, most: int = MANY) -> np.ndarray:
        """Return at most ``most`` values of all voxels, evenly spread along each axis: float32 (N,), finite.

        Voxels without a value are left out; a scan of nothing else gives one ``background``.
        """
        flat = self.voxels_xyz.ravel(order="K")
        step = 1 + flat.size // most
        # a step that divides the length of rows would see the same columns of each
        while math.gcd(step, flat.size) > 1:
            step += 1
        values = self.scaled(flat[::step])
        values = values[~np.isnan(values)]
        return values if values.size else np.array([self.background], np.float32)

    @cached_property
    def content_sha256(self) -> str:
        """A hash of the values and their place, hexadecimal: the same for the same image in another lossless format."""
        found = hashlib.sha256(repr(self.voxels_xyz.shape).encode())
        top = 65535 if self.affine is None else 1  # pictures have values in [0, 1], scans whole numbers
        for z in range(self.voxels_xyz.shape[2]):
            values_xy = np.nan_to_num(self.scaled(self.voxels_xyz[:, :, z]).astype(np.float64) * top)
            found.update(np.rint(np.clip(values_xy, -(2**31), 2**31 - 1)).astype("<i4").tobytes())
        return found.hexdigest()

    @cached_property
    def background(self) -> float:
        """The value shown where there is none: air (-1000 HU) in CT, else the lowest of the scan, 0 without any."""
        if self.modality == "ct":
            return AIR
        lowest = np.inf
        for z in range(self.voxels_xyz.shape[2]):
            lowest = np.fmin(lowest, np.fmin.reduce(self.scaled(self.voxels_xyz[:, :, z]), axis=None))
        return float(lowest) if np.isfinite(lowest) else 0.0

    def missing(self, voxels: np.ndarray) -> np.ndarray:
        """Return True for stored voxels without a value, being padding or not finite: bool of the same shape."""
        return np.isnan(self.scaled(voxels))

    def empty_mask(self) -> np.ndarray:
        """Return a mask without lesion, bool (X, Y, Z), in the memory order of the voxels, to read both together."""
        return np.zeros_like(self.voxels_xyz, bool, order="K", subok=False)

    def scaled(self, voxels: np.ndarray) -> np.ndarray:
        """Return the values of stored voxels: float32 of the same shape, NaN where there is none."""
        with np.errstate(all="ignore"):  # slopes and voxels may be as large as they like
            values = voxels.astype(np.float32) * np.float32(self.slope) + np.float32(self.intercept)
        values[~np.isfinite(values)] = np.nan
        if self.padding is not None:
            values[(voxels >= self.padding[0]) & (voxels <= self.padding[1])] = np.nan
        return values

    def spacing(self, plane: str = "axial") -> tuple[float, float, float] | None:
        """Return the millimetres between slices, rows and columns; None in pixel space."""
        return None if self.affine is None else geometry.spacing(self.affine, plane)

    def pixel_hw(self, plane: str = "axial") -> tuple[float, float]:
        """Return the height and width of a pixel as it is drawn: millimetres, in pixel space only their ratio."""
        spacing = self.spacing(plane)
        return (self.aspect, 1.0) if spacing is None else spacing[1:]


def read(files: Sequence[Path], modality: str | None = None, choice: int = 0) -> Scan:
    """Read an upload as a Scan; its format is recognised by content, never by name.

    files: one file, or the several files of a DICOM series; a zip counts as what is in it.
    modality: as stated by the user; None takes the file's, or guesses. choice: index into ``Scan.choices``.

    Raises UnreadableImage for whatever the files are, ValueError for an unknown modality or choice.
    """
    if modality is not None and modality not in MODALITIES:
        raise ValueError(f"modality {modality!r}; allowed are {', '.join(MODALITIES)}")
    from . import opening

    return opening.read(files, modality, choice)
