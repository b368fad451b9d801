"""Data of the image viewer for a slice: units, crops, millimetres of the patient, and pixel values."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from PIL import Image

from mpsams.app.components import viewer
from mpsams.app.components.templates import pieces
from mpsams.datasets import phantom
from mpsams.imaging import geometry
from mpsams.inference import case as _case
from mpsams.inference import open_case
from mpsams.inference.registry import ModelRegistry
from tests.support.affines import AFFINES

HOW = open_case.clustering_options(ModelRegistry("nowhere").clustering())


@pytest.fixture(scope="module")
def ct():
    volume = next(volume for volume in phantom.volumes() if volume.modality == "ct")
    return open_case.open_volume(volume, HOW)


def read_data(html: str, name: str) -> dict:
    return json.loads(unescape(re.search(rf'data-{name}="([^"]*)"', html)[1]))


@pytest.mark.parametrize("plane", geometry.PLANES)
@pytest.mark.parametrize("affine", AFFINES.values(), ids=list(AFFINES))
def test_a_position_is_that_of_the_voxel_that_is_shown(affine, plane):
    shape = (4, 5, 6)
    index_xyz = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    millimetres = index_xyz @ affine[:3, :3].T + affine[:3, 3]
    slow = np.stack([geometry.radiological_view(millimetres[..., axis], affine, plane) for axis in range(3)], axis=-1)
    for index in ((0, 0, 0), (1, 2, 3), (3, 3, 2)):
        np.testing.assert_allclose(geometry.position(affine, shape, plane, index), slow[index], atol=1e-9)


def test_the_lesion_of_a_volume_can_be_cropped_to_and_its_body(ct):
    about = read_data(viewer.slice_data(ct), "slice")
    wide, tall = about["size"]
    assert about["mm"] == pytest.approx(ct.scan.spacing()[2] * ct.shape_hw[1] / wide)
    rows, columns = np.nonzero(ct.truth_hw)
    x, y, width, height = about["lesion"]
    across, down = about["pixels"][:2]
    assert (
        x * across <= columns.min()
        and (x + width) * across > columns.max()
        and y * down <= rows.min()
        and (y + height) * down > rows.max()
    )
    assert x >= 0 and x + width <= wide + 1e-6 and width == height < wide
    assert about["body"] == pytest.approx(
        [ct.box.left / across, ct.box.top / down, ct.box.width / across, ct.box.height / down]
    )
    part = read_data(viewer.slice_data(ct, part=True), "slice")
    assert (
        part["size"] == [256, 256]
        and part["body"] is None
        and part["pixels"] == [ct.box.width / 256, ct.box.height / 256, ct.box.left, ct.box.top]
    )


def test_millimetres_are_not_mentioned_where_there_are_none():
    sample = open_case.open_sample(phantom.samples()[0], HOW)
    about = read_data(viewer.slice_data(replace(sample, truth_xyz=None)), "slice")
    assert about["mm"] is None and about["patient"] is None and about["lesion"] is None and about["body"] is None
    empty = viewer.slice_data(sample, np.zeros(sample.shape_hw, bool))
    assert read_data(empty, "slice")["lesion"] is None


def test_the_values_that_are_sent_are_those_of_the_slice(ct):
    about = read_data(viewer.slice_values(ct), "values")
    rgb = np.asarray(Image.open(io.BytesIO(base64.b64decode(about["picture"].partition(",")[2]))), np.uint16)
    values_hw = about["low"] + (rgb[..., 0] * 256.0 + rgb[..., 1]) / 65535 * (about["high"] - about["low"])
    np.testing.assert_allclose(values_hw, ct.scan.slice(ct.index, ct.plane), atol=0.05)
    assert (
        about["unit"] == "HU"
        and about["step"] == 1
        and about["key"] == read_data(viewer.slice_data(ct), "slice")["key"]
    )


def test_a_key_changes_with_the_slice_and_not_with_the_window(ct):
    other = _case.move_to_slice(ct, ct.plane, ct.index + 1, HOW)
    assert viewer.slice_key(other) != viewer.slice_key(ct) and viewer.image_key(other) == viewer.image_key(ct)
    assert viewer.slice_key(_case.set_window(ct, (0, 100))) == viewer.slice_key(ct)


def test_both_sides_of_a_line_are_cut_by_names_of_their_own():
    layers = viewer.wiped("one", "<b/>", "<i/>")
    assert layers.count("<clipPath") == 2 and "url(#one-left)" in layers and "url(#one-right)" in layers
    assert 'aria-label="Line between filled in on its left and original on its right"' in pieces().wipe(
        "Original", "Filled in"
    )
