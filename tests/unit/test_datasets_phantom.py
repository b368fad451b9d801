"""The phantoms are reproducible, their masks are true, and each has its modality's statistics."""

import hashlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from mpsams.datasets import available, open_dataset, phantom
from mpsams.imaging import MODALITIES

DRAWERS = {"ultrasound": phantom.ultrasound, "ct": phantom.ct, "t1": phantom.t1}
SEEDS = {"ultrasound": range(6), "ct": range(2), "t1": range(6)}
RAYLEIGH = np.sqrt(np.pi / (4 - np.pi))  # mean / standard deviation, 1.913


@cache
def drawn(kind: str, seed: int, lesion: bool = True) -> tuple[np.ndarray, np.ndarray]:
    return DRAWERS[kind](seed, lesion)


def with_lesion(kind: str) -> list[tuple[np.ndarray, np.ndarray]]:
    return [drawn(kind, seed) for seed in SEEDS[kind]]


def test_is_listed_once_and_opens_without_a_folder():
    assert available().count("phantom") == 1
    dataset = open_dataset("phantom", None)
    assert (dataset.name, dataset.modality, len(dataset)) == ("phantom", "ultrasound", 64)
    assert len(set(dataset.cases)) == 64 and dataset.groups == dataset.cases


def test_every_fourth_case_is_normal():
    dataset = phantom.load()
    samples = [dataset[index] for index in (0, 2, 3, 63)]
    assert [bool(sample.mask.any()) for sample in samples] == [True, True, False, False]
    for sample in samples:
        assert sample.image.dtype == np.float32 and sample.mask.dtype == bool
        assert sample.image.shape == sample.mask.shape
        height, width = sample.image.shape
        assert 380 <= height <= 440 and 500 <= width <= 580
        assert sample.image.min() >= 0 and sample.image.max() <= 1


def test_a_case_does_not_depend_on_what_was_read_before():
    forwards = [phantom.load().read(case) for case in ("ultrasound-007", "ultrasound-012")]
    backwards = [phantom.load().read(case) for case in ("ultrasound-012", "ultrasound-007")][::-1]
    for first, second in zip(forwards, backwards, strict=True):
        assert first.case == second.case
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.mask, second.mask)


def test_a_case_is_the_same_in_another_process():
    code = "from mpsams.datasets import phantom as p; import sys, hashlib\n"
    code += "for part in p.t1(5): sys.stdout.write(hashlib.sha256(part.tobytes()).hexdigest())"
    root = Path(phantom.__file__).parents[3]
    other = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert other.stdout == "".join(hashlib.sha256(part.tobytes()).hexdigest() for part in drawn("t1", 5))


@pytest.mark.parametrize("kind", DRAWERS)
def test_seeds_differ(kind):
    first, second = drawn(kind, 0)[1], drawn(kind, 1)[1]
    assert first.shape != second.shape or (first != second).any()


def test_the_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()
    phantom.t1(20)
    np.testing.assert_array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("case", ["ultrasound-064", "ultrasound-7", "ct-000", ""])
def test_an_unknown_case_is_refused_by_name(case):
    with pytest.raises(ValueError, match=f"'{case}'.*ultrasound-000 to ultrasound-063"):
        phantom.load().read(case)


@pytest.mark.parametrize("draw", DRAWERS.values())
def test_a_negative_seed_is_refused(draw):
    with pytest.raises(ValueError, match="-1.*0 or more"):
        draw(-1)


@pytest.mark.parametrize(
    ("kind", "smallest", "largest"), [("ultrasound", 0.004, 0.15), ("ct", 0.004, 0.03), ("t1", 0.004, 0.04)]
)
def test_lesions_are_of_a_plausible_size_and_inside(kind, smallest, largest):
    for image, mask in with_lesion(kind):
        assert image.dtype == np.float32 and mask.dtype == bool and image.shape == mask.shape
        assert np.isfinite(image).all()
        assert smallest < mask.mean() < largest
        assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


@pytest.mark.parametrize("kind", DRAWERS)
def test_without_a_lesion_the_mask_is_empty(kind):
    assert not drawn(kind, 0, lesion=False)[1].any()


@pytest.mark.parametrize(("kind", "darker"), [("ultrasound", True), ("t1", True), ("ct", False)])
def test_lesions_stand_out_from_the_tissue_around_them(kind, darker):
    contrasts = []
    for image, mask in with_lesion(kind):
        near, far = binary_dilation(mask, iterations=6), binary_dilation(mask, iterations=16)
        contrasts.append(np.median(image[mask]) - np.median(image[far & ~near]))
    unit = {"ultrasound": 0.15, "t1": 15, "ct": 15}[kind]
    assert np.mean(contrasts) < -unit if darker else np.mean(contrasts) > unit
    assert (np.sign(contrasts) == (-1 if darker else 1)).mean() >= 0.8


