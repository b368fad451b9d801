"""Masks with several structures leave a project and come back: formats, names, sizes, agreement, and what is learnt."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from mpsams.annotation import (
    adoption,
    assist,
    classes,
    masks,
    proposals,
    readers,
    retraining,
    retraining_run,
    structure_tables,
    structures,
    transfer,
)
from mpsams.annotation.project import Project
from mpsams.annotation.reader_views import ReaderViews
from mpsams.annotation.structures import Structure
from mpsams.imaging import Scan
from tests.support import made_volumes
from tests.support.annotation_page import picture, registry  # noqa: F401
from tests.support.coco import write_coco
from tests.support.dicom_files import noise, series
from tests.support.label_maps import organ, store_mask

pytestmark = pytest.mark.filterwarnings("ignore")
NAMED = (Structure("liver", "#aa0011", "l"), Structure("tumour", "#0011aa", "u"), Structure("vessel", "#00aa11", "y"))


def parts(project: Project, id: str) -> dict[str, np.ndarray]:
    """The structures of an image's mask by name, those that are empty left out."""
    map_xyz = project.labels(id)
    found = {one.name: map_xyz == one.label for one in structures.defined(project)}
    return {name: mask for name, mask in found.items() if mask.any()}


def same(one: Project, other: Project) -> None:
    for item in one.items():
        if item.mask is None:
            continue
        before, after = parts(one, item.id), parts(other, item.id)
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.fixture
def filled(tmp_path):
    """A project with three structures on pictures and a volume; one image has the second alone, one has nothing."""
    with Project(tmp_path / "project") as project:
        structures.define(project, NAMED)
        maps = [organ(), np.where(organ() == 2, np.uint8(2), np.uint8(0)), np.zeros_like(organ())]
        for seed, map_xyz in enumerate(maps):
            item = project.add(picture(tmp_path, seed), "ultrasound")
            project.accept(item.id, map_xyz)
        item = project.add(made_volumes.save(tmp_path / "body.nii.gz", made_volumes.body(0)[0], "PSR"), "ct")
        map_xyz = np.zeros(item.shape_xyz, np.uint8)
        map_xyz[2:9, 3:9, 2:5], map_xyz[4:7, 4:7, 3] = 1, 3
        project.accept(item.id, map_xyz)
        yield project


def other_project(project: Project, folder: Path, **given) -> Project:
    """The same images without masks."""
    other = Project(folder)
    for item in project.items():
        other.add(project.image(item.id), item.modality, item.name)
    return other


@pytest.mark.parametrize("form", ["folder", "nifti", "coco", "busi"])
@pytest.mark.parametrize("names", ["keep", "hashed"])
def test_an_export_comes_back_into_an_empty_project_without_a_change(filled, tmp_path, form, names):
    kind, count = ("benign", 3) if form == "busi" else ("lesion", 4)  # which has no place for volumes
    transfer.write(filled, form, "accepted", kind, tmp_path / "out.zip", names)
    with other_project(filled, tmp_path / "other") as other:
        classes.define(other, ["benign", "malignant"])
        found = transfer.take(other, tmp_path / "out.zip", "anne")
        assert len(found.saved) == count
        assert found.notes == ["Structures added to the project: liver, tumour, vessel."]
        same(other, filled)
        if form == "busi":
            assert {other.item(id).image_class for id in found.saved} == {"benign"}
        if form != "coco":  # which has no place for these
            assert structures.defined(other) == structures.defined(filled)
        transfer.write(other, form, "all", kind, tmp_path / "again", names)
        transfer.write(filled, form, "all", kind, tmp_path / "first", names)
        for path in (tmp_path / "first").rglob("*"):
            if path.is_file() and path.name not in (
                "names.csv",
                "dataset.json",
                *["structures.csv"] * (form == "busi"),
            ):
                assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "first")).read_bytes()


def test_an_export_holds_labels_names_and_sizes(filled, tmp_path):
    written = transfer.write(filled, "folder", "accepted", "lesion", tmp_path / "out")
    first, *_, volume = filled.items()
    stored = np.asarray(Image.open(tmp_path / "out" / written.places[first.id]))
    assert np.array_equal(stored, organ()[:, :, 0].T)
    dataset = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, "liver": 1, "tumour": 2, "vessel": 3}
    assert dataset["structures"][1] == {"name": "tumour", "colour": "#0011aa", "key": "u", "label": 2}
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "structures.csv").read_text())))
    assert len(rows) == 12 and [row["structure"] for row in rows[:3]] == ["liver", "tumour", "vessel"]
    assert [row["pixels"] for row in rows[:3]] == [str(np.sum(organ() == 1)), "64", "0"]
    voxel = np.prod(filled.scan(volume.id).spacing())
    assert float(rows[-1]["volume_ml"]) == pytest.approx(9 * voxel / 1000, rel=1e-2) and rows[-1]["area_mm2"] == ""
    coco = transfer.write(filled, "coco", "accepted", "lesion", tmp_path / "coco")
    content = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    assert [one["name"] for one in content["categories"]] == ["liver", "tumour", "vessel"] and not coco.notes
    assert sum(one["area"] for one in content["annotations"] if one["image_id"] == 1) == np.sum(organ() > 0)


