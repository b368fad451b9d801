"""Several structures in a volume: carried on to other slices, filled in between, proposed, and taken back."""

from __future__ import annotations

import numpy as np
import pytest

from mpsams.annotation import structures
from mpsams.annotation.open_image import VolumePropagation
from mpsams.annotation.open_images import compress, restore
from mpsams.imaging import geometry
from tests.support import made_volumes
from tests.support.annotation_page import Page, project, registry  # noqa: F401
from tests.support.label_maps import box


@pytest.fixture
def two(project):  # noqa: F811
    structures.define(project, ["liver", "tumour"], "anne")
    return project


def test_a_volume_propagates_one_structure_and_takes_it_back(registry, two, tmp_path):  # noqa: F811
    item = two.add(made_volumes.save(tmp_path / "body.nii.gz", made_volumes.body(0)[0], "RAS"), "ct")
    tab = Page(registry, two)
    tab.open(item.id)
    tab.send("go", slice=3)
    map_hw = np.zeros(tab.shape, np.uint8)
    map_hw[10:30, 10:30] = 1
    map_hw[15:20, 15:20] = 2
    tab.send("save", map_hw)
    tab.send("go", slice=6)
    tab.send("save", map_hw)
    reply = tab.send("interpolate", structure=2)
    slices = geometry.radiological_view(two.labels(item.id), two.scan(item.id).affine)
    assert (slices[4] == 2).any() and not (slices[4] == 1).any() and np.array_equal(slices[3], map_hw)
    assert reply["state"]["structures"][1]["elsewhere"] == (slices == 2).sum() - (slices[6] == 2).sum()
    reply = tab.send("interpolate", structure=1)
    after = geometry.radiological_view(two.labels(item.id), two.scan(item.id).affine)
    assert (after[4] == 1).any() and reply["state"]["slices_to_undo"] == 2
    tab.send("undo_slices", structure=1)
    undone = geometry.radiological_view(two.labels(item.id), two.scan(item.id).affine)
    assert np.array_equal(undone, slices)
    tab.session.release()
    assert np.array_equal(tab.session.loader.restore_token(tab.slice_view["key"][:32]).mask_xyz, two.labels(item.id))


def test_the_proposal_of_a_slice_with_one_structure_of_several_keeps_its_label(registry, two, tmp_path):  # noqa: F811
    item = two.add(made_volumes.save(tmp_path / "body.nii.gz", made_volumes.body(0)[0], "RAS"), "ct")
    proposed_xyz = np.zeros(two.scan(item.id).voxels_xyz.shape, np.uint8)
    proposed_xyz[4:9, 4:9, :], proposed_xyz[12:15, 12:15, -1] = 1, 2
    two.propose(item.id, proposed_xyz, "a-network", "0")
    tab = Page(registry, two)
    tab.open(item.id)
    tab.send("go", slice=3)
    tab.send("save", np.zeros(tab.shape, np.uint8))
    tab.send("proposal", structure=2)
    assert set(np.unique(tab.mask)) == {0, 1}


def test_commands_on_several_slices_leave_what_was_drawn_of_others(registry, two, tmp_path):  # noqa: F811
    item = two.add(made_volumes.save(tmp_path / "body.nii.gz", made_volumes.body(0)[0], "RAS"), "ct")
    tab = Page(registry, two)
    tab.open(item.id)
    tab.send("go", slice=4)
    drawn_hw = np.uint8(2) * box(tab.shape, 8, 8, 4)
    tab.send("save", drawn_hw)
    for index in (3, 6):
        tab.send("go", slice=index)
        tab.send("save", np.uint8(1) * box(tab.shape, 4, 4, 12))
    tab.send("interpolate", structure=1)
    tab.send("go", slice=4)
    assert np.array_equal(tab.mask == 2, drawn_hw == 2) and (tab.mask == 1).sum() == 144 - 16
    tab.send("go", slice=3)
    tab.send("propagate", structure=1, step=1, count=1)
    tab.send("go", slice=4)
    assert np.array_equal(tab.mask == 2, drawn_hw == 2) and (tab.mask == 1).any()
    tab.send("copy", structure=1, step=-1)
    assert np.array_equal(tab.mask == 2, drawn_hw == 2) and (tab.mask == 1).sum() == 144 - 16
    tab.send("go", slice=5)
    assert (tab.mask == 1).sum() == 144  # filled in, so that another structure may take from it
    tab.send("go", slice=4)
    tab.send("propagate", structure=2, step=1, count=1)
    tab.send("go", slice=5)
    assert (tab.mask == 2).any() and (tab.mask == 1).any()


def test_what_undo_gave_back_is_left_by_the_next_command(registry, two, tmp_path):  # noqa: F811
    item = two.add(made_volumes.save(tmp_path / "body.nii.gz", made_volumes.body(0)[0], "RAS"), "ct")
    map_xyz = np.zeros(two.scan(item.id).voxels_xyz.shape, np.uint8)
    slices = geometry.radiological_view(map_xyz, two.scan(item.id).affine)
    slices[3:5, 8:12, 8:12] = 2
    slices[2, 4:16, 4:16] = slices[6, 4:16, 4:16] = 1
    two.save(item.id, map_xyz)
    tab = Page(registry, two)
    tab.open(item.id)
    tab.send("go", slice=3)
    tab.send("propagate", structure=2, step=1, count=1)
    tab.send("undo_slices")
    tab.send("interpolate", structure=1)
    tab.send("go", slice=4)
    assert np.array_equal(tab.mask == 2, slices[4] == 2) and (tab.mask == 1).any()


def test_nothing_is_followed_on_an_image_that_was_compressed(registry, two, tmp_path):  # noqa: F811
    item = two.add(made_volumes.save(tmp_path / "body.nii.gz", made_volumes.body(0)[0], "RAS"), "ct")
    tab = Page(registry, two)
    tab.open(item.id)
    image = tab.session.image
    image.propagation = VolumePropagation(1, iter([]))
    image.count_elsewhere("axial", 0)
    restored = restore(compress(image), image.case)
    assert restored.propagation is None
    assert np.array_equal(restored.count_elsewhere("axial", 0), image.count_elsewhere("axial", 0))
