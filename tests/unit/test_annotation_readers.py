"""A second reader's project, and the agreement of two readers against numbers worked out by hand."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from mpsams import metrics
from mpsams.annotation import classes, proposals, readers, structures
from mpsams.annotation.__main__ import main
from mpsams.annotation.project import Project
from mpsams.annotation.structures import Structure
from tests.support.annotation_page import registry  # noqa: F401
from tests.support.projects import AFFINE, DEEP, FLAT, picture, volume


def box(shape: tuple[int, int, int], start: int) -> np.ndarray:
    """A box of 8 x 8 pixels on one slice, that begins at a column."""
    mask = np.zeros(shape, bool)
    mask[start : start + 8, 4:12, 0] = True
    return mask


@pytest.fixture
def first(tmp_path):
    with Project(tmp_path / "first") as project:
        for seed in range(4):
            project.add(picture(tmp_path / f"{seed}.png", seed), "ultrasound")
        project.add(volume(tmp_path / "deep.nii.gz"), "ct")
        yield project


@pytest.mark.parametrize("blind", [True, False])
def test_a_second_project_has_the_images_and_only_if_wished_the_masks(first, tmp_path, blind):
    item, deep = first.items()[0], first.items()[-1]
    first.accept(item.id, box(FLAT, 2), user="AB")
    first.save(deep.id, box(DEEP, 2), user="AB")
    classes.define(first, ["benign", "cyst"])
    classes.classify(first, item.id, "cyst")
    assert (
        readers.start(first, tmp_path / "second", blind) == 5 and readers.start(first, tmp_path / "second", blind) == 0
    )
    with Project(tmp_path / "second") as second:
        assert [(one.id, one.name) for one in second.items()] == [(one.id, one.name) for one in first.items()]
        assert [one.name for one in classes.defined(second)] == ["benign", "cyst"] and not second.item(
            item.id
        ).image_class
        assert all(one.mask is None for one in second.items())
        assert second.proposal(item.id) is None if blind else np.array_equal(second.proposal(item.id), box(FLAT, 2))
        assert (second.proposal(deep.id) is None) == blind
        assert ("AB" in (second.folder / "log.jsonl").read_text()) is False
    with pytest.raises(ValueError, match="project itself"):
        readers.start(first, first.folder)


def test_the_first_readers_masks_are_not_proposed_over(first, tmp_path, registry):  # noqa: F811
    items = first.items()
    first.save(items[0].id, box(FLAT, 2))
    readers.start(first, tmp_path / "second", blind=False)
    with Project(tmp_path / "second") as second:
        assert proposals.waiting(second, registry) == [item.id for item in items[1:]]


def test_agreement_is_what_the_masks_and_classes_give(first, tmp_path):
    readers.start(first, tmp_path / "second")
    one, two, three, four, deep = (item.id for item in first.items())
    with Project(tmp_path / "second") as second:
        assert readers.measure(first, second).rows == []
        with pytest.raises(ValueError, match="both readers"):
            readers.measure(first, second).csv()
        for project, start, user in ((first, 2, "AB"), (second, 4, "CD")):
            project.accept(one, box(FLAT, start), user=user)
            project.save(two, np.zeros(FLAT, bool), user=user)
            project.save(deep, box(DEEP, start), user=user)
        first.save(three, box(FLAT, 2))
        for id, name, other in (
            (one, "benign", "benign"),
            (two, "normal", "normal"),
            (three, "benign", "malignant"),
            (four, "malignant", "malignant"),
        ):
            classes.classify(first, id, name)
            classes.classify(second, id, other)
        found = readers.measure(first, second)
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(found.csv().decode()))}
    assert rows.keys() == {one, two, three, four, deep}
    assert (rows[one]["dsc"], rows[one]["hd95"], rows[one]["unit"], rows[one]["reader_1"], rows[one]["reader_2"]) == (
        "0.75",
        "2.0",
        "px",
        "AB",
        "CD",
    )
    assert (rows[two]["dsc"], rows[two]["hd95"]) == ("1.0", "0.0") and rows[three]["dsc"] == rows[four]["unit"] == ""
    assert float(rows[deep]["hd95"]) == pytest.approx(2 * abs(AFFINE[0, 0])) and rows[deep]["unit"] == "mm"
    assert found.overall["images"] == 3 and found.overall["dsc"] == pytest.approx((0.75 + 1 + 0.75) / 3)
    assert found.overall["hd95_px"] == 1 and found.overall["hd95_mm"] == pytest.approx(4)
    chance = (2 * 1 + 1 * 2 + 1 * 1) / 16  # benign, malignant, normal: shares of both readers multiplied
    assert (
        found.overall["classified"] == 4
        and found.overall["same_class"] == 0.75
        and found.overall["kappa"] == pytest.approx((0.75 - chance) / (1 - chance))
    )


def test_surfaces_that_are_too_large_have_no_hd95(first, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(metrics, "MOST_SURFACE", 60)  # of the boxes, 28 pixels each; not of the random masks
    readers.start(first, tmp_path / "second")
    one, *_, deep = first.items()
    with Project(tmp_path / "second") as second:
        for seed, project in enumerate((first, second)):
            project.save(one.id, box(FLAT, 2 + seed))
            project.save(deep.id, np.random.default_rng(seed).random(DEEP) < 0.5)
    first.close()
    assert main(["agreement", str(first.folder), str(tmp_path / "second"), str(tmp_path / "a.csv")]) == 0
    report = json.loads(capsys.readouterr().out)
    rows = {row["id"]: row for row in report["images"]}
    table = {row["id"]: row for row in csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text()))}
    assert rows[deep.id]["hd95"] is None and table[deep.id]["hd95"] == "" and 0 < rows[deep.id]["dsc"] < 1
    assert rows[one.id]["hd95"] == float(table[one.id]["hd95"]) == 1
    assert report["overall"]["hd95_mm"] is None and report["overall"]["hd95_px"] == 1
    assert report["notes"] == ["The HD95 of deep.nii.gz was not measured: the surfaces of its masks are too large."]


def test_one_class_alone_has_no_kappa(first, tmp_path):
    readers.start(first, tmp_path / "second")
    with Project(tmp_path / "second") as second:
        for project in (first, second):
            classes.classify(project, first.items()[0].id, "benign")
        overall = readers.measure(first, second).overall
    assert overall["kappa"] is None and overall["same_class"] == 1 and overall["dsc"] is None


def test_the_command_line_starts_a_second_reader_and_measures(first, tmp_path, capsys):
    id = first.items()[0].id
    first.accept(id, box(FLAT, 2), user="AB")
    first.close()
    assert main(["second", str(first.folder), str(tmp_path / "other"), "--show-masks"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "added": 5,
        "folder": str(tmp_path / "other"),
        "blind": False,
        "notes": [],
    }
    assert main(["agreement", str(first.folder), str(tmp_path / "other"), str(tmp_path / "a.csv")]) == 1
    assert "both readers" in json.loads(capsys.readouterr().out)["error"]
    with Project(tmp_path / "other") as second:
        second.accept(id, user="CD")
    assert main(["agreement", str(first.folder), str(tmp_path / "other"), str(tmp_path / "a.csv")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (
        report["overall"]["dsc"] == 1
        and report["overall"]["kappa"] is None
        and (tmp_path / "a.csv").read_text().count("\n") == 2
    )
    assert main(["agreement", str(first.folder), str(tmp_path / "none"), str(tmp_path / "b.csv")]) == 1
    assert not (tmp_path / "none").exists()


def test_the_consensus_is_what_more_than_half_say(first, tmp_path, capsys):
    ids = [item.id for item in first.items()]
    for name in ("second", "third"):
        readers.start(first, tmp_path / name)
    given = {"first": (2, "benign", "benign"), "second": (4, "benign", "normal"), "third": (6, "malignant", "")}
    for folder, (start, image_class, other) in given.items():
        with Project(tmp_path / folder) if folder != "first" else contextlib.nullcontext(first) as project:
            project.accept(ids[0], box(FLAT, start), user=folder)
            project.save(ids[4], box(DEEP, start), user=folder)
            classes.classify(project, ids[0], image_class)
            classes.classify(project, ids[1], other)
    first.save(ids[2], box(FLAT, 2))
    first.close()
    words = ["consensus", *(str(tmp_path / name) for name in ("first", "second", "third", "both"))]
    assert main(words) == 0 and json.loads(capsys.readouterr().out) == {
        "folder": str(tmp_path / "both"),
        "readers": 3,
        "masks": 2,
        "notes": [],
    }
    with Project(tmp_path / "both") as both:
        # of 2-9, 4-11 and 6-13
        assert np.array_equal(both.mask(ids[0]), box(FLAT, 4)) and np.array_equal(both.mask(ids[4]), box(DEEP, 4))
        assert [both.item(id).image_class for id in ids[:2]] == ["benign", ""] and both.mask(ids[2]) is None
        assert both.item(ids[0]).status == "in work" and both.item(ids[0]).reader == "consensus"
    assert main(words) == 1 and "is there already" in json.loads(capsys.readouterr().out)["error"]
    with Project(tmp_path / "second") as second, pytest.raises(ValueError, match="two readers"):
        readers.consensus([second], tmp_path / "none")
    with Project(tmp_path / "second") as second, Project(tmp_path / "third") as third:
        readers.consensus([second, third], tmp_path / "two")
    with Project(tmp_path / "two") as two:
        assert np.array_equal(two.mask(ids[0]), box(FLAT, 4) & box(FLAT, 6)) and two.item(ids[0]).image_class == ""


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_damaged_image_is_named_and_left_out_by_every_command(first, tmp_path, capsys, is_removed):
    """One image is damaged before the second reader joins, one afterwards."""
    before, after, whole, *_ = first.items()
    for item in first.items():
        first.accept(item.id, box(item.shape_xyz, 2))

    def damage(item):
        for path in (*first.folder.rglob(f"images/{item.id}*"), *tmp_path.glob(f"second/images/{item.id}*")):
            path.unlink() if is_removed else path.write_bytes(b"rotten")

    def report(*arguments) -> dict:
        assert main([*map(str, arguments)]) == 0
        return json.loads(capsys.readouterr().out)

    def refused(*names) -> list[str]:
        reason = "The file of this image was damaged or removed outside of this program."
        return [f"{name} was left out: {reason}" for name in names]

    first.close()
    damage(before)
    folder, second = first.folder, tmp_path / "second"
    joined = report("second", folder, second)
    assert joined["added"] == 4 and joined["notes"] == refused(before.name)
    assert not list((second / "images").glob(f"{before.id}*")), "nothing of it was left behind"
    with Project(second) as project:
        for item in project.items():
            project.accept(item.id, box(item.shape_xyz, 4))
    damage(after)
    compared = report("agreement", folder, second, tmp_path / "a.csv")
    assert compared["notes"] == refused(after.name) and compared["overall"]["images"] == 3
    made = report("consensus", folder, second, tmp_path / "both")
    assert sorted(made["notes"]) == sorted(refused(before.name, after.name)) and made["masks"] == 3
    for form in ("coco", "folder", "nifti"):
        sent = report("export", folder, form, tmp_path / form)
        places = {one["id"]: one["file"] for one in sent["images"]}
        assert places[before.id] is places[after.id] is None and places[whole.id] and sent["exported"] == 3
        names = [Path(item.name).stem for item in (before, after)]
        assert [note for note in sent["notes"] if "damaged" in note] == refused(*names)


def test_a_second_project_keeps_the_names_of_its_own_structures_that_masks_hold(first, tmp_path):
    structures.define(first, ["liver", "tumour"])
    item, notes = first.items()[0], []
    with Project(tmp_path / "second") as second:
        second.add(first.image(item.id), "ultrasound")
        structures.define(second, ["aorta", "cyst"])
        second.save(item.id, box(FLAT, 2).view(np.uint8))
    readers.start(first, tmp_path / "second", notes=notes)
    assert notes == [
        "The structures of second stay as they are: masks there hold 'aorta' with number 1, which is another structure"
        " here."
    ]
    with Project(tmp_path / "second") as second:
        assert [one.name for one in structures.defined(second)] == ["aorta", "cyst"]
        second.save(item.id, np.zeros(FLAT, np.uint8))
    readers.start(first, tmp_path / "second")
    with Project(tmp_path / "second") as second:
        assert [one.name for one in structures.defined(second)] == ["liver", "tumour"]


def test_new_names_reach_a_second_project_though_its_masks_hold_the_structures(first, tmp_path):
    structures.define(first, ["liver", "tumour"])
    readers.start(first, tmp_path / "second")
    item = first.items()[0]
    with Project(tmp_path / "second") as second:
        second.save(item.id, box(FLAT, 2).view(np.uint8))
    for name in ("organ", "organ on the right"):
        structures.define(first, [Structure(name, label=1), "tumour"])
    structures.define(first, ["organ on the right", "tumour", "liver"])  # another one than before
    readers.start(first, tmp_path / "second")
    with Project(tmp_path / "second") as second:
        assert [one.name for one in structures.defined(second)] == ["organ on the right", "tumour", "liver"]
        assert np.array_equal(second.labels(item.id), box(FLAT, 2))


def test_a_label_that_another_structure_has_got_does_not_rename_masks_of_the_one_before(first, tmp_path):
    structures.define(first, ["liver", "tumour"])
    readers.start(first, tmp_path / "second")
    item, notes = first.items()[0], []
    with Project(tmp_path / "second") as second:
        second.save(item.id, 2 * box(FLAT, 2).view(np.uint8))
    structures.define(first, ["liver"])
    structures.define(first, ["liver", Structure("cyst", label=2)])
    readers.start(first, tmp_path / "second", notes=notes)
    assert "masks there hold 'tumour' with number 2" in notes[0]
    with Project(tmp_path / "second") as second:
        assert [one.name for one in structures.defined(second)] == ["liver", "tumour"]
