"""Several structures in one mask: their definition, how masks with them are saved, drawn, undone and read again."""

from __future__ import annotations

import errno
import json
import re
import string
import tracemalloc
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from mpsams.annotation import assist, classes, definitions, label_maps, log, masks, protocol, structures
from mpsams.annotation.classes import ImageClass
from mpsams.annotation.project import Project
from mpsams.annotation.reader_views import ReaderViews
from mpsams.annotation.session import AnnotationSession
from mpsams.annotation.structure_matching import StructureMatcher
from mpsams.annotation.structures import Structure
from mpsams.app.annotate import class_bar
from mpsams.imaging import raster
from tests.support import made_volumes
from tests.support.annotation_page import Page, page, picture, project, registry  # noqa: F401
from tests.support.label_maps import FLAT, box, organ


@pytest.fixture
def two(project):  # noqa: F811
    structures.define(project, ["liver", "tumour"], "anne")
    return project


def test_a_project_that_defines_nothing_has_one_structure_and_files_as_before(project, tmp_path):  # noqa: F811
    item = project.add(picture(tmp_path))
    assert [(one.label, one.name, one.key) for one in structures.defined(project)] == [(1, "lesion", "")]
    project.save(item.id, organ() > 0)
    path = project.folder / "masks" / f"{item.id}.png"
    assert path.read_bytes() == raster.write_mask(organ()[:, :, 0].T > 0)
    assert project.labels(item.id).tolist() == (organ() > 0).astype(int).tolist()
    project.save(item.id, (organ() > 0).view(np.uint8))
    assert path.read_bytes() == raster.write_mask(organ()[:, :, 0].T > 0)
    assert json.loads((project.folder / "project.json").read_text())["version"] == 2
    with pytest.raises(ValueError, match="mask has the value 2"):
        project.save(item.id, organ())


def test_label_maps_are_saved_with_their_values_and_outlast_every_restart(project, tmp_path):  # noqa: F811
    first, second = (project.add(picture(tmp_path, seed)) for seed in range(2))
    project.accept(first.id, organ() > 0)
    before = (project.folder / "masks" / f"{first.id}.png").read_bytes()
    structures.define(project, ["liver", Structure("tumour", "#112233", "k")], "anne")
    project.accept(second.id, organ())
    stored = np.asarray(Image.open(project.folder / "accepted" / "masks" / f"{second.id}.png"))
    assert np.array_equal(stored, organ()[:, :, 0].T)
    assert (project.folder / "masks" / f"{first.id}.png").read_bytes() == before
    project.close()
    for lost in ((), ("index.sqlite",), ("index.sqlite", "log.jsonl")):
        for name in lost:
            (project.folder / name).unlink()
        with Project(project.folder) as again:
            assert again.has_labels and again.counts()["accepted"] == 2
            assert [(one.label, one.name, one.colour) for one in structures.defined(again)] == [
                (1, "liver", "#e69f00"),
                (2, "tumour", "#112233"),
            ]
            assert np.array_equal(again.labels(second.id), organ())
            assert np.array_equal(again.labels(first.id), organ() > 0)  # 255 of before is structure 1
            assert np.array_equal(again.mask(second.id), organ() > 0)


@pytest.mark.parametrize("key", ["b", "H", "v", "0", "4", "5", "ä"])
def test_a_key_that_has_another_use_is_refused(two, key):
    before = structures.defined(two)
    with pytest.raises(ValueError, match=f"key {key.lower()!r} of structure 'cyst' is not free; allowed are q, c, j,"):
        structures.define(two, ["liver", "tumour", Structure("cyst", key=key)])
    assert structures.defined(two) == before


def test_structures_and_classes_have_no_key_in_common(two):
    assert [one.key for one in structures.defined(two)] == ["q", "c"]
    for key in "qcb":
        with pytest.raises(ValueError, match=f"key '{key}' of class 'benign' is not free; allowed are 5, 6, 7, 8,"):
            classes.define(two, [ImageClass("benign", key=key)])
    classes.define(two, [ImageClass("benign", key="j")])
    with pytest.raises(ValueError, match="key 'j' of structure 'cyst' is not free; allowed are q, c, k, l,"):
        structures.define(two, ["liver", "tumour", Structure("cyst", key="j")])
    assert [one.key for one in structures.define(two, ["liver", "tumour", "cyst", "vessel"])] == ["q", "c", "k", "l"]


def test_keys_of_an_earlier_version_stay_and_reach_a_second_reader(two):
    rows = [{"name": "liver", "key": "b", "label": 1}, {"name": "tumour", "key": "t", "label": 2}]
    two.append_log("configured", setting="structures", value=rows)
    two.append_log("configured", setting="classes", value=[{"name": "benign", "key": "b"}])
    clara = ReaderViews(two).join("Clara", True).project
    structures.define(two, [*structures.defined(two), "cyst"])
    for one in (two, clara):
        assert [each.key for each in structures.defined(one)] == ["b", "t", "q"]
        assert [each.key for each in classes.defined(one)] == ["b"]


