"""The Annotate tab as the page calls it: gradio's own listeners, with a session's states, and what they set on the
page.
"""

from __future__ import annotations

import errno
import json
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from mpsams.annotation import lock, protocol
from mpsams.annotation.project import Project
from mpsams.annotation.session import AnnotationSession
from mpsams.app import page as panels
from mpsams.app.annotate import project_sidebar, readers_panel, retrain_panel
from mpsams.app.tabs import annotate
from mpsams.inference.case import Case
from mpsams.inference.registry import ModelRegistry
from tests.support.annotate_tab import Tab
from tests.support.annotated import volume
from tests.support.annotation_page import picture

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def page(small_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotate")
    with Project(folder / "project") as project:
        project.add(picture(folder))
        volume(folder)
        project.add(next(folder.glob("*.nii.gz")), "ct")
        yield panels.page(ModelRegistry(small_weights), project), project


def test_only_an_image_that_nobody_has_opened_waits_with_those_that_ask_networks(page):
    blocks, project = page
    _, lane_of = next(blocks.lanes[fn._id] for fn in Tab(blocks).ours if fn.name == "pick")
    lanes = {item.id: lane_of({"item": item.id}) for item in project.items()}
    assert (
        lanes == {item.id: "network" if item.status == "new" else "picture" for item in project.items()}
        and "network" in lanes.values()
    )
    assert lane_of(None) == lane_of({"item": 5}) == "picture"


def test_a_project_is_worked_through_and_the_other_tabs_follow(page):
    blocks, project = page
    tab, (flat, deep) = Tab(blocks), project.items()
    sheet = tab.answered(tab.call(tab.named("show")))["slice_view"]  # the tab is opened for the first time
    assert tab.state(Case).item == flat.id and project.item(flat.id).status == "proposed"
    mask_hw = np.random.default_rng(0).random((sheet["height"], sheet["width"])) < 0.3
    outputs = tab.wish("save", sheet, mask_hw)
    assert tab.answered(outputs)["saved"] == "disk" and np.array_equal(project.mask(flat.id)[:, :, 0].T, mask_hw)
    assert project.log()[-1]["user"] == "AB" and tab.listed(outputs) == (flat.id, {flat.id: "in work", deep.id: "new"})
    outputs = tab.wish("accept", sheet)
    sheet = tab.answered(outputs)["slice_view"]
    case = tab.state(Case)
    assert case.item == deep.id and case.is_volume and project.item(flat.id).status == "accepted"
    assert tab.listed(outputs) == (deep.id, {flat.id: "accepted", deep.id: "new"})
    outputs = tab.wish("go", sheet, step=1)
    assert tab.state(Case).index == case.index + 1
    assert case.index + 2 in outputs.values()  # the sidebar's slider
    assert tab.stage not in tab.call(tab.named("show"))  # what the canvas shows already is not sent again
    outputs = tab.call(tab.named("pick"), {"item": flat.id})
    assert tab.state(Case).item == flat.id and np.array_equal(
        protocol.unpack(tab.answered(outputs)["slice_view"]["mask"], mask_hw.shape), mask_hw
    )
    tab.call(tab.named("use"))
    assert np.array_equal(tab.state(Case).truth_hw, mask_hw)


@pytest.mark.parametrize(
    "place, shown", [({}, ("axial", 3)), ({"plane": "sagittal"}, ("sagittal", 13)), ({"slice": "2"}, ("axial", 1)),
                     ({"plane": "coronal", "slice": "5"}, ("coronal", 4)), ({"plane": "skew"}, ("axial", 3)),
                     ({"plane": "coronal", "slice": "99"}, ("axial", 3))],
)  # fmt: skip
def test_a_link_to_an_image_opens_in_its_plane_even_if_the_canvas_is_answered_last(page, place, shown):
    blocks, project = page
    tab, (_, deep) = Tab(blocks), project.items()
    tab.request = gr.Request(query_params={"tab": "annotate", "image": deep.id} | place)
    sheet = tab.answered(tab.call(tab.named("show")))["slice_view"]
    case = tab.state(Case)
    assert (case.item, case.plane, case.index) == (deep.id, *shown)
    assert f", {shown[0]} slice {shown[1] + 1} of {case.slices}" in sheet["title"]


def test_after_adding_the_most_doubtful_image_opens_unless_someone_has_begun(small_weights, tmp_path):
    with Project(tmp_path / "project") as project:
        tab = Tab(panels.page(ModelRegistry(small_weights), project))
        ids = [project.add(picture(tmp_path, seed)).id for seed in range(3)]
        tab.call(tab.named("begin"))
        assert tab.state(Case).item == ids[0]
        project.set_priorities({ids[0]: 0.1, ids[1]: 0.2, ids[2]: 0.9})
        tab.call(tab.named("settle"))
        assert tab.state(Case).item == ids[2]
        sheet = tab.answered(tab.call(tab.named("pick"), {"item": ids[1]}))["slice_view"]
        tab.wish("save", sheet, np.ones((sheet["height"], sheet["width"]), bool))
        tab.call(tab.named("settle"))
        assert tab.state(Case).item == ids[1]


def test_a_batch_shows_what_it_did_and_the_image_on_screen_as_it_is_now(small_weights, tmp_path):
    with Project(tmp_path / "project") as project:
        tab = Tab(panels.page(ModelRegistry(small_weights), project))
        ids = [project.add(picture(tmp_path, seed)).id for seed in range(3)]
        tab.call(tab.named("show"))
        project.save(ids[0], np.ones(project.item(ids[0]).shape_xyz, bool))
        tab.call(tab.named("pick"), {"item": ids[0]})
        outputs = tab.call(tab.named("batch"), {"action": "accept", "items": ids})
        assert tab.answered(outputs)["state"]["status"] == "accepted" and any(
            "1 image accepted" in str(value) for value in outputs.values()
        )
        outputs = tab.call(tab.named("batch"), {"action": "delete", "items": ids[:2]})
        assert (
            tab.state(Case).item == ids[2]
            and tab.listed(outputs)[0] == ids[2]
            and [item.id for item in project.items()] == [ids[2]]
        )
        tab.call(tab.named("batch"), {"action": "delete", "items": ids[2:]})
        assert tab.state(Case).item == "" and not project.items()
        with pytest.raises(gr.Error, match="allowed are accept"):
            tab.call(tab.named("batch"), {"action": "format", "items": ids})


def test_two_tabs_have_a_session_each_and_nonsense_is_refused(page):
    blocks, project = page
    one, other = Tab(blocks), Tab(blocks)
    sheet = one.answered(one.call(one.named("show")))["slice_view"]
    other.call(other.named("show"))
    strange = sheet | {"key": "0" * 32 + sheet["key"][32:]}
    assert "does not know this image" in other.answered(other.wish("save", strange))["error"]
    assert one.answered(one.wish("save", sheet))["error"] == ""
    for nonsense in (None, 5, {"item": 3}, {}):
        with pytest.raises(gr.Error):
            one.call(one.named("pick"), nonsense)
    assert one.answered(one.call(one.named("act"), None))["error"]


def test_no_listener_of_the_tab_is_in_the_api(page):
    ours = Tab(page[0]).ours
    assert {"act", "pick", "use", "take"} <= {fn.name for fn in ours} and all(
        fn.api_visibility == "private" for fn in ours
    )


def test_without_a_project_the_image_on_screen_is_annotated(small_weights):
    tab = Tab(panels.page(ModelRegistry(small_weights)))
    sheet = tab.answered(tab.call(tab.named("show")))["slice_view"]
    mask_hw = np.zeros((sheet["height"], sheet["width"]), bool)
    mask_hw[50:90, 60:120] = True
    reply = tab.answered(tab.wish("save", sheet, mask_hw))
    assert (reply["saved"], reply["state"]["status"]) == ("memory", "")
    tab.call(tab.named("use"))
    assert np.array_equal(tab.state(Case).truth_hw, mask_hw)


def test_an_empty_project_says_how_to_begin_and_the_first_images_come_on_screen(small_weights, tmp_path):
    with Project(tmp_path / "project") as project:
        tab = Tab(panels.page(ModelRegistry(small_weights), project))
        shown = tab.call(tab.named("show"))
        assert tab.listed(shown) == ("", {}) and tab.state(Case).item == ""
        item = project.add(picture(tmp_path))
        outputs = tab.call(tab.named("begin"))
        assert tab.state(Case).item == item.id and tab.answered(outputs)["state"]["status"] == "proposed"
        assert tab.listed(outputs) == (item.id, {item.id: "proposed"})
        project.skip(item.id)
        assert tab.stage not in tab.call(tab.named("begin"))  # what is on screen stays


def test_the_column_warns_of_a_network_from_elsewhere_and_knows_who_signed_in(page):
    tab = Tab(page[0])
    tab.call(tab.named("show"))
    annotation = tab.state(AnnotationSession)
    flat, deep = page[1].items()
    annotation.open(flat.id)
    assert project_sidebar.warn_untrained(None) == "" and project_sidebar.warn_untrained(annotation) == ""
    annotation.open(deep.id)
    assert "outside its training domain" in project_sidebar.warn_untrained(annotation)
    assert project_sidebar.show_user(SimpleNamespace(username=None)).value is None
    field = project_sidebar.show_user(SimpleNamespace(username="anne"))
    assert field.value == "anne" and field.interactive is False


def test_the_log_has_the_name_that_was_signed_in_with_whatever_was_typed(small_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    with Project(tmp_path / "project") as project:
        first = project.add(picture(tmp_path))
        tab = Tab(panels.page(ModelRegistry(small_weights), project))
        tab.request = gr.Request(username="anne")
        typed = {"Your initials, for the log": "Dr. Mallory"}
        sheet = tab.answered(tab.call(tab.named("show"), **typed))["slice_view"]
        tab.wish("save", sheet, np.random.default_rng(0).random((sheet["height"], sheet["width"])) < 0.3)
        mask = tmp_path / "uploads" / "mask.png"
        Image.fromarray(np.uint8(255 * np.eye(sheet["height"], sheet["width"]))).save(mask)
        tab.call(tab.named("take"), **{"Masks": {"path": str(mask), "meta": {"_type": "gradio.FileData"}}}, **typed)
        tab.wish("accept", tab.answered(tab.call(tab.named("pick"), {"item": first.id}, **typed))["slice_view"])
        assert [(row["action"], row["user"]) for row in project.log()] == [
            ("added", ""), ("proposed", "anne"), ("saved", "anne"), ("saved", "anne"), ("accepted", "anne")
        ]  # fmt: skip


def test_whatever_writes_the_log_writes_the_name_that_was_signed_in_with(small_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    upload = {"path": str(picture(tmp_path / "uploads")), "meta": {"_type": "gradio.FileData"}}
    users, run = [], SimpleNamespace(progress=lambda: None)
    monkeypatch.setattr(retrain_panel.retraining_run, "last", lambda folder: run)
    monkeypatch.setattr(retrain_panel.adoption, "promote", lambda project, run, user: users.append(user))
    monkeypatch.setattr(retrain_panel.adoption, "rollback", lambda project, user: users.append(user))
    with Project(tmp_path / "project") as project:
        tab = Tab(panels.page(ModelRegistry(small_weights), project))
        tab.request = gr.Request(username="anne")

        def call(module, name, data=None, **values):
            tab.call(tab.named(name, module), data, **{"Your initials, for the log": "Dr. Mallory"}, **values)

        call(project_sidebar, "_add", **{"Pictures, volumes, DICOM files or zips": [upload]})
        (item,) = project.items()
        call(project_sidebar, "_propose")
        call(project_sidebar, "_class", {"action": "define", "classes": [{"name": "cyst"}]})
        call(project_sidebar, "_class", {"action": "classify", "item": item.id, "image_class": "cyst"})
        call(annotate, "batch", {"action": "accept", "items": [item.id]})
        call(readers_panel, "_join", {"name": "Clara", "blind": True})
        call(readers_panel, "_compare")
        call(retrain_panel, "_use")
        call(retrain_panel, "_back")
        rows = [
            row
            for folder in (project.folder, *(project.folder / "readers").iterdir())
            for row in map(json.loads, (folder / "log.jsonl").read_text().splitlines())
        ]
        assert {row["action"] for row in project.log()} >= {"added", "proposed", "classified", "accepted"}
        assert len(rows) > 6 and {row["user"] for row in rows} == {"anne"} and users == ["anne", "anne"]


def test_a_read_only_project_has_a_warning(small_weights, tmp_path, monkeypatch):
    with Project(tmp_path / "project") as project:
        item = project.add(picture(tmp_path))

    def unwritable(path):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(lock, "hold", unwritable)
    with Project(tmp_path / "project") as project:
        tab = Tab(panels.page(ModelRegistry(small_weights), project))
        shown = tab.call(tab.named("show"))
        assert tab.state(Case).item == item.id and any("cannot be written" in str(value) for value in shown.values())
        reply = tab.answered(tab.wish("accept", tab.answered(shown)["slice_view"]))
        assert "read-only" in reply["error"] or "Nothing is outlined" in reply["error"]