@pytest.mark.parametrize("form", ["folder", "nifti", "coco", "busi", "dicom-seg"])
@pytest.mark.parametrize("image_class", ["", "benign"])
def test_a_single_structure_with_a_name_keeps_it(tmp_path, form, image_class):
    with Project(tmp_path / "project") as project, Project(tmp_path / "new") as new, Project(tmp_path / "two") as two:
        classes.define(project, ["benign"])
        structures.define(project, ["tumour"])
        structures.define(two, ["gland", "tumour"])
        image = series(tmp_path, noise((5, 34, 40))) if form == "dicom-seg" else picture(tmp_path)
        item, *_ = (each.add(image) for each in (project, new, two))
        map_xyz = np.zeros(item.shape_xyz, np.uint8)
        map_xyz[4:9, 5:12] = 1
        project.accept(item.id, map_xyz)
        if image_class:
            classes.classify(project, item.id, image_class)
        transfer.write(project, form, "accepted", "benign" if form == "busi" else "lesion", tmp_path / "out")
        assert rows_of_sizes(tmp_path / "out")[0]["structure"] == "tumour"
        for other in (new, two):
            assert transfer.take(other, tmp_path / "out", "anne").saved == [item.id]
            same(project, other)
        assert [one.name for one in structures.defined(new)] == ["tumour"]
        assert [one.name for one in structures.defined(two)] == ["gland", "tumour"]


def rows_of_sizes(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "structures.csv").read_text())))


def test_a_single_sagittal_slice_leaves_as_one_image_with_its_area_and_comes_back(tmp_path):
    path = made_volumes.sagittal_slice(tmp_path / "knee.nii.gz", noise((20, 30)))
    with Project(tmp_path / "project") as project, Project(tmp_path / "other") as other:
        structures.define(project, ["bone", "tumour"])
        item = project.add(path, "mri")
        other.add(path, "mri")
        map_xyz = np.zeros(item.shape_xyz, np.uint8)
        map_xyz[2:6, 3:6, 0] = 2
        project.accept(item.id, map_xyz)
        transfer.write(project, "coco", "accepted", "lesion", tmp_path / "out")
        (image,) = json.loads((tmp_path / "out" / "annotations.json").read_text())["images"]
        assert (image["height"], image["width"]) == (20, 30)
        transfer.take(other, tmp_path / "out", "anne")
        same(project, other)
    row = rows_of_sizes(tmp_path / "out")[1]
    assert (row["pixels"], float(row["area_mm2"]), row["volume_ml"]) == ("12", 12 * 2 * 1.5, "")


@pytest.mark.parametrize("axis, area", [(0, 12 * 1.5 * 4), (1, 12 * 2 * 4), (2, 12 * 2 * 1.5)])
def test_a_single_slice_stored_along_any_axis_has_an_area(axis, area):
    scan = Scan(noise((20, 30, 25)).take([2], axis), "mri", "", affine=np.diag([-2.0, -1.5, 4, 1]))
    map_xyz = np.zeros(scan.voxels_xyz.shape, np.uint8)
    map_xyz.reshape(-1)[:12] = 1
    (row,) = structure_tables.sizes(scan, map_xyz, [Structure("bone", label=1)], {})
    assert (row["pixels"], row["area_mm2"], row["volume_ml"]) == (12, area, "")


