"""Data of the three planes of a volume: one voxel in all of them and its millimetres for every affine, what is sent,
and keys.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from mpsams import inference, transforms
from mpsams.app.components import volume_data
from mpsams.app.components.planes import choose_network
from mpsams.app.components.volume_report import Whole
from mpsams.datasets import phantom
from mpsams.imaging import Scan, geometry
from mpsams.inference import case as _case
from mpsams.inference import open_case
from mpsams.inference.comparison import SlicePredictions
from mpsams.inference.registry import ModelRegistry
from mpsams.inference.volumes import VolumePrediction
from tests.support.affines import AFFINES, SHAPE, STRAIGHT

OPTIONS = open_case.clustering_options(ModelRegistry("nowhere").clustering())
NETWORK = "busi-mps_ams-seg-10"


@pytest.fixture(scope="module")
def ct():
    volume = next(volume for volume in phantom.volumes() if volume.modality == "ct")
    return open_case.open_volume(volume, OPTIONS)


@pytest.fixture(scope="module")
def whole(ct):
    probabilities = np.zeros((48, 64, 64), np.float32)
    probabilities[20:30, 20:40, 30:50] = 0.6
    return Whole(ct.scan, {NETWORK: VolumePrediction(probabilities, (ct.box,) * 48)})


def scan_of(affine: np.ndarray | None, shape=SHAPE) -> Scan:
    """Every voxel has a value of its own."""
    return Scan(np.arange(math.prod(shape), dtype=np.int16).reshape(shape), "mri", "made", affine=affine)


def case_of(ct, scan: Scan):
    return replace(ct, scan=scan, truth_xyz=None, plane="axial", index=0, span=(0, 119), display_span=(0, 119))


def read(html: str, name: str) -> dict:
    return json.loads(unescape(re.search(rf'data-{name}="([^"]*)"', html)[1]))


def unpack(text: str, shape_whs, bits: bool = False) -> np.ndarray:
    """The array that ``pack`` packed: (S, H, W)."""
    data = np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8)
    shape = tuple(shape_whs)[::-1]
    return (
        np.unpackbits(data, count=math.prod(shape), bitorder="little").astype(bool).reshape(shape)
        if bits
        else data.reshape(shape)
    )


@pytest.mark.parametrize("affine", AFFINES.values(), ids=list(AFFINES))
def test_a_voxel_is_the_same_in_all_planes_and_its_millimetres_are_right(ct, affine):
    scan = scan_of(affine)
    axial, coronal, sagittal = (scan.shown(plane) for plane in geometry.PLANES)
    about = read(volume_data.describe(case_of(ct, scan), None, "", {}), "planes")
    first, *steps = np.array(about["patient"])
    slices, rows, columns = axial.shape
    assert about["shape"] == about["whole"] == [columns, rows, slices]
    for s, h, w in np.ndindex(axial.shape):
        voxel = axial[s, h, w]
        assert coronal[h, slices - 1 - s, w] == voxel == sagittal[w, slices - 1 - s, h]  # as static/planes.js cuts them
        stored = np.argwhere(scan.voxels_xyz == voxel)[0]
        np.testing.assert_allclose(
            first + np.array([w, h, s]) @ steps, affine[:3, :3] @ stored + affine[:3, 3], atol=2e-3
        )
    np.testing.assert_allclose(about["mm"], np.linalg.norm(steps, axis=1), rtol=1e-3)


@pytest.mark.parametrize("affine", STRAIGHT.values(), ids=list(STRAIGHT))
def test_sides_are_where_radiologists_expect_them(affine):
    assert volume_data.letters_around(affine, "axial") == ["R", "L", "A", "P"]
    assert volume_data.letters_around(affine, "coronal") == ["R", "L", "S", "I"]
    assert volume_data.letters_around(affine, "sagittal") == ["A", "P", "S", "I"]


def test_a_slanting_direction_has_two_letters_the_nearest_first():
    for degrees, letters in ((0, "L"), (14, "L"), (16, "LP"), (50, "PL"), (80, "P")):
        assert geometry.letters(np.array([-np.cos(np.radians(degrees)), -np.sin(np.radians(degrees)), 0])) == letters
    assert geometry.letters(np.array([1, 1.01, 1.02])) == "SAR"


def test_voxels_are_sent_at_the_display_window_and_in_the_order_of_axial_slices(ct):
    about, sent = read(volume_data.describe(ct, None, "", {}), "planes"), read(volume_data.encode_volume(ct), "volume")
    codes_shw = unpack(sent["codes"], about["shape"])
    low, high = ct.display_span
    expected = transforms.to_unit(np.stack([ct.scan.slice(k) for k in range(ct.slices)]), ct.display_span)
    np.testing.assert_allclose(codes_shw / 255, expected, atol=0.51 / 255)
    assert (
        sent["window"] == [low, high]
        and sent["key"] == about["volume"]
        and about["unit"] == "HU"
        and about["page"] == [2, ct.index]
    )


def test_of_a_large_volume_every_second_voxel_along_the_finest_axes_is_sent_and_reported(ct, monkeypatch):
    monkeypatch.setattr(volume_data.choose_steps, "__defaults__", (48 * 100 * 100,))
    assert volume_data.choose_steps(ct) == (1, 2, 2)
    about = read(volume_data.describe(ct, None, "", {}), "planes")
    assert (
        about["shape"] == [96, 96, 48]
        and about["whole"] == [192, 192, 48]
        and about["step"] == [2, 2, 1]
        and about["mm"] == pytest.approx([3.2, 3.2, 4])
    )
    assert "show every second row and every second column" in about["note"]
    codes_shw = unpack(read(volume_data.encode_volume(ct), "volume")["codes"], about["shape"])
    np.testing.assert_allclose(
        codes_shw[7] / 255, transforms.to_unit(ct.scan.slice(7)[::2, ::2], ct.display_span), atol=0.51 / 255
    )
    first, across, down, _ = np.array(about["patient"])
    np.testing.assert_allclose(
        first + 5 * across + 3 * down,
        geometry.position(ct.scan.affine, ct.scan.voxels_xyz.shape, "axial", (0, 6, 10)),
        atol=1e-3,
    )


def test_structures_are_sent_each_in_its_colour_with_the_truth_first(ct):
    map_xyz = np.zeros(ct.scan.voxels_xyz.shape, np.uint8)
    map_xyz[40:60, 40:60, 10:20], map_xyz[45:50, 45:50, 12:15] = 1, 2
    structures = ((2, "tumour", "#ff0000"), (1, "gland", "#00ff00"))
    case = replace(ct, truth_xyz=map_xyz == 2, truth_map=_case.TruthMap(map_xyz, structures))
    body, truth, gland = read(volume_data.encode_outlines(case, None, "", {}), "outlines")["layers"]
    assert [(one["kind"], one["title"], one["colour"]) for one in (truth, gland)] == [
        ("truth", "tumour, the truth", "#ff0000"),
        ("structure 1", "gland", "#00ff00"),
    ]
    for one, label in ((truth, 2), (gland, 1)):
        expected = geometry.radiological_view(map_xyz, ct.scan.affine) == label
        assert np.array_equal(unpack(one["bits"], one["shape"], bits=True), expected)
    renamed = replace(case, truth_map=_case.TruthMap(map_xyz, (structures[0], (1, "organ", "#00ff00"))))
    keys = {volume_data.outlines_key(each, None, "", {}) for each in (ct, case, renamed)}
    assert len(keys) == 3
    moved = _case.move_to_slice(case, "axial", 3, OPTIONS)
    assert moved.truth_map is case.truth_map and _case.set_truth(case, None).truth_map is None


def test_voxels_are_left_out_until_few_enough_are_left(ct):
    steps = volume_data.choose_steps(case_of(ct, scan_of(np.diag([-1.0, -1, 1, 1]))), 1)
    assert [-(-count // step) for count, step in zip((6, 5, 4), steps, strict=True)] == [1, 1, 1]


def test_outlines_are_the_truth_and_the_network_with_their_millilitres(ct, whole):
    sent = read(volume_data.encode_outlines(ct, whole, NETWORK, {}), "outlines")
    body, truth, network = sent["layers"]
    assert (truth["kind"], network["kind"], network["title"]) == ("truth", "network", "MPS-AMS")
    truth_shw = geometry.radiological_view(ct.truth_xyz, ct.scan.affine)
    assert np.array_equal(unpack(truth["bits"], truth["shape"], bits=True), truth_shw)
    assert truth["ml"] == pytest.approx(truth_shw.sum() * 4 * 1.6 * 1.6 / 1000)
    mask_shw = unpack(network["bits"], network["shape"], bits=True)
    expected = inference.to_image(whole.predictions[NETWORK].probability_nss[25], ct.shape_hw, ct.box) >= 0.5
    assert expected.any() and np.array_equal(mask_shw[25], expected) and not mask_shw[19].any()
    none = read(volume_data.encode_outlines(ct, whole, NETWORK, {NETWORK: 0.7}), "outlines")["layers"][2]
    assert none["ml"] == 0 and not unpack(none["bits"], none["shape"], bits=True).any()
    solid = unpack(body["bits"], body["shape"], bits=True)
    assert body["ml"] is None and solid.size <= volume_data.MOST_OF_BODY and 0.1 < solid.mean() < 0.7


def test_keys_change_with_what_they_stand_for(ct, whole):
    outlines = {
        volume_data.outlines_key(ct, predictions, network, thresholds)
        for predictions, network, thresholds in ((None, "", {}), (whole, NETWORK, {}), (whole, NETWORK, {NETWORK: 0.3}))
    }
    other = Whole(
        ct.scan,
        {NETWORK: replace(whole.predictions[NETWORK], probability_nss=whole.predictions[NETWORK].probability_nss / 2)},
    )
    outlines |= {
        volume_data.outlines_key(ct, other, NETWORK, {}),
        volume_data.outlines_key(replace(ct, truth_xyz=~ct.truth_xyz), None, "", {}),
    }
    assert len(outlines) == 5
    moved, windowed = _case.move_to_slice(ct, "coronal", 3, OPTIONS), _case.set_window(ct, (0, 100))
    assert (
        volume_data.outlines_key(moved, whole, NETWORK, {})
        == volume_data.outlines_key(windowed, whole, NETWORK, {})
        == volume_data.outlines_key(ct, whole, NETWORK, {})
    )
    assert volume_data.volume_key(moved) == volume_data.volume_key(ct) != volume_data.volume_key(windowed)


def test_pixel_space_has_a_sentence_and_a_picture_nothing(ct):
    flat = open_case.open_sample(phantom.samples()[0], OPTIONS)
    assert read(volume_data.describe(flat, None, "", {}), "planes") == {}
    stack = case_of(ct, scan_of(None))
    assert "planes need a volume" in read(volume_data.describe(stack, None, "", {}), "planes")["sentence"]
    assert volume_data.encode_volume(stack) == volume_data.encode_outlines(stack, None, "", {}) == ""


def test_the_large_network_is_outlined_if_it_saw_the_volume(ct, whole):
    predictions = SlicePredictions(ct, {}, "truth")
    assert choose_network(ct, predictions, whole) == NETWORK and choose_network(ct, predictions, None) == ""
    two = Whole(ct.scan, {"a": whole.predictions[NETWORK], NETWORK: whole.predictions[NETWORK]})
    assert (
        choose_network(ct, replace(predictions, shown=NETWORK), two) == NETWORK
        and choose_network(ct, predictions, two) == "a"
    )
    assert choose_network(replace(ct, scan=scan_of(np.eye(4))), predictions, whole) == ""
