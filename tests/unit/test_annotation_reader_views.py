"""Second readers within a project: blind or not, what they see, their consensus, and sessions that never mix their
masks.
"""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from mpsams.annotation import classes, protocol, readers, structures, transfer
from mpsams.annotation.project import Project
from mpsams.annotation.reader_views import CONSENSUS, FIRST, ReaderViews
from mpsams.annotation.session import AnnotationSession
from tests.support.annotation_page import Page, picture, registry  # noqa: F401
from tests.support.projects import DEEP, volume


@pytest.fixture
def project(tmp_path):
    with Project(tmp_path / "project") as opened:
        for seed in range(3):
            opened.add(picture(tmp_path, seed), "ultrasound")
        opened.add(volume(tmp_path / "deep.nii.gz"), "ct")
        yield opened


def box(shape: tuple[int, int, int], start: int, width: int = 8) -> np.ndarray:
    mask_xyz = np.zeros(shape, bool)
    mask_xyz[start : start + width, 4:12] = True
    return mask_xyz


class ReaderPage(Page):
    """A browser tab of one reader."""

    def __init__(self, registry, views: ReaderViews, name: str) -> None:  # noqa: F811
        view = views.view(name)
        super().__init__(registry, view.project, name)
        self.session = AnnotationSession(registry, view.project, view=view)


def test_a_blind_reader_gets_the_images_and_nothing_of_the_first(project):
    one, *_, deep = project.items()
    project.accept(one.id, box(one.shape_xyz, 2), "Anna")
    project.save(deep.id, box(DEEP, 3), "Anna")
    classes.define(project, ["benign", "cyst"], "Anna")
    classes.classify(project, one.id, "cyst", "Anna")
    views = ReaderViews(project)
    assert views.names() == []
    view = views.join(" Clara  B ", is_blind=True)
    assert views.names() == ["Clara B"] and view.is_blind and view.masks(one.id) == [] and not view.is_consensus
    assert [(item.id, item.name, item.status, item.image_class, item.seconds) for item in view.project.items()] == [
        (item.id, item.name, "new", "", 0.0) for item in project.items()
    ]
    assert [each.name for each in classes.defined(view.project)] == ["benign", "cyst"]
    files = [path for path in (project.folder / "readers" / "Clara B").rglob("*") if path.is_file()]
    assert not any(b"Anna" in path.read_bytes() for path in files) and not any(
        path.parent.name == "masks" for path in files
    )
    assert (view.project.folder / "images" / (one.id + one.image_ending)).samefile(project.image(one.id))


def test_a_reader_joins_once_as_begun_and_gets_what_is_added_later(project, tmp_path):
    views = ReaderViews(project)
    assert views.join("Clara", True).project is views.join("clara", True).project is views.view("Clara").project
    with pytest.raises(ValueError, match="Clara began blind"):
        views.join("Clara", False)
    for wrong in ("", "../x", "a/b", "Union", CONSENSUS, "First Reader", "x" * 41):
        with pytest.raises(ValueError, match="allowed are 1 to 40"):
            views.join(wrong, True)
    with pytest.raises(ValueError, match="allowed are Clara"):
        views.view("Dora")
    project.add(picture(tmp_path, 7), "ultrasound")
    classes.define(project, ["a", "b"])
    assert views.update("Clara") == 1 and views.update("Clara") == 0
    assert len(views.view("Clara").project.items()) == 5 and [
        one.name for one in classes.defined(views.view("Clara").project)
    ] == ["a", "b"]


def test_readers_are_there_after_the_project_is_opened_again_and_by_the_command_line(project):
    views = ReaderViews(project)
    views.join("Clara", False)
    one = project.items()[0]
    views.view("Clara").project.save(one.id, box(one.shape_xyz, 2), "C")
    project.close()
    with Project(project.folder) as again:
        views = ReaderViews(again)
        assert (
            views.names() == ["Clara"]
            and not views.view("Clara").is_blind
            and views.view("Clara").project.item(one.id).reader == "C"
        )
        with pytest.raises(ValueError, match="another app"):
            Project(again.folder / "readers" / "Clara")
    with Project(project.folder / "readers" / "Clara") as alone:
        assert alone.item(one.id).status == "in work"


