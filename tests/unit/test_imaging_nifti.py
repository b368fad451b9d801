"""NIfTI: voxels and masks in every orientation against nibabel, and hostile files, most of them written
byte by byte.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

from mpsams import imaging
from mpsams.imaging import Scan, UnreadableImage, geometry, nifti, nifti_header
from tests.support.affines import AFFINES, STRAIGHT
from tests.support.affines import SHAPE as SMALL
from tests.support.nifti_files import GOOD, SHAPE, bombs, good_files, header_of, nii, noise, one_sentence, outcome  # noqa: F401

NAME = b"DOE^JANE"
KINDS = [(1, "<"), (1, ">"), (2, "<"), (2, ">")]
GEOMETRY = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z", "xyzt_units",
)  # fmt: skip


@pytest.fixture
def opened(tmp_path):
    """Reads bytes; the file is gone when this returns, so nothing may be left to read in it."""

    def read(data: bytes, *arguments, **named) -> Scan:
        path = tmp_path / "upload"
        path.write_bytes(data)
        try:
            return nifti.read(path, *arguments, **named)
        finally:
            path.unlink()

    return read


def by_nibabel(data: bytes) -> nibabel.Nifti1Image:
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    version = nibabel.Nifti2Image if 540 in (data[0] + 256 * data[1], data[3] + 256 * data[2]) else nibabel.Nifti1Image
    return version.from_bytes(data)


# Voxels and masks


@pytest.mark.parametrize("name, version, order", [
    (name, *kind) for i, name in enumerate(AFFINES) for kind in (KINDS[0], KINDS[1 + i % 3])
])  # fmt: skip
def test_a_mask_drawn_on_slices_lies_where_it_was_drawn(opened, name, version, order):
    """In all orientations: drawn as shown, written, read by nibabel, turned by nibabel."""
    affine = AFFINES[name]
    data = nii(noise(), affine, order, version=version, codes=(2, 0 if "sheared" in name else 1))
    scan = opened(gzip.compress(data, 1) if version == 1 else data, "mri")
    mask_xyz = np.zeros(SHAPE, bool)
    shown = geometry.radiological_view(mask_xyz, scan.affine)
    shown[0, 1:3, 2:5], shown[1:3, 3, 4], shown[-1, 0, 0] = True, True, True

    exported = nifti.write_mask(scan, mask_xyz)
    image, source = by_nibabel(exported), by_nibabel(data)
    assert image.get_data_dtype() == np.uint8 and image.shape == SHAPE
    assert np.array_equal(np.asarray(image.dataobj), mask_xyz) and np.array_equal(image.affine, source.affine)
    canonical = np.asarray(nibabel.as_closest_canonical(image).dataobj)
    assert np.array_equal([np.flip(canonical[:, :, k].T, (0, 1)) for k in range(len(shown))], shown)
    turned = nibabel.as_closest_canonical(source).get_fdata()
    for k in range(len(shown)):
        assert np.array_equal(scan.slice(k), np.flip(turned[:, :, k].T, (0, 1)))

    before, after = (
        source.header,
        type(source.header)(gzip.decompress(exported)[: source.header.sizeof_hdr], check=False),
    )
    assert after.endianness == order and after["pixdim"][:4].tobytes() == before["pixdim"][:4].tobytes()
    for field in GEOMETRY:
        assert after[field].tobytes() == before[field].tobytes(), field


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_real_type_keeps_its_voxels(opened, kind, order):
    values = noise(dtype=np.dtype(kind), top=120)
    for data in (nii(values, order=order), gzip.compress(nii(values, order=order))):
        scan = opened(data)
        assert scan.voxels_xyz.dtype == np.dtype(order + kind) and np.array_equal(scan.voxels_xyz, values)
        assert np.array_equal(scan.slice(3), values[:, :, 3].T)
        assert scan.origin == f"NIfTI-1, {np.dtype(kind).name}, 17 × 18 × 5 voxels of 1 × 1 × 2 mm"


def test_voxels_are_mapped_and_read_only(opened):
    mapped = opened(gzip.compress(nii(noise()))).voxels_xyz
    assert not mapped.flags.writeable and mapped.flags.f_contiguous
    while isinstance(mapped, np.ndarray) and not isinstance(mapped, np.memmap):
        mapped = mapped.base
    assert isinstance(mapped, np.memmap)


@pytest.mark.parametrize(
    "slope, inter, expected",
    [
        (0.5, -1024, (0.5, -1024)),
        (-2, 7, (-2, 7)),
        (0, 55, (1, 0)),
        (np.nan, 55, (1, 0)),
        (np.inf, 55, (1, 0)),
        (1, 0, (1, 0)),
    ],
)
def test_scaling(opened, slope, inter, expected):
    data = nii(noise(), scl_slope=slope, scl_inter=inter)
    scan = opened(data)
    assert (scan.slope, scan.intercept) == expected and scan.voxels_xyz.dtype == np.int16
    np.testing.assert_allclose(scan.slice(2), by_nibabel(data).get_fdata()[:, :, 2].T, rtol=1e-6)
    after = by_nibabel(nifti.write_mask(scan, noise() > 50))
    assert set(np.unique(after.get_fdata())) == {0, 1} and after.dataobj.slope == 1 and after.dataobj.inter == 0


def test_volumes_are_choices(opened):
    values = noise((*SHAPE, 3))
    data = nii(values)
    for choice in range(3):
        scan = opened(data, choice=choice)
        assert np.array_equal(scan.voxels_xyz, values[..., choice]) and scan.choice == choice
        assert scan.choices == ("volume 1 of 3", "volume 2 of 3", "volume 3 of 3")
    image = by_nibabel(nifti.write_mask(scan, values[..., 0] > 50))
    assert image.shape == SHAPE and image.header["dim"].tolist() == [3, *SHAPE, 1, 1, 1, 1]
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match=f"volume {wrong}; allowed are 0 to 2") as caught:
            opened(data, choice=wrong)
        assert not isinstance(caught.value, UnreadableImage)


def test_fewer_and_more_dimensions(opened):
    flat = noise((40, 30))
    scan = opened(nii(flat))
    assert np.array_equal(scan.voxels_xyz, flat[..., None]) and scan.planes == ("axial",) and scan.choices == ()
    assert by_nibabel(nifti.write_mask(scan, scan.voxels_xyz > 50)).shape == (40, 30)
    assert opened(nii(noise((*SHAPE, 1, 1, 1)))).voxels_xyz.shape == SHAPE
    assert len(opened(nii(noise((20, 20, 1, 4)))).choices) == 4


def test_rgb_becomes_luminance(opened):
    rgb = noise((*SHAPE, 3), np.uint8, 255)
    structured = rgb.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    scan = opened(nii(structured, scl_slope=3))
    r, g, b = np.moveaxis(rgb.astype(np.int64), -1, 0)
    assert np.array_equal(scan.voxels_xyz, (19595 * r + 38470 * g + 7471 * b + 32768) >> 16)
    assert scan.slope == 1 and scan.origin.startswith("NIfTI-1, RGB, 17 × 18 × 5 voxels")
    assert np.array_equal(np.asarray(by_nibabel(nifti.write_mask(scan, r > 99)).dataobj), r > 99)


def test_modality_is_guessed_from_air(opened):
    values = noise()
    assert opened(nii(values)).modality == "mri"
    assert opened(nii(values, scl_slope=1, scl_inter=-1024)).modality == "ct"
    assert opened(nii(values, scl_inter=-1024), "mri").modality == "mri"
    assert opened(nii(np.full(SHAPE, np.nan, np.float32))).modality == "mri"
    assert opened(nii(np.full(SHAPE, -np.inf, np.float32))).modality == "mri"
    slab = np.zeros((200, 200, 40), np.int16)
    slab[:, :, 33:36] = -1000
    assert opened(nii(slab)).modality == "ct"


def negative() -> dict[str, np.ndarray]:
    """Values below -200 that are none of a CT."""
    draw = np.random.default_rng(3)
    shape = (40, 36, 20)
    wide = draw.normal(0, 600, shape)
    wide[:20] = 0  # the background of a difference
    return {
        "a difference": draw.normal(0, 150, shape).astype(np.float32),
        "a wide difference": wide.astype(np.int16),
        "a phase": draw.integers(-4096, 4096, shape).astype(np.int16),
        "noise down to -1000": draw.uniform(-1000, 1000, shape).astype(np.float32),
        "a few voxels": np.where(draw.uniform(size=shape) < 0.005, -1000, 100).astype(np.int16),
    }


@pytest.mark.parametrize("name", negative())
def test_negative_values_alone_are_no_ct(opened, name):
    scan = opened(nii(negative()[name]))
    assert scan.modality == "mri" and "guessed: MRI" in scan.notes[-1]
    assert opened(nii(negative()[name]), "mri").notes == ()


def test_a_ct_with_little_air_has_a_note_that_it_is_guessed(opened):
    tissue = np.random.default_rng(2).integers(-120, 90, (40, 36, 20)).astype(np.int16)
    tissue[0] = -1000
    (note,) = opened(nii(tissue)).notes
    assert opened(nii(tissue)).modality == "ct" and "guessed: CT" in note and opened(nii(tissue), "ct").notes == ()
    tissue[:8], tissue[8:20] = -1024, -850
    assert (opened(nii(tissue)).modality, opened(nii(tissue)).notes) == ("ct", ())
    assert opened(nii(noise())).notes == ()


def test_the_lowest_float_is_no_value(opened):
    """With -3.4e38 some programs fill what lies outside the image."""
    values = noise((40, 36, 20), np.float32, 900)
    values[:10] = np.finfo(np.float32).min
    scan = opened(nii(values))
    assert scan.modality == "mri" and scan.values(10**6).min() == 0 and scan.values(10**6).size == 30 * 36 * 20
    assert scan.notes == ("25% of the voxels hold no number; they are shown as background.",)
    values[:] = np.nan
    assert opened(nii(values)).notes[0].startswith("All of the voxels")
    values[:], values[0, 0, 0] = 1, np.inf
    assert opened(nii(values)).notes[0].startswith("Less than 1%")


# Geometry


def test_stated_and_straight_needs_no_note(opened):
    for codes in ((1, 0), (0, 1), (3, 1)):
        scan = opened(nii(noise(), codes=codes))
        assert scan.notes == () and np.allclose(scan.affine, np.diag([-1, -1, 2, 1]))


def test_unstated_orientation_is_reported(opened):
    data = nii(noise(), codes=(0, 0))
    scan = opened(data)
    assert scan.notes == (nifti_header.UNSTATED,) and np.array_equal(scan.affine, by_nibabel(data).affine)


@pytest.mark.parametrize("name", [name for name in AFFINES if "°" in name])
def test_oblique_scans_say_by_how_much(opened, name):
    (note,) = opened(nii(noise(), AFFINES[name])).notes
    assert f"turned by {geometry.angle(AFFINES[name]):.0f}° against" in note


@pytest.mark.parametrize("unit, factor", [("meter", 1000), ("micron", 0.001), ("mm", 1), (0, 1)])
def test_spacing_is_in_millimetres_and_the_export_in_the_files_unit(opened, unit, factor):
    header = header_of(SHAPE, np.int16)
    header.set_xyzt_units(unit, "sec")
    scan = opened(nii(noise(), xyzt_units=header["xyzt_units"]))
    assert scan.spacing() == pytest.approx((2 * factor, factor, factor))
    after = by_nibabel(nifti.write_mask(scan, noise() > 50))
    assert after.header["xyzt_units"] == header["xyzt_units"] and np.array_equal(after.affine, np.diag([-1, -1, 2, 1]))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("fields", [
    {"srow_x": [np.nan] * 4}, {"srow_y": [0] * 4}, {"srow_x": [np.inf, 0, 0, 0]}, {"srow_z": [3e38, 3e38, 3e38, 0]},
    {"codes": (0, 1), "quatern_b": 5}, {"codes": (0, 1), "quatern_c": np.nan}, {"codes": (0, 1), "qoffset_x": np.inf},
    {"codes": (0, 0), "pixdim": [1, np.nan, 1, 1, 1, 1, 1, 1]}, {"codes": (0, 0), "pixdim": [1, 1, 1, 1e9, 1, 1, 1, 1]},
])  # fmt: skip
def test_geometry_without_sense_is_pixel_space(opened, fields):
    scan = opened(nii(noise(), **fields))
    assert scan.affine is None and scan.notes == (nifti_header.UNUSABLE,) and scan.planes == ("axial",)
    assert np.array_equal(scan.slice(1), noise()[:, :, 1].T) and scan.origin.endswith("5 voxels")
    written = gzip.decompress(nifti.write_mask(scan, noise() > 50))
    assert written[352:] == (noise() > 50).tobytes("F")
    assert written[252:328] == nii(noise(), **fields)[252:328]  # codes, quaternion, offsets, rows


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spoilt, fields", [
    ("sform", {"srow_x": [0] * 4, "srow_y": [0] * 4, "srow_z": [0] * 4}), ("sform", {"srow_y": [np.nan] * 4}),
    ("qform", {"quatern_b": 5}), ("qform", {"quatern_c": np.nan}), ("qform", {"qoffset_x": np.inf}),
])  # fmt: skip
@pytest.mark.parametrize("version", [1, 2])
def test_where_one_matrix_makes_no_sense_the_other_is_used(opened, spoilt, fields, version):
    for codes in ((1, 1), (2, 1), (1, 4)):
        data = nii(noise(), STRAIGHT["SLA"], version=version, codes=codes, **fields)
        scan = opened(data)
        np.testing.assert_allclose(scan.affine, STRAIGHT["SLA"], atol=1e-5)
        other = {"sform": "qform", "qform": "sform"}[spoilt]
        assert scan.notes == (f"The file's {spoilt} makes no sense, so its {other} gives the geometry.",)


def both(sform: np.ndarray, qform: np.ndarray) -> bytes:
    header = header_of(SHAPE, np.int16)
    header.set_sform(sform, 1)
    header.set_qform(qform, 1)
    return header.binaryblock + bytes(4) + noise().tobytes("F")


def test_sform_and_qform_that_disagree_are_reported(opened):
    straight = np.diag([-1.0, -1, 2, 1])
    for turn, words in (
        ([-1, 1, 1, 1], "disagree on left and right;"),
        ([-1, 1, -1, 1], "left and right and on feet and head;"),
    ):
        scan = opened(both(np.diag(turn) @ straight, straight))
        assert np.array_equal(scan.affine, np.diag(turn) @ straight)
        assert len(scan.notes) == 1 and words in scan.notes[0] and "the sform is used" in scan.notes[0]
    moved = straight.copy()
    moved[2, 3] = 7
    assert "lie up to 7 mm apart" in opened(both(straight, moved)).notes[0]
    larger = opened(both(straight @ np.diag([1.5, 1, 1, 1]), straight))
    assert "lie up to 8 mm apart" in larger.notes[0] and larger.spacing() == (2, 1, 1.5)
    moved[2, 3] = 0.02
    assert opened(both(straight, moved)).notes == () == opened(both(straight, straight)).notes


@pytest.mark.parametrize("codes", [(0, 1), (0, 0)])
def test_a_voxel_size_that_was_mended_is_reported(opened, codes):
    scan = opened(nii(noise(), codes=codes, pixdim=[1, -1.5, 2, 0, 0, 0, 0, 0]))
    assert scan.spacing() == (1, 2, 1.5)
    notes = " ".join(scan.notes)
    assert (
        "voxel size of -1.5 along X; 1.5 is used." in notes
        and "voxel size of 0 along Z; 1 is used." in notes
        and "along Y" not in notes
    )
    assert (nifti_header.UNSTATED in scan.notes) == (codes == (0, 0))


@pytest.mark.parametrize("qfac, noted", [(1, False), (-1, False), (0, False), (-2, True), (0.5, True), (np.nan, True)])
def test_a_qfac_that_is_none_is_reported(opened, qfac, noted):
    scan = opened(nii(noise(), codes=(0, 1), pixdim=[qfac, 1, 1, 2, 0, 0, 0, 0]))
    assert any("qfac" in note for note in scan.notes) == noted
    assert not any(
        "qfac" in note for note in opened(nii(noise(), codes=(1, 0), pixdim=[qfac, 1, 1, 2, 0, 0, 0, 0])).notes
    )


def test_other_units_than_millimetres_are_reported(opened):
    for unit, words in (("meter", ("metres",)), ("micron", ("micrometres",)), ("mm", ()), ("unknown", ())):
        header = header_of(SHAPE, np.int16)
        header.set_xyzt_units(unit)
        notes = opened(nii(noise(), xyzt_units=header["xyzt_units"])).notes
        assert len(notes) == len(words) and all(f"lengths in {word};" in notes[0] for word in words)


# Pairs of header and voxels


@pytest.mark.parametrize("order", "<>")
def test_a_pair_is_opened_together(tmp_path, order):
    image = nibabel.Nifti1Pair(
        noise().astype(f"{order}i2"), STRAIGHT["PIR"], nibabel.nifti1.Nifti1PairHeader(endianness=order)
    )
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.img")
    for files in ([tmp_path / "a.hdr", tmp_path / "a.img"], [tmp_path / "a.img", tmp_path / "a.hdr"]):
        scan = imaging.read(files)
        assert np.array_equal(scan.voxels_xyz, noise()) and np.allclose(scan.affine, STRAIGHT["PIR"])
        assert (scan.notes, scan.choices) == ((), ()) and scan.origin.startswith("NIfTI-1, int16, 17 × 18 × 5 voxels")
    written = by_nibabel(nifti.write_mask(scan, noise() > 50))
    assert np.array_equal(np.asarray(written.dataobj), noise() > 50) and np.array_equal(written.affine, scan.affine)
    with pytest.raises(UnreadableImage, match="one half of a .hdr and .img pair"):
        imaging.read([tmp_path / "a.hdr"])
    (tmp_path / "a.img").write_bytes((tmp_path / "a.img").read_bytes()[:-2])
    with pytest.raises(UnreadableImage, match="damaged or incomplete"):
        imaging.read([tmp_path / "a.hdr", tmp_path / "a.img"])


@pytest.mark.parametrize("order", "<>")
def test_analyze_states_no_orientation(tmp_path, order):
    header = nibabel.AnalyzeHeader(endianness=order)
    header.set_data_dtype(np.int16)
    header["originator" if "originator" in header else "hist_un0"] = b"RADIOLOGY"
    image = nibabel.AnalyzeImage(noise().astype(f"{order}i2"), np.diag([-1.0, 1, 3, 1]), header)
    image.to_file_map(
        {"header": nibabel.FileHolder(str(tmp_path / "b.hdr")), "image": nibabel.FileHolder(str(tmp_path / "b.img"))}
    )
    scan = imaging.read([tmp_path / "b.hdr", tmp_path / "b.img"], "mri")
    assert np.array_equal(scan.voxels_xyz, noise()) and scan.spacing() == (3, 1, 1)
    assert scan.notes == (nifti_header.ANALYZE,) and scan.origin.startswith("Analyze 7.5, int16")
    written = by_nibabel(nifti.write_mask(scan, noise() > 50))
    assert (
        np.array_equal(np.asarray(written.dataobj), noise() > 50)
        and written.header["sform_code"] == written.header["qform_code"] == 0
    )


def test_several_pairs_are_matched_by_name(tmp_path):
    for name, top in (("b", 100), ("a", 50)):
        nibabel.save(nibabel.Nifti1Pair(noise(top=top), np.eye(4)), tmp_path / f"{name}.img")
    scans = [imaging.read(sorted(tmp_path.iterdir()), choice=choice) for choice in (0, 1)]
    assert [scan.values(10**6).max() for scan in scans] == [50, 100] and all(scan.notes == () for scan in scans)


def test_what_nibabel_mends_is_mended_and_kept(opened):
    fields = {"codes": (0, 1), "pixdim": [0.5, -1, 2, 0, 0, 0, 0, 0]}
    data = nii(noise(), **fields)
    scan = opened(data)
    assert np.array_equal(scan.affine, by_nibabel(data).affine) and scan.spacing() == (1, 2, 1)
    assert gzip.decompress(nifti.write_mask(scan, noise() > 50))[76:92] == data[76:92]


# Export


def test_equal_masks_give_equal_bytes(opened):
    masks = [noise() > 50, np.ascontiguousarray((noise() > 50)[::-1])[::-1], np.asfortranarray(noise() > 50)]
    scans = [opened(nii(noise())), opened(gzip.compress(nii(noise())))]
    (data,) = {nifti.write_mask(scan, mask) for mask in masks for scan in scans}
    assert data[3:8] == bytes(5)  # no name and no time


@pytest.mark.parametrize("version", [1, 2])
def test_no_text_of_the_source_is_exported(opened, version):
    text = dict.fromkeys(("descrip", "aux_file", "intent_name", "db_name", "data_type", "magic", "unused_str"), NAME)
    header = header_of(SHAPE, np.int16, version=version)
    fields = {name: value for name, value in text.items() if name in header and name != "magic"}
    numbers = {"pixdim": np.frombuffer(NAME * 8, header["pixdim"].dtype)[:8].copy()}
    numbers["pixdim"][:4] = header["pixdim"][:4]
    offset = {1: 352, 2: 544}[version] + 64
    data = bytearray(nii(noise(), version=version, vox_offset=offset, **fields, **numbers))
    extension = (1, 0, 0, 0, 64, 0, 0, 0, 6, 0, 0, 0)
    data[offset - 68 : offset] = bytes(extension) + (NAME * 7)[:56]
    for form in (bytes(data), gzip.compress(bytes(data))):
        scan = opened(form)
        assert np.array_equal(scan.voxels_xyz, noise())
        written = gzip.decompress(nifti.write_mask(scan, noise() > 50))
        assert data.count(NAME) > 8 and b"DOE" not in written and b"JANE" not in written
        assert b"DOE" not in f"{scan!r} {scan.origin} {scan.notes}".encode()
        assert len(by_nibabel(written).header.extensions) == 0
        assert by_nibabel(written).header["descrip"] == b"MPS-AMS lesion mask"


@pytest.mark.parametrize("name", AFFINES)
def test_a_scan_from_elsewhere_gets_a_header_of_its_own(name):
    scan = Scan(np.zeros(SMALL, np.int16), "ct", "", affine=AFFINES[name], source=object())
    mask = np.arange(np.prod(SMALL)).reshape(SMALL) % 7 == 0
    image = by_nibabel(nifti.write_mask(scan, mask))
    assert np.array_equal(np.asarray(image.dataobj), mask)
    np.testing.assert_allclose(image.affine, scan.affine, rtol=1e-6, atol=1e-5)
    assert image.header["sform_code"] == 1 and image.header["qform_code"] == (0 if "sheared" in name else 1)
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.header.get_zooms(), np.linalg.norm(scan.affine[:3, :3], axis=0), rtol=1e-6)
    if "sheared" not in name:
        np.testing.assert_allclose(image.header.get_qform(), scan.affine, rtol=1e-5, atol=1e-4)


def test_pixel_space_claims_no_orientation():
    image = by_nibabel(nifti.write_mask(Scan(np.zeros(SMALL), "ultrasound", ""), np.ones(SMALL, bool)))
    assert image.header["sform_code"] == image.header["qform_code"] == 0
    assert image.shape == SMALL and image.header.get_xyzt_units()[0] == "unknown"


@pytest.mark.parametrize("wrong", [np.zeros(SMALL, np.int16), np.zeros(SMALL[::-1], bool), np.zeros((*SMALL, 1), bool)])
def test_a_wrong_mask_is_an_error(wrong):
    with pytest.raises(ValueError, match=r"allowed is bool or uint8, \(4, 5, 6\)"):
        nifti.write_mask(Scan(np.zeros(SMALL), "ct", "", affine=np.eye(4)), wrong)


# Refusals


LIES = {
    "no dimension": {"dim": [0] * 8},
    "eight dimensions": {"dim": [8, 17, 18, 5, 1, 1, 1, 1]},
    "minus one dimension": {"dim": [-1, 17, 18, 5, 1, 1, 1, 1]},
    "nothing wide": {"dim": [3, 0, 18, 5, 1, 1, 1, 1]},
    "nothing deep": {"dim": [3, 17, 18, 0, 1, 1, 1, 1]},
    "negative depth": {"dim": [3, 17, 18, -5, 1, 1, 1, 1]},
    "no volumes": {"dim": [4, 17, 18, 5, 0, 1, 1, 1]},
    "negative": {"dim": [3, 17, -18, 5, 1, 1, 1, 1]},
    "twice negative": {"dim": [3, -17, -18, 5, 1, 1, 1, 1]},
    "larger than the file": {"dim": [3, 17, 18, 6, 1, 1, 1, 1]},
    "far larger": {"dim": [3, 4000, 4000, 20, 1, 1, 1, 1]},
    "1.5 GiB": {"dim": [3, 1024, 1024, 768, 1, 1, 1, 1]},
    "a terabyte": {"dim": [4, 4096, 4096, 4096, 8, 1, 1, 1]},
    "too long": {"dim": [3, 4097, 18, 5, 1, 1, 1, 1]},
    "a long row": {"dim": [1, 1530, 1, 1, 1, 1, 1, 1]},
    "a table": {"dim": [2, 2, 765, 1, 1, 1, 1, 1]},
    "FreeSurfer's long": {"dim": [3, -1, 1, 1, 1, 1, 1, 1], "glmin": 1530},
    "FreeSurfer's sphere": {"dim": [3, 27307, 1, 6, 1, 1, 1, 1]},
    "a vector field": {"dim": [5, 17, 18, 1, 1, 5, 1, 1]},
    "volumes without end": {"dim": [4, 16, 16, 1, 32767, 1, 1, 1]},
    "no type": {"datatype": 0},
    "bits": {"datatype": 1, "bitpix": 1},
    "unknown type": {"datatype": 77},
    "complex": {"datatype": 32, "bitpix": 64},
    "wide complex": {"datatype": 1792, "bitpix": 128},
    "float128": {"datatype": 1536, "bitpix": 128},
    "transparency": {"datatype": 2304, "bitpix": 32},
    "other bits": {"bitpix": 8},
    "larger type": {"datatype": 64, "bitpix": 64},
    "voxels at 0": {"vox_offset": 0},
    "voxels in the header": {"vox_offset": 100},
    "voxels before": {"vox_offset": -352},
    "voxels halfway": {"vox_offset": 352.5},
    "voxels nowhere": {"vox_offset": np.nan},
    "voxels at no end": {"vox_offset": np.inf},
    "voxels late": {"vox_offset": 368},
    "voxels far out": {"vox_offset": 2**29},
    "voxels further out": {"vox_offset": 1e30},
    "infinite intercept": {"scl_inter": np.inf},
    "no intercept": {"scl_inter": np.nan},
    "a pair": {"magic": b"ni1"},
    "no magic": {"magic": b""},
    "other magic": {"magic": b"xyz"},
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("lie", LIES)
def test_lying_headers(tmp_path, lie):
    header = header_of(SHAPE, np.int16)
    for name, value in LIES[lie].items():
        header[name] = value
    data = header.binaryblock + bytes(4) + noise().tobytes("F")
    assert outcome(data, tmp_path) == outcome(gzip.compress(data), tmp_path) == "refused"


@pytest.mark.parametrize("dim, fields", [
    ([3, 2**62, 2**62, 5], {}), ([3, -(2**62), 18, 5], {}), ([2**62, 17, 18, 5], {}), ([3, 2**31, 2**31, 2**2], {}),
    ([4, 16, 16, 1, 2**40], {}), ([3, 17, 18, 5], {"vox_offset": 2**62}), ([3, 17, 18, 5], {"vox_offset": -1}),
    ([3, 17, 18, 5], {"eol_check": (13, 10, 10, 10)}),
])  # fmt: skip
def test_lying_headers_of_64_bits(tmp_path, dim, fields):
    header = header_of(SHAPE, np.int16, version=2, **fields)
    header["dim"][: len(dim)] = dim
    data = header.binaryblock + bytes(4) + noise().tobytes("F")
    assert outcome(data, tmp_path) == outcome(gzip.compress(data), tmp_path) == "refused"


def test_harmless_lies_are_forgiven(opened):
    for fields in ({"bitpix": 0}, {"cal_max": np.nan}, {"qform_code": 99}, {"slice_code": 77}, {"intent_code": -3}):
        assert np.array_equal(opened(nii(noise(), **fields)).voxels_xyz, noise()), fields
    assert np.array_equal(opened(nii(noise()) + bytes(100)).voxels_xyz, noise())


def test_refusals_say_what_is_wrong(opened):
    for data, words in [
        (nii(noise(), magic=b"ni1"), "one half of a .hdr and .img pair"),
        (nii(noise((17, 18, 5, 1, 3))), "has 5 dimensions"),
        (nii(noise((300, 3))), "holds 300 × 3 × 1 × 1 values"),
        (nii(noise(dtype=np.complex64)), "complex numbers"),
        (nii(noise(), dim=[3, 2048, 2048, 128, 1, 1, 1, 1], datatype=16, bitpix=32), "holds 2.0 GiB; .* up to 1 GiB"),
        (gzip.compress(b"only text" * 99), "gzip file holds no NIfTI"),
        (gzip.compress(b""), "gzip file holds no NIfTI"),
        (nii(noise())[:200], "damaged or incomplete"),
    ]:
        with pytest.raises(UnreadableImage, match=words) as caught:
            opened(data)
        one_sentence(str(caught.value))


def test_sides_are_reached_but_not_passed(opened):
    for shape in ((16, 4096, 1), (2, 16, 16), (16, 1, 16), (16, 16, 1, 4096)):
        assert opened(nii(np.zeros(shape, np.uint8))).voxels_xyz.shape == shape[:3]
    for shape in ((16, 4097, 1), (2, 15, 16), (15, 1, 99), (16, 16, 1, 4097)):
        with pytest.raises(UnreadableImage, match=f"holds {shape[0]} × {shape[1]} × .*sides of 16 to 4096 voxels"):
            opened(nii(np.zeros(shape, np.uint8)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", GOOD)
def test_truncation(tmp_path, name):
    data = GOOD[name]
    assert outcome(data, tmp_path) == "scan"
    for length in {*range(4, 560, 23), *range(560, len(data) - 1, len(data) // 24), *range(len(data) - 9, len(data))}:
        assert outcome(data[:length], tmp_path) == "refused", length


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", GOOD)
def test_flipped_bits(tmp_path, name):
    """40 files each; the flips of gzipped ones are made before or after, for each side to be met."""
    rng, found, left = np.random.default_rng(list(name.encode())), [], len(os.listdir("/proc/self/fd"))
    for round in range(40):
        inside = "gzip" in name and round % 2
        broken = bytearray(gzip.decompress(GOOD[name]) if inside else GOOD[name])
        for at in rng.integers(4, rng.choice([124, 540, len(broken)]), rng.integers(1, 5)):
            broken[at % len(broken)] ^= 1 << rng.integers(8)
        found.append(outcome(gzip.compress(bytes(broken), 1) if inside else bytes(broken), tmp_path))
    assert {"scan", "refused"} >= set(found) and "refused" in found
    assert name == "RGB" or "scan" in found  # all of its bytes stand under gzip's sum
    assert len(os.listdir("/proc/self/fd")) <= left + 1


def test_random_headers(tmp_path):
    """Valid signature, magic and type, noise in all that says where and how large."""
    rng, found = np.random.default_rng(1), []
    for _ in range(120):
        header = header_of(SHAPE, np.int16, codes=(int(rng.integers(2)), int(rng.integers(2))))
        name = rng.choice(
            ["dim", "pixdim", "srow_x", "srow_y", "quatern_b", "qoffset_x", "scl_slope", "scl_inter", "vox_offset"]
        )
        size = header[str(name)].nbytes
        header[str(name)] = np.frombuffer(rng.bytes(size), header[str(name)].dtype).reshape(header[str(name)].shape)
        found.append(outcome(header.binaryblock + bytes(4) + noise().tobytes("F"), tmp_path))
    assert found.count("scan") > 12 and found.count("refused") > 12


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_bombs_stay_small(tmp_path):
    """All in one fresh process with its own temporary folder; each line is name, outcome, growth of the peak in MiB."""
    code = (
        "import re\nfrom pathlib import Path\nfrom tests.support.nifti_files import bombs, outcome, GOOD\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024\n"
        f"folder, rest = Path({str(tmp_path)!r}), bombs(); [outcome(data, folder) for data in GOOD.values()]\n"
        "for name, (data, _) in rest.items():\n"
        "    before = peak()\n"
        "    print(name, outcome(data, folder), peak() - before, sep='|', flush=True)\n"
    )
    run = [sys.executable, "-c", code]
    env = os.environ | {"TMPDIR": str(tmp_path / "t")}
    (tmp_path / "t").mkdir()
    done = subprocess.run(run, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines()]
    assert {name: found for name, found, _ in lines} == {name: expected for name, (_, expected) in bombs().items()}
    assert max(float(growth) for *_, growth in lines) < 20, done.stdout
    assert not list((tmp_path / "t").iterdir())


def test_gzip_is_not_read_beyond_what_is_declared(opened, monkeypatch):
    read, real = [], gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: read.append(size) or real(self, size))
    opened(gzip.compress(nii(noise()) + bytes(2**22)))
    assert min(read) > 0 and sum(read) <= 540 + noise().nbytes + 1


def test_a_wrong_sum_is_refused(tmp_path):
    data = bytearray(gzip.compress(nii(noise())))
    data[-6] ^= 1
    assert outcome(bytes(data), tmp_path) == "refused"


def test_nothing_is_copied_of_a_file_too_short(tmp_path):
    (tmp_path / "upload").write_bytes(nii(noise(), dim=[3, 512, 512, 512, 1, 1, 1, 1]))
    store = io.BytesIO()
    with pytest.raises(UnreadableImage):
        nifti._copy_voxels(tmp_path / "upload", store)
    assert store.getvalue() == b""


def test_temporary_space_is_given_back(opened, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    scan = opened(nii(noise()))
    with pytest.raises(UnreadableImage):
        opened(nii(noise())[:-1])
    assert not list((tmp_path / "t").iterdir()) and np.array_equal(scan.voxels_xyz, noise())


def test_nothing_is_logged(opened, caplog, capfd):
    opened(nii(noise(), codes=(0, 1), pixdim=[0.5, -1, 2, 0, 0, 0, 0, 0], qform_code=1))
    assert not caplog.records and capfd.readouterr() == ("", "")
