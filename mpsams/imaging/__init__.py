"""Bytes to pixels with their geometry: the one type every reader returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MODALITIES = ("ultrasound", "ct", "mri")


class UnreadableImage(ValueError):
    """An upload we refuse; its message is one plain sentence for the person who uploaded it."""


@dataclass(frozen=True)
class Scan:
    """One grey image as a person opened it.

    pixels: (H, W) float32; [0, 1] for raster formats, Hounsfield units for CT, raw for MRI.
    modality: "ultrasound", "ct" or "mri".
    origin: what it was, in words for the user: "PNG, 8-bit RGB, 500 × 471 pixels".
    """

    pixels: np.ndarray
    modality: str
    origin: str


def read(data: bytes, modality: str = "ultrasound") -> Scan:
    """An uploaded file as a Scan, its format told by content, never by name.

    Raises UnreadableImage for whatever the bytes are, ValueError for an unknown modality.
    """
    if modality not in MODALITIES:
        raise ValueError(f"modality {modality!r}; allowed are {', '.join(MODALITIES)}")
    from . import raster

    return raster.read(data, modality)