def test_an_import_leaves_out_a_key_that_is_not_free(two):
    matcher = StructureMatcher(two)
    matcher.described = (Structure("cyst", key="t", label=3), Structure("vessel", key="y", label=4))
    matcher.define(np.zeros(FLAT, np.uint8), "anne")
    assert [(one.name, one.key) for one in structures.defined(two)[2:]] == [("cyst", "j"), ("vessel", "y")]


def test_the_free_keys_are_those_that_the_canvas_leaves_free():
    scripts = Path(structures.__file__).parents[1] / "app" / "static"
    text = (scripts / "toolbar.js").read_text()
    table = text[text.index("const KEYS = {") : text.index("const ONCE_A_PRESS")]
    used = {*re.findall(r"[{,\s]([a-z0-9]): ", table), *re.findall(r"key === '([a-z0-9])'", text)} - {"z", "y"}
    assert {"b", "1", "0", "n", "h", "v"} <= used  # z and y are used with Ctrl alone
    free = set(definitions.FREE_LETTERS + definitions.FREE_DIGITS)
    assert free == {*string.ascii_lowercase, *string.digits} - used


def test_nothing_flattens_or_invents_structures(two, tmp_path):
    item = two.add(picture(tmp_path))
    two.save(item.id, organ())
    for wrong in (organ() > 0, organ() + 1):
        with pytest.raises(ValueError, match="allowed is uint8 with 0 and 1, 2"):
            two.save(item.id, wrong)
    structures.define(two, [Structure("liver", label=1), "tumour", "vessel"])
    with pytest.raises(ValueError, match=r"mask has the value 4; allowed is uint8 with 0 and 1, 2, 3$"):
        two.save(item.id, 2 * organ())
    assert np.array_equal(two.labels(item.id), organ())
    path = two.folder / "masks" / f"{item.id}.png"
    two.accept(item.id)
    path.write_bytes(b"damaged")
    assert np.array_equal(two.labels(item.id), organ()) and "accepted one is shown" in two.remark(item.id)


def test_the_log_counts_pixels_that_change_their_structure(two, tmp_path):
    item = two.add(picture(tmp_path))
    two.save(item.id, organ())
    two.save(item.id, np.where(organ() == 2, np.uint8(1), organ()))
    row = two.log()[-1]
    assert (row["pixels_added"], row["pixels_removed"]) == (64, 64)
    truth = organ() > 0
    two.save(item.id, organ(), truth_xyz=truth)
    assert two.log()[-1]["dsc_after"] == 1


def test_structures_are_renamed_recoloured_and_removed_only_while_no_mask_holds_them(two, tmp_path):
    item = two.add(picture(tmp_path))
    two.save(item.id, organ())
    liver, tumour = structures.defined(two)
    structures.define(two, [Structure("organ", "#0000ff", "u", 1), tumour, "vessel"])
    assert [(one.label, one.name) for one in structures.defined(two)] == [(1, "organ"), (2, "tumour"), (3, "vessel")]
    assert np.array_equal(two.labels(item.id), organ())
    with pytest.raises(ValueError, match="structure 'tumour' is in 1 mask; remove it there first"):
        structures.define(two, ["organ", "vessel"])
    two.save(item.id, np.where(organ() == 2, np.uint8(3), organ()))
    assert [one.label for one in structures.define(two, ["organ", "vessel"])] == [1, 3]
    two.save(item.id, np.where(organ() == 2, np.uint8(3), organ()))
    with pytest.raises(ValueError, match="mask has the value 2"):
        two.save(item.id, organ())
    assert [one.label for one in structures.define(two, ["organ", "vessel", "cyst"])] == [1, 3, 4]


@pytest.mark.parametrize(
    "given", [["liver", Structure("vessel")], ["vessel", "cyst"], [Structure("a"), Structure("b")]]
)
def test_a_new_structure_does_not_take_over_the_masks_of_one_that_is_left_out(two, tmp_path, given):
    item = two.add(picture(tmp_path))
    two.save(item.id, organ())
    before = structures.defined(two)
    with pytest.raises(ValueError, match="is in 1 mask; remove it there first"):
        structures.define(two, given)
    assert structures.defined(two) == before
    two.save(item.id, np.zeros_like(organ()))
    assert not {one.label for one in structures.define(two, given)[-1:]} & {1, 2}


def test_a_structure_without_a_label_is_the_one_of_its_name(two):
    made = structures.define(two, [Structure("vessel"), Structure("Tumour", "#010203"), Structure("liver")])
    assert [(one.label, one.name) for one in made] == [(1, "liver"), (2, "tumour"), (3, "vessel")]
    assert made[1].colour == "#010203" and made[1].key == "c"
    renamed = structures.define(two, [Structure("mass", label=2), "tumour", "liver"])  # another tumour than before
    assert [(one.label, one.name) for one in renamed] == [(1, "liver"), (2, "mass"), (4, "tumour")]


