"""Affines that tests of geometry share."""

from __future__ import annotations

from itertools import permutations, product

import nibabel
import numpy as np

SHAPE = (4, 5, 6)
LENGTHS = (0.7, 0.9, 3.1)  # of a voxel in mm


def rotation(degrees: float, axis: np.ndarray) -> np.ndarray:
    """Rodrigues."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def straight_affines() -> dict[str, np.ndarray]:
    """All 48 ways to store a volume along the body's axes, by nibabel's name: where i, j and k run to."""
    found = {}
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[:, order] * signs * LENGTHS
        affine[:3, 3] = (-31.5, 17.25, 90.0)
        found["".join(nibabel.aff2axcodes(affine))] = affine
    return found


def oblique_affines() -> dict[str, np.ndarray]:
    """Turned and sheared ones."""
    rng, found = np.random.default_rng(3), {}
    for name in ("RAS", "LPS", "PIR", "SLA", "ARI", "ILP"):
        for degrees in (2, 15, 35):
            affine = STRAIGHT[name].copy()
            affine[:3, :3] = rotation(degrees, rng.normal(size=3)) @ affine[:3, :3]
            found[f"{name} {degrees}°"] = affine
    sheared = STRAIGHT["PSL"].copy()
    sheared[:3, :3] = sheared[:3, :3] @ np.array([[1, 0.1, 0], [0, 1, 0.2], [0, 0, 1]])
    return found | {"PSL sheared": sheared}


STRAIGHT = straight_affines()
AFFINES = STRAIGHT | oblique_affines()
