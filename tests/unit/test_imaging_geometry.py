"""Orientation of slices: judged by the world coordinates of their voxels, whatever order these are stored in."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import nibabel
import numpy as np
import pytest

from mpsams import imaging
from mpsams.imaging import Scan, geometry
from tests.support.affines import AFFINES, LENGTHS, SHAPE, STRAIGHT, oblique_affines, rotation, straight_affines  # noqa: F401

# Along slices, rows and columns: which way (0 to the right, 1 to the front, 2 up) millimetres run, and their sign.
SENSE = {
    "axial": ((2, 1), (1, -1), (0, -1)),
    "coronal": ((1, -1), (2, -1), (0, -1)),
    "sagittal": ((0, -1), (2, -1), (1, -1)),
}


def world(affine: np.ndarray, shape: tuple = SHAPE) -> np.ndarray:
    """Millimetres to the right, front and top of every voxel: (X, Y, Z, 3)."""
    return np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]


def test_all_48_orientations_are_there():
    assert len(STRAIGHT) == 48 and all(
        np.allclose(np.abs(np.linalg.det(a)), np.prod(LENGTHS)) for a in STRAIGHT.values()
    )


@pytest.mark.parametrize("plane", geometry.PLANES)
@pytest.mark.parametrize("name", AFFINES)
def test_slices_run_as_a_radiologist_expects(name, plane):
    affine = AFFINES[name]
    coordinates = [geometry.radiological_view(world(affine)[..., way], affine, plane) for way in range(3)]
    for axis, (way, sign) in enumerate(SENSE[plane]):
        assert (np.diff(coordinates[way], axis=axis) * sign > 0).all()
        if name in STRAIGHT:  # and nothing else changes along it
            assert all(np.ptp(coordinates[other], axis=axis).max() < 1e-9 for other in range(3) if other != way)


@pytest.mark.parametrize("plane", geometry.PLANES)
def test_spacing_is_the_distance_of_neighbours(plane):
    for affine in AFFINES.values():
        points = np.stack([geometry.radiological_view(world(affine)[..., way], affine, plane) for way in range(3)], -1)
        distances = [np.linalg.norm(np.diff(points, axis=axis), axis=-1) for axis in range(3)]
        for stated, distance in zip(geometry.spacing(affine, plane), distances, strict=True):
            np.testing.assert_allclose(distance, stated, rtol=1e-9)


@pytest.mark.parametrize("name", AFFINES)
def test_axial_slices_are_canonical_ones_turned_half_around(name):
    """Against nibabel's way to canonical order."""
    affine, stored = AFFINES[name], np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    canonical = np.asarray(nibabel.as_closest_canonical(nibabel.Nifti1Image(stored, affine)).dataobj)
    shown = geometry.radiological_view(stored, affine)
    assert len(shown) == canonical.shape[2]
    for k, slice_hw in enumerate(shown):
        assert np.array_equal(slice_hw, np.flip(canonical[:, :, k].T, (0, 1)))


@pytest.mark.parametrize("plane", geometry.PLANES)
def test_a_stroke_on_a_slice_is_a_stroke_on_the_volume(plane):
    for affine in STRAIGHT.values():
        mask_xyz = np.zeros(SHAPE, bool)
        shown = geometry.radiological_view(mask_xyz, affine, plane)
        assert np.shares_memory(shown, mask_xyz)
        shown[1, 2, 0] = True
        (found,) = world(affine)[mask_xyz]
        for steps, (way, sign) in zip((1, 2, 0), SENSE[plane], strict=True):
            levels = np.unique(world(affine)[..., way].round(6))[::sign]
            assert np.isclose(found[way], levels[steps])


def test_pixels_without_geometry_are_shown_as_stored():
    stored = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    assert np.array_equal(geometry.radiological_view(stored, None), stored.T)
    assert np.shares_memory(geometry.radiological_view(stored, None), stored)


def test_an_unknown_plane_names_those_there_are():
    with pytest.raises(ValueError, match="'frontal'; allowed are axial, coronal, sagittal"):
        geometry.radiological_view(np.zeros(SHAPE), None, "frontal")
    with pytest.raises(ValueError, match="'frontal'; allowed are axial"):
        geometry.spacing(np.eye(4), "frontal")


@pytest.mark.parametrize("degrees", [0, 0.5, 3, 20, 44])
def test_the_angle_is_that_of_the_rotation(degrees):
    for straight in STRAIGHT.values():
        for axis in np.eye(3):
            affine = straight.copy()
            affine[:3, :3] = rotation(degrees, axis) @ affine[:3, :3]
            assert geometry.angle(affine) == pytest.approx(degrees, abs=1e-6)


@pytest.mark.parametrize("name", AFFINES)
def test_what_is_usable_and_what_is_sheared(name):
    affine = AFFINES[name]
    assert geometry.usable(affine) and geometry.is_sheared(affine) == name.endswith("sheared")
    for row, column in product(range(3), range(4)):
        for bad in (np.nan, np.inf, 1e300):
            broken = affine.copy()
            broken[row, column] = bad
            assert not geometry.usable(broken) or (column == 3 and bad == 1e300)