def test_a_structure_that_was_removed_gets_its_label_again_and_no_other_does(two):
    structures.define(two, ["liver"])
    assert [(one.label, one.name) for one in structures.define(two, ["liver", "cyst"])] == [(1, "liver"), (3, "cyst")]
    made = structures.define(two, ["Tumour", "cyst", "liver"])
    assert [(one.label, one.name) for one in made] == [(1, "liver"), (2, "tumour"), (3, "cyst")]
    structures.define(two, ["liver", Structure("mass", label=2), "cyst"])
    made = structures.define(two, ["tumour", "mass", "liver", "cyst"])  # another tumour than before
    assert [(one.label, one.name) for one in made] == [(1, "liver"), (2, "mass"), (3, "cyst"), (4, "tumour")]
    assert [one.key for one in made] == ["q", "", "c", "j"]
    assert structures.removed(two) == []


def test_a_structure_is_restored_under_another_name_where_a_new_one_has_its_name(two):
    structures.define(two, ["liver"])
    structures.define(two, ["liver", Structure("Tumour", label=5)])
    assert [(one.label, one.name) for one in structures.restore(two, organ())] == [(2, "tumour (removed)")]
    assert [one.name for one in structures.defined(two)] == ["liver", "tumour (removed)", "Tumour"]
    assert structures.restore(two, organ()) == []
    with pytest.raises(ValueError, match="structure 7 is not defined here; allowed are 1, 2, 5"):
        structures.restore(two, organ() * 7)


def test_the_label_of_a_structure_that_is_left_out_is_used_again_only_if_no_mask_has_it(two, tmp_path):
    item = two.add(picture(tmp_path))
    two.save(item.id, organ())
    full = structures.define(two, ["liver", "tumour", *(f"s{number}" for number in range(3, 33))])
    with pytest.raises(ValueError, match="structure 'tumour' is in 1 mask"):
        structures.define(two, [*(one for one in full if one.label != 2), "vessel"])
    made = structures.define(two, [*(one for one in full if one.label != 9), "vessel"])
    assert [one.name for one in made if one.label == 9] == ["vessel"] and len(made) == 32


def test_a_single_structure_with_another_label_than_one_is_saved_and_accepted(two, tmp_path):
    item = two.add(picture(tmp_path))
    structures.define(two, ["tumour"])
    with pytest.raises(ValueError, match="mask has the value 1; allowed is uint8 with 0 and 2$"):
        two.save(item.id, organ() > 0)
    tumour = np.where(organ() == 2, organ(), np.uint8(0))
    views = ReaderViews(two)
    readers = [two, views.join("Clara", True).project]
    for one in readers:
        assert [(each.label, each.name) for each in structures.defined(one)] == [(2, "tumour")] and one.has_labels
        one.accept(item.id, tumour)
        assert np.array_equal(one.labels(item.id), tumour)
    for _ in views.make_consensus("majority"):
        pass
    assert np.array_equal(views.view("consensus").project.labels(item.id), tumour)


def test_a_new_name_reaches_the_readers_and_the_consensus(two, tmp_path):
    item = two.add(picture(tmp_path))
    two.save(item.id, organ())
    views = ReaderViews(two)
    view = views.join("Clara", False)
    view.project.save(item.id, organ())
    before = views.measure(two, view.project)
    structures.define(two, [Structure("liver", label=1), Structure("mass", label=2), "vessel"], "anne")
    assert structures.defined(view.project) == structures.defined(two)
    assert np.array_equal(view.masks(item.id)[0].map_xyz, organ())
    for _ in views.make_consensus("majority"):
        pass
    assert np.array_equal(views.view("consensus").project.labels(item.id), organ())
    after = views.measure(two, view.project)
    assert (before.structures["tumour"]["dsc"], after.structures["mass"]["dsc"]) == (1, 1)


def test_the_first_structures_leave_the_labels_that_readers_have_given(project, tmp_path):  # noqa: F811
    item = project.add(picture(tmp_path))
    project.save(item.id, organ() > 0)
    clara = ReaderViews(project).join("Clara", True).project
    structures.define(clara, ["lesion", "cyst"])
    clara.save(item.id, organ())
    structures.define(project, ["kidney", "vessel", "cyst"])
    expected = [(1, "kidney"), (2, "cyst"), (3, "vessel")]
    for each in (project, clara):
        assert [(one.label, one.name) for one in structures.defined(each)] == expected
    assert np.array_equal(project.labels(item.id), organ() > 0) and np.array_equal(clara.labels(item.id), organ())


def test_the_only_structure_takes_the_place_of_the_usual_one_whatever_readers_call_theirs(project, tmp_path):  # noqa: F811
    item = project.add(picture(tmp_path))
    project.save(item.id, organ() > 0)
    clara = ReaderViews(project).join("Clara", True).project
    structures.define(clara, ["lesion", "cyst"])
    structures.define(project, ["cyst"])
    assert [(one.label, one.name) for one in structures.defined(project)] == [(1, "cyst")]


def test_a_new_name_reaches_a_reader_who_has_structures_of_their_own(two, tmp_path):
    item = two.add(picture(tmp_path))
    clara = ReaderViews(two).join("Clara", True).project
    structures.define(clara, ["tumour", Structure("cyst", label=1), "liver"])
    clara.save(item.id, organ())
    structures.define(two, ["liver", Structure("mass", label=2), Structure("vessel", label=3)])
    assert [(one.label, one.name) for one in structures.defined(clara)] == [(1, "cyst"), (2, "mass"), (3, "liver")]
    assert np.array_equal(clara.labels(item.id), organ())


