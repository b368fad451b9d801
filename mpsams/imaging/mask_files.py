"""A mask's file on the grid of its image: pictures, NIfTI and DICOM images, also zipped, by the one rule of
``mask_values``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import Scan, UnreadableImage, archive, geometry, grid, mask_values, nifti, opening, raster
from .mask_values import Codes, LesionMask

_ALLOWED = "a mask is one PNG, JPEG or TIFF of a flat image, or one NIfTI or DICOM volume, also zipped"


def read(files: Path | Sequence[Path], image: Scan, codes: Codes | None = None) -> LesionMask:
    """Read the lesion mask of an image, bool (X, Y, Z) on its grid, and notes on the values and the grid.

    files: one file, or those of a DICOM series; told by content. Values: ``mask_values.lesion``. A volume lies on the
    image's grid in any orientation (``grid.onto``); a picture has the size of the image's only slice. codes: of a data
    set. Raises UnreadableImage, and nothing else, whatever the files.
    """
    files = [Path(files)] if isinstance(files, str | Path) else list(files)
    if len(files) == 1 and opening.kind(files[0]) == "zip":
        with tempfile.TemporaryDirectory() as folder:
            return _read(archive.unpack(files[0], Path(folder)), image, codes)
    return _read(files, image, codes)


def _read(files: list[Path], image: Scan, codes: Codes | None) -> LesionMask:
    kinds = [opening.kind(file) for file in files]
    if kinds == ["raster"]:
        return _picture(files[0], image)
    scan = opening.read(files, "mri", 0)  # stated, so that it is not guessed, and DICOM is not windowed
    if scan.choices and kinds == ["nifti"]:
        return _on_grid(nifti.volumes(files[0]), image, codes)
    if len(scan.choices) > 1:
        raise UnreadableImage(f"There are {len(scan.choices)} images in this mask; {_ALLOWED}.")
    return _on_grid([scan], image, codes)


def _picture(file: Path, image: Scan) -> LesionMask:
    """Read a picture on the one slice of a flat image, with or without geometry."""
    slices, *shape_hw = image.shown(image.planes[0]).shape
    if slices != 1:
        raise UnreadableImage("A picture cannot be the mask of a volume; allowed are NIfTI, DICOM-SEG and COCO.")
    with file.open("rb") as stream:
        found = raster.mask_of(stream.read(raster.MAX_BYTES + 1), tuple(shape_hw))
    mask_xyz, map_xyz = image.empty_mask(), None if found.labels is None else image.empty_mask().view(np.uint8)
    geometry.radiological_view(mask_xyz, image.affine, image.planes[0])[0] = found.lesion
    if map_xyz is not None and found.labels is not None:
        geometry.radiological_view(map_xyz, image.affine, image.planes[0])[0] = found.labels
    return LesionMask(mask_xyz, found.notes, map_xyz)


def _on_grid(scans: list[Scan], image: Scan, codes: Codes | None) -> LesionMask:
    placed = [grid.onto(scan, image) for scan in scans]
    found = mask_values.lesion(placed, codes)
    mask_xyz, map_xyz = image.empty_mask(), None if found.labels is None else image.empty_mask().view(np.uint8)
    np.copyto(mask_xyz, found.lesion)
    if map_xyz is not None and found.labels is not None:
        np.copyto(map_xyz, found.labels)
    return LesionMask(mask_xyz, placed[0].notes[len(scans[0].notes) :] + found.notes, map_xyz)