def test_a_reader_who_is_not_blind_sees_the_first_and_may_begin_with_their_mask(project, registry):  # noqa: F811
    one, deep = project.items()[0], project.items()[-1]
    for item in (one, deep):
        project.save(item.id, box(item.shape_xyz, 2), "A")
    views = ReaderViews(project)
    views.join("Clara", False)
    views.join("Dora", True)
    blind, page = ReaderPage(registry, views, "Dora"), ReaderPage(registry, views, "Clara")
    assert (
        blind.open(one.id)["slice_view"]["readers"] == []
        and "allowed are none" in blind.send("take", source=FIRST)["error"]
    )
    shown = page.open(deep.id)["slice_view"]
    assert [(each["name"], each["image_class"]) for each in shown["readers"]] == [(FIRST, "")] and shown["merges"] == []
    assert protocol.unpack(shown["readers"][0]["mask"], page.shape).sum() == 64
    assert "Source 'union'; allowed are first reader" in page.send("take", source="union")["error"]
    reply = page.send("take", source=FIRST)
    assert reply["saved"] == "disk" and reply["message"] == "This is the mask of first reader, on all slices."
    assert np.array_equal(views.view("Clara").project.mask(deep.id), box(DEEP, 2)) and page.mask.sum() == 64
    assert project.item(deep.id).reader == "A" and views.view("Dora").project.item(deep.id).mask is None


def test_a_mask_drawn_for_one_reader_never_lands_with_another(project, registry):  # noqa: F811
    views, id = ReaderViews(project), project.items()[0].id
    views.join("Clara", True)
    first, second = ReaderPage(registry, views, ""), ReaderPage(registry, views, "Clara")
    first.open(id)
    second.open(id)
    keys = first.slice_view["key"], second.slice_view["key"]
    assert keys[0][:16] == keys[1][:16] and keys[0] != keys[1]
    drawn = np.ones(first.shape, bool)
    for page, key in ((first, keys[1]), (second, keys[0])):
        assert "Someone else has saved" in page.send("save", drawn, key=key)["error"]
    restarted = ReaderPage(registry, views, "Clara")
    restarted.slice_view, restarted.mask = second.slice_view, ~drawn
    # of the same reader it is kept, also after the app was started again
    assert restarted.send("save", drawn)["saved"] == "disk"
    assert project.item(id).mask is None and views.view("Clara").project.mask(id).all()


def test_the_consensus_is_chosen_image_by_image(project, registry):  # noqa: F811
    views, (one, two, *_, deep) = ReaderViews(project), project.items()
    with pytest.raises(ValueError, match="nobody has joined"):
        views.view(CONSENSUS)
    clara = views.join("Clara", True).project
    for reader, start, name in ((project, 2, "benign"), (clara, 6, "Benign")):
        reader.accept(one.id, box(one.shape_xyz, start), "A")
        reader.save(deep.id, box(DEEP, start), "A")
        classes.classify(reader, one.id, name)
    project.save(two.id, box(two.shape_xyz, 2))
    views.update(CONSENSUS)
    page, target = ReaderPage(registry, views, CONSENSUS), views.view(CONSENSUS).project
    shown = page.open(one.id)["slice_view"]
    assert (
        [each["name"] for each in shown["readers"]] == [FIRST, "Clara"]
        and shown["proposal"] is None
        and shown["merges"] == ["majority", "staple", "union", "intersection"]
    )
    assert page.mask.sum() == 4 * 8 and target.item(one.id).status == "new", (
        "it begins with what both outline, and no network proposes"
    )
    for source, pixels in (("union", 96), ("intersection", 32), ("majority", 32), (FIRST, 64), ("Clara", 64)):
        reply = page.send("take", source=source)
        assert page.mask.sum() == pixels and reply["saved"] == "disk" and target.mask(one.id).sum() == pixels
    assert target.item(one.id).image_class == "benign" and not reply["state"]["proposal"]
    assert page.send("accept")["message"].startswith("Accepted") and target.item(one.id).status == "accepted"
    page.open(deep.id)
    page.send("take", source="union")
    assert np.array_equal(target.mask(deep.id), box(DEEP, 2, 12))
    assert page.open(two.id)["slice_view"]["merges"] == [] and not page.mask.any(), "one mask is no consensus"