def test_masks_are_compared_again_after_the_structures_of_one_reader_changed(two, tmp_path):
    item = two.add(picture(tmp_path))
    views = ReaderViews(two)
    clara = views.join("Clara", True).project
    for one in (two, clara):
        one.save(item.id, organ())
    assert views.measure(two, clara).structures["tumour"]["dsc"] == 1
    structures.define(clara, [Structure("tumour", label=1), Structure("liver", label=2)])
    assert views.measure(two, clara).structures["tumour"]["dsc"] == 0


def test_a_structure_that_is_only_proposed_is_removed_and_leaves_the_proposals(registry, two, tmp_path):  # noqa: F811
    first, second = (two.add(picture(tmp_path, seed)) for seed in range(2))
    for one in (first, second):
        two.propose(one.id, organ(), "a-network", "0", 0.5)
    structures.set_learnt(two, "a-network", 2)
    two.save(second.id, organ())
    clara = ReaderViews(two).join("Clara", False).project
    clara.propose(first.id, organ(), "a-network", "0")
    with pytest.raises(ValueError, match="'tumour' is in 1 mask;"):
        structures.define(two, ["liver"])
    two.save(second.id, (organ() == 1).view(np.uint8))
    structures.define(two, ["liver", "vessel"])
    structures.define(two, ["liver", "vessel", Structure("cyst", label=2)])
    for one in (two, clara):
        assert np.array_equal(one.proposed_labels(first.id), organ() == 1)
    assert two.item(first.id).checkpoint == ("a-network", "0") and two.item(first.id).priority == 0.5
    assert structures.of_checkpoint(two, "a-network") == 1
    two.accept(first.id)
    assert np.array_equal(two.labels(first.id), organ() == 1)


def test_no_mask_is_saved_while_the_structures_change(two, tmp_path, monkeypatch):
    item = two.add(picture(tmp_path))
    free, count = [], structures.count_masks

    def count_masks(*given):
        lock = two._image_locks[item.id]
        other = Thread(target=lambda: free.append(lock.acquire(blocking=False)))
        other.start()
        other.join()
        return count(*given)

    monkeypatch.setattr(structures, "count_masks", count_masks)
    structures.define(two, ["liver"])
    assert free == [False]


@pytest.mark.parametrize(
    "given, message",
    [
        ([], "no structures"),
        (["a"] * 2, "two structures have the name 'a'"),
        ([f"s{n}" for n in range(33)], "33 structures; allowed are up to 32"),
        ([Structure("a", "red")], "colour 'red' of structure 'a'"),
        ([Structure("../a")], "structure '../a'"),
        ([Structure("a", label=40), "b"], "labels"),
        ([Structure("a", label=2), Structure("b", label=2)], "labels"),
        ([Structure("a", key="k"), Structure("b", key="K")], "two structures have the key 'k'"),
    ],
)
def test_what_is_no_definition_is_refused(two, given, message):
    before = structures.defined(two)
    with pytest.raises(ValueError, match=message):
        structures.define(two, given)
    assert structures.defined(two) == before


def test_changes_of_label_maps():
    map_hw = organ()[:, :, 0]
    over = box(map_hw.shape, 10, 8)
    assert (label_maps.add(map_hw, 1, over) == np.where(over, 1, map_hw)).all()
    replaced = label_maps.replace(map_hw, 2, over)
    assert np.array_equal(replaced == 2, over) and np.array_equal(replaced == 1, (map_hw == 1) & ~over)
    free = label_maps.replace_free(map_hw, 2, over)
    assert np.array_equal(free == 1, map_hw == 1) and np.array_equal(free == 2, (map_hw == 2) & over)
    for each in (map_hw, map_hw * 5, map_hw > 0):
        assert np.array_equal(masks.unpack(masks.pack(each), each.shape), each)
        assert np.array_equal(protocol.unpack_labels(protocol.pack_labels(each), each.shape), each)
    assert protocol.pack_labels(map_hw > 0) == protocol.pack(map_hw > 0)


def test_counting_labels_of_a_volume_holds_a_slice_at_a_time():
    map_xyz = np.zeros((200, 200, 50), np.uint8)
    map_xyz[:, :3, 1], map_xyz[5, 5, 49] = 2, 255
    tracemalloc.start()
    counts = label_maps.count(map_xyz)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {int(value): int(counts[value]) for value in np.flatnonzero(counts)} == {0: 1999399, 2: 600, 255: 1}
    assert len(counts) == 256 and peak < map_xyz.size
    assert label_maps.count(map_xyz[:, :, 1])[2] == 600 and not label_maps.count(map_xyz[:0])[1:].any()


@pytest.mark.parametrize("text", ["0 4|0 4", "0 2 2|4", "4|4", "0 4|", None, "|".join(["4"] * 40)])
def test_texts_that_are_no_label_map_are_refused(text):
    with pytest.raises(ValueError):
        protocol.unpack_labels(text, (2, 2))


