"""Units, sizes, normalisation and augmentation: exact where they can be."""

import numpy as np
import pytest
import torch
from PIL import Image

from mpsams import transforms
from mpsams.transforms import Augmentation, Box

ALL = Augmentation(flip=0.5, rotation=20, zoom=0.2, shift=0.1, contrast=0.3, brightness=0.2, gamma=0.4)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(batch=4, side=32, seed=0):
    return torch.rand(batch, 1, side, side, generator=seeded(seed))


def unit(values, modality):
    return transforms.to_unit(values, transforms.window(values, modality))


def test_units_of_each_modality():
    np.testing.assert_allclose(unit(np.array([[-0.5, 0.25, 1.5]]), "ultrasound"), [[0, 0.25, 1]])
    hounsfield = np.array([[-1000.0, -160, 40, 140, 240, 3000]])
    np.testing.assert_allclose(unit(hounsfield, "ct"), [[0, 0, 0.5, 0.75, 1, 1]], atol=1e-6)
    # percentiles 1 and 99 of 1..101 are 2 and 100
    t1 = np.concatenate([np.zeros(50), np.arange(1, 102)]).reshape(1, -1)
    found = unit(t1, "mri")
    np.testing.assert_allclose(found[0, 50:], np.clip((np.arange(1, 102) - 2) / 98, 0, 1), atol=1e-6)
    assert not found[0, :50].any()


@pytest.mark.parametrize("modality", ["ultrasound", "ct", "mri"])
@pytest.mark.parametrize("value", [0.0, 7.0])
def test_units_of_a_constant_image_are_finite(modality, value):
    found = unit(np.full((4, 4), value), modality)
    assert found.dtype == np.float32 and np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
    assert modality != "mri" or not found.any()


def test_unknown_modality_is_named():
    with pytest.raises(ValueError, match="'pet'.*ultrasound, ct, mri"):
        transforms.window(np.zeros((2, 2)), "pet")


def neck(spacing_hw, middle=(210.0, 140.0), radii=(70.0, 50.0), field=(400.0, 400.0)) -> np.ndarray:
    """Hounsfield units of an elliptic body in air, all in millimetres, and a table and a rod of a head
    rest beside it.
    """
    y, x = np.meshgrid(
        *((np.arange(round(side / mm)) + 0.5) * mm for side, mm in zip(field, spacing_hw)), indexing="ij"
    )
    image = np.where(((y - middle[0]) / radii[0]) ** 2 + ((x - middle[1]) / radii[1]) ** 2 < 1, 50.0, -1000.0)
    image[(np.abs(y - 385) < 6) & (x > 20)] = 100  # a table, wider than the body but of less area
    image[(y - 30) ** 2 + (x - 370) ** 2 < 8**2] = 1000
    return image.astype(np.float32)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 2.0), (1.0, 2.5), (3.2, 0.8), (4.0, 4.0)])
@pytest.mark.parametrize("middle", [(210.0, 140.0), (120.0, 300.0)])
def test_a_ct_slice_is_looked_at_in_a_square_of_millimetres_around_the_body(spacing, middle):
    box = transforms.frame(neck(spacing, middle), spacing, "ct")
    start, size = np.array(box[:2]) * spacing, np.array(box[2:]) * spacing
    assert np.abs(size - 256).max() <= max(spacing) / 2
    assert np.abs(start + size / 2 - middle).max() <= 1.01 * max(spacing)
    # another field of view, the same place
    far = transforms.frame(neck(spacing, middle, field=(800.0, 600.0)), spacing, "ct")
    assert far == box


