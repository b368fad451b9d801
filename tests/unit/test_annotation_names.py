"""Names and classes in exports and imports: users' names made safe and different, names.csv everywhere, and all of it
read back.
"""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from mpsams.annotation import class_table, classes, export_names, exports, transfer
from mpsams.annotation.project import Project
from mpsams.imaging import UnreadableImage
from mpsams.imaging.name_matching import Names
from tests.support.dicom_files import series
from tests.support.projects import FLAT, drawn, picture, volume

HOSTILE = (
    "../../etc/passwd",
    "..\\..\\boot.ini",
    "a\nb.png",
    "a\0b.png",
    "CON",
    "nul.png",
    ".hidden.png",
    "",
    "...",
    "x" * 300,
    "e\u0301.png",
    "a:b?*.png",
    "\u202egnp.exe",
    " space .png",
    "-rf.png",
    "lpt1.png",
    "a.",
    "\ud800.png",
)


def table(out) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((out / "names.csv").read_text())))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_made_safe(name):
    safe = export_names.make_safe(name)
    assert not safe or export_names.is_safe(safe)
    (found,) = export_names.of_images({"0123456789abcdef": name}).values()
    assert export_names.is_safe(found) and found.isprintable() and not set(found) & set('/\\:*?"<>|')


def test_names_stay_where_they_can_and_are_different():
    ids = [f"{number:016x}"[::-1] for number in range(1, 9)]
    given = (
        "Überblick (1).png",
        "a.png",
        "A.jpg",
        "x/scan_mask.png",
        "scan.png",
        "",
        "a-20000000.png",
        "Fall, 3.nii.gz",
    )
    found = export_names.of_images(dict(zip(ids, given)))
    expected = [
        "Überblick (1)",
        ids[1],
        f"A-{ids[2][:8]}",
        f"scan_mask-{ids[3][:8]}",
        "scan",
        ids[5],
        "a-20000000",
        "Fall_ 3",
    ]
    assert list(found.values()) == expected  # a-20000000 is taken by another file
    assert len({name.casefold() for name in found.values()}) == len(given)


@pytest.fixture
def project(tmp_path):
    """Two pictures called alike but for capitals and one of another name, benign, normal and without class; masks in
    all.
    """
    with Project(tmp_path / "project") as project:
        for seed, (name, image_class) in enumerate(
            (("Fall, 1.png", "benign"), ("x/fall, 1.png", "normal"), ("other.png", ""))
        ):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            item = project.add(picture(tmp_path / name, seed), "ultrasound")
            project.accept(
                item.id, drawn(seed, FLAT) if image_class != "normal" else np.zeros(FLAT, bool), user="Anna", seconds=2
            )
            classes.classify(project, item.id, image_class)
        yield project


@pytest.mark.parametrize("names", transfer.NAMES)
@pytest.mark.parametrize("form", ["folder", "nifti", "coco", "busi"])
@pytest.mark.parametrize("ending", ["", ".zip"])
def test_masks_and_classes_come_back_by_either_name(project, tmp_path, form, names, ending):
    before = {item.id: (project.mask(item.id), item.image_class) for item in project.items()}
    out = tmp_path / f"out{ending}"
    exported = transfer.write(project, form, "all", "benign", out, names)
    assert (
        exported.classes == {"benign": 1, "normal": 1, "": 1}
        and None not in exported.places.values()
        and len(exported.places) == 3
    )
    assert all((id in place) == (names == "hashed") for id, place in exported.places.items() if form != "coco")
    with Project(tmp_path / "again") as again:
        for item in project.items():
            again.add(project.image(item.id), "ultrasound", item.name)
        found = transfer.take(again, out, "Bert")
        assert sorted(found.saved) == sorted(before) and not found.refused
        for id, (mask_xyz, image_class) in before.items():
            assert np.array_equal(again.mask(id), mask_xyz)
            assert again.item(id).image_class == (image_class or ("benign" if form in ("coco", "busi") else ""))


def test_names_csv_says_what_each_mask_is(project, tmp_path):
    for form in ("folder", "nifti", "coco", "busi"):
        exported = transfer.write(project, form, "accepted", "lesion", tmp_path / form)
        rows = {row["id"]: row for row in table(tmp_path / form)}
        assert rows.keys() == exported.places.keys()
        first = project.items()[0]
        row = rows[first.id]
        assert (row["name"], row["class"], row["state"], row["reader"], row["seconds"]) == (
            "Fall, 1.png",
            "benign",
            "accepted",
            "Anna",
            "2.0",
        )
        assert int(row["lesion_voxels"]) == drawn(0, FLAT).sum()
        assert all((tmp_path / form / row["mask"]).is_file() for row in rows.values() if row["mask"])
    # of busi
    assert rows[project.items()[2].id]["mask"] == "" and any("it has no class" in note for note in exported.notes)
    assert {path.name for path in (tmp_path / "busi").iterdir()} == {"benign", "malignant", "normal", "names.csv"}
    whole = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    assert [image.get("class") for image in whole["images"]] == ["benign", "normal", None]
    assert {one["name"] for one in whole["categories"]} == {"benign", "normal", "lesion"}


