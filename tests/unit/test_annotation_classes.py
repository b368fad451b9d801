"""Classes of images in a project: defined, given, undone, counted, kept in the log; old projects have none."""

from __future__ import annotations

import json
from dataclasses import asdict

import gradio as gr
import pytest

from mpsams.annotation import classes
from mpsams.annotation.classes import ImageClass
from mpsams.annotation.project import Project
from mpsams.app.annotate import class_bar
from tests.support.projects import FLAT, drawn, item, picture, project, volume  # noqa: F401

BREAST = ["benign", "malignant", "normal"]


def names(project) -> list[str]:  # noqa: F811
    return [one.name for one in classes.defined(project)]


def test_a_new_project_has_the_usual_classes_of_its_first_image(tmp_path):
    with Project(tmp_path / "a") as project:  # noqa: F811
        assert classes.defined(project) == ()
        project.add(picture(tmp_path / "a.png"), "ultrasound")
        project.add(volume(tmp_path / "b.nii.gz"), "ct")
        assert names(project) == BREAST and [one.key for one in classes.defined(project)] == ["5", "6", "7"]
        assert len({one.colour for one in classes.defined(project)}) == 3
    with Project(tmp_path / "b") as project:
        project.add(volume(tmp_path / "b.nii.gz"), "ct")
        assert names(project) == ["lesion", "normal"]


def test_a_project_from_before_has_none_until_they_are_defined(tmp_path):
    with Project(tmp_path / "project") as project:  # noqa: F811
        item = project.add(picture(tmp_path / "a.png"), "ultrasound")  # noqa: F811
        about = project.folder / "project.json"
        about.write_text(
            json.dumps({name: value for name, value in json.loads(about.read_text()).items() if name != "classes"})
        )
    with Project(tmp_path / "project") as project:
        assert classes.defined(project) == () and project.item(item.id).image_class == ""
        with pytest.raises(ValueError, match="defines no classes"):
            classes.classify(project, item.id, "benign")
        classes.define(project, ["benign"], "Anna")
        assert classes.classify(project, item.id, "benign").image_class == "benign"


def test_a_class_is_given_undone_and_logged_and_outlives_the_index(project, item, tmp_path):  # noqa: F811
    project.accept(item.id, drawn(1, FLAT))
    before = len(project.log())
    assert classes.classify(project, item.id, " Malignant", "Anna").image_class == "malignant"
    assert (
        classes.classify(project, item.id, "malignant", "Anna").status == "accepted"
        and len(project.log()) == before + 1
    )
    row = project.log()[-1]
    assert (row["action"], row["item"], row["user"], row["image_class"], row["before"]) == (
        "classified",
        item.id,
        "Anna",
        "malignant",
        "",
    )
    classes.classify(project, item.id, "normal", "Bert")
    assert (
        classes.undo(project, item.id, "Bert").image_class == "malignant"
        and project.log()[-1]["image_class"] == "malignant"
    )
    with pytest.raises(ValueError, match="'cyst'; allowed are benign, malignant, normal"):
        classes.classify(project, item.id, "cyst")
    project.rebuild()
    assert project.item(item.id).image_class == "malignant" and project.item(item.id).name == "a.png"
    project.close()
    (project.folder / "index.sqlite").unlink()
    with Project(project.folder) as again:
        assert again.item(item.id).image_class == "malignant" and again.item(item.id).class_before == "normal"


def test_definitions_are_kept_with_colours_and_keys(project, item):  # noqa: F811
    given = [ImageClass("BI-RADS 4a", "#112233", "k"), ImageClass("BI-RADS 5")]
    made = classes.define(project, given, "Anna")
    assert made == classes.defined(project) and made[0] == given[0] and made[1].colour and made[1].key == "5"
    count = len(project.log())
    assert classes.define(project, made) == made and len(project.log()) == count
    assert project.log()[-1]["action"] == "configured" and project.log()[-1]["value"][0] == {
        "name": "BI-RADS 4a",
        "colour": "#112233",
        "key": "k",
    }
    classes.classify(project, item.id, "BI-RADS 5")
    classes.define(project, ["benign"])
    assert project.item(item.id).image_class == "BI-RADS 5"
    assert [(one.name, one.images) for one in classes.count(project)] == [("benign", 0), ("BI-RADS 5", 1), ("", 0)]
    classes.define(project, [])
    assert classes.defined(project) == ()


@pytest.mark.parametrize(
    "given, match",
    [
        (["a", "A "], "two classes have the name 'a'"),
        ([""], "class ''"),
        (["a/b"], "class 'a/b'"),
        (["../x"], "class"),
        (["a\nb"], "class"),
        (["x" * 65], "class"),
        ([ImageClass("a", "red")], "colour 'red'"),
        ([ImageClass("a", "", "k"), ImageClass("b", "", "K")], "key 'k'"),
        ([ImageClass("a", "", "F1")], "key 'f1'"),
        ([str(n) for n in range(21)], "21 classes"),
    ],
)
def test_what_is_no_class_is_refused(project, item, given, match):  # noqa: F811
    with pytest.raises(ValueError, match=match):
        classes.define(project, given)
    assert names(project) == BREAST


def test_images_are_counted_by_class(project, tmp_path):  # noqa: F811
    ids = [project.add(picture(tmp_path / f"{seed}.png", seed)).id for seed in range(4)]
    for id, name in zip(ids, ("benign", "benign", "normal")):
        classes.classify(project, id, name)
    project.accept(ids[0], drawn(0, FLAT), seconds=3)
    assert [(one.name, one.images, one.accepted, one.seconds) for one in classes.count(project)] == [
        ("benign", 2, 1, 3.0), ("malignant", 0, 0, 0.0), ("normal", 1, 0, 0.0), ("", 1, 0, 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value", [[5], [{"name": "a/b"}], [{"name": ["x"]}], [{"colour": "#112233"}], [{"name": "a", "shape": 1}]]
)
def test_a_definition_that_makes_no_sense_is_none(project, item, value):  # noqa: F811
    project.append_log("configured", setting="classes", value=value)
    assert names(project) == []
    project.append_log("classified", item=item.id, image_class=["x"])
    assert project.item(item.id).image_class == ""


def test_a_class_without_a_key_has_none_when_it_is_read_or_defined_again(project, item):  # noqa: F811
    made = classes.define(project, ["a", "b"])
    made = classes.define(project, [ImageClass("A", key=""), made[1], ImageClass("c")])
    assert [one.key for one in made] == ["", "6", "5"] and classes.defined(project) == made
    assert [one.key for one in classes.define(project, ["a", "b", "c"])] == ["5", "6", "7"]


def test_a_sheet_that_was_opened_earlier_keeps_what_another_tab_has_changed_since(project, item):  # noqa: F811
    benign, malignant, normal = rows = [asdict(one) for one in classes.defined(project)]

    def save(*edited):
        event = gr.EventData(None, {"action": "define", "classes": list(edited), "edited_from": rows})
        class_bar.handle(project, event, "Anna")
        return [(one.name, one.key) for one in classes.defined(project)]

    assert save(benign | {"key": "k"}, malignant, {"name": "cyst"})[-1] == ("cyst", "5")
    assert save(benign, malignant | {"key": ""}, normal, {"name": "scar"}, {"name": "Cyst"}) == [
        ("benign", "k"),
        ("malignant", ""),
        ("scar", "5"),
        ("Cyst", ""),
    ]
    classes.define(project, [])
    assert save(benign, {"name": "scar"}) == [("benign", "5"), ("scar", "6")]  # the usual ones of before
