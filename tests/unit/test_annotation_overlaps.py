"""Structures that overlap in an import: the smaller one is on top, whatever comes first, and a note names both."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from PIL import Image

from mpsams.annotation import coco, structures, transfer
from mpsams.annotation.project import Project
from mpsams.imaging.dicom import annotation_seg
from mpsams.imaging.overlaps import Overlap, Overlay
from tests.support.annotation_page import picture
from tests.support.coco import write_coco
from tests.support.dicom_files import noise, series
from tests.support.label_maps import FLAT

pytestmark = pytest.mark.filterwarnings("ignore")
NOTE = "{0} and liver overlap; there the mask has {0}, the smaller of the two."
NONE_OF_IT = "picture 0.png: liver lies wholly under other structures, so the mask has none of it."


def square(top: int, side: int, shape: tuple[int, ...] = FLAT) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top : top + side, top : top + side] = True
    return mask


MASKS = {"liver": square(4, 20), "tumour": square(10, 6)}


def parts(project: Project, id: str) -> dict[str, np.ndarray]:
    """The structures of an image's mask by name."""
    map_xyz = project.labels(id)
    return {one.name: map_xyz == one.label for one in structures.defined(project)}


def check(project: Project, found: transfer.Imported, smaller: str = "tumour") -> None:
    """The smaller structure is whole, the liver is around it, and this is noted."""
    assert f"picture 0.png: {NOTE.format(smaller)}" in found.notes
    drawn = parts(project, found.saved[0])
    assert np.array_equal(drawn[smaller], MASKS["tumour"])
    assert np.array_equal(drawn["liver"], MASKS["liver"] & ~MASKS["tumour"])


@pytest.mark.parametrize("names", [("liver", "tumour"), ("tumour", "liver")])
def test_annotations_of_coco(tmp_path, names):
    write_coco(tmp_path / "a.json", {name: MASKS[name] for name in names}, "picture 0.png")
    with Project(tmp_path / "project") as project:
        project.add(picture(tmp_path))
        check(project, transfer.take(project, tmp_path / "a.json", "anne"))


def test_a_structure_that_others_cover_is_noted_too(tmp_path):
    left = MASKS["liver"].copy()
    left[12:] = False
    masks = {"liver": MASKS["liver"], "left": left, "right": MASKS["liver"] & ~left}
    write_coco(tmp_path / "a.json", masks, "picture 0.png")
    with Project(tmp_path / "project") as project:
        project.add(picture(tmp_path))
        found = transfer.take(project, tmp_path / "a.json", "anne")
        assert not parts(project, found.saved[0])["liver"].any()
        for name in ("left", "right"):
            assert any(note.startswith(f"picture 0.png: {name} and liver overlap") for note in found.notes)
        assert NONE_OF_IT in found.notes


@pytest.mark.parametrize("smaller", ["cyst", "tumour"])  # before and behind "liver"
def test_masks_in_folders_of_structures(tmp_path, smaller):
    with Project(tmp_path / "project") as project:
        structures.define(project, ["liver", smaller])
        project.add(picture(tmp_path))
        for name, mask_xyz in (("liver", MASKS["liver"]), (smaller, MASKS["tumour"])):
            folder = tmp_path / "up" / "masks" / name
            folder.mkdir(parents=True)
            Image.fromarray(mask_xyz[:, :, 0].T * np.uint8(255)).save(folder / "picture 0.png")
        check(project, transfer.take(project, tmp_path / "up", "anne"), smaller)


def test_parts_of_one_lesion_that_overlap_are_no_structures_and_need_no_note(tmp_path):
    with Project(tmp_path / "project") as project:
        project.add(picture(tmp_path))
        (tmp_path / "masks").mkdir()
        for number, mask_xyz in enumerate(MASKS.values(), start=1):
            path = tmp_path / "masks" / f"picture 0_mask_{number}.png"
            Image.fromarray(mask_xyz[:, :, 0].T * np.uint8(255)).save(path)
        found = transfer.take(project, tmp_path / "masks", "anne")
        assert not found.notes and np.array_equal(project.mask(found.saved[0]), MASKS["liver"])


def frames_of(data: pydicom.Dataset) -> np.ndarray:
    """The frames of a DICOM-SEG, 0 and 1, F x H x W."""
    bits = np.unpackbits(np.frombuffer(data.PixelData, np.uint8), bitorder="little")
    return bits[: data.NumberOfFrames * data.Rows * data.Columns].reshape(-1, data.Rows, data.Columns).copy()


@pytest.fixture
def segmented(tmp_path):
    """A DICOM-SEG whose first segment, the liver, lies under its second, the tumour, and the images it is of."""
    (tmp_path / "series").mkdir()
    files = series(tmp_path / "series", noise((5, 34, 40)))
    with Project(tmp_path / "first") as project:
        structures.define(project, ["liver", "tumour"])
        item = project.add(files, "ct")
        map_xyz = np.zeros(item.shape_xyz, np.uint8)
        for z in (1, 2):
            map_xyz[:, :, z][square(4, 20, item.shape_xyz[:2])] = 1
            map_xyz[:, :, z][square(10, 6, item.shape_xyz[:2])] = 2
        project.accept(item.id, map_xyz)
        transfer.write(project, "dicom-seg", "accepted", "lesion", tmp_path / "out")
        (tmp_path / "out" / "dataset.json").unlink()
    (path,) = (tmp_path / "out").glob("*.dcm")
    data = pydicom.dcmread(path)
    frames = frames_of(data)
    for frame, group in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
        if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1:
            frame[:] = square(4, 20, frame.T.shape).T
    data.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
    return path, files, data


