"""Units, sizes, normalisation and augmentation: exact where they can be."""

import numpy as np
import pytest
import torch
from PIL import Image

from mpsams import transforms
from mpsams.transforms import Augmentation

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
    t1 = np.concatenate([np.zeros(50), np.arange(1, 102)]).reshape(1, -1)  # percentiles 1 and 99 of 1..101 are 2 and 100
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
    for values, low, high in ((drawn.contrast_b, 0.7, 1.3), (drawn.brightness_b, -0.2, 0.2), (drawn.gamma_b, 1 / 1.4, 1.4)):
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
    one = transforms.Drawn(*(getattr(drawn, name)[2:3] for name in ("affine_b23", "contrast_b", "brightness_b", "gamma_b")))
    torch.testing.assert_close(transforms.apply_geometry(x, drawn)[2:3], transforms.apply_geometry(x[2:3], one))
    torch.testing.assert_close(transforms.apply_intensity(x, drawn)[2:3], transforms.apply_intensity(x[2:3], one))


def test_shift_and_turn_by_hand():
    x = images(1, 8)
    still = dict(contrast_b=torch.ones(1), brightness_b=torch.zeros(1), gamma_b=torch.ones(1))
    right = transforms.Drawn(affine_b23=torch.tensor([[[1.0, 0, -0.5], [0, 1, 0]]]), **still)  # a quarter of the side
    moved = transforms.apply_geometry(x, right)
    torch.testing.assert_close(moved[..., 2:], x[..., :-2], atol=1e-5, rtol=0)
    assert moved[..., :2].abs().max() < 1e-5
    quarter = transforms.Drawn(affine_b23=torch.tensor([[[0.0, -1, 0], [1, 0, 0]]]), **still)
    turned = transforms.apply_geometry(x, quarter)
    assert min(float((turned - x.rot90(k, (2, 3))).abs().max()) for k in (1, 3)) < 1e-5


def test_intensity_by_hand_and_within_bounds():
    x = torch.tensor([0.2, 0.4, 0.6, 0.8]).reshape(1, 1, 2, 2)
    drawn = transforms.Drawn(torch.zeros(1, 2, 3), torch.tensor([1.5]), torch.tensor([0.1]), torch.tensor([2.0]))
    expected = np.clip((np.array([0.2, 0.4, 0.6, 0.8]) - 0.5) * 1.5 + 0.6, 0, 1) ** 2
    np.testing.assert_allclose(transforms.apply_intensity(x, drawn).flatten(), expected, atol=1e-6)
    found = transforms.apply_intensity(images(), transforms.draw(4, ALL, seeded()))
    assert found.min() >= 0 and found.max() <= 1 and found.isfinite().all()