def test_the_volume_of_a_tilted_scan_is_that_of_its_slanted_voxels(tmp_path):
    affine = np.array([[-2.0, 0, 0, 0], [0, -2, -2, 0], [0, 0, 5, 0], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(noise((30, 20, 4)), affine), tmp_path / "scan.nii.gz")
    with Project(tmp_path / "project") as project:
        structures.define(project, ["liver", "tumour"])
        item = project.add(tmp_path / "scan.nii.gz", "ct")
        map_xyz = np.zeros(item.shape_xyz, np.uint8)
        map_xyz[2:6, 3:6, 0] = 2
        project.accept(item.id, map_xyz)
        transfer.write(project, "nifti", "accepted", "lesion", tmp_path / "out")
    row = rows_of_sizes(tmp_path / "out")[1]
    assert (row["pixels"], row["area_mm2"], float(row["volume_ml"])) == ("12", "", pytest.approx(12 * 20 / 1000))


def test_coco_has_an_annotation_for_each_object(tmp_path):
    with Project(tmp_path / "project") as project:
        structures.define(project, ["a", "b"])
        item = project.add(picture(tmp_path))
        map_xyz = np.zeros(item.shape_xyz, np.uint8)
        map_xyz[2:5, 2:5], map_xyz[20:25, 20:25], map_xyz[30:35, 5:9] = 1, 1, 2
        project.accept(item.id, map_xyz)
        transfer.write(project, "coco", "accepted", "lesion", tmp_path / "out")
        content = json.loads((tmp_path / "out" / "annotations.json").read_text())
        assert [(one["category_id"], one["area"]) for one in content["annotations"]] == [(1, 9), (1, 25), (2, 20)]


def test_labels_with_gaps_are_numbered_without_them_in_an_export(filled, tmp_path):
    for item in filled.items():
        filled.save(item.id, np.where(filled.labels(item.id) == 2, np.uint8(0), filled.labels(item.id)))
    structures.define(filled, ["liver", "vessel"])
    transfer.write(filled, "nifti", "all", "lesion", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"] == {
        "background": 0,
        "liver": 1,
        "vessel": 2,
    }
    with other_project(filled, tmp_path / "other") as other:
        transfer.take(other, tmp_path / "out", "anne")
        same(filled, other)


def test_label_maps_without_names_are_one_structure_until_structures_are_defined(tmp_path):
    with Project(tmp_path / "project") as project:
        first, second = (project.add(picture(tmp_path, seed)) for seed in range(2))
        up = tmp_path / "up" / "masks"
        for value in (255, 1, 2):
            store_mask(up / "picture 0.png", (organ() > 0) * np.uint8(value))
            assert not transfer.take(project, up, "anne").notes
            assert np.array_equal(project.labels(first.id), organ() > 0)
        store_mask(up / "picture 1.png", organ())
        (note,) = transfer.take(project, up, "anne").notes
        assert note.startswith(
            "picture 1.png: The mask holds 2 labels; every label above 0 is lesion. To import them as"
        )
        assert np.array_equal(project.labels(second.id), organ() > 0) and not structures.is_defined(project)
        (up / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "organ", "2": "cyst"}}))
        found = transfer.take(project, up, "anne")
        assert found.notes == ["Structures added to the project: cyst, organ."]
        assert {one.name for one in structures.defined(project)} == {"cyst", "organ"}  # nothing is a lesion any more
        assert set(parts(project, second.id)) == {"organ", "cyst"} and set(parts(project, first.id)) == {"cyst"}
        (up / "picture 0.png").unlink()
        (up / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "cyst", "2": "vessel"}}))
        assert transfer.take(project, up, "anne").notes == ["Structures added to the project: vessel."]
        assert set(parts(project, second.id)) == {"cyst", "vessel"}


def test_a_mask_with_too_many_structures_adds_none_of_them(tmp_path):
    with Project(tmp_path / "project") as project:
        known = structures.define(project, [f"part {number}" for number in range(1, structures.MAX_STRUCTURES)])
        item = project.add(picture(tmp_path))
        up = tmp_path / "up"
        up.mkdir()
        store_mask(up / "masks" / "picture 0_mask_1.png", organ())
        (up / "dataset.json").write_text(json.dumps({"labels": {"part 1": 1, "part 2": 2}}))
        map_xyz = np.where(organ() > 0, organ() + np.uint8(2), np.uint8(0))  # 3 and 4 are not named
        store_mask(up / "masks" / "picture 0_mask_2.png", map_xyz)
        found = transfer.take(project, up, "anne")
        assert found.saved == [item.id] and np.array_equal(project.labels(item.id), organ())
        assert structures.defined(project) == known and "more structures than the 32" in found.refused[0][1]


