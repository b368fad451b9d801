"""The meaning of a mask's values and its position on the image's grid: one table of inputs through every entry that
reads masks.
"""

from __future__ import annotations

import gzip
import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.sr.codedict import codes

from mpsams import datasets, imaging
from mpsams.app.components import slice_view
from mpsams.imaging import Scan, UnreadableImage, export, geometry, grid, mask_files, mask_values, raster
from mpsams.inference import case as _case
from mpsams.inference import open_case, volumes
from tests.support import mask_imports
from tests.support.dicom_files import OBLIQUE, noise, series
from train import options

SHAPE = (24, 22, 18)
AFFINE = np.array([[-2.0, 0, 0, 30], [0, -1.5, 0, 20], [0, 0, 3, -40], [0, 0, 0, 1]])
HOW = {"seed": 0, "selector": "geodesic"}


def ball(shape: tuple[int, ...] = SHAPE, radius: float = 6.2, shift: float = 0.0) -> np.ndarray:
    away = sum((axis - n / 2 - shift) ** 2 for axis, n in zip(np.ogrid[tuple(slice(n) for n in shape)], shape))
    return away < radius**2


def soft(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """From 1 in the middle to 0, not cut anywhere."""
    away = np.sqrt(sum((axis - n / 2) ** 2 for axis, n in zip(np.ogrid[tuple(slice(n) for n in shape)], shape)))
    return 1 / (1 + np.exp(away - 6.2))


def labels(count: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A ball in slabs of the labels 1 to count."""
    return ball(shape) * (1 + np.arange(shape[0])[:, None, None] * count // shape[0])


def nifti(
    path: Path, values: np.ndarray, affine: np.ndarray = AFFINE, slope: float | None = None, inter: float = 0.0
) -> Path:
    image = nibabel.Nifti1Image(values, affine)
    if slope is not None:  # stored as they are, and scaled by the reader
        image.header.set_slope_inter(slope, inter)
    nibabel.save(image, path)
    return path


def half(values: np.ndarray) -> np.ndarray:
    return values > 0.5


BALL = ball()
OBJECTS = np.where(BALL, np.cumsum(BALL).reshape(SHAPE), 0).astype(np.int32)  # each voxel its own number
# name -> values stored, slope, intercept, what is lesion, words of a note ("" for none)
VOLUMES: dict[str, tuple] = {
    "0 and 1": (BALL.astype(np.uint8), None, 0, BALL, ""),
    "0 and 255": (BALL * np.uint8(255), None, 0, BALL, ""),
    "0 and 1 by a slope of 1/255": (BALL.astype(np.uint8), 1 / 255, 0, BALL, ""),
    "0 and 255 by a slope of 1/255": (BALL * np.uint8(255), 1 / 255, 0, BALL, ""),
    "an intercept of -1": (BALL + np.uint8(1), 1, -1, BALL, ""),
    "two labels": (labels(2).astype(np.uint8), None, 0, BALL, "2 labels"),
    "no pixel is 0": ((1 + BALL).astype(np.uint8), None, 0, np.ones(SHAPE, bool), "No pixel of the mask is 0"),
    "BraTS' labels scaled over int16": (np.round(labels(4) * 8191).astype(np.int16), 1 / 8191, 0, BALL, "3 labels"),
    "many labels": (labels(20).astype(np.int16), None, 0, BALL, "labels"),
    "large uint16 labels in areas": (labels(6).astype(np.uint16) * 900, None, 0, BALL, "labels"),
    "255 beside labels": (
        np.where(ball(radius=7) & ~BALL, 255, labels(6)).astype(np.uint8),
        None,
        0,
        BALL,
        "255 in the mask",
    ),
    "a label below 0": (np.where(ball(radius=7) & ~BALL, -1, BALL).astype(np.int8), None, 0, BALL, ""),
    "shares of 1": (soft().astype(np.float32), None, 0, soft().astype(np.float32) > 0.5, "shares of 1"),
    "shares of 1 in bytes": (
        np.round(soft() * 255).astype(np.uint8),
        1 / 255,
        0,
        np.round(soft() * 255) > 127,
        "shares of 1",
    ),
    "shares up to 255": (
        (soft() * 255).astype(np.float32),
        None,
        0,
        np.float32(soft() * 255) > 0.5 * np.float32(soft() * 255).max(),
        "soft edges",
    ),
    "noise of rounding": (BALL + np.random.default_rng(0).random(SHAPE) * 1e-17, None, 0, BALL, ""),
    "overshoot of splines": (
        (BALL + 0.05 * np.cos(np.arange(SHAPE[2]))).astype(np.float32),
        None,
        0,
        BALL,
        "shares of 1",
    ),
    "labels interpolated": (
        labels(3) * 0.9 + 0.02 * np.random.default_rng(0).random(SHAPE),
        None,
        0,
        BALL,
        "between its labels",
    ),
    "no number outside": (np.where(BALL, 1, np.nan).astype(np.float32), None, 0, BALL, ""),
    "infinite": (np.where(BALL, 1, np.inf).astype(np.float32), None, 0, BALL, ""),
    "one-hot": (np.stack([~BALL, BALL], -1).astype(np.uint8), None, 0, BALL, "one-hot: channel 1 of 2"),
    "one-hot, background last": (
        np.stack([labels(2) == 1, labels(2) == 2, ~BALL], -1).astype(np.uint8),
        None,
        0,
        BALL,
        "channel 3 of 3",
    ),
    "softmax": (np.stack([1 - soft(), soft()], -1).astype(np.float32), None, 0, half(np.float32(soft())), "one-hot"),
    "nothing": (np.zeros(SHAPE, np.uint8), None, 0, np.zeros(SHAPE, bool), ""),
    "low shares": (
        (soft() * 0.3).astype(np.float32),
        None,
        0,
        np.zeros(SHAPE, bool),
        "None of the mask's values is above one half",
    ),
    "dark on white": (~BALL * np.uint8(255), None, 0, ~BALL, "invert it"),
    "hundreds of small objects": (OBJECTS, None, 0, OBJECTS > 0, "labels"),
}
REFUSED = {
    "two raters": (
        np.stack([BALL, ball(shift=1)], -1).astype(np.uint8),
        "2 volumes or channels, and it cannot be told",
    ),
    "the same twice": (np.stack([BALL, BALL], -1).astype(np.uint8), "2 volumes or channels"),
    "Hounsfield units": (
        np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16),
        "values from -1000 to 999",
    ),
    "logits": ((20 * soft() - 12).astype(np.float32), "which are no mask's"),
}


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> _case.Case:
    path = nifti(
        tmp_path_factory.mktemp("case") / "case.nii.gz",
        np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16),
    )
    return open_case.open_upload([path], "mri", lambda modality: HOW)


def by_import(path: Path, case: _case.Case) -> tuple[np.ndarray, tuple[str, ...]]:
    found = mask_imports.read(path, {"x": case.scan})
    return found.masks["x"], found.notes


def by_truth(path: Path, case: _case.Case) -> tuple[np.ndarray, tuple[str, ...]]:
    found = _case.set_truth(case, path)
    return found.truth_xyz, found.truth_notes


def case_bytes(scan: Scan) -> bytes:
    """A scan as the NIfTI file it came from."""
    return gzip.compress(nibabel.Nifti1Image(np.asarray(scan.voxels_xyz), scan.affine).to_bytes(), 1)


def by_folder(path: Path, case: _case.Case) -> tuple[np.ndarray, tuple[str, ...]]:
    root = path.parent / "set"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    (root / "images" / "x.nii.gz").write_bytes(case_bytes(case.scan))
    shutil.copy(path, root / "masks" / "x.nii.gz")
    samples = list(datasets.open_dataset("folder", root, modality="mri"))
    mask_xyz = case.scan.empty_mask()
    geometry.radiological_view(mask_xyz, case.scan.affine)[:] = [sample.mask for sample in samples]
    return mask_xyz, tuple(dict.fromkeys(note for sample in samples for note in sample.notes))


ENTRIES: dict[str, Callable] = {"import": by_import, "truth": by_truth, "folder": by_folder}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", VOLUMES)
def test_values_of_a_volume_mean_the_same_everywhere(tmp_path, case, name, entry):
    values, slope, inter, lesion, words = VOLUMES[name]
    mask_xyz, notes = ENTRIES[entry](nifti(tmp_path / "x_mask.nii.gz", values, slope=slope, inter=inter), case)
    assert mask_xyz.dtype == bool and np.array_equal(mask_xyz, lesion)
    assert words in " ".join(notes) if words else not notes, notes


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_mask_is_refused_everywhere(tmp_path, case, name, entry):
    values, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as refusal:
        ENTRIES[entry](nifti(tmp_path / "x_mask.nii.gz", values), case)
    assert (
        "allowed" in str(refusal.value)
        and str(refusal.value).endswith(".")
        and isinstance(refusal.value, UnreadableImage) == (entry != "folder")
    )


# Pictures

DISC = ball((40, 44), 11.4)
RGB = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255), "black": (0, 0, 0)}


def painted(lesion: str, ground: str) -> Image.Image:
    return Image.fromarray(np.where(DISC[..., None], RGB[lesion], RGB[ground]).astype(np.uint8))


def palette(index_hw: np.ndarray, colours: dict[int, tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(index_hw.astype(np.uint8), "P")
    image.putpalette([part for index in range(256) for part in colours.get(index, (0, 0, 0))])
    return image


def transparent(lesion: tuple[int, int, int]) -> Image.Image:
    rgba = np.zeros((*DISC.shape, 4), np.uint8)
    rgba[DISC] = (*lesion, 255)
    return Image.fromarray(rgba)


RING = ball((40, 44), 13.4) & ~DISC
SLABS = DISC * (1 + np.arange(40)[:, None] * 6 // 40)
VOC = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 255: (224, 224, 192)}
PICTURES: dict[str, tuple] = {
    "six labels": (Image.fromarray(SLABS.astype(np.uint8)), DISC, "labels"),
    "six greys": (Image.fromarray((SLABS * 40).astype(np.uint8)), DISC, "labels"),
    "16-bit labels": (Image.fromarray((SLABS * 1000).astype(np.uint16)), DISC, "labels"),
    "blue on black": (painted("blue", "black"), DISC, ""),
    "one-hot red and green": (painted("green", "red"), DISC, "red 255, green 0, blue 0"),
    "one-hot with lesion first": (painted("red", "green"), DISC, "red 0, green 255, blue 0"),
    "red on white": (painted("red", "white"), DISC, "red 255, green 255, blue 255"),
    "palette of VOC": (palette(np.where(RING, 255, DISC), VOC), DISC, "not labelled"),
    "palette of VOC, two classes": (
        palette(np.where(RING, 255, np.where(SLABS > 3, 15, DISC)), VOC),
        DISC,
        "not labelled",
    ),
    "palette of greys": (palette(1 - DISC.astype(int), {0: (255, 255, 255), 1: (0, 0, 0)}), DISC, ""),
    "white on transparent": (transparent((255, 255, 255)), DISC, ""),
    "black on transparent": (transparent((0, 0, 0)), DISC, "not transparent"),
    "dark on white": (Image.fromarray(~DISC), ~DISC, "invert it"),
    "red with little black": (painted("red", "black").crop((12, 10, 32, 30)), DISC[10:30, 12:32], ""),
    "grey ground": (Image.fromarray(np.where(DISC, 245, 10).astype(np.uint8)), DISC, "lowest value, 10"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_values_of_a_picture(tmp_path, name):
    image, lesion, words = PICTURES[name]
    image.save(tmp_path / "x_mask.png")
    scan = raster.read(
        as_png(Image.fromarray(np.arange(lesion.size, dtype=np.uint16).reshape(lesion.shape))), "ultrasound"
    )
    found = mask_files.read(tmp_path / "x_mask.png", scan)
    assert np.array_equal(found.lesion[:, :, 0].T, lesion) and found.lesion.shape == scan.voxels_xyz.shape
    assert words in " ".join(found.notes) if words else not found.notes, found.notes
    assert np.array_equal(raster.mask_of((tmp_path / "x_mask.png").read_bytes(), lesion.shape).lesion, lesion)
    again = mask_imports.read(tmp_path / "x_mask.png", {"x": scan})
    assert np.array_equal(again.masks["x"], found.lesion)
    assert set(found.notes_on_labels) <= {note.partition(": ")[2] for note in again.notes}


def test_the_numbers_of_a_palette_are_labels():
    index_hw = np.where(RING, 255, np.where(SLABS > 3, 8, DISC))
    found = raster.mask_of(as_png(palette(index_hw, VOC | {8: (64, 0, 0)})), DISC.shape)
    assert np.array_equal(found.labels, np.where(RING, 0, index_hw)) and np.array_equal(found.lesion, DISC)


@pytest.mark.parametrize("alpha", [64, 128, 254])
def test_the_numbers_of_a_palette_are_labels_however_transparent(alpha):
    index_hw = np.where(SLABS > 3, 2, DISC)
    image, data = palette(index_hw, VOC), io.BytesIO()
    image.save(data, "PNG", transparency=bytes([0, 255, alpha]))
    assert np.array_equal(raster.mask_of(data.getvalue(), DISC.shape).labels, index_hw)
    image.save(data := io.BytesIO(), "PNG", transparency=bytes([255, 255, 0]))
    assert np.array_equal(raster.mask_of(data.getvalue(), DISC.shape).labels, np.where(index_hw == 2, 0, index_hw))


def test_a_picture_that_was_reduced_to_a_palette_has_no_labels():
    large = painted("red", "black").resize((176, 160)).resize(DISC.shape[::-1], Image.Resampling.BILINEAR)
    found = raster.mask_of(as_png(large.quantize(16)), DISC.shape)
    assert found.labels is None and np.array_equal(found.lesion, raster.mask_of(as_png(large), DISC.shape).lesion)


@pytest.mark.parametrize("colours", [{0: (0, 0, 255), 1: (255, 0, 0)}, {0: (0, 0, 0), 1: (0, 0, 0), 2: (255, 0, 0)}])
def test_a_palette_whose_numbers_are_not_labels_is_read_by_its_colours(colours):
    found = raster.mask_of(
        as_png(palette(DISC * (len(colours) - 1) + (RING if len(colours) > 2 else 0), colours)), DISC.shape
    )
    assert found.labels is None and np.array_equal(found.lesion, DISC)


@pytest.mark.parametrize("quality", [60, 75, 90, 97])
@pytest.mark.parametrize("scale", [1, 4])
def test_soft_pictures_are_cut_at_half(quality, scale):
    """JPEG, and edges made soft by making the picture smaller; no edge pixel of a label map is taken for
    one of these.
    """
    large = Image.fromarray(np.kron(DISC, np.ones((scale, scale))).astype(np.uint8) * 255)
    data = io.BytesIO()
    large.resize(DISC.shape[::-1], Image.Resampling.BILINEAR).save(data, "JPEG", quality=quality)
    grey = np.asarray(Image.open(data))
    found = raster.mask_of(data.getvalue(), DISC.shape)
    assert np.array_equal(found.lesion, grey > grey.max() / 2) and "soft edges" in found.notes[0]


def test_an_image_taken_for_a_mask_is_reported():
    grey = np.random.default_rng(0).integers(0, 256, DISC.shape).astype(np.uint8)
    assert any(
        "as in an image rather than a mask" in note
        for note in raster.mask_of(as_png(Image.fromarray(grey)), DISC.shape).notes
    )


def test_notes_on_a_truth_mask_stand_on_the_page(tmp_path, case):
    path = nifti(tmp_path / "x.nii.gz", labels(3).astype(np.uint8))
    opened = _case.set_truth(case, path)
    assert "every label above 0 is lesion" in slice_view.current_slice(
        opened
    ) and "every label" not in slice_view.current_slice(_case.set_truth(opened, None))
    assert "every label" in slice_view.current_slice(_case.move_to_slice(opened, "axial", 3, HOW))


def test_a_coloured_photograph_is_refused():
    photograph = np.random.default_rng(0).integers(60, 256, (40, 44, 3)).astype(np.uint8)
    with pytest.raises(UnreadableImage, match="which colour of this mask is its background; allowed are black"):
        raster.mask_of(as_png(Image.fromarray(photograph)), (40, 44))


def as_png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


# Grids


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "PIL", "ASR"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_a_mask_in_another_orientation_is_turned_onto_the_image(tmp_path, case, axes, entry):
    lesion = ball(shift=1.5) & (np.arange(SHAPE[0])[:, None, None] > 9)
    image = nibabel.Nifti1Image(lesion.astype(np.uint8), AFFINE)
    turned = image.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.io_orientation(AFFINE), nibabel.orientations.axcodes2ornt(axes))
    )
    nibabel.save(turned, tmp_path / "x_mask.nii.gz")
    mask_xyz, notes = ENTRIES[entry](tmp_path / "x_mask.nii.gz", case)
    assert np.array_equal(mask_xyz, lesion) and all(
        np.argsort(mask_xyz.strides) == np.argsort(case.scan.voxels_xyz.strides)
    )
    assert any("another orientation" in note for note in notes) == (axes != "".join(nibabel.aff2axcodes(AFFINE)))


def moved(
    millimetres: tuple[float, float, float] = (0, 0, 0), spacing: float = 1.0, degrees: float = 0.0
) -> np.ndarray:
    turn, angle = np.eye(4), np.radians(degrees)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ AFFINE @ np.diag([spacing, 1, 1, 1])
    affine[:3, 3] += millimetres
    return affine


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    "affine, words",
    [
        (moved((0, 0, 0.4)), "centre 0.4 mm away"),
        (moved(spacing=1.1), r"voxels of 2.2 × 1.5 × 3 mm instead of 2 × 1.5 × 3 mm"),
        (moved(degrees=2), "axes turned by 2°"),
        (moved(degrees=0.3), "axes turned by 0.3°"),
    ],
)
def test_another_grid_is_refused_with_how_it_differs(tmp_path, case, affine, words, entry):
    with pytest.raises(ValueError, match=words):
        ENTRIES[entry](nifti(tmp_path / "x_mask.nii.gz", BALL.astype(np.uint8), affine), case)


@pytest.mark.parametrize("scale, same", [(1.0, True), (0.01, False)])
def test_the_tolerance_grows_with_the_voxels(scale, same):
    def scan(shift: float) -> Scan:
        affine = AFFINE @ np.diag([scale, scale, scale, 1.0])
        affine[0, 3] += shift
        return Scan(BALL, "mri", "", affine=affine)

    if same:
        assert np.array_equal(grid.onto(scan(0.05), scan(0)).voxels_xyz, BALL)
    else:
        with pytest.raises(UnreadableImage, match="another grid"):
            grid.onto(scan(0.05), scan(0))


def test_a_mask_that_does_not_state_where_it_lies_is_taken_by_its_size(tmp_path, case):
    image = nibabel.Nifti1Image(BALL.astype(np.uint8), None)
    nibabel.save(image, tmp_path / "x_mask.nii.gz")
    for entry in ENTRIES.values():
        mask_xyz, notes = entry(tmp_path / "x_mask.nii.gz", case)
        assert np.array_equal(mask_xyz, BALL) and "does not state where it lies" in notes[0]
    nibabel.save(nibabel.Nifti1Image(BALL[1:].astype(np.uint8), None), tmp_path / "x_mask.nii.gz")
    with pytest.raises(UnreadableImage, match=r"mask is 23 × 22 × 18 voxels but its image is 24 × 22 × 18"):
        by_truth(tmp_path / "x_mask.nii.gz", case)


def test_codes_of_a_data_set():
    known = mask_values.Codes(lesion=(1,), known=(0, 1, 2))
    found = mask_values.lesion([Scan(labels(2), "mri", "")], known)
    assert np.array_equal(found.lesion, labels(2) == 1) and not found.notes
    assert np.array_equal(mask_values.lesion([Scan(soft(), "mri", "")], known).lesion, np.float32(soft()) > 0.5)
    for wrong in (labels(3), labels(2) + 0.5 * BALL):
        with pytest.raises(mask_values.UnknownCodes, match=r"holds the codes \[.*\]; expected only \[0, 1, 2\]"):
            mask_values.lesion([Scan(wrong, "mri", "")], known)


def coded(
    root: Path, name: str, values: np.ndarray, affine: np.ndarray = AFFINE, slope: float | None = None
) -> datasets.Dataset:
    """A data set with codes of its own, of one patient, whose mask is stored so."""
    image, mask = {
        "hecktor": ("hecktor_nii/A_ct.nii.gz", "hecktor_nii/A_gtvt.nii.gz"),
        "brats": ("HGG/A/A_t1.nii.gz", "HGG/A/A_seg.nii.gz"),
    }[name]
    (root / mask).parent.mkdir(parents=True)
    nifti(root / image, np.random.default_rng(0).integers(-900, 900, SHAPE).astype(np.int16))
    nifti(root / mask, values, affine, slope)
    return datasets.open_dataset(name, root)


def in_xyz(found: datasets.Dataset) -> np.ndarray:
    mask_xyz = np.zeros(SHAPE, bool)
    geometry.radiological_view(mask_xyz, AFFINE)[:] = [sample.mask for sample in found]
    return mask_xyz


@pytest.mark.parametrize("name, lesion", [("hecktor", labels(2) == 1), ("brats", BALL)])
def test_data_sets_with_codes_scale_turn_and_cut_alike(tmp_path, name, lesion):
    scaled = coded(tmp_path / "scaled", name, np.round(labels(2) * 8191).astype(np.int16), slope=1 / 8191)
    assert np.array_equal(in_xyz(scaled), lesion)
    flipped = coded(
        tmp_path / "flipped",
        name,
        labels(2)[::-1].astype(np.uint8),
        AFFINE @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    )
    assert np.array_equal(in_xyz(flipped), lesion) and any("another orientation" in note for note in flipped[0].notes)
    interpolated = coded(tmp_path / "soft", name, soft().astype(np.float32))
    assert np.array_equal(in_xyz(interpolated), np.float32(soft()) > 0.5) and "shares of 1" in interpolated[0].notes[-1]
    strange = coded(tmp_path / "strange", name, labels(9).astype(np.uint8))
    with pytest.raises(ValueError, match=r"\.nii\.gz holds the codes \[.*\]; expected only \[0, 1, 2"):
        strange[0]
    with pytest.raises(ValueError, match="has 4 axes"):
        coded(tmp_path / "one-hot", name, np.stack([~BALL, BALL], -1).astype(np.uint8))


def test_a_sequence_in_another_orientation_is_turned(tmp_path):
    values = np.random.default_rng(1).integers(0, 900, SHAPE).astype(np.int16)
    coded(tmp_path, "brats", BALL.astype(np.uint8))
    nifti(
        tmp_path / "HGG/A/A_flair.nii.gz", values.transpose(2, 0, 1)[::-1], (AFFINE @ turn(SHAPE[2]))[:, [2, 0, 1, 3]]
    )
    found = datasets.open_dataset("brats", tmp_path, ("t1", "flair"))
    shown_shw = geometry.radiological_view(values, AFFINE)
    assert all(np.array_equal(sample.image[1], shown_hw) for sample, shown_hw in zip(found, shown_shw, strict=True))


def turn(count: int) -> np.ndarray:
    """The last of three axes, of so many voxels, the other way round."""
    return np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, count - 1], [0, 0, 0, 1.0]])


def test_distances_of_a_tilted_series_are_taken_through_its_steps(tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    series(tmp_path / "images" / "a", noise((5, 34, 40)), step=(0, 1, 3))
    found = datasets.open_dataset("folder", tmp_path)[0]
    np.testing.assert_allclose(np.linalg.norm(found.steps, axis=1), found.spacing)
    assert abs(found.steps[0] @ found.steps[1]) > 0.1


def test_notes_on_masks_reach_the_command_line(tmp_path, case, capsys):
    """``packs`` and ``stack`` keep them, and commands print each once, with the names of whose masks they are."""
    path = nifti(tmp_path / "x_mask.nii.gz", labels(3).astype(np.uint8))
    by_folder(path, case)
    found = datasets.stack(datasets.open_dataset("folder", tmp_path / "set", modality="mri"), 32)
    options.print_notes(found.notes)
    assert capsys.readouterr().out == "note: x: The mask holds 3 labels; every label above 0 is lesion.\n"


def test_a_busi_mask_with_labels_and_soft_edges(tmp_path):
    for kind in ("benign", "malignant", "normal"):
        folder = tmp_path / "Dataset_BUSI_with_GT" / kind
        folder.mkdir(parents=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 255, DISC.shape).astype(np.uint8)).save(
            folder / f"{kind} (1).png"
        )
        values = {"benign": SLABS, "malignant": np.rint(255 * soft((*DISC.shape, 1))[..., 0]), "normal": SLABS * 0}[
            kind
        ]
        Image.fromarray(values.astype(np.uint8)).save(folder / f"{kind} (1)_mask.png")
    found = {sample.case: sample for sample in datasets.open_dataset("busi", tmp_path)}
    assert np.array_equal(found["benign (1)"].mask, DISC) and "labels" in found["benign (1)"].notes[0]
    assert "soft edges" in found["malignant (1)"].notes[0] and not found["normal (1)"].notes


def test_a_mask_has_the_memory_order_of_its_image(case):
    for scan in (
        case.scan,
        Scan(np.zeros((5, 6, 7)), "mri", ""),
        Scan(np.zeros((5, 6, 7)).transpose(1, 2, 0), "mri", ""),
    ):
        mask_xyz = scan.empty_mask()
        assert mask_xyz.dtype == bool and not mask_xyz.any() and mask_xyz.flags.writeable
        assert list(np.argsort(mask_xyz.strides)) == list(np.argsort(scan.voxels_xyz.strides))


def test_volumes_and_areas_of_a_sheared_grid():
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0.5, 0, 0], [0, 0.5, 5 * np.sin(0.35)], [0, 0, 5 * np.cos(0.35)]])
    assert geometry.voxel_mm3(affine) == pytest.approx(0.25 * 5 * np.cos(0.35))
    assert geometry.pixel_mm2(affine) == pytest.approx(0.25)
    assert geometry.pixel_mm2(affine, "sagittal") == pytest.approx(2.5 * np.cos(0.35))
    steps = geometry.steps(affine)
    assert np.linalg.norm(steps, axis=1) == pytest.approx(geometry.spacing(affine)) and abs(
        np.linalg.det(steps)
    ) == pytest.approx(geometry.voxel_mm3(affine))


def test_millilitres_and_distances_of_a_tilted_scan(tmp_path):
    """The volume of a voxel is the determinant of the affine, and distances are taken through it."""
    opened = open_case.open_scan("", tilted(tmp_path), HOW)
    truth_xyz = opened.scan.empty_mask()
    mask_xyz, steps = truth_xyz.copy(), opened.scan.affine[:3, :3]
    truth_xyz[4, 5, 6], mask_xyz[6, 8, 12] = True, True
    found = volumes.measure(replace(opened, truth_xyz=truth_xyz), mask_xyz)
    assert found["millilitres"] * 1000 == pytest.approx(abs(np.linalg.det(steps))) == pytest.approx(2 * 1.5 * 3)
    assert found["hd95"] == pytest.approx(np.linalg.norm(steps @ (2, 3, 6)))
    assert found["millilitres"] * 1000 < np.prod(opened.scan.spacing()) * 0.95


@pytest.mark.parametrize("entry", [by_import, by_truth])
@pytest.mark.parametrize("full", [255, 100])
def test_a_fractional_dicom_seg_is_cut_at_half(tmp_path, entry, full):
    """Written by highdicom, with fractions of each side of one half."""
    files = series(tmp_path, noise((5, 34, 40)))
    scan = imaging.read(files)
    share_xyz = np.random.default_rng(3).random(scan.voxels_xyz.shape)
    share_xyz[np.abs(share_xyz - 0.5) < 0.01] = 1
    described = hd.seg.SegmentDescription(
        1, "lesion", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion, "MANUAL"
    )
    sources = sorted(
        map(pydicom.dcmread, files),
        key=lambda data: [image for image, _ in scan.source.images].index(data.SOPInstanceUID),
    )
    made = hd.seg.Segmentation(
        sources, share_xyz.transpose(2, 1, 0), "FRACTIONAL", [described], hd.UID(), 1, hd.UID(), 1, "m", "m", "1", "1",
        fractional_type="PROBABILITY", max_fractional_value=full, omit_empty_frames=False,
    )  # fmt: skip
    made.save_as(tmp_path / "x_mask.dcm")
    mask_xyz, _ = entry(tmp_path / "x_mask.dcm", open_case.open_scan("", scan, HOW))
    assert np.array_equal(mask_xyz, share_xyz > 0.5)


# Every export of every kind of scan comes back


def cine(folder: Path) -> Scan:
    return Scan(np.random.default_rng(0).random((30, 26, 9)), "ultrasound", "DICOM")


def of_nifti(affine: np.ndarray | None, shape: tuple[int, ...] = SHAPE) -> Callable[[Path], Scan]:
    return lambda folder: imaging.read(
        [nifti(folder / "scan.nii.gz", np.random.default_rng(0).integers(0, 900, shape).astype(np.int16), affine)],
        "mri",
    )


def of_picture(folder: Path) -> Scan:
    return raster.read(
        as_png(Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 44)).astype(np.uint8))), "ultrasound"
    )


def tilted(folder: Path) -> Scan:
    affine = AFFINE.copy()
    affine[1, 2] = 1.1
    return Scan(np.random.default_rng(0).integers(0, 900, SHAPE), "ct", "", affine=affine)


def of_dicom(count: int, **where) -> Callable[[Path], Scan]:
    return lambda folder: imaging.read(series(folder, noise((count, 34, 40)), **where))


KINDS: dict[str, Callable[[Path], Scan]] = {
    "picture": of_picture,
    "cine": cine,
    "unplaced NIfTI": of_nifti(None),
    "NIfTI": of_nifti(AFFINE),
    "oblique NIfTI": of_nifti(moved(degrees=17)),
    "NIfTI of one slice": of_nifti(AFFINE, (24, 22, 1)),
    "NIfTI of one sagittal slice": of_nifti(AFFINE, (1, 24, 22)),
    "tilted": tilted,
    "DICOM": of_dicom(5),
    "DICOM, oblique": of_dicom(5, orientation=OBLIQUE),
    "DICOM of one slice": of_dicom(1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_exported_masks_come_back(tmp_path, kind):
    scan = KINDS[kind](tmp_path)
    opened = open_case.open_scan("", scan, HOW)
    mask_xyz = scan.empty_mask()
    mask_xyz[np.random.default_rng(3).random(mask_xyz.shape) < 0.1] = True
    formats = export.formats(scan)
    assert ("dicom-seg" in formats) == kind.startswith("DICOM")
    for format in formats:
        data, ending = export.write(scan, mask_xyz, format)
        path = tmp_path / f"x_mask{ending}"
        path.write_bytes(data)
        for entry in (by_import, by_truth):
            found_xyz, notes = entry(path, opened)
            assert np.array_equal(found_xyz, mask_xyz) and not notes, (format, notes)
