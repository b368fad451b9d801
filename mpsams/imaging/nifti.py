"""NIfTI-1 and NIfTI-2 files to volumes, and lesion masks back onto the grid they came from."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tempfile
from pathlib import Path

import numpy as np

from . import Scan, UnreadableImage, geometry

MAX_BYTES = 2**30  # of the voxels, decompressed


def read(path: Path, modality: str | None = None, choice: int = 0) -> Scan:
    """A NIfTI file, plain or gzipped, as a Scan whose voxels are memory-mapped."""
    import nibabel

    image = nibabel.load(path)
    voxels_xyz = np.asarray(image.dataobj.get_unscaled())
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    low = float(voxels_xyz.min()) * slope + intercept
    guessed = modality or ("ct" if low < -200 else "mri")
    size = " × ".join(map(str, voxels_xyz.shape))
    return Scan(voxels_xyz, guessed, f"NIfTI, {size} voxels", float(slope), float(intercept), image.affine, source=image.header)