def test_the_square_moves_with_the_body_and_not_with_what_lies_beside_it():
    image = neck((2.0, 2.0))
    box = transforms.frame(image, (2.0, 2.0), "ct")
    moved = np.roll(image[:185], (12, -30), axis=(0, 1))
    assert transforms.frame(moved, (2.0, 2.0), "ct") == Box(box.top + 12, box.left - 30, 128, 128)
    alone = np.where(image > 60, -1000, image)  # without table and rod
    assert transforms.frame(alone, (2.0, 2.0), "ct") == box
    split = image.copy()
    split[:, 69:71] = -1000  # two pieces of a body: the larger counts
    halves = (
        transforms.frame(np.where(np.arange(200) < 70, split, -1000), (2.0, 2.0), "ct"),
        transforms.frame(np.where(np.arange(200) > 70, split, -1000), (2.0, 2.0), "ct"),
    )
    assert transforms.frame(split, (2.0, 2.0), "ct") in halves and halves[0] != halves[1]


def test_a_slice_of_air_is_looked_at_in_its_middle_and_other_images_whole():
    air = np.full((100, 140), -1000.0)
    assert transforms.frame(air, (2.0, 4.0), "ct") == Box(50 - 64, 70 - 32, 128, 64)
    # -300 is air, and no side is 0
    assert transforms.frame(np.full((4, 4), -300.0), (300.0, 256.0), "ct") == Box(2, 2, 1, 1)
    for modality, spacing in (("mri", (2.0, 2.0)), ("ultrasound", (2.0, 2.0)), ("ct", None)):
        assert transforms.frame(air, spacing, modality) is None


def slow_crop(image_hw, box):
    rows, columns = image_hw.shape
    part = np.zeros((box.height, box.width), image_hw.dtype)
    for i in range(box.height):
        for j in range(box.width):
            y, x = box.top + i, box.left + j
            if 0 <= y < rows and 0 <= x < columns:
                part[i, j] = image_hw[y, x]
    return part


BOXES = [
    Box(3, 4, 5, 6),
    Box(0, 0, 12, 17),
    Box(-3, -2, 30, 40),
    Box(-4, 5, 8, 6),
    Box(9, 14, 8, 9),
    Box(2, -5, 6, 8),
    Box(11, 16, 1, 1),
    Box(-5, 3, 5, 6),
    Box(12, 3, 4, 4),
    Box(3, 17, 4, 4),
    Box(3, -9, 4, 9),
    Box(-50, -50, 7, 7),
    Box(90, 90, 7, 7),
    Box(-50, 4, 7, 7),
    Box(15, 3, 7, 4),
    Box(3, 19, 4, 8),
    Box(-9, 3, 4, 4),
]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("kind", [np.float32, np.bool_])
def test_crop_is_the_loop_and_paste_takes_it_back(box, kind):
    image = (
        (np.random.default_rng(0).random((12, 17)) + 0.1).astype(np.float32)
        if kind is np.float32
        else np.ones((12, 17), bool)
    )
    part = transforms.crop(image, box)
    assert part.dtype == kind and np.array_equal(part, slow_crop(image, box))
    back = transforms.paste(part, box, image.shape)
    y, x = np.indices(image.shape)
    inside = (y >= box.top) & (y < box.top + box.height) & (x >= box.left) & (x < box.left + box.width)
    assert back.dtype == kind and np.array_equal(back, np.where(inside, image, 0))
    assert np.array_equal(transforms.crop(back, box), part)
    filled = transforms.paste(np.ones((box.height, box.width), kind), box, image.shape)
    assert np.array_equal(filled.astype(bool), inside)
    several = transforms.crop(np.stack([image, image[::-1]]), box)
    assert np.array_equal(several[0], part) and np.array_equal(several[1], transforms.crop(image[::-1], box))


def test_without_a_box_nothing_is_cropped():
    image = np.arange(12.0).reshape(3, 4)
    assert transforms.crop(image, None) is image and transforms.paste(image, None, (3, 4)) is image


def test_cropping_copies():
    image = np.ones((4, 4), np.float32)
    transforms.crop(image, Box(0, 0, 4, 4))[:] = 0
    assert image.all()


def test_a_body_is_two_percent_brighter_than_a_tenth():
    unit = np.zeros((50, 20), np.float32)
    unit.flat[:19] = 1
    assert not transforms.has_body(unit) and not transforms.has_body(np.full((50, 20), 0.1, np.float32))
    unit.flat[19] = 0.11
    assert transforms.has_body(unit) and transforms.has_body(np.stack([unit, unit]))


