"""The session of the Annotate tab: every command of the canvas and every refusal, masks kept to the pixel, propagated,
proposed, in and out.
"""

from __future__ import annotations

import base64
import errno
import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mpsams import checkpoint, imaging, inference, transforms
from mpsams.annotation import (
    acquisition,
    assist,
    batch,
    disk,
    lock,
    propagation,
    proposals,
    protocol,
    scribble,
    session_files,
    transfer,
)
from mpsams.annotation.actions import ACTIONS
from mpsams.annotation.commands import COMMANDS
from mpsams.annotation.image_loader import CONFLICT
from mpsams.annotation.project import ConflictError, Project
from mpsams.annotation.reader_views import ReaderViews
from mpsams.annotation.session import RESTARTED, AnnotationSession
from mpsams.app.annotate import queue
from mpsams.datasets import phantom
from mpsams.imaging import geometry
from mpsams.inference import case as _case
from mpsams.inference import open_case
from mpsams.inference.registry import ModelRegistry
from tests.support import made_volumes, nifti_files
from tests.support.annotated import volume
from tests.support.annotation_page import SIZE, Page, drawn, folder, page, picture, project, registry, save_with  # noqa: F401
from tests.support.dicom_files import noise, series
from tests.support.nifti_files import nii

pytestmark = pytest.mark.filterwarnings("ignore")


def item(page: Page) -> str:
    return page.session.case.item


def test_what_is_drawn_on_a_picture_is_on_the_disk_to_the_pixel(page, project):
    mask_hw = drawn(page.shape, 1)
    answer = page.send("save", mask_hw)
    assert (answer["saved"], answer["error"], answer["state"]["status"]) == ("disk", "", "in work")
    assert np.array_equal(geometry.radiological_view(project.mask(item(page)), None)[0], mask_hw)
    assert np.array_equal(np.asarray(Image.open(project.folder / "masks" / f"{item(page)}.png")) > 0, mask_hw)
    row = project.log()[-1]
    assert (row["user"], row["seconds"], row["action"]) == ("Dr. A", 1.5, "saved")
    lines = len(project.log())
    assert page.send("save", mask_hw)["saved"] == "disk" and len(project.log()) == lines  # the same once more
    assert page.send("save")["saved"] == ""


@pytest.mark.parametrize("kind", ["oblique", "dicom"])
def test_what_is_drawn_on_a_volume_in_any_plane_is_where_it_was_drawn(registry, project, tmp_path, kind):
    if kind == "oblique":
        volume(tmp_path, oblique=True)
        added = project.add(next(tmp_path.glob("*.nii.gz")), "ct")
    else:
        added = project.add(series(folder(tmp_path / "series"), noise((5, 34, 40))))
    page, scan = Page(registry, project), project.scan(added.id)
    page.open(added.id)
    expected = np.zeros(scan.voxels_xyz.shape, bool)
    for seed, plane in enumerate(scan.planes):
        case = _case.move_to_slice(page.session.case, plane, 0, page.session.loader.clustering(page.session.case))
        page.hear(page.session.show(case))
        slice_to = min(2, page.session.slice_ref.slices - 1)
        page.send("go", slice=slice_to)
        assert (page.session.case.plane, page.session.case.index) == (plane, slice_to) and page.slice_view[
            "key"
        ].endswith(f".{plane}.{slice_to}")
        shown = geometry.radiological_view(expected, scan.affine, plane)[slice_to]
        assert np.array_equal(page.mask, shown)  # what was drawn across it in the planes before is seen in this one
        mask_hw = drawn(page.shape, seed)
        assert page.send("save", mask_hw)["saved"] == "disk"
        shown[:] = mask_hw
    assert expected.any() and np.array_equal(project.mask(added.id), expected)
    assert page.slice_view["aspect"] == pytest.approx(scan.spacing(plane)[1] / scan.spacing(plane)[2])


