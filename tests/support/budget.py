"""Volumes and sizes that tests of the memory budget share."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

MIB = 2**20


def volume(path: Path, shape: tuple[int, int, int], kind: type = np.int16) -> Path:
    """A volume of equal voxels, far smaller as a file than decoded, but for a bright block."""
    voxels = np.zeros(shape, kind)
    voxels[4:12, 4:12, :] = 100
    nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 1.0, 1.0])).to_filename(path)
    return path