@pytest.mark.parametrize("use", ["mask", "proposal", "learnt", "reader", "described"])
def test_the_usual_structure_stays_beside_imported_ones_where_it_is_used(tmp_path, use):
    with Project(tmp_path / "project") as project:
        first, second = (project.add(picture(tmp_path, seed)) for seed in range(2))
        project.save(first.id, organ() > 0)
        if use == "mask":
            project.save(second.id, organ() > 0)
        elif use == "proposal":
            project.propose(second.id, organ() > 0, "network", "")
        elif use == "learnt":
            structures.set_learnt(project, "network", 1)
        elif use == "reader":
            ReaderViews(project).join("Clara", True)
        up = tmp_path / "up" / "masks"
        store_mask(up / "picture 0.png", organ() + np.uint8(organ() > 0) * np.uint8(use == "described"))
        names = {"organ": 1, "cyst": 2} if use != "described" else {"lesion": 1, "organ": 2, "cyst": 3}
        (up / "dataset.json").write_text(json.dumps({"labels": names}))
        transfer.take(project, up, "anne")
        assert [one.name for one in structures.defined(project)][0] == "lesion"
        assert parts(project, first.id).keys() == {"organ", "cyst"}


def test_the_numbers_of_a_palette_are_structures(tmp_path):
    with Project(tmp_path / "project") as project:
        item = project.add(picture(tmp_path))
        structures.define(project, ["organ", "cyst"])
        image = Image.fromarray(organ()[:, :, 0].T.copy(), "P")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        (tmp_path / "mask").mkdir()
        image.save(tmp_path / "mask" / "picture 0.png")
        assert not transfer.take(project, tmp_path / "mask", "anne").refused
        assert np.array_equal(project.labels(item.id), organ())


def test_numbers_of_objects_and_maps_of_a_structures_folder_are_no_structures_and_a_note_says_so(filled, tmp_path):
    item = filled.items()[0]
    filled.reopen(item.id)
    for folder, name in (("SegmentationObject", "liver"), ("masks/vessel", "vessel")):
        store_mask(tmp_path / name / folder / "picture 0.png", organ())
        found = transfer.take(filled, tmp_path / name, "anne")
        assert found.notes == ["picture 0.png: The mask holds 2 labels; every label above 0 is lesion."]
        assert parts(filled, item.id).keys() == {name} and np.array_equal(filled.mask(item.id), organ() > 0)


def test_what_has_no_name_among_named_structures_is_the_first_structure(filled, tmp_path):
    item = filled.items()[0]
    filled.reopen(item.id)
    rest = organ() == 0
    write_coco(tmp_path / "a.json", {"tumour": organ() == 2, "": rest, "vessel": organ() == 1}, "picture 0.png")
    assert not transfer.take(filled, tmp_path / "a.json", "anne").notes
    found = parts(filled, item.id)  # the second name, but not the second structure
    assert np.array_equal(found["liver"], rest) and np.array_equal(found["tumour"], organ() == 2)


def test_a_value_that_a_dataset_file_leaves_out_is_a_structure_of_its_own(filled, tmp_path):
    item = filled.items()[0]
    filled.reopen(item.id)
    store_mask(tmp_path / "up" / "masks" / "picture 0.png", organ())
    (tmp_path / "up" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "vessel": 1}}))
    assert transfer.take(filled, tmp_path / "up", "anne").notes == ["Structures added to the project: structure 2."]
    assert parts(filled, item.id).keys() == {"vessel", "structure 2"}  # not the tumour, whose number here is 2


def test_a_removed_structure_gets_its_label_again_and_a_new_one_another(tmp_path):
    with Project(tmp_path / "project") as project:
        structures.define(project, ["liver", "tumour", "vessel"])
        structures.define(project, ["liver"])
        item = project.add(picture(tmp_path))
        store_mask(tmp_path / "up" / "masks" / "picture 0.png", organ())
        (tmp_path / "up" / "dataset.json").write_text(
            json.dumps({"labels": {"0": "background", "1": "vessel", "2": "cyst"}})
        )
        transfer.take(project, tmp_path / "up", "anne")
        assert {one.name: one.label for one in structures.defined(project)} == {"liver": 1, "vessel": 3, "cyst": 4}
        found = parts(project, item.id)
        assert np.array_equal(found["vessel"], organ() == 1) and np.array_equal(found["cyst"], organ() == 2)


@pytest.mark.parametrize("places", [(0, 1), (1, 0)])
def test_a_single_value_is_the_number_of_a_structure_that_another_mask_adds(tmp_path, monkeypatch, places):
    saved = []
    monkeypatch.setattr(
        Project, "save", lambda *given, save=Project.save, **more: saved.append(0) or save(*given, **more)
    )
    with Project(tmp_path / "project") as project:
        structures.define(project, [Structure("organ", label=1)])
        one, other = (project.add(picture(tmp_path, seed)) for seed in places)
        up = tmp_path / "up" / "masks"
        store_mask(up / "picture 0.png", (organ() > 0) * np.uint8(2))
        store_mask(up / "picture 1.png", organ())
        found = transfer.take(project, up, "anne")
        assert found.notes == ["Structures added to the project: structure 2."] and len(found.saved) == len(saved) == 2
        first, second = (one, other)[places[0]], (one, other)[places[1]]
        assert np.array_equal(project.labels(second.id), organ())
        assert np.array_equal(project.labels(first.id) == 2, organ() > 0)


