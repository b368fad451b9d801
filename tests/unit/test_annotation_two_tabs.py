"""Structures that another tab defines while an import runs: no mask changes its structure, and the report is kept."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from mpsams.annotation import structures, transfer
from mpsams.annotation.project import Project
from mpsams.annotation.structure_matching import StructureMatcher
from tests.support.annotation_page import picture
from tests.support.coco import write_coco
from tests.support.label_maps import FLAT, box, store_mask

pytestmark = pytest.mark.filterwarnings("ignore")
MARKED = box(FLAT[1::-1], 4, 5, 9).T[:, :, None]


@pytest.fixture
def project(tmp_path):
    """A project of three pictures; the last one is for the other tab."""
    with Project(tmp_path / "project") as project:
        for seed in range(3):
            project.add(picture(tmp_path, seed))
        yield project


def drawn(project: Project) -> dict[str, set[str]]:
    """The names of the structures in each saved mask, by the name of its image."""
    known = structures.defined(project)
    return {
        item.name: {one.name for one in known if (project.labels(item.id) == one.label).any()}
        for item in project.items()
        if item.mask
    }


def add_structures(project: Project, *names: str) -> None:
    """Define structures as another tab does, and save a mask of the last one."""
    known = structures.define(project, [*structures.defined(project), *names])
    label = structures.find(known, names[-1]).label
    project.save(project.items()[-1].id, MARKED * np.uint8(label))


@pytest.fixture
def after_first_save(monkeypatch):
    """Return a function that sets what is done once, after the first mask was saved."""

    def install(act: Callable[[], object]) -> None:
        actions, save = [act], Project.save

        def save_and_act(*given, **more):
            item = save(*given, **more)
            if actions:
                actions.pop()()
            return item

        monkeypatch.setattr(Project, "save", save_and_act)

    return install


def write_two(folder, *names: str) -> None:
    """A COCO file for each of the first pictures, with two structures each."""
    folder.mkdir()
    for number, name in enumerate(names):
        masks = {"liver": MARKED, name: np.roll(MARKED, 15, 0)}
        write_coco(folder / f"{number}.json", masks, f"picture {number}.png")


@pytest.mark.parametrize("names", [("kidney",), ("kidney", "cyst"), ("spleen",), ("cyst", "spleen")])
def test_structures_defined_during_an_import_keep_their_masks(project, tmp_path, after_first_save, names):
    write_two(tmp_path / "up", "tumour", "spleen")
    after_first_save(lambda: add_structures(project, *names))
    found = transfer.take(project, tmp_path / "up", "anne")
    assert drawn(project) == {
        "picture 0.png": {"liver", "tumour"}, "picture 1.png": {"liver", "spleen"}, "picture 2.png": {names[-1]}
    }  # fmt: skip
    listed = [one.name for one in structures.defined(project)]
    assert listed == list(dict.fromkeys(["liver", "tumour", *names, "spleen"]))
    added = ["liver", "tumour", *["spleen"] * ("spleen" not in names)]
    assert found.notes == [f"Structures added to the project: {', '.join(added)}."] and not found.refused


@pytest.mark.parametrize("names", [("kidney",), ("kidney", "cyst"), ("spleen",)])
def test_structures_defined_while_a_mask_is_read_keep_theirs(project, names):
    structures.define(project, ["liver", "tumour"])
    matcher = StructureMatcher(project)
    table = matcher.table([1, 2], {1: "liver", 2: "spleen"}, is_named=True)
    assert table == {1: 1, 2: 3}
    add_structures(project, *names)
    first, map_xyz = project.items()[0], np.zeros(FLAT, np.uint8)
    map_xyz[:9], map_xyz[20:30] = 1, 3
    project.save(first.id, matcher.define(map_xyz, "anne"))
    assert drawn(project) == {"picture 0.png": {"liver", "spleen"}, "picture 2.png": {names[-1]}}
    assert matcher.added == ["spleen"] * ("spleen" not in names)


def test_two_imports_at_once_give_each_structure_its_own_label(project, tmp_path, after_first_save):
    for folder, names in (("one", ("tumour", "spleen")), ("other", ("tumour", "kidney"))):
        write_two(tmp_path / folder, *names)
    write_coco(tmp_path / "other" / "1.json", {"liver": MARKED, "kidney": np.roll(MARKED, 15, 0)}, "picture 2.png")
    after_first_save(lambda: transfer.take(project, tmp_path / "other", "bert"))
    transfer.take(project, tmp_path / "one", "anne")
    assert drawn(project) == {
        "picture 0.png": {"liver", "tumour"}, "picture 1.png": {"liver", "spleen"}, "picture 2.png": {"liver", "kidney"}
    }  # fmt: skip


def test_a_lesion_that_is_drawn_before_the_structures_are_added_stays_one(project):
    matcher = StructureMatcher(project)
    assert matcher.table([1, 2], {1: "liver", 2: "spleen"}, is_named=True) == {1: 1, 2: 2}
    project.save(project.items()[-1].id, MARKED)
    map_xyz = np.where(MARKED, np.uint8(1), np.uint8(0))
    project.save(project.items()[0].id, matcher.define(map_xyz, "anne"))
    assert drawn(project) == {"picture 0.png": {"liver"}, "picture 2.png": {"lesion"}}
    assert [one.name for one in structures.defined(project)] == ["lesion", "liver", "spleen"]


def test_masks_without_names_are_of_the_first_structure_that_is_defined_meanwhile(project, tmp_path, after_first_save):
    for number in range(2):
        store_mask(tmp_path / "up" / "masks" / f"picture {number}.png", MARKED * np.uint8(255))
    after_first_save(lambda: structures.define(project, ["cyst"]))
    assert not transfer.take(project, tmp_path / "up", "anne").notes
    assert drawn(project) == {"picture 0.png": {"cyst"}, "picture 1.png": {"cyst"}}


def test_a_mask_that_cannot_be_saved_any_more_is_refused_and_the_report_stays(project, tmp_path, monkeypatch):
    structures.define(project, ["liver", "tumour"])
    for number in range(2):
        store_mask(tmp_path / "up" / "masks" / f"picture {number}.png", MARKED * np.uint8(2 - number))
    (tmp_path / "up" / "dataset.json").write_text(json.dumps({"labels": {"liver": 1, "tumour": 2}}))
    define = StructureMatcher.define

    def define_and_remove(*given):
        map_xyz = define(*given)
        structures.define(project, ["liver"])
        return map_xyz

    monkeypatch.setattr(StructureMatcher, "define", define_and_remove)
    found = transfer.take(project, tmp_path / "up", "anne")
    assert found.saved == [project.items()[1].id] and drawn(project) == {"picture 1.png": {"liver"}}
    (refusal,) = found.refused
    assert refusal[0] == "picture 0.png" and refusal[1].startswith("its mask was not saved: mask has the value 2;")
    assert f"picture 0.png: {refusal[1]}" in found.notes