def test_the_canvas_draws_one_structure_and_leaves_the_others(registry, two, tmp_path):  # noqa: F811
    item = two.add(picture(tmp_path))
    tab = Page(registry, two)
    state = tab.open(item.id)["state"]
    assert [(one["label"], one["name"]) for one in state["structures"]] == [(1, "liver"), (2, "tumour")]
    map_hw = np.zeros(tab.shape, np.uint8)
    map_hw[4:20, 4:20] = 1
    map_hw[8:12, 8:12] = 2
    map_hw[30:32, 30:32] = 2
    assert tab.send("save", map_hw)["saved"] == "disk"
    assert np.array_equal(two.labels(item.id)[:, :, 0].T, map_hw)
    tab.send("tidy", how="holes", structure=1)
    assert np.array_equal(tab.mask, map_hw)  # the tumour in the liver is no hole
    tab.send("tidy", how="largest", structure=2)
    assert np.array_equal(tab.mask == 1, map_hw == 1) and (tab.mask == 2).sum() == 16
    again = Page(registry, two)
    again.open(item.id)
    assert np.array_equal(again.mask, tab.mask)
    lesion, ground = box(tab.shape, 33, 40, 3), box(tab.shape, 0, 50, 2)
    tab.send("scribble", structure=2, lesion=protocol.pack(lesion), background=protocol.pack(ground))
    assert (tab.mask[lesion] == 2).all() and np.array_equal(two.labels(item.id)[:, :, 0].T, tab.mask)
    reply = tab.send("save", map_hw * 3)
    assert "ructure 3 is not defined here; allowed are 1, 2" in reply["error"] and not reply["saved"]
    assert "that you chose is not there any more" in tab.send("tidy", how="holes", structure=3)["error"]
    assert tab.send("save")["error"] == ""


def test_a_mask_is_saved_with_a_structure_that_was_removed_in_another_tab(registry, two, tmp_path):  # noqa: F811
    item = two.add(picture(tmp_path))
    tab, other = Page(registry, two), Page(registry, two)
    tab.open(item.id)
    other.open(item.id)
    map_hw = np.where(box(tab.shape, 5, 5), np.uint8(1), np.uint8(2) * box(tab.shape, 20, 20))
    rows = [{"label": 1, "name": "liver"}, {"name": "vessel"}]
    assert not other.send("define", structures=rows)["error"]
    reply = tab.send("save", map_hw, structure=2)
    assert reply["saved"] == "disk" and "Structure 'tumour' was removed from the project meanwhile" in reply["message"]
    assert [(one["label"], one["name"]) for one in reply["state"]["structures"]] == [
        (1, "liver"),
        (2, "tumour"),
        (3, "vessel"),
    ]
    assert np.array_equal(two.labels(item.id)[:, :, 0].T, map_hw)
    assert not tab.send("save", map_hw, structure=2)["message"]
    assert "is in 1 mask" in other.send("define", structures=rows)["error"]


def test_a_proposal_on_screen_is_accepted_after_its_structure_was_removed_in_another_tab(
    registry,
    two,
    tmp_path,  # noqa: F811
):
    first, second = (two.add(picture(tmp_path, seed)) for seed in range(2))
    two.propose(first.id, organ(), "a-network", "0")
    two.propose(second.id, organ(), "a-network", "0")
    tab = Page(registry, two)
    tab.open(first.id)
    structures.define(two, ["liver"])
    assert "that you chose is not there any more" in tab.send("tidy", how="holes", structure=2)["error"]
    assert not tab.send("window", low=0, high=9, structure=2)["error"]
    reply = tab.send("accept", structure=2)
    assert not reply["error"] and "Structure 'tumour' was removed from the project meanwhile" in reply["message"]
    assert np.array_equal(two.labels(first.id), organ()) and two.item(first.id).status == "accepted"
    assert np.array_equal(tab.mask, (organ() == 1)[:, :, 0].T)  # of the next image, whose proposal lost the tumour


def test_an_image_is_left_in_a_tab_whose_chosen_structure_was_removed(registry, two, tmp_path):  # noqa: F811
    first, second = (two.add(picture(tmp_path, seed)) for seed in range(2))
    tab = Page(registry, two)
    tab.open(first.id)
    structures.define(two, ["liver"])
    drawn_hw = box(tab.shape, 5, 5)
    assert "that you chose is not there" in tab.send("tidy", drawn_hw.view(np.uint8), how="holes", structure=2)["error"]
    assert np.array_equal(two.labels(first.id)[:, :, 0].T, drawn_hw)
    reply = tab.send("open", item=second.id, structure=2)
    assert not reply["error"] and tab.session.image.item == second.id
    assert [one.name for one in structures.defined(two)] == ["liver"]


def test_a_reader_keeps_a_structure_that_the_first_reader_removed_while_they_drew_it(registry, two, tmp_path):  # noqa: F811
    item = two.add(picture(tmp_path))
    view = ReaderViews(two).join("Clara", True)
    tab = Page(registry, view.project)
    tab.session = AnnotationSession(registry, view.project, view=view)
    tab.open(item.id)
    structures.define(two, ["liver"])
    assert [one.name for one in structures.defined(view.project)] == ["liver"]
    assert (
        "Structure 'tumour' was removed from the project meanwhile"
        in tab.send("save", organ()[:, :, 0].T, structure=2)["message"]
    )
    assert np.array_equal(view.project.labels(item.id), organ())
    assert [one.name for one in structures.defined(two)] == ["liver"]