def test_an_image_of_which_a_part_is_unreadable_is_saved_once_with_its_structures(tmp_path):
    with Project(tmp_path / "project") as project:
        structures.define(project, ["organ"])
        first, second = (project.add(picture(tmp_path, seed)) for seed in range(2))
        up = tmp_path / "up" / "masks"
        store_mask(up / "picture 0_mask_1.png", (organ() > 0) * np.uint8(2))
        store_mask(up / "picture 0_mask_2.png", organ()[:9])  # of another size
        store_mask(up / "picture 1.png", organ())
        found = transfer.take(project, up, "anne")
        assert sorted(found.saved) == sorted([first.id, second.id]) and len(found.refused) == 1
        assert np.array_equal(project.labels(first.id) == 2, organ() > 0)


@pytest.mark.parametrize("plain", [0, 1])
def test_a_mask_without_names_never_becomes_a_structure_that_another_image_names(tmp_path, plain):
    with Project(tmp_path / "project") as project:
        items = [project.add(picture(tmp_path, seed)) for seed in range(2)]
        (tmp_path / "up").mkdir()
        store_mask(tmp_path / "up" / "masks" / f"picture {plain}.png", (organ() > 0) * np.uint8(255))
        named = {"liver": organ() == 1, "tumour": organ() == 2}
        write_coco(tmp_path / "up" / "a.json", named, f"picture {1 - plain}.png")
        assert len(transfer.take(project, tmp_path / "up", "anne").saved) == 2
        assert {one.name for one in structures.defined(project)} == {"lesion", "liver", "tumour"}
        found = parts(project, items[plain].id)
        assert set(found) == {"lesion"} and np.array_equal(found["lesion"], organ() > 0)
        found = parts(project, items[1 - plain].id)
        assert found.keys() == named.keys() and all(np.array_equal(found[name], named[name]) for name in named)


def test_a_value_that_is_no_label_of_a_project_with_several_is_its_first_structure(filled, tmp_path):
    item = filled.items()[0]
    filled.reopen(item.id)
    up = tmp_path / "up" / "masks"
    up.mkdir(parents=True)
    Image.fromarray((organ() > 0)[:, :, 0].T * np.uint8(7)).save(up / "picture 0.png")
    found = transfer.take(filled, up, "anne")
    note = "The mask's only value, 7, is the number of no structure here, so it was taken as liver."
    assert found.saved == [item.id] and found.notes == [f"picture 0.png: {note}"]
    assert np.array_equal(filled.labels(item.id), organ() > 0) and len(structures.defined(filled)) == 3
    Image.fromarray((organ() > 0)[:, :, 0].T * np.uint8(255)).save(up / "picture 0.png")
    assert not transfer.take(filled, up, "anne").notes


def test_masks_that_are_refused_add_no_structure_and_have_no_note(tmp_path):
    with Project(tmp_path / "project") as project:
        structures.define(project, ["liver", "tumour"])
        item = project.add(picture(tmp_path))
        for number, folder in enumerate(("a", "b")):  # of one stem, and different
            map_xyz = organ()
            map_xyz[number:4] = 7
            map_xyz[40:] = 255  # not labelled, which is noted
            store_mask(tmp_path / "up" / "masks" / folder / "picture 0.png", map_xyz)
        write_coco(tmp_path / "up" / "a.json", {"liver": organ() == 1, "tumour": organ() == 2}, "picture 0.png")
        found = transfer.take(project, tmp_path / "up", "anne")
        assert np.array_equal(project.labels(item.id), organ()) and len(structures.defined(project)) == 2
        (note,) = found.notes
        assert note.startswith("picture 0.png: several masks of its name differ")


def test_folders_named_like_structures_say_which_one_a_mask_is(filled, tmp_path):
    item = filled.items()[0]
    filled.reopen(item.id)
    for name, top in (("liver", 2), ("vessel", 30)):
        folder = tmp_path / "up" / "masks" / name
        folder.mkdir(parents=True)
        mask_hw = np.zeros((40, 56), np.uint8)
        mask_hw[top : top + 5, 2:9] = 255
        Image.fromarray(mask_hw).save(folder / "picture 0.png")
    transfer.take(filled, tmp_path / "up", "anne")
    assert {name: int(mask.sum()) for name, mask in parts(filled, item.id).items()} == {"liver": 35, "vessel": 35}


