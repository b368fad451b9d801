"""Views against loops, scipy and hand-worked values; crops measured on ramps."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from mpsams import views
from mpsams.views import ViewOptions

STILL = ViewOptions(smallest=1, largest=1, aspect=1, flip=0, jitter=0, blur=0)  # the image itself


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(batch=4, side=24, channels=1):
    return torch.rand(batch, channels, side, side, generator=seeded(50))


def ramps(batch, side):
    """Position of each pixel from left to right and from top to bottom, in (0, 1)."""
    at = (torch.arange(side) + 0.5) / side
    return at.expand(batch, 1, side, side), at[:, None].expand(batch, 1, side, side)


def drawn(options=STILL, batch=4, seed=0, **given):
    """View parameters, with some of its numbers given as lists."""
    return replace(
        views.draw(batch, options, seeded(seed)), **{name: torch.tensor(value) for name, value in given.items()}
    )


RANGES = [
    ViewOptions(),
    ViewOptions(smallest=0.08),
    ViewOptions(smallest=0.05, largest=0.14),
    ViewOptions(smallest=0.5, largest=0.5, aspect=2),
    ViewOptions(smallest=0.9),
    ViewOptions(smallest=1.0),
    ViewOptions(smallest=0.7, largest=0.95, aspect=3),
]


@pytest.mark.parametrize(
    "options", RANGES, ids=lambda options: f"{options.smallest}-{options.largest}-{options.aspect:.2f}"
)
def test_crops_lie_inside_the_image_and_have_the_area_and_aspect_they_should(options):
    affine = views.draw(20000, options, seeded()).affine_b23.double()
    width, left, height, top = affine[:, 0, 0].abs(), affine[:, 0, 2], affine[:, 1, 1], affine[:, 1, 2]
    assert not affine[:, 0, 1].any() and not affine[:, 1, 0].any()
    assert (width + left.abs()).max() <= 1 + 1e-6 and (height + top.abs()).max() <= 1 + 1e-6
    assert (width * height).max() <= options.largest + 1e-5
    ratio = width / height
    assert ratio.max() <= options.aspect + 1e-4 and ratio.min() >= 1 / options.aspect - 1e-4
    assert (width * height).min() >= options.smallest - 1e-5, "less of the image is kept than asked for"


def test_areas_are_uniform_aspects_log_uniform_and_places_anywhere():
    affine = views.draw(40000, ViewOptions(smallest=0.1, largest=0.5), seeded(1)).affine_b23.double()
    width, left, height, top = affine[:, 0, 0].abs(), affine[:, 0, 2], affine[:, 1, 1], affine[:, 1, 2]
    for values, low, high in (
        (width * height, 0.1, 0.5),
        ((width / height).log(), -math.log(4 / 3), math.log(4 / 3)),
        (left / (1 - width), -1, 1),
        (top / (1 - height), -1, 1),
    ):
        counts = torch.histc(values, 8, low, high)
        assert counts.sum() >= 39990 and (counts / 5000 - 1).abs().max() < 0.08


def test_what_is_cropped_is_what_the_affine_says():
    """On ramps a view's values are the places it shows: they rise by the crop's share and stay inside."""
    options, side = replace(STILL, smallest=0.1, flip=0.5, aspect=4 / 3), 40
    across, down = ramps(64, 128)
    draw = drawn(options, 64, seed=3)
    for ramp, axis, share, shift in ((across, 3, draw.affine_b23[:, 0, 0], draw.affine_b23[:, 0, 2]),
                                     (down, 2, draw.affine_b23[:, 1, 1], draw.affine_b23[:, 1, 2])):  # fmt: skip
        line = views.apply(ramp, draw, side).transpose(axis, 3)[:, 0, 7]
        middle = line[:, 19:21].mean(dim=1)
        slope = (line[:, 30] - line[:, 10]) / 20 * side
        torch.testing.assert_close(slope, share, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(middle, (1 + shift) / 2, rtol=1e-3, atol=1e-4)
    assert 10 < int((draw.affine_b23[:, 0, 0] < 0).sum()) < 54 and (draw.affine_b23[:, 1, 1] > 0).all()


def test_views_are_bilinear():
    x, side = pictures(3, 9), 7
    draw = drawn(replace(STILL, smallest=0.2, flip=0.5, aspect=4 / 3), 3, seed=5)
    found, source = views.apply(x, draw, side), x.double().numpy()
    for b in range(3):
        affine = draw.affine_b23[b].double().numpy()
        for i in range(side):
            for j in range(side):
                place = np.array([(2 * j + 1) / side - 1, (2 * i + 1) / side - 1, 1])
                column, row = np.clip(((affine @ place) + 1) / 2 * 9 - 0.5, 0, 8)
                y, z = min(int(row), 7), min(int(column), 7)
                dy, dz = row - y, column - z
                four = source[b, 0, y : y + 2, z : z + 2]
                expected = np.array([1 - dy, dy]) @ four @ np.array([1 - dz, dz])
                assert float(found[b, 0, i, j]) == pytest.approx(expected, abs=1e-5)


def test_a_view_of_everything_is_the_image_and_a_flip_its_mirror():
    x = pictures()
    torch.testing.assert_close(views.apply(x, drawn(), 24), x)
    torch.testing.assert_close(views.apply(x, drawn(replace(STILL, flip=1)), 24), x.flip(3))
    part = replace(STILL, smallest=0.2)
    straight, mirrored = (views.apply(x, drawn(replace(part, flip=chance), seed=2), 16) for chance in (0, 1))
    torch.testing.assert_close(mirrored, straight.flip(3))
    assert views.apply(x, drawn(part), 16).shape == (4, 1, 16, 16)


def test_brightness_and_contrast_by_hand():
    x, light, contrast = pictures(), [0.6, 1.4, 1.0, 2.0], [1.4, 0.6, 1.3, 0.0]
    found = views.apply(x, drawn(brightness_b=light, contrast_b=contrast), 24)
    for b in range(4):
        image = np.clip(x[b, 0].double().numpy() * light[b], 0, 1)
        image = np.clip((image - image.mean()) * contrast[b] + image.mean(), 0, 1)
        np.testing.assert_allclose(found[b, 0].numpy(), image, atol=1e-5)


def test_solarising_inverts_what_is_bright():
    x = torch.tensor([0.0, 0.2, 0.49, 0.5, 0.7, 1.0] * 6).reshape(1, 1, 6, 6).expand(2, 1, 6, 6)
    found = views.apply(x, drawn(batch=2, solarise_b=[True, False]), 6)
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([0.0, 0.2, 0.49, 0.5, 0.3, 0.0]))
    torch.testing.assert_close(found[1], x[1])


def test_blur_is_scipys_image_by_image():
    x, deviations = pictures(4, 20), [0.8, 1.7, 0.0, 2.2]
    found = views.gaussian_blur(x, torch.tensor(deviations))
    for b, deviation in enumerate(deviations):
        image = x[b, 0].double().numpy()
        expected = gaussian_filter(image, deviation, mode="nearest", radius=7) if deviation else image
        np.testing.assert_allclose(found[b, 0].numpy(), expected, atol=1e-5)
    assert torch.equal(found[2], x[2]) and views.gaussian_blur(x, torch.zeros(4)) is x
    three = pictures(2, 20, channels=3)
    each = torch.cat([views.gaussian_blur(three[:, c : c + 1], torch.tensor([0.5, 1.0])) for c in range(3)], dim=1)
    torch.testing.assert_close(views.gaussian_blur(three, torch.tensor([0.5, 1.0])), each)


def test_a_view_is_blurred_in_proportion_to_its_side():
    x = pictures(2, 32)
    found = views.apply(x, drawn(batch=2, blur_b=[2 / 224, 0.05]), 32)
    torch.testing.assert_close(found, views.gaussian_blur(x, torch.tensor([2 / 7, 1.6])))


def test_chances_and_reaches_are_those_asked_for():
    draw = views.draw(20000, ViewOptions(flip=0.3, jitter=0.8, strength=0.4, blur=0.1, solarise=0.2), seeded())
    jittered = draw.brightness_b != 1
    assert torch.equal(jittered, draw.contrast_b != 1)
    for happened, chance in (
        (draw.affine_b23[:, 0, 0] < 0, 0.3),
        (jittered, 0.8),
        (draw.blur_b > 0, 0.1),
        (draw.solarise_b, 0.2),
    ):
        assert float(happened.float().mean()) == pytest.approx(chance, abs=0.015)
    for values, low, high in ((draw.brightness_b[jittered], 0.6, 1.4), (draw.contrast_b[jittered], 0.6, 1.4),
                              (draw.blur_b[draw.blur_b > 0] * 224, 0.1, 2.0)):  # fmt: skip
        assert low <= values.min() < low + 0.02 and high - 0.02 < values.max() <= high
        assert float(values.mean()) == pytest.approx((low + high) / 2, abs=0.05)
    together = torch.stack([draw.brightness_b[jittered], draw.contrast_b[jittered]])
    assert abs(float(torch.corrcoef(together)[0, 1])) < 0.03


def equal(a, b):
    return all(torch.equal(one, other) for one, other in zip(vars(a).values(), vars(b).values(), strict=True))


def test_the_generator_decides_what_is_drawn_and_nothing_decides_how_it_is_applied():
    options, x, state = ViewOptions(solarise=0.5), pictures(8), torch.get_rng_state()
    first = views.draw(8, options, seeded(1))
    applied = views.apply(x, first, 16)
    assert torch.equal(torch.get_rng_state(), state), "the world's randomness was used"
    torch.manual_seed(99)
    assert equal(first, views.draw(8, options, seeded(1))) and not equal(first, views.draw(8, options, seeded(2)))
    assert torch.equal(applied, views.apply(x, first, 16))
    source = seeded(1)
    again = [views.apply(x, views.draw(8, options, source), 16) for _ in range(2)]
    assert torch.equal(again[0], applied) and not torch.equal(again[1], applied)


@pytest.mark.parametrize("channels", [1, 3])
def test_values_stay_in_the_unit_interval_and_the_image_as_it_was(channels):
    x = pictures(16, 24, channels)
    x[0], x[1] = 0, 1
    before = x.clone()
    for seed in range(4):
        found = views.apply(
            x, views.draw(16, ViewOptions(strength=1, jitter=1, blur=1, solarise=0.5), seeded(seed)), 20
        )
        assert found.shape == (16, channels, 20, 20) and found.isfinite().all() and found.dtype == torch.float32
        assert found.min() >= 0 and found.max() <= 1 + 1e-6
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "option, value",
    [
        ("smallest", 0.0),
        ("smallest", -0.1),
        ("largest", 1.5),
        ("largest", 0.1),
        ("aspect", 0.5),
        ("flip", 1.1),
        ("jitter", -0.1),
        ("strength", 2.0),
        ("blur", math.nan),
        ("solarise", 1.5),
        ("smallest", math.nan),
    ],
)
def test_views_that_make_no_sense_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{value}"):
        replace(ViewOptions(), **{option: value})