def test_the_chosen_structure_is_the_truth_in_the_other_tabs(registry, two, tmp_path):  # noqa: F811
    item = two.add(picture(tmp_path))
    tab = Page(registry, two)
    tab.open(item.id)
    map_hw = np.where(box(tab.shape, 20, 20), np.uint8(1), np.uint8(2) * box(tab.shape, 2, 2))
    tab.send("save", map_hw)
    for label, others in ((2, [(1, "liver")]), (1, [(2, "tumour")])):
        case = tab.session.as_truth(label)
        assert np.array_equal(case.truth_hw, map_hw == label)
        assert [row[:2] for row in case.truth_map.structures[1:]] == others
        assert np.array_equal(case.truth_map.map_xyz[:, :, 0].T, map_hw)
    with pytest.raises(ValueError, match="structure 3 is not defined here; allowed are 1, 2"):
        tab.session.as_truth(3)


def test_proposals_are_taken_as_the_chosen_structure(registry, two, tmp_path):  # noqa: F811
    item = two.add(picture(tmp_path))
    proposed_hw = box((40, 56), 10, 10)
    two.propose(item.id, proposed_hw.T[:, :, None].view(np.uint8), "a-network", "0")
    tab = Page(registry, two)
    tab.open(item.id)
    map_hw = np.where(box(tab.shape, 20, 20), np.uint8(1), np.uint8(0))
    tab.send("save", map_hw)
    tab.send("proposal", structure=2)
    assert np.array_equal(tab.mask == 2, proposed_hw) and np.array_equal(tab.mask == 1, map_hw == 1)


def test_a_proposal_for_an_open_volume_is_of_the_structure_that_its_network_has_learnt_since(
    registry, two, tmp_path, monkeypatch
):  # noqa: F811
    monkeypatch.setattr(assist, "THRESHOLD", 0.0)  # above which the untrained network marks something
    item = two.add(made_volumes.save(tmp_path / "body.nii.gz", made_volumes.body(0)[0], "RAS"), "ct")
    tab = Page(registry, two)
    tab.open(item.id)
    image = tab.session.image
    assert {1} <= set(np.unique(image.proposal("axial", 3))) <= {0, 1}
    structures.set_learnt(two, assist.default_model(registry, "ct"), 2)
    assert {2} <= set(np.unique(image.proposal("axial", 3))) <= {0, 2}


def test_an_empty_proposal_clears_the_chosen_structure_alone(registry, two, tmp_path):  # noqa: F811
    item = two.add(picture(tmp_path))
    two.propose(item.id, np.zeros(FLAT, np.uint8), "a-network", "0")
    tab = Page(registry, two)
    tab.open(item.id)
    map_hw = np.where(box(tab.shape, 20, 20), np.uint8(1), np.uint8(2) * box(tab.shape, 2, 2))
    tab.send("save", map_hw)
    tab.send("proposal", structure=2)
    assert np.array_equal(tab.mask, np.where(map_hw == 1, map_hw, 0))


def test_the_page_defines_structures_and_gets_an_error_for_what_is_not_allowed(registry, project, tmp_path):  # noqa: F811
    item = project.add(picture(tmp_path))
    tab = Page(registry, project)
    assert tab.open(item.id)["state"]["can_define"]
    rows = [{"label": 1, "name": "liver", "colour": "#aa0011", "key": "l"}, {"name": "tumour"}]
    state = tab.send("define", structures=rows)["state"]
    assert [(one["label"], one["name"], one["colour"]) for one in state["structures"]] == [
        (1, "liver", "#aa0011"),
        (2, "tumour", "#56b4e9"),
    ]
    tab.send("save", np.where(box(tab.shape, 5, 5), np.uint8(2), np.uint8(0)), structure=2)
    assert "is in 1 mask; remove it there first" in tab.send("define", structures=rows[:1])["error"]
    for wrong in (None, [], [3], [{"name": 5}], [{"name": "a", "label": 99}], [{"name": "a/b", "label": 1}]):
        assert tab.send("define", structures=wrong)["error"]
    assert [one.name for one in structures.defined(project)] == ["liver", "tumour"]
    views = ReaderViews(project)
    second = views.join("Clara", True)
    session = AnnotationSession(registry, second.project, view=second)
    reply = json.loads(session.open(item.id))
    assert not reply["state"]["can_define"] and len(reply["state"]["structures"]) == 2


def test_structures_are_defined_without_the_whole_log_being_read(two, monkeypatch):
    clara = ReaderViews(two).join("Clara", True).project
    structures.define(two, ["liver"])
    monkeypatch.setattr(Project, "log", lambda self: pytest.fail("the whole log was read"))
    structures.define(two, ["liver", "tumour", "cyst"])
    for one in (two, clara):
        assert [(each.label, each.name) for each in structures.defined(one)] == [
            (1, "liver"),
            (2, "tumour"),
            (3, "cyst"),
        ]


