"""Siemens mosaics: the slices of a volume side by side in one image, cut into slices that lie where they were taken."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from .. import UnreadableImage
from .elements import OPENS, number, raw, text
from .frames import Frame, Place

_CSA, _COUNT = 0x00291010, 0x0019100A  # private: the scanner's own header, the number of slices
_MAX_SLICES, _MAX_HEADER = 1024, 2**20
_MIN_SIDE = 16
TAGS = (0x00290010, 0x00190010, _CSA, _COUNT)


def is_mosaic(data: Any) -> bool:
    """Return True if a header says that its image is a mosaic."""
    return "MOSAIC" in text(data, "ImageType").split()


def tiles(frame: Frame, data: Any) -> list[Frame]:
    """Return the slices of a mosaic as frames, each a tile of it.

    UnreadableImage where it is not known how many, or where they lie.
    """
    count, normal = _stated_slices(data)
    across = math.ceil(math.sqrt(count))
    rows, columns = frame.image.rows // max(1, across), frame.image.columns // max(1, across)
    if not 1 <= count <= _MAX_SLICES or frame.image.frames != 1 or min(rows, columns) < _MIN_SIDE:
        raise UnreadableImage(
            f"This DICOM is a mosaic, many slices in one image, but does not say how many; {OPENS}, and mosaics with"
            " Siemens' headers."
        )
    gap = number(data, "SpacingBetweenSlices") or number(data, "SliceThickness")
    places: list[Place | None] = [None] * count
    if frame.place is not None:
        if not 1e-4 <= gap <= 1e3 or normal is None or abs(abs(normal @ frame.place.normal) - 1) > 0.01:
            raise UnreadableImage(
                "This DICOM is a mosaic, many slices in one image, but does not say where they lie; "
                f"{OPENS}, and mosaics with Siemens' headers."
            )
        place, (down_mm, across_mm) = frame.place, frame.place.spacing
        corner = np.array(place.position)  # of the mosaic, were its middle the middle of the slices
        corner = corner + np.multiply(place.across, across_mm * (frame.image.columns - columns) / 2)
        corner = corner + np.multiply(place.down, down_mm * (frame.image.rows - rows) / 2)
        places = [replace(place, position=tuple(map(float, corner + k * gap * normal))) for k in range(count)]
    return [
        replace(frame, place=place, tile=(k // across * rows, k % across * columns, rows, columns))
        for k, place in enumerate(places)
    ]


def _stated_slices(data: Any) -> tuple[int, np.ndarray | None]:
    """Return the stated number of slices, 0 without one, and the direction, unit (3,), in which they follow."""
    from nibabel.nicom import csareader

    element, header = raw(data, _CSA), {}
    if element is not None and isinstance(element.value, bytes) and len(element.value) <= _MAX_HEADER:
        try:
            header = csareader.read(element.value)["tags"]
        except Exception:  # a private header may be anything
            header = {}
    plain = raw(data, _COUNT)
    value = plain.value if plain is not None else b""
    count = (header.get("NumberOfImagesInMosaic", {}).get("items") or [0])[0]
    if not count and isinstance(value, bytes) and len(value) == 2:
        count = int.from_bytes(value, "little" if plain.is_little_endian else "big")
    normal = np.array(header.get("SliceNormalVector", {}).get("items") or [0.0], float)
    usable = normal.shape == (3,) and np.isfinite(normal).all() and 0.99 < np.linalg.norm(normal) < 1.01
    return int(count), normal / np.linalg.norm(normal) if usable else None