def test_resize_to_the_same_size_is_the_identity():
    image = np.random.default_rng(0).random((17, 23), dtype=np.float32)
    assert torch.equal(transforms.resize(image, 17, 23)[0, 0], torch.tensor(image))


def test_resize_by_whole_factors_up_and_down():
    image = np.random.default_rng(1).random((60, 80), dtype=np.float32)
    small = transforms.resize(image, 30, 20)
    reference = np.asarray(Image.fromarray(image).resize((20, 30), Image.Resampling.BILINEAR))  # antialiased as well
    assert small.shape == (1, 1, 30, 20)
    np.testing.assert_allclose(small[0, 0], reference, atol=2e-6)
    assert transforms.resize(np.full((9, 7), 0.3, np.float32), 32, 32).allclose(torch.tensor(0.3))
    flipped = transforms.resize(image[:, ::-1], 30, 20)
    torch.testing.assert_close(flipped, small.flip(3))


def test_resize_mask_keeps_what_fills_half():
    mask = np.zeros((64, 64), bool)
    mask[16:48, 8:24] = True
    assert torch.equal(transforms.resize_mask(mask, 64, 64)[0, 0], torch.tensor(mask))
    small = transforms.resize_mask(mask, 32, 32)
    assert small.dtype == torch.bool and small.sum() == mask.sum() / 4 and small[0, 0, 8:24, 4:12].all()
    assert transforms.resize_mask(np.ones((50, 30), bool), 32, 32).all()
    assert not transforms.resize_mask(np.zeros((50, 30), bool), 32, 32).any()


def test_standardise_each_image_by_itself():
    x = images() * torch.tensor([0.1, 1.0, 5.0, 100.0]).reshape(4, 1, 1, 1) + 3
    for image, found in zip(x.double().numpy(), transforms.standardise(x)):
        np.testing.assert_allclose(found, (image - image.mean()) / image.std(), atol=2e-3)
    for value in (0.0, 0.1, 1.0):
        constant = transforms.standardise(torch.full((2, 1, 256, 256), value))
        assert constant.isfinite().all() and constant.abs().max() < 1, value