@pytest.mark.parametrize("broken", [
    np.diag([1.0, 1, 0, 1]), np.zeros((4, 4)), np.ones((4, 4)), np.diag([1.0, 1, 1001, 1]), np.diag([1e-200, 1, 1, 1]),
    np.array([[1.0, 1, 0, 0], [0, 0.005, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
])  # fmt: skip
def test_flat_and_parallel_axes_are_unusable(broken):
    assert not geometry.usable(broken)


@pytest.mark.parametrize("name", AFFINES)
def test_a_volume_was_acquired_in_its_thick_slices(name):
    affine = AFFINES[name]
    thick = geometry.acquired_plane(SHAPE, affine)
    assert thick == max(geometry.PLANES, key=lambda plane: geometry.spacing(affine, plane)[0])
    cubes = affine @ np.diag([1.3 / np.linalg.norm(affine[:3, axis]) for axis in range(3)] + [1])
    assert geometry.acquired_plane(SHAPE, cubes) == "axial"
    cubes[:3, int(np.abs(cubes[0, :3]).argmax())] *= 1.4  # sagittal slices, not thick
    assert geometry.acquired_plane(SHAPE, cubes) == geometry.acquired_plane(SHAPE, None) == "axial"


# The Scan's own views


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("name", ["RAS", "LPS", "PIR", "SLA", "ARI", "ILP"])
def test_a_flat_image_has_the_plane_it_lies_in(name, axis):
    """Wherever its one-voxel axis points."""
    shape = tuple(1 if i == axis else n for i, n in enumerate(SHAPE))
    scan = Scan(np.zeros(shape), "mri", "", affine=STRAIGHT[name])
    thin = {"R": "sagittal", "L": "sagittal", "A": "coronal", "P": "coronal", "S": "axial", "I": "axial"}[name[axis]]
    assert scan.planes == (thin,) and len(scan.shown(thin)) == 1
    assert Scan(np.zeros(SHAPE), "mri", "", affine=STRAIGHT[name]).planes == geometry.PLANES
    assert Scan(np.zeros(SHAPE), "mri", "").planes == ("axial",)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("modality", imaging.MODALITIES)
def test_voxels_without_a_value_are_shown_as_background(modality):
    voxels = np.full(SHAPE, 7, np.float64)
    voxels[:, 0, 0], voxels[0, 1, 0] = (np.nan, np.inf, -1e300, 4), -3
    for slope, lowest in ((2.0, -5.0), (1e300, 0.0)):  # with the larger one no value is finite
        scan = Scan(voxels, modality, "", slope, 1.0)
        row, background = scan.slice(0)[0], -1000.0 if modality == "ct" else lowest
        assert row.dtype == np.float32 and row[:3].tolist() == [background] * 3 and scan.background == background
        assert row[3] == (9 if slope == 2 else background)
        values = scan.values(10**6)
        assert (
            (values.size == voxels.size - 3 and values.min() == -5) if slope == 2 else values.tolist() == [background]
        )
        assert scan.missing(np.array([np.nan, 0.0])).tolist() == [True, slope != 2]


def test_padding_has_no_value():
    voxels = np.arange(10, 10 + np.prod(SHAPE), dtype=np.int16).reshape(SHAPE, order="F")
    voxels[0, :2, 0] = -2000, -1999
    scan = Scan(voxels, "mri", "", 2.0, 1.0, padding=(-2000, -1999))
    assert scan.slice(0)[:2, 0].tolist() == [23.0, 23.0] == [scan.background] * 2 and scan.values(10**6).min() == 23
    assert replace(scan, modality="ct").slice(0)[0, 0] == -1000


def test_values_are_some_of_all():
    scan = Scan(np.arange(1000, dtype=np.int16).reshape(10, 10, 10, order="F"), "ct", "", 2.0, -5.0)
    assert scan.values(2000).tolist() == [2 * v - 5 for v in range(1000)]
    few = scan.values(30)
    assert 20 <= len(few) <= 30 and few.max() > 1800 and (np.diff(few) > 0).all()


@pytest.mark.parametrize("index", [-1, 6, 100])
def test_a_slice_outside_is_an_error(index):
    with pytest.raises(ValueError, match=f"slice {index} does not exist; the axial slices are 0 to 5"):
        Scan(np.zeros(SHAPE), "mri", "").slice(index)


@pytest.mark.parametrize("shape", [(512, 16, 12), (64, 64, 24), (48, 36, 30)])
def test_values_are_spread_over_all_rows_columns_and_slices(shape):
    """A step that divides the length of rows would see a few columns of each; here each place along each
    axis is seen.
    """
    places = np.indices(shape)
    for axis in range(3):
        scan = Scan(np.asfortranarray(places[axis].astype(np.int16)), "mri", "")
        for most in (scan.voxels_xyz.size // 15, scan.voxels_xyz.size // 31, scan.voxels_xyz.size // 11):
            values = scan.values(most)
            assert len(values) <= most and set(values) == set(range(shape[axis]))


def test_the_percentiles_of_some_values_are_those_of_all():
    """Columns that are bright in every 16th place only: of a step of 16 or 32 the median is 0 or 1000."""
    voxels = np.zeros((512, 64, 96), np.int16, order="F")
    voxels[::16] = 1000
    for offset in range(2):
        some = Scan(np.roll(voxels, offset, axis=0), "mri", "").values(voxels.size // 16)
        assert some.mean() == pytest.approx(1000 / 16, rel=0.02)
