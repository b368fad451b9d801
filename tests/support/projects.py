"""Annotation projects with flat images and drawn masks."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from mpsams.annotation.project import Project

FLAT, DEEP = (48, 64, 1), (20, 18, 5)  # (X, Y, Z)
AFFINE = np.array([[-2.0, 0, 0, 7], [0, 1.5, 0, -3], [0, 0, 4, 11], [0, 0, 0, 1]])


def drawn(k: int, shape: tuple[int, int, int]) -> np.ndarray:
    """The k-th mask of a shape; no two are alike."""
    return np.random.default_rng(k).random(shape) < 0.4


def step(project: Project, k: int) -> None:
    """The k-th thing that the app does in the test of kill -9."""
    item = project.items()[k % 3]
    mask = drawn(k, item.shape_xyz)
    if k % 5 == 4:
        project.accept(item.id, mask, user="Dr. B", seconds=1)
    else:
        project.save(item.id, mask, user="Dr. A", seconds=1)


def picture(path: Path, seed: int = 0) -> Path:
    """A PNG of FLAT."""
    pixels_hw = np.random.default_rng(seed).integers(0, 255, FLAT[1::-1], np.uint8)
    Image.fromarray(pixels_hw).save(path, "PNG")
    return path


def volume(path: Path, seed: int = 0) -> Path:
    """A NIfTI of DEEP whose header names a patient."""
    image = nibabel.Nifti1Image(np.random.default_rng(seed).integers(0, 900, DEEP, np.int16), AFFINE)
    image.header["descrip"] = b"DOE^JANE"
    image.to_filename(path)
    return path


@pytest.fixture
def project(tmp_path):
    with Project(tmp_path / "project") as opened:
        yield opened


@pytest.fixture
def item(project, tmp_path):
    return project.add(picture(tmp_path / "a.png"))