def test_areas_and_volumes_of_a_tilted_scan_are_those_of_its_slanted_voxels(registry, project, tmp_path):
    affine = np.diag([-2.0, -2.0, 5.0, 1.0]) @ np.array([[1, 0, 0, 0], [0, 1, 1.0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    (tmp_path / "tilted.nii").write_bytes(nii(noise((20, 18, 6)), affine=affine))
    added = project.add(tmp_path / "tilted.nii", "ct")
    page = Page(registry, project)
    page.open(added.id)
    for plane, pixel_mm2 in (("axial", 4), ("coronal", 2 * 29**0.5), ("sagittal", 10)):
        case = _case.move_to_slice(page.session.case, plane, 0, page.session.loader.clustering(page.session.case))
        page.hear(page.session.show(case))
        assert page.slice_view["pixel_mm2"] == pytest.approx(pixel_mm2)
        assert page.slice_view["voxel_mm3"] == pytest.approx(20)


def test_what_comes_late_lands_on_the_sheet_it_was_drawn_on(registry, project, tmp_path):
    for seed in range(2):
        project.add(picture(tmp_path, seed))
    page = Page(registry, project)
    page.open("")
    old, key, first, mask_hw = page.mask, page.slice_view["key"], item(page), drawn(page.shape, 3)
    second = next(other.id for other in project.items() if other.id != first)
    page.open(second)
    before = project.mask(second)
    answer = page.send("save", mask_hw, key=key)
    assert (answer["saved"], answer["key"], answer["slice_view"]) == ("disk", key, None) and item(page) == second
    assert np.array_equal(project.mask(first)[:, :, 0].T, mask_hw) and project.mask(second) is before is None
    page.open(first)
    assert page.slice_view["key"] == key and np.array_equal(page.mask, mask_hw) and not np.array_equal(old, mask_hw)


def test_a_mask_that_someone_else_saved_is_not_overwritten(registry, page, project):
    other = Page(registry, project, "Dr. B")
    other.open(item(page))
    theirs = drawn(page.shape, 5)
    assert other.send("save", theirs)["saved"] == "disk"
    mine = drawn(page.shape, 6)
    for do in ("save", "accept", "go"):
        answer = page.send(do, mine, **({"slice": 0} if do == "go" else {}))
        assert answer["error"] == CONFLICT and answer["saved"] == ""
    assert np.array_equal(project.mask(item(page))[:, :, 0].T, theirs) and project.item(item(page)).status == "in work"
    key = page.slice_view["key"]
    page.open(item(page))
    assert page.slice_view["key"] != key and np.array_equal(page.mask, theirs)
    # what was drawn on the old sheet does not land on the new one
    assert page.send("save", mine, key=key)["error"] == CONFLICT
    assert page.send("save", mine)["saved"] == "disk"
    with pytest.raises(ConflictError):
        project.save(item(page), project.mask(item(page)), expected="")


def test_a_mask_that_someone_else_replaced_is_not_called_saved_when_it_is_sent_again(registry, page, project):
    mine, theirs = drawn(page.shape, 1), drawn(page.shape, 2)
    assert page.send("save", mine)["saved"] == "disk"
    other = Page(registry, project, "Dr. B")
    other.open(item(page))
    assert other.send("save", theirs)["saved"] == "disk"
    answer = page.send("save", mine)  # the same once more
    assert (answer["error"], answer["saved"]) == (CONFLICT, "")
    assert np.array_equal(project.mask(item(page))[:, :, 0].T, theirs)
    assert page.send("skip")["error"] == "" and project.item(item(page)).status == "skipped"  # says nothing of the mask


def lines(project: Project, action: str) -> list[dict]:
    return [row for row in project.log() if row["action"] == action]


def test_a_request_that_is_sent_again_counts_its_seconds_once(page, project):
    one, other = drawn(page.shape, 1), drawn(page.shape, 2)
    page.send("save", one, id="a", seconds=10.0)
    assert page.send("save", one, id="a", seconds=10.0)["saved"] == "disk"  # the answer was lost
    page.send("save", other, id="a", seconds=12.5)  # and tried once more, with what was drawn meanwhile
    page.send("save", one, id="b", seconds=1.0)
    page.send("save", other, seconds=2.0)  # from a page that sends no id
    page.send("save", one, seconds=2.0)
    assert [row["seconds"] for row in lines(project, "saved")] == [10.0, 2.5, 1.0, 2.0, 2.0]
    assert [row.get("request") for row in lines(project, "saved")] == ["a", "a", "b", None, None]


def test_what_was_obeyed_is_not_obeyed_again_and_its_answer_is_sent_again(registry, project, tmp_path):
    first, second, third = (project.add(picture(tmp_path, seed)).id for seed in range(3))
    page = Page(registry, project)
    page.open(first)
    key, mask_hw = page.slice_view["key"], drawn(page.shape, 1)
    reply = page.send("accept", mask_hw, id="a", seconds=10.0)
    again = page.send("accept", mask_hw, id="a", seconds=10.0, key=key)
    assert again | {"request_id": reply["request_id"]} == reply and item(page) == second and again["saved"] == "disk"
    assert [row["seconds"] for row in lines(project, "accepted")] == [10.0]
    better = drawn(page.shape, 2)  # the page let go of the lock, and more was drawn
    assert page.send("accept", better, id="a", seconds=11.0, key=key)["slice_view"] == reply["slice_view"]
    assert [row["seconds"] for row in lines(project, "accepted")] == [10.0, 1.0] and np.array_equal(
        project.mask(first)[:, :, 0].T, better
    )
    for _ in range(2):
        assert page.send("skip", id="b")["state"]["status"] == reply["state"]["status"] and item(page) == third
    assert [row["item"] for row in lines(project, "skipped")] == [second]
    for _ in range(2):
        page.send("reopen", id="c")
    assert len(lines(project, "reopened")) == 1
    page.send("accept", id="a", key=key)  # comes late, after others
    assert len(lines(project, "accepted")) == 2 and item(page) == third


def test_a_request_that_failed_is_obeyed_when_it_is_sent_again(page, project, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(project, "accept", full)
        assert "disk" in page.send("accept", drawn(page.shape, 1), id="a", seconds=4.0)["error"]
    assert page.send("accept", drawn(page.shape, 1), id="a", seconds=5.0)["saved"] == "disk"
    assert [row["seconds"] for row in lines(project, "accepted")] == [5.0]


def test_a_request_that_was_logged_before_the_app_was_started_again_counts_once(registry, page, project):
    mask_hw = drawn(page.shape, 1)
    page.send("save", mask_hw, id="a", seconds=10.0)
    again(page, registry, project)
    page.request_id += 1
    request = {
        "action": "save",
        "id": "a",
        "key": page.slice_view["key"],
        "request_id": page.request_id,
        "mask": protocol.pack(mask_hw),
        "changed": True,
        "seconds": 10.0,
    }
    assert page.hear(page.session.handle(request, page.first, page.user))["saved"] == "disk"
    page.send("save", drawn(page.shape, 2), id="b", seconds=1.0)
    assert [row["seconds"] for row in lines(project, "saved")] == [10.0, 1.0]


def again(page: Page, registry: ModelRegistry, project: Project) -> None:
    """The page stays as it is; the app behind it is a new one, which shows a sample first."""
    scan = page.session.case.scan
    page.first = open_case.open_scan(
        "Sample",
        replace(scan, voxels_xyz=scan.voxels_xyz.copy()),
        open_case.clustering_options(registry.clustering(scan.modality)),
    )
    page.session = AnnotationSession(registry, project)


def send_again(page: Page, mask: np.ndarray, action: str = "save") -> dict:
    """The message of a page to an app that was started meanwhile."""
    page.request_id += 1
    request = {
        "action": action,
        "key": page.slice_view["key"],
        "request_id": page.request_id,
        "mask": protocol.pack(mask),
        "changed": True,
        "seconds": 1.5,
    }
    return page.hear(page.session.handle(request, page.first, page.user))


@pytest.mark.parametrize("saved_before", [False, True])
def test_an_open_page_goes_on_after_the_app_was_started_again(registry, page, project, saved_before):
    id, key = item(page), page.slice_view["key"]
    if saved_before:
        page.send("save", drawn(page.shape, 1))
    again(page, registry, project)
    mask_hw = drawn(page.shape, 2)
    answer = send_again(page, mask_hw)
    assert (answer["saved"], answer["error"], answer["message"], answer["slice_view"]["key"]) == (
        "disk",
        "",
        RESTARTED,
        key,
    )
    assert (
        np.array_equal(page.mask, mask_hw)
        and np.array_equal(project.mask(id)[:, :, 0].T, mask_hw)
        and page.session.case.item == id
    )
    assert page.send("save", drawn(page.shape, 3))["saved"] == "disk"
    again(page, registry, project)
    assert "once more" in send_again(page, mask_hw, "accept")["message"] and project.item(id).status == "in work"


def test_a_sheet_that_was_opened_anew_gets_what_was_left_unsaved_on_the_old_one(registry, page, project):
    id, key, mask_hw = item(page), page.slice_view["key"], drawn(page.shape, 1)
    page.send("save", drawn(page.shape, 4))
    page.session = AnnotationSession(registry, project)
    page.open(id)
    assert page.slice_view["key"] != key
    answer = page.send("save", mask_hw, key=key)
    assert answer["saved"] == "disk" and answer["slice_view"]["key"] == key and np.array_equal(page.mask, mask_hw)
    assert page.send("save", drawn(page.shape, 2))["saved"] == "disk"


def test_after_a_restart_a_mask_that_someone_else_saved_is_not_overwritten(registry, page, project):
    id, other = item(page), Page(registry, project, "Dr. B")
    page.send("save", drawn(page.shape, 1))
    other.open(id)
    theirs = drawn(other.shape, 2)
    other.send("save", theirs)
    again(page, registry, project)
    answer = send_again(page, drawn(page.shape, 3))
    assert (answer["error"], answer["saved"], answer["key"]) == (CONFLICT, "", "") and np.array_equal(
        project.mask(id)[:, :, 0].T, theirs
    )
    page.slice_view["key"] = page.slice_view["key"].replace(id, "f" * 16)
    assert "does not know this image" in send_again(page, theirs)["error"]


def test_accept_skip_reopen_and_the_next(registry, project, tmp_path):
    ids = [project.add(picture(tmp_path, seed)).id for seed in range(3)]
    project.set_priorities({ids[0]: 0.1, ids[1]: 0.9, ids[2]: 0.5})
    for id in ids:
        project.propose(id, np.zeros((*SIZE[::-1], 1), bool), "none", "00")
    page = Page(registry, project)
    assert page.open("")["state"]["queue_left"] == 3 and item(page) == ids[1]
    mask_hw = drawn(page.shape, 1)
    answer = page.send("accept", mask_hw)
    assert project.item(ids[1]).status == "accepted" and np.array_equal(project.mask(ids[1])[:, :, 0].T, mask_hw)
    assert [row["action"] for row in project.log()].count("saved") == 0 and project.log()[-1]["seconds"] == 1.5
    assert answer["saved"] == "disk" and item(page) == ids[2] and answer["state"]["queue_left"] == 2
    page.send("skip")
    assert project.item(ids[2]).status == "skipped" and item(page) == ids[0]
    answer = page.send("accept", empty=True)
    state = {
        "status": "accepted",
        "slice": 0,
        "slices": 1,
        "queue_left": 0,
        "proposal": True,
        "user": "Dr. A",
        "prompts": False,
        "can_reopen_last": True,
        "voxels_elsewhere": 0,
        "slices_to_undo": 0,
        "propagating": False,
        "structures": [{"name": "lesion", "colour": "#e69f00", "key": "", "label": 1, "elsewhere": 0}],
        "can_define": True,
        "free_keys": "qcjkluyz",
    }
    assert answer["slice_view"] is None and answer["state"] == state
    assert page.send("reopen")["state"]["status"] == "in work"
    assert page.send("open", item=ids[1])["state"]["status"] == "accepted" and item(page) == ids[1]
    assert page.send("open", item="")["slice_view"]["key"] == page.slice_view["key"] and item(page) == ids[0]
    assert "not in this project" in page.send("open", item="0" * 16)["error"] and item(page) == ids[0]


def test_an_empty_mask_is_accepted_only_by_a_command_that_says_so(registry, project, tmp_path):
    id = project.add(picture(tmp_path)).id
    page = Page(registry, project)
    page.open(id)
    empty_hw = np.zeros(page.shape, bool)
    page.send("save", drawn(page.shape, 1))
    assert "Something is outlined" in page.send("accept", empty=True)["error"]
    for _ in range(3):
        assert "Nothing is outlined" in page.send("accept", empty_hw)["error"]
        assert project.item(id).status == "in work" and not project.mask(id).any()
    answer = page.send("accept", empty=True)
    assert not answer["error"] and project.item(id).status == "accepted" and not project.mask(id).any()


def test_accept_and_skip_are_taken_back_and_the_images_before_are_shown_again(registry, project, tmp_path):
    ids = [project.add(picture(tmp_path, seed)).id for seed in range(3)]
    page = Page(registry, project)
    assert not page.open("")["state"]["can_reopen_last"]
    assert "just now" in page.send("reopen_last")["error"]
    mask_hw = drawn(page.shape, 1)
    answer = page.send("accept", mask_hw)
    assert answer["state"]["can_reopen_last"] and item(page) == ids[1] and "Ctrl+Z" in answer["message"]
    answer = page.send("reopen_last")
    assert item(page) == ids[0] and answer["state"]["status"] == "in work" and not answer["state"]["can_reopen_last"]
    assert np.array_equal(page.mask, mask_hw) and project.log()[-1]["action"] == "reopened"
    page.send("skip")
    # another one than the skipped and the next
    assert page.send("open", item=ids[2])["state"]["can_reopen_last"] is False
    assert page.send("previous")["state"]["can_reopen_last"] and item(page) == ids[1]
    page.send("reopen_last")
    assert item(page) == ids[0] and project.item(ids[0]).status == "in work"


def test_previous_goes_back_through_what_was_on_screen_then_through_the_order_they_were_added(
    registry, project, tmp_path
):
    ids = [project.add(picture(tmp_path, seed)).id for seed in range(4)]
    page = Page(registry, project)
    page.open(ids[2])
    for id in (ids[0], ids[3]):
        page.send("open", item=id)
    mask_hw = drawn(page.shape, 1)
    before = []
    for _ in range(4):
        answer = page.send("previous", mask_hw if not before else None)
        before.append(item(page))
    assert before == [ids[0], ids[2], ids[1], ids[0]] and np.array_equal(project.mask(ids[3])[:, :, 0].T, mask_hw)
    answer = page.send("previous")
    assert "no image before" in answer["message"] and answer["slice_view"] is None and item(page) == ids[0]
    page.send("open", item="")
    assert item(page) == ids[1] and page.send("previous")["error"] == "" and item(page) == ids[0]


BAD = [
    ({"action": "accept", "empty": 1}, "true and false"),
    ({"action": "format"}, "allowed are save"),
    ({"action": None}, "allowed are save"),
    ({"key": "elsewhere"}, "does not know this image"),
    ({"key": 3}, "does not know this image"),
    ({"request_id": "1"}, "request_id"),
    ({"request_id": True}, "request_id"),
    ({"request_id": -1}, "request_id"),
    ({"changed": 1}, "changed"),
    ({"seconds": float("nan")}, "seconds"),
    ({"seconds": -1}, "seconds"),
    ({"seconds": True}, "seconds"),
    ({"seconds": "1"}, "seconds"),
    ({"mask": "12"}, "run lengths"),
    ({"mask": ""}, "run lengths"),
    ({"mask": "rm -rf"}, "run lengths"),
    ({"mask": [1]}, "run lengths"),
    ({"mask": "-5 2245"}, "run lengths"),
    ({"action": "scribble", "lesion": "7", "background": "2240"}, "run lengths"),
    ({"action": "scribble", "lesion": "2240", "background": None}, "run lengths"),
    ({"action": "go"}, "lacks"),
    ({"action": "go", "step": 2}, "step"),
    ({"action": "go", "slice": 0.5}, "slice"),
    ({"action": "copy"}, "lacks step"),
    ({"action": "copy", "step": True}, "step"),
    ({"action": "propagate", "step": 1, "count": 21}, "count"),
    ({"action": "propagate", "step": 1}, "lacks count"),
    ({"action": "window", "low": 3}, "lacks high"),
    ({"action": "window", "low": float("inf"), "high": 3}, "finite"),
    ({"action": "open"}, "lacks item"),
    ({"action": "open", "item": 5}, "id"),
]


@pytest.mark.parametrize("wrong, words", BAD)
def test_what_is_not_allowed_is_refused_in_words_and_changes_nothing(page, project, wrong, words):
    lines, before = len(project.log()), page.session.image.mask_xyz.copy()
    answer = save_with(page, wrong)
    assert (
        words.lower() in answer["error"].lower()
        and answer["saved"] == ""
        and answer["slice_view"] is answer["mask"] is None
    )
    assert len(project.log()) == lines and np.array_equal(page.session.image.mask_xyz, before)


def test_a_wish_that_is_none_is_refused(page):
    for nonsense in (None, "save", 5, [], {}):
        assert json.loads(page.session.handle(nonsense, page.session.case))["error"]
    key = page.slice_view["key"]
    for other in (
        key.replace(".0", ".1"),
        key.replace(".0", ".00"),
        key.replace("axial", "coronal"),
        "0" * 16 + ".axial.0",
    ):
        assert save_with(page, {"key": other})["error"], other


def test_beyond_the_end_is_refused_but_what_was_drawn_is_kept(registry, project, tmp_path):
    volume(tmp_path)
    page = Page(registry, project)
    page.open(project.add(next(tmp_path.glob("*.nii.gz")), "ct").id)
    last = page.session.slice_ref.slices - 1
    page.send("go", slice=last)
    for number, (do, more) in enumerate(
        (
            ("go", {"step": 1}),
            ("copy", {"step": 1}),
            ("propagate", {"step": 1, "count": 3}),
            ("go", {"slice": last + 1}),
        )
    ):
        mask_hw = drawn(page.shape, number)
        answer = page.send(do, mask_hw, **more)
        assert f"1 to {last + 1}" in answer["error"] and answer["saved"] == "disk", do
        assert np.array_equal(page.session.slice_ref.mask_hw, mask_hw) and page.session.case.index == last
    assert np.array_equal(project.mask(item(page)), page.session.image.mask_xyz)


def test_a_neighbour_is_copied_and_the_proposal_put_back(registry, project, tmp_path):
    volume(tmp_path)
    id = project.add(next(tmp_path.glob("*.nii.gz")), "ct").id
    shape = project.item(id).shape_xyz
    project.propose(id, np.random.default_rng(2).random(shape) < 0.5, "ours", "00")
    page = Page(registry, project)
    page.open(id)
    proposal_hw, start = page.mask, page.session.case.index
    assert page.slice_view["proposal"] == page.slice_view["mask"]
    below = drawn(page.shape, 1)
    page.send("go", step=-1)
    page.send("go", below, step=1)
    assert page.session.case.index == start
    answer = page.send("copy", step=-1)
    assert answer["saved"] == "disk" and np.array_equal(page.mask, below)
    assert np.array_equal(geometry.radiological_view(project.mask(id), project.scan(id).affine)[start], below)
    page.send("proposal")
    assert np.array_equal(page.mask, proposal_hw)
    assert np.array_equal(geometry.radiological_view(project.mask(id), project.scan(id).affine)[start], proposal_hw)


def test_strokes_are_obeyed_spread_and_kept(page, project):
    lesion, background = np.zeros(page.shape, bool), np.zeros(page.shape, bool)
    lesion[18, 20:30], background[32, 5:50] = True, True
    page.send("save", np.zeros(page.shape, bool))
    answer = page.send("scribble", lesion=protocol.pack(lesion), background=protocol.pack(background))
    assert (
        answer["saved"] == "disk"
        and page.mask[lesion].all()
        and not page.mask[background].any()
        and page.mask.sum() > 2 * lesion.sum()
    )
    assert np.array_equal(project.mask(item(page))[:, :, 0].T, page.mask)
    corner = page.mask.copy()
    corner[:4, :4] = ~corner[:4, :4]  # a correction far away stays when there are more strokes
    lesion[19, 20:30] = True
    page.send("scribble", corner, lesion=protocol.pack(lesion), background=protocol.pack(background))
    assert np.array_equal(page.mask[:4, :4], corner[:4, :4]) and page.mask[lesion].all()


def test_strokes_of_one_kind_only_add_or_only_take_away():
    image_hw, truth_hw = phantom.ultrasound(5)
    context = assist.SliceContext(image_hw, None, None)
    drawn_hw, strokes_hw = ndimage.binary_dilation(truth_hw, iterations=9), np.zeros(truth_hw.shape, np.int8)
    row, column = (int(places.mean()) for places in np.nonzero(truth_hw))
    strokes_hw[row, column - 8 : column + 8] = scribble.LESION
    beside_hw = -np.roll(strokes_hw, -20 - int(np.ptp(np.nonzero(drawn_hw)[0])) // 2, axis=0)
    more_hw, less_hw, both_hw = (
        context.apply_scribbles(drawn_hw, these) for these in (strokes_hw, beside_hw, strokes_hw + beside_hw)
    )
    assert (
        (beside_hw == scribble.BACKGROUND).any() and not (drawn_hw & ~more_hw).any() and not (less_hw & ~drawn_hw).any()
    )
    assert (drawn_hw & ~both_hw).any()  # both kinds together may take away as well


def test_strokes_outside_what_networks_look_at_are_obeyed(registry, tmp_path):
    scan = replace(imaging.read([picture(tmp_path)]), modality="ct", affine=np.diag([-8.0, -8.0, 8.0, 1.0]))
    case = open_case.open_scan("Wide", scan, open_case.clustering_options(registry.clustering("ct")))
    assert case.box is not None and case.box.width < SIZE[1]
    page = Page(registry, None)
    page.hear(page.session.show(case))
    lesion = np.zeros(page.shape, bool)
    lesion[2, :3] = lesion[20, 20:30] = True
    background = ~lesion & drawn(page.shape, 1)
    page.send("scribble", lesion=protocol.pack(lesion), background=protocol.pack(background))
    assert page.mask[lesion].all() and not page.mask[background].any()


def test_a_window_moves_the_case_and_nothing_else(page):
    assert page.send("window", low=0.2, high=0.6)["error"] == "" and page.session.case.display_span == (0.2, 0.6)
    assert "width" in page.send("window", low=0.6, high=0.2)["error"] and page.session.case.display_span == (0.2, 0.6)
    assert page.session.show(page.session.case) is None  # the canvas has it already
    assert json.loads(page.session.show(_case.set_window(page.session.case, (0, 0.5))))["slice_view"]["window"] == [
        0,
        0.5,
    ]


def test_without_a_project_it_is_kept_for_the_tab_and_may_be_the_truth(registry, tmp_path):
    case = open_case.open_upload(
        [picture(tmp_path)], None, lambda modality: open_case.clustering_options(registry.clustering(modality))
    )
    page = Page(registry, None)
    page.hear(page.session.show(case))
    assert page.slice_view["mask"] == page.slice_view["proposal"]
    mask_hw = np.zeros(page.shape, bool)
    mask_hw[10:26, 16:40] = True
    answer = page.send("save", mask_hw)
    assert (answer["saved"], answer["state"]["status"]) == ("memory", "")
    for do in ("accept", "skip", "reopen"):
        assert "in no project" in page.send(do)["error"]
    assert "--project" in page.send("open", item="")["error"]
    now = page.session.as_truth()
    assert np.array_equal(now.truth_hw, mask_hw) and now.agreement.lesion_patches > 0
    page.send("save", drawn(page.shape, 2))
    # a copy, and never what it is measured by
    assert np.array_equal(now.truth_hw, mask_hw) and page.session.image.truth_xyz is None
    rows = json.loads(session_files.history(None, page.session.image))
    assert len(rows) == 2 and rows[0]["pixels_added"] + rows[0]["pixels_removed"] > 0 and rows[1]["dsc_after"] is None


def upload(path: Path, registry: ModelRegistry) -> _case.Case:
    """The picture as the page opens it: decoded anew each time."""
    return open_case.open_upload(
        [path], None, lambda modality: open_case.clustering_options(registry.clustering(modality))
    )


def test_without_a_project_no_drawing_is_lost_however_many_images_are_opened(registry, tmp_path):
    page, paths = Page(registry, None), [picture(tmp_path, seed) for seed in range(12)]
    masks, keys = [], []
    for seed, path in enumerate(paths):
        page.hear(page.session.show(upload(path, registry)))
        masks.append(drawn(page.shape, seed))
        keys.append(page.slice_view["key"])
        assert page.send("save", masks[-1])["saved"] == "memory"
    late = drawn(page.shape, 99)  # comes late, on the sheet of an image that was put aside
    assert page.send("save", late, key=keys[0])["saved"] == "memory" and page.slice_view["key"] == keys[-1]
    for path, key, mask_hw in zip(paths, keys, [late, *masks[1:]], strict=True):
        page.hear(page.session.show(upload(path, registry)))
        assert page.slice_view["key"] == key and np.array_equal(page.mask, mask_hw)
    assert (
        len(page.session.loader.images.in_memory) <= 8
        and sum(len(one.mask) for one in page.session.loader.images.compressed.values()) < 12 * 1000
    )


@pytest.mark.parametrize("kind", ["oblique", "dicom"])
def test_a_volume_that_was_put_aside_comes_back_as_it_was(registry, tmp_path, kind):
    if kind == "oblique":
        volume(tmp_path, oblique=True)
        files_of = [next(tmp_path.glob("*.nii.gz"))]
    else:
        files_of = series(folder(tmp_path / "series"), noise((5, 34, 40)))
    case = open_case.open_upload(
        files_of, "ct", lambda modality: open_case.clustering_options(registry.clustering(modality))
    )
    page = Page(registry, None)
    page.hear(page.session.show(case))
    page.send("go", slice=1)
    page.send("save", drawn(page.shape, 1))
    mask_xyz, seen = page.session.image.mask_xyz.copy(), page.session.case.display_span
    assert (
        mask_xyz.any()
        and page.session.release()
        and page.session.case is None
        and not page.session.loader.images.in_memory
    )
    late = drawn(page.shape, 2)  # the page is still open, and the server knows nothing of what it shows
    page.request_id += 1
    request = {
        "action": "save",
        "key": page.slice_view["key"],
        "request_id": page.request_id,
        "mask": protocol.pack(late),
        "changed": True,
        "seconds": 1.5,
    }
    assert page.hear(page.session.handle(request, None))["saved"] == "memory"
    geometry.radiological_view(mask_xyz, case.scan.affine)[1] = late
    assert np.array_equal(page.session.image.mask_xyz, mask_xyz) and (
        page.session.case.index,
        page.session.case.display_span,
    ) == (1, seen)
    page.session.release()
    for path in files_of:
        path.unlink()
    answer = json.loads(page.session.handle(request | {"request_id": 99}, None))
    assert "no longer here" in answer["error"] and answer["saved"] == ""


def test_a_drawing_that_the_disk_did_not_take_is_never_lost(registry, page, project, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    first, mask_hw = item(page), drawn(page.shape, 1)
    others = [project.add(picture(tmp_path, seed)).id for seed in range(1, 11)]
    with monkeypatch.context() as patch:
        patch.setattr(project, "save", full)
        assert "disk" in page.send("save", mask_hw)["error"]
        for id in others:
            page.open(id)
        page.session.release()
    page.open(first)
    assert np.array_equal(page.mask, mask_hw) and project.mask(first) is None
    assert page.send("save", mask_hw)["saved"] == "disk" and np.array_equal(project.mask(first)[:, :, 0].T, mask_hw)


def test_without_memory_another_image_is_refused_and_what_was_drawn_stays(registry, tmp_path):
    def none_left(size: int) -> None:
        raise ValueError("there is no memory left")

    page, (one, other) = Page(registry, None), (upload(picture(tmp_path, seed), registry) for seed in range(2))
    page.hear(page.session.show(one))
    mask_hw = drawn(page.shape, 7)
    page.send("save", mask_hw)
    page.session.loader.reserve_memory = none_left
    assert json.loads(page.session.show(other))["error"] == "There is no memory left."
    page.hear(page.session.show(replace(one, display_span=(0.0, 0.5))))
    assert np.array_equal(page.mask, mask_hw)


def slices(volume: phantom.Volume) -> list[tuple[np.ndarray, np.ndarray]]:
    """Slices and masks on the working grid, as ``assist.SliceContext`` makes them."""
    values = volume.voxels_shw.astype(np.float32)
    span, found = transforms.window(values, volume.modality), []
    for values_hw, mask_hw in zip(values, volume.mask_shw):
        box = transforms.frame(values_hw, volume.spacing[1:], volume.modality)
        unit_hw = transforms.crop(transforms.to_unit(values_hw, span), box)
        found.append(
            (
                inference.to_grid(unit_hw, 256)[0, 0].numpy(),
                transforms.resize_mask(transforms.crop(mask_hw, box), 256, 256)[0, 0].numpy(),
            )
        )
    return found


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize("volume", [phantom.neck_volume(3), phantom.brain_volume(2)], ids=["neck", "brain"])
def test_a_mask_carried_on_fits_better_than_a_copy(volume):
    """Volumes on which the rule was not set; five slices in both directions from each slice with enough lesion."""
    whole, scores = slices(volume), []
    for start in (number for number, (_, truth) in enumerate(whole) if truth.sum() > 300):
        for step in (1, -1):
            mask_hw = whole[start][1]
            for number in range(start + step, start + 6 * step, step):
                if not (0 <= number < len(whole) and whole[number][1].any()):
                    break
                mask_hw = propagation.propagate_slice(whole[number - step][0], mask_hw, whole[number][0])
                scores.append((dice(mask_hw, whole[number][1]), dice(whole[start][1], whole[number][1])))
    carried, copied = np.mean(scores, axis=0)
    print(f"DSC carried {carried:.3f}, copied {copied:.3f}, {len(scores)} slices")
    assert carried > copied + 0.03


def test_carrying_stops_where_nothing_is_left_and_at_what_was_drawn(registry):
    built = phantom.volumes()[0]
    case = open_case.open_volume(built, open_case.clustering_options(registry.clustering("ct")))
    page, start = Page(registry, None), case.index
    page.hear(page.session.show(case))
    truth_shw = geometry.radiological_view(case.truth_xyz, case.scan.affine)
    page.send("go", slice=start + 3)
    page.send("save", truth_shw[start + 3].copy())
    page.send("go", slice=start)
    answer = page.send("propagate", truth_shw[start].copy(), step=1, count=20)
    masks_shw = geometry.radiological_view(page.session.image.mask_xyz, case.scan.affine)
    assert (
        answer["saved"] == "memory"
        and f"{start + 2} to {start + 3}" in answer["message"]
        and f"Slice {start + 4}" in answer["message"]
    )
    assert (
        np.array_equal(masks_shw[start + 3], truth_shw[start + 3])
        and masks_shw[start + 1].any()
        and not masks_shw[start + 4].any()
    )
    assert dice(masks_shw[start + 1], truth_shw[start + 1]) > 0.7
    page.send("propagate", step=-1, count=20)
    assert not masks_shw[0].any()
    page.send("save", np.zeros(page.shape, bool))
    assert "draw one first" in page.send("propagate", step=-1, count=1)["error"]


def test_networks_propose_and_their_disagreement_orders_the_queue(registry, project, tmp_path):
    ids = [project.add(picture(tmp_path, seed)).id for seed in range(3)]
    volume(tmp_path)
    deep = project.add(next(tmp_path.glob("*.nii.gz")), "ct").id
    assert list(proposals.propose_all(project, registry)) == [
        (done, 4, "") for done in range(1, 5)
    ] and not proposals.waiting(project, registry)
    assert project.counts()["proposed"] == 4
    for id, data in (*((id, "busi") for id in ids), (deep, "hecktor")):
        scan = project.scan(id)
        networks = [registry.network(f"{data}-{name}-seg-10") for name in ("mps_ams", "scratch")]
        masks, span = [], _case.network_span(scan)
        for network in networks:
            mask = np.zeros(scan.voxels_xyz.shape, bool)
            for index, mask_hw in enumerate(geometry.radiological_view(mask, scan.affine)):
                values = scan.slice(index)
                box = transforms.frame(values, scan.spacing() and scan.spacing()[1:], scan.modality)
                unit = transforms.to_unit(values, span)
                if id != deep or transforms.has_body(transforms.crop(unit, box)):
                    mask_hw[:] = inference.probability(network, unit, box) >= 0.5
            masks.append(mask)
        assert np.array_equal(project.proposal(id), masks[0]) and project.item(id).checkpoint == (
            f"{data}-mps_ams-seg-10",
            networks[0].sha256,
        )
        assert project.item(id).priority == pytest.approx(acquisition.vote_disagreement(masks))
    found = [one.priority for one in project.queue()]
    assert found == sorted(found, reverse=True) and len(set(found)) > 1


def test_a_single_sagittal_slice_is_proposed_and_pictured_as_it_is_shown(registry, project, tmp_path):
    values_hw = np.asarray(Image.open(picture(tmp_path)).convert("L"), np.int16)
    id = project.add(made_volumes.sagittal_slice(tmp_path / "knee.nii.gz", values_hw), "mri").id
    assert list(proposals.propose_all(project, registry)) == [(1, 1, "")]
    page = Page(registry, project)
    page.open(id)
    assert (page.slice_view["height"], page.slice_view["width"]) == SIZE
    context = assist.slice_context(project.scan(id), page.session.case.span, "sagittal", 0, page.session.image.network)
    assert context.proposal_hw.any()
    assert np.array_equal(
        geometry.radiological_view(project.proposal(id), project.scan(id).affine, "sagittal")[0], context.proposal_hw
    )
    (uri,) = queue.server_functions(project)[1]([id]).values()
    with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")))) as small:
        assert small.size == SIZE[::-1]


def test_a_volume_of_thick_sagittal_slices_opens_in_them_unless_it_was_drawn_on_in_another_plane(
    registry, project, tmp_path
):
    id = project.add(made_volumes.spine(tmp_path / "spine.nii.gz"), "ct").id

    def opened() -> Page:
        page = Page(registry, project)
        page.open(id)
        return page

    page = opened()
    assert page.slice_view["title"] == "spine.nii.gz, sagittal slice 7 of 12" and page.shape == (40, 48)
    (uri,) = queue.server_functions(project)[1]([id]).values()
    with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")))) as small:
        assert small.size == (48, 40)
    page.send("save", drawn(page.shape, 0))
    assert opened().session.case.plane == "sagittal" and project.log()[-1]["plane"] == "sagittal"
    page.session.move_to(page.session.case, "coronal", 3)
    page.hear(page.session.reply("", show=True))
    page.send("save", drawn(page.shape, 1))
    assert opened().session.case.plane == "coronal"
    lines = (project.folder / "log.jsonl").read_text()
    project.close()
    (project.folder / "log.jsonl").write_text(re.sub('"plane": "[a-z]+", ', "", lines))  # as of an earlier version
    with Project(project.folder) as again:
        page = Page(registry, again)
        page.open(id)
        assert page.session.case.plane == "axial" and page.session.image.mask_xyz.any()


@pytest.mark.parametrize("axis", range(3))
def test_a_single_slice_stored_along_any_axis_is_one_image(registry, project, tmp_path, axis):
    voxels = nifti_files.noise((40, 44, 48)).take([2], axis)
    (tmp_path / "slice.nii").write_bytes(nifti_files.nii(voxels, np.diag([-0.5, -0.7, 0.9, 1])))
    first, id = project.add(picture(tmp_path)), project.add(tmp_path / "slice.nii", "mri").id
    page = Page(registry, project)
    page.open(first.id)
    page.session.prefetch()
    assert project.item(id).status == "proposed"
    page.open(id)
    assert not page.session.case.is_volume and page.slice_view["title"] == "slice.nii"
    heights, spacing = (48, 48, 44), ((0.9, 0.7), (0.9, 0.5), (0.7, 0.5))
    assert page.shape == (heights[axis], voxels.size // heights[axis])
    assert page.session.case.scan.pixel_hw(page.session.case.plane) == pytest.approx(spacing[axis])
    assert queue.news(project, None)["items"][-1][-1] == 0  # no volume in the list


def test_without_networks_nothing_is_proposed_and_one_can_still_draw(project, tmp_path):
    nothing = ModelRegistry(tmp_path / "none")
    project.add(picture(tmp_path))
    assert [problem != "" for *_, problem in proposals.propose_all(project, nothing)] == [True]
    page = Page(nothing, project)
    answer = page.open("")
    assert not page.mask.any() and page.slice_view["proposal"] is None and not answer["state"]["proposal"]
    assert "no proposal" in page.send("proposal")["error"]
    lesion = np.zeros(page.shape, bool)
    lesion[18, 20:30] = True
    page.send("scribble", lesion=protocol.pack(lesion), background=protocol.pack(np.zeros(page.shape, bool)))
    assert page.mask[lesion].all()


def test_an_upload_is_sorted_into_images_and_refused_by_number(project, tmp_path):
    one, other = (
        series(folder(tmp_path / "one"), noise((3, 34, 40))),
        series(folder(tmp_path / "other"), noise((4, 34, 40)), SeriesInstanceUID="1.2.3.99"),
    )
    (tmp_path / "SECRET.txt").write_text("no image")
    count, notes = session_files.add(
        project, [picture(tmp_path), *one[:2], tmp_path / "SECRET.txt", *other, *one[2:]], None, "Dr. A"
    )
    assert count == 3 and sorted(item.shape_xyz[2] for item in project.items()) == [1, 3, 4]
    assert len(notes) == 1 and "Image 3 of the upload" in notes[0] and "SECRET" not in notes[0]
    assert session_files.add(project, [picture(tmp_path)], None, "")[0] == 0


def test_what_the_reader_notices_of_an_added_image_is_reported(project, tmp_path):
    (tmp_path / "SECRET.nii").write_bytes(nii(np.zeros((20, 20, 4, 3), np.int16), codes=(0, 0)))
    count, notes = session_files.add(project, [picture(tmp_path), tmp_path / "SECRET.nii"], None, "Dr. A")
    assert (
        count == 2
        and len(notes) == 2
        and all(note.startswith("Image 2 of the upload: ") and "SECRET" not in note for note in notes)
    )
    assert "does not state its orientation" in notes[0] and "3 images in it; the first is taken" in notes[1]
    assert session_files.add(project, [tmp_path / "SECRET.nii"], None, "Dr. A") == (0, [])


@pytest.mark.parametrize("names", ["keep", "hashed"])
@pytest.mark.parametrize("form", ["folder", "coco", "nifti", "busi"])
def test_an_export_of_what_is_accepted_is_read_back_equal(registry, project, tmp_path, form, names):
    expected = {}
    for seed in range(3):
        id = project.add(picture(tmp_path, seed)).id
        mask = np.zeros((*SIZE[::-1], 1), bool)
        mask[seed : seed + 9, 4:20] = True
        if seed < 2:
            project.accept(id, mask)
            expected[id] = mask
        else:
            project.save(id, mask)
    transfer.write(project, form, "accepted", "benign", tmp_path / "export.zip", names)
    files = zipfile.ZipFile(tmp_path / "export.zip").namelist()
    assert "names.csv" in files
    assert any("picture" in name for name in files) == (names == "keep" and form != "coco")
    if form == "busi":
        stems = ["picture 0", "picture 1"] if names == "keep" else sorted(expected)
        assert sorted(files) == [*(f"benign/{stem}{end}.png" for stem in stems for end in ("", "_mask")), "names.csv"]
    for id in expected:
        project.save(id, np.zeros_like(mask))
    assert sorted(transfer.take(project, tmp_path / "export.zip", "").saved) == sorted(expected)
    assert all(np.array_equal(project.mask(id), mask) for id, mask in expected.items())
    with pytest.raises(ValueError, match="allowed are"):
        transfer.write(project, "exe", "accepted", "benign", tmp_path / "exe.zip")


def test_masks_that_come_back_are_saved_and_accepted_ones_left_alone(project, tmp_path):
    ids = [project.add(picture(tmp_path, seed)).id for seed in range(3)]
    masks = [np.random.default_rng(seed).random((*SIZE[::-1], 1)) < 0.4 for seed in range(3)]
    with pytest.raises(ValueError, match="nothing to export"):
        transfer.write(project, "folder", "accepted", "lesion", tmp_path / "export.zip")
    for id, mask in zip(ids, masks):
        project.save(id, mask)
    transfer.write(project, "folder", "all", "lesion", tmp_path / "export.zip")
    for id in ids[:2]:
        project.save(id, np.zeros_like(masks[0]))
    project.accept(ids[1])
    saved, notes = session_files.take(project, tmp_path / "export.zip", "Dr. B")
    assert saved == 2 and "1 accepted image was left alone" in " ".join(notes)
    assert (
        np.array_equal(project.mask(ids[0]), masks[0])
        and not project.mask(ids[1]).any()
        and project.item(ids[0]).status == "in work"
    )
    Image.fromarray((masks[2][:, :, 0].T * 255).astype(np.uint8)).save(tmp_path / "picture 0_mask.png")
    # by its file's name
    assert session_files.take(project, tmp_path / "picture 0_mask.png", "")[0] == 1 and np.array_equal(
        project.mask(ids[0]), masks[2]
    )


def full(_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_reported_wherever_something_is_written(registry, project, tmp_path, monkeypatch):
    first = project.add(picture(tmp_path))
    second = project.add(picture(tmp_path, 1))
    log = (project.folder / "log.jsonl").read_bytes()
    mask = np.ones((*SIZE[::-1], 1), bool)
    Image.fromarray(np.full(SIZE, 255, np.uint8)).save(tmp_path / f"{first.id}.png")
    monkeypatch.setattr(checkpoint.os, "fsync", full)
    count, notes = session_files.add(project, [picture(tmp_path, 2), picture(tmp_path, 3)], None, "")
    assert (
        count == 0
        and len(notes) == 1
        and "Image 1 of the upload was not added, nor those after it: The disk is full" in notes[0]
    )
    ((done, total, problem),) = proposals.propose_all(project, registry)
    assert (done, total) == (1, 2) and "The disk is full" in problem
    assert session_files.take(project, tmp_path / f"{first.id}.png", "")[1] == [
        f"The import ended early. {disk.sentence(OSError(errno.ENOSPC, ''))}"
    ]
    page = Page(registry, project)
    answer = page.open(second.id)  # it is opened all the same
    assert (
        answer["error"] == ""
        and "No proposal was made: The disk is full" in answer["message"]
        and page.slice_view["width"] == SIZE[1]
    )
    answer = page.send("save", mask[:, :, 0].T)
    assert "The disk is full" in answer["error"] and "kept here" in answer["error"]
    assert (project.folder / "log.jsonl").read_bytes() == log
    monkeypatch.undo()
    assert page.send("save")["saved"] == "disk" and np.array_equal(project.mask(second.id), mask)


def test_a_damaged_mask_is_reported_and_its_image_opens(registry, project, tmp_path):
    id = project.add(picture(tmp_path)).id
    mask = np.ones((*SIZE[::-1], 1), bool)
    project.accept(id, mask)
    for status, expected in (("accepted", mask), ("proposed", None)):
        (project.folder / "masks" / f"{id}.png").write_bytes(b"rotten")
        page = Page(registry, project)
        answer = page.open(id)
        assert answer["error"] == "" and "was damaged" in answer["message"] and str(tmp_path) not in answer["message"]
        assert answer["state"]["status"] == (status if expected is not None else "new")
        assert expected is None or np.array_equal(page.mask, expected[:, :, 0].T)
        assert "damaged" not in page.open(id)["message"]
        page.send("save", mask[:, :, 0].T)
        project.reopen(id)
        (project.folder / "accepted" / "masks" / f"{id}.png").unlink(missing_ok=True)


def test_a_read_only_project_is_looked_at_and_saving_is_refused_in_words(registry, project, tmp_path, monkeypatch):
    ids = [project.add(picture(tmp_path, seed)).id for seed in range(2)]
    project.accept(ids[0], np.ones((*SIZE[::-1], 1), bool))
    project.close()

    def unwritable(path):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(lock, "hold", unwritable)
    with Project(project.folder) as looked:
        before = {path: path.read_bytes() for path in looked.folder.rglob("*") if path.is_file()}
        page = Page(registry, looked)
        assert page.open(ids[0])["error"] == "" and page.mask.all()
        answer = page.open(ids[1])
        assert answer["error"] == "" and "read-only" in answer["message"]
        for wish in ("save", "accept", "skip"):
            answer = page.send(wish, drawn(page.shape, 1))
            assert "read-only" in answer["error"] and answer["saved"] == ""
        assert session_files.add(looked, [picture(tmp_path, 5)], None, "")[0] == 0
        transfer.write(looked, "coco", "accepted", "lesion", tmp_path / "export.zip")
        assert zipfile.ZipFile(tmp_path / "export.zip").namelist() == ["annotations.json", "names.csv"]
        assert {path: path.read_bytes() for path in looked.folder.rglob("*") if path.is_file()} == before


def test_the_end_of_the_log_is_shown_without_parsing_all_of_it(project, tmp_path, monkeypatch):
    id = project.add(picture(tmp_path)).id
    for number in range(30):
        project.skip(id, f"Dr. {number}")
    with (project.folder / "log.jsonl").open("ab") as file:
        file.write(
            b'{"action": "saved", "item": [1], "pixels_added": 3}\n{"action": "saved", "time": 5, "pixels_added": 3,'
            b' "seconds": "x"}\n'
        )
    monkeypatch.setattr(project, "log", None)
    listing = queue.done(project)
    assert (
        "Dr. 29" in listing
        and "Dr. 11" in listing
        and "Dr. 10<" not in listing
        and listing.count("<li>") == queue.LINES
    )


def test_empty_slices_between_drawn_ones_are_filled(registry, project, tmp_path):
    volume(tmp_path)
    added = project.add(next(tmp_path.glob("*.nii.gz")), "ct")
    page = Page(registry, project)
    page.open(added.id)
    page.send("go", slice=0)
    assert "no empty slice between" in page.send("interpolate")["error"]
    rows, columns = np.ogrid[: page.shape[0], : page.shape[1]]
    discs = {
        radius: (rows - page.shape[0] / 2) ** 2 + (columns - page.shape[1] / 2) ** 2 <= radius**2
        for radius in (3, 5, 7)
    }
    page.send("go", discs[3], slice=4)
    answer = page.send("interpolate", discs[7])
    assert (
        answer["message"] == "Filled 3 slices between those that were drawn, 2 to 4; look at each."
        and answer["saved"] == "disk"
    )
    slices = geometry.radiological_view(project.mask(added.id), project.scan(added.id).affine, "axial")
    counts = [int(np.count_nonzero(mask_hw)) for mask_hw in slices[:5]]
    assert (
        counts == sorted(counts)
        and counts[0] == discs[3].sum()
        and counts[4] == discs[7].sum()
        and not slices[5:].any()
    )
    assert np.count_nonzero(slices[2] ^ discs[5]) <= 0.1 * discs[5].sum()  # the disc halfway between
    assert answer["state"]["voxels_elsewhere"] == sum(counts[:4])


def test_a_command_on_several_slices_is_undone_on_all_of_them_but_those_changed_since(registry, project, tmp_path):
    volume(tmp_path)
    added = project.add(next(tmp_path.glob("*.nii.gz")), "ct")
    page = Page(registry, project)
    page.open(added.id)
    page.send("go", slice=0)
    assert "nothing to undo" in page.send("undo_slices")["error"]
    rows, columns = np.ogrid[: page.shape[0], : page.shape[1]]
    disc = (rows - page.shape[0] / 2) ** 2 + (columns - page.shape[1] / 2) ** 2 <= 25

    def on_disk() -> list[bool]:
        slices = geometry.radiological_view(project.mask(added.id), project.scan(added.id).affine, "axial")
        return [bool(mask_hw.any()) for mask_hw in slices[:5]]

    page.send("go", disc, slice=4)
    assert page.send("interpolate", disc)["state"]["slices_to_undo"] == 3 and on_disk() == [True] * 5
    answer = page.send("undo_slices", disc)
    assert (
        answer["message"] == "Took back the change of 3 slices."
        and answer["saved"] == "disk"
        and answer["state"]["slices_to_undo"] == 0
    )
    assert on_disk() == [True, False, False, False, True]
    page.send("interpolate", disc)
    page.send("go", disc, slice=2)
    answer = page.send("undo_slices", np.roll(disc, 3, axis=0))
    assert answer["message"] == "Took back the change of 2 slices. 1 was changed since and left alone."
    assert on_disk() == [True, False, True, False, True] and answer["mask"] is None
    page.send("propagate", np.roll(disc, 3, axis=0), step=1, count=1)
    page.send("go", slice=3)
    answer = page.send("undo_slices", page.mask)
    assert on_disk() == [True, False, True, False, True] and not np.any(page.mask)


def test_the_next_image_is_read_and_proposed_ahead_so_that_accept_does_neither(
    registry, project, tmp_path, monkeypatch
):
    ids = [project.add(picture(tmp_path, seed)).id for seed in range(3)]
    page = Page(registry, project)
    page.open(ids[0])
    page.session.prefetch("Dr. A")
    assert [project.item(id).status for id in ids] == ["proposed", "proposed", "new"] and project.log()[-1][
        "user"
    ] == "Dr. A"
    project.scan(ids[0])
    with monkeypatch.context() as patch:
        patch.setattr(imaging, "read", None)
        patch.setattr(proposals, "propose", None)
        page.session.prefetch()  # it is there already
        page.send("accept", drawn(page.shape, 1))
    assert item(page) == ids[1] and np.array_equal(page.mask, project.proposal(ids[1])[:, :, 0].T)
    (project.folder / "images" / f"{ids[2]}.png").write_bytes(b"damaged")
    page.session.prefetch()  # nothing to see; what is wrong is said when it is opened
    assert page.session.loader.prefetched is None and item(page) == ids[1]
    assert page.send("skip")["error"] and item(page) == ids[1]


def test_the_list_is_sent_all_images_then_only_what_changed(project, tmp_path):
    ids = [project.add(picture(tmp_path, seed), name=f"{seed}.png").id for seed in range(4)]
    first = queue.news(project, -1)
    assert first["is_complete"] and [row[:4] for row in first["items"]] == [
        [id, number + 1, f"{number}.png", "new"] for number, id in enumerate(ids)
    ]
    assert json.loads(queue.pointer(project, ids[0])) == {"version": first["version"], "current": ids[0]}
    assert queue.news(project, first["version"]) == {
        "version": first["version"],
        "is_complete": False,
        "items": [],
        "removed": [],
    }
    project.propose(ids[1], np.zeros(project.item(ids[1]).shape_xyz, bool), "net", "00", 0.3)
    project.skip(ids[2])
    project.remove(ids[0])
    later = queue.news(project, first["version"])
    assert not later["is_complete"] and later["removed"] == [ids[0]] and later["version"] > first["version"]
    assert {row[0]: (row[1], row[3], row[4], row[8]) for row in later["items"]} == {
        ids[1]: (1, "proposed", 0.3, 1),
        ids[2]: (2, "skipped", None, 0),
    }
    for unknown in (None, "5", later["version"] + 1, True, -1, 1.5):
        assert queue.news(project, unknown)["is_complete"] and len(queue.news(project, unknown)["items"]) == 3


def test_thumbnails_are_made_once_and_only_of_images_of_the_project(project, tmp_path, monkeypatch):
    volume(tmp_path)
    flat, deep = project.add(picture(tmp_path)), project.add(next(tmp_path.glob("*.nii.gz")), "ct")
    _, thumbnails = queue.server_functions(project)
    made = thumbnails([flat.id, deep.id, "0" * 16, "../../etc/passwd", 5, None])
    assert set(made) == {flat.id, deep.id}
    for uri in made.values():
        with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")))) as small:
            assert max(small.size) <= 80 and small.mode == "L" and np.asarray(small).std() > 5
    monkeypatch.setattr(imaging, "read", None)
    assert thumbnails([flat.id]) == {flat.id: made[flat.id]} and thumbnails("nonsense") == {}


def test_the_list_of_a_reader_who_is_not_there_has_no_news(project):
    items, _ = queue.server_functions(project, lambda name: ReaderViews(project).view(name).project)
    assert items({"since": -1, "reader": "Nobody"}) is None and items({"since": -1, "reader": ""})["is_complete"]


def test_many_images_are_accepted_skipped_and_deleted_at_once(project, tmp_path):
    ids = [project.add(picture(tmp_path, seed)).id for seed in range(4)]
    full, empty = np.ones(project.item(ids[0]).shape_xyz, bool), np.zeros(project.item(ids[0]).shape_xyz, bool)
    project.save(ids[0], full)
    project.propose(ids[1], full, "net", "00")
    project.propose(ids[2], empty, "net", "00")
    action, parsed = batch.parse({"action": "accept", "items": [*ids, ids[0]]})
    problems = [problem for _, problem in batch.run(project, action, [*parsed, "0" * 16], "Dr. A")]
    assert (
        parsed == ids
        and problems[:2] == ["", ""]
        and problems[2:4] == [batch.NOTHING] * 2
        and "not in this project" in problems[4]
    )
    assert [project.item(id).status for id in ids] == ["accepted", "accepted", "proposed", "new"] and project.log()[-1][
        "user"
    ] == "Dr. A"
    assert batch.summary(action, 5, [problem for problem in problems if problem])[:2] == [
        "2 images accepted.",
        "2 left as they were: nothing is outlined.",
    ]
    list(batch.run(project, "skip", ids, ""))
    # what is accepted stays so
    assert [project.item(id).status for id in ids] == ["accepted", "accepted", "skipped", "skipped"]
    list(batch.run(project, "reopen", ids[1:], ""))
    assert [project.item(id).status for id in ids] == ["accepted", "in work", "proposed", "new"]
    assert (
        list(batch.run(project, "delete", ids[:2], "")) == [(1, ""), (2, "")]
        and [item.id for item in project.items()] == ids[2:]
    )
    for wrong in (
        None,
        {},
        {"action": "format", "items": ids},
        {"action": "skip", "items": []},
        {"action": "skip", "items": [3]},
        {"action": "skip", "items": "all"},
    ):
        with pytest.raises(ValueError, match="allowed are|are a list"):
            batch.parse(wrong)


def test_an_image_that_was_deleted_while_open_is_refused_in_words(registry, page, project, tmp_path):
    other = project.add(picture(tmp_path, 9)).id
    project.remove(item(page))
    for do in ("save", "accept", "skip"):
        answer = page.send(do, drawn(page.shape, 1))
        assert "not in this project" in answer["error"] and answer["saved"] == "" and answer["state"]["status"] == ""
    assert json.loads(page.session.reopen_on_screen())["state"]["status"] in ("new", "proposed") and item(page) == other
    project.remove(other)
    assert page.session.reopen_on_screen() is None


def test_every_wish_of_the_protocol_is_known():
    assert set(COMMANDS) == set(ACTIONS)
