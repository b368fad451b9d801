"""Small volumes in the official layouts, written by nibabel, and what a reader should make of them.

Axes: S slices of H x W pixels as a radiologist sees them: from the feet up, front to back, right to left.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from PIL import Image

SHAPE = (7, 20, 26)
SPACING = (3.0, 9.0, 8.0)
CORNER = (100.0, 80.0, -50.0)  # millimetres, RAS, of the voxel shown first
AXES = "LPS"  # the directions in which a volume stored as it is shown runs
ORIENTATIONS = (AXES, "RAS", "RPI", "LIA", "PSR", "SAL")


class Made(NamedTuple):
    """The data written for a patient: values of each channel, and the codes of the mask."""

    channels: tuple[np.ndarray, ...]
    codes_shw: np.ndarray


def body(seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Hounsfield units of a lopsided body in air, int16 (S, H, W), and a ball in it; the first and last
    slice are air.
    """
    source = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = (((y - 0.1) / 0.7) ** 2 + ((x + 0.2) / 0.6) ** 2 < 1) & (np.abs(z) < 0.9)
    values = np.where(inside, 60 + 80 * x + 50 * y + 20 * z + source.normal(0, 10, shape), -1000)
    low = source.uniform(-0.3, 0.1, 3)
    ball = ((z - low[0]) ** 2 + (y - low[1]) ** 2 + (x - low[2]) ** 2 < 0.2) & inside
    return (values + 70 * ball).round().astype(np.int16), ball


def save(
    path: Path, shown_shw: np.ndarray, axes: str = AXES, spacing: tuple[float, ...] = SPACING, shift: float = 0.0
) -> Path:
    """Write a volume whose voxels are stored along these axes (nibabel's codes), moved by ``shift`` millimetres."""
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    affine[:3, 3] = CORNER
    affine[0, 3] += shift
    image = nibabel.Nifti1Image(shown_shw.transpose(2, 1, 0), affine)
    turned = image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(axes)))
    assert nibabel.aff2axcodes(turned.affine) == tuple(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(turned.dataobj), turned.affine), path)
    return path


def spine(path: Path) -> Path:
    """Write a volume of twelve thick sagittal slices, 4 mm apart, of 40 rows and 48 columns of 1 mm."""
    return save(path, body(1, (40, 48, 12))[0], "PSR", (1.0, 1.0, 4.0))


def sagittal_slice(path: Path, shown_hw: np.ndarray) -> Path:
    """Write a single sagittal slice: rows towards the feet, columns to the back."""
    affine = np.array([[0.0, 0, 7, 0], [-2, 0, 0, 0], [0, -1.5, 0, 0], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(shown_hw.T[:, :, None], affine), path)
    return path


def hecktor_2020(root: Path, patients: int = 3, axes: str = AXES) -> dict[str, Made]:
    """hecktor_nii/CASE_ct.nii.gz beside CASE_gtvt.nii.gz."""
    made = {}
    for seed in range(patients):
        name, (values, ball) = f"CHGJ{seed:03d}", body(seed)
        save(root / "hecktor_nii" / f"{name}_ct.nii.gz", values, axes)
        save(root / "hecktor_nii" / f"{name}_gtvt.nii.gz", ball.astype(np.uint8), axes)
        made[name] = Made((values,), ball.astype(np.uint8))
    return made


def hecktor_2022(root: Path, patients: int = 3, axes: str = AXES) -> dict[str, Made]:
    """imagesTr/CASE__CT.nii.gz (with a PET) and labelsTr/CASE.nii.gz, where 2 is a lymph node."""
    made = {}
    for seed in range(patients):
        name, (values, ball) = f"CHUM-{seed:03d}", body(seed + 20)
        codes = ball.astype(np.uint8)
        codes[3, 2:5, 3:6] = 2
        save(root / "imagesTr" / f"{name}__CT.nii.gz", values, axes)
        save(root / "labelsTr" / f"{name}.nii.gz", codes, axes)
        made[name] = Made((values,), codes)
    return made


def boxes(path: Path, rows: dict[str, tuple]) -> None:
    """The challenge's table: per case two corners (s, h, w) in voxels as shown, written in millimetres, LPS."""
    lines = ["PatientID,x1,x2,y1,y2,z1,z2"]
    for name, corners in rows.items():
        (z1, y1, x1), (z2, y2, x2) = (
            np.array(corner) * SPACING + (CORNER[2], -CORNER[1], -CORNER[0]) for corner in corners
        )
        lines.append(f"{name},{x1},{x2},{y1},{y2},{z1},{z2}")
    path.write_text("\n".join(lines) + "\n")


def brats(
    root: Path,
    high: int = 2,
    low: int = 1,
    sequences: tuple[str, ...] = ("t1",),
    axes: str = AXES,
    shape: tuple[int, int, int] = SHAPE,
) -> dict[str, Made]:
    """HGG (.nii.gz, codes 0, 1, 2, 4) and LGG (.nii, codes 0 and 1), as many patients as said."""
    made = {}
    for seed in range(high + low):
        grade, ending = ("HGG", ".nii.gz") if seed < high else ("LGG", ".nii")
        name, (values, ball) = f"Brats18_{grade}_{seed}", body(seed + 40, shape)
        codes = ball.astype(np.uint8)
        if grade == "HGG":
            codes[1::3] *= 2
            codes[2::3] *= 4
        channels = tuple(
            np.where(values > -500, values * (2 + k) + 300 + 100 * k, 0).clip(0).astype(np.uint16)
            for k in range(len(sequences))
        )
        for sequence, channel in zip(sequences, channels):
            save(root / grade / name / f"{name}_{sequence}{ending}", channel, axes)
        save(root / grade / name / f"{name}_seg{ending}", codes, axes)
        made[name] = Made(channels, codes)
    return made


def picture(path: Path, pixels: np.ndarray) -> None:
    """Write a picture of uint8 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def folder(root: Path) -> dict[str, Made]:
    """images/ and masks/ with three pictures of different sizes and a volume; masks named in each way allowed."""
    made, source = {}, np.random.default_rng(7)
    for name, ending, size in (("a", "", (20, 30)), ("b", "_mask", (25, 25)), ("c.1", "_seg", (40, 20))):
        pixels, mask = source.integers(20, 256, size, dtype=np.uint8), np.zeros(size, np.uint8)
        mask[3:9, 5:12] = 255
        picture(root / "images" / f"{name}.png", pixels)
        picture(root / "masks" / f"{name}{ending}.png", mask)
        made[name] = Made(((pixels / np.float32(255))[None],), mask[None])
    values, ball = body(60)
    save(root / "images" / "scan.nii.gz", values, "RAS")
    save(root / "masks" / "scan.nii.gz", ball.astype(np.uint8), "RAS")
    return made | {"scan": Made((values,), ball.astype(np.uint8))}


WRITERS = {"hecktor": hecktor_2020, "brats": brats, "folder": folder}  # by data set, what writes a folder of it