def test_speckle_is_rayleigh_with_unit_power_at_every_depth():
    speckle = np.abs(phantom.speckle(np.random.default_rng(0), (400, 600)))
    for band in np.split(speckle, 4):
        assert band.mean() / band.std() == pytest.approx(RAYLEIGH, rel=0.05)
        assert (band**2).mean() == pytest.approx(1, rel=0.1)


def test_speckle_grains_are_wider_than_deep_and_widen_with_depth():
    z = phantom.speckle(np.random.default_rng(1), (400, 600))

    def alike(rows: slice, axis: int) -> float:
        part = z[rows]
        shifted = np.roll(part, 3, axis=axis)
        return float((part * shifted.conj()).mean().real)

    shallow, deep = alike(slice(0, 100), 1), alike(slice(300, 400), 1)
    assert deep > shallow + 0.2
    assert shallow > alike(slice(0, 100), 0) + 0.02


def test_ct_holds_air_fat_muscle_and_bone_in_hounsfield_units():
    for image, _ in with_lesion("ct"):
        share = {
            name: np.mean((image > low) & (image < high))
            for name, low, high in (
                ("air", -1025, -950),
                ("fat", -130, -70),
                ("muscle", 35, 85),
                ("vessel", 140, 220),
                ("bone", 500, 1300),
            )
        }
        assert image.shape == (512, 512) and image.min() >= -1024 and 900 < image.max() < 1300
        assert 0.4 < share["air"] < 0.75 and share["fat"] > 0.05 and share["muscle"] > 0.08
        assert share["vessel"] > 0.001 and 0.005 < share["bone"] < 0.06
        assert np.abs(np.median(image[:20, :20]) + 1000) < 5


def test_the_ct_tumour_is_25_to_50_units_denser_than_muscle():
    for image, mask in with_lesion("ct"):
        rim = mask & binary_dilation(~mask, iterations=9) & ~binary_dilation(~mask, iterations=4)
        assert 58 + 20 < np.median(image[rim]) < 58 + 60


def test_t1_white_matter_is_brighter_than_grey_than_fluid():
    def median(rows: slice, left: int, right: int) -> float:
        """Over six heads and both sides; rows and columns in millimetres from the centre."""
        parts = [
            np.r_[image[rows, 128 + left : 128 + right].ravel(), image[rows, 128 - right : 128 - left].ravel()]
            for image, _ in (drawn("t1", seed, lesion=False) for seed in SEEDS["t1"])
        ]
        return float(np.median(np.concatenate(parts)))

    white = median(slice(128 - 48, 128 - 40), 12, 18)  # before the frontal horns
    thalamus = median(slice(128 + 4, 128 + 12), 8, 14)
    fluid = median(slice(128 - 2, 128 + 10), 0, 1)  # third ventricle
    assert white - 10 > thalamus > fluid + 20
    scalp = max(np.percentile(image, 99) for image, _ in with_lesion("t1"))
    assert scalp > white + 40


def test_t1_background_noise_is_rayleigh_of_sigma_3_5():
    corners = np.concatenate([image[:25, :25].ravel() for image, _ in with_lesion("t1")])
    assert corners.min() >= 0
    assert corners.mean() == pytest.approx(3.5 * np.sqrt(np.pi / 2), rel=0.05)
    assert corners.mean() / corners.std() == pytest.approx(RAYLEIGH, rel=0.05)


def test_built_in_samples_cover_all_modalities_and_are_named_uniquely():
    built_in = phantom.samples()
    assert {entry.modality for entry in (*built_in, *phantom.volumes())} == set(MODALITIES)
    assert len({sample.title for sample in built_in}) == len(built_in)
    drawn_samples = [sample.draw() for sample in built_in]
    assert len({sample.case for sample in drawn_samples}) == len(built_in)
    for sample, entry in zip(drawn_samples, built_in, strict=True):
        assert sample.image.ndim == 2 and sample.image.shape == sample.mask.shape
        assert sample.mask.any() == ("normal" not in entry.title)


def test_a_built_in_ultrasound_is_the_data_sets_case_of_that_name():
    sample = phantom.samples()[0].draw()
    np.testing.assert_array_equal(sample.image, phantom.load().read(sample.case).image)
