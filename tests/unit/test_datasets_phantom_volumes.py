"""Phantom volumes are reproducible and look like bodies; their files say exactly what was drawn and where it lies."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, binary_fill_holes, label

from mpsams.datasets import phantom
from mpsams.datasets.phantom import brain, files, neck
from mpsams.datasets.phantom.paint import PixelGrid, beyond, course, ellipse, window
from mpsams.imaging import MODALITIES, geometry, nifti

MAKERS = {"neck": phantom.neck_volume, "brain": phantom.brain_volume}
COARSE = {
    "neck": (neck.slices, PixelGrid((24, 72, 72), (8, 4.2, 4.2), -110)),
    "brain": (brain.slices, PixelGrid((18, 64, 64), (9, 3.6, 3.6), -70)),
}


@cache
def volume(kind: str) -> phantom.Volume:
    return MAKERS[kind](1)


@cache
def written(kind: str, folder: Path) -> list[Path]:
    return files.dicom(volume(kind), folder)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """The DICOM files of a kind, written once."""
    root = tmp_path_factory.mktemp("series")
    return lambda kind: written(kind, root / kind)


def body(kind: str, voxels_shw: np.ndarray) -> np.ndarray:
    """Whatever is not air; ``voxels_shw`` as stored."""
    return voxels_shw > (-300 if kind == "neck" else 240)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_volume_does_not_depend_on_what_was_drawn_before(kind):
    draw, grid = COARSE[kind]
    first = draw(5, grid)
    for other, other_grid in COARSE.values():
        other(6, other_grid)
    for one, two in zip(first, draw(5, grid), strict=True):
        np.testing.assert_array_equal(one, two)
    assert (draw(6, grid)[1] != first[1]).any()


def test_the_full_volume_is_the_same_every_time():
    again = phantom.brain_volume(1)
    np.testing.assert_array_equal(again.voxels_shw, volume("brain").voxels_shw)
    np.testing.assert_array_equal(again.mask_shw, volume("brain").mask_shw)


@pytest.mark.parametrize("make", MAKERS.values())
def test_a_negative_seed_is_refused(make):
    with pytest.raises(ValueError, match="-1.*0 or more"):
        make(-1)


@pytest.mark.parametrize(("kind", "dtype", "modality"), [("neck", np.int16, "ct"), ("brain", np.uint16, "mri")])
def test_types_and_spacing(kind, dtype, modality):
    it = volume(kind)
    assert it.voxels_shw.dtype == dtype and it.mask_shw.dtype == bool and it.voxels_shw.shape == it.mask_shw.shape
    assert it.modality == modality and it.title.lower() == kind
    between, rows, columns = it.spacing
    assert rows == columns < between / 2
    np.testing.assert_allclose(geometry.spacing(it.affine, "axial"), it.spacing)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_lesion_is_one_solid_on_consecutive_slices_inside_the_body(kind):
    it = volume(kind)
    on = np.flatnonzero(it.mask_shw.any(axis=(1, 2)))
    assert len(on) >= 5 and (np.diff(on) == 1).all()
    parts, count = label(it.mask_shw)
    assert max(np.bincount(parts.ravel())[1:]) > 0.97 * it.mask_shw.sum()
    solid = np.stack([binary_fill_holes(plane) for plane in body(kind, it.voxels_shw)])
    assert solid[it.mask_shw].all()
    areas = it.mask_shw.sum(axis=(1, 2))[on]
    assert areas.argmax() not in (0, len(on) - 1)  # it swells and shrinks


@pytest.mark.parametrize("kind", MAKERS)
def test_every_seed_has_a_lesion_of_a_plausible_size(kind):
    draw, grid = COARSE[kind]
    for seed in range(5):
        image, mask = draw(seed, grid)
        millilitres = mask.sum() * np.prod(grid.spacing) / 1000
        assert np.isfinite(image).all() and 2 < millilitres < 70, seed
    assert not draw(0, grid, lesion=False)[1].any()


def test_the_lesion_stands_out():
    for kind, sign in (("neck", 1), ("brain", -1)):
        draw, grid = COARSE[kind]
        ill, mask = draw(2, grid)
        values = ill[mask & binary_erosion(mask)] if binary_erosion(mask).any() else ill[mask]
        usual = 58 if kind == "neck" else 140
        assert sign * (np.median(values) - usual) > 12


@pytest.mark.parametrize("kind", MAKERS)
def test_neighbouring_slices_are_alike_and_distant_ones_are_not(kind):
    it = volume(kind)
    big = body(kind, it.voxels_shw).mean(axis=(1, 2)) > (0.05 if kind == "neck" else 0.2)  # not the vertex
    flat = np.clip(it.voxels_shw[big], -200, 300 if kind == "neck" else 900).reshape(big.sum(), -1).astype(float)
    alike = [np.corrcoef(one, two)[0, 1] for one, two in zip(flat, flat[1:], strict=False)]
    apart = np.corrcoef(flat[2], flat[-6])[0, 1]
    assert min(alike) > 0.7 and np.mean(alike) > 0.88 and apart < 0.7


def test_ct_holds_air_fat_muscle_bone_and_teeth_where_they_belong():
    voxels = volume("neck").voxels_shw
    assert voxels.min() >= -1024 and 1800 < voxels.max() < 3000
    assert np.abs(np.median(voxels[:, :6, :6]) + 1000) < 6
    share = {
        name: np.mean((voxels > low) & (voxels < high))
        for name, low, high in (
            ("air", -1025, -900),
            ("fat", -140, -60),
            ("soft", 20, 100),
            ("vessel", 140, 230),
            ("bone", 300, 1300),
        )
    }
    assert share["air"] > 0.6 and share["fat"] > 0.04 and share["soft"] > 0.04 and share["vessel"] > 0.001
    assert 0.005 < share["bone"] < 0.05
    inside = window(body("neck", voxels)[24])
    middle = voxels[:, :, 86:106]
    airway = [(plane[inside[0]] < -700).sum() for plane in middle[2:38]]
    assert min(airway) > 5  # open from the trachea to the pharynx


def test_the_neck_is_the_narrowest_part_and_the_jaw_has_its_place():
    voxels = volume("neck").voxels_shw
    widths = body("neck", voxels)[:, :118].any(axis=1).sum(axis=1)  # without the headrest
    assert widths[0] > 1.5 * widths[12:22].max() and widths[40] > widths[12:22].min() * 1.1
    chin = (voxels[:, 25:55, 70:122] > 600).sum(axis=(1, 2))
    assert chin[25:38].max() > 100 and chin[25:30].min() > 15 and chin[:20].max() == 0


def test_the_brain_shrinks_to_the_vertex_and_has_ventricles_and_bright_white_matter():
    it = volume("brain")
    areas = body("brain", it.voxels_shw).sum(axis=(1, 2))
    assert (np.diff(areas[20:34]) < 0).all() and areas[34] < 0.2 * areas[16]
    healthy = brain.slices(1, PixelGrid((1, 192, 192), (4.5, 1.25, 1.25), 0), lesion=False)[0][0]
    assert np.median(healthy[66:70, 85:90]) > np.median(healthy[92:100, 95:97]) + 40  # white matter, third ventricle
    corner = it.voxels_shw[:, :12, :12] / 4
    assert 2 < corner.mean() < 7  # Rician noise of sigma 3.5


@pytest.mark.parametrize("kind", MAKERS)
def test_a_nifti_file_reads_back_exactly(kind, tmp_path):
    it = volume(kind)
    scan = nifti.read(files.nifti(it, tmp_path))
    assert scan.modality == it.modality and (scan.slope, scan.intercept) == (1, 0)
    assert scan.voxels_xyz.shape != it.voxels_shw.shape  # stored another way round than shown
    np.testing.assert_array_equal(scan.shown("axial"), it.voxels_shw)
    np.testing.assert_allclose(scan.spacing("axial"), it.spacing, rtol=1e-6)
    assert geometry.angle(scan.affine) == pytest.approx(it.tilt, abs=1e-3)
    mask = nifti.read(files.nifti_mask(it, tmp_path))
    np.testing.assert_array_equal(mask.shown("axial"), it.mask_shw)
    np.testing.assert_allclose(mask.affine, scan.affine)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_nifti_file_tells_where_in_the_body_a_voxel_lies(kind, tmp_path):
    import nibabel

    it = volume(kind)
    image = nibabel.load(files.nifti(it, tmp_path))
    assert nibabel.aff2axcodes(image.affine) == ("A", "S", "R")
    np.testing.assert_allclose(image.header.get_qform(), image.affine, atol=1e-4)
    place = np.argwhere(it.voxels_shw == it.voxels_shw.max())[0]  # slice, row, column
    stored = np.argwhere(np.asarray(image.dataobj) == it.voxels_shw.max())
    points = stored @ image.affine[:3, :3].T + image.affine[:3, 3]
    assert np.abs(points - (it.affine @ [*place, 1])[:3]).max(axis=1).min() < 1e-3


def test_the_affine_points_to_the_feet_the_front_and_the_right():
    for it in map(volume, MAKERS):
        first, last = it.affine @ [0, 0, 0, 1], it.affine @ [*np.array(it.voxels_shw.shape) - 1, 1]
        assert first[0] > 100 > -100 > last[0] and first[1] > 80 > -80 > last[1] and first[2] < last[2]
        assert np.linalg.det(it.affine) == pytest.approx(-np.prod(it.spacing))  # slice, row, column is left-handed
    nose = body("brain", volume("brain").voxels_shw)[2].any(axis=1).argmax()
    assert nose < 12  # the face looks to the first row


@pytest.mark.parametrize("kind", MAKERS)
def test_dicom_slices_sorted_by_position_are_the_volume(kind, series):
    import pydicom

    it, paths = volume(kind), series(kind)
    slices = [pydicom.dcmread(path) for path in paths]
    rows, columns = np.reshape(slices[0].ImageOrientationPatient, (2, 3)).astype(float)
    normal = np.cross(rows, columns)
    heights = np.array([np.dot(normal, data.ImagePositionPatient) for data in slices])
    # upwards; names say nothing
    assert normal[2] > 0.9 and (np.diff(heights) < 0).any() and (np.diff(heights) > 0).any()
    ordered = [slices[index] for index in np.argsort(heights)]
    np.testing.assert_allclose(np.diff(np.sort(heights)), it.spacing[0], atol=1e-4)
    shift = -1024 if kind == "neck" else 0
    np.testing.assert_array_equal(np.stack([data.pixel_array for data in ordered]).astype(int) + shift, it.voxels_shw)
    for place, data in enumerate(ordered):
        expected = (it.affine @ [place, 0, 0, 1])[:3] * (-1, -1, 1)
        np.testing.assert_allclose(np.array(data.ImagePositionPatient, float), expected, atol=1e-4)
    assert [data.InstanceNumber for data in ordered] == list(range(len(ordered), 0, -1))


@pytest.mark.parametrize(
    ("kind", "modality", "storage"), [("neck", "CT", "CT Image Storage"), ("brain", "MR", "MR Image Storage")]
)
def test_dicom_headers_are_complete_and_legal(kind, modality, storage, series, monkeypatch):
    import pydicom

    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    slices = [pydicom.dcmread(path) for path in series(kind)]
    for data in slices:
        list(data.iterall())  # decodes, and so checks, every element
    it = volume(kind)
    assert len({data.SOPInstanceUID for data in slices}) == len(slices) == len(it.voxels_shw)
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({data[name].value for data in slices}) == 1
    for data in slices:
        assert data.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID and data.SOPClassUID.name == storage
        assert data.Modality == modality and data.PatientName == f"Phantom^{it.title}"
        assert (data.SliceThickness, *data.PixelSpacing) == it.spacing
        assert data.PixelRepresentation == 0 and data.BitsStored == 16
        assert ("RescaleIntercept" in data) == (modality == "CT")
    if modality == "CT":
        assert (slices[0].RescaleSlope, slices[0].RescaleIntercept) == (1, -1024)


def test_files_are_the_same_when_written_again(tmp_path, series):
    again = files.dicom(volume("neck"), tmp_path / "again")
    assert [path.name for path in again] == [path.name for path in series("neck")]
    assert all(one.read_bytes() == two.read_bytes() for one, two in zip(again, series("neck"), strict=True))
    one, two = (files.nifti(volume("neck"), tmp_path / name).read_bytes() for name in "ab")
    assert one == two


def test_built_in_volumes_are_lazy_named_uniquely_and_have_a_slice_to_show(tmp_path, monkeypatch):
    built_in = phantom.volumes()
    titles = [entry.title for entry in built_in]
    assert len(set(titles)) == len(titles) and {entry.modality for entry in built_in} <= set(MODALITIES)
    assert {"CT of the neck (NIfTI volume)", "CT of the neck (DICOM series)", "T1 brain (NIfTI volume)"} <= set(titles)
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    small = phantom.Volume(voxels, voxels > 9, (3.0, 1.0, 1.0), "ct", "Neck")
    for entry in built_in:
        paths = entry.save(small, tmp_path / entry.title)
        assert len(paths) == (2 if "DICOM" in entry.title else 1) and all(path.is_file() for path in paths)
        assert entry.slice().mask.any()


def test_a_course_meets_its_keys_and_stays_at_its_ends():
    path = course((-10, 1, 5), (0, 2, 5), (20, 8, 5))
    assert path(0) == [2, 5] and path(-10) == path(-99) == [1, 5] and path(99) == [8, 5]
    assert 2 < path(10)[0] < 8


def test_an_ellipsoid_is_cut_where_it_should_be():
    x = np.linspace(-20, 20, 401)
    cut = ellipse(0.0, x, (0, 0), (10, 10), 0, (6.0, 10.0))
    assert np.ptp(x[cut < 0]) == pytest.approx(16, abs=0.3)  # radius 8
    assert (ellipse(0.0, x, (0, 0), (10, 10), 0, (11.0, 10.0)) > 0).all()
    assert beyond(3, -5, 5) == 0 and beyond(6, -5, 5) == beyond(-6, -5, 5) == 4


def test_a_window_frames_what_is_inside():
    inside = np.zeros((6, 8), bool)
    inside[2:4, 3:7] = True
    assert window(inside) == (slice(2, 4), slice(3, 7))
    assert inside[window(inside & False)].shape == inside.shape
