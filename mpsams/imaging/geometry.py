"""Orientation of voxels: from stored order to the radiologist's view and back, by views that copy nothing.

Axes: X, Y, Z as stored; S slices of H x W pixels as shown. Millimetres are RAS (right, anterior and superior
are positive, as in NIfTI); DICOM's own are LPS.
"""

from __future__ import annotations

import numpy as np

PLANES = ("axial", "coronal", "sagittal")
THICK = 1.5  # times as far apart as their pixels that slices lie which were acquired as such, at least
# For each plane, the world axis (0 R, 1 A, 2 S) along which slices, rows and columns run, and whether upwards.
# Radiological: the patient's left is on the right of an axial or coronal slice, the nose on the left of a sagittal one.
_SHOWN = {
    "axial": ((2, True), (1, False), (0, False)),
    "coronal": ((1, False), (2, False), (0, False)),
    "sagittal": ((0, False), (2, False), (1, False)),
}
_PIXELS = np.diag([-1.0, -1.0, 1.0, 1.0])  # columns to the left, rows to the back: shown as stored


def radiological_view(voxels_xyz: np.ndarray, affine: np.ndarray | None, plane: str = "axial") -> np.ndarray:
    """Return slices as a radiologist expects them: a view (S, H, W) of the voxels, so writing to it writes to them.

    Axial slices run from the feet up, coronal ones from front to back, sagittal ones from right to left. An
    oblique volume is cut along the voxel axes closest to the body's (``nibabel.io_orientation``). affine: (4, 4)
    voxels to RAS millimetres; None shows pixels as they are stored. ValueError for an unknown plane.
    """
    axes, upwards = _axes(affine, plane)
    turned = voxels_xyz.transpose(axes)
    return turned[tuple(slice(None, None, 1 if up else -1) for up in upwards)]


def planes(shape_xyz: tuple[int, ...], affine: np.ndarray | None) -> tuple[str, ...]:
    """Return the planes that voxels can be cut in, the first of which they are worked on in: of one slice its own, of a
    stack in pixel space axial ones.
    """
    sides = {plane: [shape_xyz[axis] for axis in _axes(affine, plane)[0][1:]] for plane in PLANES}
    found = tuple(plane for plane in PLANES if min(sides[plane]) > 1)
    return PLANES[:1] if affine is None and len(found) > 1 else found


def acquired_plane(shape_xyz: tuple[int, ...], affine: np.ndarray | None) -> str:
    """Return the plane in which a volume was acquired in thick slices, else the first of ``planes``."""
    there = planes(shape_xyz, affine)
    if affine is None:
        return there[0]
    spacings = ((plane, spacing(affine, plane)) for plane in there)
    return next((plane for plane, (between, *pixel) in spacings if between >= THICK * max(pixel)), there[0])


def spacing(affine: np.ndarray, plane: str = "axial") -> tuple[float, float, float]:
    """Return the millimetres between neighbouring slices, rows and columns of a plane."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    axes, _ = _axes(affine, plane)
    between, rows, columns = (float(lengths[axis]) for axis in axes)
    return between, rows, columns


def steps(affine: np.ndarray, plane: str = "axial") -> np.ndarray:
    """Millimetres, RAS, from a voxel to its neighbour in the next slice, row and column of a plane: a row each, (3, 3).

    They are at right angles unless the volume is sheared, as by a tilted gantry; ``spacing`` holds their lengths.
    """
    axes, upwards = _axes(affine, plane)
    return np.array([affine[:3, axis] * (1 if up else -1) for axis, up in zip(axes, upwards, strict=True)])


def position(affine: np.ndarray, shape_xyz: tuple[int, ...], plane: str, index_shw: tuple[int, int, int]) -> np.ndarray:
    """Millimetres, RAS, of the middle of a voxel: its slice, row and column as ``shown`` has them -> (3,)."""
    axes, upwards = _axes(affine, plane)
    voxel = np.zeros(3)
    for axis, up, index in zip(axes, upwards, index_shw, strict=True):
        voxel[axis] = index if up else shape_xyz[axis] - 1 - index
    return affine[:3, :3] @ voxel + affine[:3, 3]


def letters(direction: np.ndarray) -> str:
    """Return the sides of the patient that a direction, RAS, points to, nearest first: "L", or "PS" for one between
    back and head.

    A side counts from 15 degrees on.
    """
    shares = np.asarray(direction, float) / np.linalg.norm(direction)
    order = sorted(
        (axis for axis in range(3) if abs(shares[axis]) >= np.sin(np.radians(15))), key=lambda axis: -abs(shares[axis])
    )
    return "".join("RAS"[axis] if shares[axis] > 0 else "LPI"[axis] for axis in order)


def voxel_mm3(affine: np.ndarray) -> float:
    """Return cubic millimetres of a voxel, also where the axes are not at right angles."""
    return float(abs(np.linalg.det(affine[:3, :3])))


def pixel_mm2(affine: np.ndarray, plane: str = "axial") -> float:
    """Return square millimetres of a pixel in the slices of a plane."""
    _, row, column = steps(affine, plane)
    return float(np.linalg.norm(np.cross(row, column)))


def angle(affine: np.ndarray) -> float:
    """Return by how many degrees the voxel grid is turned away from the body's axes; 0 for a straight scan."""
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    nearest = np.abs(unit).max(axis=0).min()
    return float(np.degrees(np.arccos(min(1.0, nearest))))


def usable(affine: np.ndarray) -> bool:
    """Return True if a (4, 4) matrix is finite, spans space, and has voxels at most 1000 times as long as wide."""
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        volume = np.abs(np.linalg.det(affine[:3, :3] / lengths))  # of a voxel with sides of 1
    return bool(np.isfinite(affine).all() and lengths.max() <= 1000 * lengths.min() and volume > 0.01)


def is_sheared(affine: np.ndarray) -> bool:
    """Return True if voxel axes are not at right angles, to about 0.01 degrees."""
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return not np.allclose(unit.T @ unit, np.eye(3), rtol=0, atol=1e-4)


def differing_axes(affine: np.ndarray, other: np.ndarray) -> tuple[int, ...]:
    """Return the world axes (0 R, 1 A, 2 S) that two affines find along different axes or in opposite directions."""
    places = [
        {world: (axis, sign) for axis, (world, sign) in enumerate(zip(*_orientation(matrix), strict=True))}
        for matrix in (affine, other)
    ]
    return tuple(world for world in range(3) if places[0].get(world) != places[1].get(world))


def _axes(affine: np.ndarray | None, plane: str) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Return the voxel axes along slices, rows and columns, and whether each is shown in the direction it is stored."""
    if plane not in PLANES:
        raise ValueError(f"plane {plane!r}; allowed are {', '.join(PLANES)}")
    worlds, signs = _orientation(_PIXELS if affine is None else affine)
    axes, upwards = [], []
    for world, up in _SHOWN[plane]:
        axes.append(worlds.index(world))
        upwards.append((signs[axes[-1]] > 0) == up)
    return tuple(axes), tuple(upwards)


def _orientation(affine: np.ndarray) -> tuple[list[int], list[int]]:
    """Return the closest world axis of each voxel axis, and +1 or -1 for the direction along it."""
    if np.array_equal(affine, _PIXELS):  # so that a picture needs no nibabel
        return [0, 1, 2], [-1, -1, 1]
    from nibabel.orientations import io_orientation

    found = io_orientation(affine)
    return [int(axis) for axis in found[:, 0]], [int(sign) for sign in found[:, 1]]
