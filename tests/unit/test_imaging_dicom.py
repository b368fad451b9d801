"""DICOM reading: series written here with pydicom, every file that pydicom ships, lying headers and hostile bytes."""

from __future__ import annotations

import io
import itertools
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import (
    MPEG2MPML,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    SegmentationStorage,
    UltrasoundMultiFrameImageStorage,
)

from mpsams.imaging import UnreadableImage, dicom
from mpsams.imaging.dicom import codes
from mpsams.imaging.dicom import pixels as dicom_pixels
from tests.support.dicom_files import (  # noqa: F401
    AXIAL,
    COLUMNS,
    CORONAL,
    OBLIQUE,
    PICTURE,
    ROWS,
    SAGITTAL,
    SHIPPED,
    compressed,
    enhanced,
    instance,
    noise,
    one,
    one_sentence,
    outcome,
    save,
    series,
    values,
)

pytestmark = pytest.mark.filterwarnings("ignore")


# Files to read: all of them name the patient wherever DICOM has room for it


def refused(files: list[Path] | Path, match: str) -> None:
    with pytest.raises(UnreadableImage, match=match) as caught:
        dicom.read(files if isinstance(files, list) else [files], None)
    one_sentence(str(caught.value))
    assert caught.value.__cause__ is None and (caught.value.__context__ is None or caught.value.__suppress_context__)


# A series


@pytest.mark.parametrize(
    "orientation", [AXIAL, CORONAL, SAGITTAL, OBLIQUE], ids=["axial", "coronal", "sagittal", "oblique"]
)
@pytest.mark.parametrize("upside_down", [False, True])
def test_every_voxel_lies_where_dicom_says(tmp_path, orientation, upside_down):
    volume, normal = noise((9, ROWS, COLUMNS)), np.cross(*np.reshape(orientation, (2, 3)))
    step = (-2.5 if upside_down else 2.5) * normal
    scan = dicom.read(series(tmp_path, volume, orientation, step, RescaleSlope=2, RescaleIntercept=-1024), None)
    assert (scan.modality, scan.slope, scan.intercept, scan.notes) == ("ct", 2.0, -1024.0, ())
    assert isinstance(scan.voxels_xyz, np.memmap) and scan.voxels_xyz.dtype == np.int16
    assert scan.voxels_xyz[:, :, 0].flags.f_contiguous and scan.affine.dtype == np.float64
    across, down = np.reshape(orientation, (2, 3))
    for z, y, x in [(0, 0, 0), (8, 33, 39), (3, 5, 7), (6, 0, 39)]:
        lps = np.array([-10, -20, 30]) + z * step + across * 0.5 * x + down * 0.75 * y  # PS3.3 C.7.6.2.1.1
        where = np.linalg.inv(scan.affine) @ [-lps[0], -lps[1], lps[2], 1]
        np.testing.assert_allclose(where[:3], np.rint(where[:3]), atol=1e-4)
        assert scan.voxels_xyz[tuple(np.rint(where[:3]).astype(int))] == volume[z, y, x]


def test_words_and_view_of_a_series(tmp_path):
    volume = noise((5, ROWS, COLUMNS))
    files = series(tmp_path, volume, RescaleSlope=1, RescaleIntercept=-24)
    scan = dicom.read(files)
    assert scan.origin == f"DICOM CT, 5 slices of {COLUMNS} × {ROWS} pixels, 0.50 × 0.75 × 2.50 mm"
    assert scan.choices == (f"CT, 5 slices of {COLUMNS} × {ROWS}, 2.5 mm apart",) and scan.choice == 0
    assert scan.planes == ("axial", "coronal", "sagittal") and scan.spacing() == pytest.approx((2.5, 0.75, 0.5))
    for z in range(5):
        np.testing.assert_array_equal(scan.slice(z), volume[z] - 24.0)  # left of the patient is right, nose is up
    again = dicom.read(files[::-1])
    assert np.array_equal(again.voxels_xyz, scan.voxels_xyz) and np.array_equal(again.affine, scan.affine)
    assert dicom.read(files, "mri").modality == "mri"


def test_one_slice(tmp_path):
    pixels = noise((ROWS, COLUMNS))
    scan = one(tmp_path, pixels)
    assert scan.voxels_xyz.shape == (COLUMNS, ROWS, 1) and scan.planes == ("axial",) and scan.notes == ()
    assert np.linalg.norm(scan.affine[:3, 2]) == 2.5 and scan.choices == (f"CT, {COLUMNS} × {ROWS}",)
    between = one(tmp_path, pixels, SliceThickness=None, SpacingBetweenSlices=4)
    assert np.linalg.norm(between.affine[:3, 2]) == 4 and between.notes == ()
    unsaid = one(tmp_path, pixels, SliceThickness=None)
    assert np.linalg.norm(unsaid.affine[:3, 2]) == 1 and "1 mm is assumed" in unsaid.notes[0]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8, np.int32, np.uint32])
def test_samples_are_kept_as_stored(tmp_path, syntax, dtype):
    pixels = noise((ROWS, COLUMNS), dtype=dtype, low=0, high=120)
    stored = pixels.astype(pixels.dtype.newbyteorder(">")) if syntax == ExplicitVRBigEndian else pixels
    scan = one(tmp_path, stored, syntax=syntax)
    assert scan.voxels_xyz.dtype == dtype and np.array_equal(scan.voxels_xyz[:, :, 0].T, pixels)


def test_high_bits_that_are_no_part_of_the_sample_are_dropped(tmp_path):
    pixels = noise((ROWS, COLUMNS), dtype=np.uint16, low=0, high=4096)
    scan = one(tmp_path, pixels | np.uint16(0xA000), BitsStored=12, HighBit=11)
    assert np.array_equal(scan.voxels_xyz[:, :, 0].T, pixels)
    signed = noise((ROWS, COLUMNS), low=-2048, high=2048)
    scan = one(tmp_path, signed & np.int16(0xFFF), BitsStored=12, HighBit=11)
    assert np.array_equal(scan.voxels_xyz[:, :, 0].T, signed)


def test_slices_of_several_types_make_the_type_that_holds_them(tmp_path):
    files = series(tmp_path, noise((2, ROWS, COLUMNS), low=-9, high=9))
    unsigned = instance(
        noise((ROWS, COLUMNS), dtype=np.uint16, low=0, high=60000), "9", ImagePositionPatient=[-10, -20, 35]
    )
    scan = dicom.read([*files, save(unsigned, tmp_path / "u")])
    assert scan.voxels_xyz.dtype == np.int32 and scan.voxels_xyz.shape[2] == 3
    assert np.array_equal(scan.voxels_xyz[:, :, 2].T, pixel_array(tmp_path / "u"))


# What samples mean


def test_slopes_that_differ_give_values(tmp_path):
    volume, files = noise((4, ROWS, COLUMNS)), []
    for z, pixels in enumerate(volume):
        ds = instance(
            pixels, f"{z}", RescaleSlope=1 + z, RescaleIntercept=-z, Modality="MR", SOPClassUID=MRImageStorage
        )
        ds.ImagePositionPatient = [0, 0, z]
        files.append(save(ds, tmp_path / f"{z}"))
    scan = dicom.read(files)
    assert scan.voxels_xyz.dtype == np.float32 and (scan.slope, scan.intercept, scan.modality) == (1, 0, "mri")
    for z in range(4):
        np.testing.assert_array_equal(scan.voxels_xyz[:, :, z].T, volume[z] * (1.0 + z) - z)


