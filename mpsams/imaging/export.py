"""In which formats a lesion mask can leave, and its bytes in each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import Scan, geometry, nifti, raster

ENDINGS = {"png": ".png", "nifti": ".nii.gz", "dicom-seg": ".dcm"}


def formats(scan: Scan) -> tuple[str, ...]:
    """Return the formats, of ENDINGS, that keep what is known about where the mask lies; the first is the best.

    A flat image without geometry leaves as "png". A stack without geometry leaves as "nifti" on its grid of
    pixels, marked as of unknown orientation. DICOM with geometry and all the UIDs that a DICOM-SEG refers to adds
    "dicom-seg".
    """
    flat = scan.affine is None and scan.voxels_xyz.shape[2] == 1
    return ("png" if flat else "nifti", *("dicom-seg",) * _referable(scan))


def write(
    scan: Scan,
    mask_xyz: np.ndarray,
    format: str,
    algorithm: str = "MPS-AMS",
    identified: bool = False,
    labels: Sequence[str] = ("lesion",),
) -> tuple[bytes, str]:
    """Write a bool (X, Y, Z) mask of this scan as a file's bytes; return them and the ending of its name.

    mask_xyz: also a label map, uint8, which is written with its values, as DICOM-SEG with a segment for each of labels.
    algorithm: who drew it, and identified: whether the patient's name and the like are kept; for DICOM-SEG only,
    the others never hold any. ValueError for a format not in ``formats(scan)`` and for a mask of another type or shape.
    """
    if format not in formats(scan):
        raise ValueError(f"format {format!r}; allowed are {', '.join(formats(scan))}")
    if mask_xyz.shape != scan.voxels_xyz.shape:
        raise ValueError(f"mask is of shape {mask_xyz.shape}; allowed is {scan.voxels_xyz.shape}")
    if format == "png":
        return raster.write_mask(geometry.radiological_view(mask_xyz, None)[0]), ENDINGS[format]
    if format == "nifti":
        return nifti.write_mask(scan, mask_xyz), ENDINGS[format]
    from .dicom import seg

    return seg.write(scan, mask_xyz, labels, algorithm, identified), ENDINGS[format]


def _referable(scan: Scan) -> bool:
    """Return True if ``dicom.seg`` can write a mask of it."""
    from .dicom import Series

    return isinstance(scan.source, Series) and scan.affine is not None and scan.source.referable