@pytest.mark.parametrize("is_reversed", [False, True])
def test_segments_of_a_dicom_seg(tmp_path, segmented, is_reversed):
    path, files, data = segmented
    if is_reversed:  # the frames of the tumour come first
        data.PerFrameFunctionalGroupsSequence = list(data.PerFrameFunctionalGroupsSequence)[::-1]
        data.PixelData = np.packbits(frames_of(data)[::-1].ravel(), bitorder="little").tobytes()
    data.save_as(path)
    with Project(tmp_path / "other") as project:
        item = project.add(files, "ct")
        found = transfer.take(project, path, "anne")
        assert found.saved == [item.id] and any(note.endswith(NOTE.format("tumour")) for note in found.notes)
        drawn, expected = parts(project, item.id), square(10, 6, item.shape_xyz[:2])
        for z in (1, 2):
            assert np.array_equal(drawn["tumour"][:, :, z], expected)
            assert np.array_equal(drawn["liver"][:, :, z], square(4, 20, item.shape_xyz[:2]) & ~expected)


def test_the_allowance_is_spent_once_for_segments_that_overlap(tmp_path, segmented):
    path, files, data = segmented
    with Project(tmp_path / "other") as project:
        scans, spent = {project.add(files, "ct").id: project.scan(project.items()[0].id)}, []
        for pixels in (data.PixelData, bytes(len(data.PixelData))):
            data.PixelData = pixels
            data.save_as(path)
            allowance = annotation_seg.allowance()
            *_, overlaps = annotation_seg.read_segments(path, scans, allowance)
            spent.append((annotation_seg.allowance().left - allowance.left, len(overlaps)))
    assert [count for _, count in spent] == [1, 0] and spent[0][0] == spent[1][0]


def test_a_frame_of_a_segment_that_is_not_described_is_refused(tmp_path, segmented):
    path, files, data = segmented
    group = data.PerFrameFunctionalGroupsSequence[0]
    group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9
    data.save_as(path)
    with Project(tmp_path / "other") as project:
        item = project.add(files, "ct")
        found = transfer.take(project, path, "anne")
        assert not found.saved and project.labels(item.id) is None
        assert any("is of a segment that it does not describe" in note for note in found.notes)


def test_of_two_alike_the_later_is_on_top():
    label_map, overlay = np.zeros((2, 4), np.uint8), Overlay()
    one, other, empty = np.array([1, 1, 1, 0], bool), np.array([0, 1, 1, 1], bool), np.zeros(4, bool)
    overlay.add(label_map[0], 5, one, lambda: one)
    overlay.add(label_map[0], 3, other, lambda: other)
    overlay.add(label_map[1], 3, empty, lambda: empty)
    assert overlay.finish() == {Overlap(3, 5, is_smaller=False)}
    assert label_map.tolist() == [[5, 3, 3, 3], [0, 0, 0, 0]]


def test_of_two_alike_with_several_parts_the_same_one_is_on_top_everywhere():
    label_map, overlay, whole = np.zeros((2, 2), np.uint8), Overlay(), np.ones(2, bool)
    for view, label in ((label_map[0], 5), (label_map[0], 3), (label_map[1], 3), (label_map[1], 5)):
        overlay.add(view, label, whole, whole.copy)
    assert overlay.finish() == {Overlap(3, 5, is_smaller=False)} and (label_map == 3).all()


def test_two_equal_masks_are_noted_as_such(tmp_path):
    write_coco(tmp_path / "a.json", {"liver": MASKS["liver"], "tumour": MASKS["liver"].copy()}, "picture 0.png")
    with Project(tmp_path / "project") as project:
        project.add(picture(tmp_path))
        found = transfer.take(project, tmp_path / "a.json", "anne")
        assert found.notes == [
            "picture 0.png: tumour and liver overlap and have the same size; there the mask has tumour.",
            NONE_OF_IT,
            "Structures added to the project: liver, tumour.",
        ]
        assert np.array_equal(parts(project, found.saved[0])["tumour"], MASKS["liver"])


def test_the_pixel_budget_is_spent_once_for_masks_that_overlap(tmp_path, monkeypatch):
    path, pixels = tmp_path / "a.json", np.prod(FLAT)
    write_coco(path, MASKS, "picture 0.png")
    enough = 2 * (pixels + coco._PER_MASK) + coco._PER_BYTE * path.stat().st_size + pixels // coco._PER_VOLUME
    monkeypatch.setattr(coco.PixelBudget, "__init__", lambda budget: setattr(budget, "left", int(enough)))
    with Project(tmp_path / "project") as project:
        project.add(picture(tmp_path))
        check(project, transfer.take(project, path, "anne"))