def test_categories_of_one_image_each_are_classes_as_before(tmp_path):
    with Project(tmp_path / "project") as project:
        item = project.add(picture(tmp_path), "ultrasound")
        classes.classify(project, item.id, "malignant")
        project.accept(item.id, organ() > 0)
        transfer.write(project, "coco", "accepted", "lesion", tmp_path / "out")
        content = json.loads((tmp_path / "out" / "annotations.json").read_text())
        assert [one["supercategory"] for one in content["categories"]] == ["lesion"]
        assert not (tmp_path / "out" / "dataset.json").exists()
        with other_project(project, tmp_path / "other") as other:
            transfer.take(other, tmp_path / "out", "anne")
            assert other.item(item.id).image_class == "malignant" and not structures.is_defined(other)
            same(project, other)


def test_a_dataset_file_that_is_none_is_reported_and_nothing_breaks(tmp_path):
    with Project(tmp_path / "project") as project:
        item = project.add(picture(tmp_path))
        up = tmp_path / "up" / "masks"
        up.mkdir(parents=True)
        Image.fromarray((organ() > 0)[:, :, 0].T * np.uint8(255)).save(up / "picture 0.png")
        (up / "dataset.json").write_text(json.dumps({"labels": {"liver": [1, 2]}}))
        found = transfer.take(project, up, "anne")
        assert found.saved == [item.id] and any("dataset.json was left out" in note for note in found.notes)


@pytest.fixture
def readers_of_two(tmp_path):
    """Two readers of two pictures, who agree on the liver and not on the tumour; the second has other labels."""
    with Project(tmp_path / "first") as first, Project(tmp_path / "second") as second:
        for project, names in ((first, ["liver", "tumour"]), (second, ["tumour", "liver"])):
            structures.define(project, names)
            for seed in range(2):
                project.add(picture(tmp_path, seed))
        one, other = first.items()
        first.save(one.id, organ())
        moved = np.where(organ() > 0, np.uint8(2), np.uint8(0))  # liver
        moved[16:24, 10:18] = 1  # tumour
        second.save(one.id, moved)
        first.save(other.id, np.where(organ() == 1, np.uint8(1), np.uint8(0)))
        second.save(other.id, np.where(organ() == 1, np.uint8(2), np.uint8(0)))
        yield first, second


def test_agreement_is_measured_for_each_structure_and_overall(readers_of_two):
    first, second = readers_of_two
    found = readers.measure(first, second)
    rows = {row["id"]: row for row in found.rows}
    one, other = (rows[item.id] for item in first.items())
    common = 436 + 64 - 32 - 32  # pixels of the same structure, liver and tumour together
    assert one["dsc"] == pytest.approx((common - 0) / 500, abs=1e-3)
    assert one["dsc tumour"] == pytest.approx(0.5) and 0 < one["hd95 tumour"] <= 4 and one["dsc liver"] < 1
    assert (other["dsc"], other["dsc liver"], other["dsc tumour"]) == (1, 1, "")
    assert found.structures["tumour"]["images"] == 1 and found.structures["liver"]["images"] == 2
    assert found.structures["tumour"]["dsc"] == 0.5 and found.overall["images"] == 2
    assert found.csv().decode().splitlines()[0].endswith("dsc liver,hd95 liver,dsc tumour,hd95 tumour")


@pytest.mark.parametrize("method", ["majority", "staple"])
def test_the_consensus_is_made_structure_by_structure(readers_of_two, tmp_path, method):
    first, second = readers_of_two
    assert readers.consensus([first, second], tmp_path / "consensus", method=method) == 2
    with Project(tmp_path / "consensus") as result:
        assert [one.name for one in structures.defined(result)] == ["liver", "tumour"]
        one, other = result.items()
        found, both = parts(result, one.id), parts(first, one.id)
        assert np.array_equal(parts(result, other.id)["liver"], organ() == 1)
        theirs = parts(second, one.id)
        if method == "majority":
            assert all(np.array_equal(found[name], both[name] & theirs[name]) for name in both)
        else:
            assert set(found) == {"liver", "tumour"} and (found["tumour"] & both["tumour"] & theirs["tumour"]).any()


def test_structures_that_a_consensus_does_not_define_are_left_out_with_a_note(readers_of_two, tmp_path):
    first, second = readers_of_two
    structures.define(second, [*structures.defined(second), "cyst"])
    second.save(second.items()[0].id, np.where(organ() == 2, np.uint8(3), np.uint8(0)))
    notes: list[str] = []
    assert readers.consensus([first, second], tmp_path / "consensus", notes=notes) == 2
    assert notes == [f"Left out, as the consensus does not define them: cyst. {readers.ADD_THEM}"]


