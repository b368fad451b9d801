"""A project written by version 1 of the format is opened, listed, edited, exported and retrained on by this one.

tests/data/project-v1.zip was written by the code at commit 10d98c7 from phantoms: 12 accepted pictures, others in every
state, one volume, two rounds of retraining of which the first was taken back, and one line of each action in the log.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mpsams.annotation import adoption, retraining, retraining_run, transfer
from mpsams.annotation.project import Project

ARCHIVE = Path(__file__).parents[1] / "data" / "project-v1.zip"
COUNTS = {"new": 1, "proposed": 1, "in work": 3, "accepted": 12, "skipped": 1}


@pytest.fixture
def folder(tmp_path) -> Path:
    with zipfile.ZipFile(ARCHIVE) as file:
        file.extractall(tmp_path)
    return tmp_path / "project"


@pytest.mark.parametrize("without", [(), ("index.sqlite",)])
def test_a_project_of_version_1_is_listed_as_it_was(folder, without):
    for name in without:
        (folder / name).unlink()
    with Project(folder) as project:
        assert project.counts() == COUNTS and len(project.log()) == 59
        assert project.name(project.items()[0].id) == "phantom 0.png"
        assert all(project.mask(item.id) is not None for item in project.items("accepted"))
        assert {item.modality for item in project.items()} == {"ultrasound", "ct"}
        assert project.queue()[0].priority == 0.9 and {row["user"] for row in project.log()} == {"Dr. A", "Dr. B", ""}
        actions = [row["action"] for row in project.log()]
        assert (
            actions[-6:] == ["recovered", "missing", "discarded", "learned", "rolled back", "learned"]
            and "prioritised" in actions
        )
    assert json.loads((folder / "project.json").read_text())["version"] == 2


def test_a_project_of_version_1_is_edited_and_exported(folder, tmp_path):
    before = (folder / "log.jsonl").read_bytes()
    with Project(folder) as project:
        item = project.items("accepted")[0]
        mask_xyz = ~project.mask(item.id)
        project.reopen(item.id)
        project.accept(item.id, mask_xyz)
        exported = transfer.write(project, "folder", "accepted", "lesion", tmp_path / "export")
        assert len(exported.places) == 12 and None not in exported.places.values()
    assert (folder / "log.jsonl").read_bytes().startswith(before)
    with Project(folder) as project:
        assert project.counts() == COUNTS and np.array_equal(project.mask(item.id), mask_xyz)


def test_what_version_1_has_retrained_is_still_known(folder):
    evaluation = retraining_run.last(folder).evaluation()
    assert (evaluation.images, evaluation.learned, evaluation.manually_edited, evaluation.better) == (3, 9, 2, False)
    assert [path.stem for path in adoption.promoted(folder)] == ["corrected-2-mps_ams-seg-10"]
    held = json.loads((folder / "held_back.json").read_text())["items"]
    assert len(held) == 3 and set(held) <= {path.stem for path in (folder / "accepted" / "images").iterdir()}
    base = adoption.promoted(folder)[0]
    run, lock = retraining.prepare(folder, base, base.stem, epochs=1)
    lock.close()
    assert json.loads((run.folder / "plan.json").read_text())["held_back"] == held
    assert json.loads((folder / "holdout.json").read_text())["items"] == held
