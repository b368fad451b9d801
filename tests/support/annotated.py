"""Annotated images and volumes for exports."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from mpsams import imaging
from mpsams.imaging import Scan
from tests.support import made_volumes

SECRET = "SECRET-ANNE"


def volume(folder: Path, axes: str = "PSR", oblique: bool = False, seed: int = 0) -> Scan:
    """A volume from a file whose name and text are secret."""
    path = made_volumes.save(folder / f"{SECRET}.nii.gz", made_volumes.body(seed)[0], axes)
    if oblique:
        image = nibabel.load(path)
        turn = np.eye(4)
        turn[:3, :3] = nibabel.eulerangles.euler2mat(0.3, 0.2, -0.4)
        image = nibabel.Nifti1Image(np.asarray(image.dataobj), turn @ image.affine)
        image.header["descrip"] = SECRET.encode()
        nibabel.save(image, path)
    return imaging.read([path])