@pytest.fixture
def clara_with_cyst(tmp_path):
    """A project with liver and tumour, and that of a second reader, who has added a cyst and drawn it."""
    with Project(tmp_path / "project") as first:
        structures.define(first, ["liver", "tumour"])
        item = first.add(picture(tmp_path))
        first.save(item.id, organ())
        clara = ReaderViews(first).join("Clara", False).project
        structures.define(clara, [*structures.defined(clara), "cyst"])
        clara.save(item.id, np.where(organ() == 2, np.uint8(3), organ()))
        yield first, clara


def listed(project: Project) -> list[tuple[int, str]]:
    return [(one.label, one.name) for one in structures.defined(project)]


def test_structures_of_a_readers_own_that_the_first_reader_lacks_are_named(clara_with_cyst):
    first, clara = clara_with_cyst
    found = readers.measure(first, clara)
    assert found.notes == [f"Left out, as the first of these readers does not define them: cyst. {readers.ADD_THEM}"]
    assert found.rows[0]["dsc tumour"] == 0


def test_a_new_structure_of_the_first_reader_is_that_of_a_readers_own_or_none_of_theirs(clara_with_cyst):
    first, clara = clara_with_cyst
    structures.define(first, ["liver", "tumour", "vessel"])
    assert listed(first)[2:] == [(4, "vessel")] and listed(clara)[2:] == [(3, "cyst"), (4, "vessel")]
    structures.define(first, ["liver", "tumour", "vessel", "Cyst"])
    assert listed(first) == listed(clara) and (3, "cyst") in listed(first)
    assert readers.measure(first, clara).notes == []
    structures.define(first, ["liver", Structure("mass", label=2), "vessel", "Cyst"])
    assert listed(first) == listed(clara) and np.array_equal(clara.labels(clara.items()[0].id) == 3, organ() == 2)


def test_a_structure_gets_the_name_of_a_readers_own_only_if_they_have_not_drawn_both(clara_with_cyst):
    first, clara = clara_with_cyst
    renamed = [Structure("liver", label=1), Structure("cyst", label=2)]
    clara.save(clara.items()[0].id, np.where(np.arange(organ().shape[1])[:, None] < 14, organ(), np.uint8(3)))
    with pytest.raises(ValueError, match="as reader Clara has drawn both that and another structure of this name"):
        structures.define(first, renamed)
    clara.save(clara.items()[0].id, np.where(organ() == 2, np.uint8(3), organ()))
    structures.define(first, renamed)
    assert listed(clara) == [(1, "liver"), (3, "cyst")]
    found = readers.measure(first, clara)
    assert found.notes == [] and found.rows[0]["dsc cyst"] == found.rows[0]["dsc"] == 1
    assert np.array_equal(
        ReaderViews(first).view("Clara").masks(first.items()[0].id)[0].map_xyz, clara.labels(clara.items()[0].id)
    )


def test_masks_of_a_second_project_are_compared_by_the_names_that_structures_had(tmp_path):
    """The second project is in another folder, which new names do not reach."""
    with Project(tmp_path / "project") as first:
        structures.define(first, ["liver", "tumour"])
        item = first.add(picture(tmp_path))
        first.save(item.id, organ())
        readers.start(first, tmp_path / "second")
        structures.define(first, ["liver", Structure("mass", label=2)])
        with Project(tmp_path / "second") as second:
            second.save(item.id, organ())
            for one, other in ((first, second), (second, first)):
                found = readers.measure(one, other)
                assert found.notes == [] and found.rows[0]["dsc"] == 1
            notes: list[str] = []
            assert readers.consensus([first, second], tmp_path / "both", notes=notes) == 1 and notes == []
        with Project(tmp_path / "both") as both:
            assert np.array_equal(both.labels(item.id), organ())


def test_a_second_reader_gets_the_structures_and_keeps_those_they_drew(tmp_path):
    with Project(tmp_path / "project") as project:
        structures.define(project, ["liver", "tumour"])
        item = project.add(picture(tmp_path))
        project.save(item.id, organ())
        views = ReaderViews(project)
        clara = views.join("Clara", False).project
        assert [one.name for one in structures.defined(clara)] == ["liver", "tumour"]
        clara.save(item.id, organ())
        assert views.view("Clara").masks(item.id)[0].map_xyz.tolist() == organ().tolist()
        project.save(item.id, (organ() > 0).view(np.uint8))
        with pytest.raises(ValueError, match="'tumour' is in 1 mask"):
            structures.define(project, ["liver"])
        structures.define(project, ["liver", "tumour", "vessel"])
        views.update("Clara")
        assert [one.name for one in structures.defined(clara)] == ["liver", "tumour", "vessel"]
    with Project(tmp_path / "project") as project:
        item = project.items()[0]
        project.save(item.id, organ())
        readers.start(project, tmp_path / "third", blind=False)
        with Project(tmp_path / "third") as third:
            assert np.array_equal(third.proposed_labels(item.id), organ())
            third.accept(item.id)
            assert np.array_equal(third.labels(item.id), organ())