def test_what_a_checkpoint_has_learnt_is_known_to_all_readers_by_the_name_of_the_structure(two, tmp_path):
    two.add(picture(tmp_path))
    views = ReaderViews(two)
    clara, dora = (views.join(name, True).project for name in ("Clara", "Dora"))
    structures.define(clara, [Structure("tumour", label=3), Structure("liver", label=2)])
    structures.define(dora, ["liver"])
    dora.read_only = True
    structures.set_learnt(two, "a-network", 2)
    assert [structures.of_checkpoint(one, "a-network") for one in (two, clara, dora)] == [2, 3, 1]
    dora.read_only = False
    later = views.join("Emil", True).project
    views.update("Dora")
    assert [structures.of_checkpoint(one, "a-network") for one in (two, later, dora)] == [2, 2, 2]
    count = len(later.log())
    views.update("Emil")
    assert len(later.log()) == count
    two.append_log("configured", setting=structures.LEARNT, value={"a-network": [2], "another": 2})
    views.update("Emil")
    assert structures.of_checkpoint(later, "another") == 2


def test_a_definition_takes_effect_though_projects_of_readers_cannot_be_written(two, tmp_path, monkeypatch):
    two.add(picture(tmp_path))
    views = ReaderViews(two)
    clara, dora = (views.join(name, True).project for name in ("Clara", "Dora"))

    def refuse(*given, **more):
        raise OSError(errno.ENOSPC, "no space left")

    clara.read_only = True
    monkeypatch.setattr(dora, "append_log", refuse)
    made = structures.define(two, ["liver", "tumour", "cyst"])
    assert structures.defined(two) == made and len(structures.defined(clara)) == len(structures.defined(dora)) == 2
    clara.read_only = False
    views.update("Clara")
    assert structures.defined(clara) == made


def test_a_structure_without_a_key_has_none_when_it_is_read_or_defined_again(two):
    classes.define(two, [ImageClass("benign", key="j"), ImageClass("cyst", key="k")])
    made = structures.define(two, ["liver", "tumour", *(f"s{number}" for number in range(6))])
    assert [one.key for one in made] == ["q", "c", "l", "u", "y", "z", "", ""]
    classes.define(two, [ImageClass("benign", key="j")])
    assert structures.defined(two) == made and structures.removed(two) == []
    assert structures.define(two, made) == made  # the letter that is free by now is not given to the old ones
    liver, tumour, *others = made
    made = structures.define(two, [liver, Structure("tumour", tumour.colour, "", tumour.label), *others, "cyst"])
    assert [one.key for one in made] == ["q", "", "l", "u", "y", "z", "", "", "c"]
    assert structures.defined(two) == made


def test_a_sheet_that_was_opened_earlier_keeps_what_another_tab_has_changed_since(registry, two, tmp_path):  # noqa: F811
    item = two.add(picture(tmp_path))
    structures.define(two, ["liver", "tumour", "cyst", "vessel"])
    tab, other = Page(registry, two), Page(registry, two)
    names = ("label", "name", "colour", "key")
    rows = [{name: one[name] for name in names} for one in tab.open(item.id)["state"]["structures"]]
    other.open(item.id)
    liver, tumour, cyst, vessel = rows
    kidney = {"name": "kidney"}
    reply = other.send("define", structures=[liver | {"name": "organ"}, tumour, cyst, kidney], edited_from=rows)
    assert not reply["error"]
    edited = [liver, tumour | {"name": "mass", "key": ""}, vessel, {"name": "spleen"}, {"name": "Kidney"}]
    assert not tab.send("define", structures=edited, edited_from=rows)["error"]
    assert [(one.label, one.name, one.key) for one in structures.defined(two)] == [
        (1, "organ", "q"),
        (2, "mass", ""),
        (5, "kidney", "k"),
        (6, "spleen", "c"),
    ]
    reply = other.send("define", structures=[liver | {"name": "kidney"}], edited_from=[liver])
    assert "Two structures have the name 'kidney'" in reply["error"]
    assert other.send("define", structures=[liver], edited_from=[3])["error"]
    assert not other.send("define", structures=[{"label": 1, "name": "organ"}])["error"]  # from an earlier page
    assert [one.name for one in structures.defined(two)] == ["organ"]


def test_the_page_is_told_the_keys_that_classes_leave_free(registry, two, tmp_path):  # noqa: F811
    item = two.add(picture(tmp_path))
    classes.define(two, [ImageClass("benign", key="j")])
    tab = Page(registry, two)
    assert tab.open(item.id)["state"]["free_keys"] == "qckluyz"
    assert classes.free_class_keys(two) == "56789jkluyz"
    assert 'data-free-keys="56789jkluyz"' in class_bar.show(two, item.id)


def test_removed_structures_of_one_name_are_restored_under_different_names(two, tmp_path):
    item = two.add(picture(tmp_path))
    structures.define(two, ["liver", "cyst"])
    structures.define(two, [Structure("liver", label=1), Structure("tumour", label=3)])
    structures.define(two, ["liver"])
    map_xyz = organ()
    map_xyz[-3:] = 3
    assert [one.name for one in structures.restore(two, map_xyz)] == ["tumour", "tumour (removed)"]
    two.save(item.id, map_xyz)
    two.save(item.id, (organ() == 1).view(np.uint8))
    structures.define(two, ["liver", Structure("Tumour", label=9)])
    names = [one.name for one in structures.restore(two, map_xyz)]
    assert names == ["tumour (removed)", "tumour (removed) (removed)"]
    assert [one.label for one in structures.defined(two)] == [1, 2, 3, 9]


