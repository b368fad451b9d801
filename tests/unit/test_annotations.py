"""The annotation store: what was acknowledged outlasts kill -9, a full disk and a damaged index."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from mpsams import checkpoint
from mpsams.annotation import acquisition, disk, images, lock, log, masks
from mpsams.annotation.project import Project
from mpsams.datasets import folder
from mpsams.imaging import UnreadableImage, geometry
from tests.support.projects import AFFINE, DEEP, FLAT, drawn, item, picture, project, step, volume  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import nibabel, numpy, torch
from mpsams import checkpoint, imaging
from mpsams.annotation.project import Project
from tests.support.projects import drawn, step
torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:
    first, count, wait = line.split()
    inside, outside = os.pipe()
    child = os.fork()
    if not child:
        os.close(inside)
        project = Project(sys.argv[1])
        k = int(first)
        while True:
            step(project, k)
            os.write(outside, b"%d\\n" % k)
            k += 1
    os.close(outside)
    with os.fdopen(inside) as pipe:
        first_lines = [pipe.readline() for _ in range(int(count))]
        time.sleep(float(wait))  # time must pass: the kill comes at any moment of a step
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print(" ".join("".join(first_lines + pipe.readlines()).split()), flush=True)
"""


def square(*sides: slice) -> np.ndarray:
    mask = np.zeros(FLAT, bool)
    mask[sides[0], sides[1], 0] = True
    return mask


def again(project: Project) -> Project:
    """The folder, as another app finds it."""
    project.close()
    return Project(project.folder)


def facts(project: Project) -> list:
    """All that the index knows, with names."""
    return [(item, project.name(item.id)) for item in project.items()]


def accepted(project: Project) -> dict[str, set[str]]:
    """The files in the folder for training."""
    return {
        part: {path.name.split(".")[0] for path in (project.accepted / part).iterdir()} for part in ("images", "masks")
    }


def test_an_item_goes_its_way_and_the_log_tells_it(project, tmp_path):
    item = project.add(picture(tmp_path / "a.png"), user="Dr. A")
    assert (item.status, item.shape_xyz, item.mask_ending, item.modality) == ("new", FLAT, ".png", "ultrasound")
    assert project.add(picture(tmp_path / "same.png")) == item and len(project.items()) == 1
    proposal, drawn_, truth = (
        square(slice(0, 10), slice(0, 10)),
        square(slice(2, 12), slice(0, 10)),
        square(slice(2, 12), slice(0, 20)),
    )
    item = project.propose(item.id, proposal, "ours", "ab" * 32, priority=0.5)
    assert (item.status, item.priority, item.checkpoint) == ("proposed", 0.5, ("ours", "ab" * 32))
    item = project.save(item.id, drawn_, user="Dr. A", seconds=3, truth_xyz=truth)
    assert (
        item.status == "in work"
        and (project.mask(item.id) == drawn_).all()
        and (project.proposal(item.id) == proposal).all()
    )
    before = (project.folder / "log.jsonl").read_bytes()
    assert (
        project.save(item.id, drawn_.copy(), user="Dr. A") == item
        and (project.folder / "log.jsonl").read_bytes() == before
    )
    item = project.accept(item.id, user="Dr. B", seconds=4.5)
    assert (item.status, item.seconds) == ("accepted", 7.5) and accepted(project) == {
        "images": {item.id},
        "masks": {item.id},
    }

    added, proposed, saved, taken = project.log()
    assert [row["action"] for row in project.log()] == ["added", "proposed", "saved", "accepted"]
    assert (saved["user"], saved["item"], saved["proposal"]) == (
        "Dr. A",
        item.id,
        {"checkpoint": "ours", "sha256": "ab" * 32},
    )
    assert (saved["pixels_added"], saved["pixels_removed"], saved["seconds"]) == (20, 20, 3)
    assert saved["dsc_before"] == pytest.approx(2 * 80 / 300) and saved["dsc_after"] == pytest.approx(2 * 100 / 300)
    assert saved["dsc_proposal"] == pytest.approx(2 * 80 / 200) and saved["mask"] == item.mask
    assert (taken["pixels_added"], taken["pixels_removed"], taken["dsc_before"], taken["dsc_after"]) == (
        20,
        20,
        None,
        None,
    )
    assert project.reopen(item.id).status == "in work" and accepted(project) == {"images": set(), "masks": set()}
    assert project.skip(item.id).status == "skipped" and project.next() is None
    assert project.counts() == {"new": 0, "proposed": 0, "in work": 0, "accepted": 0, "skipped": 1}