def table(keyword: str, first: int, bits: int, entries: np.ndarray) -> dict:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return {keyword: [item]}


@pytest.mark.parametrize("first", [0, 100, -500])
def test_modality_lut(tmp_path, first):
    entries = np.random.default_rng(0).integers(0, 65536, 900)
    pixels = noise((ROWS, COLUMNS), low=-600, high=1200)
    scan = one(tmp_path, pixels, **table("ModalityLUTSequence", first, 16, entries))
    ds = pydicom.dcmread(tmp_path / "one")
    np.testing.assert_array_equal(scan.voxels_xyz[:, :, 0].T, apply_modality_lut(pixels.astype(np.int32), ds))
    picture = one(tmp_path, pixels, "ultrasound", **table("ModalityLUTSequence", first, 16, entries))
    np.testing.assert_allclose(values(picture)[0], apply_modality_lut(pixels.astype(np.int32), ds) / 65535, atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize("window", [(1000, 700), (0, 1), (40.5, 400.25)])
def test_pictures_are_windowed_as_pydicom_does_it(tmp_path, photometric, function, window):
    pixels = noise((ROWS, COLUMNS), low=-2000, high=2000)
    elements = {
        "WindowCenter": [window[0], 7],
        "WindowWidth": [window[1], 9],
        "VOILUTFunction": function,
        "BitsStored": 13,
    }
    elements |= {"HighBit": 12, "RescaleSlope": 2, "RescaleIntercept": 5, "PhotometricInterpretation": photometric}
    scan = one(tmp_path, pixels, "ultrasound", **elements)
    ds = pydicom.dcmread(tmp_path / "one")
    expected = apply_voi_lut(apply_modality_lut(pixels, ds), ds)
    expected = (expected - (-4096 * 2 + 5)) / (8191 * 2)
    expected = 1 - expected if photometric == "MONOCHROME1" else expected
    np.testing.assert_allclose(values(scan)[0], expected, atol=2e-5)
    raw = one(tmp_path, pixels, **elements)
    assert np.array_equal(values(raw)[0], pixels * 2.0 + 5) and raw.modality == "ct"  # CT and MR are never windowed
    assert ("black and white exchanged" in "".join(raw.notes)) == (photometric == "MONOCHROME1") and not scan.notes


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("first", [20, -30])
def test_voi_lut_goes_before_a_window(tmp_path, bits, first):
    pixels = noise((ROWS, COLUMNS), low=-50, high=300)
    entries = np.random.default_rng(0).integers(0, 2**bits, 200)
    scan = one(
        tmp_path, pixels, "ultrasound", WindowCenter=1, WindowWidth=2, **table("VOILUTSequence", first, bits, entries)
    )
    expected = [
        [entries[min(max(sample - first, 0), 199)] / (2**bits - 1) for sample in row] for row in pixels.tolist()
    ]
    np.testing.assert_allclose(values(scan)[0], expected, atol=1e-6)
    if bits == 12:  # with 8 bits pydicom 3.0 wraps around
        by_pydicom = apply_voi_lut(pixels.astype(np.int32), pydicom.dcmread(tmp_path / "one"))
        np.testing.assert_allclose(values(scan)[0], by_pydicom / 4095, atol=1e-6)


@pytest.mark.parametrize("dtype, bits", [(np.uint8, 8), (np.uint16, 12), (np.int16, 12), (np.uint16, 16)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("slope", [None, 3, -1])
def test_pictures_without_window_span_all_that_can_be_stored(tmp_path, dtype, bits, photometric, slope):
    low = -(2 ** (bits - 1)) if dtype == np.int16 else 0
    pixels = noise((ROWS, COLUMNS), dtype=dtype, low=low, high=low + 2**bits)
    pixels[0, :2] = low, low + 2**bits - 1
    elements = {
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PhotometricInterpretation": photometric,
        "RescaleSlope": slope,
    }
    scan = one(tmp_path, pixels, RescaleIntercept=7, **PICTURE | elements)
    unit = (pixels - float(low)) / (2**bits - 1)
    inverted = (photometric == "MONOCHROME1") != (slope == -1)
    np.testing.assert_allclose(values(scan)[0], 1 - unit if inverted else unit, atol=1e-6)
    assert scan.modality == "ultrasound" and scan.affine is None and scan.voxels_xyz.dtype == dtype  # memory: as stored


@pytest.mark.parametrize(
    "modality, dtype, padding, limit",
    [
        ("MR", np.int16, -32768, None),
        ("CT", np.uint16, 63536, None),
        ("CT", np.int16, -2000, -1900),
        ("CT", np.int16, -1900, -2000),
        ("DX", np.uint16, 65535, None),
    ],
)
@pytest.mark.parametrize("slopes", [(1, 1, 1), (1, 2, 1)])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian])
def test_padding_is_no_tissue(tmp_path, modality, dtype, padding, limit, slopes, syntax):
    volume, files = noise((3, ROWS, COLUMNS), dtype=dtype, low=20, high=900), []
    volume[:, :9] = padding
    volume[:, 3:6] = padding if limit is None else limit
    for z, pixels in enumerate(volume):
        stored = pixels.astype(pixels.dtype.newbyteorder(">")) if syntax == ExplicitVRBigEndian else pixels
        elements = {
            "PixelPaddingValue": padding,
            "PixelPaddingRangeLimit": limit,
            "RescaleSlope": slopes[z],
            "RescaleIntercept": -100,
        }
        ds = instance(stored, f"{z}", Modality=modality, ImagePositionPatient=[0, 0, z], **elements)
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
            if keyword in ds:
                ds[keyword].VR = "SS" if dtype == np.int16 else "US"
        files.append(save(ds, tmp_path / f"{z}", syntax))
    scan = dicom.read(files)
    tissue = np.concatenate([scan.slice(z)[9:] for z in range(3)])
    lowest = -1000 if modality == "CT" else tissue.min()
    assert all((scan.slice(z)[:9] == lowest).all() for z in range(3))
    assert np.array_equal(np.sort(scan.values(2**20)), np.sort(tissue.ravel()))
    if modality != "DX":
        assert np.array_equal(tissue.reshape(3, -1, COLUMNS), volume[:, 9:] * np.array(slopes)[:, None, None] - 100.0)


def test_padding_that_no_sample_can_be_is_none(tmp_path):
    pixels = noise((ROWS, COLUMNS), dtype=np.uint16, low=0, high=4096)
    for value in (63536, None):
        assert one(tmp_path, pixels, BitsStored=12, HighBit=11, PixelPaddingValue=value).padding is None


def luminance(rgb: np.ndarray) -> np.ndarray:
    """As Pillow's "L", 0 to 255."""
    r, g, b = np.moveaxis(rgb.astype(np.int64), -1, 0)
    return (19595 * r + 38470 * g + 7471 * b + 32768) >> 16


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_is_luminance(tmp_path, planar):
    rgb = noise((ROWS, COLUMNS, 3), dtype=np.uint8, low=0, high=256)
    data = (rgb.transpose(2, 0, 1) if planar else rgb).tobytes()
    scan = one(tmp_path, rgb, **PICTURE | {"PlanarConfiguration": planar, "PixelData": data})
    assert scan.voxels_xyz.dtype == np.uint8 and np.array_equal(scan.voxels_xyz[:, :, 0].T, luminance(rgb))
    assert values(scan).max() <= 1 and scan.slope == 1 / 255
    wide = noise((ROWS, COLUMNS, 3), dtype=np.uint16, low=0, high=65536)
    assert np.array_equal(one(tmp_path, wide, **PICTURE).voxels_xyz[:, :, 0].T, luminance(wide >> 8))
    ybr = one(tmp_path, rgb, **PICTURE | {"PhotometricInterpretation": "YBR_FULL", "PlanarConfiguration": 0})
    assert np.array_equal(ybr.voxels_xyz[:, :, 0].T, rgb[..., 0])
    assert one(tmp_path, rgb, Modality="CT").modality == "ultrasound"  # a screenshot has no Hounsfield units


def test_ybr_of_half_colour(tmp_path):
    y = noise((ROWS, COLUMNS), dtype=np.uint8, low=0, high=256)
    packed = np.stack([y[:, ::2], y[:, 1::2], y[:, ::2] * 0 + 90, y[:, ::2] * 0 + 160], -1)
    colour = {"PhotometricInterpretation": "YBR_FULL_422", "PixelData": packed.tobytes()}
    scan = one(tmp_path, np.zeros((ROWS, COLUMNS, 3), np.uint8), **PICTURE | colour)
    assert np.array_equal(scan.voxels_xyz[:, :, 0].T, y)


@pytest.mark.parametrize("bits", [8, 16])
def test_palette(tmp_path, bits):
    pixels = noise((ROWS, COLUMNS), dtype=np.uint8, low=0, high=256)
    tables = np.random.default_rng(2).integers(0, 2**bits, (3, 200))
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, entries in zip(("Red", "Green", "Blue"), tables, strict=True):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [200, 10, bits]
        elements[f"{colour}PaletteColorLookupTableData"] = entries.astype(f"<u{bits // 8}").tobytes()
    scan = one(tmp_path, pixels, **PICTURE | elements)
    rgb = tables.T[np.clip(pixels.astype(int) - 10, 0, 199)] >> (bits - 8)
    assert np.array_equal(scan.voxels_xyz[:, :, 0].T, luminance(rgb))
    del elements["BluePaletteColorLookupTableData"]
    refused(save(instance(pixels, "1", **PICTURE | elements), tmp_path / "p"), "rare kind")


def segmented(*segments, wide: bool, order: str) -> bytes:
    """Of numbers, and of pairs that are the low and the high half of an offset in bytes."""
    kind = "H" if wide else "B"
    return b"".join(struct.pack(f"{order}{len(segment)}{kind}", *segment) for segment in segments)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize(
    "order, syntax", [("<", ExplicitVRLittleEndian), (">", ExplicitVRBigEndian), ("<", ImplicitVRLittleEndian)]
)
def test_segmented_palette(tmp_path, wide, order, syntax):
    top = 60000 if wide else 240
    ramp, steps = [(0, 2, 0, 10), (1, 100, top)], [(0, 4, 9, 7, 5, top // 2), (1, 98, 3)]
    # the linear segment, from the last value on
    repeated = (2, 1, 8, 0) if wide else (2, 1, *struct.pack(f"{order}2H", 4, 0))
    pixels = noise((ROWS, COLUMNS), dtype=np.uint8, low=0, high=200)
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, segments in (("Red", ramp), ("Green", steps), ("Blue", ramp)):
        body = segmented(*segments, *([repeated] if segments is ramp else []), wide=wide, order=order)
        count = 202 if segments is ramp else 102
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [count, 0, 16 if wide else 8]
        elements[f"Segmented{colour}PaletteColorLookupTableData"] = body + bytes(len(body) % 2)
    ds = instance(pixels, "1", **PICTURE | elements)
    for colour in ("Red", "Green", "Blue"):
        ds[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
        ds[f"Segmented{colour}PaletteColorLookupTableData"].VR = "OW"
    scan = dicom.read([save(ds, tmp_path / "p", syntax)])
    line = np.rint(np.linspace(10, top, 101))
    red = np.concatenate([[0], line, np.full(100, top)])
    green = np.concatenate([[9, 7, 5], np.rint(np.linspace(top // 2, 3, 99))])
    colours = np.stack([red[pixels], green[np.minimum(pixels, 101)], red[pixels]], -1).astype(int)
    assert np.array_equal(scan.voxels_xyz[:, :, 0].T, luminance(colours >> 8 if wide else colours))


@pytest.mark.parametrize(
    "body",
    [
        [],
        [1, 5, 5],
        [0, 3, 1, 2],
        [3, 1, 1],
        [0, 2, 1, 2, 2, 60000, 0, 0],
        [0, 2, 1, 2, 2, 1, 900, 0],
        [0, 0] * 800 + [0, 2, 1, 2],
        [0, 0, 2, 65535, 0, 0],
        [0, 2, 1, 2, 1],
    ],
)
def test_segments_that_make_no_table(tmp_path, body):
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        elements[f"Segmented{colour}PaletteColorLookupTableData"] = np.array(body, "<u2").tobytes()
    ds = instance(noise((ROWS, COLUMNS), dtype=np.uint8, low=0, high=200), "1", **PICTURE | elements)
    refused(save(ds, tmp_path / "p"), "rare kind")


@pytest.mark.parametrize(
    "code, bits, expected",
    [
        ("CT", 16, "ct"),
        ("MR", 16, "mri"),
        ("US", 8, "ultrasound"),
        ("PT", 16, "mri"),
        ("OT", 16, "mri"),
        ("OT", 8, "ultrasound"),
    ],
)
def test_modality_is_guessed_and_can_be_stated(tmp_path, code, bits, expected):
    pixels = noise((ROWS, COLUMNS), dtype=np.uint16 if bits == 16 else np.uint8, low=0, high=200)
    assert one(tmp_path, pixels, Modality=code).modality == expected
    assert one(tmp_path, pixels, "ct", Modality=code).modality == "ct"
    assert one(tmp_path, pixels, **PICTURE | {"Modality": "DX"}).modality == "ultrasound"
    assert one(tmp_path, pixels, Modality="SECRET").origin.startswith("DICOM, ")


# Several frames in a file


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [True, False])
def test_enhanced_frames_are_sorted_by_place(tmp_path, shared, syntax, undefined):
    volume, order = noise((6, ROWS, COLUMNS)), [3, 0, 5, 1, 4, 2]
    ds = enhanced(volume[order], [(-10, -20, 2.0 * z) for z in order], shared)
    ds["PerFrameFunctionalGroupsSequence"].is_undefined_length = undefined
    for item in ds.PerFrameFunctionalGroupsSequence:
        item.is_undefined_length_sequence_item = undefined
    scan = dicom.read([save(ds, tmp_path / "e", syntax)])
    assert np.array_equal(scan.voxels_xyz.transpose(2, 1, 0), volume) and scan.intercept == -1000 and scan.notes == ()
    np.testing.assert_allclose(scan.affine, [[-0.5, 0, 0, 10], [0, -0.75, 0, 20], [0, 0, 2, 0], [0, 0, 0, 1]])
    assert [frame for _, frame in scan.source.images] == [order.index(z) + 1 for z in range(6)]


def test_enhanced_frames_with_slopes_of_their_own(tmp_path):
    volume = noise((3, ROWS, COLUMNS))
    scan = dicom.read([save(enhanced(volume, [(0, 0, z) for z in range(3)], slopes=[1.0, 2.0, 0.5]), tmp_path / "e")])
    expected = volume * np.array([1, 2, 0.5])[:, None, None] - 1000
    assert scan.voxels_xyz.dtype == np.float32 and np.array_equal(values(scan), expected)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_enhanced_moments_are_choices(tmp_path, syntax):
    frames = noise((6, ROWS, COLUMNS))
    ds = enhanced(frames, [(0, 0, z) for z in (0, 1, 2, 0, 1, 2)], SOPClassUID=EnhancedMRImageStorage, Modality="MR")
    save(ds, tmp_path / "e")
    if syntax == RLELossless:
        ds.compress(RLELossless, encoding_plugin="pydicom")
        save(ds, tmp_path / "e", syntax)
    for k in range(2):
        scan = dicom.read([tmp_path / "e"], None, k)
        assert np.array_equal(scan.voxels_xyz.transpose(2, 1, 0), frames[3 * k : 3 * k + 3]) and scan.choice == k
        assert (
            scan.choices[k].endswith(f"1 mm apart, volume {k + 1} of 2")
            and f"takes number {k + 1} of each" in scan.notes[-1]
        )


def test_a_cine_loop_has_moments(tmp_path):
    frames = noise((7, ROWS, COLUMNS, 3), dtype=np.uint8, low=0, high=256)
    scan = one(tmp_path, frames, **PICTURE | {"SOPClassUID": UltrasoundMultiFrameImageStorage})
    assert scan.affine is None and scan.planes == ("axial",) and "moments, not places" in scan.notes[0]
    assert scan.choices == (f"US, 7 frames of {COLUMNS} × {ROWS}",)
    assert np.array_equal(scan.voxels_xyz.transpose(2, 1, 0), luminance(frames))
    assert scan.origin == f"DICOM US, 7 frames of {COLUMNS} × {ROWS} pixels"
    grey = noise((5, ROWS, COLUMNS), dtype=np.uint8, low=0, high=256)
    ds = instance(grey, "2", Modality="NM")  # a single position for all frames places none of them
    scan = dicom.read([save(ds, tmp_path / "g")])
    assert scan.affine is None and np.array_equal(scan.voxels_xyz.transpose(2, 1, 0), grey)


def test_two_cine_loops_are_two_choices(tmp_path):
    loops = {n: instance(noise((n, ROWS, COLUMNS), dtype=np.uint8, low=0, high=256), f"{n}", **PICTURE) for n in (3, 4)}
    files = [save(cine, tmp_path / f"{n}") for n, cine in loops.items()]
    scan = dicom.read(files)
    assert scan.choices == (f"US, 4 frames of {COLUMNS} × {ROWS}", f"US, 3 frames of {COLUMNS} × {ROWS}")


# Compression


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
def test_lossless_compression(tmp_path, syntax, dtype):
    frames = noise((3, ROWS, COLUMNS), dtype=dtype, low=0, high=200)
    if dtype == np.int16:
        frames -= 100
    scan = dicom.read([save(compressed(instance(frames, "1", **PICTURE), syntax), tmp_path / "c", syntax)], "mri")
    assert np.array_equal(scan.voxels_xyz.transpose(2, 1, 0), frames)


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("offsets", [True, False])
def test_jpeg_in_fragments(tmp_path, fragments, offsets):
    smooth = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    frames, expected = [], []
    for picture in (smooth, smooth.T):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=95)
        frames.append(file.getvalue())
        expected.append(np.asarray(Image.open(io.BytesIO(frames[-1]))))
    ds = instance(np.stack(expected), "1", **PICTURE)
    ds.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=offsets)
    scan = dicom.read([save(ds, tmp_path / "j", JPEGBaseline8Bit)])
    assert np.abs(scan.voxels_xyz.transpose(2, 1, 0).astype(int) - np.stack(expected)).max() <= 2


@pytest.mark.parametrize(
    "syntax, name", [(MPEG2MPML, "MPEG2 Main"), ("1.2.3.4", "unknown"), ("1.2.840.113619.5.2", "unknown")]
)
def test_other_syntaxes_are_named(tmp_path, syntax, name):
    ds = instance(noise((ROWS, COLUMNS)), "1")
    ds.PixelData = encapsulate([b"\0\0\1\xb3" + bytes(60)])
    refused(save(ds, tmp_path / "m", syntax), f"coding of this DICOM is {name}.*JPEG 2000")


def test_deflated_files_are_refused_unread(tmp_path):
    save(instance(noise((ROWS, COLUMNS)), "1"), tmp_path / "d", DeflatedExplicitVRLittleEndian)
    refused(tmp_path / "d", "deflated")


# Several volumes


def test_series_and_localizers_are_choices_by_size(tmp_path):
    magnetic = {"SeriesInstanceUID": "1.9", "Modality": "MR", "SOPClassUID": MRImageStorage}
    small = series(tmp_path, noise((3, ROWS, COLUMNS), 1), name="b", **magnetic)
    large = series(tmp_path, noise((6, ROWS, COLUMNS), 2), name="a")
    other = series(tmp_path, noise((4, ROWS, COLUMNS), 3), CORONAL, name="c")
    scout = series(tmp_path, noise((1, 40, 30), 4), name="d", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    files = [*small, *scout, *large, *other]
    size = f"{COLUMNS} × {ROWS}, 2.5 mm apart"
    titles = (f"CT, 6 slices of {size}", f"CT, 4 slices of {size}", f"MR, 3 slices of {size}", "CT localizer, 30 × 40")
    for choice, (seed, count) in enumerate([(2, 6), (3, 4), (1, 3)]):
        scan = dicom.read(files, None, choice)
        assert scan.choices == titles and scan.choice == choice
        assert np.array_equal(scan.voxels_xyz.transpose(2, 1, 0), noise((count, ROWS, COLUMNS), seed))
    assert dicom.read(files, None, 3).voxels_xyz.shape == (30, 40, 1)
    for wrong in (-1, 4):
        with pytest.raises(ValueError, match="allowed are 0 to 3") as caught:
            dicom.read(files, None, wrong)
        assert not isinstance(caught.value, UnreadableImage)


def test_equal_titles_are_numbered(tmp_path):
    files = [
        p for k in "pq" for p in series(tmp_path, noise((3, ROWS, COLUMNS)), name=k, SeriesInstanceUID=f"1.{ord(k)}")
    ]
    titles = dicom.read(files).choices
    assert titles[0].endswith("apart (number 1)") and titles[1].endswith("apart (number 2)")


def test_the_same_image_twice_counts_once(tmp_path):
    files = series(tmp_path, noise((4, ROWS, COLUMNS)))
    copy = tmp_path / "copy"
    copy.write_bytes(files[1].read_bytes())
    scan = dicom.read([*files, copy])
    assert scan.voxels_xyz.shape[2] == 4 and len(scan.choices) == 1
    assert scan.notes == ("Images that are there more than once were counted once: 1 of 5 files.",)
    for path in files:  # but who anonymised them may have given all one UID
        save(instance(pixel_array(path), "1", ImagePositionPatient=pydicom.dcmread(path).ImagePositionPatient), path)
    again = dicom.read(files)
    assert np.array_equal(again.voxels_xyz, scan.voxels_xyz) and again.notes == ()


def test_echoes_are_choices(tmp_path):
    volumes, files = noise((3, 4, ROWS, COLUMNS)), []
    for echo in range(3):
        magnetic = {"EchoTime": 5.0 * (3 - echo), "Modality": "MR", "SOPClassUID": MRImageStorage}
        files += series(tmp_path, volumes[echo], name=f"e{echo}", **magnetic)
    for k in range(3):
        scan = dicom.read(files, None, k)
        assert np.array_equal(scan.voxels_xyz.transpose(2, 1, 0), volumes[2 - k]), "by echo time, not by file"
        assert scan.choices[k].endswith(f"volume {k + 1} of 3") and "3 images at each place" in scan.notes[0]


def test_odd_duplicates_are_choices(tmp_path):
    volume = noise((4, ROWS, COLUMNS))
    again = instance(noise((ROWS, COLUMNS), 9), "99", ImagePositionPatient=[-10, -20, 32.5], InstanceNumber=500)
    scan = dicom.read([save(again, tmp_path / "again"), *series(tmp_path, volume)])
    assert (
        np.array_equal(scan.voxels_xyz.transpose(2, 1, 0), volume) and "up to 2 images at each place" in scan.notes[0]
    )
    assert np.array_equal(
        dicom.read([tmp_path / "again", *tmp_path.glob("s*")], choice=1).voxels_xyz[:, :, 0].T,
        noise((ROWS, COLUMNS), 9),
    )


def test_what_is_no_image_is_left_out_with_a_note(tmp_path):
    files = series(tmp_path, noise((3, ROWS, COLUMNS)))
    (tmp_path / "readme").write_text("hello")
    scan = dicom.read([tmp_path / "readme", SHIPPED / "rtstruct.dcm", *files, SHIPPED / "MR_truncated.dcm"])
    assert scan.voxels_xyz.shape[2] == 3 and scan.notes == (
        "Files that are damaged or no DICOM images were left out: 3 of 6.",
    )


# Geometry


def test_missing_slices_are_reported(tmp_path):
    files = series(tmp_path, noise((12, ROWS, COLUMNS)))
    # the 5th and the 9th
    kept = [path for path in files if pydicom.dcmread(path).InstanceNumber not in (12 - 4, 12 - 8)]
    scan = dicom.read(kept)
    assert scan.voxels_xyz.shape[2] == 10
    assert scan.notes == ("Slices are missing after number 4, 7 of 10; all are shown as 2.5 mm apart.",)
    np.testing.assert_allclose(scan.affine[:3, 2], [0, 0, 2.5])


def test_uneven_spacing_is_reported(tmp_path):
    files = []
    for k, z in enumerate([0, 2, 4, 6.5, 8.5]):
        files.append(
            save(instance(noise((ROWS, COLUMNS), k), f"{k}", ImagePositionPatient=[0, 0, z]), tmp_path / f"{k}")
        )
    scan = dicom.read(files)
    assert scan.notes == ("Slices are unevenly spaced, 2 to 2.5 mm apart; all are shown as 2 mm apart.",)
    assert scan.affine[2, 2] == 2


@pytest.mark.parametrize("angle", [12, -20])
def test_gantry_tilt_shears_the_affine(tmp_path, angle):
    tilted = (1, 0, 0, 0, np.cos(np.radians(angle)), np.sin(np.radians(angle)))
    volume = noise((6, ROWS, COLUMNS))
    scan = dicom.read(series(tmp_path, volume, tilted, step=(0, 0, 3)))
    assert np.array_equal(scan.voxels_xyz.transpose(2, 1, 0), volume) and f"tilted by {abs(angle)}.0°" in scan.notes[0]
    np.testing.assert_allclose(scan.affine[:3, 2], [0, 0, 3], atol=1e-6)
    np.testing.assert_allclose(scan.affine[:3, 1], 0.75 * np.array([0, -tilted[4], tilted[5]]), atol=1e-6)


def test_slices_shifted_sideways_are_reported(tmp_path):
    files = []
    for k in range(5):
        ds = instance(noise((ROWS, COLUMNS), k), f"{k}", ImagePositionPatient=[3 * (k == 2), 0, k])
        files.append(save(ds, tmp_path / f"{k}"))
    assert "sideways by up to 3 mm" in dicom.read(files).notes[0]
    for k in range(5):
        ds = instance(noise((ROWS, COLUMNS), k), f"{k}", ImagePositionPatient=[30 * k, 0, k])
        save(ds, tmp_path / f"{k}")
    scan = dicom.read(files)
    assert scan.affine is None and "do not make a volume" in scan.notes[0]


@pytest.mark.parametrize(
    "elements",
    [
        {"PixelSpacing": [0, 1]},
        {"PixelSpacing": [1]},
        {"PixelSpacing": None},
        {"PixelSpacing": [-1, 1]},
        {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
        {"ImageOrientationPatient": [0] * 6},
        {"ImageOrientationPatient": None},
        {"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]},
        {"ImagePositionPatient": [1, 2]},
        {"ImagePositionPatient": [1e30, 0, 0]},
    ],
)
def test_geometry_that_makes_no_sense_is_pixel_space(tmp_path, elements):
    scan = one(tmp_path, noise((ROWS, COLUMNS)), **elements)
    assert scan.affine is None and "incomplete or not valid" in scan.notes[0]


@pytest.mark.parametrize("text", [b"nan\\0\\0 ", b"inf\\0\\0 ", b"abc\\0\\0 ", b"\\\\      ", b"\xff\xfe\\0\\000"])
def test_positions_that_are_no_numbers_are_pixel_space(tmp_path, text):
    save(instance(noise((ROWS, COLUMNS)), "1", ImagePositionPatient=["11", "2", "33"]), tmp_path / "n")
    data = (tmp_path / "n").read_bytes()
    (tmp_path / "n").write_bytes(data.replace(b"11\\2\\33 ", text))
    scan = dicom.read([tmp_path / "n"])
    assert data.count(b"11\\2\\33 ") == 1 and scan.affine is None and scan.notes


def test_without_positions_numbers_count(tmp_path):
    volume, files = noise((5, ROWS, COLUMNS)), []
    for k in range(5):
        ds = instance(volume[k], f"{k}", ImagePositionPatient=None, ImageOrientationPatient=None, InstanceNumber=k + 8)
        files.append(save(ds, tmp_path / f"{5 - k}"))
    scan = dicom.read(files[::-1])
    assert np.array_equal(scan.voxels_xyz.transpose(2, 1, 0), volume) and scan.affine is None
    assert "order of their numbers" in scan.notes[0] and scan.modality == "ct" and scan.planes == ("axial",)


# Refusals


@pytest.mark.parametrize("shape", [(15, 16), (16, 15), (16, 8193), (8193, 16)])
def test_sides(tmp_path, shape):
    refused(save(instance(np.zeros(shape, np.uint8), "1"), tmp_path / "s"), "sides from 16 to 8192")
    assert one(tmp_path, np.zeros((16, 8192), np.uint8)).voxels_xyz.shape == (8192, 16, 1)


@pytest.mark.parametrize("elements", [
    {"BitsAllocated": 1}, {"BitsAllocated": 64}, {"BitsAllocated": 12}, {"BitsStored": 17}, {"SamplesPerPixel": 2},
    {"SamplesPerPixel": 3}, {"PhotometricInterpretation": "CMYK"}, {"PhotometricInterpretation": "RGB"},
    {"PhotometricInterpretation": None},
])  # fmt: skip
def test_rare_pixels(tmp_path, elements):
    ds = instance(noise((ROWS, COLUMNS)), "1")
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds["PixelData"].VR = "OW"
    ds.update({k: v for k, v in elements.items() if v is not None})
    for keyword in [k for k, v in elements.items() if v is None]:
        del ds[keyword]
    ds.save_as(tmp_path / "r", enforce_file_format=True)
    refused(tmp_path / "r", "rare kind; allowed are")


def test_volume_limits_are_judged_before_pixels(tmp_path, monkeypatch):
    files = series(tmp_path, noise((4, ROWS, COLUMNS)))
    monkeypatch.setattr(dicom_pixels, "MAX_BYTES", 4 * ROWS * COLUMNS * 2)
    dicom.read(files)
    monkeypatch.setattr(dicom_pixels, "MAX_BYTES", 4 * ROWS * COLUMNS * 2 - 1)
    monkeypatch.setattr(dicom_pixels, "decode", None)
    refused(files, "40 × 34 × 4 voxels takes 1 MiB; allowed")
    monkeypatch.setattr(dicom, "MAX_FRAMES", 3)
    refused(files, "too many images; allowed are up to 3")
    monkeypatch.setattr(dicom, "MAX_FILES", 3)
    refused(files, "4 files; allowed are up to 3")
    refused([], "no files")


def test_many_files_share_one_allowance_of_steps(tmp_path, monkeypatch):
    files = series(tmp_path, noise((6, ROWS, COLUMNS)))
    monkeypatch.setattr(dicom, "_FILE_STEPS", 100)
    monkeypatch.setattr(dicom, "_STEPS_PER_FILE", 60)
    assert "left out" in dicom.read(files).notes[-1]
    monkeypatch.setattr(dicom, "_STEPS_PER_FILE", 100)
    assert dicom.read(files).notes == ()


def test_sorting_an_upload_into_series_reads_little(tmp_path, monkeypatch):
    files = series(tmp_path, noise((3, ROWS, COLUMNS)))
    frames = noise((40, ROWS, COLUMNS))
    for k in range(2):
        file = save(
            enhanced(frames, [(0, 0, z) for z in range(40)], SOPInstanceUID=f"1.9.{k}", SeriesInstanceUID="1.9"),
            tmp_path / f"e{k}",
        )
        files.append(file)
    (tmp_path / "no image").write_bytes(b"\x08\0\x05\0CS\x02\0AB" + bytes(300))
    files.append(tmp_path / "no image")
    assert [set(group) for group in dicom.group_series(files)] == [set(files[:3]), set(files[3:5]), {files[5]}]
    taken = []
    outline = dicom.header.outline
    monkeypatch.setattr(
        dicom.header, "outline", lambda path, steps: taken.append((path, steps)) or outline(path, steps)
    )
    many = struct.pack("<HHL", 0x0029, 0x1010, 0) * 60_000
    (tmp_path / "many").write_bytes(files[0].read_bytes().replace(b"\x28\0\x02\0US", many + b"\x28\0\x02\0US"))
    assert len(dicom.group_series([*files, tmp_path / "many"])) == 4
    used = {path.name: dicom._OUTLINE_STEPS - steps.left for path, steps in taken}
    assert used.pop("many") == dicom._OUTLINE_STEPS + 1 and max(used.values()) < 300


def test_files_of_others_are_read_within_limits():
    """pydicom's own readers inflate and parse whatever a file holds; only what was written here may go through them."""
    package = Path(dicom.__file__).parents[2]
    found = {str(path.relative_to(package)) for path in package.rglob("*.py") if "dcmread(" in path.read_text()}
    assert found == {"imaging/dicom/annotation_seg.py"}


@pytest.mark.parametrize("frames", [2, 4, 400, 2**14 + 1, 2**31 - 1])
def test_numbers_of_frames_that_lie(tmp_path, frames):
    ds = instance(
        noise((3, ROWS, COLUMNS), dtype=np.uint8, low=0, high=99), "1", **PICTURE | {"NumberOfFrames": frames}
    )
    refused(save(ds, tmp_path / "f"), "holds fewer or more|up to 16384 images")
    ds.NumberOfFrames = 3
    compressed(ds, RLELossless).NumberOfFrames = frames
    if frames > 3:
        refused(save(ds, tmp_path / "f", RLELossless), "damaged|up to 16384 images")
    multi = enhanced(noise((3, ROWS, COLUMNS)), [(0, 0, z) for z in range(3)])
    multi.PerFrameFunctionalGroupsSequence = multi.PerFrameFunctionalGroupsSequence[:2]
    refused(save(multi, tmp_path / "m"), "has 3 images but describes 2")


def test_pixels_cut_off(tmp_path):
    data = save(instance(noise((ROWS, COLUMNS)), "1"), tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(data[:-1])
    refused(tmp_path / "x", "holds fewer or more")
    assert dicom.read(
        [save(instance(noise((17, 17), dtype=np.uint8, low=0, high=9), "1"), tmp_path / "odd")]
    ).voxels_xyz.any()


def patched(path: Path, old: bytes, new: bytes) -> Path:
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    return path


def test_compressed_frames_of_another_size(tmp_path):
    pixels = noise((ROWS, COLUMNS), dtype=np.uint8, low=0, high=99)
    small, large = struct.pack(">LL", COLUMNS, ROWS), struct.pack(">LL", 60000, 60000)
    j2k = save(compressed(instance(pixels, "1"), JPEG2000Lossless), tmp_path / "j2k", JPEG2000Lossless)
    head = b"\xff\x4f\xff\x51" + j2k.read_bytes().split(b"\xff\x4f\xff\x51")[1][:4]
    refused(patched(j2k, head + small, head + large), "damaged")
    jls = save(compressed(instance(pixels, "1"), JPEGLSLossless), tmp_path / "jls", JPEGLSLossless)
    size, large = struct.pack(">HBHH", 11, 8, ROWS, COLUMNS), struct.pack(">HBHH", 11, 8, 65000, 65000)
    refused(patched(jls, size, large), "damaged")
    ds = compressed(instance(pixels, "1"), RLELossless)
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    for bad in (
        frame + b"\x81\0" * 5000,
        frame[:80],
        frame[:64],
        b"\xff" * 64 + frame[64:],
        struct.pack("<L", 2) + frame[4:],
    ):
        ds.PixelData = encapsulate([bad + b"\0" * (len(bad) % 2)])
        refused(save(ds, tmp_path / "rle", RLELossless), "damaged")


@pytest.mark.parametrize("name, kind", [
    ("rtstruct.dcm", "RT Structure Set"), ("rtplan.dcm", "RT Plan"), ("test-SR.dcm", "Comprehensive SR"),
    ("rtdose.dcm", "RT Dose"), ("waveform_ecg.dcm", "12-lead ECG Waveform"), ("liver_1frame.dcm", "Segmentation"),
    ("dicomdirtests/DICOMDIR", "DICOMDIR"),
])  # fmt: skip
def test_what_is_no_image_is_named(name, kind):
    refused(SHIPPED / name, f"no picture to show, its kind is {kind};")


def test_other_things_without_pictures(tmp_path):
    ds = instance(noise((ROWS, COLUMNS)), "1", SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1")
    del ds.PixelData
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(tmp_path / "pdf", enforce_file_format=True)
    refused(tmp_path / "pdf", "its kind is Encapsulated PDF;")
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.3.99"
    ds.save_as(tmp_path / "pdf", enforce_file_format=True)
    refused(tmp_path / "pdf", "its kind is unknown;")
    ds.SOPClassUID, ds.FloatPixelData = CTImageStorage, np.zeros((ROWS, COLUMNS), np.float32).tobytes()
    ds.save_as(tmp_path / "float", enforce_file_format=True)
    refused(tmp_path / "float", "floating-point")
    refused(
        save(instance(noise((ROWS, COLUMNS)), "1", SOPClassUID=SegmentationStorage), tmp_path / "seg"), "Segmentation"
    )
    for junk in (b"", b"\0", b"DICM", bytes(128) + b"DICM", b"<html>" * 99, bytes(range(256)) * 8):
        (tmp_path / "junk").write_bytes(junk)
        refused(tmp_path / "junk", "damaged")
    refused(tmp_path / "nowhere", "damaged")


# Every file that pydicom ships


def shipped() -> list[Path]:
    return sorted(path for path in SHIPPED.rglob("*") if path.is_file())


REFUSED = """
    ExplVR_BigEndNoMeta.dcm ExplVR_LitEndNoMeta.dcm JPEG-lossy.dcm JPEG2000-embedded-sequence-delimiter.dcm
    JPEGLSNearLossless_08.dcm JPEGLSNearLossless_16.dcm JPGExtended.dcm MR_truncated.dcm SC_rgb_small_odd.dcm
    SC_rgb_small_odd_big_endian.dcm SC_rgb_small_odd_jpeg.dcm UN_sequence.dcm badVR.dcm empty_charset_LEI.dcm
    image_dfl.dcm liver_1frame.dcm liver_expb_1frame.dcm meta_missing_tsyntax.dcm nested_priv_SQ.dcm no_meta.dcm
    no_meta_group_length.dcm priv_SQ.dcm reportsi.dcm reportsi_with_empty_number_tags.dcm rtdose.dcm rtdose_1frame.dcm
    rtdose_expb.dcm rtdose_expb_1frame.dcm rtdose_rle.dcm rtdose_rle_1frame.dcm rtplan.dcm rtplan_truncated.dcm
    rtstruct.dcm test-SR.dcm waveform_ecg.dcm DICOMDIR-empty.dcm
""".split()


@pytest.mark.parametrize("path", shipped(), ids=lambda path: str(path.relative_to(SHIPPED)))
def test_every_file_of_pydicom_opens_or_is_refused(path):
    try:
        scan = dicom.read([path], None)
    except UnreadableImage as error:
        one_sentence(str(error))
        assert path.name in REFUSED or path.suffix != ".dcm", error
        return
    assert path.name not in REFUSED
    photometric = pydicom.dcmread(path, specific_tags=["PhotometricInterpretation"]).PhotometricInterpretation
    # colours beyond RGB's are cut by pydicom on their way to RGB, while we take Y as it is
    tolerance = 10 / 255 if "YBR" in photometric else 2.01 / 255 if scan.slope == 1 / 255 else 1e-4
    np.testing.assert_allclose(values(scan), slow(path, scan.modality == "ultrasound"), atol=tolerance, rtol=1e-5)


def slow(path: Path, picture: bool) -> np.ndarray:
    """(Z, H, W) in values, by pydicom's own functions on the whole dataset."""
    ds = pydicom.dcmread(path)
    pixels = ds.pixel_array
    frames = pixels.reshape(-1, ds.Rows, ds.Columns, *pixels.shape[pixels.ndim - (ds.SamplesPerPixel == 3) :])
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        frames = pydicom.pixels.apply_color_lut(frames, ds)
    if frames.ndim == 4:
        frames = frames >> (8 * frames.dtype.itemsize - 8)
        return frames @ np.array([0.299, 0.587, 0.114]) / 255
    frames = apply_modality_lut(frames.astype(np.float64), ds)
    if not picture:
        return frames
    frames = apply_voi_lut(frames, ds)
    low = -(2 ** (ds.BitsStored - 1)) if ds.PixelRepresentation else 0
    high = low + 2**ds.BitsStored - 1
    slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
    frames = (frames - (slope * low + intercept)) / (slope * (high - low))
    return 1 - frames if ds.PhotometricInterpretation == "MONOCHROME1" else frames


def test_the_shipped_directory_of_patients():
    assert dicom.read(shipped_under("98892001/CT5N")).choices == ("CT, 5 slices of 16 × 16, 2.5 mm apart",)
    everything = shipped_under("")
    found = dicom.read(everything)
    assert sum("localizer" in title for title in found.choices) >= 1 and "left out" in found.notes[-1]
    assert dicom.read(everything, None, len(found.choices) - 1).voxels_xyz.size <= found.voxels_xyz.size


def shipped_under(folder: str) -> list[Path]:
    return sorted(path for path in (SHIPPED / "dicomdirtests" / folder).rglob("*") if path.is_file())


# Privacy


def test_no_word_names_the_patient(tmp_path):
    folder = tmp_path / "SECRET"
    folder.mkdir()
    files = series(folder, noise((4, ROWS, COLUMNS)), Modality="MR", SOPClassUID=MRImageStorage)
    scout = {"SeriesInstanceUID": "1.8", "ImageType": ["SECRET", "PRIMARY", "LOCALIZER"]}
    files += series(folder, noise((2, ROWS, COLUMNS)), name="x", **scout)
    files += [
        save(instance(noise((3, ROWS, COLUMNS), 1), "55", **PICTURE | {"Modality": "SECRET"}), folder / "SECRET.dcm")
    ]
    (folder / "SECRET.txt").write_text("SECRET")
    files += [folder / "SECRET.txt"]
    for choice in range(3):
        scan = dicom.read(files, None, choice)
        words = repr((scan.origin, scan.notes, scan.choices, scan.modality)) + repr(scan) + repr(scan.source)
        assert "SECRET" not in words.upper() and "1944" not in words
    cut = [path for path in files if path.name.startswith("s")]
    for path in cut:
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UnreadableImage) as caught:
        dicom.read(cut)
    assert "SECRET" not in str(caught.value) and caught.value.__cause__ is None


# Hostile bytes


def good_files(folder: Path) -> dict[str, Path]:
    grey, rgb = (
        noise((ROWS, COLUMNS), dtype=np.uint8, low=0, high=99),
        noise((ROWS, COLUMNS, 3), dtype=np.uint8, low=0, high=99),
    )
    files = {
        "ct": save(instance(noise((ROWS, COLUMNS)), "1", WindowCenter=1, WindowWidth=2), folder / "a"),
        "implicit": save(
            enhanced(noise((2, ROWS, COLUMNS)), [(0, 0, 0), (0, 0, 1)]), folder / "b", ImplicitVRLittleEndian
        ),
        "lut": save(
            instance(noise((ROWS, COLUMNS)), "2", **table("VOILUTSequence", 20, 12, np.arange(64))), folder / "c"
        ),
        "rgb": save(instance(rgb, "3", **PICTURE), folder / "d"),
    }
    for syntax in (RLELossless, JPEG2000Lossless):
        files[syntax] = save(compressed(instance(grey, "4", **PICTURE), syntax), folder / syntax, syntax)
    ds, jpeg = instance(grey, "5", **PICTURE), io.BytesIO()
    Image.fromarray(grey).save(jpeg, "JPEG")
    ds.PixelData = encapsulate([jpeg.getvalue()])
    return files | {"jpeg": save(ds, folder / "e", JPEGBaseline8Bit)}


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_and_truncations(tmp_path, seed):
    """Four times 50 small files; half of the flips fall near the pixels' header, whose tags come late."""
    rng, found = np.random.default_rng(seed), []
    for k, path in enumerate(itertools.islice(itertools.cycle(good_files(tmp_path).values()), 50)):
        data = bytearray(path.read_bytes())
        pixels = data.rindex(b"\xe0\x7f\x10\x00")
        if k % 3 == 0:
            data = data[: rng.integers(1, len(data))]
        else:
            start, stop, flips = (0, len(data), 5) if k % 2 else (pixels - 400, min(len(data), pixels + 120), 2)
            for at in rng.integers(start, stop, flips):
                data[at] ^= 1 << rng.integers(8)
        broken = tmp_path / "broken"
        broken.write_bytes(bytes(data))
        found.append(outcome([broken]))
    assert {"scan", "refused"} == set(found)


def test_a_decoder_that_crashes_ends_alone(tmp_path):
    """GDCM 3.2 violates memory on a JPEG of 72 bits: then a process ends, but not this one."""
    data = bytearray((SHIPPED / "SC_rgb_jpeg_gdcm.dcm").read_bytes())
    bits = data.index(b"\xff\xc3\0\x11\x08") + 4
    data[bits] = 72
    (tmp_path / "broken").write_bytes(bytes(data))
    refused(tmp_path / "broken", "damaged")
    frame = encapsulate([bytes(data[data.index(b"\xff\xd8\xff") :])], has_bot=False)
    how = {
        "rows": 100,
        "columns": 100,
        "samples_per_pixel": 3,
        "bits_allocated": 8,
        "bits_stored": 8,
        "planar_configuration": 0,
    }
    how |= {
        "photometric_interpretation": "RGB",
        "pixel_representation": 0,
        "pixel_keyword": "PixelData",
        "number_of_frames": 1,
    }
    with codes.Elsewhere() as elsewhere:
        for _ in range(2):
            with pytest.raises(UnreadableImage, match="damaged"):
                elsewhere.as_array(frame, syntax=str(JPEGLosslessSV1), index=0, decoding_plugin="gdcm", raw=True, **how)


def test_the_program_that_decodes_ends_with_the_reading(tmp_path, monkeypatch):
    children, start = [], subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **more: children.append(start(*args, **more)) or children[-1]
    )
    path = SHIPPED / "MR_small_jpeg_ls_lossless.dcm"
    other = pydicom.dcmread(path)
    other.SOPInstanceUID, other.ImagePositionPatient = "1.2.3", [0, 0, 0]
    other.save_as(tmp_path / "other")
    assert dicom.read([path, tmp_path / "other"]).voxels_xyz.shape[2] == 2
    assert len(children) == 1 and children[0].poll() is not None
    monkeypatch.setattr(sys, "executable", "/bin/false")
    refused(path, "damaged")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no such program"))
    refused(path, "damaged")


def bombs(folder: Path) -> dict[str, Path]:
    """Small files that ask for much."""
    plain = save(instance(noise((ROWS, COLUMNS)), "1"), folder / "plain").read_bytes()
    meta = plain[: 132 + 12 + struct.unpack_from("<L", plain, 140)[0]]
    press = zlib.compressobj(9, wbits=-15)
    deflated = b"".join(press.compress(bytes(2**20)) for _ in range(50)) + press.flush()
    long = struct.pack("<HH2sHL", 0x0028, 0x3010, b"SQ", 0, 16 * 2**20 - 8)
    item, zero = struct.pack("<HHL", 0xFFFE, 0xE000, 0), bytes(8)
    nested = struct.pack("<HH2sHL", 0x0029, 0x1010, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    many = b"0\\" * 2**22
    head, pixels = plain[: plain.rindex(b"\xe0\x7f\x10\x00")], plain[plain.rindex(b"\xe0\x7f\x10\x00") :]
    implicit = save(instance(noise((ROWS, COLUMNS)), "1"), folder / "plain", ImplicitVRLittleEndian).read_bytes()
    start, end = implicit[: implicit.rindex(b"\xe0\x7f\x10\x00")], implicit[implicit.rindex(b"\xe0\x7f\x10\x00") :]
    j2k = save(
        compressed(instance(noise((ROWS, COLUMNS)), "1"), JPEG2000Lossless), folder / "j", JPEG2000Lossless
    ).read_bytes()
    table_of_offsets = j2k.rindex(b"\xfe\xff\x00\xe0", 0, j2k.index(b"\xff\x4f\xff\x51") - 8)
    contents = {
        "deflated": meta.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99") + deflated,
        "items": head + long + (item * 2**21)[: 16 * 2**20 - 8] + pixels,
        "zeros as items": head + struct.pack("<HH2sHL", 0x0029, 0x1010, b"SQ", 0, 0xFFFFFFFF) + zero * 2**21 + pixels,
        "nested": head + nested * 100_000 + pixels,
        "a number of many": start + struct.pack("<HHL", 0x0028, 0x1050, len(many)) + many + end,
        "offsets": j2k[: table_of_offsets + 4] + struct.pack("<L", 2**25) + bytes(2**25) + j2k[table_of_offsets + 8 :],
        "length": head + b"\xe0\x7f\x10\x00OW\0\0\xfe\xff\xff\xff" + bytes(100),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in contents}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_bombs_stay_small(tmp_path):
    """All in one fresh process, whose peak is its own; each line is name, outcome, growth of the peak in MiB."""
    bombs(tmp_path)
    code = (
        "import re, sys, warnings; warnings.simplefilter('ignore')\n"
        "from pathlib import Path\n"
        "from mpsams.imaging import dicom; from tests.support.dicom_files import outcome, SHIPPED\n"
        "from mpsams.annotation.transfer import group_files\n"
        "dicom._FILE_STEPS //= 20\n"  # 6 s each otherwise
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024\n"
        "outcome([SHIPPED / 'CT_small.dcm']), outcome([SHIPPED / 'MR_small_jp2klossless.dcm'])\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    before = peak()\n"
        "    assert group_files([path]) == [[path]]\n"
        "    print(path.name, outcome([path]), peak() - before, sep='|', flush=True)\n"
    )
    run = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(run, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = {
        name: (found, float(growth)) for name, found, growth in (line.split("|") for line in done.stdout.splitlines())
    }
    opened = {name for name, (found, _) in lines.items() if found == "scan"}
    assert opened == {"plain", "j", "a number of many"}, done.stdout
    assert max(growth for _, growth in lines.values()) < 60, done.stdout


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_memory_of_a_volume_is_on_disk_and_vanishes(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    anonymous = lambda: int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) / 1024  # noqa: E731
    volume = noise((64, 256, 256))
    files = series(tmp_path, volume)
    dicom.read(files[:2])
    before = anonymous()
    scan = dicom.read(files)
    assert anonymous() - before < 4, "of 8 MiB voxels"
    assert not list(folder.iterdir()) and np.array_equal(scan.voxels_xyz.transpose(2, 1, 0), volume)


def test_a_full_disk_is_an_error_and_not_the_end(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    files = series(tmp_path, noise((2, ROWS, COLUMNS)))
    monkeypatch.setattr(os, "posix_fallocate", full)
    refused(files, "no room for the 1 MiB")