def test_drawing_depends_on_the_generator_only():
    first, second, other = (transforms.draw(6, ALL, seeded(seed)) for seed in (1, 1, 2))
    for name in ("affine_b23", "contrast_b", "brightness_b", "gamma_b"):
        assert torch.equal(getattr(first, name), getattr(second, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_drawn_changes_stay_within_their_reach():
    drawn = transforms.draw(4000, ALL, seeded())
    turn = drawn.affine_b23[:, :, :2]
    determinant = torch.linalg.det(turn)
    assert 0.45 < (determinant < 0).float().mean() < 0.55
    scale = determinant.abs().sqrt()
    assert scale.min() >= 0.8 - 1e-5 and scale.max() <= 1.2 + 1e-5 and scale.std() > 0.1
    angle = torch.rad2deg(torch.atan2(-turn[:, 0, 1], turn[:, 1, 1]))
    assert angle.abs().max() <= 20.001 and angle.abs().max() > 19
    shift = drawn.affine_b23[:, :, 2].abs()
    assert shift.max() <= 0.2 and (shift.amax(0) > 0.19).all()  # the side is 2 in these coordinates
    for values, low, high in (
        (drawn.contrast_b, 0.7, 1.3),
        (drawn.brightness_b, -0.2, 0.2),
        (drawn.gamma_b, 1 / 1.4, 1.4),
    ):
        assert low - 1e-6 <= values.min() < low + 0.02 and high - 0.02 < values.max() <= high + 1e-6


def test_without_augmentation_nothing_changes():
    x, drawn = images(), transforms.draw(4, Augmentation(), seeded())
    torch.testing.assert_close(transforms.apply_geometry(x, drawn), x, atol=2e-6, rtol=0)
    torch.testing.assert_close(transforms.apply_intensity(x, drawn), x, atol=2e-7, rtol=0)
    mask = (x > 0.5).float()
    assert torch.equal(transforms.apply_geometry(mask, drawn, "nearest"), mask)


@pytest.mark.parametrize("side", [32, 48, 256])
def test_a_certain_flip_is_exact(side):
    x = images(2, side)
    drawn = transforms.draw(2, Augmentation(flip=1.0), seeded())
    torch.testing.assert_close(transforms.apply_geometry(x, drawn), x.flip(3), atol=2e-5, rtol=0)
    mask = (x > 0.5).float()
    assert torch.equal(transforms.apply_geometry(mask, drawn, "nearest"), mask.flip(3))


def test_masks_follow_their_images():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = (((y - 25) ** 2 + (x - 40) ** 2) < 12**2).float().expand(16, 1, 64, 64)
    drawn = transforms.draw(16, Augmentation(flip=0.5, rotation=30, zoom=0.2, shift=0.05), seeded(3))
    soft = transforms.apply_geometry(disc, drawn) > 0.5
    hard = transforms.apply_geometry(disc, drawn, "nearest") > 0.5
    assert (soft ^ hard).sum() <= 0.05 * hard.sum() and (hard.sum((1, 2, 3)) > 200).all()
    assert (hard != disc.bool()).any(dim=3).any(dim=2).all()


def test_geometry_of_one_image_does_not_depend_on_the_others():
    x, drawn = images(), transforms.draw(4, ALL, seeded())
    one = transforms.AugmentationParameters(
        *(getattr(drawn, name)[2:3] for name in ("affine_b23", "contrast_b", "brightness_b", "gamma_b"))
    )
    torch.testing.assert_close(transforms.apply_geometry(x, drawn)[2:3], transforms.apply_geometry(x[2:3], one))
    torch.testing.assert_close(transforms.apply_intensity(x, drawn)[2:3], transforms.apply_intensity(x[2:3], one))


def test_shift_and_turn_by_hand():
    x = images(1, 8)
    still = {"contrast_b": torch.ones(1), "brightness_b": torch.zeros(1), "gamma_b": torch.ones(1)}
    # a quarter of the side
    right = transforms.AugmentationParameters(affine_b23=torch.tensor([[[1.0, 0, -0.5], [0, 1, 0]]]), **still)
    moved = transforms.apply_geometry(x, right)
    torch.testing.assert_close(moved[..., 2:], x[..., :-2], atol=1e-5, rtol=0)
    assert moved[..., :2].abs().max() < 1e-5
    quarter = transforms.AugmentationParameters(affine_b23=torch.tensor([[[0.0, -1, 0], [1, 0, 0]]]), **still)
    turned = transforms.apply_geometry(x, quarter)
    assert min(float((turned - x.rot90(k, (2, 3))).abs().max()) for k in (1, 3)) < 1e-5


def test_intensity_by_hand_and_within_bounds():
    x = torch.tensor([0.2, 0.4, 0.6, 0.8]).reshape(1, 1, 2, 2)
    drawn = transforms.AugmentationParameters(
        torch.zeros(1, 2, 3), torch.tensor([1.5]), torch.tensor([0.1]), torch.tensor([2.0])
    )
    expected = np.clip((np.array([0.2, 0.4, 0.6, 0.8]) - 0.5) * 1.5 + 0.6, 0, 1) ** 2
    np.testing.assert_allclose(transforms.apply_intensity(x, drawn).flatten(), expected, atol=1e-6)
    found = transforms.apply_intensity(images(), transforms.draw(4, ALL, seeded()))
    assert found.min() >= 0 and found.max() <= 1 and found.isfinite().all()


@pytest.mark.filterwarnings("error")
def test_a_span_that_float32_has_no_number_for_is_mapped_too():
    unit = transforms.to_unit(np.array([[-2e38, 0.5e38, 3e38, -3e38]], np.float32), (-2e38, 3e38))
    assert unit.dtype == np.float32 and np.allclose(unit, [[0, 0.5, 1, 0]], atol=1e-6)
