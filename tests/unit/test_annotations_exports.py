"""Exports of annotations read back by each format's own library and by our importer; hostile imports; nobody named."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from highdicom.seg import segread
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mpsams import imaging
from mpsams.annotation import exports, image_export, imports, run_lengths
from mpsams.annotation.exports import Annotated
from mpsams.datasets import open_dataset
from mpsams.imaging import Scan, UnreadableImage, dicom, raster
from tests.support import mask_imports
from tests.support.annotated import SECRET, volume  # noqa: F401
from tests.support.dicom_files import OBLIQUE, noise, series

pytestmark = pytest.mark.filterwarnings("ignore")
SIZES = [(33, 47), (16, 16), (64, 31), (17, 40)]


def random(shape: tuple[int, ...], seed: int = 0, part: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < part


def picture(shape_hw: tuple[int, int], seed: int = 0, top: int = 255) -> Scan:
    """A picture of 8 bits, or of 16 of which some are used, opened as an upload."""
    pixels = np.random.default_rng(seed).integers(0, top + 1, shape_hw).astype(np.uint8 if top < 256 else np.uint16)
    pixels[0, 0] = top
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return raster.read(data.getvalue(), "ultrasound")


def pictures() -> list[Annotated]:
    """Odd shapes, and a mask that is random, empty, full or one pixel."""
    scans = [picture(size, seed) for seed, size in enumerate(SIZES)]
    masks = [random(scan.voxels_xyz.shape) for scan in scans]
    masks[1][:], masks[2][:], masks[3][:] = False, True, False
    masks[3][3, 9] = True
    return [
        Annotated(scan, mask, label)
        for scan, mask, label in zip(scans, masks, ("benign", "normal", "malignant", "benign"))
    ]


def everything(folder: Path) -> list[Annotated]:
    """The pictures, and volumes: straight, oblique, with an empty and a full mask, and DICOM."""
    scans = [
        volume(folder),
        volume(folder, "LPS", oblique=True, seed=1),
        volume(folder, "SAL", seed=2),
        volume(folder, "RAS", seed=3),
    ]
    scans.append(dicom.read(series(folder, noise((5, 34, 40)))))
    masks = [random(scan.voxels_xyz.shape, seed, 0.1) for seed, scan in enumerate(scans)]
    masks[2][:], masks[3][:] = False, True
    masks[4][:, :, 1:3] = False
    return pictures() + [Annotated(scan, mask) for scan, mask in zip(scans, masks)]


def names_of(items: list[Annotated]) -> list[str]:
    return [item.name or f"image-{number:04d}" for number, item in enumerate(items, start=1)]


def scans_of(items: list[Annotated]) -> dict[str, Scan]:
    return dict(zip(names_of(items), (item.scan for item in items)))


def same(found: mask_imports.Found, items: list[Annotated], names: list[str] | None = None) -> None:
    for name, item in zip(names or names_of(items), items, strict=True):
        assert np.array_equal(found.masks[name], item.mask_xyz), name
    assert len(found.masks) == len(items) and not found.notes and not found.strangers


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Run lengths and polygons


@pytest.mark.parametrize("seed", range(60))
def test_runs_are_those_of_pycocotools(seed):
    source = np.random.default_rng(seed)
    shape = tuple(source.integers(1, 90, 2)) if seed % 3 else tuple(source.integers(300, 700, 2))
    mask = source.random(shape) < source.choice([0, 0.001, 0.1, 0.5, 0.99, 1])
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = run_lengths.compress(run_lengths.encode(mask))
    assert ours == theirs["counts"].decode()
    assert np.array_equal(run_lengths.decode(run_lengths.decompress(ours), shape), mask)
    assert run_lengths.box(mask) == (coco_mask.toBbox(theirs).tolist() if mask.any() else [0, 0, 0, 0])


def test_long_runs():
    mask = np.zeros((3000, 4000), bool)
    mask[5, 7] = mask[2999, 3999] = mask[1000:1002, 2000] = True
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert run_lengths.compress(run_lengths.encode(mask)) == theirs and np.array_equal(
        run_lengths.decode(run_lengths.decompress(theirs), mask.shape), mask
    )


def test_polygons_by_hand_and_beside_pycocotools():
    boxed = run_lengths.polygon(np.array([(2, 1), (6, 1), (6, 4), (2, 4)], float), (7, 9))
    expected = np.zeros((7, 9), bool)
    expected[1:4, 2:6] = True
    assert np.array_equal(boxed, expected)
    triangle = run_lengths.polygon(np.array([(0, 0), (4, 0), (0, 4)], float), (4, 4))
    assert triangle.astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    outside = run_lengths.polygon(np.array([(-50, -50), (500, -50), (500, 500), (-50, 500)], float), (5, 6))
    assert outside.all()
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    star = np.stack(
        [60 + (30 + 12 * np.sin(5 * angle)) * np.cos(angle), 50 + (25 + 9 * np.sin(5 * angle)) * np.sin(angle)], 1
    )
    theirs = coco_mask.decode(coco_mask.frPyObjects([star.ravel().tolist()], 100, 120))[..., 0].astype(bool)
    ours = run_lengths.polygon(star, (100, 120))
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.95
    from matplotlib.path import Path as Outline

    centres = np.stack(np.meshgrid(np.arange(120) + 0.5, np.arange(100) + 0.5), -1).reshape(-1, 2)
    assert np.array_equal(ours.ravel(), Outline(star).contains_points(centres))


# Each format by its own library, by us and as a data set


def test_coco(tmp_path):
    items = everything(tmp_path)
    written = exports.write(items, "coco", tmp_path / "out")
    assert written.places == ("annotations.json",) * len(items) and not written.notes
    theirs = COCO(str(tmp_path / "out" / "annotations.json"))
    found = {}
    for image in theirs.dataset["images"]:
        mask = np.zeros((image["height"], image["width"]), bool)
        for annotation in theirs.loadAnns(theirs.getAnnIds(imgIds=image["id"])):
            rle = theirs.annToRLE(annotation)
            mask |= theirs.annToMask(annotation).astype(bool)
            assert (coco_mask.area(rle), coco_mask.toBbox(rle).tolist()) == (annotation["area"], annotation["bbox"])
        found[image["file_name"]] = mask
    kinds = {category["id"]: category["name"] for category in theirs.dataset["categories"]}
    assert sorted(kinds.values()) == ["benign", "lesion", "malignant"] + ["normal"]
    for name, item in zip(names_of(items), items):
        shown = item.scan.shown() if item.scan.affine is None else None
        if shown is not None:
            assert np.array_equal(found.pop(f"{name}.png"), item.mask_xyz[:, :, 0].T)
            continue
        slices = imaging.geometry.radiological_view(item.mask_xyz, item.scan.affine)
        for number, mask in enumerate(slices):
            if mask.any() or not slices.any():
                assert np.array_equal(found.pop(f"{name}/{number:03d}.png"), mask)
    assert not found
    read = mask_imports.read(tmp_path / "out", scans_of(items))
    same(read, items)
    assert read.labels["image-0001"] == "benign" and read.labels["image-0005"] == "lesion"


def test_nifti(tmp_path):
    items = everything(tmp_path)
    written = exports.write(items, "nifti", tmp_path / "out")
    for item, place in zip(items, written.places):
        image = nibabel.load(tmp_path / "out" / place)
        stored = np.asarray(image.dataobj)
        assert np.array_equal(stored.reshape(item.mask_xyz.shape), item.mask_xyz) and set(np.unique(stored)) <= {0, 1}
        if item.scan.affine is not None:
            np.testing.assert_allclose(image.affine, item.scan.affine, atol=1e-4)
    same(mask_imports.read(tmp_path / "out", scans_of(items)), items)


def test_images_and_masks_open_as_a_data_set(tmp_path):
    items = everything(tmp_path)
    written = exports.write(items, "folder", tmp_path / "out")
    assert (
        written.places[0] == "masks/image-0001.png"
        and written.places[4] == "masks/image-0005.nii.gz"
        and not written.notes
    )
    samples = {sample.case: sample for sample in open_dataset("folder", tmp_path / "out")}
    count = 0
    for name, item in zip(names_of(items), items):
        for number, mask in enumerate(imaging.geometry.radiological_view(item.mask_xyz, item.scan.affine)):
            sample = samples[name if item.scan.affine is None else f"{name}/{number:03d}"]
            assert np.array_equal(sample.mask, mask)
            np.testing.assert_allclose(sample.image, item.scan.slice(number), rtol=1e-6, atol=1e-6)
            count += 1
        if item.scan.affine is not None:
            image = nibabel.load(tmp_path / "out" / "images" / f"{name}.nii.gz")
            np.testing.assert_allclose(image.affine, item.scan.affine, atol=1e-4)
            assert np.array_equal(np.asarray(image.dataobj.get_unscaled()), item.scan.voxels_xyz)
    assert count == len(samples)
    same(mask_imports.read(tmp_path / "out", scans_of(items)), items)


def test_busi_opens_as_a_data_set(tmp_path):
    items = [*pictures(), Annotated(volume(tmp_path), random((26, 20, 7)).transpose(1, 2, 0), "benign")]
    items.append(Annotated(items[0].scan, items[0].mask_xyz, "normal"))
    items.append(Annotated(items[0].scan, items[0].mask_xyz, "cyst"))
    items[4] = Annotated(items[4].scan, random(items[4].scan.voxels_xyz.shape), "benign")
    written = exports.write(items, "busi", tmp_path / "out")
    assert written.places == (
        "benign/benign (1)_mask.png",
        "normal/normal (1)_mask.png",
        "malignant/malignant (1)_mask.png",
        "benign/benign (2)_mask.png",
        None,
        None,
        None,
    )
    assert [note.split()[0] for note in written.notes] == ["image-0005", "image-0006", "image-0007"]
    samples = {sample.case: sample for sample in open_dataset("busi", tmp_path / "out")}
    cases = [Path(place).stem.removesuffix("_mask") for place in written.places[:4]]
    assert set(samples) == set(cases)
    for case, item in zip(cases, items):
        assert np.array_equal(samples[case].mask, item.mask_xyz[:, :, 0].T)
        assert np.array_equal(samples[case].image, item.scan.slice(0))
    found = mask_imports.read(tmp_path / "out", {case: item.scan for case, item in zip(cases, items)})
    same(found, items[:4], cases)
    assert found.labels == {case: case.split(" ")[0] for case in cases}
    (note,) = exports.write(items[:1], "busi", tmp_path / "one").notes
    assert "malignant or normal" in note


@pytest.mark.parametrize("top", [200, 255, 1023, 4095, 16000, 65535])
def test_pictures_keep_their_values(tmp_path, top):
    scan = picture((20, 37), 3, top)
    written = exports.write([Annotated(scan, random(scan.voxels_xyz.shape))], "folder", tmp_path / "out")
    again = imaging.read([tmp_path / "out" / "images" / "image-0001.png"])
    assert not written.notes and np.array_equal(again.voxels_xyz, scan.voxels_xyz)


def test_values_that_no_png_holds_are_rounded_and_reported(tmp_path):
    values = np.random.default_rng(0).random((20, 30, 1)).astype(np.float32)
    for name, scan in (("bright", Scan(values, "ultrasound", "")), ("dark", Scan(values / 9, "ultrasound", ""))):
        written = exports.write([Annotated(scan, values > 0.5)], "folder", tmp_path / name)
        again = imaging.read([tmp_path / name / "images" / "image-0001.png"])
        assert "rounded" in written.notes[0]
        assert np.abs(again.voxels_xyz - scan.voxels_xyz).max() < (1e-5 if name == "bright" else 0.002)


def test_a_cine_loop_and_hounsfield_units_without_geometry(tmp_path):
    cine = Scan(random((30, 20, 4)).astype(np.float32), "ultrasound", "")
    flat = Scan(noise((40, 30, 1)), "ct", "", 1.0, -24.0)
    items = [Annotated(cine, random((30, 20, 4), 1)), Annotated(flat, random((40, 30, 1), 2))]
    written = exports.write(items, "folder", tmp_path / "out")
    assert written.places == ("masks/image-0001.nii.gz", "masks/image-0002.nii.gz")
    image = nibabel.load(tmp_path / "out" / "images" / "image-0002.nii.gz")
    assert np.array_equal(image.get_fdata(), flat.voxels_xyz - 24.0)
    assert len(open_dataset("folder", tmp_path / "out")) > 0
    for format in ("folder", "coco", "nifti"):
        exports.write(items, format, tmp_path / format)
        same(mask_imports.read(tmp_path / format, scans_of(items)), items)


@pytest.mark.parametrize(
    "modality, dtype, expected", [("mri", np.int16, 18), ("ct", np.int16, -1000), ("ct", np.uint16, -24)]
)
def test_padding_leaves_as_background(tmp_path, modality, dtype, expected):
    voxels_xyz = noise((40, 30, 2), dtype=dtype, low=42, high=900)
    voxels_xyz[0, 0, 0], voxels_xyz[1] = 42, 30000
    scan = Scan(voxels_xyz, modality, "", 1.0, -24.0, np.eye(4), padding=(30000, 30000))
    exports.write([Annotated(scan, random(voxels_xyz.shape))], "folder", tmp_path / "out")
    values = nibabel.load(tmp_path / "out" / "images" / "image-0001.nii.gz").get_fdata()
    assert (values[1] == expected).all() and np.array_equal(values[2:], voxels_xyz[2:] - 24.0)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), OBLIQUE])
def test_dicom_seg(tmp_path, orientation):
    paths = series(tmp_path, noise((5, 35, 41)), orientation)
    scan = dicom.read(paths)
    masks = [
        random(scan.voxels_xyz.shape, 1, 0.2),
        np.zeros(scan.voxels_xyz.shape, bool),
        np.ones(scan.voxels_xyz.shape, bool),
    ]
    masks[0][:, :, 2] = False
    items = [
        Annotated(scan, masks[0], "Läsion"),
        Annotated(scan, masks[1], algorithm="MPS-AMS"),
        Annotated(scan, masks[2]),
    ]
    written = exports.write([*items, Annotated(picture((20, 20)), random((20, 20, 1)))], "dicom-seg", tmp_path / "out")
    assert (
        written.places == ("image-0001.dcm", "image-0002.dcm", "image-0003.dcm", None)
        and "image-0004 was left out" in written.notes[0]
    )
    order = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, paths)}
    for item, place in zip(items, written.places):
        seg = segread(str(tmp_path / "out" / place))
        uids = [uid for uid, _ in scan.source.images]
        assert set(uids) == set(order)
        pixels = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
        assert np.array_equal(pixels[..., 0].transpose(2, 1, 0).astype(bool), item.mask_xyz)
        assert seg.SegmentSequence[0].SegmentAlgorithmType == ("SEMIAUTOMATIC" if item.algorithm else "MANUAL")
        assert seg.SOPInstanceUID == seg.file_meta.MediaStorageSOPInstanceUID and seg.SOPInstanceUID.is_valid
        found = mask_imports.read(tmp_path / "out" / place, {"other": picture((20, 20)), "mine": scan})
        assert np.array_equal(found.masks["mine"], item.mask_xyz) and found.labels == {"mine": item.label}
    uids = {pydicom.dcmread(tmp_path / "out" / place)[keyword].value for place in written.places[:3]
            for keyword in ("SOPInstanceUID", "SeriesInstanceUID")}  # fmt: skip
    assert len(uids) == 6


# The same bytes each time, whole or not at all, and nobody named


@pytest.mark.parametrize("format", exports.FORMATS)
def test_equal_items_make_equal_bytes_and_nobody_is_named(tmp_path, format):
    items = everything(tmp_path)
    for name in ("a", "b"):
        exports.write(items, format, tmp_path / name)
    assert files(tmp_path / "a") == files(tmp_path / "b") and files(tmp_path / "a")
    first = exports.zipped(tmp_path / "a")
    for path in (tmp_path / "b").rglob("*"):
        os.utime(path, (1e9, 1e9))
    assert first.read_bytes() == exports.zipped(tmp_path / "b").read_bytes() and first.name == "a.zip"
    with zipfile.ZipFile(first) as file:
        assert {name: file.read(name) for name in file.namelist()} == files(tmp_path / "a")
        assert {entry.date_time[0] for entry in file.infolist()} == {1980}
    for name, data in files(tmp_path / "a").items():
        plain = gzip.decompress(data) if name.endswith(".gz") else data
        assert b"SECRET" not in plain and "SECRET" not in name and b"1944" not in plain[:1024]
    with zipfile.ZipFile(first) as file:
        text = " ".join(file.namelist())
    assert SECRET not in text
    if format in ("folder", "nifti", "coco"):
        same(mask_imports.read(first, scans_of(items)), items)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    for again in (lambda: exports.write(items, format, tmp_path / "a"), lambda: exports.zipped(tmp_path / "a")):
        with pytest.raises(ValueError, match="is there already"):
            again()


def test_names_are_kept_when_given_and_refused_when_unsafe(tmp_path):
    first, second, *_ = pictures()
    given = [Annotated(first.scan, first.mask_xyz, "benign", "Fall 1"), second]
    assert exports.write(given, "folder", tmp_path / "out").places == ("masks/Fall 1.png", "masks/image-0002.png")
    same(mask_imports.read(tmp_path / "out", scans_of(given)), given)
    for name in ("../a", "a/b", "a\\b", ".hidden", "a\n", "con", "NUL.x", "a" * 101, "a:b", "a.", "e\u0301", " a"):
        with pytest.raises(ValueError, match="name of image 1") as caught:
            exports.write([Annotated(first.scan, first.mask_xyz, name=name)], "folder", tmp_path / "no")
        assert name not in str(caught.value) or len(name) < 3
    with pytest.raises(ValueError, match="one name"):
        exports.write(
            [Annotated(first.scan, first.mask_xyz, name=name) for name in ("A", "a")], "coco", tmp_path / "no"
        )


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    item = pictures()[0]
    wrong = [
        ([item], "bmp", "format 'bmp'"),
        ([], "coco", "nothing to export"),
        ([item], "dicom-seg", "image-0001 was left out"),
        ([Annotated(item.scan, item.mask_xyz.astype(np.uint8))], "coco", "mask is uint8"),
        ([Annotated(item.scan, item.mask_xyz[1:])], "coco", "mask is bool"),
        ([Annotated(item.scan, item.mask_xyz, "a\\b")], "coco", "label"),
        ([Annotated(item.scan, item.mask_xyz, " ")], "coco", "label"),
    ]
    for items, format, match in wrong:
        with pytest.raises(ValueError, match=match):
            exports.write(items, format, tmp_path / "out")
    monkeypatch.setattr(exports.raster, "write_mask", lambda mask: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        exports.write([item], "folder", tmp_path / "out")
    assert not list(tmp_path.iterdir())


# Which image a mask belongs to, and which files are masks


def annotated(*ids: object, names: tuple[str, ...] = ("000001.png", "000002.png", "000003.png")) -> dict:
    """COCO of 96 x 128 images with these ids, a square of 25 x 25 on each, further to the right and down from one to
    the next.
    """
    images = [{"id": own, "file_name": name, "height": 96, "width": 128} for own, name in zip(ids, names)]
    annotations = []
    for number, own in enumerate(ids):
        left, top = 43 + 15 * number, 26 + 8 * number
        corners = [left, top, left + 25, top, left + 25, top + 25, left, top + 25]
        annotations.append(
            {"id": number + 1, "image_id": own, "category_id": 1, "iscrowd": 0, "segmentation": [corners]}
        )
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "lesion"}]}


def square(number: int) -> np.ndarray:
    mask_hw = np.zeros((96, 128), bool)
    mask_hw[26 + 8 * number :, 43 + 15 * number :][:25, :25] = True
    return mask_hw


def written(folder: Path, whole: dict) -> Path:
    path = folder / "instances.json"
    path.write_text(json.dumps(whole), encoding="utf-8")
    return path


def three() -> dict[str, Scan]:
    return {f"{number:06d}": picture((96, 128), number) for number in (1, 2, 3)}


@pytest.mark.parametrize(
    "ids",
    [
        (1, 2, 3),
        ("1", "2", "3"),
        (1.0, 2.0, 3.0),
        ("a-1", "b-2", "c-3"),
        (7, "7", "007"),
        (0, False, ""),
        (10**30, -1, 0.5),
    ],
)
def test_annotations_are_on_the_image_of_their_id_whatever_its_type(tmp_path, ids):
    found = mask_imports.read(written(tmp_path, annotated(*ids)), three())
    assert not found.notes
    for number, name in enumerate(three()):
        assert np.array_equal(found.masks[name][:, :, 0].T, square(number))


@pytest.mark.parametrize("ids, kept, message", [
    ((5, 5, 6), ["000003"], "000001, 000002: its entry in the COCO file has the id of another one"),
    ((None, 2, 3), ["000002", "000003"], "000001: its entry in the COCO file has no id"),
    (([1], 2, 3), ["000002", "000003"], "000001: its entry in the COCO file has no id"),
])  # fmt: skip
def test_images_with_repeated_or_missing_ids_are_refused(tmp_path, ids, kept, message):
    found = mask_imports.read(written(tmp_path, annotated(*ids)), three())
    assert sorted(found.masks) == kept and any(note.startswith(message) for note in found.notes)
    for name in kept:
        assert np.array_equal(found.masks[name][:, :, 0].T, square(int(name) - 1))


def test_annotations_of_no_image_are_reported_and_touch_none(tmp_path):
    whole = annotated(1, 2, 3)
    whole["annotations"][0]["image_id"], whole["annotations"][2]["image_id"] = "1", 99
    found = mask_imports.read(written(tmp_path, whole), three())
    assert list(found.masks) == ["000002"] and np.array_equal(found.masks["000002"][:, :, 0].T, square(1))
    assert any("2 annotations of the COCO file name no image" in note for note in found.notes)
    assert any(note.startswith("000001, 000003: the COCO file lists it without annotations") for note in found.notes)


def test_file_names_of_coco_are_matched_from_the_most_to_the_least_exact(tmp_path):
    def found(names: tuple[str, ...], *known: str) -> list[tuple[str, int]]:
        scans = {name: picture((96, 128)) for name in known}
        try:
            masks = mask_imports.read(written(tmp_path, annotated(*range(len(names)), names=names)), scans).masks
        except UnreadableImage:
            return []
        return sorted(
            (name, next(n for n in range(3) if np.array_equal(mask[:, :, 0].T, square(n))))
            for name, mask in masks.items()
        )

    assert found(("train/A.JPG",), "a") == found(("C:\\data\\a.tiff",), "a") == found(("a",), "a") == [("a", 0)]
    assert found(("Mu\u0308ller.png",), "M\u00fcller") == [("M\u00fcller", 0)]
    assert found(("img1.png", "img10.png"), "img10", "img1") == [("img1", 0), ("img10", 1)]
    assert found(("a.png", "a.jpg"), "a.jpg", "a.png") == [("a.jpg", 1), ("a.png", 0)]
    assert found(("a.png", "A.png"), "A.png", "a.png") == [("A.png", 1), ("a.png", 0)]
    assert found(("a.tif", "b.png"), "a.jpg", "a.png", "b.png") == [("b.png", 1)]  # whose a is not known
    assert found(("train/a.png", "val/a.png", "b.png"), "a", "b") == [("b", 2)]  # which a is not known
    assert found(("b.png", "a.png"), "a") == [("a", 1)]


def test_run_lengths_of_crowds_count_and_background_does_not(tmp_path):
    whole = annotated(1, 2, names=("000001.png", "000002.png"))
    runs = run_lengths.encode(square(2)).tolist()
    whole["annotations"][0] |= {"iscrowd": 1, "segmentation": {"size": [96, 128], "counts": runs}}
    whole["annotations"].append(
        {"id": 9, "image_id": 2, "category_id": 4, "segmentation": [[0, 0, 128, 0, 128, 96, 0, 96]]}
    )
    whole["categories"].append({"id": 4, "name": "Background"})
    found = mask_imports.read(written(tmp_path, whole), three())
    assert np.array_equal(found.masks["000001"][:, :, 0].T, square(2)) and np.array_equal(
        found.masks["000002"][:, :, 0].T, square(1)
    )


def test_several_kinds_on_one_image_are_merged_and_reported(tmp_path):
    whole = annotated(1, 1, 3)
    whole["images"] = [whole["images"][0], whole["images"][2]]
    whole["annotations"][1]["category_id"] = 2
    whole["categories"] = [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]
    found = mask_imports.read(written(tmp_path, whole), three())
    assert np.array_equal(found.masks["000001"][:, :, 0].T, square(0) | square(1))
    assert found.labels == {"000003": "benign"}
    assert found.notes == ("000001: what is marked on it has several names; all of it was taken as lesion.",)


@pytest.mark.parametrize(
    "whole, message",
    [
        ({"shapes": [], "imagePath": "a.png", "version": "5"}, "LabelMe's"),
        ({"_via_img_metadata": {}}, "VGG Image Annotator's"),
        ([{"image_id": 1, "segmentation": []}], "without images"),
        ([{"id": 1, "data": {}, "annotations": []}], "Label Studio's"),
    ],
)
def test_other_tools_are_refused_by_name(tmp_path, whole, message):
    with pytest.raises(UnreadableImage, match=message):
        mask_imports.read(written(tmp_path, whole), three())


@pytest.mark.parametrize("name, text, message", [
    ("annotations.xml", "<?xml version='1.0'?><annotations><image/></annotations>", "CVAT and Pascal VOC"),
    ("labels.txt", "0 0.5 0.5 0.1 0.1", "There are no masks"), ("empty.zip", "", "There are no masks"),
])  # fmt: skip
def test_files_without_masks_are_reported(tmp_path, name, text, message):
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / name).write_text(text)
    path = tmp_path / "up" / name
    if name == "empty.zip":
        path.unlink()
        path = exports.zipped(tmp_path / "up")
    with pytest.raises(UnreadableImage, match=message):
        mask_imports.read(path, three())


@pytest.mark.parametrize(
    "image, mask",
    [
        ("a_image", "a_mask"),
        ("BraTS_001_t1ce", "BraTS_001_seg"),
        ("case_0000", "case"),
        ("A_IMG", "a_gt"),
        ("x", "x/mask"),
    ],
)
def test_masks_called_after_their_images_in_other_ways(tmp_path, image, mask):
    save(tmp_path / "up" / f"{mask}.png", np.uint8(255) * square(1))
    found = mask_imports.read(tmp_path / "up", {image: picture((96, 128)), "other": picture((96, 128), 1)})
    assert list(found.masks) == [image] and np.array_equal(found.masks[image][:, :, 0].T, square(1))


def photograph(seed: int) -> np.ndarray:
    """Continuous greys: noise on a gradient with something bright in it."""
    rows, columns = np.mgrid[:96, :128]
    return np.clip(columns + 40 * (rows > 50) + np.random.default_rng(seed).normal(0, 25, (96, 128)), 0, 255).astype(
        np.uint8
    )


@pytest.mark.parametrize(
    "images, masks",
    [
        ("BUS/original", "BUS/GT"),
        ("images", "labels"),
        ("JPEGImages", "SegmentationClass"),
        ("imagesTr", "labelsTr"),
        ("Images", "Masks"),
        ("train/img", "train/ground_truth"),
        ("a", "b"),
        ("Dataset_BUSI_with_GT/benign", "Dataset_BUSI_with_GT/other"),
        ("segmentation/images", "segmentation/masks"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_only_masks_are_read_as_masks(tmp_path, images, masks, zipped):
    scans = {}
    for number in range(3):
        save(tmp_path / "up" / images / f"{number:06d}.png", photograph(number))
        save(tmp_path / "up" / masks / f"{number:06d}.png", np.uint8(255) * square(number))
        (
            save(tmp_path / "up" / "SegmentationObject" / f"{number:06d}.png", np.uint8(255) * square(number))
            if masks.startswith("Seg")
            else None
        )
        scans[f"{number:06d}"] = imaging.read([tmp_path / "up" / images / f"{number:06d}.png"], "ultrasound")
    found = mask_imports.read(exports.zipped(tmp_path / "up") if zipped else tmp_path / "up", scans)
    assert not found.notes and len(found.masks) == 3
    for number, name in enumerate(scans):
        assert np.array_equal(found.masks[name][:, :, 0].T, square(number))


def test_pictures_that_are_no_masks_are_reported(tmp_path):
    scans = {"a": picture((96, 128)), "b": picture((96, 128), 1)}
    save(tmp_path / "one" / "a.png", photograph(0))
    save(tmp_path / "one" / "b.png", np.uint8(255) * square(0))
    found = mask_imports.read(tmp_path / "one", scans)
    assert list(found.masks) == ["b"] and found.notes[0].startswith("a: a picture of its name has continuous greys")
    pixels = np.rint(scans["a"].slice(0) * 255).astype(np.uint8)
    save(tmp_path / "two" / "a.png", pixels)
    with pytest.raises(UnreadableImage, match="are images and not masks"):
        mask_imports.read(tmp_path / "two", scans)
    for quality, name in ((95, "masks/a.jpg"), (75, "GT/a.jpg")):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.fromarray(np.uint8(255) * square(1)).save(tmp_path / name, quality=quality)
        assert np.array_equal(mask_imports.read((tmp_path / name).parent, scans).masks["a"][:, :, 0].T, square(1))
        Image.fromarray(np.uint8(255) * square(1)).save(tmp_path / "a.jpg", quality=quality)
        assert np.array_equal(mask_imports.read(tmp_path / "a.jpg", scans).masks["a"][:, :, 0].T, square(1))


def test_volumes_beside_their_labels(tmp_path):
    scan = volume(tmp_path)
    label = random(scan.voxels_xyz.shape)
    for folder, name, voxels in (
        ("imagesTr", "case_0000", scan.voxels_xyz),
        ("labelsTr", "case", label),
        ("flat", "case_0000", scan.voxels_xyz),
        ("flat", "case", label),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        nibabel.save(
            nibabel.Nifti1Image(np.asarray(voxels).astype(np.int16), scan.affine), tmp_path / folder / f"{name}.nii.gz"
        )
    (tmp_path / "up").mkdir()
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).rename(tmp_path / "up" / folder)
    found = mask_imports.read(tmp_path / "up", {"case_0000": scan, "other": picture((20, 30))})
    assert np.array_equal(found.masks["case_0000"], label) and not found.notes


def test_masks_that_may_belong_to_two_images_are_refused(tmp_path):
    scans = {
        "a.png": picture((96, 128)),
        "a.jpg": picture((96, 128), 1),
        "b": picture((96, 128), 2),
        "b_mask": picture((96, 128), 3),
        "c": picture((96, 128), 4),
    }
    for name in ("a.png", "b_mask.png", "c_mask.png", "c_mask_1.png"):
        save(tmp_path / "m" / name, np.uint8(255) * square(len(name) % 3))
    for number, reader in enumerate(("one", "two")):
        save(tmp_path / "m" / reader / "d.png", np.uint8(255) * square(number))
        save(tmp_path / "m" / reader / "e.png", np.uint8(255) * square(0))
    scans |= {"d": picture((96, 128), 5), "e": picture((96, 128), 6)}
    found = mask_imports.read(tmp_path / "m", scans)
    assert sorted(found.masks) == ["c", "e"]
    assert np.array_equal(found.masks["c"][:, :, 0].T, square(1) | square(0))
    notes = " ".join(found.notes)
    assert (
        "a.jpg, a.png, b, b_mask: a mask may belong to it or to another image" in notes
        and "name it by the image's id, which names.csv in an export lists." in notes
        and "d: several masks of its name differ" in notes
    )


# Masks of others


def save(path: Path, mask: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return path


def test_masks_of_others(tmp_path):
    scans = {"a": picture((20, 30)), "b.1": picture((25, 17)), "c": volume(tmp_path)}
    mask = random((20, 30))
    save(tmp_path / "m" / "a_mask.png", mask.astype(np.uint8))  # 0 and 1
    save(tmp_path / "m" / "a_mask_1.png", ~mask[:, ::-1] * np.uint8(255))
    save(tmp_path / "m" / "a.png", np.zeros((20, 30), np.uint8))  # the image itself
    save(tmp_path / "m" / "b.1_seg.tif", np.zeros((25, 18), np.uint8))
    save(tmp_path / "m" / f"{SECRET}_mask.png", mask)
    found = mask_imports.read(tmp_path / "m", scans)
    assert np.array_equal(found.masks["a"][:, :, 0].T, mask | ~mask[:, ::-1]) and set(found.masks) == {"a"}
    assert found.notes[0].startswith("b.1: The mask is 18 × 25") and "1 mask belongs to no image" in found.notes[1]
    assert (
        SECRET not in " ".join(found.notes) and SECRET not in repr(found) and found.strangers == (f"{SECRET}_mask.png",)
    )
    only = save(tmp_path / "whatever.png", mask)
    assert np.array_equal(mask_imports.read(only, {"a": scans["a"]}).masks["a"][:, :, 0].T, mask)
    wrong = {"a": picture((21, 30))}
    with pytest.raises(UnreadableImage, match="a: The mask is 30 × 20"):
        mask_imports.read(only, wrong)
    with pytest.raises(UnreadableImage, match="cannot be the mask of a volume"):
        mask_imports.read(only, {"c": scans["c"]})


def test_nifti_masks_lie_on_the_grid(tmp_path):
    scan = volume(tmp_path, oblique=True)
    mask = random(scan.voxels_xyz.shape)
    image = nibabel.Nifti1Image(mask.astype(np.int16) * 3, scan.affine)
    nibabel.save(image, tmp_path / "c.nii")
    assert np.array_equal(mask_imports.read(tmp_path / "c.nii", {"c": scan}).masks["c"], mask)
    moved = scan.affine.copy()
    moved[0, 3] += 0.5
    nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), moved), tmp_path / "c.nii")
    with pytest.raises(UnreadableImage, match="another grid"):
        mask_imports.read(tmp_path / "c.nii", {"c": scan})
    nibabel.save(nibabel.Nifti1Image(mask[:, :, :-1].astype(np.uint8), scan.affine), tmp_path / "c.nii")
    with pytest.raises(UnreadableImage, match="voxels but its image is"):
        mask_imports.read(tmp_path / "c.nii", {"c": scan})
    nibabel.save(nibabel.Nifti1Image(np.stack([mask] * 2, -1).astype(np.uint8), scan.affine), tmp_path / "c.nii")
    with pytest.raises(UnreadableImage, match="2 volumes"):
        mask_imports.read(tmp_path / "c.nii", {"c": scan})


def coco(folder: Path, segmentation: object, size: tuple[int, int] = (20, 30), **more: object) -> Path:
    image = {"id": 7, "file_name": "train/a.jpg", "height": size[0], "width": size[1]}
    annotation = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": segmentation}
    whole = {"images": [image], "annotations": [annotation], "categories": [{"id": 3, "name": "cyst"}]} | more
    path = folder / "instances.json"
    path.write_text(json.dumps(whole), encoding="utf-8")
    return path


def test_coco_of_others(tmp_path):
    scans, mask = {"a": picture((20, 30)), "b": picture((20, 20))}, random((20, 30))
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    for counts in (theirs, run_lengths.encode(mask).tolist()):
        found = mask_imports.read(coco(tmp_path, {"size": [20, 30], "counts": counts}), scans)
        assert (
            np.array_equal(found.masks["a"][:, :, 0].T, mask)
            and found.labels == {"a": "cyst"}
            and set(found.masks) == {"a"}
        )
    two = [[2, 1, 6, 1, 6, 4, 2, 4], [10.0, 10.0, 12.0, 10.0, 12.0, 13.0, 10.0, 13.0]]
    expected = np.zeros((20, 30), bool)
    expected[1:4, 2:6] = expected[10:13, 10:12] = True
    assert np.array_equal(mask_imports.read(coco(tmp_path, two), scans).masks["a"][:, :, 0].T, expected)
    with pytest.raises(UnreadableImage, match="a: its size"):
        mask_imports.read(coco(tmp_path, two, (30, 20)), scans)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        5,
        [],
        {},
        [[]],
        [[1, 2]],
        [[1, 2, 3, 4, 5]],
        [["a"] * 6],
        [[1e300] * 6],
        [[True] * 6],
        {"size": [20, 30]},
        {"size": [20, 30], "counts": "\u00e9"},
        {"size": [20, 30], "counts": "P"},
        {"size": [20, 30], "counts": "o" * 50},
        {"size": [20, 30], "counts": "!!"},
        {"size": [20, 30], "counts": ""},
        {"size": [20, 30], "counts": [600, 1]},
        {"size": [20, 30], "counts": [-1, 601]},
        {"size": [20, 30], "counts": [2**70]},
        {"size": [20, 30], "counts": [1.5, 598.5]},
        {"size": [20, 30], "counts": [0] * 700 + [600]},
        {"size": [10, 60], "counts": [600]},
        {"size": "xx", "counts": [600]},
        [[0, 0, 30, 20] * 30_000],
    ],
)
def test_hostile_segmentations_are_left_out_in_a_sentence(tmp_path, segmentation):
    with pytest.raises(UnreadableImage, match="^a: .*left out|^a: .*allowed"):
        mask_imports.read(coco(tmp_path, segmentation), {"a": picture((20, 30))})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[" * 200_000,
        b'{"a":' * 50_000,
        b"{}",
        b"[]",
        b'{"images": 5, "annotations": []}',
        b'{"images": [5], "annotations": []}',
        b'{"images": [{"file_name": ["x"], "id": {}}], "annotations": [{"image_id": []}]}',
        b"{" + b"\xff" * 50,
        b'{"images": [' + b"[]," * 2_000_001 + b"], ",
        b'{"images": [' + b"{}," * 200_000 + b'{}], "annotations": []}',
        b'{"n": ' + b"9" * 10_000 + b"}",
        b"PK\x03\x04 no",
        b"\x89PNG\r\n\x1a\n",
        b"\x1f\x8b" + b"\0" * 90,
        b"\0" * 128 + b"DICM" + b"\xff" * 900,
        b"GIF89a",
    ],
)
def test_hostile_files_are_refused_in_a_sentence(tmp_path, data):
    path = tmp_path / f"{SECRET}.json"
    path.write_bytes(data)
    with pytest.raises(UnreadableImage) as caught:
        mask_imports.read(path, {"a": picture((20, 30)), "b": picture((20, 30))})
    assert "SECRET" not in str(caught.value) and str(caught.value).endswith(".") and len(str(caught.value)) < 400


def test_work_is_bounded(tmp_path, monkeypatch):
    one = {"image_id": 7, "category_id": 3, "segmentation": {"size": [20, 30], "counts": [600]}}
    path = coco(tmp_path, None, annotations=[one] * 6)
    for masks, notes in ((6, 0), (5, 1)):
        left = (
            (20 * 30 + imports.coco._PER_MASK) * masks
            + imports.coco._PER_BYTE * path.stat().st_size
            + 20 * 30 // imports.coco._PER_VOLUME
        )
        monkeypatch.setattr(imports.coco.PixelBudget, "__init__", lambda self, left=left: setattr(self, "left", left))
        found = mask_imports.read(path, {"a": picture((20, 30))})
        assert len(found.notes) == notes and all("far more masks" in note for note in found.notes)


def test_names_in_a_zip_are_no_paths(tmp_path, monkeypatch):
    mask, data = random((20, 30)), io.BytesIO()
    Image.fromarray(mask).save(data, "PNG")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.writestr("../../masks/a.png", data.getvalue())
        file.writestr("/etc/masks/b.png", data.getvalue())
        file.writestr("images/a.png", b"not read")
    before = sorted(tmp_path.parent.rglob("*"))
    found = mask_imports.read(tmp_path / "z.zip", {"a": picture((20, 30)), "b": picture((20, 30))})
    assert set(found.masks) == {"a", "b"} and np.array_equal(found.masks["b"][:, :, 0].T, mask) and not found.notes
    assert sorted(tmp_path.parent.rglob("*")) == before
    (tmp_path / "folder" / "masks").mkdir(parents=True)
    (tmp_path / "folder" / "masks" / "a.png").symlink_to(tmp_path / "z.zip")
    with pytest.raises(UnreadableImage, match="no masks"):
        mask_imports.read(tmp_path / "folder", {"a": picture((20, 30))})
    for number in range(3):
        save(tmp_path / "many" / f"{number}.png", mask)
    monkeypatch.setattr(imports.upload.archive, "MAX_FILES", 2)
    with pytest.raises(UnreadableImage, match="too large"):
        mask_imports.read(tmp_path / "many", {"a": picture((20, 30))})


def test_masks_of_one_image_are_counted(tmp_path, monkeypatch):
    for number in range(4):
        save(tmp_path / "many" / f"a_mask_{number}.png", np.eye(20, 30, number, dtype=bool))
    monkeypatch.setattr(imports, "MAX_EACH", 3)
    found = mask_imports.read(tmp_path / "many", {"a": picture((20, 30))})
    assert "More than 3 masks" in found.notes[0]
    assert np.array_equal(found.masks["a"][:, :, 0].T, sum(np.eye(20, 30, number) for number in range(3)) > 0)


def test_hostile_dicom_segs(tmp_path):
    scan = dicom.read(series(tmp_path, noise((5, 34, 40))))
    exports.write([Annotated(scan, random(scan.voxels_xyz.shape))], "dicom-seg", tmp_path / "out")
    good = tmp_path / "out" / "image-0001.dcm"

    def refused(match: str, **elements: object) -> None:
        data = pydicom.dcmread(good)
        for keyword, value in elements.items():
            setattr(data, keyword, value)
        data.save_as(tmp_path / "bad.dcm")
        with pytest.raises(UnreadableImage, match=match):
            mask_imports.read(tmp_path / "bad.dcm", {"c": scan})

    refused("fractional", SegmentationType="FRACTIONAL")
    refused("no segmentation", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    refused("fewer pixels", PixelData=b"\0" * 100)
    refused("fewer pixels", Rows=60000, Columns=60000)
    refused("describe each", NumberOfFrames=3)
    refused("its images are", Rows=33)
    frames = pydicom.dcmread(good).PerFrameFunctionalGroupsSequence
    frames[2].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]
    refused("lies elsewhere", PerFrameFunctionalGroupsSequence=frames)
    frames[2].DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    refused("no slice", PerFrameFunctionalGroupsSequence=frames)
    whole, source = good.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        spoilt = bytearray(whole)
        for at in source.integers(0, len(spoilt), 8):
            spoilt[at] = source.integers(256)
        (tmp_path / "bad.dcm").write_bytes(bytes(spoilt[: source.integers(100, len(spoilt))]))
        with contextlib.suppress(UnreadableImage):
            mask_imports.read(tmp_path / "bad.dcm", {"c": scan})


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_header_of_a_volume_is_made_from_a_mask_in_the_memory_order_of_its_scan(monkeypatch, axes):
    scan = Scan(np.zeros((5, 6, 7), np.int16).transpose(axes), "mri", "")
    orders, write = [], image_export.nifti.write_mask

    def record(scan, mask_xyz):
        orders.append(list(np.argsort(mask_xyz.strides)))
        return write(scan, mask_xyz)

    monkeypatch.setattr(image_export.nifti, "write_mask", record)
    image_export.volume(scan)
    assert orders == [list(np.argsort(scan.voxels_xyz.strides))]
