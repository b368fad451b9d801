"""DICOM images before their pixels are decoded: the file, its frames, their positions, the meaning of samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Lut:
    """A lookup table as stored: entries of ``data`` in numpy's ``dtype``, of which 2**bits - 1 is the brightest.

    first: the value of the first entry. Kept as bytes that frames share, for a file can name one table for thousands
    of frames.
    """

    first: int
    bits: int
    entries: int
    dtype: str
    data: bytes = field(repr=False)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the entries at these values, for those outside the nearest: float32 of the same shape."""
        table = np.frombuffer(self.data, self.dtype, self.entries).astype(np.float32)
        where = np.clip(values.astype(np.float64) - self.first, 0, self.entries - 1)
        return table[np.rint(where).astype(np.intp)]


@dataclass(frozen=True)
class Place:
    """The position of a frame, in DICOM's millimetres, in which left, posterior and superior are positive.

    position: of the centre of its first pixel. across, down: unit vectors along rows and columns, at right angles.
    spacing: between rows, between columns. thickness: of the slice, or the distance to the next; None if unsaid.
    """

    position: tuple[float, ...]
    across: tuple[float, ...]
    down: tuple[float, ...]
    spacing: tuple[float, float]
    thickness: float | None

    @property
    def normal(self) -> np.ndarray:
        """Unit vector (3,) out of the slice, across x down."""
        return np.cross(self.across, self.down)


@dataclass(frozen=True, eq=False)
class Image:
    """One file without its pixels: what it is, how they are coded, and where in the file they begin.

    UIDs are "" where there is no valid one. modality: one of DICOM's codes, "" for an unknown one. length: bytes of
    pixels from ``at`` on, None where they are in compressed fragments. allocated, bits: of a sample. palette: red,
    green and blue, or nothing. aspect: height of a pixel over its width, None where nothing says it. padding: the
    lowest and highest sample that are no part of the picture, None if none are.
    patient: a Dataset of the elements that name the patient, unparsed.
    """

    path: Path
    sop_class: str
    sop: str
    study: str
    series: str
    frame_of_reference: str
    series_number: str
    modality: str
    localizer: bool
    lossy: bool
    rows: int
    columns: int
    samples: int
    photometric: str
    planar: int
    allocated: int
    bits: int
    signed: bool
    frames: int
    syntax: str
    at: int
    length: int | None
    vr: str
    palette: tuple[Lut, ...]
    padding: tuple[int, int] | None
    aspect: float | None
    patient: Any = field(repr=False)

    @property
    def colour(self) -> bool:
        return self.samples == 3 or bool(self.palette)

    @property
    def dtype(self) -> np.dtype:
        """The type of stored samples."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.allocated // 8}")

    @property
    def range(self) -> tuple[int, int]:
        """The lowest and highest sample that can be stored."""
        low = -(2 ** (self.bits - 1)) if self.signed else 0
        return low, low + 2**self.bits - 1


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of an Image, index from 0, and what turns its samples into values.

    place: None without valid geometry; misplaced: there was some, but not valid. number: the image's own, 0 for none.
    marks: what may tell it apart from others at its place, see ``marks``. Value = slope * sample + intercept, or
    modality_lut of the sample. window (centre, width, function) or voi_lut say what is black and what is white among
    values. tile: top, left, rows and columns of a picture that is only a part of a frame; None is all of it.
    """

    image: Image
    index: int
    place: Place | None
    misplaced: bool
    number: float
    marks: dict[str, Any]
    slope: float
    intercept: float
    modality_lut: Lut | None
    window: tuple[float, float, str] | None
    voi_lut: Lut | None
    tile: tuple[int, int, int, int] | None = None

    @property
    def placed(self) -> Place:
        """The place of a frame among others that have one."""
        assert self.place is not None
        return self.place

    @property
    def rows(self) -> int:
        return self.tile[2] if self.tile else self.image.rows

    @property
    def columns(self) -> int:
        return self.tile[3] if self.tile else self.image.columns

    @property
    def order(self) -> tuple[float, ...]:
        """Sorts frames at one place that nothing else tells apart."""
        stated = (self.marks.get(name, 0.0) for name in ("temporal position", "acquisition number", "echo time"))
        return (*stated, self.number, self.index)

    def mark(self, name: str) -> Any:
        """Return the value of one of ``marks.ORDER``, None where nothing says it."""
        if name == "series":
            return self.image.series or None
        if name == "file":
            return self.number, self.image.sop, str(self.image.path)
        return (self.number, self.index) if name == "image number" else self.marks.get(name)
