"""One grid for images and masks: whether two volumes lie on the same voxels, and turning one onto the axes of the
other.

Axes: X, Y, Z as stored.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import Scan, UnreadableImage

SAME = 0.05  # of a voxel by which the same corner may lie elsewhere; more is another grid

_TURNED = "The {} is stored in another orientation than its image and was turned onto the image's axes."
_UNPLACED = (
    "The {} or its image does not state where it lies, so the voxels of both were taken as the same, in stored order."
)
_ALLOWED = "a {} lies on exactly the volume's grid, in any orientation, so resample it to the image first"


class OtherGrid(UnreadableImage):
    """Two volumes that lie on different grids."""


def onto(scan: Scan, image: Scan, name: str = "mask") -> Scan:
    """Bring a scan onto the image's grid: its voxels as a view with axes turned and flipped as the image's are, and the
    image's affine.

    Both affines decide, to SAME of a voxel at every corner. Where one of the two does not state its geometry, sizes
    decide.
    name: what the scan is called in sentences. Raises OtherGrid saying how they differ.
    """
    affine, wanted = _stated_affine(scan), _stated_affine(image)
    if affine is None or wanted is None:
        if scan.voxels_xyz.shape != image.voxels_xyz.shape:
            raise OtherGrid(_refusal(scan, image, name))
        unplaced = (_UNPLACED.format(name),) * _differs(scan, image)
        return replace(scan, affine=image.affine, notes=scan.notes + unplaced)
    turn = _turn(affine, wanted, scan.voxels_xyz.shape, image.voxels_xyz.shape)
    if turn is None:
        raise OtherGrid(_refusal(scan, image, name))
    axes, flips = turn
    voxels_xyz = scan.voxels_xyz.transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    turned = (_TURNED.format(name),) * (axes != (0, 1, 2) or any(flips))
    return replace(scan, voxels_xyz=voxels_xyz, affine=image.affine, notes=scan.notes + turned)


def _stated_affine(scan: Scan) -> np.ndarray | None:
    """Return the affine of a scan that states its position, else None; NIfTI of unknown orientation states none."""
    if scan.affine is None or scan.source is None:
        return scan.affine
    from nibabel import Nifti1Header

    header = scan.source
    has_no_affine = isinstance(header, Nifti1Header) and not (header["qform_code"] or header["sform_code"])
    return None if has_no_affine else scan.affine


def _differs(scan: Scan, image: Scan) -> bool:
    """Return True if the stated geometry of both differs, so that they are two grids."""
    if scan.affine is None or image.affine is None:
        return image.affine is not None
    return _turn(scan.affine, image.affine, scan.voxels_xyz.shape, image.voxels_xyz.shape) is None


def _turn(affine: np.ndarray, other: np.ndarray, shape: tuple[int, ...], other_shape: tuple[int, ...]) -> tuple | None:
    """Return for each axis of the other grid the axis of this one that runs along it, and True if it runs backwards;
    None if no turn makes the grids one.
    """
    between = np.linalg.inv(other) @ affine  # from voxels of this grid to voxels of the other
    axes = tuple(int(axis) for axis in np.abs(between[:3, :3]).argmax(axis=1))
    if sorted(axes) != [0, 1, 2] or tuple(shape[axis] for axis in axes) != tuple(other_shape):
        return None
    flips = tuple(bool(between[row, axis] < 0) for row, axis in enumerate(axes))
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
    placed = corners @ between[:3, :3].T + between[:3, 3]
    expected = corners[:, axes]
    expected = np.where(flips, np.array(other_shape) - 1 - expected, expected)
    return (axes, flips) if np.abs(placed - expected).max() <= SAME else None


def _refusal(scan: Scan, image: Scan, name: str) -> str:
    """Return a sentence on the differences of two grids in size, spacing, orientation and position."""
    theirs, ours = scan.voxels_xyz.shape, image.voxels_xyz.shape
    affine, wanted = scan.affine, image.affine
    if sorted(theirs) != sorted(ours) or affine is None or wanted is None:
        return f"The {name} is {_by(theirs)} voxels but its image is {_by(ours)}; {_ALLOWED.format(name)}."
    differ = []
    lengths, own = (np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (affine, wanted))
    if np.abs(np.sort(lengths) - np.sort(own)).max() * max(ours) > SAME * own.min():
        differ.append(f"voxels of {_by(lengths, 4)} mm instead of {_by(own, 4)} mm")
    apart = np.linalg.inv(wanted[:3, :3] / own) @ (affine[:3, :3] / lengths)
    degrees = np.degrees(np.arccos(np.clip(np.abs(apart).max(axis=0).min(), 0, 1)))
    if degrees > 0.01:
        differ.append(f"axes turned by {degrees:.2g}°")
    centres = [
        matrix[:3, :3] @ ((np.array(shape) - 1) / 2) + matrix[:3, 3]
        for matrix, shape in ((affine, theirs), (wanted, ours))
    ]
    moved = float(np.linalg.norm(centres[0] - centres[1]))
    if moved > SAME * own.min():
        differ.append(f"its centre {moved:.3g} mm away")
    differ = differ or ["its axes in another order"]
    return f"The {name} lies on another grid than its image: {', '.join(differ)}; {_ALLOWED.format(name)}."


def _by(numbers, digits: int = 6) -> str:
    return " × ".join(f"{number:.{digits}g}" for number in numbers)