def test_masks_of_the_consensus_have_the_memory_order_of_their_scan(project, registry):  # noqa: F811
    views, deep = ReaderViews(project), project.items()[-1]
    clara = views.join("Clara", True).project
    for reader in (project, clara):
        reader.save(deep.id, np.ascontiguousarray(box(DEEP, 3)))
    views.update(CONSENSUS)
    page = ReaderPage(registry, views, CONSENSUS)
    order = list(np.argsort(project.scan(deep.id).voxels_xyz.strides))
    for _ in range(2):  # opened, and brought back after it was compressed
        page.open(deep.id)
        image = page.session.image
        for mask_xyz in (image.mask_xyz, image.proposal_xyz):
            assert list(np.argsort(mask_xyz.strides)) == order and np.array_equal(mask_xyz, box(DEEP, 3))
        page.session.loader.images.compress_all_but(0)


@pytest.mark.parametrize("method", ["majority", "staple"])
def test_the_consensus_of_a_whole_project_leaves_what_a_person_did(project, method, tmp_path):
    views, (one, two, three, deep) = ReaderViews(project), project.items()
    others = [views.join(name, True).project for name in ("Clara", "Dora")]
    for start, reader in enumerate((project, *others)):
        for item in (one, two, three):
            reader.save(item.id, box(item.shape_xyz, 2 + start))
        classes.classify(reader, one.id, "benign" if start else "malignant")
    views.update(CONSENSUS)
    target = views.view(CONSENSUS).project
    target.save(two.id, box(two.shape_xyz, 20), "")
    target.accept(three.id, box(three.shape_xyz, 30), "X")
    for _ in range(2):
        assert list(views.make_consensus(method))[-1] == (4, 4)
        assert (
            np.array_equal(target.mask(one.id), box(one.shape_xyz, 3))
            and target.item(one.id).reader == f"consensus ({method})"
        )
        assert target.item(one.id).image_class == "benign" and target.mask(deep.id) is None
        assert np.array_equal(target.mask(two.id), box(two.shape_xyz, 20)) and np.array_equal(
            target.mask(three.id), box(three.shape_xyz, 30)
        )
    for form in transfer.FORMATS.keys() - {"dicom-seg"}:  # there is no DICOM image here
        exported = transfer.write(target, form, "all", "lesion", tmp_path / f"{form}.zip")
        assert one.id in exported.places and zipfile.is_zipfile(tmp_path / f"{form}.zip")
    with pytest.raises(ValueError, match="allowed are majority, staple"):
        list(views.make_consensus("mean"))


def test_agreement_and_consensus_leave_out_the_same_structures_that_one_reader_added(project):
    item = project.items()[0]
    project.save(item.id, box(item.shape_xyz, 2), "Anna")
    views = ReaderViews(project)
    clara = views.join("Clara", True).project
    structures.define(clara, ["lesion", "cyst"])
    clara.save(item.id, box(item.shape_xyz, 2).view(np.uint8) + 2 * box(item.shape_xyz, 20).view(np.uint8))
    found, notes = views.measure(project, clara), []
    for _ in views.make_consensus("majority", notes=notes):
        pass
    assert found.rows[0]["dsc"] == 1 and ["cyst" in note for note in (*found.notes, *notes)] == [True, True]
    assert np.array_equal(views.view(CONSENSUS).project.mask(item.id), box(item.shape_xyz, 2))


def test_agreement_has_the_worst_first_and_medians(project):
    clara, items = ReaderViews(project).join("Clara", True).project, project.items()
    for item, start in zip(items[:3], (2, 8, 4), strict=True):
        project.save(item.id, box(item.shape_xyz, 2))
        clara.save(item.id, box(item.shape_xyz, start))
    found = readers.measure(project, clara)
    assert [row["id"] for row in found.rows] == [items[1].id, items[2].id, items[0].id]
    assert [row["dsc"] for row in found.rows] == [0.25, 0.75, 1.0]
    assert (
        found.overall["dsc_median"] == 0.75
        and found.overall["dsc"] == pytest.approx(2 / 3)
        and found.overall["hd95_px_median"] == 2
        and found.overall["hd95_mm_median"] is None
    )
    assert json.dumps(found.overall)