def test_accepting_takes_the_last_mask_else_the_proposal(project, item):
    with pytest.raises(ValueError, match="neither a mask nor a proposal"):
        project.accept(item.id)
    project.propose(item.id, drawn(1, FLAT), "ours", "")
    assert (
        project.accept(item.id).mask == project.item(item.id).proposal
        and (project.mask(item.id) == drawn(1, FLAT)).all()
    )
    project.save(item.id, drawn(2, FLAT))
    assert accepted(project)["masks"] == set()  # in work again
    project.accept(item.id)
    assert (project.mask(item.id) == drawn(2, FLAT)).all() and (project.proposal(item.id) == drawn(1, FLAT)).all()


def test_the_queue_has_the_most_urgent_first(project, tmp_path):
    a, b, c, d = (project.add(picture(tmp_path / f"{k}.png", k)).id for k in range(4))
    project.set_priorities({b: 0.2, d: 0.9, c: 0.2})
    assert [item.id for item in project.queue()] == [d, b, c, a]
    assert [project.next(after).id for after in (None, d, b, c, a)] == [d, b, c, a, d]
    project.skip(d)
    assert project.next(d).id == b and [item.id for item in project.items("skipped")] == [d]
    for call in (
        lambda: project.set_priorities({a: math.nan}),
        lambda: project.save(a, drawn(0, FLAT), seconds=-1),
        lambda: project.items("done"),
    ):
        with pytest.raises(ValueError, match="expected|allowed"):
            call()
    with pytest.raises(ValueError, match="not in this project"):
        project.save("../../etc/passwd", drawn(0, FLAT))


def test_images_in_which_nothing_was_found_come_first_until_someone_works_on_them(project, tmp_path):
    ids = [project.add(picture(tmp_path / f"{number}.png", number)).id for number in range(3)]
    full, empty = np.ones(project.item(ids[0]).shape_xyz, bool), np.zeros(project.item(ids[0]).shape_xyz, bool)
    for id, mask, priority in zip(ids, (full, full, empty), (0.2, 0.9, 0.0), strict=True):
        project.propose(id, mask, "net", "00", priority)
    assert [item.id for item in project.queue()] == [ids[2], ids[1], ids[0]]
    assert [item.is_nothing_found for item in project.items()] == [False, False, True] and project.items()[
        0
    ].proposal_pixels == full.sum()
    project.rebuild()
    assert project.queue()[0].id == ids[2]
    project.save(ids[2], full)
    assert [item.id for item in project.queue()] == [ids[1], ids[0], ids[2]] and not project.item(
        ids[2]
    ).is_nothing_found
    row = next(row for row in project.log() if row["action"] == "proposed")
    del row["pixels"]  # as earlier versions wrote it
    log.append(project.folder / "log.jsonl", [row])
    assert project.item(ids[0]).proposal_pixels is None and not project.item(ids[0]).is_nothing_found


def test_a_removed_image_is_gone_with_its_files_and_may_be_added_again(project, tmp_path):
    first, second = (project.add(picture(tmp_path / f"SECRET{number}.png", number)).id for number in range(2))
    mask = np.ones(project.item(first).shape_xyz, bool)
    project.propose(first, mask, "net", "00")
    project.accept(first, mask, "Dr. A")
    project.remove(first, "Dr. A")
    left = sorted(path.name for path in project.folder.rglob("*") if path.is_file() and path.suffix == ".png")
    assert left == [f"{second}.png"] and "SECRET0" not in (project.folder / "names.private.jsonl").read_text()
    assert (
        project.counts() == {"new": 1, "proposed": 0, "in work": 0, "accepted": 0, "skipped": 0}
        and project.name(second) == "SECRET1.png"
    )
    with pytest.raises(ValueError, match="not in this project"):
        project.remove(first)
    project.rebuild()
    assert [item.id for item in project.items()] == [second] and project.log()[-1] | {"time": ""} == {
        "time": "",
        "user": "Dr. A",
        "item": first,
        "action": "removed",
    }
    project.close()
    with Project(project.folder) as again:
        assert [item.id for item in again.items()] == [second]
        item = again.add(tmp_path / "SECRET0.png")
        assert (item.id, item.status, item.mask, item.proposal) == (first, "new", None, None)


