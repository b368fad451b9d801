"""The stronger augmentation against slow versions, and that what is off changes nothing."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from mpsams import distortions, transforms
from mpsams.distortions import EVERY, Distortions
from mpsams.transforms import Augmentation

ALL = Augmentation(elastic=0.04, bias=0.4, blur=1.5, speckle=0.2, noise=0.05, cutout=0.4)
SIDE = 32


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(batch=3, channels=2):
    return torch.rand(batch, channels, SIDE, SIDE, generator=seeded(5))


def draw(options=ALL, batch=3, seed=0):
    return distortions.draw(batch, options, SIDE, seeded(seed))


def alone(name, drawn):
    """One of the changes without the others."""
    field = next(field.name for field in dataclasses.fields(Distortions) if field.name.startswith(name))
    return Distortions(**{field: getattr(drawn, field)})


def test_what_is_off_draws_nothing_and_changes_nothing():
    source = seeded()
    drawn = distortions.draw(3, Augmentation(flip=0.5, rotation=20), SIDE, source)
    assert torch.equal(source.get_state(), seeded().get_state()) and all(
        value is None for value in vars(drawn).values()
    )
    x = images()
    assert distortions.offset(drawn, SIDE) is None and torch.equal(distortions.apply_intensity(x, drawn), x)


@pytest.mark.parametrize("name", EVERY)
def test_each_depends_on_the_generator_only_and_is_drawn_alone(name):
    options = Augmentation(**{name: getattr(ALL, name)})
    first, again, other = (draw(options, seed=seed) for seed in (1, 1, 2))
    values = {field: value for field, value in vars(first).items() if value is not None}
    assert len(values) == 1 and all(torch.equal(value, getattr(again, field)) for field, value in values.items())
    assert not any(torch.equal(value, getattr(other, field)) for field, value in values.items())


def test_what_is_drawn_stays_within_its_reach():
    drawn = draw(batch=2000)
    assert 0.07 < drawn.elastic_b2gg.abs().max() <= 0.08  # the side is 2 in these coordinates
    assert drawn.bias_b1gg.abs().max() <= math.log(1.4) and drawn.blur_b.min() >= 0 and 1.4 < drawn.blur_b.max() <= 1.5
    top, left, height, width = drawn.cutout_b4.unbind(1)
    assert (
        (drawn.cutout_b4 >= 0).all()
        and (top + height).max() <= 1
        and (left + width).max() <= 1
        and 0.39 < height.max() <= 0.4
    )
    for field, most in ((drawn.noise_b1hw, 0.05), (drawn.speckle_b1hw, 0.2)):
        deviations = field.flatten(1).std(dim=1)
        assert (
            deviations.max() < 1.1 * most
            and deviations.min() < 0.01 * most
            and field.flatten(1).mean(dim=1).abs().max() < most / 4
        )


def test_an_elastic_deformation_moves_pixels_as_the_loop_does():
    x, drawn = images(2, 1), draw(batch=2)
    bent = distortions.offset(drawn, SIDE)
    still = transforms.draw(2, Augmentation(), seeded())
    found = transforms.apply_geometry(x, still, offset_bhw2=bent)
    for b in range(2):
        for row, column in ((3, 4), (10, 20), (16, 16), (28, 5)):
            y, z = (place + float(bent[b, row, column, axis]) * SIDE / 2 for place, axis in ((row, 1), (column, 0)))
            expected = ndimage.map_coordinates(x[b, 0].double().numpy(), [[y], [z]], order=1)[0]
            assert float(found[b, 0, row, column]) == pytest.approx(expected, abs=1e-4)
    nodes = np.linspace(0, SIDE - 1, distortions.ELASTIC_NODES)
    assert torch.equal(bent[:, 0, 0], drawn.elastic_b2gg[:, :, 0, 0]) and nodes[-1] == SIDE - 1
    assert torch.equal(bent[:, -1, -1], drawn.elastic_b2gg[:, :, -1, -1])


def test_nothing_folds_at_the_reach_that_is_promised():
    options = Augmentation(elastic=0.05)
    bent = distortions.offset(distortions.draw(200, options, 64, seeded()), 64).double() * 32  # in pixels
    across, down = bent[:, :-1, 1:] - bent[:, :-1, :-1], bent[:, 1:, :-1] - bent[:, :-1, :-1]
    determinant = (1 + across[..., 0]) * (1 + down[..., 1]) - across[..., 1] * down[..., 0]
    assert determinant.min() > 0


def test_masks_follow_an_elastic_deformation():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = (((y - 30) ** 2 + (x - 34) ** 2) < 14**2).float().expand(8, 1, 64, 64)
    bent = distortions.offset(distortions.draw(8, Augmentation(elastic=0.04), 64, seeded(3)), 64)
    still = transforms.draw(8, Augmentation(), seeded())
    soft, hard = (transforms.apply_geometry(disc, still, mode, bent) > 0.5 for mode in ("bilinear", "nearest"))
    assert (soft ^ hard).sum() <= 0.05 * hard.sum() and (hard != disc.bool()).flatten(1).any(dim=1).sum() >= 6


def test_blur_is_scipys():
    x, drawn = images(), alone("blur", draw())
    found = distortions.apply_intensity(x, drawn)
    radius = math.ceil(3 * float(drawn.blur_b.max()))
    for b, deviation in enumerate(drawn.blur_b.tolist()):
        for channel in range(2):
            expected = ndimage.gaussian_filter(x[b, channel].double().numpy(), deviation, mode="nearest", radius=radius)
            np.testing.assert_allclose(found[b, channel], expected, atol=1e-5)


def test_bias_speckle_noise_and_cutout_by_hand():
    x, drawn = 0.2 + 0.3 * images(), draw()
    factor = distortions.apply_intensity(x, alone("bias", drawn)) / x
    assert 1 / 1.8 < factor.min() < 0.95 and 1.05 < factor.max() < 1.8 and torch.allclose(factor[:, 0], factor[:, 1])
    np.testing.assert_allclose(factor[:, :, 0, 0], drawn.bias_b1gg.exp()[:, :, 0, 0].expand(3, 2), rtol=1e-5)
    assert (factor.diff(dim=3).abs().max() < 0.2) and (factor.diff(dim=2).abs().max() < 0.2)  # smooth
    noisy = distortions.apply_intensity(x, alone("noise", drawn))
    torch.testing.assert_close(noisy, (x + drawn.noise_b1hw).clamp(0, 1))
    torch.testing.assert_close(
        distortions.apply_intensity(x, alone("speckle", drawn)), (x * (1 + drawn.speckle_b1hw)).clamp(0, 1)
    )
    cut, mean = distortions.apply_intensity(x, alone("cutout", drawn)), x.mean(dim=(1, 2, 3))
    for b, (top, left, height, width) in enumerate(drawn.cutout_b4.tolist()):
        for row in range(SIDE):
            for column in range(SIDE):
                inside = top <= (row + 0.5) / SIDE < top + height and left <= (column + 0.5) / SIDE < left + width
                assert float(cut[b, 1, row, column]) == pytest.approx(
                    float(mean[b] if inside else x[b, 1, row, column])
                )


def test_all_together_stay_in_range_and_do_not_depend_on_the_other_images():
    x, drawn = images(), draw()
    found = distortions.apply_intensity(x, drawn)
    assert found.min() >= 0 and found.max() <= 1 and found.isfinite().all() and not torch.equal(found, x)
    one = Distortions(**{name: value[1:2] for name, value in vars(drawn).items()})
    torch.testing.assert_close(distortions.apply_intensity(x[1:2], one), found[1:2], atol=1e-6, rtol=0)
    torch.testing.assert_close(distortions.offset(one, SIDE), distortions.offset(drawn, SIDE)[1:2])


@pytest.mark.parametrize("name, value", [("elastic", -0.1), ("cutout", 1.5), ("noise", float("nan")), ("blur", 11)])
def test_a_reach_that_makes_no_sense_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"augment.{name} is"):
        Augmentation(**{name: value})