def test_one_structure_is_learnt_and_its_network_proposes_it(registry, tmp_path, monkeypatch):  # noqa: F811
    name = registry.segmenters("ultrasound")[0]
    with Project(tmp_path / "project") as project:
        _, tumour = structures.define(project, ["liver", "tumour"])
        for seed in range(retraining.MIN_ACCEPTED):
            item = project.add(picture(tmp_path, seed), "ultrasound")
            project.accept(item.id, organ())
        run, lock = retraining.prepare(project.folder, registry.path(name), name, epochs=1, structure=tumour)
        lock.close()
        plan = json.loads((run.folder / retraining_run.PLAN).read_text())
        assert plan["structure"] == "tumour"
        stored = [np.asarray(Image.open(path)) for path in (run.folder / "masks").iterdir()]
        assert len(stored) == retraining.MIN_ACCEPTED
        assert all(np.array_equal(one, 255 * (organ() == 2)[:, :, 0].T) for one in stored)
        assert structures.of_checkpoint(project, name) == 1
        structures.define(project, [Structure("liver", label=1), Structure("mass", label=2)])
        structures.set_learnt(project, name, adoption.learnt_structure(project, plan).label)
        assert structures.of_checkpoint(project, name) == 2
        item = project.add(picture(tmp_path, 99), "ultrasound")
        monkeypatch.setattr(assist, "THRESHOLD", 0.0)  # above which the untrained network marks something
        proposals.propose(project, registry, item.id)
        assert {2} <= set(np.unique(project.proposed_labels(item.id))) <= {0, 2}


@pytest.mark.parametrize(
    "plan, name",
    [
        ({"structure": "tumour", "structure_label": 2}, "mass"),
        ({"structure": "Liver"}, "liver"),  # of a plan that an earlier version wrote
        ({"structure": "tumour"}, None),
        ({"structure": "liver", "structure_label": 5}, None),
        ({}, None),
    ],
)
def test_the_structure_that_a_run_learns_is_found_by_its_label_or_else_its_name(tmp_path, plan, name):
    with Project(tmp_path / "project") as project:
        structures.define(project, ["liver", "tumour"])
        structures.define(project, ["liver", Structure("mass", label=2)])
        found = adoption.learnt_structure(project, plan)
        assert name == (None if found is None else found.name)


def test_a_volume_of_a_project_is_learnt_by_structure(filled, tmp_path):
    volume = filled.items()[-1]
    masks.copy_structure(filled.accepted / "masks" / f"{volume.id}.nii.gz", tmp_path / "one" / "a.nii.gz", 3)
    found = masks.read(tmp_path / "one" / "a.nii.gz", volume.shape_xyz)
    assert np.array_equal(found == 1, filled.labels(volume.id) == 3)


@pytest.mark.parametrize("has_dataset", [False, True])
def test_a_dicom_seg_has_a_segment_for_each_structure_and_comes_back(tmp_path, has_dataset):
    (tmp_path / "series").mkdir()
    files = series(tmp_path / "series", noise((5, 34, 40)))
    with Project(tmp_path / "project") as project:
        structures.define(project, NAMED)
        item = project.add(files, "ct")
        map_xyz = np.zeros(item.shape_xyz, np.uint8)
        map_xyz[2:20, 3:20, 1:4], map_xyz[4:9, 4:9, 2] = 1, 3
        project.accept(item.id, map_xyz)
        written = transfer.write(project, "dicom-seg", "accepted", "lesion", tmp_path / "out")
        data = pydicom.dcmread(tmp_path / "out" / written.places[item.id])
        assert [one.SegmentLabel for one in data.SegmentSequence] == ["liver", "tumour", "vessel"]
        if not has_dataset:
            (tmp_path / "out" / "dataset.json").unlink()
        with Project(tmp_path / "other") as other:
            other.add(files, "ct")
            found = transfer.take(other, tmp_path / "out", "anne")
            names = "liver, tumour, vessel" if has_dataset else "liver, vessel"  # which are drawn
            assert found.saved == [item.id] and found.notes == [f"Structures added to the project: {names}."]
            same(project, other)