def test_masks_are_read_without_us(project, tmp_path):
    flat, deep = project.add(picture(tmp_path / "a.png")), project.add(volume(tmp_path / "b.nii.gz"), modality="ct")
    for added, shape in ((flat, FLAT), (deep, DEEP)):
        project.propose(added.id, drawn(5, shape), "ours", "")
        project.accept(added.id, drawn(6, shape), user="Dr. A")
    with Image.open(project.folder / "masks" / f"{flat.id}.png") as image:
        assert image.size == FLAT[:2] and (np.asarray(image) == 255 * drawn(6, FLAT)[:, :, 0].T).all()
    image = nibabel.load(project.folder / "masks" / f"{deep.id}.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj), drawn(6, DEEP)) and np.allclose(image.affine, AFFINE)
    with sqlite3.connect(project.folder / "index.sqlite") as db:
        assert db.execute("SELECT id, status, mask FROM items ORDER BY number").fetchall() == [
            (item.id, "accepted", masks.sha256(project.folder / "masks" / (item.id + item.mask_ending)))
            for item in (flat, deep)
        ]
    for line in (project.folder / "log.jsonl").read_text().splitlines():
        json.loads(line)


def test_accepted_masks_are_a_data_set(project, tmp_path):
    ids = [project.add(volume(tmp_path / f"{k}.nii.gz", k), modality="mri").id for k in range(3)]
    for k in (0, 2):
        project.accept(ids[k], drawn(k, DEEP))
    found = folder.load(project.accepted)
    assert set(found.groups) == {ids[0], ids[2]}
    case = f"{ids[2]}/003"
    assert np.array_equal(found.read(case).mask, geometry.radiological_view(drawn(2, DEEP), AFFINE)[3])


@pytest.mark.parametrize(
    "name",
    ["../../up.png", "Müller^Jörg 1950-01-02.png", "a'; DROP TABLE items;--.png", "x\ny\r.png", "<img src=x>.png"],
)
def test_names_stay_private(project, tmp_path, name):
    item = project.add(picture(tmp_path / "plain"), name=name)
    project.accept(item.id, drawn(1, FLAT))
    kept = name.replace("\n", "_").replace("\r", "_")
    assert project.name(item.id) == kept
    private = ("names.private.jsonl", "index.sqlite")
    inside = list(project.folder.rglob("*"))
    assert {path.name for path in inside if path.is_file()} == {
        "lock", "project.json", "log.jsonl", *private, f"{item.id}.png"
    }  # fmt: skip
    for path in inside:
        if path.is_file() and path.name not in private:
            assert kept.encode() not in path.read_bytes() and b"DROP" not in path.read_bytes()
    project.close()
    (project.folder / "names.private.jsonl").unlink()
    with Project(project.folder) as bare:
        assert bare.name(item.id) == "" and (bare.mask(item.id) == drawn(1, FLAT)).all()


def test_names_that_are_no_unicode(project, tmp_path):
    path = picture(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")))
    item = project.add(path)
    assert project.name(item.id) == "caf?.png" and project.image(item.id).name == f"{item.id}.png"
    with again(project) as reopened:
        assert facts(reopened) == [(item, "caf?.png")]


def test_no_patient_in_logs_and_masks(project, tmp_path):
    item = project.add(volume(tmp_path / "DOE_JANE.nii"))
    project.propose(item.id, drawn(1, DEEP), "ours", "")
    project.accept(item.id, drawn(2, DEEP))
    for path in (project.folder / "log.jsonl", project.folder / "project.json"):
        assert b"DOE" not in path.read_bytes()
    header = nibabel.load(project.folder / "masks" / f"{item.id}.nii.gz").header
    assert b"DOE" not in header.binaryblock


def test_files_we_do_not_take(project, tmp_path):
    (tmp_path / "DOE^JANE.txt").write_text("no image")
    for files in (
        tmp_path / "DOE^JANE.txt",
        tmp_path / "DOE^JANE.png",
        [picture(tmp_path / "DOE1", 1), picture(tmp_path / "DOE2", 2)],
    ):
        with pytest.raises(ValueError) as error:
            project.add(files)
        assert "DOE" not in str(error.value)
    with pytest.raises(UnreadableImage):
        project.add(tmp_path / "DOE^JANE.txt")
    assert project.items() == () and not list((project.folder / "images").iterdir())


def test_a_mask_that_does_not_fit_changes_nothing(project, item):
    project.save(item.id, drawn(1, FLAT))
    before = project.log()
    for wrong in (drawn(1, DEEP), drawn(1, FLAT).astype(np.int16), drawn(1, FLAT)[:, :, 0]):
        with pytest.raises(ValueError, match=r"allowed is bool or uint8 with 0 and 1, \("):
            project.save(item.id, wrong)
    with pytest.raises(ValueError, match="truth is of shape"):
        project.save(item.id, drawn(2, FLAT), truth_xyz=drawn(1, DEEP))
    assert project.log() == before and (project.mask(item.id) == drawn(1, FLAT)).all()


def test_a_series_is_one_item(project, tmp_path):
    from tests.support.dicom_files import noise, series

    (tmp_path / "series").mkdir()
    files = series(tmp_path / "series", noise((4, 20, 24)))
    item = project.add(files)
    assert project.add(list(reversed(files))) == item and project.image(item.id).is_dir()
    project.accept(item.id, drawn(1, item.shape_xyz))
    with again(project) as reopened:
        assert (reopened.mask(item.id) == drawn(1, item.shape_xyz)).all()
        assert folder.load(reopened.accepted).groups[0] == item.id


@pytest.mark.parametrize("damage", ["gone", "garbage", "cut", "empty", "old", "ahead"])
def test_a_damaged_index_loses_nothing(project, tmp_path, damage):
    ids = [project.add(picture(tmp_path / f"{k}.png", k), name=f"patient {k}").id for k in range(4)]
    project.set_priorities({ids[3]: 0.5})
    project.propose(ids[0], drawn(0, FLAT), "ours", "ff", 0.25)
    project.save(ids[1], drawn(1, FLAT), seconds=2)
    project.accept(ids[2], drawn(2, FLAT))
    project.skip(ids[3])
    before = facts(project)
    project.close()
    path = project.folder / "index.sqlite"
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage in ("old", "ahead"):
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 0" if damage == "old" else "UPDATE state SET log_end = 9999999")
        db.close()
    else:
        path.write_bytes(
            {"garbage": bytes(100) + data[:50][::-1] * 400, "cut": data[: len(data) // 3], "empty": b""}[damage]
        )
    with Project(project.folder) as reopened:
        assert facts(reopened) == before
        reopened.rebuild()
        assert facts(reopened) == before and [reopened.item(id).status for id in ids] == [
            "proposed",
            "in work",
            "accepted",
            "skipped",
        ]


def test_a_lost_log_is_made_again_from_the_files(project, tmp_path):
    ids = [project.add(picture(tmp_path / f"{k}.png", k)).id for k in range(3)]
    project.save(ids[0], drawn(0, FLAT))
    project.accept(ids[1], drawn(1, FLAT))
    project.close()
    (project.folder / "log.jsonl").unlink()
    (project.folder / "index.sqlite").unlink()
    with Project(project.folder) as reopened:
        assert [reopened.item(id).status for id in ids] == ["in work", "accepted", "new"]
        assert (reopened.mask(ids[1]) == drawn(1, FLAT)).all() and accepted(reopened)["masks"] == {ids[1]}


def test_what_a_crash_leaves_is_mended(project, item):
    project.save(item.id, drawn(1, FLAT))
    project.close()
    whole = (project.folder / "log.jsonl").read_bytes()
    (project.folder / "log.jsonl").write_bytes(whole + b'{"time": "2026", "item": "' + item.id.encode())
    for left in (
        "masks/x.png.partial",
        "images/0123456789abcdef.nii.partial",
        "accepted/masks/y.png.partial",
        "project.json.partial",
    ):
        (project.folder / left).write_bytes(b"half")
    (project.folder / "accepted/images/0123456789abcdef.partial").mkdir()
    (project.folder / "proposals" / f"{item.id}.png").write_bytes(b"never acknowledged")
    with Project(project.folder) as reopened:
        assert not list(reopened.folder.rglob("*.partial")) and not list((reopened.folder / "proposals").iterdir())
        assert (project.folder / "log.jsonl").read_bytes() == whole
        assert (reopened.mask(item.id) == drawn(1, FLAT)).all() and len(reopened.items()) == 1
        reopened.save(item.id, drawn(2, FLAT))
    assert len(log.read(project.folder / "log.jsonl")[0]) == 3


def test_a_damaged_line_costs_one_line(project, item):
    project.save(item.id, drawn(1, FLAT))
    project.accept(item.id, drawn(2, FLAT))
    project.close()
    lines = (project.folder / "log.jsonl").read_bytes().split(b"\n")
    strange = [b"\xff\xfe{", b"[1]", b'{"action": ["added"], "item": {}}',
               b'{"action": "saved", "item": "' + item.id.encode() + b'", "seconds": 10000000000000000000000}',
               b'{"action": "added", "item": "../../../etc/pass"}',
               b'{"action": "ranked", "item": "\\udcff", "urgency": 1}']  # fmt: skip
    (project.folder / "log.jsonl").write_bytes(b"\n".join([lines[0], *strange, b"\0" * len(lines[1]), *lines[2:]]))
    (project.folder / "index.sqlite").unlink()
    with Project(project.folder) as reopened:
        assert [found.status for found in reopened.items()] == ["accepted"] and (
            reopened.mask(item.id) == drawn(2, FLAT)
        ).all()


def test_masks_changed_by_another_tool_are_noticed(project, item):
    project.accept(item.id, drawn(1, FLAT))
    path = project.folder / "masks" / f"{item.id}.png"
    project.close()
    Image.fromarray(np.uint8(drawn(2, FLAT)[:, :, 0].T)).save(path)  # labels 0 and 1
    with Project(project.folder) as reopened:
        assert reopened.item(item.id).status == "in work" and (reopened.mask(item.id) == drawn(2, FLAT)).all()
        assert reopened.log()[-1]["action"] == "recovered" and accepted(reopened)["masks"] == set()
        reopened.accept(item.id)
    path.write_bytes(b"rotten")
    with Project(project.folder) as reopened:  # the accepted copy is still good
        assert reopened.item(item.id).status == "accepted" and (reopened.mask(item.id) == drawn(2, FLAT)).all()
        reopened.reopen(item.id)
    path.unlink()
    with Project(project.folder) as reopened:
        assert reopened.item(item.id).status == "new" and reopened.mask(item.id) is None


def test_two_apps_do_not_share_a_folder(project):
    with pytest.raises(ValueError, match="is open in another app"):
        Project(project.folder)
    code = "import sys\nfrom mpsams.annotation import lock\nfrom pathlib import Path\nlock.hold(Path(sys.argv[1]))"
    run = subprocess.run(
        [sys.executable, "-c", code, project.folder / "lock"], cwd=ROOT, capture_output=True, text=True
    )
    assert "is open in another app; close that one first" in run.stderr
    again(project).close()


def test_folders_that_are_no_project(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds files that are no project"):
        Project(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        Project(tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    Project(tmp_path / "new" / "project").close()
    about = tmp_path / "new" / "project" / "project.json"
    about.write_text(about.read_text().replace('"version": 2', '"version": 4'))
    with pytest.raises(ValueError, match="version 4; this app opens"):
        Project(about.parent)
    about.write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        Project(about.parent)


def test_a_full_disk_leaves_the_last_good_mask(project, item, monkeypatch):
    project.save(item.id, drawn(1, FLAT))
    whole = os.fsync

    def full(_):
        raise OSError(28, "No space left on device")

    for when in range(2):  # while the mask is written; while the log is
        calls = iter([whole] * (2 * when))  # fsync of the mask's file and of its folder
        monkeypatch.setattr(os, "fsync", lambda handle: next(calls, full)(handle))
        with pytest.raises(OSError, match="could not write .*No space left on device; the previous file is unchanged"):
            project.save(item.id, drawn(2 + when, FLAT))
        monkeypatch.setattr(os, "fsync", whole)
        assert len(project.log()) == 2 and not list(project.folder.rglob("*.partial"))
        assert (project.mask(item.id) == drawn(1 if when == 0 else 3, FLAT)).all()  # whole either way
    project.save(item.id, drawn(9, FLAT))
    with again(project) as reopened:
        assert (reopened.mask(item.id) == drawn(9, FLAT)).all() and [row["action"] for row in reopened.log()] == [
            "added",
            "saved",
            "saved",
        ]


def test_a_full_disk_while_adding_leaves_nothing(project, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        project.add(picture(tmp_path / "a.png"))
    monkeypatch.undo()
    assert project.items() == () and not list((project.folder / "images").iterdir())


def brackets(line: bytes) -> bytes:
    return b'{"action": "saved", "item": ' + b"[" * 100_000 + line


@pytest.mark.parametrize("spoil", ["removed", "replaced", "emptied", "garbage", "locked", "a folder"])
def test_the_index_is_made_again_while_the_project_is_open(project, tmp_path, spoil):
    ids = [project.add(picture(tmp_path / f"{k}.png", k)).id for k in range(2)]
    project.save(ids[0], drawn(0, FLAT))
    path, other = project.folder / "index.sqlite", None
    data = path.read_bytes()
    if spoil == "locked":
        other = sqlite3.connect(path)
        other.execute("BEGIN EXCLUSIVE")
    elif spoil in ("emptied", "garbage"):
        path.write_bytes(b"" if spoil == "emptied" else b"\xff" * len(data))
    else:
        path.unlink()
        {"removed": lambda: None, "replaced": lambda: path.write_bytes(data), "a folder": path.mkdir}[spoil]()
    assert [item.status for item in project.items()] == ["in work", "new"]
    assert project.save(ids[1], drawn(1, FLAT)).status == "in work" and project.accept(ids[0]).status == "accepted"
    assert project.add(picture(tmp_path / "2.png", 2), name="third").status == "new"
    assert [row["action"] for row in project.log()] == ["added", "added", "saved", "saved", "accepted", "added"]
    before = facts(project)
    if other is not None:
        other.close()
    with again(project) as reopened:
        assert facts(reopened) == before and before[2][1] == "third"


def test_a_log_that_goes_while_the_project_is_open_is_made_again(project, tmp_path):
    ids = [project.add(picture(tmp_path / f"{k}.png", k)).id for k in range(2)]
    project.accept(ids[0], drawn(0, FLAT))
    (project.folder / "log.jsonl").unlink()
    assert [project.item(id).status for id in ids] == ["accepted", "new"]
    assert project.save(ids[1], drawn(1, FLAT)).status == "in work"
    with again(project) as reopened:
        assert [reopened.item(id).status for id in ids] == ["accepted", "in work"]


def test_lines_that_no_parser_takes_cost_one_line(project, item):
    project.save(item.id, drawn(1, FLAT))
    with (project.folder / "log.jsonl").open("ab") as file:
        file.write(brackets(b"\n") + b'{"action": "saved", "item": {"a": 1}}\n{"action": 5, "item": []}\n')
    assert project.save(item.id, drawn(2, FLAT)).status == "in work" and len(project.log()) == 3
    assert log.tail(project.folder / "log.jsonl", 2) == project.log()[-2:]
    with again(project) as reopened:
        assert (reopened.mask(item.id) == drawn(2, FLAT)).all()


@pytest.mark.parametrize("count", [1, 3, 50, 1000])
def test_the_end_of_a_log_is_read_without_the_rest(tmp_path, count, monkeypatch):
    monkeypatch.setattr(log, "_BLOCK", 64)
    path = tmp_path / "log.jsonl"
    assert log.tail(path, count) == []
    log.append(path, [{"action": "x" * (7 * n % 90), "item": str(n)} for n in range(200)])
    with path.open("ab") as file:
        file.write(b'{"half')
    assert log.tail(path, count) == log.read(path)[0][-count:] and len(log.tail(path, count)) == min(count, 200)


@pytest.mark.parametrize(
    "name", ["log.jsonl", "names.private.jsonl", "project.json", "lock", "masks", "accepted", "images"]
)
def test_folders_and_files_in_each_others_place_are_a_sentence(project, name):
    project.close()
    path = project.folder / name
    if path.is_dir():
        path.rename(project.folder / "old")
        path.write_bytes(b"")
    else:
        path.unlink(missing_ok=True)
        path.mkdir()
    with pytest.raises(ValueError, match=f"{name} in .* is a (folder|file); expected"):
        Project(project.folder)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"format": "mps-ams annotations", "version": 1e999}', b"null"]
)
def test_a_damaged_description_is_a_sentence(project, data):
    project.close()
    (project.folder / "project.json").write_bytes(data)
    with pytest.raises(ValueError, match="project.json is damaged; expected JSON"):
        Project(project.folder)


@pytest.mark.parametrize("damage", [b"", b"rotten", None])
def test_a_damaged_mask_does_not_close_its_image(project, tmp_path, damage):
    for path in (picture(tmp_path / "a.png"), volume(tmp_path / "b.nii.gz")):
        item = project.add(path)
        file, mask = project.folder / "masks" / (item.id + item.mask_ending), drawn(1, item.shape_xyz)

        def spoil(file=file) -> None:
            file.unlink() if damage is None else file.write_bytes(damage)

        project.accept(item.id, mask)
        spoil()
        # the accepted copy is good
        assert (project.mask(item.id) == mask).all() and project.item(item.id).status == "accepted"
        remark = project.remark(item.id)
        assert (
            "damaged" in remark
            and "accepted one" in remark
            and str(project.folder) not in remark
            and project.remark(item.id) == ""
        )
        project.reopen(item.id)
        spoil()
        assert (
            project.mask(item.id) is None
            and "damaged" in project.remark(item.id)
            and project.item(item.id).status == "new"
        )
        assert project.save(item.id, drawn(2, item.shape_xyz)).status == "in work"
        project.propose(item.id, mask, "ours", "")
        (project.folder / "proposals" / file.name).write_bytes(b"rotten")
        assert project.proposal(item.id) is None and "proposal" in project.remark(item.id)
        assert (project.mask(item.id) == drawn(2, item.shape_xyz)).all()


def unwritable(path: Path):
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_project_that_cannot_be_written_is_opened_to_look(project, tmp_path, monkeypatch):
    items = [
        project.add(path)
        for path in (picture(tmp_path / "a.png"), volume(tmp_path / "b.nii.gz"), picture(tmp_path / "c.png", 2))
    ]
    project.accept(items[0].id, drawn(0, FLAT))
    project.propose(items[1].id, drawn(1, DEEP), "ours", "")
    before = facts(project)
    project.close()
    there = {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}
    monkeypatch.setattr(lock, "hold", unwritable)
    with pytest.raises(OSError, match="Read-only"):
        Project(tmp_path / "none")
    with Project(project.folder) as looked:
        assert looked.read_only and facts(looked) == before and looked.counts()["accepted"] == 1
        assert (looked.mask(items[0].id) == drawn(0, FLAT)).all() and (
            looked.proposal(items[1].id) == drawn(1, DEEP)
        ).all()
        for call in (
            lambda: looked.save(items[2].id, drawn(5, FLAT)),
            lambda: looked.accept(items[1].id),
            lambda: looked.skip(items[0].id),
            lambda: looked.propose(items[2].id, drawn(5, FLAT), "ours", ""),
            lambda: looked.add(picture(tmp_path / "d.png", 4)),
            lambda: looked.set_priorities({items[0].id: 1.0}),
            lambda: looked.append_log("x"),
            lambda: looked.reopen(items[0].id),
        ):
            with pytest.raises(disk.ReadOnly) as refusal:
                call()
            assert "read-only" in disk.sentence(refusal.value)
        (project.folder / "masks" / f"{items[0].id}.png").write_bytes(b"rotten")
        assert (looked.mask(items[0].id) == drawn(0, FLAT)).all()  # the accepted one
        assert facts(looked) == before
    (project.folder / "masks" / f"{items[0].id}.png").write_bytes(
        there[project.folder / "masks" / f"{items[0].id}.png"]
    )
    assert {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()} == there


def test_a_project_on_a_disk_mounted_read_only(project, tmp_path):
    item = project.add(picture(tmp_path / "a.png"))
    project.accept(item.id, drawn(0, FLAT))
    project.close()
    mounts = (
        f"mount --make-rprivate / && mount --bind {project.folder} {project.folder} && mount -o remount,ro,bind"
        f" {project.folder}"
    )
    if (
        shutil.which("unshare") is None
        or os.getuid() != 0
        or subprocess.run(["unshare", "-m", "sh", "-c", mounts], check=False, capture_output=True).returncode
    ):
        pytest.skip("no mount namespaces here")
    code = (
        "import sys; from mpsams.annotation import disk; from mpsams.annotation.project import Project\n"
        "with Project(sys.argv[1]) as p:\n"
        "    (item,) = p.items(); print(p.read_only, item.status, int(p.mask(item.id).sum()))\n"
        "    try: p.save(item.id, ~p.mask(item.id))\n"
        "    except OSError as error: print(disk.sentence(error))\n"
    )
    python = f'{mounts} && exec {sys.executable} -c "$0" {project.folder}'
    run = subprocess.run(
        ["unshare", "-m", "sh", "-c", python, code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.stdout.splitlines() == [
        f"True accepted {drawn(0, FLAT).sum()}",
        disk.sentence(OSError(errno.EROFS, "")),
    ], run.stderr


@pytest.mark.parametrize(
    "number, expected",
    [(errno.ENOSPC, "full"), (errno.EROFS, "read-only"), (errno.ENOENT, "no longer there"), (errno.EIO, "could not")],
)
def test_errors_of_the_disk_are_sentences_without_paths(number, expected):
    message = disk.sentence(OSError(number, "x", "/srv/secret"))
    assert expected in message and "/" not in message and message.endswith(".")


def test_threads_take_turns(project, tmp_path):
    ids = [project.add(picture(tmp_path / f"{k}.png", k)).id for k in range(3)]
    failed = []

    def work(k: int) -> None:
        try:
            for n in range(4):
                project.save(ids[(k + n) % 3], drawn(10 * k + n, FLAT), user=f"thread {k}", seconds=1)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failed and sum(item.seconds for item in project.items()) == 16 and len(project.log()) == 3 + 16
    before = facts(project)
    with again(project) as reopened:
        assert facts(reopened) == before and len(reopened.log()) == 19  # no mask was "found"


@pytest.mark.parametrize("times", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_kill_9_loses_no_acknowledged_mask(tmp_path, times):
    with Project(tmp_path / "project") as project:
        for path in (picture(tmp_path / "a", 1), volume(tmp_path / "b.nii.gz"), picture(tmp_path / "c", 2)):
            project.add(path)
    chance, first, last, taken = random.Random(times), 0, {}, 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, project.folder],
        cwd=ROOT,
        env=environment,
        text=True,
        bufsize=1,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as nursery:
        assert nursery.stdout.readline() == "ready\n"
        for turn in range(times):
            count, wait = (
                (0, chance.uniform(0, 0.3)) if turn % 5 == 0 else (chance.randint(2, 4), chance.uniform(0, 0.04))
            )
            # killed so many seconds after so many were acknowledged
            nursery.stdin.write(f"{first} {count} {wait:.6f}\n")
            output = nursery.stdout.readline()
            assert output, "the process that was to be killed ended by itself"
            acknowledged = [int(k) for k in output.split()]
            assert acknowledged == list(range(first, first + len(acknowledged)))
            taken += len(acknowledged)
            flying = first + len(acknowledged)  # begun, maybe, and not acknowledged
            last |= {k % 3: (k, "accepted" if k % 5 == 4 else "in work") for k in acknowledged}
            lines = (project.folder / "log.jsonl").read_bytes().split(b"\n")
            [json.loads(line) for line in lines[:-1]]
            with Project(project.folder) as reopened:
                items = reopened.items()
                assert len(items) == 3
                for n, item in enumerate(items):
                    may = {k for k in (last.get(n, (None,))[0], flying) if k is not None and k % 3 == n}
                    held = reopened.mask(item.id)
                    if held is None:
                        assert n not in last
                        continue
                    same = [k for k in may if np.array_equal(held, drawn(k, item.shape_xyz))]
                    assert len(same) == 1, f"image {n} holds none of {sorted(may)}"
                    assert same == [flying] or item.status == last[n][1]
                    last[n] = same[0], item.status
                done = {item.id for item in items if item.status == "accepted"}
                assert accepted(reopened) == {"images": done, "masks": done}
                for id in done:
                    assert masks.sha256(next((reopened.accepted / "masks").glob(f"{id}.*"))) == reopened.item(id).mask
                assert not list(reopened.folder.rglob("*.partial")) and not list(reopened.folder.rglob("*.damaged"))
                log_masks = {row.get("mask") for row in reopened.log()}
                assert all(masks.sha256(path) in log_masks for path in (reopened.folder / "masks").iterdir())
            first = flying + 1
        nursery.stdin.close()
    assert taken > times, "too few were acknowledged to say anything"


def test_disagreement_of_votes_against_loops():
    voter_masks = [drawn(k, (6, 5, 2)) for k in range(3)]
    total = 0.0
    for at in np.ndindex(6, 5, 2):
        p = sum(bool(mask[at]) for mask in voter_masks) / 3
        total += 4 * p * (1 - p)
    assert acquisition.vote_disagreement(voter_masks) == pytest.approx(total / 60)
    empty = np.zeros((4, 4), bool)
    assert acquisition.vote_disagreement([empty, ~empty]) == 1 and acquisition.vote_disagreement([empty, empty]) == 0
    for wrong in ([empty], [], [empty, empty[:2]]):
        with pytest.raises(ValueError, match="expected two or more"):
            acquisition.vote_disagreement(wrong)


def test_urgency_of_probabilities():
    assert acquisition.entropy(np.array([0.0, 1.0])) == 0 and acquisition.entropy(np.full((3, 4), 0.5)) == 1
    p = np.random.default_rng(0).random((7, 3))
    slow = sum(-v * math.log2(v) - (1 - v) * math.log2(1 - v) for v in p.flat) / 21
    assert acquisition.entropy(p) == pytest.approx(slow)
    for wrong in (np.array([1.1]), np.array([math.nan]), np.zeros(0), np.array([-0.1])):
        with pytest.raises(ValueError, match="expected probabilities"):
            acquisition.entropy(wrong)


def test_agreement_and_changes():
    one, other = square(slice(0, 4), slice(0, 4)), square(slice(2, 4), slice(0, 8))
    assert masks.agreement(one, other) == pytest.approx(2 * 8 / 32) and masks.changes(one, other) == (8, 8)
    assert masks.agreement(one & ~one, one & ~one) == 1


def test_endings_are_chosen_by_content(tmp_path):
    assert images.ending_of(picture(tmp_path / "x.dcm")) == ".png"
    assert (
        images.ending_of(volume(tmp_path / "x.nii.gz")) == ".nii.gz"
        and images.ending_of(volume(tmp_path / "y.nii")) == ".nii"
    )