def test_busi_has_a_folder_for_each_class_of_the_project(project, tmp_path):
    classes.define(project, ["BI-RADS 4a", "BI-RADS 5"])
    classes.classify(project, project.items()[0].id, "BI-RADS 4a")
    classes.classify(project, project.items()[2].id, "BI-RADS 5")
    transfer.write(project, "busi", "accepted", "lesion", tmp_path / "out")
    assert {path.parent.name for path in (tmp_path / "out").rglob("*_mask.png")} == {
        "BI-RADS 4a",
        "BI-RADS 5",
        "normal",
    }
    classes.classify(project, project.items()[2].id, "")
    project.reopen(project.items()[2].id)
    assert transfer.take(project, tmp_path / "out", "").classified == [project.items()[2].id]


def test_a_dicom_series_keeps_its_name_and_class(tmp_path):
    (tmp_path / "CT thorax").mkdir()
    files = series(tmp_path / "CT thorax", np.random.default_rng(0).integers(0, 900, (3, 34, 40)).astype(np.int16))
    with Project(tmp_path / "project") as project:
        item = project.add(files)
        classes.define(project, ["tumour", "normal"])
        classes.classify(project, item.id, "tumour")
        project.accept(item.id, drawn(1, item.shape_xyz))
        for names, stem in (("keep", "CT thorax"), ("hashed", item.id)):
            assert transfer.write(project, "dicom-seg", "accepted", "lesion", tmp_path / names, names).places == {
                item.id: f"{stem}.dcm"
            }
        classes.classify(project, item.id, "")
        project.reopen(item.id)
        found = transfer.take(project, tmp_path / "keep", "")
        assert found.saved == found.classified == [item.id] and project.item(item.id).image_class == "tumour"


def test_tables_of_classes():
    ids, names = {"1" * 16, "2" * 16}, Names({"1" * 16: ("a.png",), "2" * 16: ("b.png",)})
    read = class_table.read
    assert read(b"\xef\xbb\xbfID,Class\n" + b"1" * 16 + b",benign\n9,normal\n", ids, names) == ({"1" * 16: "benign"}, 1)
    assert read(b"image\tlabel\nx\\b_mask.png\tnormal\na\t\n", ids, names) == ({"2" * 16: "normal"}, 0)
    assert read(b"a,b\n1,2\n", ids, names) == read(b"", ids, names) == ({}, 0)
    for wrong in (
        b"\xff\xfe\0",
        b"name,class\na,x\na,y\n",
        b"x" * (class_table.MAX_BYTES + 1),
        b'name,class\n"' + b"a" * 200_000 + b'",x\n',
    ):
        with pytest.raises(UnreadableImage):
            read(wrong, ids, names)
    rows = [{"id": "1" * 16, "name": "=cmd()", "class": "@x"}]
    assert class_table.document(rows) == b"id,name,class\n" + b"1" * 16 + b",'=cmd(),'@x\n"
    assert read(class_table.document(rows), ids, names) == ({"1" * 16: "@x"}, 0)


def test_accepted_images_keep_their_class_and_unknown_ones_are_named(project, tmp_path):
    first, second, third = (item.id for item in project.items())
    (tmp_path / "given.csv").write_text(f"id,class\n{first},malignant\n{second},NORMAL\n{third},cyst\n")
    found = transfer.take(project, tmp_path / "given.csv", "")
    assert found.classified == [] and found.saved == [] and len(found.notes) == 2
    assert "1 image has a class that this project does not define; expected benign, malignant, normal." in found.notes
    (tmp_path / "given.csv").write_text("id,name,class\n,other.png,malignant\n9,strange.png,normal\n")
    assert (
        transfer.take(project, tmp_path / "given.csv", "Bert").classified == [third]
        and project.log()[-1]["user"] == "Bert"
    )


def test_an_export_of_volumes_keeps_names(tmp_path):
    with Project(tmp_path / "project") as project:
        item = project.add(volume(tmp_path / "thorax 7.nii.gz"), "ct")
        project.accept(item.id, drawn(1, item.shape_xyz))
        assert transfer.write(project, "folder", "accepted", "lesion", tmp_path / "out").places == {
            item.id: "masks/thorax 7.nii.gz"
        }
        assert exports.TABLE_FILE in {path.name for path in (tmp_path / "out").iterdir()}
        project.reopen(item.id)
        assert transfer.take(project, tmp_path / "out", "").saved == [item.id]
        with pytest.raises(ValueError, match="names 'mine'; allowed are keep, hashed"):
            transfer.write(project, "folder", "all", "lesion", tmp_path / "other", "mine")


def test_a_mask_file_named_like_the_picture_of_an_export_is_found(project, tmp_path):
    third = project.items()[2].id
    project.reopen(third)
    Image.fromarray(np.uint8(255 * drawn(9, FLAT)[:, :, 0].T)).save(tmp_path / "other_mask.png")
    assert transfer.take(project, tmp_path / "other_mask.png", "").saved == [third]
