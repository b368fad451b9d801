"""A project that another process has open, used as if it were one's own."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from mpsams.annotation import remote_project, structures, transfer
from mpsams.annotation.disk import ReadOnly
from mpsams.annotation.project import ConflictError, Project
from mpsams.remote import Caller, SharedObjects
from tests.support.projects import drawn, picture, volume


@pytest.fixture
def project(tmp_path):
    with Project(tmp_path / "project") as opened:
        opened.add(picture(tmp_path / "one.png", 1))
        opened.add(volume(tmp_path / "two.nii.gz", 2))
        yield opened


@pytest.fixture
def remote(project):
    objects = SharedObjects(lambda target: remote_project.find(project, target))
    yield remote_project.connect(Caller(objects.address, objects.key))
    objects.close()


def test_everything_public_of_a_project_is_there(project, remote):
    names = [name for name, _ in inspect.getmembers(Project) if not name.startswith("_")]
    assert {"items", "save", "exclusive", "description", "has_default_classes"} <= set(names)
    for name in (*names, "folder", "accepted", "read_only", "has_labels"):
        assert callable(getattr(remote, name)) == callable(getattr(project, name)), name
    assert not hasattr(remote, "_write")


def test_masks_saved_from_elsewhere_are_the_project_s(project, remote):
    flat, deep = remote.items()
    assert (flat, deep) == project.items()
    for item in (flat, deep):
        mask_xyz = drawn(3, item.shape_xyz)
        remote.save(item.id, mask_xyz, user="AB", seconds=2.0)
        assert np.array_equal(project.mask(item.id), mask_xyz) and np.array_equal(remote.mask(item.id), mask_xyz)
        assert remote.item(item.id).status == "in work" and remote.log() == project.log()
        assert np.array_equal(remote.scan(item.id).voxels_xyz, project.scan(item.id).voxels_xyz)
    remote.accept(deep.id, user="AB")
    assert remote.counts()["accepted"] == 1 and remote.next() == project.next()
    with pytest.raises(ConflictError):
        remote.save(flat.id, drawn(4, flat.shape_xyz), expected="0" * 64)
    remote.remove(deep.id)
    assert project.items() == remote.items() and len(project.items()) == 1
    with pytest.raises(ValueError, match=deep.id):
        remote.scan(deep.id)


def test_an_upload_from_elsewhere_is_added_with_what_was_noticed(project, remote, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    added, notes = transfer.add(remote, [picture(tmp_path / "new.png", 9), broken], "ultrasound", "AB")
    assert added == 1 and len(notes) == 1 and "Image 2" in notes[0]


def test_structures_defined_from_elsewhere_turn_masks_into_label_maps(project, remote):
    assert not remote.has_labels
    structures.define(remote, ["lesion", "muscle"], "AB")
    assert remote.has_labels and project.has_labels
    assert [one.name for one in structures.defined(remote)] == ["lesion", "muscle"]
    flat = remote.items()[0]
    remote.save(flat.id, np.full(flat.shape_xyz, 2, np.uint8), user="AB")
    assert set(np.unique(project.labels(flat.id))) == {2}


def test_a_second_reader_s_project_lies_inside(project, remote):
    inside = remote.open_inside("readers/anne")
    inside.append_log("opened", "anne")
    assert project.open_inside("readers/anne").log()[-1]["user"] == "anne"
    assert remote.open_inside("readers/anne") is inside
    assert inside.folder == project.folder / "readers/anne" and inside.open_inside("x").folder == inside.folder / "x"


def test_exclusive_use_keeps_the_owner_out(project, remote):
    locks = [project._lock, *(project._image_locks[item.id] for item in project.items())]
    with remote.exclusive(with_images=True):
        assert not any(lock.acquire(blocking=False) for lock in locks)
        remote.append_log("noted", "AB")
    assert all(lock.acquire(blocking=False) for lock in locks) and project.log()[-1]["action"] == "noted"


def test_a_project_to_look_at_only_refuses_to_be_written(tmp_path, project):
    project.close()
    project.read_only = True
    objects = SharedObjects(lambda target: remote_project.find(project, target))
    remote = remote_project.connect(Caller(objects.address, objects.key))
    assert remote.read_only
    with pytest.raises(ReadOnly, match="look at only"):
        remote.refuse_read_only()
    objects.close()