def test_nobody_defines_structures_while_one_is_restored(two, monkeypatch):
    structures.define(two, ["liver"])
    free, removed = [], structures.removed

    def find_removed(project):
        def take() -> None:
            free.append(two._lock.acquire(blocking=False))
            if free[-1]:
                two._lock.release()

        other = Thread(target=take)
        other.start()
        other.join()
        return removed(project)

    monkeypatch.setattr(structures, "removed", find_removed)
    assert [one.name for one in structures.restore(two, organ())] == ["tumour"]
    assert free and not any(free)


def test_proposals_lose_a_removed_structure_without_being_written(two, tmp_path, monkeypatch):
    old, new = (two.add(picture(tmp_path, seed)) for seed in range(2))
    two.propose(old.id, organ(), "a-network", "0")
    two.set_priorities({old.id: 0.5})
    before = (two.folder / "proposals" / f"{old.id}.png").read_bytes()
    monkeypatch.setattr(Project, "propose", lambda *given, **more: pytest.fail("a proposal was written"))
    structures.define(two, ["liver"])
    assert np.array_equal(two.proposed_labels(old.id), organ() == 1)
    structures.define(two, ["liver", Structure("cyst", label=2)])
    monkeypatch.undo()
    two.propose(new.id, organ(), "a-network", "0")
    structures.define(two, ["liver", Structure("mass", label=2)])  # the cyst by another name
    assert (two.folder / "proposals" / f"{old.id}.png").read_bytes() == before
    for _ in range(2):
        assert np.array_equal(two.proposed_labels(old.id), organ() == 1)
        assert np.array_equal(two.proposed_labels(new.id), organ())
        two.rebuild()
    two.accept(old.id)
    assert np.array_equal(two.labels(old.id), organ() == 1)
    assert (two.log()[-1]["pixels_added"], two.log()[-1]["pixels_removed"]) == (0, 0)


def test_pixels_of_removed_structures_do_not_count_as_found(two, tmp_path):
    item = two.add(picture(tmp_path))
    two.propose(item.id, np.where(organ() == 2, np.uint8(2), np.uint8(0)), "a-network", "0")
    assert two.item(item.id).proposal_pixels == 64
    structures.define(two, ["liver"])
    structures.define(two, ["liver", Structure("cyst", label=2)])
    for _ in range(2):
        assert two.item(item.id).proposal_pixels == 0 and two.queue()[0].is_nothing_found
        two.rebuild()
    line = next(row for row in two.log() if row["action"] == "proposed")
    del line["pixels_of_labels"]  # as earlier versions wrote it
    log.append(two.folder / "log.jsonl", [line])
    assert two.item(item.id).proposal_pixels == 64
    structures.define(two, ["liver"])
    assert two.item(item.id).proposal_pixels is None and not two.proposed_labels(item.id).any()


def test_masks_are_read_before_anybody_waits_and_once(two, tmp_path, monkeypatch):
    """Only the mask that is saved after that is read while nobody else may save."""
    first, second = (two.add(picture(tmp_path, seed)) for seed in range(2))
    clara = ReaderViews(two).join("Clara", True).project
    for one in (two, clara):
        for item in (first, second):
            one.save(item.id, (organ() == 1).view(np.uint8))
    read, labels = [], Project.labels

    def note(project, id):
        def save():
            if is_free := two._image_locks[second.id].acquire(blocking=False):
                two._image_locks[second.id].release()
            read.append((project is two, id, is_free))

        other = Thread(target=save)
        other.start()
        other.join()
        return labels(project, id)

    monkeypatch.setattr(Project, "labels", note)
    exclusive, saves = two.exclusive, iter([(first.id, organ())])

    def save_meanwhile(*given, **more):
        for id, map_xyz in saves:
            two.save(id, map_xyz)
        return exclusive(*given, **more)

    monkeypatch.setattr(two, "exclusive", save_meanwhile)
    with pytest.raises(ValueError, match="structure 'tumour' is in 1 mask; remove it there first"):
        structures.define(two, ["liver"])
    ids = [(ours, item.id) for ours in (True, False) for item in (first, second)]
    assert read[:4] == [(*one, True) for one in ids] and read[4:] == [(True, first.id, False)]


def test_a_reader_who_joins_gets_no_key_that_the_first_reader_took_away(two):
    structures.define(two, [Structure("liver", label=1), Structure("tumour", label=2, key="k")])
    assert [one.key for one in structures.defined(two)] == ["", "k"]
    clara = ReaderViews(two).join("Clara", True).project
    assert structures.defined(clara) == structures.defined(two)


def test_an_import_leaves_out_a_key_that_a_class_has(two):
    classes.define(two, [ImageClass("benign", key="y")])
    matcher = StructureMatcher(two)
    matcher.described = (Structure("vessel", key="y", label=4),)
    matcher.define(organ(), "anne")
    assert [(one.name, one.key) for one in structures.defined(two)[2:]] == [("vessel", "j")]
